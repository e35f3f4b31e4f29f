"""Which destinations are broken, and what a window may do at one: try, wait, or give up.

    closed ── FAILURES_MAX failures in a row, or no answer at all ──> open
      ^                                                                 │
      └──── success ──── a probe: one attempt at a time, after a delay ─┘

While a destination is closed each of its windows is tried on its own. While it is open the windows
wait, one probes, and its success lets all of them go: a dead destination is probed, not hammered.
When nobody at all was served, S3 is away: then the first success sends everybody to probe at once.

Pure: time and chance are handed in. Times are seconds of any one steady clock.
"""

from collections.abc import Collection
from enum import Enum, auto
from math import inf
from typing import Final

from stream_app.errors import DeliveryError
from stream_app.retries import SECONDS_MAX, Patience

FAILURES_MAX: Final = 3
"""Failures in a row that open a breaker."""
SILENT_CODES: Final = frozenset({"ConnectTimeoutError", "ReadTimeoutError", "TimeoutError"})
"""Such an attempt has held a place among the uploads for long: one is enough."""
WINDOW_CODES: Final = frozenset({"EntityTooLarge", "ObjectDiffers", "ObjectVanished"})
"""What one window meets, and says nothing of the others."""


ALONE_SECONDS_MIN: Final = 5.0
"""So long after its first failure another must have been served, and it must fail again. Before,
it may be S3 as a whole that goes away, with answers still on their way."""


FAILING_SECONDS_MAX: Final = 20.0
"""So long it may fail before that counts as well: what it holds may be why nobody is served."""
FEW_SHARE: Final = 4
"""That counts only where at most a quarter of the destinations fail; if more do, it is S3."""


class _Served:
    """When any destination was served last."""

    at: float | None = None
    is_away = False
    """Whether one is broken since before that: it may be S3 as a whole."""


