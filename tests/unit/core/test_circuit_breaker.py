"""A dead destination is probed, not hammered; nothing waits longer than it must."""

import pytest

from stream_app.core.attempts import Attempts, Step
from stream_app.core.circuit_breaker import (
    ALONE_SECONDS_MIN,
    FAILING_SECONDS_MAX,
    FAILURES_MAX,
    SILENT_CODES,
    WINDOW_CODES,
    CircuitBreakers,
    Wake,
    concerns_window,
)
from stream_app.core.retry_policy import RetryPolicy
from stream_app.errors import DeliveryError, PermanentError, TransientError

BUSY = TransientError("SlowDown", "slow down")
DENIED = PermanentError("AccessDenied", "no")
POLICY = RetryPolicy(retry_for=1000.0, give_up_after=100.0)
LATE = 60.0


def attempts(breakers: CircuitBreakers, now: float = 0.0, destination: str = "a") -> Attempts:
    return Attempts(breakers.of(destination), POLICY, LATE, now)


def fail(it: Attempts, now: float, error: DeliveryError = BUSY, chance: float = 0.5) -> None:
    assert it.step(now, is_dropped=False) is Step.TRY
    it.begin()
    it.failed(error, now, chance)


def opened(error: DeliveryError = BUSY) -> CircuitBreakers:
    """Return breakers with destination `a` broken at second 0."""
    breakers = CircuitBreakers(60.0)
    for _ in range(FAILURES_MAX):
        fail(attempts(breakers), 0.0, error)
    return breakers


def test_windows_of_a_sound_destination_try_at_once_and_side_by_side() -> None:
    breakers = CircuitBreakers(60.0)
    assert [attempts(breakers).step(0.0, is_dropped=False) for _ in range(5)] == [Step.TRY] * 5
    assert not attempts(breakers).begin()


def test_window_that_failed_waits_its_own_delay() -> None:
    breakers = CircuitBreakers(60.0)
    it = attempts(breakers)
    fail(it, 0.0)
    assert it.step(0.0, is_dropped=False) is Step.WAIT
    assert it.pause == 0.25
    assert attempts(breakers).step(0.0, is_dropped=False) is Step.TRY
    assert it.step(0.25, is_dropped=False) is Step.TRY
    assert it.made == 1


def test_window_that_was_not_tried_says_behind_which_one_it_waits() -> None:
    breakers = CircuitBreakers(60.0)
    tried = Attempts(breakers.of("a"), POLICY, LATE, 0.0, "the window of 16:24:40")
    waiting = Attempts(breakers.of("a"), POLICY, LATE, 0.0, "the window of 16:24:50")
    assert waiting.message == ""
    fail(tried, 0.0, TransientError("ReadTimeoutError", "no answer"))
    assert tried.message == "no answer"
    assert waiting.step(0.0, is_dropped=False) is Step.WAIT
    assert waiting.message == "waits behind the window of 16:24:40: no answer"
    # Once it was tried, it has an error of its own, also while others probe.
    waiting.begin()
    waiting.failed(BUSY, 100.0, 0.5)
    assert waiting.message == "slow down"
    assert tried.step(50.0, is_dropped=False) is Step.WAIT
    assert tried.message == "slow down"


def test_failures_in_a_row_break_a_destination() -> None:
    breakers = CircuitBreakers(60.0)
    windows = [attempts(breakers) for _ in range(FAILURES_MAX)]
    for it in windows[:-1]:
        fail(it, 0.0)
        assert not breakers.of("a").is_open
    fail(windows[-1], 0.0)
    assert breakers.of("a").is_open


def test_broken_destinations_are_reported_also_while_s3_is_away_as_a_whole() -> None:
    breakers = opened()
    breakers.of("b")
    assert breakers.opened == {"a"}
    assert breakers.broken(0.0) == frozenset()
    breakers.served("a", 1.0)
    assert breakers.opened == frozenset()


def test_breaker_that_was_forgotten_opens_nothing() -> None:
    breakers = CircuitBreakers(60.0)
    former = breakers.of("a")
    breakers.keep(set())
    for _ in range(FAILURES_MAX):
        former.failed(BUSY, is_probe=False, now=0.0)
    assert breakers.opened == frozenset()
    for _ in range(FAILURES_MAX):
        breakers.of("a").failed(BUSY, is_probe=False, now=0.0)
    assert breakers.opened == {"a"}
    former.succeeded()
    assert breakers.opened == {"a"}
    breakers.served("a", 0.0)
    assert breakers.opened == frozenset()


