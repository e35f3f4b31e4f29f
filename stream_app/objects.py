"""What becomes an S3 object: lines, compressed, under a key.

The key is a pure function of topic, partition, the window's first offset, destination and the
recorded upload time, so that whoever rebuilds a window writes to the same place. The bytes are
a pure function of the lines (for one build of isal): the compressor is fed slices of one fixed
size, whatever the batches in which the lines came.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from isal import isal_zlib

SLICE_BYTES: Final = 256 * 1024
"""Lines wait until this much stands: a quiet destination costs its lines, no compressor."""
LEVEL: Final = 1
"""isal's level 1: a tenth of zlib-6's time for 95 % of its ratio."""
CHUNK_OVERHEAD_BYTES: Final = 64
"""What CPython adds to each bytes object that waits in a list."""
COMPRESSOR_BYTES: Final = 84 * 1024
"""What one compressor of isal takes (`sys.getsizeof` of it)."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def identifier(topic: str, partition: int, first_offset: int, destination: str) -> str:
    """Return the 64 hex digits that name a window's object at one destination."""
    name = f"{topic}\0{partition}\0{first_offset}\0{destination}"
    return hashlib.sha256(name.encode()).hexdigest()


def object_key(prefix: str, uploaded_at: int, identifier: str) -> str:
    """Return `[PREFIX]/YYYY/MM/DD/HH/YYYY-MM-DD-HH-MM-SS-IDENTIFIER.gz`, times in UTC.

    A prefix that ends in a slash is not given a second one.
    """
    folder = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    time = datetime.fromtimestamp(uploaded_at, UTC)
    return f"{folder}{time:%Y/%m/%d/%H/%Y-%m-%d-%H-%M-%S}-{identifier}.gz"


class Body:
    """The lines of one object, growing; compressed as soon as a slice is full."""

    __slots__ = (
        "_compressed",
        "_compressor",
        "_waiting",
        "_waiting_bytes",
        "held",
        "lines",
        "size",
    )

    def __init__(self) -> None:
        self.lines = 0
        self.size = 0
        """Bytes of all lines with their newlines, uncompressed."""
        self.held = 0
        """Bytes of memory that this body takes now."""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._compressed: list[bytes] = []
        self._compressor: _Compressor | None = None

    def add(self, payloads: Sequence[bytes]) -> None:
        """Append payloads, each of which becomes one line."""
        chunk = b"\n".join(payloads) + b"\n"
        self.lines += len(payloads)
        self.size += len(chunk)
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        self.held += len(chunk) + CHUNK_OVERHEAD_BYTES
        if self._waiting_bytes >= SLICE_BYTES:
            self._compress_slices()

    def finish(self) -> bytes:
        """Return the gzip member: the same bytes each time; nothing can be added afterwards."""
        if self._waiting:
            compressor = self._compressor or _new_compressor()
            self._compressed.append(compressor.compress(b"".join(self._waiting)))
            self._compressed.append(compressor.flush())
            self._compressor = None
            self._waiting, self._waiting_bytes = [], 0
        if len(self._compressed) > 1:
            self._compressed = [b"".join(self._compressed)]
        self._measure()
        return self._compressed[0]

    def _compress_slices(self) -> None:
        if self._compressor is None:
            self._compressor = _new_compressor()
        text = b"".join(self._waiting)
        whole = len(text) - len(text) % SLICE_BYTES
        for start in range(0, whole, SLICE_BYTES):
            piece = self._compressor.compress(text[start : start + SLICE_BYTES])
            if piece:
                self._compressed.append(piece)
        # The rest stays in the list, be it empty: a body without it counts as finished.
        self._waiting = [text[whole:]]
        self._waiting_bytes = len(text) - whole
        self._measure()

    def _measure(self) -> None:
        self.held = (
            self._waiting_bytes
            + sum(map(len, self._compressed))
            + CHUNK_OVERHEAD_BYTES * (len(self._waiting) + len(self._compressed))
            + (COMPRESSOR_BYTES if self._compressor else 0)
        )


def _new_compressor() -> _Compressor:
    # wbits 31: a gzip member; isal writes no name and a modification time of 0, so a replay
    # does not depend on the clock.
    return isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)
