"""Stream time: which window a record joins, and when the open one is over.

A record's minute is that of its timestamp, but never before the window that is open (a late record
joins it) or the newest one that had its object, and never after now (a record from the future, or
without a time, counts as now). Pure: the present is handed in, in seconds.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from stream_app.expressions import Record

MS: Final = 1000


class StreamTime:
    """The time of one partition.

    Args:
        window_seconds: Length of a window.
        grace_seconds: How long past its end an idle partition's window waits for late records.
        newest_start: No window starts before this.
    """

    def __init__(self, window_seconds: int, grace_seconds: float, newest_start: int) -> None:
        self.start: int | None = None
        """Start of the open window; None while it has no record."""
        self._length = window_seconds
        self._grace = grace_seconds
        self._newest_start = newest_start

    def ends_before(self, records: Sequence[Record], place: int, now: float) -> bool:
        """Whether the open window must end before the record at `place`."""
        if self.start is None:
            return False
        if now < self.start - self._length:  # the clock was set back
            return True
        return place < len(records) and _time(records[place], now) >= self.start + self._length

    def reach(self, records: Sequence[Record], place: int, end: int, now: float) -> int:
        """Open a window if none is, and return the offset up to which it takes the records."""
        if place >= len(records):
            return end
        length = self._length
        if self.start is None:
            time = max(_time(records[place], now), min(self._newest_start, now))
            self.start = self._newest_start = int(time // length * length)
        window_end = self.start + length
        # Before the end no record's time can be beyond it: none is later than now.
        if now >= window_end and not _all_before(records, place, window_end):
            later = (it for it in records[place:] if _time(it, now) >= window_end)
            return next(later).offset
        return end

    def is_over(self, now: float) -> bool:
        """Whether the open window of an idle partition is over, or has no record at all."""
        start, length = self.start, self._length
        return (
            start is None
            or now >= start + length + self._grace
            or now < start - length  # the clock was set back: its minutes will not come soon
        )

    def closed(self, start: int | None = None) -> None:
        """The open window has closed; one that a predecessor recorded began at `start`."""
        self._newest_start = max(self._newest_start, start or 0)
        self.start = None

    def had_object(self) -> None:
        """The minute has its object: what comes late joins the next one."""
        if self.start is not None:
            self._newest_start = self.start + self._length


def _time(record: Record, now: float) -> float:
    """Seconds; a record without a time, or from the future, counts as now."""
    milliseconds = record.timestamp
    return now if milliseconds < 0 or milliseconds > now * MS else milliseconds / MS


def _all_before(records: Sequence[Record], place: int, seconds: float) -> bool:
    """Whether every record from `place` on has a timestamp, and one before this second."""
    times: list[int] = list(map(attrgetter("timestamp"), records[place:] if place else records))
    return min(times) >= 0 and max(times) < seconds * MS
