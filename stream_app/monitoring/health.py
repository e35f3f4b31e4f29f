"""Health checks of a worker: liveness and readiness, as `/health/live` and `/health/ready` return.

A worker is live unless only a restart would help:

- its event loop, and the event loop of Kafka's client, do not stall;
- its commits progress: the commit loop runs, and commits that are due are acknowledged;
- it is a member of the consumer group, with partitions or without.

An outage of S3 or Kafka is none of these: windows wait, attempts fail and are retried. So a commit
is late, and a membership missing, only while Kafka's coordinator is known, the broker that would
acknowledge it.

A stalled loop cannot respond at all: the probe times out, which must count as "not live". A stall
that has passed shows in the delay of the loop's own heartbeats.

Pure: times are handed in, in seconds of one monotonic clock.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stream_app.core.failing_destinations import FailingDestination
from stream_app.core.progress_watchdog import Standstill
from stream_app.core.unmatched_keys import UnmatchedKey
from stream_app.records import TopicPartition
from stream_app.text import counted

BEAT_SECONDS: Final = 1.0
"""Interval of the event loop's heartbeats."""
STALL_SECONDS_MIN: Final = 5.0
"""A heartbeat that is later is a stall; in a loop that is only busy it is late by far less."""
STALLS_KEPT_SECONDS: Final = 60.0
"""Age until which stalls count."""
STALLED_SECONDS_MAX: Final = 20.0
"""Seconds of stalls in that time that are tolerated."""
THREAD_SECONDS_MAX: Final = 60.0
"""Time in which the event loop of Kafka's client must respond to ours."""
COMMIT_STALL_SECONDS_MAX: Final = 300.0
"""Time without progress of commits, or outside of the group, while Kafka's coordinator is known:
ten attempts at least."""

RECEIPT_SECONDS_MAX: Final = 60.0
"""Time for which attempts to publish a receipt may fail."""
WARNINGS_MAX: Final = 20
"""Failing destinations that `/health/ready` names."""


class LoopMonitor:
    """Monitor of an event loop by its heartbeats.

    Args:
        now: Time of its start.
    """

    def __init__(self, now: float) -> None:
        self.lag_seconds = 0.0
        """Sum of the delays of all heartbeats."""
        self._beaten_at = now
        self._stalls: deque[tuple[float, float]] = deque()
        """Begin and end of each stall that still counts: no more than fit into that time."""

    def beat(self, now: float) -> None:
        """Record a heartbeat."""
        late = self._late(now)
        self.lag_seconds += late
        if late >= STALL_SECONDS_MIN:
            self._stalls.append((now - late, now))
        while self._stalls and self._stalls[0][1] <= now - STALLS_KEPT_SECONDS:
            self._stalls.popleft()
        self._beaten_at = now

    def stalled(self, now: float) -> float:
        """Return the seconds of stalls in the last `STALLS_KEPT_SECONDS`."""
        stalls = list(self._stalls)
        late = self._late(now)
        if late >= STALL_SECONDS_MIN:  # A probe may run before the heartbeat that is due.
            stalls.append((now - late, now))
        since = now - STALLS_KEPT_SECONDS
        return sum(max(0.0, end - max(begin, since)) for begin, end in stalls)

    def _late(self, now: float) -> float:
        return max(0.0, now - self._beaten_at - BEAT_SECONDS)


