"""Format of an object: lines of JSON in one gzip member. The only module that knows it.

    header │ segment │ segment │ … │ trailer

A segment is a run of lines compressed by itself: it refers to no other one and ends at a byte, so
segments can be made in any thread and put one behind the other. Its bytes are a pure function of
its lines (for one build of isal), and the header has no time: a rebuilt object is the same. No
receipt relies on that: it describes the object that exists.

Pure.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final

from isal import isal_zlib

SUFFIX: Final = ".gz"
"""End of every object key."""
CONTENT_TYPE: Final = "application/gzip"
"""Default of a destination's `content_type`."""
LINE_END: Final = b"\n"
HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""gzip header without a name and without a modification time (RFC 1952, 2.3)."""
LEVEL: Final = 1
"""isal's level 1: a tenth of zlib-6's time for 95 % of its ratio."""

_RAW: Final = -15
"""Window bits of zlib: deflate with the largest history, and no header or trailer."""
_GZIP: Final = 31
"""Window bits of zlib: gzip."""
_LAST_BLOCK: Final = b"\x03\0"
"""An empty last block of deflate."""


def segment(text: memoryview) -> bytes:
    """Return lines compressed as one segment."""
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW)
    compressed: bytes = compressor.compress(text) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
    return compressed


def decompressed(content: bytes) -> bytes:
    """Return the lines of one segment."""
    text: bytes = isal_zlib.decompressobj(_RAW).decompress(content)
    return text


def crc(text: memoryview, before: int) -> int:
    """Return the CRC-32 of lines, continuing from the CRC of the lines before them."""
    checksum: int = isal_zlib.crc32(text, before)
    return checksum


def trailer(crc: int, size: int) -> bytes:
    """Return the end of an object, from CRC and size in bytes of all its lines (RFC 1952, 2.3)."""
    return _LAST_BLOCK + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


class Decompressor:
    """Decompressor of an object whose bytes arrive in any pieces.

    Args:
        piece_bytes_max: Most bytes that are decompressed at a time.
    """

    def __init__(self, piece_bytes_max: int) -> None:
        self._piece_bytes_max = piece_bytes_max
        self._member: Any = zlib.decompressobj(_GZIP)

    def pieces(self, content: bytes) -> Iterator[bytes]:
        """Yield the lines' bytes that the next bytes of the object contain.

        Raises:
            ValueError: The object is not gzip.
        """
        is_more = False
        while content or is_more:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            try:
                piece = self._member.decompress(content, self._piece_bytes_max)
            except zlib.error as error:
                raise ValueError(f"the object is not gzip: {error}") from error
            content = self._member.unconsumed_tail or self._member.unused_data
            # All of the content may have been consumed with another piece still to come.
            is_more = len(piece) == self._piece_bytes_max and not self._member.eof
            yield piece
