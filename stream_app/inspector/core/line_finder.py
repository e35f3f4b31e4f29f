"""Finding one line of an object while its bytes come in, without holding the object.

Pure: bytes in, a line out.
"""

import zlib
from typing import Final

UNPACKED_BYTES_MAX: Final = 256 * 1024 * 1024
LINE_BYTES_MAX: Final = 8 * 1024 * 1024
"""More than any payload has."""
PIECE_BYTES: Final = 1024 * 1024
"""Unpacked at a time."""
_GZIP: Final = 31
"""zlib's number for the format."""
_END: Final = b"\n"


class LineFinder:
    """Unpacks up to a line.

    Args:
        number: Of the line, from 1.
        unpacked_bytes_max: So much is unpacked for it.
        line_bytes_max: So long may it be.
    """

    def __init__(
        self,
        number: int,
        *,
        unpacked_bytes_max: int = UNPACKED_BYTES_MAX,
        line_bytes_max: int = LINE_BYTES_MAX,
    ) -> None:
        self.line: bytes | None = None
        """It, without its end, once it was found."""
        self._ends_before = number - 1
        self._unpacked = 0
        self._unpacked_bytes_max = unpacked_bytes_max
        self._line_bytes_max = line_bytes_max
        self._part = bytearray()
        self._unpacker = zlib.decompressobj(_GZIP)

    def feed(self, content: bytes) -> bool:
        """Take the next bytes of the object; return whether the line was found.

        Raises:
            ValueError: This is no gzip, or the line is beyond the bounds.
        """
        is_full = False
        while content or is_full:
            if self._unpacker.eof:
                self._unpacker = zlib.decompressobj(_GZIP)
            try:
                piece = self._unpacker.decompress(content, PIECE_BYTES)
            except zlib.error as error:
                raise ValueError(f"the object is no gzip: {error}") from error
            content = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            # It can have taken all of the content, and still have a piece to give.
            is_full = len(piece) == PIECE_BYTES and not self._unpacker.eof
            self._unpacked += len(piece)
            if self._search(piece):
                return True
            if self._unpacked > self._unpacked_bytes_max:
                raise ValueError(f"the line is beyond {self._unpacked_bytes_max} bytes unpacked")
        return False

    def _search(self, piece: bytes) -> bool:
        start = 0
        if self._ends_before:
            ends = piece.count(_END)
            if ends < self._ends_before:
                self._ends_before -= ends
                return False
            for _ in range(self._ends_before):
                start = piece.index(_END, start) + 1
            self._ends_before = 0
        end = piece.find(_END, start)
        self._part += piece[start:] if end < 0 else piece[start:end]
        if len(self._part) > self._line_bytes_max:
            raise ValueError(f"the line is longer than {self._line_bytes_max} bytes")
        if end >= 0:
            self.line = bytes(self._part)
        return end >= 0
