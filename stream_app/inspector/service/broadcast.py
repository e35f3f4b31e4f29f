"""Broadcast to open pages: new rows, new receipts, and whether Kafka can be read.

    EventsFollower ───> records ─┐ every half second                ┌─> Mailbox ─> page
    ReceiptsFollower ─> entries ─┴─> messages, one for each filter ─┴─> Mailbox ─> page

The work does not grow with the rate of events: rows are made of the newest ones of each half
second, the others are counted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from stream_app.inspector.core.event_filter import EventFilter
from stream_app.inspector.core.index import Entry, Event, Index
from stream_app.inspector.core.rows import event_row
from stream_app.inspector.core.sse import (
    MESSAGE_ROWS_MAX,
    SCANNED_RECORDS_MAX,
    Mailbox,
    message,
    newest,
    receipts_message,
)
from stream_app.inspector.service.limiter import BusyError

SUBSCRIBERS_MAX: Final = 32
ROUND_SECONDS: Final = 0.5
"""Interval between two rounds of messages: a page gets at most four messages a second."""
PING_SECONDS: Final = 15.0
"""Silence after which a page gets a ping."""
QUEUED_RECORDS_MAX: Final = 5_000
"""Records queued for the next round; the oldest beyond are counted only."""
QUEUED_RECORD_BYTES_MAX: Final = 16 * 1024 * 1024
BLOCKING_RECORDS_MAX: Final = 200
"""Records whose outcomes are computed before other tasks get the event loop."""
QUEUED_RECEIPTS_MAX: Final = 5_000
"""Receipts queued for the next round; the oldest beyond are dropped."""


class Subscriber:
    """Subscription of one open page."""

    def __init__(self, event_filter: EventFilter) -> None:
        self.filter = event_filter
        self._mailbox = Mailbox()
        self._has_mail = asyncio.Event()
        self._closed = False

    def put(self, text: bytes) -> None:
        """Queue a message."""
        self._mailbox.put(text)
        self._has_mail.set()

    def close(self) -> None:
        """End the stream of messages."""
        self._closed = True
        self._has_mail.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages as they arrive, and pings in between."""
        while not self._closed:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._has_mail.wait()
            except TimeoutError:
                yield message("ping", {})
                continue
            self._has_mail.clear()
            while (text := self._mailbox.pop()) is not None and not self._closed:
                yield text


class Broadcaster:
    """Sends new events and receipts to every subscriber.

    Args:
        index: Index of receipts.
        on_audience: Called with whether there are subscribers.
        subscribers_max: Subscribers at a time.
    """

    def __init__(
        self,
        index: Index,
        on_audience: Callable[[bool], None],
        *,
        subscribers_max: int = SUBSCRIBERS_MAX,
    ) -> None:
        self._index = index
        self._on_audience = on_audience
        self._subscribers_max = subscribers_max
        self._subscribers: set[Subscriber] = set()
        self._has_news = asyncio.Event()
        self._records: deque[Any] = deque()
        self._record_bytes = 0
        self._omitted = 0
        self._entries: deque[Entry] = deque(maxlen=QUEUED_RECEIPTS_MAX)

    @property
    def subscriber_count(self) -> int:
        """Number of open pages."""
        return len(self._subscribers)

    def subscribe(self, event_filter: EventFilter) -> Subscriber:
        """Return a new subscriber; end it with `unsubscribe`.

        Raises:
            BusyError: There are as many subscribers as allowed.
        """
        if len(self._subscribers) >= self._subscribers_max:
            raise BusyError(
                f"{self._subscribers_max} pages follow the events already; close one of them"
            )
        subscriber = Subscriber(event_filter)
        self._subscribers.add(subscriber)
        self._on_audience(True)  # noqa: FBT003 - the callback's one argument
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.discard(subscriber)
        if not self._subscribers:
            self._on_audience(False)  # noqa: FBT003 - the callback's one argument

    def close(self) -> None:
        """Close every subscriber."""
        for it in self._subscribers:
            it.close()

    def add_records(self, records: Sequence[Any], omitted: int) -> None:
        """Queue records of the events topic, and count those that the caller omitted."""
        self._omitted += omitted
        for record in records:
            self._records.append(record)
            self._record_bytes += len(record.value or b"")
        while (
            len(self._records) > QUEUED_RECORDS_MAX or self._record_bytes > QUEUED_RECORD_BYTES_MAX
        ):
            self._record_bytes -= len(self._records.popleft().value or b"")
            self._omitted += 1
        self._has_news.set()

    def add_receipts(self, entries: Sequence[Entry]) -> None:
        """Queue new receipts."""
        self._entries.extend(entries)
        self._has_news.set()

    def publish_kafka_error(self, error: str | None) -> None:
        """Send to every page why Kafka cannot be read; None: it can be read again."""
        self._send_all(message("kafka", {"error": error}))

    async def run(self) -> None:
        """Send messages forever."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await self._send_round()
            await asyncio.sleep(ROUND_SECONDS)

    def _send_all(self, text: bytes) -> None:
        for it in self._subscribers:
            it.put(text)

    async def _send_round(self) -> None:
        records, omitted = list(self._records), self._omitted
        entries = list(self._entries)
        self._records.clear()
        self._entries.clear()
        self._record_bytes = self._omitted = 0
        if not self._subscribers:
            return
        if entries:
            self._send_all(message("receipts", receipts_message(entries)))
        if not records and not omitted:
            return
        filters = {it.filter for it in self._subscribers}
        for event_filter in filters:
            text = await self._rows(
                records, omitted, event_filter, SCANNED_RECORDS_MAX // len(filters)
            )
            for it in self._subscribers:
                if text is not None and it.filter == event_filter:
                    it.put(text)

    async def _rows(
        self, records: Sequence[Any], omitted: int, event_filter: EventFilter, scanned_max: int
    ) -> bytes | None:
        rows_max = scanned_max if event_filter.by_outcome else MESSAGE_ROWS_MAX
        chosen, more = await asyncio.to_thread(
            newest, records, event_filter.compiled(), rows_max=rows_max, scanned_max=scanned_max
        )
        if event_filter.by_outcome:
            chosen = await self._with_outcome(chosen, event_filter)
        if not chosen and not more and not omitted:
            return None
        # The event loop changes the index, so it is read there and not in a thread.
        dests = [
            self._index.outcome_counts(Event(it.partition, it.offset, it.key)) for it in chosen
        ]
        rows = await asyncio.to_thread(lambda: list(map(event_row, chosen, dests)))
        return message("rows", {"rows": rows, "more": more + omitted})

    async def _with_outcome(self, records: Sequence[Any], event_filter: EventFilter) -> list[Any]:
        """Return the first records whose outcome matches, as many as a message has."""
        chosen: list[Any] = []
        for number, it in enumerate(records, 1):
            event = Event(it.partition, it.offset, it.key)
            if event_filter.takes(self._index.outcomes(event, event_filter.destination)):
                chosen.append(it)
                if len(chosen) == MESSAGE_ROWS_MAX:
                    break
            if number % BLOCKING_RECORDS_MAX == 0:
                await asyncio.sleep(0)
        return chosen
