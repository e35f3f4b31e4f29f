"""Whether a worker lives, and whether it is ready: what `/health/live` and `/health/ready` say.

Live is judged by what only a new start of this process would mend:

- its event loop, and the one in which Kafka's client runs, do not stand still;
- its commits go on: the loop that makes them comes round, and what is due is taken.

S3 or Kafka being away is neither: windows wait, attempts fail, and go on. So a commit counts as
late only for as long as Kafka's coordinator is known, which is the broker that would take it.

A loop that hangs cannot answer at all: whoever asks meets a timeout, and must take that for "not
live". What has just passed is seen by how late the loop's own heartbeats came.

Pure: times are handed in, in seconds of one steady clock.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

BEAT_SECONDS: Final = 1.0
"""How often the event loop's heart is to beat."""
STALL_SECONDS_MIN: Final = 5.0
"""A heartbeat later than this is a stall; a loop that is only busy is late by far less."""
STALLS_KEPT_SECONDS: Final = 60.0
"""How far back stalls count."""
STALLED_SECONDS_MAX: Final = 20.0
"""So much of that time may have been stalls."""
THREAD_SECONDS_MAX: Final = 60.0
"""How long the loop of Kafka's client may take to answer ours."""
COMMIT_SECONDS_MAX: Final = 300.0
"""How long commits may stand still while Kafka's coordinator is known: ten attempts at least."""


class Heart:
    """The heartbeats of an event loop.

    Args:
        now: When it began.
    """

    def __init__(self, now: float) -> None:
        self.late_seconds = 0.0
        """By how much all heartbeats together came late."""
        self._beaten_at = now
        self._stalls: deque[tuple[float, float]] = deque()
        """From when to when, of those that still count: no more than fit into that time."""

    def beat(self, now: float) -> None:
        """Note a heartbeat."""
        late = self._late(now)
        self.late_seconds += late
        if late >= STALL_SECONDS_MIN:
            self._stalls.append((now - late, now))
        while self._stalls and self._stalls[0][1] <= now - STALLS_KEPT_SECONDS:
            self._stalls.popleft()
        self._beaten_at = now

    def stalled(self, now: float) -> float:
        """Return how much of the last `STALLS_KEPT_SECONDS` the loop stood still."""
        stalls = list(self._stalls)
        late = self._late(now)
        if late >= STALL_SECONDS_MIN:  # Whoever asks may come before the heartbeat that is due.
            stalls.append((now - late, now))
        since = now - STALLS_KEPT_SECONDS
        return sum(max(0.0, end - max(begin, since)) for begin, end in stalls)

    def _late(self, now: float) -> float:
        return max(0.0, now - self._beaten_at - BEAT_SECONDS)


@dataclass(slots=True)
class Progress:
    """How commits go on; the table notes it, `live` judges it."""

    turned_at: float | None = None
    """When the loop that makes commits came round last, whatever came of it; None: not begun."""
    due_since: float | None = None
    """Since when commits are due of which none was taken; None: none is."""
    reachable_since: float | None = None
    """Since when Kafka's coordinator is known; None: it is not."""
    asked_at: float | None = None
    """When the loop of Kafka's client was asked, if it has not answered."""

    def due(self, now: float) -> None:
        """Note that a commit is due."""
        if self.due_since is None:
            self.due_since = now

    def none_due(self) -> None:
        """Note that the broker has what it should have, or that it was just taken."""
        self.due_since = None

    def answered(self) -> None:
        """Note the answer of the loop of Kafka's client; called by that loop."""
        self.asked_at = None

    def reachable(self, now: float, *, is_known: bool) -> None:
        """Note whether Kafka's coordinator is known."""
        if not is_known:
            self.reachable_since = None
        elif self.reachable_since is None:
            self.reachable_since = now


@dataclass(frozen=True, slots=True)
class Membership:
    """What of a worker's life says whether it is ready."""

    has_started: bool
    """S3's clients are open and the table runs."""
    is_ending: bool
    is_member: bool
    """Of the consumer group, in a generation that has its partitions."""
    partitions_read_back: int
    partitions_missing: int
    topics_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes, or no for these reasons."""

    reasons: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether it is yes."""
        return not self.reasons


def live(heart: Heart, progress: Progress, now: float) -> Verdict:
    """Return whether the worker lives."""
    reasons = []
    stalled = heart.stalled(now)
    if stalled > STALLED_SECONDS_MAX:
        reasons.append(
            f"the event loop stood still for {stalled:.0f} of the last {STALLS_KEPT_SECONDS:.0f} s"
        )
    if progress.asked_at is not None and now - progress.asked_at > THREAD_SECONDS_MAX:
        reasons.append(
            f"the loop of Kafka's client has not answered for {now - progress.asked_at:.0f} s"
        )
    if progress.reachable_since is not None:
        for since, what in (
            (progress.turned_at, "the loop that makes commits has not come round"),
            (progress.due_since, "commits are due and none was taken"),
        ):
            if since is not None:
                seconds = now - max(since, progress.reachable_since)
                if seconds > COMMIT_SECONDS_MAX:
                    reasons.append(f"{what} for {seconds:.0f} s, and Kafka's coordinator is known")
    return Verdict(tuple(reasons))


def signs(heart: Heart, progress: Progress, now: float) -> dict[str, float | None]:
    """Return what `live` judges, in seconds; None: that is not so, or not yet."""

    def since(time: float | None) -> float | None:
        return None if time is None else round(now - time, 3)

    return {
        "loop_stalled": round(heart.stalled(now), 3),
        "kafka_client_silent": since(progress.asked_at),
        "kafka_coordinator_known": since(progress.reachable_since),
        "commit_loop_came_round": since(progress.turned_at),
        "commits_due": since(progress.due_since),
    }


def ready(membership: Membership) -> Verdict:
    """Return whether the worker is ready: a member that goes on where its partitions stand."""
    reasons = []
    if membership.is_ending:
        reasons.append("the worker is ending")
    if not membership.has_started:
        reasons.append("the worker has not started yet")
    if not membership.is_member:
        reasons.append("the worker has no place in the group: it joins, or Kafka is away")
    if membership.partitions_missing:
        count = membership.partitions_missing + membership.partitions_read_back
        reasons.append(
            f"{membership.partitions_missing} of {count} partitions are not read back yet"
        )
    reasons += [f"topic {name} is not there" for name in membership.topics_missing]
    return Verdict(tuple(reasons))
