"""Line finder: finds one line of an object while its bytes arrive, without holding the object.

Pure: bytes in, a line out.
"""

from typing import Final

from stream_app.core.object_format import LINE_END, ObjectFormat

UNPACKED_BYTES_MAX: Final = 256 * 1024 * 1024
FOUND_LINE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Longer than any line that a worker writes."""
PIECE_BYTES: Final = 1024 * 1024
"""Bytes unpacked at a time."""


class LineFinder:
    """Incremental search for one line of an object.

    Args:
        number: Number of the line, from 1.
        format_: The object's.
        unpacked_bytes_max: Bytes that are unpacked at most to find it.
        line_bytes_max: Length of the line at most.
    """

    def __init__(
        self,
        number: int,
        format_: ObjectFormat,
        *,
        unpacked_bytes_max: int = UNPACKED_BYTES_MAX,
        line_bytes_max: int = FOUND_LINE_BYTES_MAX,
    ) -> None:
        self.line: bytes | None = None
        """The line without its newline; None until it is found."""
        self._ends_before = number - 1
        self._unpacked = 0
        self._unpacked_bytes_max = unpacked_bytes_max
        self._line_bytes_max = line_bytes_max
        self._part = bytearray()
        self._decompressor = format_.decompressor(PIECE_BYTES)

    def feed(self, content: bytes) -> bool:
        """Unpack the next bytes of the object; return whether the line was found.

        Raises:
            ValueError: The object has another format, or the line is beyond the bounds.
        """
        for piece in self._decompressor.pieces(content):
            self._unpacked += len(piece)
            if self._search(piece):
                return True
            if self._unpacked > self._unpacked_bytes_max:
                raise ValueError(f"the line is beyond {self._unpacked_bytes_max} unpacked bytes")
        return False

    def _search(self, piece: bytes) -> bool:
        start = 0
        if self._ends_before:
            ends = piece.count(LINE_END)
            if ends < self._ends_before:
                self._ends_before -= ends
                return False
            for _ in range(self._ends_before):
                start = piece.index(LINE_END, start) + 1
            self._ends_before = 0
        end = piece.find(LINE_END, start)
        self._part += piece[start:] if end < 0 else piece[start:end]
        if len(self._part) > self._line_bytes_max:
            raise ValueError(f"the line is longer than {self._line_bytes_max} bytes")
        if end >= 0:
            self.line = bytes(self._part)
        return end >= 0
