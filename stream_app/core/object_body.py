"""What becomes an S3 object: lines, compressed, under a key; whole, or in parts that leave early.

    payloads ─> lines that wait ─> segments ─┬─ at the end ───────────> one content
                 (slices)  gzip              └─ PART_BYTES at a time ─> parts, the last one smaller

The key is a pure function of topic, partition, the window's first offset, destination and the
recorded upload time, so that whoever rebuilds a window writes to the same place.

A *segment* is one slice of lines, compressed for itself: it looks back at no other, and ends at a
byte. So no compressor lives on between two slices, segments put one behind the other are one gzip
member, and the work can be done in any thread. The bytes are a pure function of the lines (for one
build of isal): slices have one fixed size, whatever the batches in which the lines came. A replay
must make the same ones, since it finds the object there and tells its checksum. So lines that are
less than a slice are only *packed* when memory is short, and unpacked when their slice is full.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from mmap import mmap
from typing import Any, Final

from isal import isal_zlib

from stream_app.errors import InvariantError

SLICE_BYTES: Final = 256 * 1024
"""Lines wait until this much stands: a quiet destination costs its lines, no compressor."""
LEVEL: Final = 1
"""isal's level 1: a tenth of zlib-6's time for 95 % of its ratio."""
COPIED_BYTES_MAX: Final = 32 * 1024
"""Lines that come together make one piece if they are fewer bytes; more are compressed soon."""
CHUNK_OVERHEAD_BYTES: Final = 64
"""What CPython adds to each bytes object that waits in a list."""
BLOCK_BYTES: Final = 2 * 1024 * 1024
"""So many bytes of segments are moved into memory of their own. As a hundred pieces among those of
other objects they would leave holes, one day, that nothing else fits into."""
PART_BYTES: Final = 8 * 1024 * 1024
"""Compressed: when so much stands it leaves, though the window is open."""
PART_BYTES_MIN: Final = 5 * 1024 * 1024
"""S3 takes no smaller part, but for the last one."""
PARTS_MAX: Final = 10_000
"""As S3 has it."""

_RAW: Final = -15
"""Deflate with the largest history and nothing around it."""
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""gzip's: no name, no modification time, so that a replay does not depend on the clock."""
_END: Final = b"\x03\0"
"""Deflate's last block, an empty one."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """In which pieces a body is compressed and leaves, in bytes."""

    slice: int = SLICE_BYTES
    part: int = PART_BYTES
    part_min: int = PART_BYTES_MIN
    parts_max: int = PARTS_MAX


SIZES: Final = Sizes()
NEVER_IN_PARTS: Final = Sizes(part=2**63)


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


@dataclass(frozen=True, slots=True)
class Packed:
    """Lines that wait for their slice in less room."""

    content: bytes
    size: int
    """Of the lines, with their newlines."""


class Compression:
    """Lines of one body on their way through the compressor; `perform` it once, in any thread.

    Args:
        lines: In any number of pieces, each without its last newline; not none.
        packed: Those before them.
        slice_bytes: Size of a slice.
        whole: What becomes of less than a slice: packed, or if the body ends, compressed.
        ends: Whether the body ends.
        crc: Of all lines of the body before these.
        digest: SHA-256 over all compressed bytes before these; it is updated.
    """

    def __init__(
        self,
        lines: Sequence[bytes],
        packed: Sequence[Packed],
        slice_bytes: int,
        *,
        whole: bool,
        ends: bool,
        crc: int,
        digest: "hashlib._Hash",
    ) -> None:
        self.crc = crc
        self.segments: list[bytes] = []
        self.rest: bytes | None = None
        """What is less than a slice, without its last newline, and waits on."""
        self.packed: list[Packed] = []
        """The same, packed."""
        self._lines = lines
        self._packed = packed
        self._ends = ends
        self._slice_bytes = slice_bytes
        self._whole = whole
        self._digest = digest

    def perform(self) -> None:
        """Compress; takes some milliseconds for a megabyte, most of them without the GIL."""
        text = b"\n".join((*self._lines, b""))
        self._lines = ()  # What comes of them can take their place in memory.
        if self._packed:
            before = sum(it.size for it in self._packed)
            if self._whole and before + len(text) < self._slice_bytes:
                self.packed = [*self._packed, _pack(text)]
                return
            text = b"".join((*map(_unpack, self._packed), text))
        end = len(text) if self._ends else len(text) - len(text) % self._slice_bytes
        lines = memoryview(text)
        for start in range(0, end, self._slice_bytes):
            piece = lines[start : min(start + self._slice_bytes, end)]
            self.crc = isal_zlib.crc32(piece, self.crc)
            segment = _segment(piece)
            self._digest.update(segment)
            self.segments.append(segment)
        if end < len(text):
            if self._whole:
                self.packed = [_pack(text[end:])]
            else:
                self.rest = text[end:-1]


def _pack(text: bytes) -> Packed:
    return Packed(_segment(memoryview(text)), len(text))


def _unpack(packed: Packed) -> bytes:
    text: bytes = isal_zlib.decompressobj(_RAW).decompress(packed.content)
    return text


def _segment(text: memoryview) -> bytes:
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW)
    compressed: bytes = compressor.compress(text) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
    return compressed


@dataclass(slots=True)
class Part:
    """A piece of an object that leaves before, and apart from, the others."""

    number: int
    """From 1."""
    content: bytes | None
    """None as soon as S3 has it."""
    told: Any = None
    """What S3 wants to hear of it at the end."""


class Body:
    """The lines of one object, growing; compressed a slice at a time by whoever has the time.

    Args:
        sizes: Of its pieces.
    """

    __slots__ = (
        "_blocks",
        "_busy_bytes",
        "_compression",
        "_crc",
        "_digest",
        "_is_finished",
        "_loose_bytes",
        "_packed",
        "_packed_bytes",
        "_packed_size",
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

    def __init__(self, sizes: Sizes = SIZES) -> None:
        self.lines = 0
        self.size = 0
        """Bytes of all lines with their newlines, uncompressed."""
        self.size_compressed = 0
        """Bytes of the object, as far as it is compressed."""
        self.parts: list[Part] = []
        """All but the beginning are empty for most objects: they are put whole."""
        self.upload_id: str | None = None
        """S3's name for the upload in parts, when one was begun."""
        self.is_closed = False
        """Its window has closed: no line comes any more."""
        self.is_stuck = False
        """S3 did not take the last part that it was given."""
        self._sizes = sizes
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._packed: list[Packed] = []
        """What waits before the others."""
        self._packed_bytes = self._packed_size = 0
        self._busy_bytes = 0
        self._compression: Compression | None = None
        """The one under way."""
        self._segments: list[bytes | mmap] = []
        """First the blocks."""
        self._segments_bytes = 0
        self._blocks = 0
        self._loose_bytes = 0
        """Of segments that are not in a block."""
        self._unsent_bytes = 0
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
        """Whether lines are being compressed."""
        return self._compression is not None

    @property
    def unsent(self) -> list[Part]:
        """The parts that S3 does not have."""
        return [part for part in self.parts if part.content is not None]

    @property
    def sha256(self) -> bytes:
        """Digest of the object; to be asked when it is finished."""
        return self._hash().digest()

    def add(self, payloads: Sequence[bytes]) -> None:
        """Append payloads, each of which becomes one line."""
        size = sum(map(len, payloads)) + len(payloads)
        self.lines += len(payloads)
        self.size += size
        self._waiting_bytes += size
        if 0 < size < COPIED_BYTES_MAX:
            self._waiting.append(b"\n".join(payloads))
        else:
            self._waiting += payloads

    def compression(self, *, whole: bool = False, ends: bool = False) -> Compression:
        """Take the lines that wait, to be compressed; hand it to `compressed` when that is done.

        Args:
            whole: Pack what is less than a slice.
            ends: Compress it: no line comes any more.
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
            self._sizes.slice,
            whole=whole,
            ends=ends,
            crc=self._crc,
            digest=self._hash(),
        )
        return self._compression

    def compressed(self, compression: Compression) -> None:
        """Note what came of the compression under way."""
        if compression is not self._compression:
            raise InvariantError("compressed lines are not those under way: they would be repeated")
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

    def cut(self, bytes_min: int | None = None) -> bool:
        """Make a part of what is compressed, if that is enough for one; say so.

        Room for the last part is kept: it takes all that comes when there is no other.

        Args:
            bytes_min: What is enough; left out, a usual part.
        """
        enough = self._sizes.part if bytes_min is None else bytes_min
        if self._segments_bytes < enough or (self.is_full and not self._is_finished):
            return False
        content = b"".join(self._segments)
        self.parts.append(Part(len(self.parts) + 1, content))
        self._unsent_bytes += len(content)
        self._segments, self._segments_bytes = [], 0
        self._blocks = self._loose_bytes = 0
        return True

    def cut_early(self) -> bool:
        """Make a part of no more than S3 demands."""
        return self.cut(self._sizes.part_min)

    @property
    def is_full(self) -> bool:
        """Whether there is room for the last part only."""
        return len(self.parts) >= self._sizes.parts_max - 1

    def sent(self, part: Part, told: Any) -> None:  # noqa: ANN401 - S3's matter
        """Note that S3 has a part."""
        if part.content is not None:
            self._unsent_bytes -= len(part.content)
            part.content, part.told = None, told
        self.is_stuck = False

    def finish(self) -> bytes:
        """End the gzip member; nothing can be added afterwards, asking again changes nothing.

        Returns:
            The whole of it; nothing if it leaves in parts, of which there is one more now.
        """
        if not self._is_finished:
            if self._waiting or self._packed or self.is_busy:
                compression = self.compression(ends=True)
                compression.perform()
                self.compressed(compression)
            size = self.size & 0xFFFFFFFF  # gzip's own field has four bytes
            trailer = _END + self._crc.to_bytes(4, "little") + size.to_bytes(4, "little")
            self._hash().update(trailer)
            self._append(trailer)
            self._is_finished = True
            if self.parts:
                self.cut(1)
        if self.parts:
            return b""
        content = b"".join(self._segments)
        self._segments = [content]
        return content

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
            self._digest = hashlib.sha256(_HEADER)
            self._append(_HEADER)
        return self._digest
