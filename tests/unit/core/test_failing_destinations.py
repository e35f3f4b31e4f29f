"""A destination is failing while more than a share of its recent events fail."""

import pytest

from stream_app.core.failing_destinations import (
    ERROR_LENGTH_MAX,
    FAILED_EVENTS_MIN,
    FAILING_MINUTES,
    FAILING_SHARE,
    FailingDestinations,
)
from stream_app.core.receipt import Tally


def tally(events: int, failed: int = 0, error: str = "TypeError: x") -> Tally:
    found = Tally()
    found.deliver(events - failed)
    for offset in range(failed):
        found.fail(offset, "record", error)
    return found


def names(found: object) -> tuple[list[str], list[str]]:
    begun, ended = found  # type: ignore[misc] # the result of `check`
    return [it.destination for it in begun], [it.destination for it in ended]


def test_destination_begins_to_fail_with_its_counts_and_its_last_error() -> None:
    destinations = FailingDestinations()
    destinations.add("orders", tally(60, 20))
    destinations.add("orders", tally(40, 12, "RangeError: y"))
    destinations.add("signups", tally(40))
    (begun,), ended = destinations.check(100.0)
    assert ended == []
    assert (begun.destination, begun.events, begun.failed, begun.since) == ("orders", 100, 32, 100)
    assert (begun.share, begun.error) == ("32 %", "RangeError: y")
    assert destinations.failing == {"orders": begun}
    assert names(destinations.check(101.0)) == ([], [])


def test_destination_that_goes_on_failing_is_reported_once_and_its_counts_follow() -> None:
    destinations = FailingDestinations()
    for minute in range(5):
        destinations.add("orders", tally(100, 10))
        assert names(destinations.check(60.0 * minute)) == ([] if minute else ["orders"], [])
    assert destinations.failing["orders"].events == 500
    assert destinations.failing["orders"].since == 0


def test_destination_ends_to_fail_when_its_failed_events_are_old() -> None:
    destinations = FailingDestinations()
    destinations.add("orders", tally(100, 10))
    destinations.check(0.0)
    for minute in range(1, FAILING_MINUTES):
        destinations.add("orders", tally(10))
        assert names(destinations.check(60.0 * minute)) == ([], [])
    begun, (ended,) = destinations.check(60.0 * FAILING_MINUTES)
    assert begun == []
    assert (ended.destination, ended.failed, ended.events) == ("orders", 0, 80)
    assert destinations.failing == {}
    assert destinations._recent == {}, "a destination without failed events costs nothing"


def test_destination_without_further_events_ends_to_fail() -> None:
    destinations = FailingDestinations()
    destinations.add("orders", tally(10, 10))
    destinations.check(0.0)
    for minute in range(1, FAILING_MINUTES):
        assert names(destinations.check(60.0 * minute)) == ([], [])
    assert names(destinations.check(60.0 * FAILING_MINUTES)) == ([], ["orders"])


def test_destination_that_has_begun_ends_only_at_half_the_share() -> None:
    destinations = FailingDestinations()
    at_share = int(FAILED_EVENTS_MIN / FAILING_SHARE)
    destinations.add("orders", tally(at_share, FAILED_EVENTS_MIN))
    assert names(destinations.check(0.0)) == ([], []), "not more than the share"
    destinations.add("orders", tally(1, 1))
    assert names(destinations.check(1.0)) == (["orders"], [])
    destinations.add("orders", tally(at_share // 2))
    assert names(destinations.check(2.0)) == ([], []), "below the share, and above half of it"
    destinations.add("orders", tally(2 * at_share))
    assert names(destinations.check(3.0)) == ([], ["orders"])


@pytest.mark.parametrize(
    ("events", "failed", "fails"),
    [
        (100, FAILED_EVENTS_MIN - 1, False),
        (100, FAILED_EVENTS_MIN, True),
        (1, 1, True),  # none succeeds
        (2, 1, False),
        (1_000_000, 9_999, False),
        (1_000_000, 10_001, True),
    ],
)
def test_few_failed_events_are_no_share_unless_none_succeeds(
    events: int, failed: int, *, fails: bool
) -> None:
    destinations = FailingDestinations()
    destinations.add("orders", tally(events, failed))
    assert names(destinations.check(0.0)) == (["orders"] if fails else [], [])


def test_minutes_are_counted_by_the_clock_of_the_checks() -> None:
    destinations = FailingDestinations()
    for second in range(59):
        destinations.add("orders", tally(100, 5))
        destinations.check(float(second))
    assert len(destinations._recent["orders"].minutes) == 1
    destinations.check(60.0)
    assert len(destinations._recent["orders"].minutes) == 2


def test_removed_destination_is_forgotten() -> None:
    destinations = FailingDestinations()
    for id_ in ("orders", "signups"):
        destinations.add(id_, tally(10, 5))
    destinations.check(0.0)
    destinations.add("orders", tally(10, 5))
    destinations.keep({"signups"})
    assert destinations.failing.keys() == destinations._recent.keys() == {"signups"}
    assert names(destinations.check(1.0)) == ([], [])


def test_worst_comes_first() -> None:
    destinations = FailingDestinations()
    for id_, failed in (("a", 10), ("b", 90), ("c", 50)):
        destinations.add(id_, tally(100, failed))
    destinations.check(0.0)
    assert [it.destination for it in destinations.worst()] == ["b", "c", "a"]


def test_error_is_cut() -> None:
    destinations = FailingDestinations()
    destinations.add("orders", tally(1, 1, "x" * 1_000))
    (begun,), _ = destinations.check(0.0)
    assert begun.error == "x" * ERROR_LENGTH_MAX
