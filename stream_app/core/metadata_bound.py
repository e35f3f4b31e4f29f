"""Metadata bound: bytes of closings that a commit may carry, by the settings and by the broker.

A broker refuses a commit whose metadata exceeds its `offset.metadata.max.bytes`, and names no
number. So the bound is learned: a refusal shows that the limit is below what was sent. Windows
beyond the bound wait, closed or open, and what is recorded already is delivered meanwhile. After
`LEARNED_SECONDS` more is tried again, as the limit may have been raised. Pure.
"""

import sys
from bisect import bisect_right
from dataclasses import replace
from typing import Final

from stream_app.config.settings import OFFSET_METADATA_BYTES_MIN
from stream_app.core.commit_metadata import CLOSING_BYTES_MAX, Commit, encode
from stream_app.errors import SetupError

NOTHING_REFUSED: Final = sys.maxsize
LEARNED_SECONDS: Final = 3600.0
"""Time for which a refusal counts. The next one costs a few commits that are sent again at once."""


class MetadataBound:
    """Bound of the metadata of each partition's commit.

    Args:
        bytes_max: The bound by the settings.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        """Closings are added up to this size."""
        self._set_bytes_max = bytes_max
        self._refused = NOTHING_REFUSED
        """The smallest size that the broker is known to refuse."""
        self._learned_at: float | None = None
        """Time of the first check since the last refusal."""

    @property
    def is_learned(self) -> bool:
        """Whether the broker has refused a commit."""
        return self._refused != NOTHING_REFUSED

    def learn(self, refused: int, confirmed: int) -> None:
        """Lower the bound after a refusal.

        Args:
            refused: Size of the largest metadata of the request.
            confirmed: Size of the largest metadata that the broker has. It does not count where it
                is no smaller: the limit was lowered since.

        Raises:
            SetupError: The broker's limit leaves no room for closings; nothing was changed.
        """
        if refused <= OFFSET_METADATA_BYTES_MIN:
            raise SetupError(
                f"Kafka refuses a commit with {refused} bytes of metadata; set the broker's "
                f"offset.metadata.max.bytes to {OFFSET_METADATA_BYTES_MIN} at least, better to its "
                "default of 4096"
            )
        self._refused = min(self._refused, refused)
        self._learned_at = None
        reached = confirmed if confirmed < refused else 0
        self.bytes_max = min(self.bytes_max, max(refused // 2, reached, OFFSET_METADATA_BYTES_MIN))

    def expire(self, now: float) -> bool:
        """Return to the bound by the settings if the last refusal was long ago; return whether.

        Args:
            now: The present, in seconds since 1970.
        """
        if self.is_learned and self._learned_at is None:
            self._learned_at = now
        if self._learned_at is None or now - self._learned_at < LEARNED_SECONDS:
            return False
        self.bytes_max, self._refused = self._set_bytes_max, NOTHING_REFUSED
        self._learned_at = None
        return True

    def fit(self, commit: Commit, recorded: int) -> Commit | None:
        """Return the commit without the newest closings that have no room.

        Args:
            commit: Offset and all closings beyond it.
            recorded: How many of the closings the broker has. These stay, whatever the bound.

        Returns:
            None if the broker is known to refuse what is recorded: it is sent when it is less.
        """
        closings = commit.closings
        if (len(closings) + 1) * CLOSING_BYTES_MAX <= self.bytes_max:
            return commit

        def size(count: int) -> int:
            return size_of(replace(commit, closings=closings[:count]))

        if size(len(closings)) <= self.bytes_max:
            return commit
        counts = range(recorded, len(closings) + 1)
        count = counts[max(0, bisect_right(counts, self.bytes_max, key=size) - 1)]
        fitting = replace(commit, closings=closings[:count])
        return None if size_of(fitting) >= self._refused else fitting


def size_of(commit: Commit) -> int:
    """Return the bytes of a commit's metadata."""
    return len(encode(commit))
