"""The Inspector's service: the parts that its routes use, their start and their end.

1. read the configuration; check that both topics exist
2. follow the receipts, beginning with the last ones
3. follow the events while a page is open, and the configuration file all the time
4. at the end: close in reverse order
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final, Self

from stream_app.inspector.core.index import INDEX_BYTES_MAX, INDEXED_RECEIPTS_MAX, Index
from stream_app.inspector.service.broadcast import Broadcaster
from stream_app.inspector.service.config_watcher import ConfigWatcher
from stream_app.inspector.service.consumer_pool import ConsumerPool
from stream_app.inspector.service.evaluator import Evaluator
from stream_app.inspector.service.event_log import EventLog
from stream_app.inspector.service.redelivery import RedeliveryRuns
from stream_app.inspector.service.sent_lines import SentLines
from stream_app.inspector.service.summaries import SummaryCache
from stream_app.inspector.service.topic_followers import EventsFollower, ReceiptsFollower
from stream_app.inspector.service.unmatched_sample import UnmatchedSample
from stream_app.kafka.topics import require_topics

SETTLED_SECONDS_MIN: Final = 180
"""Time for a worker to restart and deliver a window."""
SETTLED_WINDOWS: Final = 3
LOAD_SECONDS_MAX: Final = 5.0
"""Time that a request waits for the receipts after the start."""


class InspectorService:
    """The Inspector without its HTTP server; an async context manager.

    Args:
        config: Name of the configuration file.
        environment: Environment variables, which override the file.
        can_redeliver: Whether people may run `stream-app redeliver` from the page.
        receipts_max: Receipts in the index at most.
        bytes_max: Memory of the index at most.

    Raises:
        ConfigurationError: The file cannot be read, or has mistakes.
        SetupError: On entering: a topic is missing, or Kafka cannot be reached.
    """

    def __init__(
        self,
        config: str,
        environment: Mapping[str, str],
        *,
        can_redeliver: bool = False,
        receipts_max: int = INDEXED_RECEIPTS_MAX,
        bytes_max: int = INDEX_BYTES_MAX,
    ) -> None:
        self.receipts_max = receipts_max
        self.bytes_max = bytes_max
        self.config = ConfigWatcher(config, environment, self._configure)
        settings = self.config.settings
        self.index = Index(
            settings.kafka.events_topic,
            settings.kafka.group,
            self.config.pipelines,
            settled_after_seconds=max(
                SETTLED_SECONDS_MIN, SETTLED_WINDOWS * settings.delivery.window_seconds
            ),
            receipts_max=receipts_max,
            bytes_max=bytes_max,
        )
        self.redelivery = RedeliveryRuns(environment, is_allowed=can_redeliver)
        self.summaries = SummaryCache(self.index, self.config)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        kafka = self.config.settings.kafka
        events, receipts = await require_topics(kafka, kafka.events_topic, kafka.receipts_topic)
        self.broadcaster = Broadcaster(
            self.index, lambda active: self.events.set_active(active=active)
        )
        self.events = EventsFollower(
            kafka, events, self.broadcaster.add_records, self._publish_kafka_error
        )
        self.receipts = ReceiptsFollower(
            kafka,
            receipts,
            self.index,
            self.broadcaster.add_receipts,
            self._publish_kafka_error,
            receipts_max=self.receipts_max,
        )
        async with AsyncExitStack() as stack:
            readers = ConsumerPool(kafka, lambda: self.events.partitions)
            stack.push_async_callback(readers.aclose)
            self.log = EventLog(readers)
            self.unmatched = UnmatchedSample(self.log, self.config)
            stack.push_async_callback(self.unmatched.aclose)
            stack.push_async_callback(self.redelivery.aclose)
            self.evaluator = Evaluator(self.config)
            self.sent_lines = SentLines(self.config, self.log, self.evaluator)
            stack.push_async_callback(self.sent_lines.aclose)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for it in (self.receipts, self.events, self.broadcaster, self.config):
                stack.callback(tasks.create_task(it.run()).cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    @property
    def kafka_error(self) -> str | None:
        """Why Kafka cannot be read at the moment; None if it can."""
        return self.receipts.error or self.events.error

    async def wait_until_loaded(self) -> None:
        """Return once the last receipts are in the index, or after `LOAD_SECONDS_MAX`."""
        if not self.receipts.loaded.is_set():
            try:
                async with asyncio.timeout(LOAD_SECONDS_MAX):
                    await self.receipts.loaded.wait()
            except TimeoutError:
                return

    def _publish_kafka_error(self, _: str | None) -> None:
        self.broadcaster.publish_kafka_error(self.kafka_error)

    def _configure(self) -> None:
        self.index.configure(self.config.pipelines)
