"""A fake S3: conditional puts and uploads in parts, errors, outages, broken buckets, torn bodies.

Of an upload in parts nothing is visible before `complete`. A part may be sent again under its
number: the last one wins. All but the last one of an object have one size, and the last one has no
other but a smaller one: Cloudflare R2 answers `InvalidPart` otherwise. An upload can be lost at any
time, as by a lifecycle rule or by somebody who tidies up: it answers `NoSuchUpload` from then on,
and so does one that is completed.
"""

import base64
import hashlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_app.core.object_body import Sizes
from tests.simulation.scheduler import NoAnswerError, Process, Scheduler, ServerError

HEAD_FIELDS = ("ContentLength", "ChecksumSHA256")
"""What a whole answer to HeadObject has, beside ETag and metadata."""
FEW_PARTS_MAX = 100
"""With fewer parts at most, the last one may be larger than the others."""


class StorageError(ServerError):
    """An error answer of S3."""

    def __init__(self, code: str, *, permanent: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.permanent = permanent


class TornError(ServerError, NoAnswerError):
    """The connection died in the middle of the body."""


@dataclass(eq=False)
class Upload:
    """An upload in parts that is neither completed nor aborted nor lost."""

    bucket: str
    key: str
    metadata: Mapping[str, str]
    owner: Process
    """Worker that began it."""
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """By number: ETag and content."""


class Storage:
    """All buckets.

    Args:
        scheduler: The world's.
        chance: The world's.
        sizes: What S3 demands of parts: the least size of all but the last, and how many.
        written: Called for each object that has become visible: bucket, key, body.
        part_sent: Called for each part that is there: upload, number, content.
        head_fields: Fields of HeadObject that its answers have, beside ETag and metadata.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        chance: random.Random,
        sizes: Sizes,
        *,
        written: Callable[[str, str, bytes], None],
        part_sent: Callable[[str, int, bytes], None],
        head_fields: Collection[str] = HEAD_FIELDS,
    ) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.losing: str | None = None
        """A bucket that refuses to complete any upload, for good."""
        self.uploads: dict[str, Upload] = {}
        """By the name that S3 gave them."""
        self.errors_share = 0.0
        """How many requests are answered by an error that time heals."""
        self.torn_share = 0.0
        """How many bodies lose their connection in the middle."""
        self.lost_uploads_share = 0.0
        """How many requests find that their upload is gone."""
        self.conflicts_share = 0.0
        """How many completions are answered by a conflict; half of them lose their upload."""
        self.down_until = 0.0
        self.broken_until: dict[str, float] = {}
        """For each bucket until when it refuses for good."""
        self.already_there = 0
        self.torn = 0
        self.refused = 0
        self.conflicts = 0
        self.lost_uploads = 0
        self.completions_lost = 0
        self.begun = 0
        self.parts = 0
        self.completed = 0
        self.completions_refused = 0
        self.aborted = 0
        self._scheduler = scheduler
        self._chance = chance
        self._sizes = sizes
        self._written = written
        self._part_sent = part_sent
        self._head_fields = head_fields
        self._heads: dict[tuple[str, str], dict[str, Any]] = {}

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        if_none_match: bool,
        checksum: str | None,
    ) -> str:
        """Store an object and return its ETag."""
        self._refuse(bucket)
        if self._is_torn():
            if checksum is None:
                # As a real server does, see design 4.2: without a checksum it keeps what came.
                self._store(bucket, key, b"", metadata, _etag(b""))
            raise TornError(key)
        self._refuse_existing(bucket, key, if_none_match=if_none_match)
        _require_checksum(key, body, checksum)
        self._store(bucket, key, body, metadata, _etag(body))
        self._heads[bucket, key]["ChecksumSHA256"] = sha256(body)
        return _etag(body)

    def head(self, bucket: str, key: str) -> dict[str, Any]:
        """Describe an object, as HeadObject does."""
        self._refuse(bucket)
        fields = ("ETag", "Metadata", *self._head_fields)
        return {name: it for name, it in self._heads[bucket, key].items() if name in fields}

    def begin(self, bucket: str, key: str, metadata: Mapping[str, str], owner: Process) -> str:
        """Begin an upload in parts and return its name."""
        self._refuse(bucket)
        self.begun += 1
        name = f"upload-{self.begun}"
        self.uploads[name] = Upload(bucket, key, metadata, owner)
        return name

    def send_part(
        self, bucket: str, key: str, name: str, number: int, body: bytes, *, checksum: str | None
    ) -> str:
        """Store a part and return its ETag."""
        self._refuse(bucket)
        upload = self._upload(bucket, key, name)
        if self._is_torn():
            if checksum is None:
                upload.parts[number] = (_etag(b""), b"")
            raise TornError(key)
        _require_checksum(key, body, checksum)
        if not 1 <= number <= self._sizes.parts_max:
            raise AssertionError(f"{key}: part {number} of {self._sizes.parts_max} at most")
        self.parts += 1
        self._part_sent(name, number, body)
        upload.parts[number] = (_etag(body), body)
        return _etag(body)

    def complete(
        self,
        bucket: str,
        key: str,
        name: str,
        sent: Sequence[tuple[int, str]],
        *,
        if_none_match: bool,
    ) -> str:
        """Make an object of the parts whose numbers and ETags are listed; return its ETag."""
        self._refuse(bucket)
        upload = self._upload(bucket, key, name)
        if self._chance.random() < self.conflicts_share:
            self.conflicts += 1
            if self._chance.random() < 0.5:
                del self.uploads[name]
            raise StorageError("ConditionalRequestConflict")
        if bucket == self.losing:
            self.completions_lost += 1
            raise StorageError(self._chance.choice(("InvalidPart", "NoSuchUpload")))
        numbers = [number for number, _ in sent]
        if not numbers or numbers != sorted(set(numbers)):
            raise AssertionError(f"{key}: completed with the parts {numbers}")
        if any(upload.parts.get(number, ("", b""))[0] != etag for number, etag in sent):
            raise StorageError("InvalidPart")
        bodies = [upload.parts[number][1] for number in numbers]
        if any(len(body) < self._sizes.part_min for body in bodies[:-1]):
            raise AssertionError(f"{key}: parts of {[len(body) for body in bodies]} bytes")
        self._require_one_size(key, [len(body) for body in bodies])
        try:
            self._refuse_existing(bucket, key, if_none_match=if_none_match)
        except StorageError:
            self.completions_refused += 1
            raise
        del self.uploads[name]
        self.completed += 1
        etag = f"{_etag(b''.join(bodies))}-{len(bodies)}"
        self._store(bucket, key, b"".join(bodies), upload.metadata, etag)
        return etag

    def abort(self, bucket: str, key: str, name: str) -> None:
        """End an upload without an object."""
        self._refuse(bucket)
        self._upload(bucket, key, name)
        del self.uploads[name]
        self.aborted += 1

    def lose_uploads(self) -> None:
        """End all uploads, as a lifecycle rule would that has a mistake in it."""
        self.lost_uploads += len(self.uploads)
        self.uploads.clear()

    def _refuse(self, bucket: str) -> None:
        now = self._scheduler.now
        if now < self.down_until or self._chance.random() < self.errors_share:
            self.refused += 1
            raise StorageError(self._chance.choice(("SlowDown", "InternalError", "Conflict")))
        if now < self.broken_until.get(bucket, 0.0):
            self.refused += 1
            raise StorageError("NoSuchBucket", permanent=True)

    def _refuse_existing(self, bucket: str, key: str, *, if_none_match: bool) -> None:
        if if_none_match and (bucket, key) in self.objects:
            self.already_there += 1
            raise StorageError("PreconditionFailed")

    def _is_torn(self) -> bool:
        if self._chance.random() >= self.torn_share:
            return False
        self.torn += 1
        return True

    def _upload(self, bucket: str, key: str, name: str) -> Upload:
        if name in self.uploads and self._chance.random() < self.lost_uploads_share:
            self.lost_uploads += 1
            del self.uploads[name]
        upload = self.uploads.get(name)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise StorageError("NoSuchUpload")
        return upload

    def _require_one_size(self, key: str, sizes: Sequence[int]) -> None:
        if self._sizes.parts_max < FEW_PARTS_MAX:
            return  # Where the last part has to take all lines that find no other.
        if len({*sizes[:-1]}) > 1 or sizes[-1] > sizes[0]:
            raise AssertionError(f"{key}: parts of {sizes} bytes, not of one size")

    def _store(
        self, bucket: str, key: str, body: bytes, metadata: Mapping[str, str], etag: str
    ) -> None:
        self.objects[bucket, key] = body
        self._heads[bucket, key] = {
            "ETag": f'"{etag}"',
            "Metadata": dict(metadata),
            "ContentLength": len(body),
        }
        self._written(bucket, key, body)


def sha256(body: bytes) -> str:
    """Return the SHA-256 as S3 writes it."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _require_checksum(key: str, body: bytes, checksum: str | None) -> None:
    if checksum is not None and checksum != sha256(body):
        raise AssertionError(f"{key}: the checksum is not that of the body")


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
