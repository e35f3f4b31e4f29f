import pytest

from stream_app.core.progress_watchdog import (
    BATCH_SECONDS_MAX,
    SEEKS_MAX,
    STALL_SECONDS,
    WATCH_SECONDS,
    BatchWatchdog,
    ProgressWatchdog,
    Remedy,
    Sight,
    Standstill,
    Work,
)
from stream_app.records import TopicPartition

ONE, OTHER = TopicPartition("events", 1), TopicPartition("events", 2)
BEHIND = Sight(position=10, log_end=15, is_busy=False)
SEEK_TICKS = round(STALL_SECONDS / WATCH_SECONDS)


class Watched:
    """A watchdog that is asked at its interval."""

    def __init__(self) -> None:
        self.watchdog = ProgressWatchdog()
        self.now = 1000.0

    def tick(
        self, sight: Sight, times: int = 1, *, is_open: bool = True, after: float = WATCH_SECONDS
    ) -> list[Remedy]:
        """Check so many times; return the remedies of partition ONE."""
        remedies = []
        for _ in range(times):
            self.now += after
            found = self.watchdog.check({ONE: sight}, self.now, is_open=is_open)
            remedies += [found[ONE]] if ONE in found else []
        return remedies


def test_partition_that_stands_still_below_the_logs_end_is_sought() -> None:
    watched = Watched()
    assert watched.tick(BEHIND, SEEK_TICKS) == []  # The first one only begins to count.
    assert watched.tick(BEHIND) == [Remedy.SEEK]


def test_partition_is_sought_again_after_as_long_and_then_the_process_ends() -> None:
    watched = Watched()
    watched.tick(BEHIND)
    for _ in range(SEEKS_MAX):
        assert watched.tick(BEHIND, SEEK_TICKS - 1) == []
        assert watched.tick(BEHIND) == [Remedy.SEEK]
    assert watched.tick(BEHIND, SEEK_TICKS) == [Remedy.EXIT]


def test_seek_that_kafka_does_not_answer_does_not_count() -> None:
    watched = Watched()
    watched.tick(BEHIND)
    for _ in range(3 * SEEKS_MAX):
        assert watched.tick(BEHIND, SEEK_TICKS) == [Remedy.SEEK]
        watched.watchdog.unanswered(ONE)
    watched.watchdog.unanswered(OTHER)  # Revoked meanwhile.


def test_progress_begins_the_count_anew() -> None:
    watched = Watched()
    watched.tick(BEHIND, SEEK_TICKS * SEEKS_MAX + 1)
    moved = BEHIND._replace(position=11)
    assert watched.tick(moved, SEEK_TICKS * SEEKS_MAX + 1) == [Remedy.SEEK] * SEEKS_MAX


def test_partition_at_its_end_does_not_stand_still() -> None:
    for end in (10, 9):
        assert Watched().tick(BEHIND._replace(log_end=end), 3 * SEEK_TICKS) == []


def test_partition_whose_end_is_unknown_may_stand_still() -> None:
    watched, unknown = Watched(), BEHIND._replace(log_end=None)
    assert watched.tick(unknown, SEEK_TICKS + 1) == [Remedy.SEEK]
    assert watched.watchdog.standstills == {}


def test_batch_that_waits_or_is_under_way_is_progress() -> None:
    watched = Watched()
    for _ in range(5):
        assert watched.tick(BEHIND, SEEK_TICKS) == []
        assert watched.tick(BEHIND._replace(is_busy=True)) == []


def test_time_in_which_nothing_could_come_does_not_count() -> None:
    watched = Watched()
    watched.tick(BEHIND, SEEK_TICKS)
    assert watched.tick(BEHIND, 10 * SEEK_TICKS, is_open=False) == []
    assert watched.tick(BEHIND) == [Remedy.SEEK]


def test_process_that_was_stopped_has_seen_nothing_meanwhile() -> None:
    watched = Watched()
    watched.tick(BEHIND)
    assert watched.tick(BEHIND, after=3600.0) == []


def test_partition_that_was_revoked_is_forgotten() -> None:
    watched = Watched()
    watched.tick(BEHIND, SEEK_TICKS)
    assert watched.watchdog.check({OTHER: BEHIND}, watched.now + 1, is_open=True) == {}
    assert watched.tick(BEHIND, SEEK_TICKS) == []


def test_standstill_lasts_through_seeks_until_there_is_progress() -> None:
    watched = Watched()
    watched.tick(BEHIND, SEEK_TICKS)
    assert watched.watchdog.standstills == {}
    watched.tick(BEHIND, 2 * SEEK_TICKS)
    watched.tick(BEHIND._replace(log_end=20))
    assert watched.watchdog.standstills == {ONE: Standstill(10, 20, 3 * STALL_SECONDS)}
    watched.tick(BEHIND._replace(position=11, log_end=20))
    assert watched.watchdog.standstills == {}


# --- batches ------------------------------------------------------------------------------------

PENDING = Work(steps=3, is_pending=True, is_held=False)
BATCH_TICKS = round(BATCH_SECONDS_MAX / WATCH_SECONDS)


class WatchedBatch:
    """A watchdog of batches that is asked at its interval."""

    def __init__(self) -> None:
        self.watchdog = BatchWatchdog()
        self.now = 1000.0

    def tick(self, work: Work, times: int = 1, *, after: float = WATCH_SECONDS) -> bool:
        """Check so many times; return whether a batch was stuck."""
        found = []
        for _ in range(times):
            self.now += after
            found.append(self.watchdog.is_stuck(work, self.now))
        return any(found)


def test_batch_without_a_step_for_long_is_stuck() -> None:
    watched = WatchedBatch()
    assert not watched.tick(PENDING, BATCH_TICKS)  # The first one only begins to count.
    assert watched.tick(PENDING)


@pytest.mark.parametrize(
    "meanwhile",
    [
        PENDING._replace(steps=4),
        PENDING._replace(is_pending=False),
        PENDING._replace(is_held=True),
    ],
)
def test_step_and_wait_begin_the_count_anew(meanwhile: Work) -> None:
    watched = WatchedBatch()
    assert not watched.tick(PENDING, BATCH_TICKS)
    assert not watched.tick(meanwhile)
    assert not watched.tick(PENDING._replace(steps=meanwhile.steps), BATCH_TICKS - 1)


def test_batch_of_a_process_that_was_stopped_is_not_stuck() -> None:
    watched = WatchedBatch()
    watched.tick(PENDING)
    assert not watched.tick(PENDING, after=2 * BATCH_SECONDS_MAX)
