"""Records for unit tests."""

from collections.abc import Sequence
from dataclasses import dataclass

MINUTE = 1_795_537_860
"""2026-11-24T16:31:00Z."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A record as a consumer returns it."""

    offset: int = 42
    timestamp: int = MINUTE * 1000
    """Milliseconds since 1970; -1 for none."""
    key: bytes | None = b"orders"
    value: bytes | None = b"1"
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = 0
