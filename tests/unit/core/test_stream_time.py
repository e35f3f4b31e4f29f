"""Stream time by itself; what a partition makes of it is in `test_partition`."""

import pytest

from stream_app.core.stream_time import StreamTime
from tests.unit.core.builders import MINUTE, Sample, record

END = 99
"""The offset behind the batch."""


def fresh(newest_start: int = 0) -> StreamTime:
    return StreamTime(60, 2, newest_start)


def opened(second: float = 1, *, now: float = 5) -> StreamTime:
    """Return the time of a partition whose open window began with a record of this second."""
    time = fresh()
    assert time.reach([record(10, second)], 0, END, MINUTE + now) == END
    return time


def test_a_window_begins_at_its_minute() -> None:
    assert opened(59.9, now=60).start == MINUTE


def test_a_record_from_the_future_opens_the_minute_of_now() -> None:
    assert opened(3600, now=61).start == MINUTE + 60


def test_a_record_without_a_time_opens_the_minute_of_now() -> None:
    time = fresh()
    time.reach([Sample(10, -1)], 0, END, MINUTE + 61)
    assert time.start == MINUTE + 60


def test_a_late_record_opens_no_minute_before_the_newest() -> None:
    time = fresh(newest_start=MINUTE + 60)
    time.reach([record(10, 1)], 0, END, MINUTE + 300)
    assert time.start == MINUTE + 60


def test_a_newest_minute_of_the_future_opens_that_of_now() -> None:
    time = fresh(newest_start=MINUTE + 3600)
    time.reach([record(10, 1)], 0, END, MINUTE + 61)
    assert time.start == MINUTE + 60


def test_no_records_open_no_window() -> None:
    time = fresh()
    assert time.reach([], 0, END, MINUTE) == END
    assert time.start is None


def test_a_window_reaches_to_the_first_record_of_a_later_minute() -> None:
    records = [record(10, 1), record(11, 59.999), record(12, 60), record(13, 2)]
    assert fresh().reach(records, 0, END, MINUTE + 60) == 12


def test_a_late_record_in_between_does_not_end_the_window() -> None:
    records = [record(10, 61), record(11, -600), record(12, 119), record(13, 120)]
    assert fresh().reach(records, 0, END, MINUTE + 200) == 13


def test_before_the_end_of_the_minute_no_record_is_beyond_it() -> None:
    records = [record(10, 1), record(11, 3600), Sample(12, -1)]
    assert fresh().reach(records, 0, END, MINUTE + 59) == END


@pytest.mark.parametrize("later", [Sample(12, -1), record(12, 3600)])
def test_what_counts_as_now_ends_a_window_whose_minute_is_over(later: Sample) -> None:
    records = [record(10, 1), record(11, 2), later]
    assert fresh().reach(records, 0, END, MINUTE + 60) == 12


def test_only_the_records_from_the_place_on_count() -> None:
    records = [record(10, 1), record(11, 61), record(12, 62), record(13, 121)]
    time = fresh()
    assert time.reach(records, 1, END, MINUTE + 200) == 13
    assert time.start == MINUTE + 60


def test_an_open_window_ends_before_a_record_of_a_later_minute() -> None:
    time = opened()
    records = [record(11, 59), record(12, 60)]
    assert not time.ends_before(records, 0, MINUTE + 70)
    assert time.ends_before(records, 1, MINUTE + 70)


def test_an_open_window_does_not_end_before_no_record() -> None:
    assert not opened().ends_before([], 0, MINUTE + 700)


def test_no_window_ends_before_a_record_where_none_is_open() -> None:
    assert not fresh().ends_before([record(10, 61)], 0, MINUTE + 70)


def test_a_clock_set_back_by_more_than_a_window_ends_it() -> None:
    time = opened()
    assert not time.ends_before([], 0, MINUTE - 60)
    assert time.ends_before([], 0, MINUTE - 60.5)
    assert not time.is_over(MINUTE - 60)
    assert time.is_over(MINUTE - 60.5)


def test_an_idle_window_is_over_after_its_grace() -> None:
    time = opened()
    assert not time.is_over(MINUTE + 61.9)
    assert time.is_over(MINUTE + 62)


def test_once_idle_a_late_record_joins_the_late_window_or_the_minute_of_now() -> None:
    time = opened(-3600)
    time.idle(MINUTE + 70)
    records = [record(11, -3590), record(12, -3500)]
    assert not time.ends_before(records, 0, MINUTE + 71)
    assert time.ends_before(records, 1, MINUTE + 71)
    time.closed()
    time.reach(records, 1, END, MINUTE + 71)
    assert time.start == MINUTE + 60


def test_a_minute_that_was_not_over_when_it_began_is_followed_by_the_next() -> None:
    # What comes after a long stop is a backlog, though the partition seemed to be idle before.
    for time in (fresh(), opened(now=5), opened(now=61.9)):
        time.idle(MINUTE + 70)
        time.closed()
        time.reach([record(11, 2)], 0, END, MINUTE + 71)
        assert time.start == MINUTE


def test_a_late_window_that_had_its_object_does_not_move_the_minute_of_now_back() -> None:
    time = opened(-3600)
    time.idle(MINUTE + 62)
    time.had_object()
    time.closed()
    time.reach([record(11, 2)], 0, END, MINUTE + 63)
    assert time.start == MINUTE + 60


def test_a_window_without_a_record_is_over() -> None:
    assert fresh().is_over(MINUTE)


def test_a_late_record_reopens_the_minute_that_closed_without_being_over() -> None:
    time = opened()
    time.closed()
    time.reach([record(11, -30)], 0, END, MINUTE + 5)
    assert time.start == MINUTE


def test_a_late_record_joins_the_next_minute_when_its_own_had_its_object() -> None:
    time = opened()
    time.had_object()
    time.closed()
    time.reach([record(11, 30)], 0, END, MINUTE + 65)
    assert time.start == MINUTE + 60


def test_no_open_window_had_no_object() -> None:
    time = fresh()
    time.had_object()
    time.reach([record(11, 30)], 0, END, MINUTE + 65)
    assert time.start == MINUTE


def test_a_recorded_window_moves_the_newest_minute_on_and_never_back() -> None:
    time = fresh(newest_start=MINUTE)
    time.closed(MINUTE + 120)
    time.closed(MINUTE + 60)
    time.reach([record(11, 1)], 0, END, MINUTE + 500)
    assert time.start == MINUTE + 120
