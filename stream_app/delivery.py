"""The closing callback: what happens to a closed window at one destination, in which order.

Places among the uploads are what destinations compete for, so each kind of trouble has a bound of
its own: one destination and all broken ones together can take a few of the places, one bucket half.
"""

import asyncio
import base64
import contextlib
import math
import random
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from stream_app import telling
from stream_app.breakers import Breakers, Course, Step, Wake
from stream_app.errors import DeliveryError, FencedError, TransientError
from stream_app.metrics import Counts
from stream_app.partition import Stream, Work
from stream_app.receipts import Message, Problem, Receipt, Stored
from stream_app.retries import Patience
from stream_app.s3 import Storage
from stream_app.settings import Destination
from stream_app.telling import name

UPLOADS_MAX: Final = 64
"""Requests to S3 at a time."""
BUCKET_UPLOADS_MAX: Final = 32
"""Of these to one bucket, which may hang."""
DESTINATION_UPLOADS_MAX: Final = 8
"""Of these for one destination: so many may hang before it is known to be broken."""
PROBES_MAX: Final = 8
"""Of these by destinations that are broken."""
LATE_SECONDS: Final = 60.0
LOGGED_ATTEMPTS: Final = 3
"""The first attempts are logged one by one; later ones by `retrying` and the final word."""

Publish = Callable[[Message], Awaitable[None]]
_Result = TypeVar("_Result")


