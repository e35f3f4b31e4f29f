from datetime import UTC, datetime

import pytest

from stream_app.clockskew import DATE_LENGTH_MAX, PLACES_MAX, ROUNDED_SECONDS, ClockSkew

THEN = datetime(2026, 11, 24, 16, 31, 7, tzinfo=UTC).timestamp()
DATE = "Tue, 24 Nov 2026 16:31:07 GMT"


def seconds(date: str | None, now: float) -> dict[str, float]:
    skew = ClockSkew()
    skew.answered("here", date, now)
    return skew.seconds()


@pytest.mark.parametrize("ahead", [0.0, 900.0, -900.0])
def test_clock_is_ahead_by_what_the_date_lacks(ahead: float) -> None:
    assert seconds(DATE, THEN + ROUNDED_SECONDS + ahead) == {"here": ahead}


def test_date_without_a_zone_is_utc() -> None:
    assert seconds("Tue, 24 Nov 2026 16:31:07 -0000", THEN + ROUNDED_SECONDS) == {"here": 0.0}


@pytest.mark.parametrize("date", [None, "", "soon", "Tue, 99 Nov 2026 16:31:07 GMT", "x" * 10**6])
def test_server_without_a_readable_clock_has_no_value(date: str | None) -> None:
    assert seconds(date, THEN) == {}


def test_last_answer_of_each_server_counts() -> None:
    skew = ClockSkew()
    skew.answered("one", DATE, THEN)
    skew.answered("two", DATE, THEN + 1 + ROUNDED_SECONDS)
    skew.answered("one", DATE, THEN + 5 + ROUNDED_SECONDS)
    assert skew.seconds() == {"one": 5.0, "two": 1.0}


def test_kept_answers_are_bounded_in_number_and_length() -> None:
    skew = ClockSkew()
    for number in range(PLACES_MAX + 5):
        skew.answered(f"place {number}", "x" * 10**6, THEN)
        skew.answered("busy", DATE, THEN)
    assert len(skew._answers) == PLACES_MAX
    assert "busy" in skew._answers
    assert max(len(date) for date, _ in skew._answers.values()) <= DATE_LENGTH_MAX
