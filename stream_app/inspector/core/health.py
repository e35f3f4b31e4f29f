"""Health of all destinations at a glance: what fails, since when, and why.

Pure: summaries of destinations in, one document out.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from stream_app.core.pipeline_names import PipelineNames
from stream_app.inspector.core.statistics import OUTCOMES
from stream_app.text import counted

FAILING: Final = ("failed", "retrying", "degraded")
"""States in which events are not delivered, the worst first."""
RATE_MINUTES: Final = 5
"""Last minutes, of which the newest with a receipt is shown as the rate: windows last a minute."""
FAILED: Final = OUTCOMES.index("failed")
CHOICES_MAX: Final = 500
"""Names that a filter suggests."""
SHOWN_FAILING_MAX: Final = 3
"""Failing destinations that the health names."""


class Brief(NamedTuple):
    """What the health needs of one destination."""

    id: str
    pipeline: str | None
    state: str
    cause: str | None
    since: str | None
    """Start of its oldest window that is not delivered."""
    window: Mapping[str, Any] | None
    is_refused: bool
    """Whether S3 did not take its newest window."""
    retrying: int
    totals: tuple[int, ...]
    """`OUTCOMES` in the last hour."""
    last_minutes: tuple[int, ...]
    """Events delivered in each of the last `RATE_MINUTES`."""

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Self:
        """Return what is needed of a destination's summary."""
        window = summary["oldest_undelivered"]
        return cls(
            summary["id"],
            summary["pipeline"],
            summary["state"],
            summary["cause"],
            window and window["start"],
            window,
            summary["is_refused"],
            summary["retrying_events"],
            tuple(summary["totals"][it] for it in OUTCOMES),
            tuple(summary["minutes"]["events"][-RATE_MINUTES:]),
        )

    @property
    def rank(self) -> tuple[int, str, str]:
        """Order among the failing: the worst state first, then the oldest window."""
        return FAILING.index(self.state), self.since or "~", self.id


class Unmatched(NamedTuple):
    """Events of a sample that no destination takes."""

    events: int
    examined: int
    """Events of the sample, the newest of the topic."""
    note: str | None
    """Why, by the commonest key."""


def unmatched_of(keys: Sequence[bytes | None], pipelines: Collection[str | None]) -> Unmatched:
    """Return how many of these keys no destination takes."""
    taken = {None if it is None else it.encode(errors="surrogatepass") for it in pipelines}
    if None in taken:
        return Unmatched(0, len(keys), None)
    missed = Counter(it for it in keys if it not in taken)
    if not missed:
        return Unmatched(0, len(keys), None)
    (commonest, _), *_ = missed.most_common(1)
    return Unmatched(missed.total(), len(keys), PipelineNames(pipelines).unmatched(commonest))


def failing_of(destinations: Iterable[Brief]) -> list[Brief]:
    """Return the destinations whose events are not delivered, the worst first."""
    return sorted((it for it in destinations if it.state in FAILING), key=lambda it: it.rank)


def choices_document(destinations: Iterable[Brief]) -> dict[str, list[tuple[str, str]]]:
    """Return the names that filters suggest, each with its events in the last hour.

    Destinations with failed events come first, then those with the most events.
    """
    by_failed = sorted(destinations, key=lambda it: (-it.totals[FAILED], -sum(it.totals), it.id))
    pipelines: dict[str, int] = {}
    for it in by_failed:
        if it.pipeline is not None:
            pipelines[it.pipeline] = max(pipelines.get(it.pipeline, 0), sum(it.totals))
    busiest = sorted(pipelines.items(), key=lambda it: (-it[1], it[0]))
    return {
        "destinations": [(it.id, _events_text(it)) for it in by_failed[:CHOICES_MAX]],
        "pipelines": [
            (name, f"{counted(events, 'event')} in the hour")
            for name, events in busiest[:CHOICES_MAX]
        ],
    }


def _events_text(it: Brief) -> str:
    failed = it.totals[FAILED]
    events = f"{counted(sum(it.totals), 'event')} in the hour"
    return f"{failed} failed of {events}" if failed else events


def health_document(
    destinations: Sequence[Brief], unmatched: Unmatched | None, mistakes: Sequence[str]
) -> dict[str, Any]:
    """Return the health of all destinations.

    Args:
        destinations: All of them.
        unmatched: Of the newest events; None if they could not be read.
        mistakes: Why the configuration is not taken.
    """
    failing = failing_of(destinations)
    waiting = [it for it in failing if it.since is not None]
    oldest = min(waiting, key=lambda it: (it.since or "", it.id), default=None)
    refused = [it for it in failing if it.is_refused]
    rates = _sums([it.last_minutes for it in destinations])
    totals = _sums([it.totals for it in destinations])
    return {
        "destinations": len(destinations),
        "states": Counter(it.state for it in destinations),
        "failing": [
            {"id": it.id, "state": it.state, "cause": it.cause}
            for it in failing[:SHOWN_FAILING_MAX]
        ],
        "delivered_a_minute": next((it for it in reversed(rates) if it), 0),
        "totals": dict(zip(OUTCOMES, totals or [0] * len(OUTCOMES), strict=True))
        | {"retrying": sum(it.retrying for it in destinations)},
        "oldest_undelivered": oldest and {"destination": oldest.id, **(oldest.window or {})},
        "refused": len(refused),
        "unmatched": unmatched and unmatched._asdict(),
        "configuration_mistakes": mistakes,
    }


def _sums(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the sum of each column."""
    return [sum(column) for column in zip(*rows, strict=True)]
