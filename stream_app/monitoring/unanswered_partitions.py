"""Partitions that Kafka does not answer for, though the worker asks.

The end of a log, the lag and what is unread are those of the last response of a partition's leader.
While the leader is away, or the partition has none, they stay as they were, and a partition of
which nothing is known looks like one that has been read to its end.

Pure: times are handed in, in seconds of one monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from stream_app.core.progress_watchdog import CheckClock
from stream_app.records import TopicPartition


class Fetch(NamedTuple):
    """State of an assigned partition's fetches."""

    responded_at: int | None
    """Time of the leader's last response without an error, by any clock; None: none yet."""
    is_held: bool
    """Whether no response is due: it is paused, or what was fetched has to be taken first."""


@dataclass(slots=True)
class _Silence:
    responded_at: int | None
    seconds: float = 0.0


class UnansweredPartitions:
    """Time for which each assigned partition has had no response, as of the last check."""

    def __init__(self) -> None:
        self._silences: dict[TopicPartition, _Silence] = {}
        self._clock = CheckClock()

    def check(self, now: float, fetches: Mapping[TopicPartition, Fetch]) -> None:
        """Record the partitions' present state.

        Args:
            now: The present.
            fetches: All partitions that are assigned.
        """
        elapsed = self._clock.elapsed(now)
        before, self._silences = self._silences, {}
        for tp, fetch in fetches.items():
            silence = before.get(tp)
            if silence is None or fetch.is_held or silence.responded_at != fetch.responded_at:
                silence = _Silence(fetch.responded_at)
            else:
                silence.seconds += elapsed
            self._silences[tp] = silence

    def longer_than(self, seconds: float) -> dict[TopicPartition, float]:
        """Return the partitions that have had no response for longer than this, with the time."""
        return {tp: it.seconds for tp, it in self._silences.items() if it.seconds > seconds}
