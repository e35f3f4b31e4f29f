"""Request bodies of an object: whole or in parts, each with a checksum.

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

from stream_app.config.settings import MIB
from stream_app.core.object_body import PART_BYTES, PARTS_MAX

MULTIPART_BYTES: Final = 16 * MIB
"""Size beyond which a content is uploaded in parts."""
HASH_IN_LOOP_BYTES_MAX: Final = 256 * 1024
"""Size beyond which a content is hashed in a thread: a millisecond is the most the loop waits."""


class Algorithm(NamedTuple):
    """Checksum algorithm by which S3 verifies an upload."""

    argument: str
    """Name of the parameter of PutObject and UploadPart, and of the field of HeadObject."""
    multipart_name: str | None
    """`ChecksumAlgorithm` of CreateMultipartUpload; None where it takes none."""
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
"""Algorithms by their names in the configuration."""


async def checksum(algorithm: Algorithm, content: bytes | memoryview) -> str:
    """Return the checksum in base64."""
    if len(content) > HASH_IN_LOOP_BYTES_MAX:
        digest = await asyncio.to_thread(algorithm.digest, content)
    else:
        digest = algorithm.digest(content)
    return base64.b64encode(digest).decode()


def parts(content: bytes, size_min: int = PART_BYTES) -> list[memoryview]:
    """Return a content as at most `PARTS_MAX` parts of this size or more, without a copy."""
    size = max(size_min, -(-len(content) // PARTS_MAX))
    view = memoryview(content)
    return [view[first : first + size] for first in range(0, len(content), size)]


class BodyStream(io.RawIOBase):
    """Seekable stream of a content, without a copy of the whole.

    aiohttp writes bytes into the socket at once, in the event loop; a stream is read in a thread.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True: botocore reads a body again for a retry."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}
        self._position = start[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, or all that are left, copied once."""
        end = len(self._content) if size < 0 else self._position + size
        piece = bytes(self._content[self._position : end])
        self._position += len(piece)
        return piece


def request_body(content: bytes) -> bytes | BodyStream:
    """Return a content as the body of a request: a large one as a stream."""
    return BodyStream(content) if len(content) > HASH_IN_LOOP_BYTES_MAX else content
