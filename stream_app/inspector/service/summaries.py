"""Summaries of all destinations, shared by every page that requests them.

    request ─> fresh? ─ yes ─> the bytes
                     └─ no ──> computed in a thread; the former bytes if that takes long

A destination whose receipts and minute are the same is not summarized again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from stream_app.inspector.core.error_groups import ErrorGroups
from stream_app.inspector.core.health import Brief, failing_of
from stream_app.inspector.core.index import Entry, EventStatus, Index
from stream_app.inspector.core.rows import iso_or_none
from stream_app.inspector.core.statistics import (
    MINUTE_SECONDS,
    answers_by_window,
    destination_summary,
    effective_receipts,
    failed_windows,
    last_failed_event,
    redelivered_offsets,
    window_row,
)
from stream_app.inspector.service.config_watcher import ConfigWatcher

LISTED_DESTINATIONS_MAX: Final = 10_000
"""Destinations of one response."""
GROUPED_DESTINATIONS_MAX: Final = 100
"""Failing destinations whose errors are grouped together."""
CACHED_ERRORS_MAX: Final = 3 * GROUPED_DESTINATIONS_MAX
"""Destinations whose errors are cached, once for each status."""
SUMMARIES_SECONDS: Final = 2.0
"""Time for which the response about all destinations is cached."""
STALE_SECONDS_MAX: Final = 30.0
"""Age up to which the former response is given if a new one takes long."""
WAIT_SECONDS: Final = 0.05
"""Time to wait for the new one first."""


@dataclass(frozen=True, slots=True)
class DestinationReceipts:
    """Receipts of one destination, to be summarized in any thread."""

    id: str
    pipeline: str | None
    bucket: str | None
    prefix: str | None
    entries: tuple[Entry, ...]
    is_configured: bool

    def summary(self, now: float) -> dict[str, Any]:
        """Return state and figures of the last hour."""
        return destination_summary(
            self.id,
            self.pipeline,
            self.bucket,
            self.prefix,
            entries=self.entries,
            now=now,
            configured=self.is_configured,
        )

    def details(self, now: float, *, windows_max: int) -> dict[str, Any]:
        """Return the summary with its windows and its errors."""
        effective = effective_receipts(self.entries)
        answers = answers_by_window(self.entries)
        redelivered = redelivered_offsets(answers)
        groups = ErrorGroups()
        groups.add(effective, redelivered)
        return self.summary(now) | {
            "windows": [
                window_row(it, answers.get(it.source, ())) for it in effective[:windows_max]
            ],
            "failed": [window_row(it) for it in failed_windows(effective)[:windows_max]],
            "errors": groups.documents(),
            "last_failed": last_failed_event(effective, redelivered),
        }

    def errors(self, status: EventStatus | None) -> ErrorGroups:
        """Return the errors of the events that are not delivered."""
        groups = ErrorGroups(status)
        redelivered = redelivered_offsets(answers_by_window(self.entries))
        groups.add(effective_receipts(self.entries), redelivered)
        return groups

    @property
    def version(self) -> object:
        """Equal as long as the summary of one minute is."""
        ends = (self.entries[0].id, self.entries[-1].id) if self.entries else ()
        fields = self.pipeline, self.bucket, self.prefix, self.is_configured
        return len(self.entries), ends, fields


class Summaries(NamedTuple):
    """Summaries of all destinations at one time."""

    at: float
    document: bytes
    briefs: Sequence[Brief]


@dataclass(slots=True)
class _Cached:
    version: object
    fragment: bytes
    brief: Brief


class SummaryCache:
    """Cache of the summaries of all destinations.

    Args:
        index: Index of receipts.
        config: Destinations of the configuration.
        clock: Returns the seconds since 1970.
    """

    def __init__(
        self, index: Index, config: ConfigWatcher, clock: Callable[[], float] = time.time
    ) -> None:
        self._index = index
        self._config = config
        self._clock = clock
        self._latest: Summaries | None = None
        self._by_id: dict[str, _Cached] = {}
        self._running: asyncio.Task[Summaries] | None = None
        self._errors_lock = asyncio.Lock()
        self._errors: dict[tuple[str, EventStatus | None], tuple[object, ErrorGroups | None]] = {}
        """By destination and status, the least recently used first."""

    async def get(self) -> Summaries:
        """Return the summaries, or the former ones if new ones take longer than `WAIT_SECONDS`."""
        latest = self._latest
        age = STALE_SECONDS_MAX if latest is None else self._clock() - latest.at
        if latest is not None and 0 <= age < SUMMARIES_SECONDS:
            return latest
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._compute())
        if latest is not None and 0 <= age < STALE_SECONDS_MAX:
            await asyncio.wait({self._running}, timeout=WAIT_SECONDS)
            if not self._running.done():
                return latest
        return await asyncio.shield(self._running)

    def receipts_of(self, id_: str) -> DestinationReceipts:
        """Return the receipts of a destination, with its settings as far as they are known."""
        destination = self._config.destinations.get(id_)
        entries = tuple(self._index.of_destination(id_))
        if destination is not None:
            return DestinationReceipts(
                id_,
                destination.pipeline,
                destination.bucket,
                destination.prefix,
                entries,
                is_configured=True,
            )
        last = entries[-1] if entries else None
        return DestinationReceipts(
            id_,
            last.pipeline if last else None,
            last.bucket if last else None,
            None,
            entries,
            is_configured=False,
        )

    async def errors(
        self, status: EventStatus | None, destination: str | None
    ) -> list[dict[str, Any]]:
        """Return the errors of one destination, or of those that fail, grouped by text."""
        if destination is None:
            failing = failing_of((await self.get()).briefs)
            ids = [it.id for it in failing[:GROUPED_DESTINATIONS_MAX]]
        else:
            ids = [destination]
        receipts = [self.receipts_of(it) for it in ids]
        async with self._errors_lock:
            return await asyncio.to_thread(self._merged_errors, receipts, status)

    def _merged_errors(
        self, receipts: Sequence[DestinationReceipts], status: EventStatus | None
    ) -> list[dict[str, Any]]:
        merged = ErrorGroups()
        for it in receipts:
            version, known = self._errors.pop((it.id, status), (None, None))
            if known is None or version != it.version:
                version, known = it.version, it.errors(status)
            self._errors[it.id, status] = version, known
            merged.merge(known)
        while len(self._errors) > CACHED_ERRORS_MAX:
            self._errors.pop(next(iter(self._errors)), None)
        return merged.documents()

    async def _compute(self) -> Summaries:
        now = self._clock()
        ids = self._index.destinations()[:LISTED_DESTINATIONS_MAX]
        receipts = [self.receipts_of(it) for it in ids]
        self._latest = await asyncio.to_thread(
            self._summaries, receipts, self._index.oldest_at, now
        )
        return self._latest

    def _summaries(
        self, receipts: Sequence[DestinationReceipts], oldest: float | None, now: float
    ) -> Summaries:
        minute = now // MINUTE_SECONDS
        cached = {}
        for it in receipts:
            version = minute, it.version
            known = self._by_id.get(it.id)
            if known is None or known.version != version:
                summary = it.summary(now)
                known = _Cached(version, orjson.dumps(summary), Brief.of(summary))
            cached[it.id] = known
        self._by_id = cached
        document = {
            "destinations": [orjson.Fragment(it.fragment) for it in cached.values()],
            "since": iso_or_none(oldest),
        }
        return Summaries(now, orjson.dumps(document), [it.brief for it in cached.values()])
