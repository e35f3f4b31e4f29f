"""The pages that are open, and what is told to them: new rows, new receipts, trouble with Kafka.

    EventsTail ───> records ─┐ every half second                ┌─> Mailbox ─> page
    ReceiptsFeed ─> entries ─┴─> messages, one for each filter ─┴─> Mailbox ─> page

What is made of an event does not depend on how many come: rows are made of the newest of a moment,
the others are counted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

from stream_app.inspector.live import LOOKED_MAX, Mailbox, message, newest, spoken_of
from stream_app.inspector.outcomes import Entry, Event, Index
from stream_app.inspector.rows import Search, row
from stream_app.inspector.turns import BusyError

CLIENTS_MAX: Final = 32
TICK_SECONDS: Final = 0.5
"""Between two times messages are made: at most two of each, so at most four messages a second."""
PING_SECONDS: Final = 15.0
RECORDS_MAX: Final = 5_000
"""Records that wait for the next messages; of more the oldest are counted only."""
RECORDS_BYTES_MAX: Final = 16 * 1024 * 1024
ENTRIES_MAX: Final = 5_000
"""Receipts that wait for the next message; of more the oldest are left out."""


class Filter(NamedTuple):
    """What a page wants to see."""

    search: str = ""
    pipeline: str | None = None

    def compiled(self) -> Search | None:
        """Return it as rows are searched; None: everything is wanted."""
        if not self.search and self.pipeline is None:
            return None
        return Search(self.search, self.pipeline)


class Client:
    """A page that is open."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self._mailbox = Mailbox()
        self._has_mail = asyncio.Event()
        self._ended = False

    def put(self, text: bytes) -> None:
        """Add a message."""
        self._mailbox.put(text)
        self._has_mail.set()

    def end(self) -> None:
        """Send nothing more."""
        self._ended = True
        self._has_mail.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages as they come, and a sign of life where none come."""
        while not self._ended:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._has_mail.wait()
            except TimeoutError:
                yield message("ping", {})
                continue
            self._has_mail.clear()
            while (text := self._mailbox.take()) is not None and not self._ended:
                yield text


class Hub:
    """All of them.

    Args:
        index: Knows the outcomes.
        want_events: Is told whether anybody looks.
        clients_max: Pages at a time.
    """

    def __init__(
        self, index: Index, want_events: Callable[[bool], None], *, clients_max: int = CLIENTS_MAX
    ) -> None:
        self._index = index
        self._want_events = want_events
        self._clients_max = clients_max
        self._clients: set[Client] = set()
        self._something = asyncio.Event()
        self._records: deque[Any] = deque()
        self._record_bytes = 0
        self._left_out = 0
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)

    @property
    def clients(self) -> int:
        """How many pages are open."""
        return len(self._clients)

    def join(self, wanted: Filter) -> Client:
        """Return a new client, to be given back by `leave`.

        Raises:
            BusyError: Too many are there.
        """
        if len(self._clients) >= self._clients_max:
            raise BusyError(
                f"{self._clients_max} pages follow the events already; close one of them"
            )
        client = Client(wanted)
        self._clients.add(client)
        self._want_events(True)  # noqa: FBT003 - whether anybody looks
        return client

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self._clients.discard(client)
        if not self._clients:
            self._want_events(False)  # noqa: FBT003 - whether anybody looks

    def end(self) -> None:
        """Let every client go."""
        for client in self._clients:
            client.end()

    def take_records(self, records: Sequence[Any], left_out: int) -> None:
        """Take records of the events topic, and how many beside were left out."""
        self._left_out += left_out
        for record in records:
            self._records.append(record)
            self._record_bytes += len(record.value or b"")
        while len(self._records) > RECORDS_MAX or self._record_bytes > RECORDS_BYTES_MAX:
            self._record_bytes -= len(self._records.popleft().value or b"")
            self._left_out += 1
        self._something.set()

    def take_entries(self, entries: Sequence[Entry]) -> None:
        """Take receipts that have just come."""
        self._entries.extend(entries)
        self._something.set()

    def tell_trouble(self, trouble: str | None) -> None:
        """Say why Kafka cannot be read at the moment, or that it can be again."""
        self._tell(message("kafka", {"error": trouble}))

    async def run(self) -> None:
        """Make messages for ever."""
        while True:
            await self._something.wait()
            self._something.clear()
            await self._make()
            await asyncio.sleep(TICK_SECONDS)

    def _tell(self, text: bytes) -> None:
        for client in self._clients:
            client.put(text)

    async def _make(self) -> None:
        records, left_out = list(self._records), self._left_out
        entries = list(self._entries)
        self._records.clear()
        self._entries.clear()
        self._record_bytes = self._left_out = 0
        if not self._clients:
            return
        if entries:
            self._tell(message("receipts", spoken_of(entries)))
        if not records and not left_out:
            return
        filters = {it.wanted for it in self._clients}
        for wanted in filters:
            text = await self._rows(records, left_out, wanted, LOOKED_MAX // len(filters))
            for client in self._clients:
                if text is not None and client.wanted == wanted:
                    client.put(text)

    async def _rows(
        self, records: Sequence[Any], left_out: int, wanted: Filter, looked_max: int
    ) -> bytes | None:
        chosen, more = await asyncio.to_thread(
            newest, records, wanted.compiled(), looked_max=looked_max
        )
        if not chosen and not more and not left_out:
            return None
        # The index changes in the loop, so it is asked there.
        dests = [self._index.dest(Event(it.partition, it.offset, it.key)) for it in chosen]
        rows = await asyncio.to_thread(lambda: list(map(row, chosen, dests)))
        return message("rows", {"rows": rows, "more": more + left_out})