def test_success_between_failures_keeps_a_destination_sound() -> None:
    breakers = CircuitBreakers(60.0)
    for _ in range(FAILURES_MAX * 2):
        fail(attempts(breakers), 0.0)
        assert breakers.served("a", 0.0) is Wake.DESTINATION
    assert breakers.served("a", 0.0) is Wake.NONE
    assert not breakers.of("a").is_open


@pytest.mark.parametrize("code", sorted(SILENT_CODES))
def test_no_answer_breaks_a_destination_at_once(code: str) -> None:
    breakers = CircuitBreakers(60.0)
    fail(attempts(breakers), 0.0, TransientError(code, "no answer"))
    assert breakers.of("a").is_open


@pytest.mark.parametrize("code", sorted(WINDOW_CODES))
def test_what_one_window_meets_breaks_no_destination(code: str) -> None:
    breakers = CircuitBreakers(60.0)
    it = attempts(breakers)
    now = 0.0
    for _ in range(FAILURES_MAX + 1):
        fail(it, now, PermanentError(code, "its own"))
        assert it.step(now, is_dropped=False) is Step.WAIT
        now += it.pause
    assert not breakers.of("a").is_open
    assert breakers.of("a").error is None


@pytest.mark.parametrize("code", sorted(WINDOW_CODES))
@pytest.mark.parametrize("chance", [0.1, 0.5, 0.99])
def test_window_with_an_error_of_its_own_probes_an_open_breaker_and_does_not_hammer(
    code: str, chance: float
) -> None:
    breakers = opened()
    breakers.served("b", ALONE_SECONDS_MIN)
    assert breakers.of("a").is_back
    it, other = attempts(breakers), attempts(breakers)
    now, made = ALONE_SECONDS_MIN, []
    while now < ALONE_SECONDS_MIN + LATE and len(made) < 100:
        if it.step(now, is_dropped=False) is Step.TRY:
            it.begin()
            made.append(now)
            error = PermanentError(code, "its own")
            it.failed(error, now, chance)
            if concerns_window(error):
                breakers.served("a", now)
            assert not breakers.of("a").is_open
            assert other.step(now, is_dropped=False) is Step.TRY, "others are tried"
        elif it.pause:
            now += it.pause
    assert 2 <= len(made) <= 15
    assert made[1] > made[0]


def test_window_with_an_error_of_its_own_waits_though_its_destination_is_served() -> None:
    breakers = CircuitBreakers(60.0)
    it = attempts(breakers)
    fail(it, 0.0, PermanentError("ObjectDiffers", "its own"))
    assert it.step(0.0, is_dropped=False) is Step.WAIT
    for now in (0.5, 1.0):
        breakers.served("a", now)
        assert it.step(now, is_dropped=False) is Step.WAIT
    assert it.step(2.5, is_dropped=False) is Step.TRY


def test_error_of_one_window_delays_no_probe() -> None:
    breakers = CircuitBreakers(60.0)
    fail(attempts(breakers), 0.0, PermanentError("ObjectDiffers", "its own"), 0.99)
    for _ in range(FAILURES_MAX):
        fail(attempts(breakers), 0.0, BUSY)
    assert breakers.of("a").pause(0.0) == 1.0


def test_broken_destination_is_probed_by_one_window_at_a_time() -> None:
    breakers = opened()
    one, two = attempts(breakers), attempts(breakers)
    assert one.step(0.0, is_dropped=False) is two.step(0.0, is_dropped=False) is Step.WAIT
    assert one.pause == two.pause == 1.0
    assert one.step(1.0, is_dropped=False) is Step.TRY
    assert one.begin()
    assert two.step(1.0, is_dropped=False) is Step.WAIT
    assert two.pause == LATE - 1.0  # Until the probe has ended, or something else is due.
    one.failed(BUSY, 1.0, 0.5)
    assert two.step(1.0, is_dropped=False) is Step.WAIT
    assert two.pause == 2.0


def test_probe_that_succeeds_lets_all_go() -> None:
    breakers = opened()
    waiting = attempts(breakers)
    probe = attempts(breakers)
    assert waiting.step(0.0, is_dropped=False) is Step.WAIT
    assert probe.step(1.0, is_dropped=False) is Step.TRY
    probe.begin()
    assert breakers.served("a", 1.0)
    assert waiting.step(1.0, is_dropped=False) is Step.TRY


