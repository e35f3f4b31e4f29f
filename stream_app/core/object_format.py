"""Formats of an object: lines of JSON, compressed. The only module that knows them.

    gzip: header │ segment │ segment │ … │ trailer        one member
    zstd:          segment │ segment │ …                  a frame for each segment

A segment is a run of lines compressed by itself: it refers to no other one and ends at a byte, so
segments can be made in any thread and put one behind the other. Its bytes are a pure function of
its lines (for one build of the compressor), and the header has no time: a rebuilt object is the
same. No receipt relies on that: it describes the object that exists.

Pure.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import cramjam
from isal import isal_zlib

from stream_app.config.settings import Destination, FormatName

LINE_END: Final = b"\n"
GZIP_LEVEL: Final = 1
"""isal's level 1: a tenth of zlib-6's time for 95 % of its ratio."""
ZSTD_LEVEL: Final = 1
"""Smaller objects than GZIP_LEVEL makes, in as much time; level 3 takes twice the time."""
FRAME_TEXT_BYTES_MAX: Final = 1024 * 1024
"""Most bytes of lines in a frame of zstd; a segment has less. A reader allocates as many."""

_RAW: Final = -15
"""Window bits of zlib: deflate with the largest history, and no header or trailer."""
_GZIP: Final = 31
"""Window bits of zlib: gzip."""
_LAST_BLOCK: Final = b"\x03\0"
"""An empty last block of deflate."""
_ZSTD_MAGIC: Final = 0xFD2FB528
_SKIPPABLE_MAGIC: Final = 0x184D2A50
"""The least of 16 numbers with which frames begin that have no text (RFC 8878, 3.1.2)."""
_MAGIC_BYTES: Final = 4
_EMPTY_FRAME: Final = bytes.fromhex("28b52ffd2000010000")
_FRAME_BYTES_MAX: Final = FRAME_TEXT_BYTES_MAX + 64 * 1024
"""Text that cannot be compressed, and headers."""


class Decompressor(ABC):
    """Decompressor of an object whose bytes arrive in any pieces.

    Args:
        piece_bytes_max: Most bytes that are decompressed at a time.
    """

    def __init__(self, piece_bytes_max: int) -> None:
        self._piece_bytes_max = piece_bytes_max

    @abstractmethod
    def pieces(self, content: bytes) -> Iterator[bytes]:
        """Yield the lines' bytes that the next bytes of the object contain.

        Raises:
            ValueError: The object has another format.
        """


class ObjectFormat(ABC):
    """Format of an object."""

    suffix: ClassVar[str]
    """End of every object key."""
    content_type: ClassVar[str]
    """Content type of a destination without one of its own."""
    header: ClassVar[bytes]

    @abstractmethod
    def segment(self, text: memoryview) -> bytes:
        """Return lines compressed as one segment."""

    @abstractmethod
    def decompressed(self, content: bytes) -> bytes:
        """Return the lines of one segment."""

    @abstractmethod
    def crc(self, text: memoryview, before: int) -> int:
        """Return the running checksum of lines that the trailer has, after those before them."""

    @abstractmethod
    def trailer(self, crc: int, size: int) -> bytes:
        """Return the end of an object, from checksum and size in bytes of all its lines."""

    @abstractmethod
    def decompressor(self, piece_bytes_max: int) -> Decompressor:
        """Return a decompressor of an object."""

    @abstractmethod
    def without_lines(self, size: int, comment: str) -> bytes:
        """Return an object without lines, which readers find empty; a comment fills it.

        Args:
            size: Bytes of the object, or a few more for a long comment.
            comment: ASCII text.
        """


class _Gzip(ObjectFormat):
    suffix = ".gz"
    content_type = "application/gzip"
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    """Without a name and without a modification time (RFC 1952, 2.3)."""

    def segment(self, text: memoryview) -> bytes:
        compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _RAW)
        compressed: bytes = compressor.compress(text) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
        return compressed

    def decompressed(self, content: bytes) -> bytes:
        text: bytes = isal_zlib.decompressobj(_RAW).decompress(content)
        return text

    def crc(self, text: memoryview, before: int) -> int:
        checksum: int = isal_zlib.crc32(text, before)
        return checksum

    def trailer(self, crc: int, size: int) -> bytes:
        return _LAST_BLOCK + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")

    def decompressor(self, piece_bytes_max: int) -> Decompressor:
        return _GzipDecompressor(piece_bytes_max)

    def without_lines(self, size: int, comment: str) -> bytes:
        # No file name, no time, and a comment up to the next zero byte (RFC 1952).
        header = b"\x1f\x8b\x08\x10" + bytes(4) + b"\x00\xff"
        text, end = comment.encode("ascii"), b"\x00" + self.trailer(0, 0)
        return header + text + b"-" * (size - len(header) - len(text) - len(end)) + end


class _GzipDecompressor(Decompressor):
    def __init__(self, piece_bytes_max: int) -> None:
        super().__init__(piece_bytes_max)
        self._member: Any = zlib.decompressobj(_GZIP)

    def pieces(self, content: bytes) -> Iterator[bytes]:
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


class _Zstd(ObjectFormat):
    suffix = ".zst"
    content_type = "application/zstd"
    header = b""

    def segment(self, text: memoryview) -> bytes:
        return bytes(cramjam.zstd.compress(text, level=ZSTD_LEVEL))

    def decompressed(self, content: bytes) -> bytes:
        return bytes(cramjam.zstd.decompress(content))

    def crc(self, text: memoryview, before: int) -> int:  # noqa: ARG002 - there is no trailer
        return 0

    def trailer(self, crc: int, size: int) -> bytes:  # noqa: ARG002 - there is none
        return b""

    def decompressor(self, piece_bytes_max: int) -> Decompressor:
        return _ZstdDecompressor(piece_bytes_max)

    def without_lines(self, size: int, comment: str) -> bytes:
        # Some readers end at the first frame, and some need one.
        text = comment.encode("ascii")
        fill = size - len(_EMPTY_FRAME) - 2 * _MAGIC_BYTES - len(text)
        text += b"-" * fill
        length = len(text).to_bytes(4, "little")
        return _EMPTY_FRAME + _SKIPPABLE_MAGIC.to_bytes(4, "little") + length + text


class _ZstdDecompressor(Decompressor):
    """Decompressor of frames that state the size of their text, as `_Zstd.segment` makes them."""

    def __init__(self, piece_bytes_max: int) -> None:
        super().__init__(piece_bytes_max)
        self._waiting = b""

    def pieces(self, content: bytes) -> Iterator[bytes]:
        self._waiting += content
        try:
            while (frame := _frame(self._waiting)) is not None:
                end, size = frame
                text = bytearray(size)
                if size:
                    cramjam.zstd.decompress_into(self._waiting[:end], text)
                self._waiting = self._waiting[end:]
                for start in range(0, size, self._piece_bytes_max):
                    yield bytes(text[start : start + self._piece_bytes_max])
        except (ValueError, cramjam.DecompressionError) as error:
            raise ValueError(f"the object is not zstd: {error}") from error


def _frame(content: bytes) -> tuple[int, int] | None:
    """Return the end of the first frame, and the bytes of its text; None if its end is missing.

    Raises:
        ValueError: It is no frame, has too much text, or does not state how much.
    """
    try:
        end, size = _walk(content)
    except IndexError:
        end, size = len(content) + 1, 0
    if end > _FRAME_BYTES_MAX or size > FRAME_TEXT_BYTES_MAX:
        raise ValueError(f"a frame has more than {FRAME_TEXT_BYTES_MAX} bytes")
    return None if end > len(content) else (end, size)


def _walk(content: bytes) -> tuple[int, int]:
    """Return where the first frame ends, perhaps behind the content, and the bytes of its text.

    Raises:
        IndexError: The content ends before it is known.
        ValueError: See `_frame`.
    """
    if len(content) <= _MAGIC_BYTES:
        raise IndexError
    magic, descriptor = int.from_bytes(content[:_MAGIC_BYTES], "little"), content[_MAGIC_BYTES]
    if magic & ~0xF == _SKIPPABLE_MAGIC:
        begin = 2 * _MAGIC_BYTES
        return begin + _number(content, _MAGIC_BYTES, _MAGIC_BYTES), 0
    if magic != _ZSTD_MAGIC:
        raise ValueError(f"a frame begins with {content[:_MAGIC_BYTES].hex()}")
    # RFC 8878, 3.1.1.1: flags, a window's size unless there is one segment, a dictionary, a size.
    is_single = descriptor >> 5 & 1
    at = _MAGIC_BYTES + 1 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
    if not size_bytes:
        raise ValueError("a frame does not state the size of its text")
    size = _number(content, at, size_bytes) + (256 if size_bytes == 2 else 0)  # noqa: PLR2004
    at += size_bytes
    is_last = False
    while not is_last:
        block = _number(content, at, 3)
        is_last, is_run = bool(block & 1), block >> 1 & 3 == 1
        at += 3 + (1 if is_run else block >> 3)
    return at + 4 * (descriptor >> 2 & 1), size


def _number(content: bytes, at: int, count: int) -> int:
    if at + count > len(content):
        raise IndexError
    return int.from_bytes(content[at : at + count], "little")


GZIP: Final = _Gzip()
FORMATS: Final[Mapping[FormatName, ObjectFormat]] = {"gzip": GZIP, "zstd": _Zstd()}
"""Every format, by the name of a destination's setting."""


def content_type_of(destination: Destination) -> str:
    """Return the content type of a destination's objects."""
    return destination.content_type or FORMATS[destination.format].content_type


def format_of(key: str) -> ObjectFormat:
    """Return the format of the object with this key.

    Raises:
        ValueError: No format has its end.
    """
    for it in FORMATS.values():
        if key.endswith(it.suffix):
            return it
    raise ValueError(f"{key} ends with none of {', '.join(it.suffix for it in FORMATS.values())}")
