"""All that the Inspector's routes draw on, and its life: what is started, and ended again.

1. read the configuration; see that both topics are there
2. follow the receipts from the last ones on
3. follow the events while a page looks, the configuration while it runs
4. at the end: pages first, then what they draw on
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from stream_app.inspector.configured import Configured
from stream_app.inspector.evaluating import Evaluations
from stream_app.inspector.feeds import EventsTail, ReceiptsFeed
from stream_app.inspector.hub import Hub
from stream_app.inspector.outcomes import BYTES_MAX, RECEIPTS_MAX, Index
from stream_app.inspector.paging import Log
from stream_app.inspector.readers import Readers
from stream_app.inspector.sent import SentLines
from stream_app.kafka import require_topics

SETTLED_SECONDS_MIN = 180
"""Long enough for a worker that starts over."""
SETTLED_WINDOWS = 3
LOAD_SECONDS_MAX = 5.0
"""How long a request waits for the receipts to be read when the Inspector has just started."""


class Inspection:
    """The Inspector without its pages; an async context manager.

    Args:
        config: The configuration file.
        environment: The variables that override it.
        receipts_max: Receipts that are held.
        bytes_max: Bytes that they may take.

    Raises:
        ConfigurationError: The configuration cannot be used.
        SetupError: When entered: a topic is missing, or Kafka cannot be asked.
    """

    def __init__(
        self,
        config: str,
        environment: Mapping[str, str],
        *,
        receipts_max: int = RECEIPTS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.receipts_max = receipts_max
        self.bytes_max = bytes_max
        self.configured = Configured(config, environment, self._configure)
        settings = self.configured.settings
        self.index = Index(
            settings.kafka.events_topic,
            settings.kafka.group,
            self.configured.pipelines,
            settled_after_seconds=max(
                SETTLED_SECONDS_MIN, SETTLED_WINDOWS * settings.delivery.window_seconds
            ),
            receipts_max=receipts_max,
            bytes_max=bytes_max,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        kafka = self.configured.settings.kafka
        events, receipts = await require_topics(kafka, kafka.events_topic, kafka.receipts_topic)
        self.hub = Hub(self.index, lambda wanted: self.tail.want(wanted=wanted))
        self.tail = EventsTail(kafka, events, self.hub.take_records, self._tell_trouble)
        self.receipts = ReceiptsFeed(
            kafka,
            receipts,
            self.index,
            self.hub.take_entries,
            self._tell_trouble,
            receipts_max=self.receipts_max,
        )
        async with AsyncExitStack() as stack:
            readers = Readers(kafka, lambda: self.tail.partitions)
            stack.push_async_callback(readers.aclose)
            self.log = Log(readers)
            self.evaluations = Evaluations(self.configured)
            self.sent = SentLines(self.configured, self.log, self.evaluations)
            stack.push_async_callback(self.sent.aclose)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for it in (self.receipts, self.tail, self.hub, self.configured):
                stack.callback(tasks.create_task(it.run()).cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    @property
    def trouble(self) -> str | None:
        """Why Kafka cannot be read at the moment."""
        return self.receipts.trouble or self.tail.trouble

    async def loaded(self) -> None:
        """Return once the last receipts were read, or after a while all the same."""
        if not self.receipts.loaded.is_set():
            try:
                async with asyncio.timeout(LOAD_SECONDS_MAX):
                    await self.receipts.loaded.wait()
            except TimeoutError:
                return

    def _tell_trouble(self, _: str | None) -> None:
        self.hub.tell_trouble(self.trouble)

    def _configure(self) -> None:
        self.index.configure(self.configured.pipelines)
