"""Progress watchdog: which partitions stand still though nothing holds them up, and the remedy.

    below the log's end, no batch waits or is under way, for `STALL_SECONDS` ─> SEEK
    `SEEKS_MAX` seeks, Kafka answers, and still the same position ────────────> EXIT
    a batch waits or is under way, without a step for `BATCH_SECONDS_MAX` ────> the process ends

A batch that was lost in the client shows only when the next one comes, and nothing shows a client
that has stopped handing on what it fetches. Whatever the cause, the cure is the same: fetch again
from where the partition stands, and where that does not help, begin with a new process. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from stream_app.records import TopicPartition

WATCH_SECONDS: Final = 1.0
"""Interval of the checks."""
CHECK_SECONDS_MAX: Final = 2 * WATCH_SECONDS
"""Most time that one check counts: a process that was stopped has seen nothing meanwhile."""
STALL_SECONDS: Final = 10.0
"""Time without progress after which a partition is sought again."""
SEEKS_MAX: Final = 6
"""Seeks without progress after which only a new process may help."""
BATCH_SECONDS_MAX: Final = 600.0
"""Time in which a batch must make a step, unless it waits for memory: far beyond the time limit of
one evaluation, and of one attempt to reach Kafka, after which it has made one."""


class Remedy(Enum):
    """What a partition that stands still needs."""

    SEEK = auto()
    """Fetch again from the partition's own position."""
    EXIT = auto()
    """End the process, so that its supervisor starts another one."""


class Sight(NamedTuple):
    """What the worker sees of a partition in service."""

    position: int
    """Next offset that the core takes."""
    log_end: int | None
    """First offset that a reader cannot see, as far as the client knows; None: unknown, as long as
    it has no response without an error."""
    is_busy: bool
    """Whether a batch of it waits, is under way, or was taken since the last check."""


class Standstill(NamedTuple):
    """Standstill of a partition that lasts."""

    position: int
    log_end: int
    seconds: float


class Work(NamedTuple):
    """What the worker sees of its batches, of which it takes one at a time."""

    steps: int
    """Steps of all batches so far: parts of them that were taken, evaluations, attempts to reach
    Kafka."""
    is_pending: bool
    """Whether a batch waits, or is under way."""
    is_held: bool
    """Whether it waits for memory, as long as S3 is away, or for older windows."""


class CheckClock:
    """Time between two checks, of which `CHECK_SECONDS_MAX` count."""

    def __init__(self) -> None:
        self._checked_at = 0.0

    def elapsed(self, now: float) -> float:
        """Return the time since the last call.

        Args:
            now: Seconds of a clock that is never set.
        """
        elapsed = min(now - self._checked_at, CHECK_SECONDS_MAX)
        self._checked_at = now
        return elapsed


@dataclass(slots=True)
class _Stall:
    position: int
    log_end: int | None
    stood: float = 0.0
    """Time that it has stood still since it was noticed."""
    seconds: float = 0.0
    """The same since it was sought, if it was."""
    seeks: int = 0


class ProgressWatchdog:
    """Watchdog of all partitions that a worker has in service."""

    def __init__(self) -> None:
        self._stalls: dict[TopicPartition, _Stall] = {}
        self._clock = CheckClock()

    def check(
        self, sights: Mapping[TopicPartition, Sight], now: float, *, is_open: bool
    ) -> dict[TopicPartition, Remedy]:
        """Return the partitions that stand still for too long, with the remedy that is due.

        Args:
            sights: All partitions in service.
            now: Seconds of a clock that is never set.
            is_open: Whether batches can come: there is room in memory and in the agent's queue.
                While there is none, no time counts.
        """
        seconds = self._clock.elapsed(now)
        elapsed = seconds if is_open else 0.0
        remedies = {}
        stalls: dict[TopicPartition, _Stall] = {}
        for tp, sight in sights.items():
            is_at_end = sight.log_end is not None and sight.position >= sight.log_end
            if sight.is_busy or is_at_end:
                continue
            stall = self._stalls.get(tp)
            if stall is None or stall.position != sight.position:
                stalls[tp] = _Stall(sight.position, sight.log_end)
                continue
            stalls[tp] = stall
            stall.log_end = sight.log_end
            stall.stood += elapsed
            stall.seconds += elapsed
            if stall.seconds >= STALL_SECONDS:
                remedies[tp] = Remedy.SEEK if stall.seeks < SEEKS_MAX else Remedy.EXIT
                stall.seconds = 0.0
                stall.seeks += 1
        self._stalls = stalls
        return remedies

    def unanswered(self, tp: TopicPartition) -> None:
        """Record that Kafka does not answer for a partition: the last remedy does not count."""
        if tp in self._stalls:
            self._stalls[tp].seeks -= 1

    @property
    def standstills(self) -> dict[TopicPartition, Standstill]:
        """The partitions that have stood still for `STALL_SECONDS`, and do still."""
        return {
            tp: Standstill(it.position, it.log_end, it.stood)
            for tp, it in self._stalls.items()
            if it.stood >= STALL_SECONDS and it.log_end is not None
        }


class BatchWatchdog:
    """Watchdog of the batches that were fetched: something takes them, and comes to an end."""

    def __init__(self) -> None:
        self._clock = CheckClock()
        self._steps = 0
        self._seconds = 0.0
        """Time without a step."""

    def is_stuck(self, work: Work, now: float) -> bool:
        """Whether a batch makes no step, though it waits for nothing that may take so long.

        Args:
            work: What the worker sees.
            now: Seconds of a clock that is never set.
        """
        elapsed = self._clock.elapsed(now)
        if work.is_held or not work.is_pending or work.steps != self._steps:
            elapsed = self._seconds = 0.0
        self._steps = work.steps
        self._seconds += elapsed
        return self._seconds >= BATCH_SECONDS_MAX