@dataclass(slots=True)
class Progress:
    """Progress of commits and of Kafka's client, recorded by the worker for `live`."""

    iterated_at: float | None = None
    """Time of the commit loop's last iteration, whatever its result; None: none yet."""
    due_since: float | None = None
    """Time since when commits are due and none was acknowledged; None: none is due."""
    outside_since: float | None = None
    """Time since when the worker is not a member of the group; None: it is one."""
    reachable_since: float | None = None
    """Time since when Kafka's coordinator is known; None: unknown."""
    unreachable_since: float | None = None
    """Time since when Kafka's coordinator is unknown; None: known, or not looked up yet."""
    requested_at: float | None = None
    """Time of the request to the event loop of Kafka's client that has no response yet."""
    standstills: Mapping[TopicPartition, Standstill] = field(default_factory=dict)
    """Partitions that stand still below the end of their log, though nothing holds them up."""

    def due(self, now: float) -> None:
        """Record that a commit is due."""
        if self.due_since is None:
            self.due_since = now

    def none_due(self) -> None:
        """Record that no commit is due, or that the broker has acknowledged one."""
        self.due_since = None

    def responded(self) -> None:
        """Record the response of the event loop of Kafka's client; called by that loop."""
        self.requested_at = None

    def member(self, now: float, *, is_member: bool) -> None:
        """Record whether the worker is a member of the group."""
        if is_member:
            self.outside_since = None
        elif self.outside_since is None:
            self.outside_since = now

    def reachable(self, now: float, *, is_known: bool) -> None:
        """Record whether Kafka's coordinator is known."""
        if is_known:
            self.unreachable_since = None
            if self.reachable_since is None:
                self.reachable_since = now
        else:
            self.reachable_since = None
            if self.unreachable_since is None:
                self.unreachable_since = now

    def unreachable_seconds(self, now: float) -> float:
        """Return for how long Kafka's coordinator has been unknown; 0: it is known."""
        return 0.0 if self.unreachable_since is None else now - self.unreachable_since


