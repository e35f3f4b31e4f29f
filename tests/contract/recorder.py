"""A server on 127.0.0.1 that answers as it is told to, and keeps what it was asked."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from stream_app.serverprocess import HOST

SECONDS_MAX = 20.0


@dataclass
class Request:
    """One request as it came over the wire."""

    first_line: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What is written back; or a way to misbehave, after which the connection is closed."""


@dataclass
class Recorder:
    """A server that answers the n-th request by the n-th answer, the last one from then on."""

    answers: Sequence[Answer]
    requests: list[Request] = field(default_factory=list)
    endpoint_url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader, writer)) is not None:
                self.requests.append(request)
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                if callable(answer):
                    await answer(writer)
                    break
                head, end, body = answer.partition(b"\r\n\r\n")
                writer.write(head + end + (b"" if request.first_line.startswith("HEAD ") else body))
                await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first_line, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): text for name, text in (it.split(": ", 1) for it in lines)}
        if headers.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Request(first_line, headers, body)


@contextlib.asynccontextmanager
async def recorder(*answers: Answer) -> AsyncIterator[Recorder]:
    recording = Recorder(answers)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(recording.handle(reader, writer))
        connections.add(task)

    server = await asyncio.start_server(connected, HOST, 0)
    async with server, asyncio.timeout(SECONDS_MAX):
        recording.endpoint_url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
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


def refusal(status: str, code: str, **headers: str) -> bytes:
    return answer(
        status, f"<Error><Code>{code}</Code><Message>in words</Message></Error>", **headers
    )


async def close(writer: asyncio.StreamWriter) -> None:
    """Close without a word, as a server does with a socket that was idle for long."""
    del writer


async def reset(writer: asyncio.StreamWriter) -> None:
    """Begin an answer and reset the connection within it."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<Err")
    await writer.drain()
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def hang(writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    del writer
    await asyncio.Event().wait()
