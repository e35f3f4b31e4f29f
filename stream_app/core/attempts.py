"""Attempts at one upload under a circuit breaker: when to try, wait, report or give up. Pure."""

from enum import Enum, auto
from math import inf

from stream_app.core.circuit_breaker import CircuitBreaker, concerns_window
from stream_app.core.retry_policy import RetryPolicy
from stream_app.errors import DeliveryError


class Step(Enum):
    """Next step of a window at its destination."""

    TRY = auto()
    WAIT = auto()
    """Wait `Attempts.pause` seconds, or until the destination is served or windows are dropped."""
    REPORT_LATE = auto()
    """Publish a `retrying` receipt, once."""
    GIVE_UP = auto()


class Attempts:
    """Attempts to store one window at its destination.

    Args:
        breaker: Circuit breaker of the destination.
        policy: How long to retry.
        late_seconds: After so long the window is late.
        now: When the window became due.
        window: The window, for people.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        policy: RetryPolicy,
        late_seconds: float,
        now: float,
        window: str = "",
    ) -> None:
        self.made = 0
        """Number of attempts that failed."""
        self.pause = 0.0
        self.error: DeliveryError | None = None
        """The last error; while the breaker is open, that of the destination's probes."""
        self._breaker = breaker
        self._policy = policy
        self._late_seconds = late_seconds
        self._window = window
        self._waits_for = ""
        """The window whose failure `error` is, as long as this one was not tried."""
        self._due_at = now
        self._again_at = now
        self._is_reported = False
        self._has_just_failed = False
        self._is_own = False
        """The last error concerns this window alone, which so waits whatever others meet."""
        self._is_probe = False
        self._served_at: float | None = None
        """Last success of any destination when the attempt began."""

    def step(self, now: float, *, is_dropped: bool) -> Step:
        """Return what to do now.

        Args:
            now: The present.
            is_dropped: The window is to free memory: given up if its destination is broken.
        """
        breaker, elapsed = self._breaker, now - self._due_at
        if breaker.is_open:
            self.error = breaker.error
            self._waits_for = "" if self.made else breaker.failed_window
        elif breaker.error is None and not (self._has_just_failed or self._is_own):
            self._again_at = now  # The destination was served since.
        if breaker.is_back and not self._is_own:
            self._again_at = now
        if self.error is not None:
            if self._is_over(self.error, elapsed, is_dropped=is_dropped):
                return Step.GIVE_UP
            if elapsed >= self._late_seconds and not self._is_reported:
                self._is_reported = True
                return Step.REPORT_LATE
        self._has_just_failed = False
        self.pause = max(self._again_at - now, breaker.pause(now))
        if self.error is None or self.pause <= 0:  # A window that must wait has an error.
            return Step.TRY
        self.pause = min(self.pause, self._until_more(self.error) - elapsed)
        return Step.WAIT

    def _is_over(self, error: DeliveryError, elapsed: float, *, is_dropped: bool) -> bool:
        """Whether to give up; if the destination is served, an attempt comes first."""
        if self._breaker.is_open and is_dropped:
            return True
        return (self._breaker.is_open or self._has_just_failed) and elapsed >= self._policy.bound(
            error
        )

    def _until_more(self, error: DeliveryError) -> float:
        """Return the seconds from when the window was due until a report, or giving up, is due."""
        late = inf if self._is_reported else self._late_seconds
        return min(late, self._policy.bound(error) if self._breaker.is_open else inf)

    def begin(self) -> bool:
        """Record that an attempt begins; return whether it is a probe."""
        self._is_probe = self._breaker.begin()
        self._served_at = self._breaker.served_at
        return self._is_probe

    @property
    def is_barred(self) -> bool:
        """Whether the breaker opened while the attempt waited for its slot."""
        return self._breaker.is_open and not self._is_probe

    def ended(self) -> None:
        """Record that the attempt ended without a result."""
        self._breaker.ended(is_probe=self._is_probe)

    @property
    def message(self) -> str:
        """Message of the last error: of a window that was not tried, with the one that was."""
        message = "" if self.error is None else self.error.message
        return f"waits behind {self._waits_for}: {message}" if self._waits_for else message

    def failed(self, error: DeliveryError, now: float, chance: float) -> None:
        """Record that the attempt failed; `chance` is a number from 0 up to 1."""
        self.error, self._waits_for = error, ""
        self.made += 1
        self._has_just_failed = True
        self._is_own = concerns_window(error)
        failures = self._breaker.failed(
            error,
            is_probe=self._is_probe,
            now=now,
            served_at=self._served_at,
            window=self._window,
        )
        pause = self._policy.pause(error, max(self.made, failures), chance)
        self._again_at = now + pause
        if not self._is_own:
            self._breaker.probe_at(self._again_at)
