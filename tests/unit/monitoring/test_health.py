from dataclasses import replace

import pytest

from stream_app.core.failing_destinations import FailingDestination
from stream_app.core.progress_watchdog import Standstill
from stream_app.core.unmatched_keys import UnmatchedKey
from stream_app.monitoring.health import (
    BEAT_SECONDS,
    COMMIT_STALL_SECONDS_MAX,
    STALL_SECONDS_MIN,
    STALLED_SECONDS_MAX,
    STALLS_KEPT_SECONDS,
    THREAD_SECONDS_MAX,
    WARNINGS_MAX,
    LoopMonitor,
    Membership,
    Progress,
    durations,
    live,
    ready,
    warnings,
)
from stream_app.records import TopicPartition

T = 1000.0
READY = Membership(
    has_started=True, is_ending=False, is_member=True, partitions_read_back=3, partitions_missing=0
)


def beating(*at: float) -> LoopMonitor:
    """Return the monitor of a loop that began at T and had heartbeats at these times after it."""
    loop = LoopMonitor(T)
    for seconds in at:
        loop.beat(T + seconds)
    return loop


def at_work(**changes: float | None) -> Progress:
    """Return the progress of a worker in good health."""
    progress = Progress(iterated_at=T, reachable_since=T)
    for name, value in changes.items():
        setattr(progress, name, value)
    return progress


def reasons(loop: LoopMonitor, progress: Progress, now: float) -> tuple[str, ...]:
    verdict = live(loop, progress, now)
    assert verdict.passed is not bool(verdict.reasons)
    return verdict.reasons


# --- the event loop ------------------------------------------------------------------------------


def test_loop_that_beats_on_time_does_not_stand_still() -> None:
    loop = beating(*range(1, 61))
    assert loop.stalled(T + 60.5) == 0.0
    assert loop.lag_seconds == 0.0
    assert reasons(loop, at_work(iterated_at=T + 60), T + 60.5) == ()


def test_loop_that_is_only_busy_is_late_but_not_stalled() -> None:
    late = STALL_SECONDS_MIN * 0.9
    loop = beating(*[n * (BEAT_SECONDS + late) for n in range(1, 11)])
    assert loop.lag_seconds == pytest.approx(late * 10)
    assert loop.stalled(T + 59) == 0.0


def test_stall_that_goes_on_is_seen_by_a_probe_before_the_heartbeat() -> None:
    loop = beating(1.0)
    assert loop.stalled(T + 2.0 + STALLED_SECONDS_MAX) == pytest.approx(STALLED_SECONDS_MAX)
    assert reasons(loop, at_work(), T + 3.0 + STALLED_SECONDS_MAX) == (
        f"the event loop stood still for {STALLED_SECONDS_MAX + 1:.0f} of the last 60 s",
    )


def test_stall_that_has_passed_counts_for_a_minute_and_no_longer() -> None:
    seconds = STALLED_SECONDS_MAX + 1
    end = 2.0 + seconds
    loop = beating(1.0, end)
    assert reasons(loop, at_work(), T + end)
    while loop._stalls:
        end += BEAT_SECONDS
        loop.beat(T + end)
        forgotten = max(0.0, end - 2.0 - STALLS_KEPT_SECONDS)
        assert loop.stalled(T + end) == pytest.approx(max(0.0, seconds - forgotten))
    assert end == pytest.approx(2.0 + seconds + STALLS_KEPT_SECONDS)


def test_stalls_add_up() -> None:
    each = BEAT_SECONDS + STALLED_SECONDS_MAX / 2 + 1
    assert reasons(beating(each), at_work(), T + each) == ()
    assert reasons(beating(each, 2 * each), at_work(), T + 2 * each)


def test_loop_without_heartbeats_is_a_stall_without_end() -> None:
    assert beating(1.0).stalled(T + 10_000) == STALLS_KEPT_SECONDS


# --- the loop of Kafka's client ------------------------------------------------------------------


def test_silence_of_kafkas_client_is_tolerated_for_a_while() -> None:
    loop = beating(*range(1, 200))
    since = T + 100
    progress = at_work(iterated_at=T + 150, requested_at=since)
    assert reasons(loop, progress, since + THREAD_SECONDS_MAX) == ()
    assert reasons(loop, progress, since + THREAD_SECONDS_MAX + 1) == (
        "the loop of Kafka's client has not responded for 61 s",
    )
    progress.responded()
    assert reasons(loop, progress, since + THREAD_SECONDS_MAX + 1) == ()


