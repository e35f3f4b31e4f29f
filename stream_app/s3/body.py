"""The bytes of an object as S3 takes them: whole or in parts, each with a checksum.

content ─┬─ up to MULTIPART_BYTES ─> one body
         └─ larger ────────────────> parts of equal size, the last one may be smaller
"""

import asyncio
import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

MIB: Final = 1024 * 1024
MULTIPART_BYTES: Final = 16 * MIB
"""Larger contents are uploaded in parts."""
PART_BYTES_MIN: Final = 8 * MIB
PARTS_MAX: Final = 10_000
"""As S3 has it."""
HASH_IN_LOOP_BYTES_MAX: Final = 256 * 1024
"""Larger contents are hashed in a thread: a millisecond is the most the event loop waits."""


class Algorithm(NamedTuple):
    """A checksum that S3 tests an upload by."""

    argument: str
    """Under which botocore takes it, and HeadObject tells it."""
    announced: str | None
    """What CreateMultipartUpload has to be told, if anything."""
    digest: Callable[[bytes | memoryview], bytes]


def _sha256(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()


def _crc32(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(4, "big")


def _md5(content: bytes | memoryview) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


SHA256: Final = Algorithm("ChecksumSHA256", "SHA256", _sha256)
ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "sha256": SHA256,
    "crc32": Algorithm("ChecksumCRC32", "CRC32", _crc32),
    "md5": Algorithm("ContentMD5", None, _md5),
}
"""By the names that the configuration has for them."""


async def checksum(algorithm: Algorithm, content: bytes | memoryview) -> str:
    """Return the checksum in base64, as S3 writes it."""
    if len(content) > HASH_IN_LOOP_BYTES_MAX:
        digest = await asyncio.to_thread(algorithm.digest, content)
    else:
        digest = algorithm.digest(content)
    return base64.b64encode(digest).decode()


def parts(content: bytes, size_min: int = PART_BYTES_MIN) -> list[memoryview]:
    """Cut a content into at most `PARTS_MAX` parts of this size or more; nothing is copied."""
    size = max(size_min, -(-len(content) // PARTS_MAX))
    view = memoryview(content)
    return [view[first : first + size] for first in range(0, len(content), size)]


class Body(io.RawIOBase):
    """A content to be read piece by piece, without a copy of the whole.

    aiohttp writes bytes into the socket at once, in the event loop; this it reads in a thread.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)
        self._place = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read again."""
        return True

    def tell(self) -> int:
        """Return how far it was read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from another place, which is returned."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._content)}
        self._place = start[whence] + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes, or all that is left, copied once."""
        end = len(self._content) if size < 0 else self._place + size
        piece = bytes(self._content[self._place : end])
        self._place += len(piece)
        return piece


def body(content: bytes) -> bytes | Body:
    """Return a content as it is best handed to botocore."""
    return Body(content) if len(content) > HASH_IN_LOOP_BYTES_MAX else content
