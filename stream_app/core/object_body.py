"""Body of one object: lines that wait, segments of them, and parts that are uploaded early.

    payloads ─> lines that wait ─> segments ─┬─ at the end ───────────> one content
                 (slices)   object_format    └─ while it is open ─────> parts of one size and a rest

A *slice* is a fixed number of bytes of lines, whatever the batches in which the lines came, and one
slice becomes one segment: a rebuilt object must have the same bytes, since S3 compares checksums.
So lines that are less than a slice are only *packed* when memory is short, and unpacked when their
slice is full. No compressor lives between two slices.

All parts of an object but the last have one size, to the byte: some stores refuse others. The first
part fixes it, so memory that is short makes smaller parts only of what has none yet. Pure.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from typing import Any, Final

from stream_app.core.memory_account import MemoryAccount
from stream_app.core.object_format import GZIP, LINE_END, ObjectFormat
from stream_app.errors import InvariantError

SLICE_BYTES: Final = 256 * 1024
"""Size of a slice: until it is full, a quiet destination costs its lines and no compressor."""
COPIED_BYTES_MAX: Final = 32 * 1024
"""Payloads added together are joined if they are fewer bytes; more are compressed soon anyway."""
CHUNK_OVERHEAD_BYTES: Final = 64
"""Overhead in CPython of each bytes object in a list."""
BLOCK_BYTES: Final = 2 * 1024 * 1024
"""Bytes of segments that are moved together into memory of their own. As a hundred small pieces
between those of other objects they would leave holes that nothing else fits into."""
PART_BYTES: Final = 8 * 1024 * 1024
"""Size of a part, compressed: it is uploaded while the window is open."""
PART_BYTES_MIN: Final = 5 * 1024 * 1024
"""Smallest part that S3 accepts, except for the last one."""
PARTS_MAX: Final = 10_000
"""Most parts of an object in S3."""
SPARE_SHARE: Final = 10
"""One part in so many is left free when an object ends: for the lines that come meanwhile."""


def _segment(format_: ObjectFormat, text: memoryview) -> bytes:
    return format_.segment(text)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of slices and parts, in bytes; `parts_max` is a number of parts."""

    slice: int = SLICE_BYTES
    part: int = PART_BYTES
    part_min: int = PART_BYTES_MIN
    parts_max: int = PARTS_MAX
    compress: Callable[[ObjectFormat, memoryview], bytes] = _segment
    """Compressor of a slice. Another build of it may make other bytes of the same lines."""

    @property
    def object_max(self) -> int:
        """Compressed bytes at which an object ends: a worker that rebuilds it fits it into parts.

        That worker may be short of memory, and a recorded window does not end early: so these are
        as many as fit into parts of the smallest size.
        """
        return self.part_min * (self.parts_max - max(1, self.parts_max // SPARE_SHARE))


SIZES: Final = Sizes()
NEVER_IN_PARTS: Final = Sizes(part=2**63)


@dataclass(frozen=True, slots=True)
class Packed:
    """Lines of less than a slice, compressed to save memory until their slice is full."""

    content: bytes
    size: int
    """Bytes of the lines with their newlines, uncompressed."""


class Compression:
    """Compression of some lines of one body; `perform` it once, in any thread.

    Args:
        lines: At least one piece of lines, each without its last newline.
        packed: Packed lines that come before them.
        sizes: Size of a slice, and its compressor.
        format_: Of the object.
        whole: Pack the rest, which is less than a slice.
        ends: Compress the rest: the body ends.
        crc: CRC-32 of all lines of the body before these.
        digest: SHA-256 over all compressed bytes before these; updated here.
    """

    def __init__(
        self,
        lines: Sequence[bytes],
        packed: Sequence[Packed],
        sizes: Sizes,
        format_: ObjectFormat,
        *,
        whole: bool,
        ends: bool,
        crc: int,
        digest: "hashlib._Hash",
    ) -> None:
        self.crc = crc
        self.segments: list[bytes] = []
        self.rest: bytes | None = None
        """The rest, without its last newline; it waits again."""
        self.packed: list[Packed] = []
        """The rest, packed."""
        self._lines = lines
        self._packed = packed
        self._ends = ends
        self._sizes = sizes
        self._format = format_
        self._whole = whole
        self._digest = digest

    def perform(self) -> None:
        """Compress; a megabyte takes some milliseconds, most of them without the GIL."""
        text = b"\n".join((*self._lines, b""))
        self._lines = ()  # Their memory is free for the segments.
        format_, slice_bytes = self._format, self._sizes.slice
        compress = partial(self._sizes.compress, format_)
        if self._packed:
            before = sum(it.size for it in self._packed)
            if self._whole and before + len(text) < slice_bytes:
                self.packed = [*self._packed, Packed(compress(memoryview(text)), len(text))]
                return
            unpacked = (format_.decompressed(it.content) for it in self._packed)
            text = b"".join((*unpacked, text))
        end = len(text) if self._ends else len(text) - len(text) % slice_bytes
        lines = memoryview(text)
        for start in range(0, end, slice_bytes):
            piece = lines[start : min(start + slice_bytes, end)]
            self.crc = format_.crc(piece, self.crc)
            segment = compress(piece)
            self._digest.update(segment)
            self.segments.append(segment)
        if end < len(text):
            if self._whole:
                self.packed = [Packed(compress(lines[end:]), len(text) - end)]
            else:
                self.rest = text[end:-1]


@dataclass(slots=True)
class Part:
    """Part of an object, uploaded before the object is complete."""

    number: int
    """Part number, from 1."""
    content: bytes | None
    """None as soon as S3 has it."""
    stored: Any = None
    """Description of the stored part, which S3 requires to complete the upload."""


class ObjectBody:
    """Body of one object: grows by lines, compressed in slices, on any thread.

    Args:
        sizes: Of slices and parts.
        account: Where the bytes that the body holds are counted; left out: an account of its own.
        format_: Of the object.
    """

    __slots__ = (
        "_account",
        "_blocks",
        "_busy_bytes",
        "_compression",
        "_counted",
        "_counted_waiting",
        "_crc",
        "_digest",
        "_format",
        "_is_finished",
        "_loose_bytes",
        "_packed",
        "_packed_bytes",
        "_packed_size",
        "_part_bytes",
        "_segments",
        "_segments_bytes",
        "_sizes",
        "_unsent_bytes",
        "_waiting",
        "_waiting_bytes",
        "is_closed",
        "is_stuck",
        "lines",
        "parts",
        "size",
        "size_compressed",
        "upload_id",
    )

    def __init__(
        self,
        sizes: Sizes = SIZES,
        account: MemoryAccount | None = None,
        format_: ObjectFormat = GZIP,
    ) -> None:
        self.lines = 0
        self.size = 0
        """Bytes of all lines with their newlines, uncompressed."""
        self.size_compressed = 0
        """Bytes of the object, as far as it is compressed."""
        self.parts: list[Part] = []
        """Parts cut so far; none for most objects, which are put whole."""
        self.upload_id: str | None = None
        """S3's id of the multipart upload, once one was created."""
        self.is_closed = False
        """The window has closed: no line will be added."""
        self.is_stuck = False
        """S3 did not take the last part that was sent."""
        self._account = MemoryAccount() if account is None else account
        self._counted = self._counted_waiting = 0
        """Bytes that the account includes."""
        self._sizes = sizes
        self._format = format_
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._packed: list[Packed] = []
        """Packed lines; they come before the waiting ones."""
        self._packed_bytes = self._packed_size = 0
        self._busy_bytes = 0
        self._compression: Compression | None = None
        """The compression in progress."""
        self._segments: list[bytes | mmap] = []
        """Compressed lines that no part includes; blocks come first."""
        self._segments_bytes = 0
        self._blocks = 0
        self._loose_bytes = 0
        """Bytes of segments that are not in a block."""
        self._unsent_bytes = 0
        self._part_bytes = 0
        """Size of all parts but the last, once the first one is cut."""
        self._crc = 0
        self._digest: hashlib._Hash | None = None
        self._is_finished = False

    @property
    def held(self) -> int:
        """Bytes of memory that this body takes now."""
        chunks = len(self._waiting) + len(self._packed) + len(self._segments)
        return (
            self._waiting_bytes
            + self._packed_bytes
            + self._busy_bytes
            + self._segments_bytes
            + self._unsent_bytes
            + CHUNK_OVERHEAD_BYTES * chunks
        )

    @property
    def waiting(self) -> int:
        """Bytes of lines that could be compressed, or packed."""
        return self._waiting_bytes

    @property
    def is_due(self) -> bool:
        """Whether a slice is full."""
        return self._packed_size + self._waiting_bytes >= self._sizes.slice

    @property
    def is_busy(self) -> bool:
        """Whether a compression is in progress."""
        return self._compression is not None

    @property
    def unsent(self) -> list[Part]:
        """The parts that S3 does not have."""
        return [part for part in self.parts if part.content is not None]

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the object; valid once the body is finished."""
        return self._hash().digest()

    def add(self, payloads: Sequence[bytes]) -> None:
        """Append payloads, each of which becomes one line."""
        size = sum(map(len, payloads)) + len(payloads)
        self.lines += len(payloads)
        self.size += size
        self._waiting_bytes += size
        if 0 < size < COPIED_BYTES_MAX:
            self._waiting.append(LINE_END.join(payloads))
        else:
            self._waiting += payloads
        self._count()

    def compression(self, *, whole: bool = False, ends: bool = False) -> Compression:
        """Remove the waiting lines for compression; pass the result to `compressed` when done.

        Args:
            whole: Pack what is less than a slice.
            ends: Compress what is less than a slice: no line will be added.
        """
        if self.is_busy:
            raise InvariantError("lines of this object are being compressed already")
        lines, self._waiting = self._waiting, []
        packed, self._packed = self._packed, []
        self._busy_bytes = self._packed_bytes + self._waiting_bytes
        self._waiting_bytes = self._packed_bytes = self._packed_size = 0
        self._compression = Compression(
            lines,
            packed,
            self._sizes,
            self._format,
            whole=whole,
            ends=ends,
            crc=self._crc,
            digest=self._hash(),
        )
        self._count()
        return self._compression

    def compressed(self, compression: Compression) -> None:
        """Take the result of the compression in progress."""
        if compression is not self._compression:
            raise InvariantError("compressed lines are not the expected ones: they would repeat")
        self._compression = None
        self._busy_bytes = 0
        if compression.rest is not None:
            self._waiting.insert(0, compression.rest)
            self._waiting_bytes += len(compression.rest) + 1
        self._packed = compression.packed
        self._packed_bytes = sum(len(it.content) for it in self._packed)
        self._packed_size = sum(it.size for it in self._packed)
        self._crc = compression.crc
        for segment in compression.segments:
            self._append(segment)
        self._count()

    def cut(self, *, early: bool = False) -> bool:
        """Make as many parts of the compressed lines as there are; return whether one was made.

        Room for the last part is kept: that one includes all lines for which no other has room.

        Args:
            early: The first part may have the smallest size that S3 accepts.
        """
        size = self._part_bytes or (self._sizes.part_min if early else self._sizes.part)
        room = self._sizes.parts_max - 1 - len(self.parts)
        end = min(self._segments_bytes // size, room) * size
        if end <= 0:
            return False
        self._part_bytes = size
        content = b"".join(self._segments)
        self._segments = [content[end:]] if len(content) > end else []
        self._segments_bytes = self._loose_bytes = len(content) - end
        self._blocks = 0
        for start in range(0, end, size):
            self._add_part(content[start : start + size])
        self._count()
        return True

    @property
    def is_full(self) -> bool:
        """Whether the object must end, see `Sizes.object_max`."""
        return self.size_compressed >= self._sizes.object_max

    def sent(self, part: Part, stored: Any) -> None:  # noqa: ANN401 - see `Part.stored`
        """Record that S3 has a part."""
        if part.content is not None:
            self._unsent_bytes -= len(part.content)
            part.content, part.stored = None, stored
            self._count()
        self.is_stuck = False

    def finish(self) -> bytes:
        """End the object; nothing can be added afterwards, and a further call changes nothing.

        Returns:
            The whole object; empty if it is sent in parts, of which there is one more now.
        """
        if not self._is_finished:
            if self._waiting or self._packed or self.is_busy:
                compression = self.compression(ends=True)
                compression.perform()
                self.compressed(compression)
            trailer = self._format.trailer(self._crc, self.size)
            self._hash().update(trailer)
            self._append(trailer)
            self._is_finished = True
            if self.parts:
                self.cut()
                if self._segments:
                    self._add_part(b"".join(self._segments))
                    self._segments, self._segments_bytes = [], 0
                    self._blocks = self._loose_bytes = 0
                    self._count()
        if self.parts:
            return b""
        content = b"".join(self._segments)
        self._segments = [content]
        self._count()
        return content

    def _add_part(self, content: bytes) -> None:
        self.parts.append(Part(len(self.parts) + 1, content))
        self._unsent_bytes += len(content)

    def _append(self, segment: bytes) -> None:
        self._segments.append(segment)
        self._segments_bytes += len(segment)
        self.size_compressed += len(segment)
        self._loose_bytes += len(segment)
        if self._loose_bytes >= BLOCK_BYTES:
            block = mmap(-1, self._loose_bytes)
            block.write(b"".join(self._segments[self._blocks :]))
            self._segments[self._blocks :] = [block]
            self._blocks += 1
            self._loose_bytes = 0

    def _hash(self) -> "hashlib._Hash":
        if self._digest is None:
            self._digest = hashlib.sha256(self._format.header)
            self._append(self._format.header)
        return self._digest

    def release(self) -> None:
        """Leave the account: nobody holds this body any more."""
        self._account.add(-self._counted, -self._counted_waiting)
        self._account = MemoryAccount()

    def _count(self) -> None:
        """Report to the account by how much the memory has changed."""
        held, waiting = self.held, self._waiting_bytes
        self._account.add(held - self._counted, waiting - self._counted_waiting)
        self._counted, self._counted_waiting = held, waiting