# --- commits -------------------------------------------------------------------------------------

LATER = COMMIT_STALL_SECONDS_MAX + 1
LOOP = beating(*range(1, 1000))


def test_worker_that_has_not_begun_to_commit_is_live() -> None:
    assert reasons(LOOP, at_work(iterated_at=None), T + LATER) == ()


def test_commit_loop_that_does_not_run_is_a_reason() -> None:
    assert reasons(LOOP, at_work(), T + COMMIT_STALL_SECONDS_MAX) == ()
    (reason,) = reasons(LOOP, at_work(), T + LATER)
    assert reason == ("the commit loop has not run for 301 s, and Kafka's coordinator is known")


def test_commits_that_are_due_and_not_acknowledged_are_a_reason() -> None:
    progress = at_work(iterated_at=T + LATER)
    progress.due(T)
    progress.due(T + 100)  # another one: none was acknowledged since
    assert reasons(LOOP, progress, T + LATER) == (
        "commits are due and none was acknowledged for 301 s, and Kafka's coordinator is known",
    )
    progress.none_due()
    assert reasons(LOOP, progress, T + LATER) == ()


def test_worker_outside_of_the_group_while_kafka_is_there_is_a_reason() -> None:
    progress = at_work(iterated_at=T + LATER)
    progress.member(T, is_member=False)
    progress.member(T + 100, is_member=False)
    assert reasons(LOOP, progress, T + COMMIT_STALL_SECONDS_MAX) == ()
    assert reasons(LOOP, progress, T + LATER) == (
        "the worker has not been a member of the group for 301 s, and Kafka's coordinator is known",
    )
    progress.member(T + LATER, is_member=True)
    assert reasons(LOOP, progress, T + LATER) == ()


def test_worker_that_cannot_join_while_kafka_is_away_is_live() -> None:
    progress = at_work(iterated_at=T + 900)
    progress.member(T, is_member=False)
    progress.reachable(T + 10, is_known=False)
    assert reasons(LOOP, progress, T + 900) == ()


def test_outage_of_kafka_is_no_reason_however_long() -> None:
    progress = at_work(due_since=T)
    progress.reachable(T + 10, is_known=False)
    assert reasons(LOOP, progress, T + 900) == ()


def test_commits_have_their_time_again_when_kafka_is_back() -> None:
    progress = at_work(due_since=T)
    progress.reachable(T + 10, is_known=False)
    for seconds in range(500, 510):
        progress.reachable(T + seconds, is_known=True)
    assert reasons(LOOP, progress, T + 500 + COMMIT_STALL_SECONDS_MAX) == ()
    assert len(reasons(LOOP, progress, T + 500 + LATER)) == 2


def test_what_liveness_depends_on_is_returned_in_seconds() -> None:
    progress = Progress()
    loop = beating(1.0, 9.0)
    assert durations(loop, progress, T + 9.5) == {
        "loop_stalled": 7.0,
        "kafka_client_silent": None,
        "kafka_coordinator_known": None,
        "commit_loop_came_round": None,
        "commits_due": None,
        "group_left": None,
    }
    progress.reachable(T, is_known=True)
    progress.iterated_at, progress.requested_at = T + 5, T + 9
    progress.due(T + 2)
    progress.member(T + 3, is_member=False)
    assert durations(loop, progress, T + 9.5) == {
        "loop_stalled": 7.0,
        "kafka_client_silent": 0.5,
        "kafka_coordinator_known": 9.5,
        "commit_loop_came_round": 4.5,
        "commits_due": 7.5,
        "group_left": 6.5,
    }


# --- ready ---------------------------------------------------------------------------------------


def test_member_with_its_partitions_read_back_is_ready() -> None:
    assert ready(READY).passed


