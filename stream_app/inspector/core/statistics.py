"""A destination's last hour by minute, and how it stands now. Pure: receipts in, figures out."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from stream_app.inspector.outcomes import Entry, counts
from stream_app.inspector.rows import iso
from stream_app.receipts import Status

MINUTES: Final = 60
MINUTE_SECONDS: Final = 60
FIGURES: Final = ("events", "bytes", "objects", "skipped", "failed")


def windows(entries: Iterable[Entry]) -> list[Entry]:
    """Return the receipt that counts of each window, the newest window first."""
    by_window: dict[object, list[Entry]] = {}
    for entry in entries:
        if entry.answers is None:
            by_window.setdefault(entry.source, []).append(entry)
    counting = [counts(it) for it in by_window.values()]
    return sorted(counting, key=_recency, reverse=True)


def failed_windows(counting: Iterable[Entry]) -> list[Entry]:
    """Return those of `windows` that wait for redelivery."""
    return [it for it in counting if it.status is Status.FAILED]


def freshness_seconds(entry: Entry) -> float | None:
    """Return how long after the end of its window a final receipt came."""
    if entry.published_at is None or not entry.is_final:
        return None
    return max(0.0, entry.published_at - entry.window_end)


def window_row(entry: Entry) -> dict[str, Any]:
    """Return a window as a row of a table."""
    return {
        "partition": entry.source.partition,
        "first_offset": entry.source.first_offset,
        "end_offset": entry.source.end_offset,
        "start": iso(entry.window_start),
        "end": iso(entry.window_end),
        "status": str(entry.status),
        "counts": {
            "matched": entry.matched,
            "delivered": entry.delivered,
            "skipped": entry.skipped,
            "failed": entry.failed,
        },
        "key": entry.key,
        "size": entry.size,
        "freshness_seconds": freshness_seconds(entry),
        "error": entry.error,
    }


def summary(
    id_: str,
    pipeline: str | None,
    bucket: str | None,
    prefix: str | None,
    *,
    entries: Sequence[Entry],
    now: float,
    configured: bool,
) -> dict[str, Any]:
    """Return how a destination stands.

    Args:
        id_: Its id.
        pipeline: The key that it takes; None: every event.
        bucket: Where its objects go; None if nobody knows any more.
        prefix: What their keys begin with.
        entries: Its receipts, the oldest first.
        now: Seconds since 1970.
        configured: Whether the configuration still has it.
    """
    counting = windows(entries)
    failed = failed_windows(counting)
    retrying = [it for it in counting if it.status is Status.RETRYING]
    minutes, freshness, start = _minutes(counting, entries, now)
    stored = [it for it in counting if it.is_final and it.key is not None]
    is_served = any(map(sum, (minutes[it] for it in ("events", "objects", "skipped"))))
    state = "delivering" if is_served else "quiet"
    if retrying:
        state = "retrying"
    if failed:
        state = "failed"
    since = min((it.published_at or it.window_end for it in retrying), default=None)
    return {
        "id": id_,
        "pipeline": pipeline,
        "bucket": bucket,
        "prefix": prefix,
        "state": state,
        "retrying_since": None if since is None else iso(since),
        "failed_windows": len(failed),
        "minutes": {"start": iso(start), **minutes, "freshness_seconds": freshness},
        "totals": {it: sum(minutes[it]) for it in FIGURES},
        "last_object": iso(max(it.published_at or it.window_end for it in stored))
        if stored
        else None,
        "configured": configured,
    }


def _minutes(
    counting: Sequence[Entry], entries: Iterable[Entry], now: float
) -> tuple[dict[str, list[int]], list[float | None], int]:
    """Return figures and freshness of each minute, and when the first begins."""
    start = (int(now) // MINUTE_SECONDS - MINUTES + 1) * MINUTE_SECONDS
    figures = {it: [0] * MINUTES for it in FIGURES}
    freshness: list[float | None] = [None] * MINUTES

    def add(entry: Entry, **of: int) -> None:
        minute = (entry.window_start - start) // MINUTE_SECONDS
        if 0 <= minute < MINUTES:
            for name, number in of.items():
                figures[name][minute] += number

    for entry in counting:
        is_stored = entry.is_final and entry.key is not None
        lost = 0 if entry.is_final else entry.delivered
        if entry.status is not Status.RETRYING:
            add(
                entry,
                events=entry.delivered - lost,
                bytes=(entry.size or 0) if is_stored else 0,
                objects=int(is_stored),
                skipped=entry.skipped,
                failed=entry.failed + lost,
            )
        minute = (entry.window_start - start) // MINUTE_SECONDS
        seconds = freshness_seconds(entry)
        if seconds is not None and 0 <= minute < MINUTES:
            freshness[minute] = max(seconds, freshness[minute] or 0.0)
    for entry in entries:
        if entry.answers is not None and entry.is_final:
            # Failed events that were redelivered: they were counted as failed above.
            add(
                entry,
                events=entry.delivered,
                bytes=entry.size or 0,
                objects=int(entry.key is not None),
                skipped=entry.skipped,
                failed=-(entry.delivered + entry.skipped),
            )
    # The window's own receipt may not be held any more.
    figures["failed"] = [max(0, it) for it in figures["failed"]]
    return figures, freshness, start


def _recency(entry: Entry) -> tuple[int, int, int]:
    return entry.window_start, entry.source.partition, entry.source.first_offset
