"""Limit of concurrent requests for expensive work; the others wait for a slot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from stream_app.errors import StreamAppError

WAIT_SECONDS_MAX: Final = 5.0
"""Time that a request waits for a slot."""


class BusyError(StreamAppError):
    """Too many requests do the same already; a later try can succeed."""


class Limiter:
    """Semaphore that waits for a limited time.

    Args:
        concurrent_max: Slots.
        activity: The work in words, for the error text: "read Kafka".
        wait_seconds_max: Time to wait for a slot.
    """

    def __init__(
        self, concurrent_max: int, activity: str, *, wait_seconds_max: float = WAIT_SECONDS_MAX
    ) -> None:
        self._concurrent_max = concurrent_max
        self._activity = activity
        self._wait_seconds_max = wait_seconds_max
        self._semaphore = asyncio.Semaphore(concurrent_max)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and occupy it.

        Raises:
            BusyError: No slot became free in time.
        """
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                await self._semaphore.acquire()
        except TimeoutError as error:
            raise BusyError(
                f"{self._concurrent_max} requests {self._activity} already, for more than "
                f"{self._wait_seconds_max:.0f} s; try again"
            ) from error
        try:
            yield
        finally:
            self._semaphore.release()
