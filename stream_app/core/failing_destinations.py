"""Failing destinations: those whose events fail beyond a share, though their objects are written.

    closed ── receipt published: matched, failed ─> last minutes ── share > FAILING_SHARE ─> failing

An event fails at a destination if its payload cannot be computed. Its window is delivered without
it, so neither a circuit breaker nor a late window shows it. Counted are the windows of the last
minutes, from the first one with a failed event on: a destination without any costs nothing. Pure.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from stream_app.core.receipt import Tally
from stream_app.text import percent

FAILING_MINUTES: Final = 10
"""Minutes whose windows are counted, by when their receipts were published."""
FAILING_SHARE: Final = 0.01
"""Share of failed events beyond which a destination begins to fail; it ends at half of that."""
FAILED_EVENTS_MIN: Final = 3
"""Failed events from which a share counts. Fewer are enough where no event succeeds."""
MINUTE_SECONDS: Final = 60.0
ERROR_LENGTH_MAX: Final = 300
"""Characters that are kept of an error."""


@dataclass(slots=True)
class _Recent:
    """Counts of one destination, by minute."""

    minutes: deque[list[int]] = field(default_factory=lambda: deque([[0, 0]], FAILING_MINUTES))
    """Events and failed events, the newest minute last."""
    error: str = ""

    def add(self, tally: Tally) -> None:
        minute = self.minutes[-1]
        minute[0] += tally.matched
        minute[1] += len(tally.failed)
        if tally.failed:
            self.error = tally.failed[-1][2][:ERROR_LENGTH_MAX]


@dataclass(slots=True)
class FailingDestination:
    """A destination that is failing, with the counts of the last minutes."""

    destination: str
    since: float
    events: int = 0
    failed: int = 0
    error: str = ""
    """Error of the event that failed last."""

    @property
    def share(self) -> str:
        """The share of failed events as text."""
        return percent(self.failed, self.events)


class FailingDestinations:
    """Destinations with failed events, and which of them are failing."""

    def __init__(self) -> None:
        self.failing: dict[str, FailingDestination] = {}
        self._recent: dict[str, _Recent] = {}
        self._changed: set[str] = set()
        """Destinations with a window since the last check."""
        self._minute_began: float | None = None

    def add(self, destination: str, tally: Tally) -> None:
        """Count a closed window of a destination."""
        recent = self._recent.get(destination)
        if recent is None:
            if not tally.failed:
                return
            recent = self._recent[destination] = _Recent()
        recent.add(tally)
        self._changed.add(destination)

    def check(self, now: float) -> tuple[list[FailingDestination], list[FailingDestination]]:
        """Return the destinations that have begun to fail, and those that have ended.

        Args:
            now: The present, in seconds of a monotonic clock.
        """
        if self._minute_began is None:
            self._minute_began = now
        if now - self._minute_began >= MINUTE_SECONDS:
            self._minute_began = now
            for recent in self._recent.values():
                recent.minutes.append([0, 0])
            self._changed.update(self._recent)
        begun, ended = [], []
        for destination in sorted(self._changed):
            known = self.failing.pop(destination, None)
            found = known or FailingDestination(destination, now)
            recent = self._recent[destination]
            found.events, found.failed = map(sum, zip(*recent.minutes, strict=True))
            found.error = recent.error
            if _is_failing(found.events, found.failed, was_failing=known is not None):
                self.failing[destination] = found
                if known is None:
                    begun.append(found)
            elif known is not None:
                ended.append(known)
            if not found.failed:
                del self._recent[destination]
        self._changed.clear()
        return begun, ended

    def keep(self, destinations: Collection[str]) -> None:
        """Forget destinations that are not configured any more."""
        for counted in (self._recent, self.failing):
            for id_ in counted.keys() - destinations:
                del counted[id_]
        self._changed.intersection_update(destinations)

    def worst(self) -> Sequence[FailingDestination]:
        """Return those that are failing, the greatest share first."""
        return sorted(self.failing.values(), key=lambda it: it.failed / it.events, reverse=True)


def _is_failing(events: int, failed: int, *, was_failing: bool) -> bool:
    share = FAILING_SHARE / 2 if was_failing else FAILING_SHARE
    is_enough = failed >= FAILED_EVENTS_MIN or failed == events
    return failed > 0 and is_enough and failed > share * events
