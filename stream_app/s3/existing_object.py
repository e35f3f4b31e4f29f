"""Existing object: whether it is the one that was to be written, and what its receipt says.

S3 responded with 412, and HeadObject describes the object that is there. Servers, and proxies
before them, leave fields out: a field that is missing contradicts nothing.

    checksum, or ETag, of our bytes ──> the same bytes
    metadata of our lines ────────────> the same lines, perhaps from another build of the compressor

In the second case the receipt describes the bytes that are there, not those that were to be
written: its reader compares them. Pure.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stream_app.core.receipt import Stored
from stream_app.errors import PermanentError
from stream_app.s3.body import SHA256

if TYPE_CHECKING:
    from datetime import datetime

IN_PARTS: Final = {"written": "in-parts"}
"""Metadata of an object whose first parts are sent before its last line is known."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MD5_OF_NOTHING: Final = hashlib.md5(b"", usedforsecurity=False).hexdigest()


def etag_of(response: Mapping[str, Any]) -> str | None:
    """Return the ETag of a response without its quotes; None if there is none."""
    etag = response.get("ETag")
    return None if etag is None else str(etag).removeprefix("W/").strip('"')


class ExpectedObject(NamedTuple):
    """Object that is to be under the key. Checksums are in base64."""

    bucket: str
    key: str
    size: int
    """Compressed bytes."""
    sha256: str
    checksum_name: str
    """Field of HeadObject by which S3 verified the upload; empty for an object in parts, which has
    only a checksum of checksums."""
    checksum: str
    metadata: Mapping[str, str]
    md5: str | None = None
    """Hexadecimal, as an ETag is; None where the ETag is none."""

    def require_same(self, found: Mapping[str, Any]) -> None:
        """Compare the object with an existing one, as HeadObject describes it.

        Raises:
            PermanentError: The existing object is another one.
        """
        size, etag = found.get("ContentLength"), etag_of(found)
        is_checksum = _whole_checksum(found, self.checksum_name) == self.checksum
        is_same = is_checksum or (self.md5 is not None and etag == self.md5)
        if is_same and size in (None, self.size):
            return
        # One that was sent before its window closed could not have its lines in the metadata; S3
        # has verified the checksum of each part.
        is_empty = size == 0 or etag == _MD5_OF_NOTHING
        if not is_empty and found.get("Metadata") in (self.metadata, IN_PARTS):
            return
        raise PermanentError(
            "ObjectDiffers",
            f"{self.bucket}/{self.key} exists with {'unknown' if size is None else size} bytes and "
            f"metadata {found.get('Metadata')}, which are not this window's {self.size} bytes and "
            f"{dict(self.metadata)}; check it and remove it",
        )

    def describe(self, found: Mapping[str, Any], now: int) -> Stored:
        """Return what is known of the existing object, which was found to be the same.

        Args:
            found: As HeadObject describes it; empty without the right to read it: then it counts
                as written by the same build.
            now: The present, in seconds since 1970: when it was found.
        """
        size, etag = found.get("ContentLength"), etag_of(found)
        sha256 = _whole_checksum(found, SHA256.argument)
        is_ours = sha256 in (None, self.sha256) and not self._has_other_bytes(found)
        return Stored(
            size=self.size if is_ours and size is None else size,
            etag=etag,
            version_id=found.get("VersionId"),
            checksum=self.sha256 if is_ours else sha256,
            already_existed=True,
            stored_at=_stored_at(found, now),
        )

    def _has_other_bytes(self, found: Mapping[str, Any]) -> bool:
        """Whether size, checksum or ETag contradict our bytes."""
        checksum, etag = _whole_checksum(found, self.checksum_name), etag_of(found)
        is_md5 = self.md5 is not None and _MD5.fullmatch(etag or "") is not None
        return (
            found.get("ContentLength") not in (None, self.size)
            or checksum not in (None, self.checksum)
            # S3 has another kind of ETag for an object that a key of KMS encrypts.
            or (is_md5 and etag != self.md5 and checksum is None and not found.get("SSEKMSKeyId"))
        )


def _stored_at(found: Mapping[str, Any], now: int) -> int:
    """Return when an existing object was stored; the present where S3 does not say so.

    AWS calls the time at which an upload in parts began its `LastModified`: then nothing was there.
    """
    modified: datetime | None = found.get("LastModified")
    etag = etag_of(found)
    is_in_parts = etag is None or "-" in etag or found.get("Metadata") == IN_PARTS
    return now if modified is None or is_in_parts else int(modified.timestamp())


def _whole_checksum(found: Mapping[str, Any], name: str) -> str | None:
    """Return a checksum of all bytes; None if there is none, or one of the parts' checksums."""
    checksum: str | None = found.get(name)
    is_composite = found.get("ChecksumType") == "COMPOSITE" or "-" in (checksum or "")
    return None if is_composite else checksum