@dataclass(frozen=True, slots=True)
class Membership:
    """Facts that a worker's readiness depends on."""

    has_started: bool
    """S3's clients are open and the table runs."""
    is_ending: bool
    is_member: bool
    """The worker is in the consumer group, in a generation that has its partitions."""
    partitions_read_back: int
    partitions_missing: int
    partitions_held_back: int = 0
    """Partitions that are not read, since another program has committed for them."""
    partitions_truncated: int = 0
    """Partitions whose log was truncated, and of which not all that was read is delivered."""
    topics_missing: tuple[str, ...] = ()
    coordinator_away_seconds: float = 0.0
    """Time for which Kafka's coordinator has been unknown; 0: it is known."""
    session_seconds: float = 0.0
    """Time without a heartbeat after which the group goes on without a member."""
    partitions_unanswered: Mapping[TopicPartition, float] = field(default_factory=dict)
    """Partitions whose leader has not responded for longer than the session, and for how long."""
    receipt_failing_seconds: float = 0.0
    """Time for which some receipt could not be published; 0: there is none."""
    receipt_error: str = ""
    """Code of its last error."""
    partitions_waiting: tuple[str, ...] = ()
    """Partitions that wait at a batch that cannot be decoded, each with its offsets and reason."""
    standstills: Mapping[TopicPartition, Standstill] = field(default_factory=dict)
    """As of `Progress`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a check: passed, or failed for these reasons."""

    reasons: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether the check has passed."""
        return not self.reasons


def live(loop: LoopMonitor, progress: Progress, now: float) -> Verdict:
    """Return whether the worker is live."""
    reasons = []
    stalled = loop.stalled(now)
    if stalled > STALLED_SECONDS_MAX:
        reasons.append(
            f"the event loop stood still for {stalled:.0f} of the last {STALLS_KEPT_SECONDS:.0f} s"
        )
    if progress.requested_at is not None and now - progress.requested_at > THREAD_SECONDS_MAX:
        reasons.append(
            f"the loop of Kafka's client has not responded for {now - progress.requested_at:.0f} s"
        )
    if progress.reachable_since is not None:
        for since, what in (
            (progress.iterated_at, "the commit loop has not run"),
            (progress.due_since, "commits are due and none was acknowledged"),
            (progress.outside_since, "the worker has not been a member of the group"),
        ):
            if since is not None:
                seconds = now - max(since, progress.reachable_since)
                if seconds > COMMIT_STALL_SECONDS_MAX:
                    reasons.append(f"{what} for {seconds:.0f} s, and Kafka's coordinator is known")
    return Verdict(tuple(reasons))


def durations(loop: LoopMonitor, progress: Progress, now: float) -> dict[str, float | None]:
    """Return the seconds that `live` judges; None where a condition does not hold."""

    def since(time: float | None) -> float | None:
        return None if time is None else round(now - time, 3)

    return {
        "loop_stalled": round(loop.stalled(now), 3),
        "kafka_client_silent": since(progress.requested_at),
        "kafka_coordinator_known": since(progress.reachable_since),
        "commit_loop_came_round": since(progress.iterated_at),
        "commits_due": since(progress.due_since),
        "group_left": since(progress.outside_since),
    }


def ready(membership: Membership) -> Verdict:
    """Return whether the worker is ready: a member that has read back its partitions' commits."""
    reasons = []
    if membership.is_ending:
        reasons.append("the worker is ending")
    if not membership.has_started:
        reasons.append("the worker has not started yet")
    if not membership.is_member:
        reasons.append(
            "the worker is not a member of the group: it is joining, or Kafka is unreachable"
        )
    away = membership.coordinator_away_seconds
    if membership.is_member and away > membership.session_seconds:
        reasons.append(
            f"Kafka's coordinator has been unknown for {away:.0f} s, longer than the session of "
            f"{membership.session_seconds:.0f} s"
        )
    elif membership.partitions_unanswered:
        tp, seconds = max(membership.partitions_unanswered.items(), key=lambda it: it[1])
        reasons.append(
            "Kafka has not responded for "
            f"{counted(len(membership.partitions_unanswered), 'partition')}: for "
            f"{tp.topic}/{tp.partition} since {seconds:.0f} s, longer than the session of "
            f"{membership.session_seconds:.0f} s; is its leader running?"
        )
    if membership.partitions_missing:
        count = membership.partitions_missing + membership.partitions_read_back
        reasons.append(
            f"the commits of {membership.partitions_missing} of {counted(count, 'partition')} are "
            "not read back yet"
        )
    if membership.receipt_failing_seconds > RECEIPT_SECONDS_MAX:
        reasons.append(
            f"a receipt could not be published for {membership.receipt_failing_seconds:.0f} s: "
            f"{membership.receipt_error}"
        )
    if membership.partitions_held_back:
        reasons.append(
            "another program has committed in the group for "
            f"{counted(membership.partitions_held_back, 'partition')}: nothing is read there (see "
            "the log: unmarked-commit)"
        )
    if membership.partitions_truncated:
        reasons.append(
            f"the log of {counted(membership.partitions_truncated, 'partition')} has lost records "
            "that were read; reading begins again there when all of those are delivered (see the "
            "log: log-truncated)"
        )
    reasons += [f"topic {name} does not exist" for name in membership.topics_missing]
    reasons += membership.partitions_waiting
    reasons += [
        f"partition {tp.topic}/{tp.partition} has stood still at offset {it.position} of "
        f"{it.log_end} for {it.seconds:.0f} s: no batch of it comes (see the log: stalled)"
        for tp, it in membership.standstills.items()
    ]
    return Verdict(tuple(reasons))


def warnings(
    failing: Sequence[FailingDestination], unmatched: Sequence[UnmatchedKey]
) -> tuple[str, ...]:
    """Return what a ready worker's events suffer from: no restart would help, only an operator.

    Neither a key nor an error is quoted, which an event may have written: there is no login.

    Args:
        failing: Destinations that are failing, the worst first.
        unmatched: Keys that no destination takes.
    """
    found = [
        f"destination {it.destination}: no payload for {it.failed} of "
        f"{counted(it.events, 'event')} ({it.share}; see the log: failing)"
        for it in failing[:WARNINGS_MAX]
    ]
    if len(failing) > WARNINGS_MAX:
        found.append(f"failing, too: {counted(len(failing) - WARNINGS_MAX, 'more destination')}")
    events = sum(it.events for it in unmatched)
    if events:
        found.append(
            f"no destination takes the key of {counted(events, 'event')} (see the log: unmatched)"
        )
    return tuple(found)
