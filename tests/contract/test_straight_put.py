"""Straight puts beside those of aiobotocore: the same on the wire, and the same errors.

    one storage:   put A (aiobotocore, teaches)   put B (straight)  ─┐
    another one:   put B (aiobotocore)  ─────────────────────────────┴─> equal, header by header

The clock stands still, and calls have one name, so that even signatures are equal.
"""

import asyncio
import base64
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import botocore.auth
import pytest

from stream_app.config.settings import S3, Destination
from stream_app.embedded.process import HOST, free_ports
from stream_app.errors import DeliveryError, TransientError
from stream_app.s3 import straight_put
from stream_app.s3.clients import Clients
from stream_app.s3.storage import Storage
from stream_app.s3.straight_put import STRAIGHT_BYTES_MAX, Template
from tests.certificates import identities
from tests.contract.recorder import (
    DONE,
    Answer,
    Request,
    Rule,
    answer,
    close,
    hang,
    recorder,
    refusal,
    reset,
)
from tests.wire.test_s3_addressing import DIRECTORY, session
from tests.wire.test_s3_options import ELSEWHERE, IN_REQUESTS, ROLE, assumed

NOW = datetime(2026, 11, 24, 16, 31, 2)  # noqa: DTZ001 - as botocore has it
TO = Destination("d", "my-bucket")
FIRST = "first/2026/11/24/16/2026-11-24-16-31-02-0123.gz"
SECOND = "other/2026/11/24/17/2026-11-24-17-30-02-4567.gz"
CONTENT = random.Random(5).randbytes(900)
ENDPOINT = "http://oss.example.com"

Put = tuple[str, bytes]
PUT_FIRST: Put = (FIRST, b"the bytes of the first object")
PUT_SECOND: Put = (SECOND, CONTENT)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUPMADEUPMADE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    one = UUID(int=7)
    monkeypatch.setattr("uuid.uuid4", lambda: one)
    monkeypatch.setattr(straight_put, "uuid4", lambda: one)
    for module in (botocore.auth, straight_put):
        monkeypatch.setattr(module, "get_current_datetime", lambda: NOW)


