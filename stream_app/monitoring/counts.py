"""Counters of a worker.

Each is increased once a batch, an attempt, a receipt or a commit, never once a record. Outcomes
are counted when their receipt was published, from the receipt's own tally: so they add up with the
receipts. Pure.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from stream_app.core.failing_destinations import FailingDestinations
from stream_app.core.receipt import Receipt, Status
from stream_app.core.unmatched_keys import UnmatchedKeys
from stream_app.monitoring.accumulators import Delays, OutcomeCounts
from stream_app.monitoring.destination_counts import DestinationCounts

STATUSES: Final = (Status.DELIVERED, Status.EMPTY, Status.RETRYING, Status.FAILED)
"""Statuses of the receipts that a worker publishes."""


@dataclass(slots=True)
class Counts:
    """Counters of a worker since its start."""

    events: int = 0
    unmatched_events: int = 0
    """Those of them that no destination matches."""
    unmatched_keys: UnmatchedKeys = field(default_factory=UnmatchedKeys)
    lost_offsets: int = 0
    undecodable_offsets: int = 0
    receipts: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    failed_receipts: int = 0
    failing_receipts: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Receipts whose attempts fail, by id: time of the first one (monotonic), and last error."""
    shortened_receipts: int = 0
    """Receipts that the topic did not take whole."""
    unpublished_receipts: int = 0
    """Receipts that the topic does not take in any form; their windows are settled without."""
    commits: int = 0
    failed_commits: int = 0
    committed_at: float = 0.0
    """Time of the last commit that the broker acknowledged, in seconds since 1970."""
    rebuilt_partitions: int = 0
    stalled_partitions: int = 0
    truncated_logs: int = 0
    delays: Delays = field(default_factory=Delays)
    total: OutcomeCounts = field(default_factory=OutcomeCounts)
    """Of all destinations, removed ones included."""
    destinations: DestinationCounts = field(default_factory=DestinationCounts)
    failing: FailingDestinations = field(default_factory=FailingDestinations)

    def published_receipts(self) -> int:
        """Return the number of receipts that the broker has acknowledged."""
        return sum(self.receipts.values())

    def receipt_failed(self, id_: str, code: str, now: float) -> None:
        """Count an attempt to publish a receipt that has failed."""
        self.failed_receipts += 1
        since, _ = self.failing_receipts.get(id_, (now, code))
        self.failing_receipts[id_] = (since, code)

    def longest_failing(self) -> tuple[float, str] | None:
        """Return since when a receipt could not be published, and its last error; None: none."""
        return min(self.failing_receipts.values(), default=None)

    def receipt_ended(self, id_: str) -> None:
        """Record that a receipt is published, given up, or another worker's."""
        self.failing_receipts.pop(id_, None)

    def published(self, receipt: Receipt, now: float) -> None:
        """Count a receipt that the broker has acknowledged."""
        self.receipts[receipt.status] += 1
        if receipt.status is Status.RETRYING:
            return
        self.delays.add(max(0.0, now - receipt.window_end))
        self.total.add(receipt)
        fails = receipt.status is Status.FAILED or bool(receipt.tally.failed)
        self.destinations.of(receipt.destination, fails=fails).add(receipt)
        self.failing.add(receipt.destination, receipt.tally)

    def attempt_failed(self, destination: str) -> None:
        """Count a request to S3 that has failed."""
        self.total.failed_attempts += 1
        self.destinations.of(destination, fails=True).failed_attempts += 1

    def totals(self) -> dict[str, int]:
        """Return the counts of a summary, over all destinations; they never decrease."""
        total = self.total
        return {
            "events": self.events,
            "unmatched": self.unmatched_events,
            "delivered": total.delivered,
            "skipped": total.skipped,
            "failed": total.failed,
            "given_up": total.given_up,
            "objects": total.objects,
            "bytes": total.object_bytes,
            "receipts": self.published_receipts(),
            "failed_attempts": total.failed_attempts,
        }

    def committed(self, now: float) -> None:
        """Count a commit that the broker has acknowledged."""
        self.commits += 1
        self.committed_at = now

    def keep(self, destinations: Collection[str]) -> None:
        """Drop the counters of removed destinations."""
        self.destinations.keep(destinations)
        self.failing.keep(destinations)
