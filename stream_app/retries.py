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
        "TemporaryRedirect",  # the name of a fresh bucket is not known everywhere yet
        "Throttling",
        "ThrottlingException",
        "TokenRefreshRequired",
        "XAmzContentSHA256Mismatch",  # damaged on the way
    }
)
PERMANENT_CODES: Final = frozenset({"AccessDenied", "NoSuchBucket", "NotImplemented"})
"""Whatever the status: botocore makes a 500 of an error within an answer 200, and a server that
does not know a header of ours says 501, today and tomorrow."""
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429})
SERVER_ERROR: Final = 500


def classified(code: str, status: int, message: str) -> DeliveryError:
    """Return what an error answer of S3 means.

    Args:
        code: S3's error code, as in the body of the answer.
        status: The HTTP status; 200 too can carry an error.
        message: S3's words.
    """
    if code in PERMANENT_CODES:
        return PermanentError(code, message)
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

    def pause(self, error: DeliveryError, attempts: int, chance: float) -> float:
        """Return the seconds to wait after so many attempts, 1 or more.

        `error` is what the last one met, `chance` a number from 0 up to 1.
        """
        permanent = isinstance(error, PermanentError)
        first = PERMANENT_SECONDS_FIRST if permanent else TRANSIENT_SECONDS_FIRST
        return chance * min(SECONDS_MAX, first * 2.0 ** min(attempts - 1, DOUBLINGS_MAX))

    def bound(self, error: DeliveryError) -> float:
        """Return the seconds for which such an error is put up with."""
        return self.give_up_after if isinstance(error, PermanentError) else self.retry_for
