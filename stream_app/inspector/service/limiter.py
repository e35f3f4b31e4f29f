"""Taking turns: some requests at a time do what costs much, the others wait a little."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from stream_app.errors import StreamAppError

WAIT_SECONDS_MAX: Final = 5.0
"""How long a request waits for its turn."""


class BusyError(StreamAppError):
    """Too many do the same already; trying again helps."""


class Turns:
    """Lets some at a time do something.

    Args:
        at_once_max: So many.
        what: They do, in words: "read Kafka".
        wait_seconds_max: How long the others wait.
    """

    def __init__(
        self, at_once_max: int, what: str, *, wait_seconds_max: float = WAIT_SECONDS_MAX
    ) -> None:
        self._at_once_max = at_once_max
        self._what = what
        self._wait_seconds_max = wait_seconds_max
        self._free = asyncio.Semaphore(at_once_max)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it.

        Raises:
            BusyError: None is free in time.
        """
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                await self._free.acquire()
        except TimeoutError as error:
            raise BusyError(
                f"{self._at_once_max} requests {self._what} already, for more than "
                f"{self._wait_seconds_max:.0f} s; try again"
            ) from error
        try:
            yield
        finally:
            self._free.release()
