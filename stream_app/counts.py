"""What a worker has done since it began, counted where it is done.

Pure: numbers only.
"""

from dataclasses import dataclass

from stream_app.receipts import Receipt, Status


@dataclass(slots=True)
class Counts:
    """All since the worker began; each only grows."""

    events: int = 0
    """Taken out of Kafka, those that are read again included."""
    delivered: int = 0
    """Lines of objects; an event counts once for each destination, here and in the next three."""
    skipped: int = 0
    failed: int = 0
    """Expressions that gave no payload."""
    given_up: int = 0
    """Lines of windows that were given up."""
    objects: int = 0
    bytes: int = 0
    """Of these objects, compressed."""
    receipts: int = 0
    """All that the broker has, those that tell of a late window included."""
    retries: int = 0
    """Attempts to write an object, or parts of it, that failed."""

    def published(self, receipt: Receipt) -> None:
        """Count a receipt that the broker has, and what it tells."""
        self.receipts += 1
        if receipt.status is Status.RETRYING:
            return
        tally = receipt.tally
        self.skipped += tally.skipped_count
        self.failed += len(tally.failed)
        if receipt.stored is None:
            self.given_up += tally.delivered
        else:
            self.delivered += tally.delivered
            self.objects += 1
            self.bytes += receipt.stored.size