def test_window_that_failed_tries_at_once_when_its_destination_is_served() -> None:
    breakers = CircuitBreakers(60.0)
    it = attempts(breakers)
    fail(it, 0.0, DENIED)
    assert it.step(0.0, is_dropped=False) is Step.WAIT
    breakers.served("a", 0.1)
    assert it.step(0.1, is_dropped=False) is Step.TRY


def test_probe_without_an_outcome_makes_room_for_another() -> None:
    breakers = opened()
    one, two = attempts(breakers), attempts(breakers)
    assert one.step(1.0, is_dropped=False) is Step.TRY
    one.begin()
    one.ended()
    assert two.step(1.0, is_dropped=False) is Step.TRY


def test_attempt_that_waited_for_its_place_is_barred_when_the_destination_broke() -> None:
    breakers = CircuitBreakers(60.0)
    it = attempts(breakers)
    assert not it.begin()
    assert not it.is_barred
    for _ in range(FAILURES_MAX):
        fail(attempts(breakers), 0.0)
    assert it.is_barred
    it.ended()
    probe = attempts(breakers)
    assert probe.step(1.0, is_dropped=False) is Step.TRY
    assert probe.begin()
    assert not probe.is_barred


def test_attempt_begun_before_the_break_does_not_end_the_probe() -> None:
    breakers = CircuitBreakers(60.0)
    early = attempts(breakers)
    early.begin()
    for _ in range(FAILURES_MAX):
        fail(attempts(breakers), 0.0)
    probe, other = attempts(breakers), attempts(breakers)
    assert probe.step(1.0, is_dropped=False) is Step.TRY
    probe.begin()
    early.failed(BUSY, 1.0, 0.5)
    assert other.step(1.0, is_dropped=False) is Step.WAIT
    assert other.pause == LATE - 1.0


def test_late_window_is_reported_once() -> None:
    breakers = opened()
    it = attempts(breakers)
    steps = [it.step(now, is_dropped=False) for now in (0.0, LATE - 0.1, LATE, LATE)]
    assert steps == [Step.WAIT, Step.TRY, Step.REPORT_LATE, Step.TRY]


def test_pause_ends_when_the_window_is_late_or_over() -> None:
    breakers = opened(DENIED)
    it = attempts(breakers)
    attempts(breakers).begin()  # A probe without a response.
    assert it.step(LATE - 1.0, is_dropped=False) is Step.WAIT
    assert it.pause == 1.0
    assert it.step(LATE, is_dropped=False) is Step.REPORT_LATE
    assert it.step(LATE, is_dropped=False) is Step.WAIT
    assert it.pause == POLICY.give_up_after - LATE
    assert it.step(POLICY.give_up_after, is_dropped=False) is Step.GIVE_UP
    assert it.error is DENIED
    assert it.made == 0


def test_window_of_a_sound_destination_has_an_attempt_before_it_is_given_up() -> None:
    breakers = CircuitBreakers(60.0)
    it = attempts(breakers)
    fail(it, 0.0, DENIED)
    over = POLICY.give_up_after
    assert it.step(0.0, is_dropped=False) is Step.WAIT
    assert it.step(over, is_dropped=False) is Step.REPORT_LATE
    fail(it, over, DENIED)
    assert it.step(over, is_dropped=False) is Step.GIVE_UP


def test_window_that_is_shed_is_given_up_while_its_destination_is_broken_only() -> None:
    breakers = opened()
    it = attempts(breakers)
    assert it.step(0.0, is_dropped=True) is Step.GIVE_UP
    breakers.served("a", 0.0)
    assert it.step(0.0, is_dropped=True) is Step.TRY


def test_destination_is_broken_while_others_are_served_only() -> None:
    breakers = opened()
    assert breakers.broken(0.0) == frozenset()
    breakers.served("b", 10.0)
    assert breakers.broken(10.0) == frozenset(), "S3 may just be back"
    fail(attempts(breakers, 10.0), 10.0)
    assert breakers.broken(10.0) == {"a"}
    assert breakers.broken(70.0) == {"a"}
    assert breakers.broken(70.1) == frozenset()


def test_outage_of_s3_breaks_nobody_though_answers_were_still_on_their_way() -> None:
    breakers = opened()
    breakers.served("b", ALONE_SECONDS_MIN - 0.1)
    fail(attempts(breakers, 15.0), 15.0)
    assert breakers.broken(15.0) == frozenset()


