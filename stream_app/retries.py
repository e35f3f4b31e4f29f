"""What an answer of S3 means, and how long to wait before asking again.

Transient errors heal by time: they are retried for long, quickly at first. Permanent ones wait
for a person: they are retried too, since a policy takes minutes to arrive, but slowly and not for
long, and then the window is answered by a failed receipt. Delays have full jitter (any length up
to a limit that doubles), so that many windows that failed together do not come back together.

Pure: elapsed time and chance are handed in.
"""

from dataclasses import dataclass
from typing import Final

from stream_app.errors import DeliveryError, PermanentError, TransientError

TRANSIENT_SECONDS_FIRST: Final = 0.5
PERMANENT_SECONDS_FIRST: Final = 5.0
SECONDS_MAX: Final = 60.0
"""No delay is longer: a destination that heals is noticed within a minute."""
DOUBLINGS_MAX: Final = 16
"""Beyond the longest delay by far; keeps the power of two small."""

TRANSIENT_CODES: Final = frozenset(
    {
        "BadDigest",  # damaged on the way
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TokenRefreshRequired",
    }
)
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429})
SERVER_ERROR: Final = 500


def classified(code: str, status: int, message: str) -> DeliveryError:
    """Return what an error answer of S3 means.

    Args:
        code: S3's error code, as in the body of the answer.
        status: The HTTP status; 200 too can carry an error.
        message: S3's words.
    """
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUSES or status >= SERVER_ERROR:
        return TransientError(code, message)
    return PermanentError(code, message)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a window may be tried at one destination, in seconds."""

    retry_for: float
    """For transient errors."""
    give_up_after: float
    """For permanent ones."""

    def delay(
        self, error: DeliveryError, attempts: int, elapsed: float, chance: float
    ) -> float | None:
        """Return the seconds to wait before the next attempt, None to give up.

        Args:
            error: What the last attempt met.
            attempts: How many there were, 1 or more.
            elapsed: Seconds since the first one began.
            chance: A number from 0 up to 1.
        """
        permanent = isinstance(error, PermanentError)
        if elapsed >= (self.give_up_after if permanent else self.retry_for):
            return None
        first = PERMANENT_SECONDS_FIRST if permanent else TRANSIENT_SECONDS_FIRST
        return chance * min(SECONDS_MAX, first * 2.0 ** min(attempts - 1, DOUBLINGS_MAX))
