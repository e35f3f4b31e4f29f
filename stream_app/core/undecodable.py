"""Wait of a partition at a record batch that cannot be decoded, and its end. Pure."""

from dataclasses import replace
from typing import Final, NamedTuple

from stream_app.core.receipt import Problem
from stream_app.records import Undecodable

UNDECODABLE: Final = "UndecodableBatch"
"""Error code of the receipts of a batch that was passed over."""


class Times(NamedTuple):
    """The present by two clocks."""

    now: float
    """Seconds since 1970."""
    clock: float
    """Seconds of a clock that is never set."""


class PassedOver(NamedTuple):
    """End of the wait at a batch."""

    end: int
    """Offset at which the partition continues."""
    given_up: int
    """Offsets that were given up by it; 0: what becomes of them had been decided before."""


class UndecodableWait(NamedTuple):
    """Wait of a partition at a batch that cannot be decoded."""

    batch: Undecodable
    """As it was found last."""
    since: float
    """When this worker found it first, by a clock that is never set."""

    def after(self, end: int) -> "UndecodableWait | None":
        """Return the wait at what is left of the batch from an offset on; None: nothing is."""
        if self.batch.end is not None and self.batch.end <= end:
            return None
        return self._replace(batch=replace(self.batch, first=end))

    def is_over(self, clock: float, passed_over_at: float | None, seconds: float) -> bool:
        """Whether the batch is to be passed over.

        A batch that is as its producer sent it will not be decoded by waiting. Where the partition
        has waited at another one lately, it does not wait again: a producer that sends such batches
        must not hold it up for good.

        Args:
            clock: The present.
            passed_over_at: When the partition passed over the batch before; None: there was none.
            seconds: Duration of a wait.
        """
        has_waited = passed_over_at is not None and clock - passed_over_at < seconds
        return clock - self.since >= seconds or (self.batch.is_as_sent and has_waited)


def continued(wait: UndecodableWait | None, batch: Undecodable, clock: float) -> UndecodableWait:
    """Return the wait at a batch that was found now, or found again."""
    if wait is None or wait.batch.first != batch.first:
        return UndecodableWait(batch, clock)
    return wait._replace(batch=batch)


def problem(first: int, end: int, reason: str | None) -> Problem:
    """Return the problem of a window that is passed over.

    Args:
        first: Its first offset.
        end: The offset after its last one.
        reason: Why it cannot be decoded; None: an earlier owner of the partition has logged it.
    """
    return Problem(
        UNDECODABLE,
        f"offsets {first} to {end - 1} could not be decoded and were passed over: "
        + (reason or "the worker that did so has logged the reason"),
        retryable=False,
    )