@pytest.fixture
def straight(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Contents that went the straight way."""
    contents: list[bytes] = []
    send = Template.send

    async def noted(self: Template, values: Any, body: bytes) -> aiohttp.ClientResponse:
        contents.append(body)
        return await send(self, values, body)

    monkeypatch.setattr(Template, "send", noted)
    return contents


async def put(storage: Storage, destination: Destination, *puts: Put) -> None:
    for key, content in puts:
        size = len(content) * 3
        await storage.put(destination, key, content, lines=len(key), size=size)


async def both(
    s3: S3, destination: Destination, requests: Sequence[Request], second: Put = PUT_SECOND
) -> tuple[Request, Request]:
    """Return the same put as it goes straight, and as aiobotocore sends it."""
    for puts in ((PUT_FIRST, second), (second,)):
        async with Storage(s3) as storage:
            await put(storage, destination, *puts)
    at = [it for it in requests if it.method == "PUT"]
    return at[-2], at[-1]


def assert_same(pair: tuple[Request, Request]) -> None:
    ours, its = pair
    assert ours.first_line == its.first_line
    assert ours.headers == its.headers
    assert ours.body == its.body


def compare(
    destination: Destination,
    *answers: Answer,
    rule: Rule | None = None,
    second: Put = PUT_SECOND,
    of: Callable[[str], S3] = lambda url: S3(endpoint_url=url),
) -> list[Request]:
    """Compare both ways at a recorder; return all of its requests."""

    async def scenario() -> list[Request]:
        async with recorder(*(answers or (DONE,)), rule=rule) as server:
            assert_same(await both(of(server.endpoint_url), destination, server.requests, second))
            return server.requests

    return asyncio.run(scenario())


# --- what travels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [None, *IN_REQUESTS])
def test_every_option_of_a_destination_travels_as_by_aiobotocore(
    option: str | None, straight: list[bytes]
) -> None:
    changed = {} if option is None else {option: IN_REQUESTS[option]}
    compare(replace(TO, **changed))
    assert straight == [CONTENT]


def test_all_options_together(straight: list[bytes]) -> None:
    compare(replace(TO, **IN_REQUESTS))
    assert straight == [CONTENT]


@pytest.mark.parametrize("algorithm", ["sha256", "crc32", "md5"])
def test_without_condition(algorithm: Any, straight: list[bytes]) -> None:
    rule = {"HEAD": answer("404 Not Found"), "PUT": DONE}
    to = replace(TO, conditional_writes=False, checksum=algorithm)
    requests = compare(to, rule=lambda it: rule[it.method])
    assert "if-none-match" not in requests[-1].headers
    assert straight == [CONTENT]


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        "a b/ä ö/日本",
        "100%/a+b&c=d?e#f;g@h:i,j'k\"l*m(n)o!",
        "~tilde/%2F/%41",
        "/two//slashes/./and/../dots",
        "\x7f\x01",
    ],
)
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_keys_with_special_characters(
    key: str, style: Any, straight: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with recorder(DONE) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.endpoint_url)
            to = replace(TO, addressing_style=style)
            assert_same(await both(S3(endpoint_url=ENDPOINT), to, proxy.requests, (key, CONTENT)))

    asyncio.run(scenario())
    assert straight == [CONTENT]


@pytest.mark.parametrize("path", ["", "/", "/s3", "/s3/"])
def test_endpoint_with_a_path(path: str, straight: list[bytes]) -> None:
    requests = compare(TO, of=lambda url: S3(endpoint_url=url + path))
    assert requests[-1].target == f"{path.rstrip('/')}/my-bucket/{SECOND}"
    assert straight == [CONTENT]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("user", ["", "user:pass%20word@"])
def test_proxy(
    style: Any, user: str, straight: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> list[Request]:
        async with recorder(DONE) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.endpoint_url.replace("://", f"://{user}"))
            to = replace(TO, addressing_style=style)
            assert_same(await both(S3(endpoint_url=ENDPOINT), to, proxy.requests))
            return proxy.requests

    *_, last = asyncio.run(scenario())
    assert last.target.startswith("http://")
    assert ("proxy-authorization" in last.headers) == bool(user)
    assert straight == [CONTENT]


def test_temporary_credentials(straight: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the/token+of=a session")
    requests = compare(TO)
    assert requests[-1].headers["x-amz-security-token"] == "the/token+of=a session"
    assert straight == [CONTENT]


def test_assumed_role_whose_credentials_are_renewed(
    straight: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> tuple[list[Request], list[Request]]:
        async with recorder(assumed(1, 700), assumed(2, 3600)) as sts, recorder(DONE) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint_url)
            to = replace(TO, role_arn=ROLE)
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                await put(storage, to, PUT_FIRST)
                (role,) = storage.clients._roles.values()
                role._requested_at = None
                assert await role.refused(role.version)
                await put(storage, to, PUT_SECOND)
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                await put(storage, to, PUT_SECOND)
            return sts.requests, server.requests

    to_sts, (first, ours, its) = asyncio.run(scenario())
    assert len(to_sts) == 3
    assert "Credential=ASIAMADEUP1/" in first.headers["authorization"]
    assert "Credential=ASIAMADEUP2/" in ours.headers["authorization"]
    assert_same((ours, its))
    assert straight == [CONTENT]


def test_token_that_comes_or_goes_is_a_request_of_aiobotocore(
    straight: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    keys = "[default]\naws_access_key_id = AKIA{}\naws_secret_access_key = s\n"
    token = "aws_session_token = t\n"  # noqa: S105 - of nobody

    async def scenario() -> list[Request]:
        file.write_text(keys.format(1), "utf-8")
        async with recorder(DONE) as server:
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                await put(storage, TO, ("1", b"1"), ("2", b"2"))
                file.write_text(keys.format(2) + token, "utf-8")
                await storage.clients.reread_credentials()
                await put(storage, TO, ("3", b"3"), ("4", b"4"))
                file.write_text(keys.format(3), "utf-8")
                await storage.clients.reread_credentials()
                await put(storage, TO, ("5", b"5"), ("6", b"6"))
            return server.requests

    requests = asyncio.run(scenario())
    assert [it.headers.get("x-amz-security-token") for it in requests] == [
        *(None, None, "t", "t", None, None)
    ]
    assert straight == [b"2", b"4", b"6"]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_tls(
    algorithm: Any, straight: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (identity,) = identities(tmp_path, ["server"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(identity.certificate))

    async def scenario() -> list[Request]:
        async with recorder(DONE, tls=context) as server:
            s3 = S3(endpoint_url=server.endpoint_url)
            assert_same(await both(s3, replace(TO, checksum=algorithm), server.requests))
            return server.requests

    *_, last = asyncio.run(scenario())
    is_unsigned = last.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert is_unsigned == (algorithm == "md5")
    assert straight == [CONTENT]


def test_tls_through_a_proxy(
    straight: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (identity,) = identities(tmp_path, ["server"])
    monkeypatch.setenv("AWS_CA_BUNDLE", str(identity.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    connected: list[bytes] = []

    async def scenario() -> None:
        async with recorder(DONE, tls=context) as server:

            async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connected.append(await reader.readuntil(b"\r\n\r\n"))
                there, to = await asyncio.open_connection(HOST, server.port)
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await asyncio.gather(passed_on(reader, to), passed_on(there, writer))

            proxy = await asyncio.start_server(tunnel, HOST, 0)
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@{HOST}:{port}")
            async with proxy:
                s3 = S3(endpoint_url=server.endpoint_url)
                assert_same(await both(s3, TO, server.requests))
            assert connected
            assert {it.split(b" ")[0] for it in connected} == {b"CONNECT"}
            assert all(b"Proxy-Authorization" in it for it in connected)
            assert "proxy-authorization" not in server.requests[-1].headers

    asyncio.run(scenario())
    assert straight == [CONTENT]


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


def test_request_that_had_no_response_teaches_nothing(straight: list[bytes]) -> None:
    async def scenario() -> None:
        async with (
            recorder(close, close, DONE) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            with pytest.raises(TransientError):
                await put(storage, TO, PUT_FIRST)
            await put(storage, TO, PUT_FIRST, PUT_SECOND)

    asyncio.run(scenario())
    assert straight == [CONTENT]


def test_destinations_with_the_same_options_share_a_template(straight: list[bytes]) -> None:
    async def scenario() -> None:
        async with (
            recorder(DONE) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            for number in range(5):
                other = replace(TO, id=f"d{number}", prefix=f"{number}/")
                await put(storage, other, (f"{number}", b"%d" % number))

    asyncio.run(scenario())
    assert straight == [b"1", b"2", b"3", b"4"]


def test_time_and_call_are_those_of_each_request(
    straight: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(100))
    monkeypatch.setattr(
        straight_put, "get_current_datetime", lambda: NOW + timedelta(seconds=next(times))
    )
    calls = iter(range(100))
    monkeypatch.setattr(straight_put, "uuid4", lambda: UUID(int=next(calls)))

    async def scenario() -> list[Request]:
        async with recorder(DONE) as server:
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                await put(storage, TO, *[(f"{it}", b"%d" % it) for it in range(3)])
            return server.requests

    _, second, third = asyncio.run(scenario())
    assert [it.headers["x-amz-date"] for it in (second, third)] == [
        "20261124T163102Z",
        "20261124T163103Z",
    ]
    assert second.headers["amz-sdk-invocation-id"] != third.headers["amz-sdk-invocation-id"]
    assert straight == [b"1", b"2"]


# --- what stays with aiobotocore ------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (STRAIGHT_BYTES_MAX, 1), (65537, 0)])
def test_empty_and_large_contents(size: int, count: int, straight: list[bytes]) -> None:
    compare(TO, second=(SECOND, b"x" * size))
    assert len(straight) == count


def test_directory_bucket_with_its_session(
    straight: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rule(request: Request) -> Answer:
        return session() if request.target.endswith("?session") else DONE

    async def scenario() -> None:
        async with recorder(rule=rule) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.endpoint_url)
            async with Storage(S3(endpoint_url=ENDPOINT)) as storage:
                await put(storage, replace(TO, bucket=DIRECTORY), PUT_FIRST, PUT_SECOND)

    asyncio.run(scenario())
    assert straight == []


def test_server_that_sets_cookies(straight: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with_cookie = answer("200 OK", ETag='"e"', Set_Cookie="server=a; Path=/")

    async def scenario() -> list[Request]:
        async with recorder(with_cookie) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.endpoint_url)
            async with Storage(S3(endpoint_url=ENDPOINT)) as storage:
                await put(storage, TO, PUT_FIRST, PUT_SECOND)
            return proxy.requests

    assert asyncio.run(scenario())[-1].headers["cookie"] == "server=a"
    assert straight == []


def test_client_that_was_opened_again(straight: list[bytes]) -> None:
    async def scenario() -> None:
        async with (
            recorder(DONE) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            await put(storage, TO, PUT_FIRST)
            await storage.clients._close(storage.clients.access(TO))
            await put(storage, TO, PUT_SECOND, PUT_FIRST)

    asyncio.run(scenario())
    assert straight == [PUT_FIRST[1]]


def test_templates_are_bounded(straight: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(straight_put, "TEMPLATES_MAX", 2)

    async def scenario() -> None:
        async with (
            recorder(DONE) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            for name in ("a", "b", "b", "c", "c", "b", "a", "a"):
                await put(storage, replace(TO, bucket=f"bucket-{name}"), (name, name.encode()))
            assert len(storage.clients._puts._templates) == 2

    asyncio.run(scenario())
    assert straight == [b"b", b"c", b"b", b"a"]


# --- responses ------------------------------------------------------------------------------------


def outcome(second: Sequence[Answer], *, seconds_max: float = 30.0, is_straight: bool) -> Any:
    """Return how a put ends, its requests, and the skew of the clock that its response shows."""

    async def scenario() -> Any:
        async with recorder(DONE, *second) as server:
            storage = Storage(
                S3(endpoint_url=server.endpoint_url), response_seconds_max=seconds_max
            )
            async with storage:
                # A different bucket teaches nothing.
                await put(storage, TO if is_straight else replace(TO, bucket="else"), PUT_FIRST)
                try:
                    size = len(CONTENT) * 3
                    stored = await storage.put(TO, SECOND, CONTENT, lines=len(SECOND), size=size)
                except DeliveryError as error:
                    cause = error.__cause__
                    text = error.message.replace(server.endpoint_url, "")
                    return (
                        type(error),
                        error.code,
                        text,
                        type(cause).__name__,
                        _heads(server.requests),
                    )
                skew = storage.clients.skew._responses
                dates = [date for date, _ in skew.values()]
                return replace(stored, stored_at=0), dates, _heads(server.requests)

    return asyncio.run(scenario())


def _heads(requests: Sequence[Request]) -> list[tuple[str, dict[str, str], bytes]]:
    """Return what has travelled since the first put, without the server's port."""
    return [
        (it.first_line, {k: v for k, v in it.headers.items() if k not in VOLATILE}, it.body)
        for it in requests[1:]
    ]


VOLATILE = {"host", "authorization"}
"""Headers that depend on the server's port."""
EXISTING = answer("200 OK", "x" * len(CONTENT), x_amz_meta_lines=str(len(SECOND)))
RESPONSES: dict[str, tuple[Answer, ...]] = {
    "stored": (DONE,),
    "stored, with a version and the time": (
        answer("200 OK", ETag='"e"', x_amz_version_id="v1", Date="Tue, 24 Nov 2026 16:31:02 GMT"),
    ),
    "stored, and the connection ends": (
        answer("200 OK", ETag='"e"', Connection="close"),
        DONE,
    ),
    "created": (answer("201 Created", ETag='"e"'),),
    "no content": (b'HTTP/1.1 204 No Content\r\nETag: "e"\r\n\r\n',),
    "no ETag": (answer("200 OK"),),
    "a page": (answer("200 OK", "<html>Welcome</html>", "text/html"),),
    "a chunked response": (
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ),
    "an early response": (b"HTTP/1.1 100 Continue\r\n\r\n" + DONE,),
    "error within a 200": (refusal("200 OK", "InternalError"),),
    "exists": (refusal("412 Precondition Failed", "PreconditionFailed"), answer("403 Forbidden")),
    "slow down": (refusal("503 Service Unavailable", "SlowDown"),),
    "internal error": (refusal("500 Internal Server Error", "InternalError"),),
    "a page of a proxy": (answer("502 Bad Gateway", "<html>no</html>", "text/html"),),
    "half of an error": (answer("500 Internal Server Error", "<Error><Code>Inter"),),
    "denied": (refusal("403 Forbidden", "AccessDenied"),),
    "skewed clock": (refusal("403 Forbidden", "RequestTimeTooSkewed"),),
    "wrong signature": (refusal("403 Forbidden", "SignatureDoesNotMatch"),),
    "expired token": (refusal("400 Bad Request", "ExpiredToken"),),
    "bad digest": (refusal("400 Bad Request", "BadDigest"),),
    "conflict": (refusal("409 Conflict", "ConditionalRequestConflict"),),
    "redirect without a region": (
        answer("302 Found", Location="http://127.0.0.1:1/"),
        answer("403 Forbidden"),
    ),
    "no HTTP": (b"this is no HTTP\r\n\r\n",),
    "a connection that is closed once": (close, DONE),
    "a connection that is closed": (close,),
    "a connection that is reset": (reset,),
    **{f"elsewhere {number}": (it, DONE) for number, it in enumerate(ELSEWHERE)},
}


@pytest.mark.parametrize("name", RESPONSES)
def test_response_is_read_as_by_aiobotocore(name: str, straight: list[bytes]) -> None:
    ours = outcome(RESPONSES[name], is_straight=True)
    assert straight[:1] == [CONTENT]
    straight.clear()
    its = outcome(RESPONSES[name], is_straight=False)
    assert straight == []
    assert ours == its


def test_no_response_is_a_timeout(straight: list[bytes]) -> None:
    ours, its = (outcome([hang], seconds_max=2.0, is_straight=it) for it in (True, False))
    assert ours == its
    assert ours[:2] == (TransientError, "TimeoutError")
    assert straight == [CONTENT]


def test_server_that_has_gone(straight: list[bytes]) -> None:
    async def scenario() -> list[tuple[str, type[BaseException]]]:
        found = []
        for puts in ((PUT_FIRST, PUT_SECOND), (PUT_SECOND,)):
            port = free_ports(1)[0]
            async with Storage(S3(endpoint_url=f"http://{HOST}:{port}")) as storage:
                if len(puts) == 2:
                    async with recorder(DONE, port=port):
                        await put(storage, TO, puts[0])
                with pytest.raises(TransientError) as failed:
                    await put(storage, TO, puts[-1])
                found.append((failed.value.code, type(failed.value.__cause__)))
        return found

    ours, its = asyncio.run(scenario())
    assert ours == its
    assert ours[0] == "EndpointConnectionError"
    assert straight == [CONTENT]


def test_connection_is_reused_and_never_shared(straight: list[bytes]) -> None:
    connections: set[Any] = set()

    async def scenario() -> None:
        async with recorder(DONE) as server:
            exchange = server._exchange

            async def counted(reader: Any, writer: Any) -> bool:
                connections.add(writer)
                return await exchange(reader, writer)

            server._exchange = counted  # type: ignore[method-assign] # counts, and passes on
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                await put(storage, TO, PUT_FIRST)
                for _ in range(3):
                    await asyncio.gather(
                        *(put(storage, TO, (f"{it}", b"%d" % it)) for it in range(100))
                    )
            assert sorted(it.body for it in server.requests[1:]) == sorted(
                b"%d" % it for it in range(100) for _ in range(3)
            )

    asyncio.run(scenario())
    assert len(straight) == 300
    assert len(connections) <= 64


def test_put_that_is_cancelled_leaves_no_connection(straight: list[bytes]) -> None:
    begun = asyncio.Event()

    async def begin(writer: Any) -> None:
        begun.set()
        await hang(writer)

    async def scenario() -> None:
        async with (
            recorder(DONE, begin, DONE) as server,
            Clients(S3(endpoint_url=server.endpoint_url)) as clients,
        ):
            arguments = {
                "Key": "k",
                "Body": b"b",
                "Metadata": {"lines": "1"},
                "ContentMD5": base64.b64encode(bytes(16)).decode(),
            }
            await clients.ask(TO, "put_object", **arguments)
            task = asyncio.create_task(clients.ask(TO, "put_object", **arguments))
            await begun.wait()
            (template,) = clients._puts._templates.values()
            connector: Any = template.session.connector
            assert len(connector._acquired) == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not connector._acquired
            response = await clients.ask(TO, "put_object", **arguments)
            assert response["ETag"] == '"the-etag"'

    asyncio.run(scenario())
    assert len(straight) == 2
