"""Server-sent events for open pages, bounded in number and size.

Pure: records and receipts in, messages out.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any, Final, TypeVar

import orjson

from stream_app.inspector.core.index import Entry
from stream_app.inspector.core.rows import Record, TextSearch

MESSAGE_ROWS_MAX: Final = 50
"""Rows of one message; further events are counted only."""
SCANNED_RECORDS_MAX: Final = 4_000
"""Records that are searched for one round of messages, over all filters."""
SCANNED_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of records that are searched for one message."""
MESSAGE_RUNS_MAX: Final = 200
"""Runs of offsets in one message; more are merged to one per partition."""
MESSAGE_DESTINATIONS_MAX: Final = 1_000
"""Destinations named in one message."""
QUEUED_MESSAGES_MAX: Final = 64
"""Messages queued for one page."""
QUEUED_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes of messages queued for one page."""
BEHIND: Final = "behind"

_R = TypeVar("_R", bound=Record)


def message(name: str, document: Any) -> bytes:  # noqa: ANN401 - anything that is JSON
    """Return a server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(document))


def newest(
    records: Sequence[_R],
    search: TextSearch | None,
    *,
    rows_max: int = MESSAGE_ROWS_MAX,
    scanned_max: int = SCANNED_RECORDS_MAX,
    scanned_bytes_max: int = SCANNED_BYTES_MAX,
) -> tuple[list[_R], int]:
    """Return the newest records that match, and how many more match or were not searched.

    Args:
        records: New records.
        search: The search; None: every record matches.
        rows_max: Records returned at most.
        scanned_max: Records searched at most, the newest.
        scanned_bytes_max: Bytes searched at most.
    """
    if search is None:
        return nlargest(rows_max, records, key=_time), max(0, len(records) - rows_max)
    found: list[_R] = []
    scanned = scanned_bytes = matched = 0
    for record in nlargest(scanned_max, records, key=_time):
        if scanned_bytes > scanned_bytes_max:
            break
        scanned += 1
        scanned_bytes += len(record.value or b"")
        if search.matches(record.key, record.value):
            matched += 1
            if len(found) < rows_max:
                found.append(record)
    return found, matched - len(found) + len(records) - scanned


_time = attrgetter("timestamp", "offset")


def receipts_message(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return runs of offsets and destinations of new receipts, as a message names them."""
    runs: dict[tuple[int, int, int], None] = {}
    destinations: dict[str, None] = {}
    for entry in entries:
        source = entry.source
        runs[source.partition, source.first_offset, source.end_offset] = None
        destinations[entry.destination] = None
    shown = list(runs) if len(runs) <= MESSAGE_RUNS_MAX else _merged(runs)
    return {
        "runs": [
            {"partition": partition, "first_offset": first, "end_offset": end}
            for partition, first, end in shown
        ],
        "destinations": list(destinations)[:MESSAGE_DESTINATIONS_MAX],
    }


class Mailbox:
    """Bounded queue of messages for one page; an overflow drops all of them and is reported."""

    def __init__(
        self, *, messages_max: int = QUEUED_MESSAGES_MAX, bytes_max: int = QUEUED_BYTES_MAX
    ) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._missed = 0

    def put(self, text: bytes) -> None:
        """Add a message."""
        if self._missed:
            # The page must reload in any case.
            self._missed += 1
            return
        self._queue.append(text)
        self._bytes += len(text)
        if len(self._queue) > self._messages_max or self._bytes > self._bytes_max:
            self._missed = len(self._queue)
            self._queue.clear()
            self._bytes = 0

    def pop(self) -> bytes | None:
        """Remove and return the next message; None if there is none."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return message(BEHIND, {"missed": missed})
        if not self._queue:
            return None
        text = self._queue.popleft()
        self._bytes -= len(text)
        return text


def _merged(runs: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    merged: dict[int, tuple[int, int]] = {}
    for partition, first, end in runs:
        least, most = merged.get(partition, (first, end))
        merged[partition] = min(least, first), max(most, end)
    return [(partition, first, end) for partition, (first, end) in merged.items()]
