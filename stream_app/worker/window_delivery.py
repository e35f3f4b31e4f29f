"""Window delivery: the closing callback, which stores one closed window at one destination.

Destinations compete for upload slots, so each kind of failure has a bound of its own: one
destination, and all broken ones together, can take a few of the slots, one bucket half of them.
"""

import asyncio
import base64
import contextlib
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from stream_app import log_events
from stream_app.config.settings import Destination
from stream_app.core.attempts import Attempts, Step
from stream_app.core.circuit_breaker import CircuitBreakers, Wake, concerns_window
from stream_app.core.lost_uploads import LostUploads
from stream_app.core.publication import Publication
from stream_app.core.receipt import Message, Problem, Receipt, Status, Stored
from stream_app.core.retry_policy import RetryPolicy
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.errors import (
    DeliveryError,
    FencedError,
    TooLargeError,
    TransientError,
    UploadGoneError,
)
from stream_app.logs import error_fields, log_event
from stream_app.monitoring.counts import Counts
from stream_app.s3.multipart import UPLOAD_GONE
from stream_app.s3.storage import Storage
from stream_app.worker import log_messages
from stream_app.worker.log_messages import delivery_fields, subject

UPLOADS_MAX: Final = 64
"""Upload slots: requests to S3 at a time."""
BUCKET_UPLOADS_MAX: Final = 32
"""Slots for one bucket, which may not respond."""
DESTINATION_UPLOADS_MAX: Final = 8
"""Slots for one destination: so many may be without a response before its breaker opens."""
PROBES_MAX: Final = 8
"""Slots for all destinations whose breaker is open."""
_NO_BOUND: Final = contextlib.nullcontext()
LATE_SECONDS: Final = 5.0
LOGGED_ATTEMPTS: Final = 3
"""Failed attempts that are logged one by one; later ones by `late` and `given-up`."""

Publish = Callable[[Message], Awaitable[None]]
_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)


