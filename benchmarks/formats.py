# ruff: noqa: INP001 - a program, no package
"""CPU and size of each format of objects, over the events of the other benchmarks.

The lines of 20,000 events go through the worker's own code, a slice of 256 KiB at a time, and the
objects are read back as the Inspector does. The median of some rounds, in one thread.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig
from stream_app.core.object_body import SLICE_BYTES
from stream_app.core.object_format import FORMATS, ObjectFormat

EVENTS: Final = 20_000
ROUNDS: Final = 7
PIECE_BYTES: Final = 1024 * 1024

Result = TypeVar("Result")


def rows() -> list[list[str]]:
    """Return the table."""
    lines = rig.events(EVENTS)
    text = b"".join(line + b"\n" for line in lines)
    found = [
        [
            "format",
            "bytes an event",
            "of the lines",
            "µs to compress an event",
            "µs to read it back",
        ]
    ]
    for name, format_ in FORMATS.items():
        content, written = _timed(lambda it=format_: _object(it, text))
        back, read = _timed(lambda it=format_, of=content: _lines(it, of))
        if back != text:
            raise RuntimeError(f"{name}: other lines were read back")
        share = f"{len(content) / len(text):.1%}"
        sizes = [f"{len(content) / EVENTS:.0f}", share]
        found.append([f"`{name}`", *sizes, f"{written * 1e6:.2f}", f"{read * 1e6:.2f}"])
    return found


def _object(format_: ObjectFormat, text: bytes) -> bytes:
    view, crc = memoryview(text), 0
    content = [format_.header]
    for start in range(0, len(text), SLICE_BYTES):
        piece = view[start : start + SLICE_BYTES]
        crc = format_.crc(piece, crc)
        content.append(format_.segment(piece))
    return b"".join((*content, format_.trailer(crc, len(text))))


def _lines(format_: ObjectFormat, content: bytes) -> bytes:
    decompressor = format_.decompressor(PIECE_BYTES)
    chunks = (content[it : it + SLICE_BYTES] for it in range(0, len(content), SLICE_BYTES))
    return b"".join(piece for chunk in chunks for piece in decompressor.pieces(chunk))


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return a result, and CPU seconds an event."""
    seconds = []
    for _ in range(ROUNDS):
        began = process_time()
        result = work()
        seconds.append(process_time() - began)
    return result, median(seconds) / EVENTS


if __name__ == "__main__":
    print(rig.as_markdown(rows()))  # noqa: T201 - its purpose
