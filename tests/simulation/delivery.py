"""Window delivery of `stream_app/worker`, with generators: objects whole or in parts, receipts."""

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from stream_app.core.delivery import Delivery, MultipartUpload, State
from stream_app.core.lost_uploads import LostUploads
from stream_app.core.receipt import Problem, Receipt, Stored
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.errors import DeliveryError, FencedError, TransientError, UploadGoneError
from stream_app.s3.existing_object import IN_PARTS, ExpectedObject
from tests.simulation.sabotage import Sabotage
from tests.simulation.scheduler import Call, Lock, NoAnswerError, Steps
from tests.simulation.storage import StorageError, sha256

if TYPE_CHECKING:
    from tests.simulation.worker import Worker

RETRY_SECONDS = 0.3
PLACE_SECONDS_MAX = 4.0
"""How long an attempt waits for its place, at most."""
GONE = ("NoSuchUpload", "InvalidPart")


class Deliver:
    """The deliveries of one worker.

    Args:
        worker: Whose.
    """

    def __init__(self, worker: "Worker") -> None:
        self.uploads: set[str] = set()
        """Uploads in parts that S3 has confirmed to this worker."""
        self.not_aborted: set[str] = set()
        """Uploads whose one attempt to abort has failed."""
        self._worker = worker
        self._world = worker.world
        self._counts = worker.counts
        self._turns: dict[str, Lock] = {}
        self._lost = LostUploads()

    # --- a closed window ----------------------------------------------------------------------

    def deliver(self, work: DeliveryTask) -> Steps:
        receipt = work.delivery.receipt or (yield from self._upload(work))
        yield from self._publish(work, receipt)
        work.partition.published(work)

    def _upload(self, work: DeliveryTask) -> Steps:
        world, partition = self._world, work.partition
        content = partition.content(work)
        if content is None:
            return partition.uploaded(work, work.delivery.problem, 0)
        if world.sabotage is Sabotage.PUBLISH_FIRST and content:
            receipt = partition.uploaded(work, self._stored(len(content), None, sha256(content)), 1)
            yield from self._publish(work, receipt)
            yield from self._put_whole(work, content)
            return receipt
        started, attempts, is_late = world.scheduler.now, 0, False
        while True:
            attempts += 1
            found = yield from self._try(work, lambda: self._put(work, content))
            if isinstance(found, Stored):
                self._lost.ended(work.name)
                return partition.uploaded(work, found, attempts)
            elapsed = world.scheduler.now - started
            is_over = elapsed >= world.habits.give_up_seconds or work.delivery.is_dropped
            if not found.retryable and is_over:
                return self._give_up(work, found, attempts)
            if elapsed >= world.habits.late_seconds and not is_late:
                is_late = True
                self._counts["late"] += 1
                yield from self._publish(work, partition.retrying(work, found, attempts))
            yield world.chance.uniform(0.1, 2.0)

    def _give_up(self, work: DeliveryTask, problem: Problem, attempts: int) -> Receipt:
        body = work.delivery.body
        self._lost.ended(work.name)
        receipt = work.partition.uploaded(work, problem, attempts)
        self._counts["given up"] += 1
        # Only now: to one whose work is void the upload does not belong any more.
        if body is not None and body.upload_id is not None:
            self._counts["given up in parts"] += 1
            self._abandon(work.delivery, body.upload_id)
        return receipt

    def _put(self, work: DeliveryTask, content: bytes) -> Steps:
        _require_valid(work)
        if not work.delivery.content.parts:
            return (yield from self._put_whole(work, content))
        try:
            upload_id = yield from self._send(work)
        except UploadGoneError:
            if self._world.sabotage is not Sabotage.FORGET_PARTS:
                raise
            upload_id = yield from self._send_what_is_left(work)
        return (yield from self._complete(work.delivery, upload_id))

    def _put_whole(self, work: DeliveryTask, content: bytes) -> Steps:
        storage, delivery = self._world.storage, work.delivery
        bucket, key, checksum = delivery.destination.bucket, delivery.key, sha256(content)
        metadata = _metadata(delivery)
        try:
            etag = yield Call(
                "put",
                lambda: storage.put(
                    bucket,
                    key,
                    content,
                    metadata=metadata,
                    if_none_match=self._if_none_match,
                    checksum=self._checksum(content),
                ),
            )
        except StorageError as error:
            if error.code != "PreconditionFailed":
                raise
            return (
                yield from self._existing(
                    ExpectedObject(
                        *(bucket, key, len(content), checksum, "ChecksumSHA256", checksum),
                        metadata,
                    )
                )
            )
        return self._stored(len(content), etag, checksum)

    def _stored(self, size: int, etag: str | None, checksum: str) -> Stored:
        now = int(self._worker.now())
        return Stored(size, etag, None, checksum, already_existed=False, stored_at=now)

    def _existing(self, expected: ExpectedObject) -> Steps:
        """Describe the object that is there already."""
        storage = self._world.storage
        found = yield Call("head", lambda: storage.head(expected.bucket, expected.key))
        try:
            expected.require_same(found)
        except DeliveryError:
            if not self._world.scenario.retention:
                raise AssertionError(f"{expected} is not recognized in {found}") from None
            raise
        stored = expected.describe(found, int(self._worker.now()))
        self._counts["existing of another build"] += stored.checksum != expected.sha256
        return stored

    # --- in parts -----------------------------------------------------------------------------

    def stream(self, stream: PartUpload) -> Steps:
        """Let parts leave an open window; what does not get through is left to the closing."""
        world, body = self._world, stream.delivery.leaving
        started = world.scheduler.now
        while not body.is_closed and body.unsent:
            sent = yield from self._try(stream, lambda: self._send(stream))
            if isinstance(sent, Problem):
                body.is_stuck = True
                self._counts["stuck"] += 1
                elapsed = world.scheduler.now - started
                if not sent.retryable and elapsed >= world.habits.give_up_seconds:
                    return
                yield world.chance.uniform(0.1, 2.0)
        if world.sabotage is Sabotage.COMPLETE_EARLY:
            while not body.is_closed:
                yield RETRY_SECONDS
            yield from self._try(stream, lambda: self._complete_early(stream))

    def abort(self, upload: MultipartUpload) -> Steps:
        """End an upload that nobody goes on with; it is tried once."""
        if self._world.sabotage is Sabotage.ABANDON_NOTHING:
            return
        storage, (destination, key, name) = self._world.storage, upload
        try:
            yield Call("abort", lambda: storage.abort(destination.bucket, key, name))
        except StorageError as error:
            if error.code not in GONE:
                self.not_aborted.add(name)
        except NoAnswerError:
            self.not_aborted.add(name)

    def _send(self, task: PartUpload) -> Steps:
        """Send the parts that S3 does not have; return its name for the upload."""
        delivery, storage = task.delivery, self._world.storage
        destination = delivery.destination
        turn = self._turns.setdefault(delivery.key, Lock(self._world.scheduler))
        yield from turn.acquire()
        try:
            _require_valid(task)
            body = delivery.leaving
            name = body.upload_id or (yield from self._begin(task))
            unsent = [(part, part.content) for part in body.parts if part.content is not None]
            self._world.chance.shuffle(unsent)  # they are sent at the same time
            for part, content in unsent:
                etag = yield Call(
                    "part",
                    lambda number=part.number, content=content: storage.send_part(
                        destination.bucket,
                        delivery.key,
                        name,
                        number,
                        content,
                        checksum=self._checksum(content),
                    ),
                )
                task.partition.sent(task, part, etag)
        except StorageError as error:
            raise _gone(error) from error
        finally:
            turn.release()
        return name

    def _begin(self, task: PartUpload) -> Steps:
        delivery, storage = task.delivery, self._world.storage
        bucket, key = delivery.destination.bucket, delivery.key
        name = yield Call("begin", lambda: storage.begin(bucket, key, IN_PARTS, self._worker))
        self.uploads.add(name)
        try:
            task.partition.begun(task, name)
        except FencedError:
            self._counts["begun too late"] += 1
            self._abandon(delivery, name)
            raise
        return name

    def _complete(self, delivery: Delivery, name: str) -> Steps:
        storage, body = self._world.storage, delivery.content
        bucket, key = delivery.destination.bucket, delivery.key
        sent = [(part.number, part.stored) for part in body.parts if part.stored is not None]
        checksum = base64.b64encode(body.sha256).decode()
        try:
            etag = yield Call(
                "complete",
                lambda: storage.complete(
                    bucket, key, name, sent, if_none_match=self._if_none_match
                ),
            )
        except StorageError as error:
            if error.code != "PreconditionFailed":
                raise _gone(error) from error
            size, metadata = body.size_compressed, _metadata(delivery)
            stored = yield from self._existing(
                ExpectedObject(bucket, key, size, checksum, "", "", metadata)
            )
            self._abandon(delivery, name)
            return stored
        return self._stored(body.size_compressed, etag, checksum)

    def _complete_early(self, stream: PartUpload) -> Steps:
        """Do what `Sabotage.COMPLETE_EARLY` does."""
        if stream.delivery.state is State.DECIDED:
            stream.delivery.content.finish()
            upload_id = yield from self._send(stream)
            yield from self._complete(stream.delivery, upload_id)

    def _send_what_is_left(self, work: DeliveryTask) -> Steps:
        """Do what `Sabotage.FORGET_PARTS` does."""
        body = work.delivery.content
        body.upload_id = None
        for part in body.parts:
            part.stored = None
        return (yield from self._send(work))

    def _abandon(self, delivery: Delivery, name: str) -> None:
        self._worker.spawn(self.abort(MultipartUpload(delivery.destination, delivery.key, name)))

    # --- attempts -----------------------------------------------------------------------------

    def _try(self, task: PartUpload, attempt: Callable[[], Steps]) -> Steps:
        """Make one attempt; return what it returns, or the problem."""
        chance = self._world.chance
        if chance.random() < 0.1:
            yield chance.uniform(0.0, PLACE_SECONDS_MAX)  # for a place among the uploads
        is_broken = task.delivery.destination.id in self._worker.broken()
        if is_broken and chance.random() < 0.5:
            return Problem("NoSuchBucket", "barred", retryable=False)
        try:
            return (yield from self._counted(task, attempt))
        except DeliveryError as error:
            return Problem(error.code, error.message, isinstance(error, TransientError))
        except StorageError as error:
            return Problem(error.code, str(error), not error.permanent)
        except NoAnswerError as error:
            return Problem("ConnectionClosed", str(error), retryable=True)

    def _counted(self, task: PartUpload, attempt: Callable[[], Steps]) -> Steps:
        """Make an attempt; an upload that is lost again in a row is an error for good."""
        try:
            return (yield from attempt())
        except UploadGoneError as error:
            if not task.valid:
                raise
            found = self._lost.error(task.name, error)
            self._counts["uploads lost again"] += isinstance(found, DeliveryError)
            raise found from error

    @property
    def _if_none_match(self) -> bool:
        return self._world.sabotage is not Sabotage.NO_IF_NONE_MATCH

    def _checksum(self, content: bytes) -> str | None:
        return None if self._world.sabotage is Sabotage.NO_CHECKSUM else sha256(content)

    def _publish(self, work: DeliveryTask, receipt: Receipt) -> Steps:
        message = receipt.message(int(self._worker.now()))
        while True:
            if not work.valid:
                raise FencedError("receipt not sent")
            try:
                yield Call("publish", lambda: self._world.checker.on_receipt(message))
            except NoAnswerError:
                yield RETRY_SECONDS
            else:
                return


def _require_valid(task: PartUpload) -> None:
    if not task.valid:
        raise FencedError("not begun")


def _gone(error: StorageError) -> Exception:
    return UploadGoneError(error.code, str(error)) if error.code in GONE else error


def _metadata(delivery: Delivery) -> dict[str, str]:
    lines, size = delivery.tally.delivered, delivery.size_uncompressed
    return {"lines": str(lines), "uncompressed-size": str(size)}