class WindowDelivery:
    """The `on_window_close` callback.

    Args:
        storage: Stores objects.
        publish: Sends one receipt and returns when the broker has it.
        policy: How long to retry.
        breakers: Circuit breakers of all destinations.
        late_seconds: After so long one `retrying` receipt is published.
        counts: Where receipts and failures are counted.
    """

    def __init__(
        self,
        storage: Storage,
        publish: Publish,
        policy: RetryPolicy,
        breakers: CircuitBreakers,
        late_seconds: float = LATE_SECONDS,
        *,
        counts: Counts,
    ) -> None:
        self._storage = storage
        self._publish_message = publish
        self._policy = policy
        self._breakers = breakers
        self._counts = counts
        self._late_seconds = late_seconds
        self._uploads = asyncio.Semaphore(UPLOADS_MAX)
        self._probes = asyncio.Semaphore(PROBES_MAX)
        self._buckets: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(BUCKET_UPLOADS_MAX)
        )
        self._destinations: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(DESTINATION_UPLOADS_MAX)
        )
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """By destination id: set when it was served, or windows were dropped."""
        self._sending: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Held while parts of one object are sent, by its key."""
        self._lost = LostUploads()

    def wake_all(self) -> None:
        """Let every waiting window check whether it was dropped."""
        changed = list(self._changed.values())
        self._changed.clear()
        for event in changed:
            event.set()

    async def __call__(self, key: Any, task: DeliveryTask) -> None:  # noqa: ANN401 - Faust's signature
        """Bring one closed window to one destination.

        Steps 1 and 2 are done: the end and the closing time are decided, and the broker has them,
        otherwise this task would not be due.

        Raises:
            FencedError: The partition was revoked meanwhile; its owner continues.
        """
        del key  # the task has window and destination
        # 3. Make the object visible, never over another one; or give it up.
        receipt = task.delivery.receipt or await self._upload(task)
        # 4. Publish the receipt and wait for the broker.
        await self._publish(task, receipt)
        # 5. Settle: the partition commits beyond this window when the older ones are settled too.
        task.partition.published(task)

    async def _upload(self, task: DeliveryTask) -> Receipt:
        partition, delivery = task.partition, task.delivery
        content = partition.content(task)
        if content is None:
            return partition.uploaded(task, delivery.problem, 0)
        put = partial(self._put, task, content)
        breaker = self._breakers.of(delivery.destination.id)
        window = log_messages.window_title(task)
        attempts = Attempts(breaker, self._policy, self._late_seconds, time.monotonic(), window)
        while True:
            step = attempts.step(time.monotonic(), is_dropped=delivery.is_dropped)
            if step is Step.WAIT:
                await self._pause(delivery.destination.id, attempts.pause)
            elif step is Step.TRY:
                stored = await self._try(task, attempts, put)
                if stored is not None:
                    self._lost.ended(task.name)
                    log_messages.stored(task, stored, attempts.made + 1)
                    return partition.uploaded(task, stored, attempts.made + 1)
            elif step is Step.REPORT_LATE:
                problem = _problem(task, attempts)
                log_event(
                    logger,
                    log_events.LATE,
                    attempts=attempts.made,
                    code=problem.code,
                    error=problem.message,
                    **delivery_fields(task),
                )
                receipt = partition.retrying(task, problem, attempts.made)
                await self._publish(task, receipt)
            else:
                problem = _problem(task, attempts)
                log_event(
                    logger,
                    log_events.GIVEN_UP,
                    attempts=attempts.made,
                    code=problem.code,
                    error=problem.message,
                    **delivery_fields(task),
                )
                self._lost.ended(task.name)
                upload_id = delivery.content.upload_id
                receipt = partition.uploaded(task, problem, attempts.made)
                if upload_id is not None:
                    self._storage.abandon(delivery.destination, delivery.key, upload_id)
                return receipt

    async def upload_parts(self, upload: PartUpload) -> None:
        """Upload parts of an object while its window is open; nothing of it becomes visible.

        A part that S3 does not take is left to the closing, and recorded: it holds memory.

        Raises:
            FencedError: The partition was revoked meanwhile.
            UploadGoneError: S3 has lost parts: the partition must be rebuilt.
        """
        delivery, body = upload.delivery, upload.delivery.leaving
        breaker = self._breakers.of(delivery.destination.id)
        window = log_messages.window_title(upload)
        attempts = Attempts(breaker, self._policy, math.inf, time.monotonic(), window)
        while not body.is_closed and body.unsent:
            step = attempts.step(time.monotonic(), is_dropped=False)
            if step is Step.TRY:
                sent = await self._try(upload, attempts, partial(self._send, upload))
                if sent is not None:
                    continue
            upload.partition.stuck(upload)
            if step is Step.WAIT:
                await self._pause(delivery.destination.id, attempts.pause)
            elif step is not Step.TRY:
                return

    async def _pause(self, destination: str, seconds: float) -> None:
        """Wait for so long, or until the destination is served or windows are dropped."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed[destination].wait()
        except TimeoutError:
            return

    async def _try(
        self, task: PartUpload, attempts: Attempts, attempt: Callable[[], Awaitable[_Result]]
    ) -> _Result | None:
        """Make one attempt; return None if it failed, or was not made since the breaker opened."""
        destination = task.delivery.destination
        probes = self._probes if attempts.begin() else _NO_BOUND
        try:
            # An upload slot, under the bounds of destination, probes and bucket.
            async with (
                self._destinations[destination.id],
                probes,
                self._buckets[destination.bucket],
                self._uploads,
            ):
                if attempts.is_barred:
                    return None
                result = await self._counted(task, attempt)
        except DeliveryError as error:
            self._failed(task, attempts, _bare(error))
            if concerns_window(error):
                self._served(destination)
            return None
        except BaseException:
            attempts.ended()
            raise
        self._served(destination)
        return result

    async def _counted(
        self, task: PartUpload, attempt: Callable[[], Awaitable[_Result]]
    ) -> _Result:
        """Make an attempt; an upload that is lost again in a row is a `PermanentError`."""
        try:
            return await attempt()
        except (UploadGoneError, TransientError) as error:
            if error.code not in UPLOAD_GONE or not task.valid:
                raise  # If the task is not valid, its next owner may have aborted the upload.
            found = self._lost.error(task.name, error)
            if found is error:
                raise
            raise found from error

    def _served(self, destination: Destination) -> None:
        """Record that a destination was served, and wake windows that wait for that."""
        breaker, now = self._breakers.of(destination.id), time.monotonic()
        if breaker.is_open:
            log_event(
                logger,
                log_events.BREAKER_CLOSED,
                destination=destination.id,
                seconds=round(now - breaker.failing_since, 1),
            )
        wake = self._breakers.served(destination.id, now)
        if wake is Wake.ALL:
            self.wake_all()
        elif wake is Wake.DESTINATION and destination.id in self._changed:
            self._changed.pop(destination.id).set()

    def _failed(self, task: PartUpload, attempts: Attempts, error: DeliveryError) -> None:
        """Record a failed attempt."""
        self._counts.attempt_failed(task.delivery.destination.id)
        breaker = self._breakers.of(task.delivery.destination.id)
        was_open = breaker.is_open
        attempts.failed(error, time.monotonic(), random.random())  # noqa: S311
        if attempts.made <= LOGGED_ATTEMPTS:
            log_event(
                logger,
                log_events.UPLOAD_FAILED,
                attempts=attempts.made,
                **delivery_fields(task),
                **error_fields(error),
            )
        if breaker.is_open and not was_open:
            log_event(
                logger,
                log_events.BREAKER_OPENED,
                destination=task.delivery.destination.id,
                **error_fields(error),
            )

    async def _put(self, task: DeliveryTask, content: bytes) -> Stored:
        _require_valid(task)
        delivery, body = task.delivery, task.delivery.content
        described: dict[str, Any] = {
            "lines": delivery.tally.delivered,
            "size": delivery.size_uncompressed,
            "sha256": base64.b64encode(body.sha256).decode(),
        }
        if not body.parts:
            return await self._storage.put(delivery.destination, delivery.key, content, **described)
        upload_id = await self._send(task)
        return await self._storage.complete(
            delivery.destination,
            delivery.key,
            upload_id,
            [part.stored for part in body.parts],
            size_compressed=body.size_compressed,
            **described,
        )

    async def _send(self, task: PartUpload) -> str:
        """Send the parts that S3 does not have; return the id of the multipart upload."""
        delivery = task.delivery
        # Of several callers at the same time one sends the parts; the others find them sent.
        sending = self._sending.setdefault(delivery.key, asyncio.Lock())
        async with sending:
            _require_valid(task)
            body = delivery.leaving
            if body.upload_id is None:
                upload_id = await self._storage.begin(delivery.destination, delivery.key)
                try:
                    task.partition.begun(task, upload_id)
                except FencedError:
                    self._storage.abandon(delivery.destination, delivery.key, upload_id)
                    raise
            else:
                upload_id = body.upload_id
            await self._storage.send(
                delivery.destination,
                delivery.key,
                upload_id,
                [(part.number, part.content) for part in body.parts if part.content is not None],
                lambda number, stored: task.partition.sent(task, body.parts[number - 1], stored),
            )
        return upload_id

    async def _publish(self, task: DeliveryTask, receipt: Receipt) -> None:
        publication = Publication(receipt, self._policy, self._counts.published_receipts)
        try:
            await self._publish_until_taken(task, publication)
        finally:
            if publication.attempts:
                self._counts.receipt_ended(receipt.id)

    async def _publish_until_taken(self, task: DeliveryTask, publication: Publication) -> None:
        while True:
            if not task.valid:
                raise FencedError(
                    f"{subject(task)}: receipt not sent: the partition was taken away"
                )
            receipt = publication.receipt
            try:
                await self._publish_message(receipt.message(int(time.time())))
            except (TransientError, TooLargeError) as error:
                now = time.monotonic()
                pause = publication.failed(error, now, random.random())  # noqa: S311
                if publication.receipt is not receipt:
                    continue  # the shorter form, at once
                self._counts.receipt_failed(receipt.id, error.code, now)
                log_event(
                    logger,
                    log_events.RECEIPT_FAILED,
                    attempts=publication.attempts,
                    **delivery_fields(task),
                    **error_fields(error),
                )
                if pause is None:
                    self._receipt_given_up(task, receipt, error)
                    return
                await asyncio.sleep(pause)
            else:
                if receipt.lists is not None:
                    self._counts.shortened_receipts += 1
                    log_event(
                        logger,
                        log_events.RECEIPT_SHORTENED,
                        lists_end=receipt.lists.end_offset,
                        **delivery_fields(task),
                    )
                self._counts.published(receipt, time.time())
                return

    def _receipt_given_up(self, task: DeliveryTask, receipt: Receipt, error: DeliveryError) -> None:
        if receipt.status is Status.RETRYING:
            return  # The window goes on, and its final receipt has all of it.
        self._counts.unpublished_receipts += 1
        log_event(
            logger,
            log_events.RECEIPT_GIVEN_UP,
            receipt_status=str(receipt.status),
            matched=receipt.tally.matched,
            key=receipt.key,
            **delivery_fields(task),
            **error_fields(error),
        )


def _bare(error: DeliveryError) -> DeliveryError:
    """Return an error without its traceback and causes.

    The error is kept while its window waits, and frames would hold 100 KB of requests and clients.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _require_valid(task: PartUpload) -> None:
    if not task.valid:
        raise FencedError(f"{subject(task)}: not begun: the partition was taken away")


def _problem(task: DeliveryTask, attempts: Attempts) -> Problem:
    error = attempts.error
    assert error is not None, "nothing is late or given up without a failure"  # noqa: S101
    message = attempts.message
    if task.delivery.is_dropped:
        message += " (given up early: the destination is broken and holds more than its share)"
    return Problem(error.code, message, isinstance(error, TransientError))
