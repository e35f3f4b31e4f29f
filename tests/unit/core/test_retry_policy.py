"""Delay before the next attempt, and the time until a window is given up."""

import pytest

from stream_app.core.retry_policy import SECONDS_MAX, RetryPolicy
from stream_app.errors import PermanentError, TransientError

POLICY = RetryPolicy(retry_for=100.0, give_up_after=10.0)
TRANSIENT = TransientError("SlowDown", "slow down")
PERMANENT = PermanentError("AccessDenied", "no")


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (9, 60.0)]
)
def test_delay_after_a_transient_error_doubles_up_to_a_minute(
    attempts: int, longest: float
) -> None:
    assert POLICY.pause(TRANSIENT, attempts, 1.0) == longest


@pytest.mark.parametrize(("attempts", "longest"), [(1, 5.0), (2, 10.0), (4, 40.0), (5, 60.0)])
def test_delay_after_a_permanent_error_begins_longer(attempts: int, longest: float) -> None:
    assert POLICY.pause(PERMANENT, attempts, 1.0) == longest


def test_chance_shortens_a_delay_to_any_length() -> None:
    assert POLICY.pause(TRANSIENT, 3, 0.25) == 0.5
    assert POLICY.pause(TRANSIENT, 3, 0.0) == 0.0


def test_a_million_attempts_do_not_overflow() -> None:
    assert POLICY.pause(TRANSIENT, 1_000_000, 1.0) == SECONDS_MAX


def test_each_kind_of_error_has_its_bound() -> None:
    assert POLICY.bound(TRANSIENT) == 100.0
    assert POLICY.bound(PERMANENT) == 10.0
