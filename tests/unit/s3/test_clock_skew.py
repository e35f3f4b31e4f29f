from datetime import UTC, datetime

import pytest

from stream_app.s3.clock_skew import DATE_LENGTH_MAX, ENDPOINTS_MAX, ROUNDED_SECONDS, ClockSkew

THEN = datetime(2026, 11, 24, 16, 31, 7, tzinfo=UTC).timestamp()
DATE = "Tue, 24 Nov 2026 16:31:07 GMT"


def seconds(date: str | None, now: float) -> dict[str, float]:
    skew = ClockSkew()
    skew.record("here", date, now)
    return skew.seconds()


@pytest.mark.parametrize("ahead", [0.0, 900.0, -900.0])
def test_clock_is_ahead_by_what_the_date_lacks(ahead: float) -> None:
    assert seconds(DATE, THEN + ROUNDED_SECONDS + ahead) == {"here": ahead}


def test_date_without_a_zone_is_utc() -> None:
    assert seconds("Tue, 24 Nov 2026 16:31:07 -0000", THEN + ROUNDED_SECONDS) == {"here": 0.0}


@pytest.mark.parametrize("date", [None, "", "soon", "Tue, 99 Nov 2026 16:31:07 GMT", "x" * 10**6])
def test_server_without_a_valid_date_has_no_value(date: str | None) -> None:
    assert seconds(date, THEN) == {}


def test_last_response_of_each_server_counts() -> None:
    skew = ClockSkew()
    skew.record("one", DATE, THEN)
    skew.record("two", DATE, THEN + 1 + ROUNDED_SECONDS)
    skew.record("one", DATE, THEN + 5 + ROUNDED_SECONDS)
    assert skew.seconds() == {"one": 5.0, "two": 1.0}


def test_kept_responses_are_bounded_in_number_and_length() -> None:
    skew = ClockSkew()
    for number in range(ENDPOINTS_MAX + 5):
        skew.record(f"endpoint {number}", "x" * 10**6, THEN)
        skew.record("busy", DATE, THEN)
    assert len(skew._responses) == ENDPOINTS_MAX
    assert "busy" in skew._responses
    assert max(len(date) for date, _ in skew._responses.values()) <= DATE_LENGTH_MAX
