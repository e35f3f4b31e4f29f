"""An upload that is cut on purpose, as it travels: the question of `check --conformance`."""

import asyncio

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.core.object_format import GZIP
from stream_app.embedded.process import HOST
from stream_app.errors import TransientError
from stream_app.s3.body import SHA256, checksum
from stream_app.s3.clients import Clients
from stream_app.s3.conformance import TORN_BODY_BYTES, TORN_BYTES, TornBody
from tests.contract.recorder import CONTINUE

SECONDS_MAX = 30


@pytest.mark.parametrize("sent", TORN_BYTES)
def test_body_travels_up_to_its_cut_and_the_connection_ends(
    sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    content = GZIP.without_lines(TORN_BODY_BYTES, "torn")
    arrived: list[tuple[bytes, bytes]] = []
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(collect(reader, writer)))

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(CONTINUE)
            arrived.append((head.lower(), await reader.read(-1)))
        finally:
            writer.close()

    async def put(body: TornBody) -> None:
        server = await asyncio.start_server(connected, HOST, 0)
        url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        async with server, asyncio.timeout(SECONDS_MAX):
            async with Clients(S3(endpoint_url=url)) as clients:
                with pytest.raises(TransientError):
                    await clients.ask(
                        Destination(id="a", bucket="my-bucket"),
                        "put_object",
                        Key="k",
                        Body=body,
                        ChecksumSHA256=await checksum(SHA256, content),
                    )
            await asyncio.gather(*tasks)

    body = TornBody(content, sent)
    asyncio.run(put(body))
    # aiohttp sends a failed PUT once more; then the body is cut at its beginning.
    (head, came), *again = arrived
    assert {it for _, it in again} <= {b""}
    assert body.is_torn
    assert f"content-length: {len(content)}\r\n".encode() in head
    assert came == content[:sent]