class Deliver:
    """The `on_window_close` callback.

    Args:
        storage: Where objects go.
        publish: Sends one receipt and returns when the broker has it.
        patience: How long to retry.
        breakers: Which destinations are broken.
        late_seconds: After so long a window is called late, by one `retrying` receipt.
        counts: Where receipts and failures are counted.
    """

    def __init__(
        self,
        storage: Storage,
        publish: Publish,
        patience: Patience,
        breakers: Breakers,
        late_seconds: float = LATE_SECONDS,
        *,
        counts: Counts,
    ) -> None:
        self._storage = storage
        self._publish_message = publish
        self._patience = patience
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
        """By destination: it was served, or windows were given up; who waits looks again."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of those who send parts of the same object, by its key."""

    def look_again(self) -> None:
        """Let every window that waits see whether it was given up."""
        changed = list(self._changed.values())
        self._changed.clear()
        for event in changed:
            event.set()

    async def __call__(self, key: Any, work: Work) -> None:  # noqa: ANN401 - Faust's signature
        """Bring one closed window to one destination.

        Steps 1 and 2 are behind us: the end and the upload time are decided, and the broker has
        them, else this work would not have been given out.

        Raises:
            FencedError: The partition was taken away meanwhile; whoever has it goes on.
        """
        del key  # the work names its window and destination itself
        # 3. Make the object visible, never over another one; or find that it cannot be.
        receipt = work.delivery.receipt or await self._upload(work)
        # 4. Publish the receipt and wait for the broker.
        await self._publish(work, receipt)
        # 5. Settle: the partition commits beyond this window when the older ones are settled too.
        work.partition.published(work)

    async def _upload(self, work: Work) -> Receipt:
        partition, delivery = work.partition, work.delivery
        content = partition.content(work)
        if content is None:
            return partition.uploaded(work, None, 0)
        put = partial(self._put, work, content)
        breaker = self._breakers.of(delivery.destination.id)
        course = Course(breaker, self._patience, self._late_seconds, time.monotonic())
        while True:
            step = course.step(time.monotonic(), is_shed=delivery.is_shed)
            if step is Step.WAIT:
                await self._pause(delivery.destination.id, course.pause)
            elif step is Step.TRY:
                stored = await self._try(work, course, put)
                if stored is not None:
                    telling.stored(work, stored, course.attempts + 1)
                    return partition.uploaded(work, stored, course.attempts + 1)
            elif step is Step.TELL:
                telling.late(work, course)
                receipt = partition.retrying(work, _problem(work, course), course.attempts)
                await self._publish(work, receipt)
            else:
                telling.given_up(work, course)
                upload_id = delivery.content.upload_id
                receipt = partition.uploaded(work, _problem(work, course), course.attempts)
                if upload_id is not None:
                    self._storage.abandon(delivery.destination, delivery.key, upload_id)
                return receipt

    async def stream(self, stream: Stream) -> None:
        """Let parts of an object leave while its window is open; nothing of it becomes visible.

        What does not get through is left to the closing, and told to the core: it holds memory.

        Raises:
            FencedError: The partition was taken away meanwhile.
            UploadGoneError: Parts that S3 had are gone: the partition must be built anew.
        """
        delivery, body = stream.delivery, stream.delivery.leaving
        breaker = self._breakers.of(delivery.destination.id)
        course = Course(breaker, self._patience, math.inf, time.monotonic())
        while not body.is_closed and body.unsent:
            step = course.step(time.monotonic(), is_shed=False)
            if step is Step.TRY:
                sent = await self._try(stream, course, partial(self._send, stream))
                if sent is not None:
                    continue
            body.is_stuck = True
            if step is Step.WAIT:
                await self._pause(delivery.destination.id, course.pause)
            elif step is not Step.TRY:
                return

    async def _pause(self, destination: str, seconds: float) -> None:
        """Wait so long, or until something has changed for the destination."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed[destination].wait()
        except TimeoutError:
            return

    async def _try(
        self, task: Stream, course: Course, attempt: Callable[[], Awaitable[_Result]]
    ) -> _Result | None:
        """Make one attempt; None if it failed, or was not made since the destination is broken."""
        destination = task.delivery.destination
        is_probe = course.begin()
        try:
            async with self._places(destination, is_probe=is_probe):
                if course.is_barred:
                    return None
                result = await attempt()
        except DeliveryError as error:
            self._failed(task, course, _bare(error))
            return None
        except BaseException:
            course.ended()
            raise
        breaker, now = self._breakers.of(destination.id), time.monotonic()
        if breaker.is_open:
            telling.served_again(destination.id, now - breaker.failing_since)
        wake = self._breakers.served(destination.id, now)
        if wake is Wake.ALL:
            self.look_again()
        elif wake is Wake.DESTINATION and destination.id in self._changed:
            self._changed.pop(destination.id).set()
        return result

    def _failed(self, task: Stream, course: Course, error: DeliveryError) -> None:
        """Note an attempt that failed."""
        self._counts.retried(task.delivery.destination.id)
        breaker = self._breakers.of(task.delivery.destination.id)
        was_open = breaker.is_open
        course.failed(error, time.monotonic(), random.random())  # noqa: S311
        if course.attempts <= LOGGED_ATTEMPTS:
            telling.not_stored(task, course)
        if breaker.is_open and not was_open:
            telling.broken(task.delivery.destination.id, error)

    @contextlib.asynccontextmanager
    async def _places(self, destination: Destination, *, is_probe: bool) -> AsyncGenerator[None]:
        """Hold a place among the uploads, those of the destination and its bucket, the probes."""
        async with contextlib.AsyncExitStack() as places:
            await places.enter_async_context(self._destinations[destination.id])
            if is_probe:
                await places.enter_async_context(self._probes)
            await places.enter_async_context(self._buckets[destination.bucket])
            await places.enter_async_context(self._uploads)
            yield

    async def _put(self, work: Work, content: bytes) -> Stored:
        _require_valid(work)
        delivery, body = work.delivery, work.delivery.content
        told: dict[str, Any] = {
            "lines": delivery.tally.delivered,
            "size": delivery.size_uncompressed,
            "sha256": base64.b64encode(body.sha256).decode(),
        }
        if not body.parts:
            return await self._storage.put(delivery.destination, delivery.key, content, **told)
        upload_id = await self._send(work)
        return await self._storage.complete(
            delivery.destination,
            delivery.key,
            upload_id,
            [part.told for part in body.parts],
            size_compressed=body.size_compressed,
            **told,
        )

    async def _send(self, task: Stream) -> str:
        """Send the parts that S3 does not have; return its name for the upload."""
        delivery = task.delivery
        # A part is sent by one of those that come at the same time; the others find it done.
        turn = self._turns.setdefault(delivery.key, asyncio.Lock())
        async with turn:
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
                lambda number, told: task.partition.sent(task, body.parts[number - 1], told),
            )
        return upload_id

    async def _publish(self, work: Work, receipt: Receipt) -> None:
        for attempts in count(1):
            if not work.valid:
                raise FencedError(f"{name(work)}: receipt not sent: the partition was taken away")
            try:
                await self._publish_message(receipt.message(int(time.time())))
            except (KafkaError, ProducerSendError) as error:
                self._counts.failed_receipts += 1
                telling.not_published(work, attempts, error)
                failure = TransientError(type(error).__name__, str(error))
                # Without an end: while the partition is ours, its receipts are owed.
                await asyncio.sleep(self._patience.pause(failure, attempts, random.random()))  # noqa: S311
            else:
                self._counts.published(receipt, time.time())
                return


def _bare(error: DeliveryError) -> DeliveryError:
    """Return an error without the frames that led to it.

    It is kept for as long as its window waits, and they would hold 100 KB of requests and clients.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _require_valid(task: Stream) -> None:
    if not task.valid:
        raise FencedError(f"{name(task)}: not begun: the partition was taken away")


def _problem(work: Work, course: Course) -> Problem:
    error = course.error
    assert error is not None, "nothing is late or given up without a failure"  # noqa: S101
    message = error.message
    if work.delivery.is_shed:
        message += " (given up early: the destination is broken and holds more than its share)"
    return Problem(error.code, message, isinstance(error, TransientError))
