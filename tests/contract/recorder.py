"""HTTP server on 127.0.0.1 that gives prepared responses and keeps the requests.

An answer is the bytes to send, a way to misbehave, or a `Relay`: then a real S3 server answers, so
that what stands there afterwards can be looked at. `Host` is passed on unchanged, and signatures
stay valid.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from stream_app.embedded.process import HOST

SECONDS_MAX = 120.0
HEAD_BYTES_MAX = 64 * 1024
BODILESS_STATUSES = (204, 304)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass
class Request:
    """One request as it came over the wire."""

    first_line: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""
    head: bytes = b""
    """First line and headers as they were sent, with the empty line."""

    @property
    def method(self) -> str:
        return self.first_line.split(" ")[0]

    @property
    def target(self) -> str:
        """Path and query, as they were sent."""
        return self.first_line.split(" ")[1]


@dataclass(frozen=True)
class Relay:
    """The answer of the real server at this port."""

    port: int
    is_lost: bool = False
    """The server does what it was asked, and the connection dies instead of its answer."""


@dataclass(frozen=True)
class Cut:
    """The connection is reset when so many bytes of the request's body have come, and have been
    seen, and then an end, by a real server at `port`."""

    body_bytes: int
    port: int


Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]] | Relay | Cut
"""Bytes of a response; or a way to misbehave, after which the connection is closed."""
Rule = Callable[[Request], Answer]
"""Response to a request, chosen by all of it but the body."""


@dataclass
class Recorder:
    """A server that answers by a rule; or the n-th request by the n-th answer, the last one from
    then on."""

    answers: Sequence[Answer] | Rule
    requests: list[Request] = field(default_factory=list)
    endpoint_url: str = ""

    @property
    def port(self) -> int:
        return int(self.endpoint_url.rpartition(":")[2])

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a client may go away at any time
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection goes on."""
        request = await _read_head(reader)
        self.requests.append(request)
        answer = self._answer(request)
        if request.headers.get("expect") == "100-continue":
            writer.write(CONTINUE)
        length = int(request.headers.get("content-length", "0"))
        if isinstance(answer, Cut):
            assert answer.body_bytes < length, "that is no cut"
            length = answer.body_bytes
        request.body = await reader.readexactly(length)
        if isinstance(answer, Cut):
            await _send_and_end(request, answer.port)
            _reset_at_close(writer)
            return False
        if isinstance(answer, Relay):
            _, relayed = await _forward(request, answer.port)
            if answer.is_lost:
                return False
            writer.write(relayed)
        elif isinstance(answer, bytes):
            head, end, body = answer.partition(b"\r\n\r\n")
            writer.write(head + end + (b"" if request.method == "HEAD" else body))
        else:
            await answer(writer)
            return False
        await writer.drain()
        return True

    def _answer(self, request: Request) -> Answer:
        if callable(self.answers):
            return self.answers(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]


async def _read_head(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first_line, *lines = head.decode().split("\r\n")[:-2]
    headers = {name.lower(): text for name, text in (it.split(": ", 1) for it in lines)}
    return Request(first_line, headers, head=head)


async def _send_and_end(request: Request, port: int) -> None:
    """Send what there is of a request, end it in good order, and wait until the server is done."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request.head + request.body)
        writer.write_eof()
        await reader.read()
    finally:
        writer.transport.abort()


async def _forward(request: Request, port: int) -> tuple[int, bytes]:
    """Return the status and the whole answer of the server at `port`."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=HEAD_BYTES_MAX)
    try:
        writer.write(request.head + request.body)
        status = 100
        while status < 200:  # 100 Continue goes before the answer
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
        if request.method == "HEAD" or status in BODILESS_STATUSES:
            return status, head
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
        headers = {name: text.strip() for name, _, text in lines}
        if headers.get(b"transfer-encoding") == b"chunked":
            return status, head + await read_chunks(reader)
        return status, head + await reader.readexactly(int(headers.get(b"content-length", b"0")))
    finally:
        writer.transport.abort()


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = b""
    length = 1
    while length:
        size = await reader.readuntil(b"\r\n")
        length = int(size, 16)
        chunks += size + await reader.readexactly(length + 2)
    return chunks


@contextlib.asynccontextmanager
async def recorder(
    *answers: Answer,
    rule: Rule | None = None,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
    seconds_max: float = SECONDS_MAX,
) -> AsyncIterator[Recorder]:
    """Run a server for at most `seconds_max`.

    Args:
        answers: What it answers.
        rule: What it answers instead of `answers`.
        tls: With a certificate; None: plain HTTP.
        port: Where; 0: any that is free.
        seconds_max: See above.
    """
    recording = Recorder(rule or answers)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(recording.handle(reader, writer))
        connections.add(task)

    server = await asyncio.start_server(connected, HOST, port, limit=HEAD_BYTES_MAX, ssl=tls)
    async with server, asyncio.timeout(seconds_max):
        scheme = "http" if tls is None else "https"
        recording.endpoint_url = f"{scheme}://{HOST}:{server.sockets[0].getsockname()[1]}"
        try:
            yield recording
        finally:
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)


def answer(
    status: str, body: str = "", content_type: str = "application/xml", **headers: str
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def refusal(status: str, code: str, message: str = "in words", **headers: str) -> bytes:
    return answer(
        status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", **headers
    )


LOCATED = answer("200 OK", "<LocationConstraint>eu-central-1</LocationConstraint>")
"""Of GetBucketLocation."""
DONE = answer("200 OK", ETag='"the-etag"')
"""Of PutObject and UploadPart."""
CREATED = answer(
    "200 OK",
    "<InitiateMultipartUploadResult><UploadId>the-id</UploadId></InitiateMultipartUploadResult>",
)
"""Of CreateMultipartUpload."""
COMPLETED = answer(
    "200 OK",
    "<CompleteMultipartUploadResult><ETag>&quot;whole-1&quot;</ETag>"
    "</CompleteMultipartUploadResult>",
)
"""Of CompleteMultipartUpload."""


async def close(writer: asyncio.StreamWriter) -> None:
    """Close without a word, as a server does with a socket that was idle for long."""
    del writer


async def reset(writer: asyncio.StreamWriter) -> None:
    """Begin an answer and reset the connection within it."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<Err")
    await writer.drain()
    _reset_at_close(writer)


async def hang(writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    del writer
    await asyncio.Event().wait()


def _reset_at_close(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