def test_member_without_partitions_is_ready() -> None:
    assert ready(replace(READY, partitions_read_back=0)).passed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_ending": True}, "the worker is ending"),
        ({"has_started": False}, "the worker has not started yet"),
        (
            {"is_member": False},
            "the worker is not a member of the group: it is joining, or Kafka is unreachable",
        ),
        ({"partitions_missing": 2}, "the commits of 2 of 5 partitions are not read back yet"),
        (
            {"partitions_held_back": 1},
            (
                "another program has committed in the group for 1 partition: nothing is read there "
                "(see the log: unmarked-commit)"
            ),
        ),
        (
            {"partitions_truncated": 2},
            (
                "the log of 2 partitions has lost records that were read; reading begins again "
                "there when all of those are delivered (see the log: log-truncated)"
            ),
        ),
        (
            {"standstills": {TopicPartition("events", 3): Standstill(10, 15, 23.4)}},
            (
                "partition events/3 has stood still at offset 10 of 15 for 23 s: no batch of it "
                "comes (see the log: stalled)"
            ),
        ),
        ({"topics_missing": ("events",)}, "topic events does not exist"),
    ],
)
def test_what_is_missing_is_a_reason(changes: dict[str, object], reason: str) -> None:
    verdict = ready(replace(READY, **changes))  # type: ignore[arg-type] # its fields
    assert not verdict.passed
    assert verdict.reasons == (reason,)


@pytest.mark.parametrize(("seconds", "is_ready"), [(0.0, True), (10.0, True), (10.1, False)])
def test_member_whose_coordinator_is_away_for_longer_than_the_session_is_not_ready(
    seconds: float, *, is_ready: bool
) -> None:
    away = replace(READY, coordinator_away_seconds=seconds, session_seconds=10.0)
    verdict = ready(away)
    assert verdict.passed is is_ready
    assert verdict.reasons == (
        ()
        if is_ready
        else ("Kafka's coordinator has been unknown for 10 s, longer than the session of 10 s",)
    )


def test_member_whose_partitions_have_no_response_is_not_ready() -> None:
    silent = {TopicPartition("events", 0): 11.2, TopicPartition("events", 3): 12.0}
    member = replace(READY, session_seconds=10.0, partitions_unanswered=silent)
    reason = (
        "Kafka has not responded for 2 partitions: for events/3 since 12 s, longer than the "
        "session of 10 s; is its leader running?"
    )
    assert ready(member).reasons == (reason,)
    # One reason is enough for a Kafka that is away as a whole.
    (reason,) = ready(replace(member, coordinator_away_seconds=11.0)).reasons
    assert reason.startswith("Kafka's coordinator has been unknown")


def test_absence_of_the_coordinator_lasts_from_its_first_sign_to_its_return() -> None:
    progress = Progress()
    assert progress.unreachable_seconds(T) == 0.0
    for seconds, is_known, away in ((0, True, 0), (1, False, 0), (9, False, 8), (10, True, 0)):
        progress.reachable(T + seconds, is_known=is_known)
        assert progress.unreachable_seconds(T + seconds) == away


@pytest.mark.parametrize(("seconds", "is_ready"), [(0.0, True), (60.0, True), (60.1, False)])
def test_worker_whose_receipts_are_refused_is_not_ready(seconds: float, *, is_ready: bool) -> None:
    failing = replace(READY, receipt_failing_seconds=seconds, receipt_error="ReceiptTimeout")
    verdict = ready(failing)
    assert verdict.passed is is_ready
    assert verdict.reasons == (
        () if is_ready else ("a receipt could not be published for 60 s: ReceiptTimeout",)
    )


def test_failing_destinations_and_unmatched_events_are_warnings_without_a_word_of_an_event() -> (
    None
):
    failing = [FailingDestination("orders", 0.0, 44, 14, "Error: secret")]
    unmatched = [UnmatchedKey(b"secret", 40), UnmatchedKey(None, 2)]
    assert warnings([], []) == ()
    assert warnings(failing, unmatched) == (
        "destination orders: no payload for 14 of 44 events (32 %; see the log: failing)",
        "no destination takes the key of 42 events (see the log: unmatched)",
    )


def test_number_of_warnings_is_bounded() -> None:
    failing = [FailingDestination(f"d{it}", 0.0, 2, 1) for it in range(WARNINGS_MAX + 5)]
    found = warnings(failing, [])
    assert len(found) == WARNINGS_MAX + 1
    assert found[-1] == "failing, too: 5 more destinations"
