"""Filter of events: by text, by pipeline, by outcome, by destination.

The outcome of an event is known from receipts alone, so a filter by outcome also names the offsets
where such events can be: others are not read.

Pure: receipts in, runs of offsets out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from stream_app.core.receipt import Status
from stream_app.inspector.core.cursors import Run
from stream_app.inspector.core.index import Entry, EventOutcome, EventStatus, receipt_lists
from stream_app.inspector.core.rows import TextSearch

UNMATCHED: Final = "unmatched"
"""The outcome of an event that no destination takes."""
OUTCOMES: Final = (*map(str, EventStatus), UNMATCHED)
NEAR_OFFSETS: Final = 256
"""Offsets between two runs that are read as one."""
LISTED_RECEIPTS_MAX: Final = 500
"""Receipts whose lists narrow their window, the newest; of older ones the whole window is read."""


class EventFilter(NamedTuple):
    """Filter of the events that a page shows."""

    search: str = ""
    pipeline: str | None = None
    outcome: str | None = None
    """One of `OUTCOMES`."""
    destination: str | None = None
    """At which the outcome is; None: at any."""

    @property
    def by_outcome(self) -> bool:
        """Whether receipts decide."""
        return self.outcome is not None or self.destination is not None

    def compiled(self) -> TextSearch | None:
        """Return the search for text and pipeline; None: every event matches."""
        if not self.search and self.pipeline is None:
            return None
        return TextSearch(self.search, self.pipeline)

    def takes(self, outcomes: Mapping[str, EventOutcome]) -> bool:
        """Return whether the outcomes of an event match."""
        if self.outcome == UNMATCHED:
            return not outcomes
        if self.destination is None:
            return any(it.status == self.outcome for it in outcomes.values())
        found = outcomes.get(self.destination)
        return found is not None and self.outcome in {None, found.status}


def runs_with(outcome: str | None, entries: Sequence[Entry]) -> dict[int, list[Run]] | None:
    """Return the runs of offsets, by partition, that hold every event with an outcome.

    Args:
        outcome: The outcome.
        entries: Receipts, the oldest first.

    Returns:
        Ascending runs; they hold other events too. None: such events can be anywhere.
    """
    if outcome not in {EventStatus.FAILED, EventStatus.RETRYING, EventStatus.SKIPPED}:
        return None
    runs: dict[int, list[Run]] = {}
    listed = 0
    for it in reversed(entries):
        if not _may_hold(it, outcome):
            continue
        is_listed = it.is_final and listed < LISTED_RECEIPTS_MAX
        listed += is_listed
        found = _listed(it, outcome) if is_listed else [_window(it)]
        runs.setdefault(it.source.partition, []).extend(found)
    return {partition: _merged(sorted(of_partition)) for partition, of_partition in runs.items()}


def _may_hold(entry: Entry, outcome: str | None) -> bool:
    if outcome == EventStatus.SKIPPED:
        return entry.skipped > 0
    if outcome == EventStatus.RETRYING:
        return entry.status is Status.RETRYING
    return entry.failed > 0 or entry.status is Status.FAILED


def _listed(entry: Entry, outcome: str | None) -> Iterable[Run]:
    """Return runs around the events that a receipt lists with an outcome."""
    lists = receipt_lists(entry.value)
    if outcome == EventStatus.SKIPPED:
        return [Run(first, last + 1) for first, last in lists.skipped]
    return [Run(it, it + 1) for it in lists.failed]


def _window(entry: Entry) -> Run:
    return Run(entry.source.first_offset, entry.source.end_offset)


def _merged(runs: Sequence[Run]) -> list[Run]:
    merged: list[Run] = []
    for it in runs:
        if merged and it.first <= merged[-1].end + NEAR_OFFSETS:
            merged[-1] = Run(merged[-1].first, max(merged[-1].end, it.end))
        else:
            merged.append(it)
    return merged
