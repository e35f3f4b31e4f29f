"""Unmatched keys: which records no destination takes, counted by key and reported once a minute.

Counted are the keys of batches that have such a record, and only a few of them: what a producer
writes into a key is not bounded. Pure.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

KEYS_MAX: Final = 100
"""Keys that are counted in a minute; events of further ones are in no report, only in the total."""
REPORTED_KEYS_MAX: Final = 5
"""Keys that are reported in a minute, the most frequent ones."""
KEY_BYTES_MAX: Final = 1_024
"""Bytes of a key that are kept: the longest pipeline has as many."""
REPORT_SECONDS: Final = 60.0


class UnmatchedKey(NamedTuple):
    """Events of one key that no destination takes."""

    key: bytes | None
    """The first `KEY_BYTES_MAX` bytes."""
    events: int


class UnmatchedKeys:
    """Counts of the events that no destination takes, since the last report."""

    def __init__(self) -> None:
        self.reported: list[UnmatchedKey] = []
        """The last report; empty once a minute has passed without such an event."""
        self._counts: Counter[bytes | None] = Counter()
        self._reported_at: float | None = None

    def add(self, keys: Mapping[bytes | None, int]) -> None:
        """Count events by their key."""
        for key, events in keys.items():
            kept = key if key is None else key[:KEY_BYTES_MAX]
            if kept in self._counts or len(self._counts) < KEYS_MAX:
                self._counts[kept] += events

    def report(self, now: float) -> list[UnmatchedKey]:
        """Return the most frequent keys; none if the last report is younger than a minute.

        Args:
            now: The present, in seconds of a monotonic clock.
        """
        if self._reported_at is not None and now - self._reported_at < REPORT_SECONDS:
            return []
        found = [UnmatchedKey(*it) for it in self._counts.most_common(REPORTED_KEYS_MAX)]
        self._counts.clear()
        self.reported = found
        self._reported_at = now if found else None
        return found
