"""Sample of the newest events, to notice those that no destination takes.

It is read on request only, so that nothing is read while no page is open.
"""

import asyncio
import time
from typing import Final

from stream_app.errors import SetupError
from stream_app.inspector.core.health import Unmatched, unmatched_of
from stream_app.inspector.service.config_watcher import ConfigWatcher
from stream_app.inspector.service.event_log import EventLog
from stream_app.inspector.service.limiter import BusyError

SAMPLED_EVENTS_MAX: Final = 2_000
SAMPLE_SECONDS: Final = 10.0
"""Interval between two samples."""
WAIT_SECONDS: Final = 0.5
"""Time that a request waits for a new sample; then it gets the former one."""


class UnmatchedSample:
    """Number of the newest events that no destination takes.

    Args:
        log: The events topic.
        config: Destinations of the configuration.
    """

    def __init__(self, log: EventLog, config: ConfigWatcher) -> None:
        self._log = log
        self._config = config
        self._latest: Unmatched | None = None
        self._at = float("-inf")
        self._running: asyncio.Task[None] | None = None

    async def get(self) -> Unmatched | None:
        """Return the latest sample; None if there is none, since Kafka cannot be read."""
        if self._running is None and time.monotonic() - self._at > SAMPLE_SECONDS:
            self._running = asyncio.create_task(self._read())
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=WAIT_SECONDS)
        return self._latest

    async def aclose(self) -> None:
        """End a sample that is being read."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _read(self) -> None:
        try:
            pipelines = set(self._config.pipelines.values())
            keys = await self._log.newest_keys(SAMPLED_EVENTS_MAX)
            self._latest = unmatched_of(keys, pipelines)
        except (BusyError, SetupError):
            self._latest = None  # A banner of the page says why Kafka cannot be read.
        finally:
            self._at = time.monotonic()
            self._running = None