class Breaker:
    """One destination's.

    Args:
        served: When any destination was served last.
    """

    def __init__(self, served: _Served) -> None:
        self.fails_alone = False
        """It has failed after another one was served, so it is not that S3 is away."""
        self._served = served
        self.failing_since = 0.0
        """When it failed first since it was served last."""
        self._served_at: float | None = None
        """When anyone was served last as the attempt began that has failed last."""
        self.error: DeliveryError | None = None
        """The last failure since the last success."""
        self._failures = 0
        self._probe_at = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether the destination is broken."""
        return self._failures >= FAILURES_MAX

    @property
    def is_back(self) -> bool:
        """Whether nobody was served while it failed, and somebody was since: S3 was away."""
        is_served = self._is_while_failing(self._served.at)
        return self.is_open and is_served and not self._is_while_failing(self._served_at)

    def may_hold_up(self, now: float) -> bool:
        """Whether it fails for so long, and nobody was served since, that others may wait for it.

        When others are served again S3 is back: then it has to fail once more.
        """
        return (
            now - self.failing_since >= FAILING_SECONDS_MAX and self._served_at == self._served.at
        )

    def pause(self, now: float) -> float:
        """Return the seconds for which no attempt may begin; 0.0 for none."""
        if not self.is_open:
            return 0.0
        if self._is_probing:
            return SECONDS_MAX
        return 0.0 if self.is_back else max(0.0, self._probe_at - now)

    def begin(self) -> bool:
        """Note that an attempt begins; return whether it is a probe."""
        if self.is_open:
            self._is_probing = True
        return self.is_open

    def ended(self, *, is_probe: bool) -> None:
        """Note that an attempt has ended that tells nothing of the destination."""
        if is_probe:
            self._is_probing = False

    def succeeded(self) -> None:
        """Note an object that is there: whoever waits may go."""
        self.error = None
        self.fails_alone = False
        self._failures = 0
        self._is_probing = False

    @property
    def served_at(self) -> float | None:
        """When any destination was served last."""
        return self._served.at

    def failed(
        self, error: DeliveryError, *, is_probe: bool, now: float, served_at: float | None = None
    ) -> int:
        """Note a failure; return how many there were in a row.

        Args:
            error: The failure.
            is_probe: What `begin` said.
            now: The time.
            served_at: What `served_at` was when the attempt began: one that hangs since S3 was away
                says nothing against its destination when it ends after others are served again.
        """
        self.ended(is_probe=is_probe)
        if error.code not in WINDOW_CODES:
            if self.error is None:
                self.failing_since = now
            self._served_at = served_at
            if self._is_while_failing(served_at):
                self.fails_alone = True
            self.error = error
            self._failures += FAILURES_MAX if error.code in SILENT_CODES else 1
            if self.is_open and not self._is_while_failing(self._served.at):
                self._served.is_away = True
        return self._failures

    def _is_while_failing(self, served_at: float | None) -> bool:
        return served_at is not None and served_at >= self.failing_since + ALONE_SECONDS_MIN

    def probe_at(self, time: float) -> None:
        """Say when the next attempt may begin, if the breaker is open."""
        self._probe_at = max(self._probe_at, time)


class Wake(Enum):
    """Whose windows need not wait any more, now that a destination was served."""

    NOBODY = auto()
    DESTINATION = auto()
    """Its own: it had failed before."""
    ALL = auto()
    """S3 may have been away."""


class Breakers:
    """Those of all destinations.

    Args:
        served_seconds_max: How long a success of another destination says that it is not S3 as a
            whole which is away: more than a window lasts.
    """

    def __init__(self, served_seconds_max: float) -> None:
        self._served_seconds_max = served_seconds_max
        self._served = _Served()
        self._by_destination: dict[str, Breaker] = {}

    def of(self, destination: str) -> Breaker:
        """Return the breaker of a destination id."""
        if destination not in self._by_destination:
            self._by_destination[destination] = Breaker(self._served)
        return self._by_destination[destination]

    def served(self, destination: str, now: float) -> Wake:
        """Note an object that is there; return who need not wait any more."""
        served, breaker = self._served, self.of(destination)
        wake = Wake.NOBODY if breaker.error is None else Wake.DESTINATION
        if served.is_away:
            wake = Wake.ALL
        served.at, served.is_away = now, False
        breaker.succeeded()
        return wake

    @property
    def opened(self) -> frozenset[str]:
        """The destinations that are broken, be it S3 as a whole or they alone."""
        return frozenset(id_ for id_, it in self._by_destination.items() if it.is_open)

    def keep(self, destinations: Collection[str]) -> None:
        """Forget destinations that are no more, but for those that windows may still wait for."""
        for id_ in [id_ for id_ in self._by_destination if id_ not in destinations]:
            if self._by_destination[id_].error is None:
                del self._by_destination[id_]

    def broken(self, now: float) -> frozenset[str]:
        """Return the destinations that fail while others are served.

        When none is served S3 is away: then everything waits, and it is nobody's fault. Nor is it
        when S3 is back and they have not been tried again. But a few that fail may hold the memory
        that the others wait for.
        """
        served_at = self._served.at
        if served_at is None or now - served_at > self._served_seconds_max:
            return frozenset()
        known = len(self._by_destination)
        opened = {id_: it for id_, it in self._by_destination.items() if it.is_open}
        are_few = len(opened) <= max(1, known // FEW_SHARE) and len(opened) < known
        return frozenset(
            id_ for id_, it in opened.items() if it.fails_alone or (are_few and it.may_hold_up(now))
        )


class Step(Enum):
    """What a window does next at its destination."""

    TRY = auto()
    WAIT = auto()
    """For `Course.pause` seconds, or until the destination was served or windows were shed."""
    TELL = auto()
    """It is late: publish a `retrying` receipt, once."""
    GIVE_UP = auto()


class Course:
    """The attempts of one window at its destination.

    Args:
        breaker: The destination's.
        patience: How long to go on.
        late_seconds: After so long it is late.
        now: When it became due.
    """

    def __init__(
        self, breaker: Breaker, patience: Patience, late_seconds: float, now: float
    ) -> None:
        self.attempts = 0
        self.pause = 0.0
        self.error: DeliveryError | None = None
        """What stands in the way: while the destination is broken, what its probes meet."""
        self._breaker = breaker
        self._patience = patience
        self._late_seconds = late_seconds
        self._due_at = now
        self._again_at = now
        self._has_told = False
        self._has_just_failed = False
        self._is_probe = False
        self._served_at: float | None = None
        """When anyone was served last as the attempt began."""

    def step(self, now: float, *, is_shed: bool) -> Step:
        """Return what to do now.

        Args:
            now: The time.
            is_shed: It stands in the way of others: it is given up if its destination is broken.
        """
        breaker, elapsed = self._breaker, now - self._due_at
        if breaker.is_open:
            self.error = breaker.error
        elif breaker.error is None and not self._has_just_failed:
            self._again_at = now  # The destination was served since.
        if breaker.is_back:
            self._again_at = now
        if self.error is not None:
            if self._is_over(self.error, elapsed, is_shed=is_shed):
                return Step.GIVE_UP
            if elapsed >= self._late_seconds and not self._has_told:
                self._has_told = True
                return Step.TELL
        self._has_just_failed = False
        self.pause = max(self._again_at - now, breaker.pause(now))
        if self.error is None or self.pause <= 0:  # Whoever must wait has an error to wait for.
            return Step.TRY
        self.pause = min(self.pause, self._until_more(self.error) - elapsed)
        return Step.WAIT

    def _is_over(self, error: DeliveryError, elapsed: float, *, is_shed: bool) -> bool:
        """Whether to give up; a window of a destination that is served has its attempt first."""
        if self._breaker.is_open and is_shed:
            return True
        return (self._breaker.is_open or self._has_just_failed) and elapsed >= self._patience.bound(
            error
        )

    def _until_more(self, error: DeliveryError) -> float:
        """Return the seconds from when it was due until something else than an attempt is due."""
        late = inf if self._has_told else self._late_seconds
        return min(late, self._patience.bound(error) if self._breaker.is_open else inf)

    def begin(self) -> bool:
        """Note that an attempt begins; return whether it is a probe."""
        self._is_probe = self._breaker.begin()
        self._served_at = self._breaker.served_at
        return self._is_probe

    @property
    def is_barred(self) -> bool:
        """Whether the destination broke while the attempt waited for its place."""
        return self._breaker.is_open and not self._is_probe

    def ended(self) -> None:
        """Note that the attempt has ended without an outcome."""
        self._breaker.ended(is_probe=self._is_probe)

    def failed(self, error: DeliveryError, now: float, chance: float) -> None:
        """Note that the attempt has failed; `chance` is a number from 0 up to 1."""
        self.error = error
        self.attempts += 1
        self._has_just_failed = True
        failures = self._breaker.failed(
            error, is_probe=self._is_probe, now=now, served_at=self._served_at
        )
        pause = self._patience.pause(error, max(self.attempts, failures), chance)
        self._again_at = now + pause
        self._breaker.probe_at(self._again_at)
