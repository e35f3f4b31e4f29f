"""TCP proxy on a port of its own: the connections, and nothing of what goes over them."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from stream_app.embedded.process import HOST, free_ports

HEAD_BYTES_MAX: Final = 64 * 1024


@dataclass(kw_only=True)
class Proxy(ABC):
    """One proxy before a server; an async context manager.

    A subclass serves one connection.
    """

    upstream_port: int
    port: int = 0
    """Where it listens; 0: a free port that no outgoing connection takes while it is closed."""
    _connections: set["asyncio.Task[None]"] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self.port = self.port or free_ports(1)[0]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def connected(self) -> bool:
        """Whether any connection is open; none is when its workers have ended."""
        return bool(self._connections)

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(
            self._connected, HOST, self.port, limit=HEAD_BYTES_MAX, backlog=256
        )

    async def close(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        cut = list(self._connections)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @abstractmethod
    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve a client for one turn; return whether its connection goes on."""

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The worker may be killed in the middle of anything, and the server be away.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                while await self._exchange(reader, writer):
                    pass
            finally:
                writer.transport.abort()
