"""Open transactions of producers, which hide the end of a partition's log from the worker.

A reader of committed records cannot see beyond the first open transaction, whichever producer sent
what lies behind it. That is right, and passes within seconds; but a producer that has vanished can
leave a transaction open for minutes, or for ever, and a partition waits that looks read to its end.

Pure: times are handed in, in seconds of one monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream_app.records import TopicPartition

LONG_SECONDS: Final = 60.0
"""Age from which a transaction is logged: the broker ends most by then, their timeout is over."""


@dataclass(slots=True)
class HiddenEnd:
    """The end of a partition's log that an open transaction hides."""

    tp: TopicPartition
    first_offset: int
    """First offset that a reader of committed records cannot see."""
    since: float
    offsets: int = 0
    """Offsets from there to the end of the log."""
    seconds: float = 0.0
    """For how long it has been hidden from the same offset on."""
    is_logged: bool = False


class OpenTransactions:
    """Hidden ends of the assigned partitions, by partition, as of the last check."""

    def __init__(self) -> None:
        self.hidden: dict[TopicPartition, HiddenEnd] = {}

    def check(
        self,
        now: float,
        log_ends: Mapping[TopicPartition, int],
        high_watermarks: Mapping[TopicPartition, int],
    ) -> tuple[list[HiddenEnd], list[HiddenEnd]]:
        """Record what is hidden now; return what has been for long, and what no longer is.

        Args:
            now: The present.
            log_ends: First offset that a reader of committed records cannot see.
            high_watermarks: End of the log.

        Returns:
            Each hidden end once when it is `LONG_SECONDS` old, and once more when it can be read.
        """
        before, self.hidden = self.hidden, {}
        long, ended = [], []
        for tp, end in log_ends.items():
            known, offsets = before.get(tp), high_watermarks.get(tp, end) - end
            if known is not None and known.is_logged and known.first_offset != end:
                ended.append(known)
            if offsets <= 0:
                continue
            if known is None or known.first_offset != end:
                known = HiddenEnd(tp, end, now)
            known.offsets, known.seconds = offsets, now - known.since
            if known.seconds >= LONG_SECONDS and not known.is_logged:
                known.is_logged = True
                long.append(known)
            self.hidden[tp] = known
        return long, ended
