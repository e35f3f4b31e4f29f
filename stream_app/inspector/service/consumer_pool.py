"""Pool of readers of the events topic, which read runs of offsets without a group.

    async with readers.borrow() as reader:
        ends = await reader.ends()
        await reader.read_runs({0: Run(100, 200)}, take)

Only committed records are read, as a worker reads them. A reader that has failed is not used again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.inspector.core.cursors import Run
from stream_app.inspector.service.limiter import Limiter
from stream_app.kafka.reader import EventsReader

READERS_MAX: Final = 4
"""Requests that read at the same time; further ones wait."""
POOL_FETCH_BYTES_MAX: Final = 256 * 1024
"""Bytes of one fetch from one partition."""
FETCH_WAIT_MS: Final = 50
"""Wait of the broker at the end of the log: the next request waits for it too."""
POOL_RECORDS_MAX: Final = 500
"""Records passed on at a time: other requests run in between."""
POOL_SILENCE_SECONDS_MAX: Final = 5.0
"""Time without progress after which Kafka counts as gone."""

Take = Callable[[int, Sequence[Any]], Awaitable[None]]
"""Takes records of a partition, in offset order."""


class Reader(EventsReader):
    """Reader of the events topic for one request at a time."""

    async def read_runs(self, runs: Mapping[int, Run], take: Take) -> None:
        """Pass on the records of runs of offsets, of each partition in order; holes are possible.

        Records that retention deletes meanwhile are left out.

        Raises:
            SetupError: Kafka refuses, or does not respond.
        """
        ends = {partition: run.end for partition, run in runs.items() if run.first < run.end}
        if not ends:
            return
        self.assign({partition: runs[partition].first for partition in ends})
        try:
            async with aclosing(
                self.read(
                    ends, records_max=POOL_RECORDS_MAX, silence_seconds=POOL_SILENCE_SECONDS_MAX
                )
            ) as polls:
                async for batches in polls:
                    for partition, batch in batches.items():
                        records = batch.before(ends[partition]).records
                        if records:
                            await take(partition, records)
        finally:
            # The next assignment drops the records fetched ahead; nothing more is fetched.
            self.pause()


class ConsumerPool:
    """Pool of readers; close it at the end.

    Args:
        kafka: The connection.
        partitions: Returns the number of the topic's partitions.
        readers_max: Readers in use at a time.
    """

    def __init__(
        self, kafka: Kafka, partitions: Callable[[], int], *, readers_max: int = READERS_MAX
    ) -> None:
        self._kafka = kafka
        self._partitions = partitions
        self._limiter = Limiter(readers_max, "read Kafka")
        self._idle: list[Reader] = []

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Reader]:
        """Lend a reader for one request.

        Raises:
            BusyError: No reader becomes free in time.
            SetupError: Kafka cannot be reached, or refuses.
        """
        async with self._limiter.slot():
            reader = self._idle.pop() if self._idle else await self._start()
            reader.partitions = self._partitions()
            try:
                yield reader
            except (SetupError, TimeoutError, asyncio.CancelledError):
                await reader.stop()
                raise
            except BaseException:
                self._idle.append(reader)
                raise
            self._idle.append(reader)

    async def aclose(self) -> None:
        """Stop every idle reader."""
        while self._idle:
            await self._idle.pop().stop()

    async def _start(self) -> Reader:
        reader = Reader(
            self._kafka,
            self._partitions(),
            max_partition_fetch_bytes=POOL_FETCH_BYTES_MAX,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        await reader.start()
        return reader
