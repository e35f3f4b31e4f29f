"""How far our clock is from S3's, by the `Date` of its answers.

S3 refuses requests that are 15 minutes off, and a worker's clock is in the keys of its objects.

Pure: the present is handed in, in seconds since 1970.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

PLACES_MAX: Final = 100
"""Servers whose last answer is kept."""
DATE_LENGTH_MAX: Final = 40
"""A right one has 29 characters."""
ROUNDED_SECONDS: Final = 0.5
"""A `Date` has whole seconds: the true time is this much later, on average."""


class ClockSkew:
    """The last answer of each S3 server."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[str, float]] = {}
        """`Date` and our own time, by place; the newest last."""

    def answered(self, place: str, date: str | None, now: float) -> None:
        """Note that a server has just answered; it is read only when somebody asks."""
        if date is None:
            return
        self._answers.pop(place, None)
        while len(self._answers) >= PLACES_MAX:
            del self._answers[next(iter(self._answers))]
        self._answers[place] = (date[:DATE_LENGTH_MAX], now)

    def seconds(self) -> dict[str, float]:
        """Return by how much our clock is ahead of each server whose `Date` is one."""
        ahead = {}
        for place, (date, now) in self._answers.items():
            try:
                theirs = parsedate_to_datetime(date).replace(tzinfo=UTC)
            except ValueError:
                continue  # a server without a readable clock has no value
            ahead[place] = now - theirs.timestamp() - ROUNDED_SECONDS
        return ahead
