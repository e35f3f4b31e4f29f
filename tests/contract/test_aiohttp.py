"""How aiohttp 3.14 ends a request whose connection has gone: what `watch.complain` relies on."""

import asyncio
import contextlib
import gc
import socket
import struct
import threading
import time
from typing import Any

import aiohttp

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers each PUT of ten bytes, in a thread of its own, until it resets all connections."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(65536).endswith(b"\r\n\r\n"):
                connection.sendall(CONTINUE)
                connection.recv(10, socket.MSG_WAITALL)
                connection.sendall(OK)

    def reset(self) -> None:
        """End all connections as a machine that has restarted does."""
        for connection in self._connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
            connection.close()


def test_request_is_repeated_when_its_connection_has_gone_and_its_writer_leaves_an_error() -> None:
    unasked: list[dict[str, Any]] = []

    async def put(session: aiohttp.ClientSession, port: int) -> int:
        url = f"http://127.0.0.1:{port}/"
        async with session.put(url, data=b"ten bytes.", expect100=True) as response:
            return response.status

    async def scenario() -> None:
        server = Server()
        asyncio.get_running_loop().set_exception_handler(lambda _, it: unasked.append(it))
        async with aiohttp.ClientSession() as session:
            assert await put(session, server.port) == 200
            again = asyncio.create_task(put(session, server.port))
            server.reset()
            time.sleep(0.1)  # noqa: ASYNC251 - a busy loop, which has not seen the end yet
            assert await again == 200, "it is repeated on another connection"
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(scenario())
    (it,) = unasked
    assert isinstance(it["exception"], aiohttp.ClientConnectionResetError)
    assert it["future"].get_coro().__qualname__ == "ClientRequest.write_bytes"
