"""Retry policy: delays between attempts, and how long a window is retried.

Transient errors pass with time: they are retried for long, quickly at first. Permanent ones need a
person: they are retried too, since a policy takes minutes to take effect, but slowly and not for
long, and then a `failed` receipt answers the window. Delays have full jitter (any length up to a
limit that doubles), so that many windows that failed together are not retried together.

Pure: elapsed time and chance are handed in.
"""

from dataclasses import dataclass
from typing import Final

from stream_app.errors import DeliveryError, PermanentError

TRANSIENT_SECONDS_FIRST: Final = 0.5
PERMANENT_SECONDS_FIRST: Final = 5.0
SECONDS_MAX: Final = 60.0
"""Longest delay: a destination that works again is noticed within a minute."""
DOUBLINGS_MAX: Final = 16
"""Far beyond the longest delay; keeps the power of two small."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry policy of one window at one destination, in seconds."""

    retry_for: float
    """How long to retry after transient errors."""
    give_up_after: float
    """How long to retry after permanent errors."""

    def pause(self, error: DeliveryError, attempts: int, chance: float) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            error: Of the last attempt.
            attempts: How many were made, 1 or more.
            chance: A number from 0 up to 1.
        """
        permanent = isinstance(error, PermanentError)
        first = PERMANENT_SECONDS_FIRST if permanent else TRANSIENT_SECONDS_FIRST
        return chance * min(SECONDS_MAX, first * 2.0 ** min(attempts - 1, DOUBLINGS_MAX))

    def bound(self, error: DeliveryError) -> float:
        """Return for how many seconds such an error is retried."""
        return self.give_up_after if isinstance(error, PermanentError) else self.retry_for
