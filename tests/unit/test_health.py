from dataclasses import replace

import pytest

from stream_app.health import (
    BEAT_SECONDS,
    COMMIT_SECONDS_MAX,
    STALL_SECONDS_MIN,
    STALLED_SECONDS_MAX,
    STALLS_KEPT_SECONDS,
    THREAD_SECONDS_MAX,
    Heart,
    Membership,
    Progress,
    live,
    ready,
    signs,
)

T = 1000.0
READY = Membership(
    has_started=True, is_ending=False, is_member=True, partitions_read_back=3, partitions_missing=0
)


def beating(*at: float) -> Heart:
    """Return a heart that began at T and has beaten at these times after it."""
    heart = Heart(T)
    for seconds in at:
        heart.beat(T + seconds)
    return heart


def at_work(**changes: float | None) -> Progress:
    """Return the progress of a worker in good health."""
    progress = Progress(turned_at=T, reachable_since=T)
    for name, value in changes.items():
        setattr(progress, name, value)
    return progress


def reasons(heart: Heart, progress: Progress, now: float) -> tuple[str, ...]:
    verdict = live(heart, progress, now)
    assert verdict.holds is not bool(verdict.reasons)
    return verdict.reasons


# --- the event loop ------------------------------------------------------------------------------


def test_loop_that_beats_on_time_does_not_stand_still() -> None:
    heart = beating(*range(1, 61))
    assert heart.stalled(T + 60.5) == 0.0
    assert heart.late_seconds == 0.0
    assert reasons(heart, at_work(turned_at=T + 60), T + 60.5) == ()


def test_loop_that_is_only_busy_is_late_but_not_stalled() -> None:
    late = STALL_SECONDS_MIN * 0.9
    heart = beating(*[n * (BEAT_SECONDS + late) for n in range(1, 11)])
    assert heart.late_seconds == pytest.approx(late * 10)
    assert heart.stalled(T + 59) == 0.0


def test_stall_that_goes_on_is_seen_by_whoever_is_served_before_the_heartbeat() -> None:
    heart = beating(1.0)
    assert heart.stalled(T + 2.0 + STALLED_SECONDS_MAX) == pytest.approx(STALLED_SECONDS_MAX)
    assert reasons(heart, at_work(), T + 3.0 + STALLED_SECONDS_MAX) == (
        f"the event loop stood still for {STALLED_SECONDS_MAX + 1:.0f} of the last 60 s",
    )


def test_stall_that_has_passed_counts_for_a_minute_and_no_longer() -> None:
    seconds = STALLED_SECONDS_MAX + 1
    end = 2.0 + seconds
    heart = beating(1.0, end)
    assert reasons(heart, at_work(), T + end)
    while heart._stalls:
        end += BEAT_SECONDS
        heart.beat(T + end)
        forgotten = max(0.0, end - 2.0 - STALLS_KEPT_SECONDS)
        assert heart.stalled(T + end) == pytest.approx(max(0.0, seconds - forgotten))
    assert end == pytest.approx(2.0 + seconds + STALLS_KEPT_SECONDS)


def test_stalls_add_up() -> None:
    each = BEAT_SECONDS + STALLED_SECONDS_MAX / 2 + 1
    assert reasons(beating(each), at_work(), T + each) == ()
    assert reasons(beating(each, 2 * each), at_work(), T + 2 * each)


def test_heart_that_has_stopped_is_a_stall_without_end() -> None:
    assert beating(1.0).stalled(T + 10_000) == STALLS_KEPT_SECONDS


# --- the loop of Kafka's client ------------------------------------------------------------------


def test_silence_of_kafkas_client_is_borne_for_a_while() -> None:
    heart = beating(*range(1, 200))
    asked = T + 100
    progress = at_work(turned_at=T + 150, asked_at=asked)
    assert reasons(heart, progress, asked + THREAD_SECONDS_MAX) == ()
    assert reasons(heart, progress, asked + THREAD_SECONDS_MAX + 1) == (
        "the loop of Kafka's client has not answered for 61 s",
    )
    progress.answered()
    assert reasons(heart, progress, asked + THREAD_SECONDS_MAX + 1) == ()


# --- commits -------------------------------------------------------------------------------------

LATER = COMMIT_SECONDS_MAX + 1
HEART = beating(*range(1, 1000))


def test_worker_that_has_not_begun_to_commit_lives() -> None:
    assert reasons(HEART, at_work(turned_at=None), T + LATER) == ()


def test_commit_loop_that_does_not_come_round_is_a_reason() -> None:
    assert reasons(HEART, at_work(), T + COMMIT_SECONDS_MAX) == ()
    (reason,) = reasons(HEART, at_work(), T + LATER)
    assert reason == (
        "the loop that makes commits has not come round for 301 s, and Kafka's coordinator is known"
    )


def test_commits_that_are_due_and_not_taken_are_a_reason() -> None:
    progress = at_work(turned_at=T + LATER)
    progress.due(T)
    progress.due(T + 100)  # another one: none was taken since
    assert reasons(HEART, progress, T + LATER) == (
        "commits are due and none was taken for 301 s, and Kafka's coordinator is known",
    )
    progress.none_due()
    assert reasons(HEART, progress, T + LATER) == ()


def test_kafka_being_away_is_no_reason_however_long() -> None:
    progress = at_work(due_since=T)
    progress.reachable(T + 10, is_known=False)
    assert reasons(HEART, progress, T + 900) == ()


def test_commits_have_their_time_again_when_kafka_is_back() -> None:
    progress = at_work(due_since=T)
    progress.reachable(T + 10, is_known=False)
    for seconds in range(500, 510):
        progress.reachable(T + seconds, is_known=True)
    assert reasons(HEART, progress, T + 500 + COMMIT_SECONDS_MAX) == ()
    assert len(reasons(HEART, progress, T + 500 + LATER)) == 2


def test_what_is_judged_is_told_in_seconds() -> None:
    progress = Progress()
    heart = beating(1.0, 9.0)
    assert signs(heart, progress, T + 9.5) == {
        "loop_stalled": 7.0,
        "kafka_client_silent": None,
        "kafka_coordinator_known": None,
        "commit_loop_came_round": None,
        "commits_due": None,
    }
    progress.reachable(T, is_known=True)
    progress.turned_at, progress.asked_at = T + 5, T + 9
    progress.due(T + 2)
    assert signs(heart, progress, T + 9.5) == {
        "loop_stalled": 7.0,
        "kafka_client_silent": 0.5,
        "kafka_coordinator_known": 9.5,
        "commit_loop_came_round": 4.5,
        "commits_due": 7.5,
    }


# --- ready ---------------------------------------------------------------------------------------


def test_member_with_its_partitions_read_back_is_ready() -> None:
    assert ready(READY).holds


def test_member_without_partitions_is_ready() -> None:
    assert ready(replace(READY, partitions_read_back=0)).holds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_ending": True}, "the worker is ending"),
        ({"has_started": False}, "the worker has not started yet"),
        (
            {"is_member": False},
            "the worker has no place in the group: it joins, or Kafka is away",
        ),
        ({"partitions_missing": 2}, "2 of 5 partitions are not read back yet"),
        ({"topics_missing": ("events",)}, "topic events is not there"),
    ],
)
def test_what_is_missing_is_said(changes: dict[str, object], reason: str) -> None:
    verdict = ready(replace(READY, **changes))  # type: ignore[arg-type] # its fields
    assert not verdict.holds
    assert verdict.reasons == (reason,)
