"""Accumulators of a worker's counters: outcomes of events, and a histogram of delays. Pure."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from stream_app.core.receipt import Receipt, Status

DELAY_BOUNDS_SECONDS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 21600.0)
"""Upper bounds of the histogram's buckets; the last bucket has none."""


@dataclass(slots=True)
class OutcomeCounts:
    """Outcomes of the events of one destination, or of all."""

    delivered: int = 0
    skipped: int = 0
    failed: int = 0
    """Events whose expression threw."""
    given_up: int = 0
    """Events with a payload whose window has a `failed` receipt."""
    objects: int = 0
    object_bytes: int = 0
    """Compressed bytes."""
    line_bytes: int = 0
    failed_attempts: int = 0
    """Requests to S3 that failed; each is retried, or its window given up."""

    def add(self, receipt: Receipt) -> None:
        """Add the tally of a final receipt."""
        tally = receipt.tally
        self.skipped += tally.skipped_count
        self.failed += len(tally.failed)
        if receipt.status is Status.FAILED:
            self.given_up += tally.delivered
            return
        self.delivered += tally.delivered
        if receipt.stored is not None:
            self.objects += 1
            self.object_bytes += receipt.stored.size or 0
            self.line_bytes += receipt.size_uncompressed


@dataclass(slots=True)
class Delays:
    """Histogram of seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DELAY_BOUNDS_SECONDS) + 1))
    """Of each bucket, not cumulative; the one without a bound is the last."""
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one delay."""
        self.counts[bisect_left(DELAY_BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds
