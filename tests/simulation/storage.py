"""A fake S3: conditional puts, errors, outages, broken buckets, bodies torn on the way."""

import base64
import hashlib
import random
from collections.abc import Callable

from tests.simulation.scheduler import NoAnswerError, Scheduler, ServerError


class StorageError(ServerError):
    """An error answer of S3."""

    def __init__(self, code: str, *, permanent: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.permanent = permanent


class TornError(ServerError, NoAnswerError):
    """The connection died in the middle of the body."""


class Storage:
    """All buckets.

    Args:
        scheduler: The world's.
        chance: The world's.
        written: Told of each object that has become visible: bucket, key, body.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        chance: random.Random,
        written: Callable[[str, str, bytes], None],
    ) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.errors_share = 0.0
        """How many puts are answered by an error that time heals."""
        self.torn_share = 0.0
        """How many puts lose their connection in the middle of the body."""
        self.down_until = 0.0
        self.broken_until: dict[str, float] = {}
        """For each bucket until when it refuses for good."""
        self.already_there = 0
        self.torn = 0
        self.refused = 0
        self._scheduler = scheduler
        self._chance = chance
        self._written = written

    def put(
        self, bucket: str, key: str, body: bytes, *, if_none_match: bool, checksum: str | None
    ) -> str:
        """Store an object and return its ETag."""
        now, chance = self._scheduler.now, self._chance.random()
        if now < self.down_until or chance < self.errors_share:
            self.refused += 1
            raise StorageError(self._chance.choice(("SlowDown", "InternalError", "Conflict")))
        if now < self.broken_until.get(bucket, 0.0):
            self.refused += 1
            raise StorageError("NoSuchBucket", permanent=True)
        if chance < self.errors_share + self.torn_share:
            self.torn += 1
            if checksum is None:
                # As a real server does, see design 4.2: without a checksum it keeps what came.
                self._store(bucket, key, b"")
            raise TornError(key)
        if if_none_match and (bucket, key) in self.objects:
            self.already_there += 1
            raise StorageError("PreconditionFailed")
        if checksum is not None and checksum != sha256(body):
            raise AssertionError(f"{key}: the checksum is not that of the body")
        self._store(bucket, key, body)
        return hashlib.md5(body, usedforsecurity=False).hexdigest()

    def _store(self, bucket: str, key: str, body: bytes) -> None:
        self.objects[bucket, key] = body
        self._written(bucket, key, body)


def sha256(body: bytes) -> str:
    """Return the SHA-256 as S3 writes it."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()
