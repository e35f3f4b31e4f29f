"""Stream time: which window a record joins, and when the open window is over.

A record's minute is that of its timestamp, but never before the window that is open (a late record
joins it) or the newest one that had its object, and never after now (a record from the future, or
without a time, counts as now).

A window that is over before its first record comes is late: the last one of a backlog, or one of
records with old timestamps. It closes as soon as its partition is idle, and what comes after that
has no minute before the clock's: it is no backlog any more. So there is one window a minute for any
timestamps. While a partition is not idle, the minutes of its records decide alone.

Pure: the present is handed in, in seconds.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from stream_app.records import Record

MS: Final = 1000


class StreamTime:
    """Stream time of one partition.

    Args:
        window_seconds: Length of a window.
        grace_seconds: How long past its end an idle partition's window waits for late records.
        newest_start: No window starts before this.
    """

    def __init__(self, window_seconds: int, grace_seconds: float, newest_start: int) -> None:
        self.start: int | None = None
        """Start of the open window, in seconds since 1970; None while it has no record."""
        self._is_late = False
        """Whether the open window was over before its first record came."""
        self._length = window_seconds
        self._grace = grace_seconds
        self._newest_start = newest_start

    def ends_before(self, records: Sequence[Record], index: int, now: float) -> bool:
        """Whether the open window must end before the record at `index`."""
        if self.start is None:
            return False
        if now < self.start - self._length:  # the clock was set back
            return True
        return index < len(records) and _time(records[index], now) >= self.start + self._length

    def reach(self, records: Sequence[Record], index: int, end: int, now: float) -> int:
        """Open a window if none is open; return the offset up to which it takes the records."""
        if index >= len(records):
            return end
        length = self._length
        if self.start is None:
            time = max(_time(records[index], now), min(self._newest_start, now))
            self.start = self._newest_start = self._minute(time)
            self._is_late = now >= self.start + length + self._grace
        window_end = self.start + length
        # Before the end of the window no record's time can be beyond it: none is later than now.
        if now >= window_end and not _all_before(records, index, window_end):
            later = (it for it in records[index:] if _time(it, now) >= window_end)
            return next(later).offset
        return end

    def idle(self, now: float) -> None:
        """Record that the partition is idle: what comes after a late window joins the clock's."""
        if self.start is not None and self._is_late:
            self._newest_start = max(self._newest_start, self._minute(now))

    def is_over(self, now: float) -> bool:
        """Whether the open window of an idle partition is over, or has no record at all."""
        start, length = self.start, self._length
        return (
            start is None
            or now >= start + length + self._grace
            or now < start - length  # the clock was set back: its minutes will not come soon
        )

    def newest(self, now: float) -> int:
        """Return the start of the newest window, of the present minute if there was none."""
        return self._minute(min(self._newest_start or now, now))

    def closed(self, start: int | None = None) -> None:
        """Record that the open window has closed; a predecessor recorded its `start`, if given."""
        self._newest_start = max(self._newest_start, start or 0)
        self.start = None

    def had_object(self) -> None:
        """Record that the minute has its object: late records join the next one."""
        if self.start is not None:
            self._newest_start = max(self._newest_start, self.start + self._length)

    def _minute(self, time: float) -> int:
        """Return the start of the window in which this time lies."""
        return int(time // self._length * self._length)


def _time(record: Record, now: float) -> float:
    """Return the time of a record in seconds; without a time, or from the future, `now`."""
    milliseconds = record.timestamp
    return now if milliseconds < 0 or milliseconds > now * MS else milliseconds / MS


def _all_before(records: Sequence[Record], index: int, seconds: float) -> bool:
    """Whether every record from `index` on has a timestamp before this second."""
    times: list[int] = list(map(attrgetter("timestamp"), records[index:] if index else records))
    return min(times) >= 0 and max(times) < seconds * MS
