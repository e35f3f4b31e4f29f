"""Object that exists already: which is the same, and what its receipt says of it."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from stream_app.core.receipt import Stored
from stream_app.errors import PermanentError
from stream_app.s3.existing_object import IN_PARTS, ExpectedObject, etag_of

OURS, OTHERS = b"our bytes", b"bytes of another build"
NOW = 1_795_537_925
METADATA = {"lines": "2", "uncompressed-size": "18"}


def sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


WHOLE = ExpectedObject(
    *("my-bucket", "x.gz", len(OURS), sha256(OURS), "ChecksumSHA256", sha256(OURS)),
    METADATA,
    md5(OURS),
)
CRC32 = WHOLE._replace(checksum_name="ChecksumCRC32", checksum="AAAAAA==")
PARTS = WHOLE._replace(checksum_name="", checksum="", md5=None)


def head(content: bytes, *without: str, **more: Any) -> dict[str, Any]:
    """Return what HeadObject answers, without some of its fields."""
    found = {
        "ContentLength": len(content),
        "ChecksumSHA256": sha256(content),
        "ETag": f'"{md5(content)}"',
        "Metadata": METADATA,
        **more,
    }
    return {name: value for name, value in found.items() if name not in without}


@pytest.mark.parametrize(
    "found",
    [
        head(OURS),
        head(OURS, "Metadata"),
        head(OURS, "Metadata", "ChecksumSHA256"),
        head(OURS, "ContentLength"),
        head(OURS, "ContentLength", "Metadata"),
        head(OURS, "ContentLength", "ChecksumSHA256", "Metadata"),
        head(OURS, "ContentLength", "ChecksumSHA256", "ETag"),
        head(OTHERS, "ChecksumSHA256"),
        head(OTHERS, "ContentLength"),
        head(OTHERS, "ContentLength", "ChecksumSHA256", "ETag"),
        head(OTHERS, "ContentLength", Metadata=IN_PARTS),
    ],
)
def test_field_that_head_object_leaves_out_is_no_difference(found: dict[str, Any]) -> None:
    WHOLE.require_same(found)


@pytest.mark.parametrize(
    "found",
    [
        head(b""),
        head(b"", "ContentLength"),
        head(b"", "ETag"),
        head(OTHERS, Metadata={}),
        head(OTHERS, "ContentLength", Metadata={}),
        head(OTHERS, "ContentLength", "ChecksumSHA256", "ETag", "Metadata"),
        head(OTHERS, Metadata={"lines": "3", "uncompressed-size": "18"}),
        head(OURS, Metadata={}, ContentLength=len(OURS) + 1),
    ],
)
def test_object_of_other_lines_is_another_one(found: dict[str, Any]) -> None:
    with pytest.raises(PermanentError, match="which are not this window's 9 bytes and") as caught:
        WHOLE.require_same(found)
    assert caught.value.code == "ObjectDiffers"
    size = found.get("ContentLength", "unknown")
    assert f"my-bucket/x.gz exists with {size} bytes and metadata" in caught.value.message


def described(
    size: int | None, etag: str | None, checksum: str | None, version_id: str | None = None
) -> Stored:
    return Stored(size, etag, version_id, checksum, already_existed=True, stored_at=NOW)


@pytest.mark.parametrize(
    ("expected", "found", "stored"),
    [
        (WHOLE, head(OURS, VersionId="v1"), described(9, md5(OURS), sha256(OURS), "v1")),
        (WHOLE, head(OTHERS), described(22, md5(OTHERS), sha256(OTHERS))),
        (WHOLE, head(OTHERS, "ContentLength"), described(None, md5(OTHERS), sha256(OTHERS))),
        (WHOLE, head(OTHERS, "ChecksumSHA256"), described(22, md5(OTHERS), None)),
        (WHOLE, head(OTHERS, "ChecksumSHA256", "ETag"), described(22, None, None)),
        (
            WHOLE,
            head(OTHERS, "ChecksumSHA256", "ContentLength"),
            described(None, md5(OTHERS), None),
        ),
        (WHOLE, head(OURS, "ChecksumSHA256"), described(9, md5(OURS), sha256(OURS))),
        (
            WHOLE,
            head(OURS, "ContentLength", "ChecksumSHA256"),
            described(9, md5(OURS), sha256(OURS)),
        ),
        (WHOLE, {}, described(9, None, sha256(OURS))),
        # Not an MD5, so it proves nothing.
        (
            WHOLE,
            head(OURS, "ChecksumSHA256", ETag='"b1946ac9-2"'),
            described(9, "b1946ac9-2", sha256(OURS)),
        ),
        (
            WHOLE,
            head(OURS, "ChecksumSHA256", ETag=f'"{md5(OTHERS)}"', SSEKMSKeyId="a-key"),
            described(9, md5(OTHERS), sha256(OURS)),
        ),
        # Equal sizes by chance.
        (
            CRC32,
            head(OURS, "ChecksumSHA256", "ETag", ChecksumCRC32="AAAAAQ=="),
            described(9, None, None),
        ),
        (
            CRC32,
            head(OURS, "ChecksumSHA256", "ETag", ChecksumCRC32="AAAAAA=="),
            described(9, None, sha256(OURS)),
        ),
        # A checksum of the parts' checksums.
        (
            PARTS,
            head(OURS, ETag='"e-2"', ChecksumSHA256=sha256(OTHERS) + "-2"),
            described(9, "e-2", sha256(OURS)),
        ),
        (
            PARTS,
            head(OTHERS, ETag='"e-2"', ChecksumType="COMPOSITE"),
            described(22, "e-2", None),
        ),
        (
            PARTS,
            head(OTHERS, ChecksumType="FULL_OBJECT"),
            described(22, md5(OTHERS), sha256(OTHERS)),
        ),
    ],
)
def test_receipt_describes_the_object_that_is_there(
    expected: ExpectedObject, found: dict[str, Any], stored: Stored
) -> None:
    assert expected.describe(found, NOW) == stored


MODIFIED = datetime(2026, 11, 24, 16, 32, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("found", "stored_at"),
    [
        (head(OURS, LastModified=MODIFIED), int(MODIFIED.timestamp())),
        (head(OURS), NOW),
        ({}, NOW),
        # AWS names the time at which the upload began: nothing was there then.
        (head(OURS, ETag='"e-2"', LastModified=MODIFIED), NOW),
        (head(OURS, Metadata=IN_PARTS, LastModified=MODIFIED), NOW),
        (head(OURS, "ETag", LastModified=MODIFIED), NOW),
    ],
)
def test_existing_object_was_stored_when_s3_says_so_or_when_it_was_found(
    found: dict[str, Any], stored_at: int
) -> None:
    assert WHOLE.describe(found, NOW).stored_at == stored_at


@pytest.mark.parametrize(
    ("etag", "text"), [('"abc"', "abc"), ("abc", "abc"), ('W/"abc"', "abc"), (None, None)]
)
def test_etag_has_no_quotes(etag: str | None, text: str | None) -> None:
    assert etag_of({} if etag is None else {"ETag": etag}) == text
