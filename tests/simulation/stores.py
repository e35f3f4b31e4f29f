"""Stores of other kinds, and other builds of the compressor."""

import random
from dataclasses import dataclass
from typing import Any

from stream_app.config.settings import Destination
from stream_app.core.object_format import GZIP, ObjectFormat
from tests.simulation.storage import HEAD_FIELDS

EMPTY_BLOCK = b"\0\0\0\xff\xff"
"""A stored block of deflate without a byte."""
EMPTY_FRAME = b"\x50\x2a\x4d\x18" + bytes(4)
"""A skippable frame of zstd without a byte."""


@dataclass(frozen=True, slots=True)
class Compressor:
    """A build of the compressor: each makes other bytes, and more of them, of the same lines."""

    build: int

    def __call__(self, format_: ObjectFormat, text: memoryview) -> bytes:
        """Return lines compressed as one segment, with some empty blocks or frames behind."""
        nothing = EMPTY_BLOCK if format_ is GZIP else EMPTY_FRAME
        return format_.segment(text) + nothing * self.build


def other_store(seed: int, destinations: tuple[Destination, ...]) -> dict[str, Any]:
    """Draw what a store refuses or leaves out, and whether compressors differ; see `Scenario`."""
    chance = random.Random(f"store {seed}")
    builds = chance.random() < 0.3
    # Without a size nobody can see that an object in parts is of another build.
    answers = [HEAD_FIELDS, HEAD_FIELDS[:1], *(() if builds else (HEAD_FIELDS[1:], ()))]
    return {
        "losing": chance.choice(destinations).bucket if chance.random() < 0.1 else None,
        "builds": builds,
        "head_fields": chance.choice(answers),
    }
