"""Skew of our clock against S3's, by the `Date` header of responses.

S3 rejects requests that are 15 minutes off, and a worker's clock is in the keys of its objects.

Pure: times are handed in, in seconds since 1970.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

ENDPOINTS_MAX: Final = 100
"""Servers whose last response is kept."""
DATE_LENGTH_MAX: Final = 40
"""Characters of a `Date` that are kept; a valid one has 29."""
ROUNDED_SECONDS: Final = 0.5
"""A `Date` has whole seconds: the true time is this much later, on average."""


class ClockSkew:
    """Last response of each S3 server, for the skew of our clock."""

    def __init__(self) -> None:
        self._responses: dict[str, tuple[str, float]] = {}
        """`Date` and our own time, by endpoint; the newest last."""

    def record(self, endpoint: str, date: str | None, now: float) -> None:
        """Record the `Date` of a response; it is parsed only when a skew is read."""
        if date is None:
            return
        self._responses.pop(endpoint, None)
        while len(self._responses) >= ENDPOINTS_MAX:
            del self._responses[next(iter(self._responses))]
        self._responses[endpoint] = (date[:DATE_LENGTH_MAX], now)

    def seconds(self) -> dict[str, float]:
        """Return our clock minus each server's, by endpoint; without a valid `Date` none."""
        skews = {}
        for endpoint, (date, now) in self._responses.items():
            try:
                server_time = parsedate_to_datetime(date).replace(tzinfo=UTC)
            except ValueError:
                continue
            skews[endpoint] = now - server_time.timestamp() - ROUNDED_SECONDS
        return skews
