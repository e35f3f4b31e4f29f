"""Circuit breakers: which destinations are broken, and when a window may be tried at one.

    closed ── FAILURES_MAX failures in a row, or no response at all ──> open
      ^                                                                   │
      └──── served ───── a probe: one attempt at a time, after a delay ───┘

While a breaker is closed each window of its destination is tried on its own. While it is open the
windows wait, one of them probes, and its success releases all: a dead destination is probed, not
hammered. If no destination at all is served, S3 is down: then the first success lets all probe.

A destination is *served* by a stored object, and by a definite answer about one window: S3 has
looked at the very object. Only that window then waits, see `attempts`.

Pure: time and chance are handed in. Times are seconds of any one steady clock.
"""

from collections.abc import Collection
from enum import Enum, auto
from typing import Final

from stream_app.core.retry_policy import SECONDS_MAX
from stream_app.errors import DeliveryError

FAILURES_MAX: Final = 3
"""Failures in a row that open a breaker."""
SILENT_CODES: Final = frozenset({"ConnectTimeoutError", "ReadTimeoutError", "TimeoutError"})
"""Codes of attempts that occupied an upload slot for long: one failure is enough."""
WINDOW_CODES: Final = frozenset({"EntityTooLarge", "ObjectDiffers", "ObjectVanished"})
"""Codes of S3's definite answers about the object of one window."""
ALONE_SECONDS_MIN: Final = 5.0
"""So long after the first failure another destination must have been served, and this one must fail
again. Earlier than that S3 as a whole may be going down, with responses still on their way."""
FAILING_SECONDS_MAX: Final = 20.0
"""After failing for so long a destination also counts as broken if it is one of a few: the memory
of its windows may be the reason why no other is served."""
FEW_SHARE: Final = 4
"""A few are at most one in so many destinations; if more fail, S3 is down."""


def concerns_window(error: DeliveryError) -> bool:
    """Return whether an error is S3's definite answer about one window: the destination serves."""
    return error.code in WINDOW_CODES


class _Shared:
    """State that all breakers share."""

    def __init__(self) -> None:
        self.served_at: float | None = None
        """Last success of any destination."""
        self.is_away = False
        """Whether a destination broke before that and is still: S3 as a whole may be down."""
        self.opened: dict[str, CircuitBreaker] = {}
        """Open breakers by destination: few, of the many that are asked for them at each tick."""


