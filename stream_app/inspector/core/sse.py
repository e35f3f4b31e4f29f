"""What is told to the pages that are open: messages, chosen and bounded.

Pure: records and receipts in, messages out.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any, Final, TypeVar

import orjson

from stream_app.inspector.outcomes import Entry
from stream_app.inspector.rows import Record, Search

ROWS_MAX: Final = 50
"""Rows of one message; what came beside is counted."""
LOOKED_MAX: Final = 4_000
"""Records that are searched for all filters together each time messages are made."""
LOOKED_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of them."""
RUNS_MAX: Final = 200
"""Runs of offsets in one message; more are joined, by partition."""
DESTINATIONS_MAX: Final = 1_000
"""Destinations named in one message."""
MESSAGES_MAX: Final = 64
"""Messages that wait for one page."""
MESSAGES_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes that they may have."""
BEHIND: Final = "behind"

_R = TypeVar("_R", bound=Record)


def message(name: str, document: Any) -> bytes:  # noqa: ANN401 - anything that is JSON
    """Return a server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(document))


def newest(
    records: Sequence[_R],
    search: Search | None,
    *,
    rows_max: int = ROWS_MAX,
    looked_max: int = LOOKED_MAX,
    looked_bytes_max: int = LOOKED_BYTES_MAX,
) -> tuple[list[_R], int]:
    """Return the newest records that are searched for, and how many more there are or may be.

    Args:
        records: Those that came.
        search: What for; None: all.
        rows_max: At most so many are returned.
        looked_max: So many, the newest, are searched.
        looked_bytes_max: And so many bytes of them.
    """
    if search is None:
        return nlargest(rows_max, records, key=_time), max(0, len(records) - rows_max)
    found: list[_R] = []
    looked = looked_bytes = matched = 0
    for record in nlargest(looked_max, records, key=_time):
        if looked_bytes > looked_bytes_max:
            break
        looked += 1
        looked_bytes += len(record.value or b"")
        if search.matches(record.key, record.value):
            matched += 1
            if len(found) < rows_max:
                found.append(record)
    return found, matched - len(found) + len(records) - looked


_time = attrgetter("timestamp", "offset")


def spoken_of(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return what receipts that have just come speak of."""
    runs: dict[tuple[int, int, int], None] = {}
    destinations: dict[str, None] = {}
    for entry in entries:
        source = entry.source
        runs[source.partition, source.first_offset, source.end_offset] = None
        destinations[entry.destination] = None
    told = list(runs) if len(runs) <= RUNS_MAX else _joined(runs)
    return {
        "runs": [
            {"partition": partition, "first_offset": first, "end_offset": end}
            for partition, first, end in told
        ],
        "destinations": list(destinations)[:DESTINATIONS_MAX],
    }


class Mailbox:
    """The messages that wait for one page; when they become too many, all of them go."""

    def __init__(
        self, *, messages_max: int = MESSAGES_MAX, bytes_max: int = MESSAGES_BYTES_MAX
    ) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._missed = 0

    def put(self, text: bytes) -> None:
        """Add a message."""
        if self._missed:
            # The page has to load again in any case.
            self._missed += 1
            return
        self._waiting.append(text)
        self._bytes += len(text)
        if len(self._waiting) > self._messages_max or self._bytes > self._bytes_max:
            self._missed = len(self._waiting)
            self._waiting.clear()
            self._bytes = 0

    def take(self) -> bytes | None:
        """Return the next message; None when there is none."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return message(BEHIND, {"missed": missed})
        if not self._waiting:
            return None
        text = self._waiting.popleft()
        self._bytes -= len(text)
        return text


def _joined(runs: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: dict[int, tuple[int, int]] = {}
    for partition, first, end in runs:
        least, most = joined.get(partition, (first, end))
        joined[partition] = min(least, first), max(most, end)
    return [(partition, first, end) for partition, (first, end) in joined.items()]
