"""Statistics of a destination: its last hour by minute, and its state.

Pure: receipts in, figures out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from stream_app.core.receipt import Source, Status
from stream_app.inspector.core.error_groups import cause_of, commonest_error
from stream_app.inspector.core.index import Entry, effective_receipt, receipt_lists
from stream_app.inspector.core.rows import iso_milliseconds, iso_or_none
from stream_app.text import percent

MINUTES: Final = 60
MINUTE_SECONDS: Final = 60
FIGURES: Final = ("events", "bytes", "objects", "skipped", "failed")
OUTCOMES: Final = ("events", "skipped", "failed")
"""Figures that add up to the events that the destination matched."""


def effective_receipts(entries: Iterable[Entry]) -> list[Entry]:
    """Return the effective receipt of each window, the newest window first."""
    by_window: dict[object, list[Entry]] = {}
    for entry in entries:
        if entry.answers is None:
            by_window.setdefault(entry.source, []).append(entry)
    effective = [effective_receipt(it) for it in by_window.values()]
    return sorted(effective, key=_recency, reverse=True)


def failed_windows(effective: Iterable[Entry]) -> list[Entry]:
    """Return those of `effective_receipts` whose windows were given up and not redelivered."""
    return [it for it in effective if it.status is Status.FAILED]


def freshness_seconds(entry: Entry) -> float | None:
    """Return the time from the end of a window until it was delivered; None if it is not.

    That is when its object was stored; without an object, or where the receipt does not say it,
    when the receipt was published.
    """
    at = entry.published_at if entry.stored_at is None else entry.stored_at
    return max(0.0, at - entry.window_end) if entry.is_final and at is not None else None


def answers_by_window(entries: Iterable[Entry]) -> dict[Source, list[Entry]]:
    """Return the receipts of failed events that were redelivered, by window."""
    found: dict[Source, list[Entry]] = {}
    for it in entries:
        if it.answers is not None and it.is_final:
            found.setdefault(it.source, []).append(it)
    return found


def redelivered_offsets(answers: Mapping[Source, Iterable[Entry]]) -> dict[Source, set[int]]:
    """Return the offsets of failed events that were redelivered and did not fail again."""
    return {
        source: {
            offset
            for it in of_window
            for offset in (it.answers or frozenset()) - receipt_lists(it.value).failed.keys()
        }
        for source, of_window in answers.items()
    }


def last_failed_event(
    effective: Iterable[Entry], redelivered: Mapping[Source, set[int]]
) -> str | None:
    """Return the newest event whose payload could not be computed: `partition@offset`."""
    for it in effective:
        if it.failed:
            offsets = receipt_lists(it.value).failed.keys() - redelivered.get(it.source, set())
            if offsets:
                return f"{it.source.partition}@{max(offsets)}"
    return None


def window_row(entry: Entry, answers: Iterable[Entry] = ()) -> dict[str, Any]:
    """Return the table row of a window; `answers` deliver some of its failed events."""
    cause = None if entry.error is None else cause_of(entry.error)
    counts = entry.counts
    objects = int(entry.is_final and entry.key is not None)
    for it in answers:
        counts["delivered"] += it.delivered
        counts["skipped"] += it.skipped
        counts["failed"] = max(0, counts["failed"] - it.delivered - it.skipped)
        objects += int(it.key is not None)
    return {
        "partition": entry.source.partition,
        "first_offset": entry.source.first_offset,
        "end_offset": entry.source.end_offset,
        "start": iso_milliseconds(entry.window_start),
        "end": iso_milliseconds(entry.window_end),
        "status": str(entry.status),
        "counts": counts,
        "objects": objects,
        "key": entry.key,
        "size": entry.size,
        "freshness_seconds": freshness_seconds(entry),
        "error": cause and cause.text,
        "waits_for": cause and cause.waits_for,
    }


def destination_summary(
    id_: str,
    pipeline: str | None,
    bucket: str | None,
    prefix: str | None,
    *,
    entries: Sequence[Entry],
    now: float,
    configured: bool,
) -> dict[str, Any]:
    """Return state and figures of a destination.

    Args:
        id_: Id of the destination.
        pipeline: Key of the events that it matches; None: every event.
        bucket: Bucket of its objects; None if no longer known.
        prefix: Prefix of their keys.
        entries: Its receipts, the oldest first.
        now: Seconds since 1970.
        configured: Whether the destination is in the configuration.
    """
    effective = effective_receipts(entries)
    failed = failed_windows(effective)
    retrying = [it for it in effective if it.status is Status.RETRYING]
    undelivered = [it for it in (*failed, *retrying) if it.matched]
    minutes, freshness, start = _minutes(effective, entries, now)
    stored = [it for it in effective if it.is_final and it.key is not None]
    totals = {it: sum(minutes[it]) for it in FIGURES}
    is_served = any(totals[it] for it in ("events", "objects", "skipped"))
    state = "delivering" if is_served else "quiet"
    if totals["failed"]:
        state = "degraded"
    if retrying:
        state = "retrying"
    if failed:
        state = "failed"
    since = min((it.closed_at or it.window_end for it in retrying), default=None)
    oldest = min(undelivered, key=lambda it: it.window_start, default=None)
    return {
        "id": id_,
        "pipeline": pipeline,
        "bucket": bucket,
        "prefix": prefix,
        "state": state,
        "cause": _cause(state, failed, retrying, effective),
        "retrying_since": iso_or_none(since),
        "failed_windows": len(failed),
        "retrying_windows": len(retrying),
        "retrying_events": sum(it.undelivered for it in retrying),
        "oldest_undelivered": oldest and _position(oldest),
        "is_refused": bool(effective and effective[0].undelivered),
        "minutes": {"start": iso_milliseconds(start), **minutes, "freshness_seconds": freshness},
        "totals": totals,
        "failing": percent(totals["failed"], sum(totals[it] for it in OUTCOMES)),
        "last_object": iso_or_none(
            max((it.stored_at or it.published_at or it.window_end for it in stored), default=None)
        ),
        "configured": configured,
    }


def _cause(
    state: str, failed: Sequence[Entry], retrying: Sequence[Entry], effective: Sequence[Entry]
) -> str | None:
    """Return in one line why a destination does not deliver; None if it does."""
    if state == "degraded":
        return next((it for it in map(commonest_error, effective) if it is not None), None)
    # The windows behind the one that is tried quote its error.
    late = [*failed[:1], *reversed(retrying)]
    errors = [it.error for it in late if it.error is not None]
    return cause_of(errors[0]).text if errors else None


def _position(entry: Entry) -> dict[str, Any]:
    return {
        "start": iso_milliseconds(entry.window_start),
        "partition": entry.source.partition,
        "first_offset": entry.source.first_offset,
    }


def _minutes(
    effective: Sequence[Entry], entries: Iterable[Entry], now: float
) -> tuple[dict[str, list[int]], list[float | None], int]:
    """Return figures and freshness of each minute, and the start of the first."""
    start = (int(now) // MINUTE_SECONDS - MINUTES + 1) * MINUTE_SECONDS
    figures = {it: [0] * MINUTES for it in FIGURES}
    freshness: list[float | None] = [None] * MINUTES

    def add(entry: Entry, **numbers: int) -> None:
        minute = (entry.window_start - start) // MINUTE_SECONDS
        if 0 <= minute < MINUTES:
            for name, number in numbers.items():
                figures[name][minute] += number

    for entry in effective:
        is_stored = entry.is_final and entry.key is not None
        if entry.status is not Status.RETRYING:
            add(
                entry,
                events=entry.delivered,
                bytes=(entry.size or 0) if is_stored else 0,
                objects=int(is_stored),
                skipped=entry.skipped,
                failed=entry.failed + entry.undelivered,
            )
        minute = (entry.window_start - start) // MINUTE_SECONDS
        seconds = freshness_seconds(entry)
        if seconds is not None and 0 <= minute < MINUTES:
            freshness[minute] = max(seconds, freshness[minute] or 0.0)
    for entry in entries:
        if entry.answers is not None and entry.is_final:
            # Failed events that were redelivered: they are counted as failed above.
            add(
                entry,
                events=entry.delivered,
                bytes=entry.size or 0,
                objects=int(entry.key is not None),
                skipped=entry.skipped,
                failed=-(entry.delivered + entry.skipped),
            )
    # The window's own receipt may be evicted already.
    figures["failed"] = [max(0, it) for it in figures["failed"]]
    return figures, freshness, start


def _recency(entry: Entry) -> tuple[int, int, int]:
    return entry.window_start, entry.source.partition, entry.source.first_offset