class CircuitBreaker:
    """Circuit breaker of one destination.

    Args:
        destination: Its id.
        shared: What it shares with the others.
    """

    __slots__ = (
        "_destination",
        "_failures",
        "_is_probing",
        "_probe_at",
        "_served_at",
        "_shared",
        "error",
        "failed_window",
        "failing_since",
        "fails_alone",
    )

    def __init__(self, destination: str, shared: _Shared) -> None:
        self.fails_alone = False
        """Whether it failed after another destination was served: S3 is not down."""
        self._destination = destination
        self._shared = shared
        self.failing_since = 0.0
        """Time of the first failure since the last success."""
        self._served_at: float | None = None
        """Last success of any destination when the attempt began that failed last."""
        self.error: DeliveryError | None = None
        """The last failure since the last success."""
        self.failed_window = ""
        """Which window that was, for people."""
        self._failures = 0
        self._probe_at = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether the destination is broken."""
        return self._failures >= FAILURES_MAX

    @property
    def is_back(self) -> bool:
        """Whether no destination was served while it failed, and one was since: S3 was down."""
        is_served = self._is_while_failing(self._shared.served_at)
        return self.is_open and is_served and not self._is_while_failing(self._served_at)

    def may_hold_up(self, now: float) -> bool:
        """Whether it has failed for so long that others may wait for the memory of its windows.

        When another is served S3 is back: then it has to fail once more.
        """
        return (
            now - self.failing_since >= FAILING_SECONDS_MAX
            and self._served_at == self._shared.served_at
        )

    def pause(self, now: float) -> float:
        """Return the seconds for which no attempt may begin; 0.0: one may begin now."""
        if not self.is_open:
            return 0.0
        if self._is_probing:
            return SECONDS_MAX
        return 0.0 if self.is_back else max(0.0, self._probe_at - now)

    def begin(self) -> bool:
        """Record that an attempt begins; return whether it is a probe."""
        if self.is_open:
            self._is_probing = True
        return self.is_open

    def ended(self, *, is_probe: bool) -> None:
        """Record the end of an attempt that proves nothing about the destination."""
        if is_probe:
            self._is_probing = False

    def succeeded(self) -> None:
        """Record that the destination was served: waiting windows may be tried."""
        self.error = None
        self.fails_alone = False
        if self._shared.opened.get(self._destination) is self:
            del self._shared.opened[self._destination]
        self._failures = 0
        self._is_probing = False

    @property
    def served_at(self) -> float | None:
        """Time of the last success of any destination."""
        return self._shared.served_at

    def failed(
        self,
        error: DeliveryError,
        *,
        is_probe: bool,
        now: float,
        served_at: float | None = None,
        window: str = "",
    ) -> int:
        """Record a failure; return how many there were in a row.

        Args:
            error: The failure.
            is_probe: Result of `begin`.
            now: The present.
            served_at: Value of `served_at` when the attempt began: an attempt without a response
                since S3 was down proves nothing when it ends after others are served again.
            window: The window that was tried, for people.
        """
        self.ended(is_probe=is_probe)
        if not concerns_window(error):
            if self.error is None:
                self.failing_since = now
            self._served_at = served_at
            if self._is_while_failing(served_at):
                self.fails_alone = True
            self.error, self.failed_window = error, window
            self._failures += FAILURES_MAX if error.code in SILENT_CODES else 1
            if self.is_open:
                self._shared.opened[self._destination] = self
                if not self._is_while_failing(self._shared.served_at):
                    self._shared.is_away = True
        return self._failures

    def _is_while_failing(self, served_at: float | None) -> bool:
        return served_at is not None and served_at >= self.failing_since + ALONE_SECONDS_MIN

    def probe_at(self, time: float) -> None:
        """Set when the next attempt may begin, if the breaker is open."""
        self._probe_at = max(self._probe_at, time)


class Wake(Enum):
    """Windows to wake after a destination was served."""

    NONE = auto()
    DESTINATION = auto()
    """Windows of this destination: it had failed before."""
    ALL = auto()
    """Windows of all destinations: S3 may have been down."""


class CircuitBreakers:
    """Circuit breakers of all destinations.

    Args:
        served_seconds_max: How long a success proves that S3 as a whole is not down: longer than a
            window lasts.
    """

    def __init__(self, served_seconds_max: float) -> None:
        self._served_seconds_max = served_seconds_max
        self._shared = _Shared()
        self._by_destination: dict[str, CircuitBreaker] = {}

    def of(self, destination: str) -> CircuitBreaker:
        """Return the breaker of a destination id."""
        if destination not in self._by_destination:
            self._by_destination[destination] = CircuitBreaker(destination, self._shared)
        return self._by_destination[destination]

    def served(self, destination: str, now: float) -> Wake:
        """Record a stored object, or a definite answer; return which windows to wake."""
        shared, breaker = self._shared, self.of(destination)
        wake = Wake.NONE if breaker.error is None else Wake.DESTINATION
        if shared.is_away:
            wake = Wake.ALL
        shared.served_at, shared.is_away = now, False
        breaker.succeeded()
        return wake

    @property
    def opened(self) -> frozenset[str]:
        """Ids of the destinations whose breaker is open, also while S3 as a whole is down."""
        return frozenset(self._opened())

    def keep(self, destinations: Collection[str]) -> None:
        """Forget destinations that are not configured any more and for which no window waits."""
        for id_ in self._by_destination.keys() - destinations:
            if self._by_destination[id_].error is None:
                del self._by_destination[id_]

    def broken(self, now: float) -> frozenset[str]:
        """Return the ids of destinations that fail while others are served.

        If no destination succeeds, S3 is down: none counts as broken, and all windows wait. Nor
        does one count that was not tried again since S3 is back. But a few that fail may hold the
        memory for which the others wait.
        """
        served_at, opened = self._shared.served_at, self._opened()
        if not opened or served_at is None or now - served_at > self._served_seconds_max:
            return frozenset()
        known = len(self._by_destination)
        are_few = len(opened) <= max(1, known // FEW_SHARE) and len(opened) < known
        return frozenset(
            id_ for id_, it in opened.items() if it.fails_alone or (are_few and it.may_hold_up(now))
        )

    def _opened(self) -> dict[str, CircuitBreaker]:
        """Return the open breakers, without those of destinations that were forgotten since."""
        known = self._by_destination
        return {id_: it for id_, it in self._shared.opened.items() if known.get(id_) is it}