def outage(destinations: int) -> CircuitBreakers:
    """Return breakers of which all have failed from second 1 to 15, having been served before."""
    breakers = CircuitBreakers(60.0)
    ids = [f"d-{number}" for number in range(destinations)]
    for id_ in ids:
        breakers.served(id_, 0.0)
    for now in (1.0, 2.0, 15.0):
        for id_ in ids:
            fail(attempts(breakers, now, id_), now)
    return breakers


@pytest.mark.parametrize("destinations", [1, 2, 20])
def test_long_outage_of_s3_breaks_nobody(destinations: int) -> None:
    assert outage(destinations).broken(59.0) == frozenset()


def test_end_of_an_outage_breaks_nobody_who_was_not_tried_again() -> None:
    breakers = outage(20)
    for number in range(19):
        breakers.served(f"d-{number}", 40.0)
        assert breakers.broken(40.0) == frozenset()
    fail(attempts(breakers, 41.0, "d-19"), 41.0)
    assert breakers.broken(41.0) == {"d-19"}


def test_first_success_after_an_outage_sends_everybody_to_probe_at_once() -> None:
    breakers = outage(3)
    waiting, other = (attempts(breakers, 15.0, id_) for id_ in ("d-1", "d-1"))
    assert waiting.step(15.1, is_dropped=False) is Step.WAIT
    assert breakers.served("d-0", 15.1) is Wake.ALL
    assert breakers.served("d-0", 15.2) is Wake.NONE
    fail(waiting, 15.2)
    assert waiting.step(15.2, is_dropped=False) is Step.WAIT, "S3 is back, and it fails still"
    assert other.step(15.2, is_dropped=False) is Step.WAIT
    assert breakers.served("d-0", 15.3) is Wake.NONE, "it is broken alone"
    assert breakers.served("d-2", 15.3) is Wake.DESTINATION
    assert waiting.step(15.3, is_dropped=False) is Step.WAIT


def test_window_that_waits_longer_than_its_destination_tries_at_once_when_s3_is_back() -> None:
    breakers = opened()
    it = attempts(breakers)
    it.failed(BUSY, 0.0, 1.0)
    breakers.served("b", ALONE_SECONDS_MIN)
    assert it.step(ALONE_SECONDS_MIN, is_dropped=False) is Step.TRY


def test_attempt_that_hangs_since_an_outage_breaks_nobody_when_others_are_served() -> None:
    breakers = opened()
    hanging = attempts(breakers)
    assert hanging.step(15.0, is_dropped=False) is Step.TRY
    hanging.begin()
    breakers.served("b", 40.0)
    hanging.failed(BUSY, 45.0, 0.5)
    assert breakers.broken(45.0) == frozenset()


@pytest.mark.parametrize(
    ("sound", "failing", "expected"), [(1, 1, 1), (7, 1, 1), (6, 2, 2), (5, 3, 0)]
)
def test_few_that_fail_for_long_are_broken_though_nobody_is_served_meanwhile(
    sound: int, failing: int, expected: int
) -> None:
    # What they hold may be all of the memory.
    breakers = CircuitBreakers(60.0)
    for number in range(sound):
        breakers.served(f"sound-{number}", 0.0)
    for _ in range(FAILURES_MAX):
        for number in range(failing):
            fail(attempts(breakers, 1.0, f"failing-{number}"), 1.0)
    assert breakers.broken(1.0 + FAILING_SECONDS_MAX - 0.1) == frozenset()
    assert len(breakers.broken(1.0 + FAILING_SECONDS_MAX)) == expected


def test_destination_that_was_served_is_broken_anew_only_by_failing_alone_again() -> None:
    breakers = opened()
    breakers.served("b", 10.0)
    fail(attempts(breakers, 10.0), 10.0)
    breakers.served("a", 11.0)
    for _ in range(FAILURES_MAX):
        fail(attempts(breakers, 12.0), 12.0)
    assert breakers.broken(12.0) == frozenset()


def test_destination_that_is_no_more_is_forgotten_once_nothing_stands_in_its_way() -> None:
    breakers = opened()
    breakers.served("b", 0.0)
    breakers.served("c", 0.0)
    failed, gone, kept = (breakers.of(it) for it in "abc")
    breakers.keep({"c"})
    assert breakers.of("a") is failed
    assert breakers.of("b") is not gone
    assert breakers.of("c") is kept
