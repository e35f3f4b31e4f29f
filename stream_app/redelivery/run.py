"""Delivering again what the receipts say is owed: windows that were given up, events that failed.

    receipts topic ── two passes ──> redelivery.Search ──> owed
    events topic ── the offsets that a receipt names ──> evaluate ──> lines

For each thing that is owed, one after the other: look whether somebody has answered it, read and
evaluate its events, announce the object, put it, publish the receipt. `redelivery` says what an
announcement is for. Nothing is committed, and workers are not disturbed: what they have not settled
is left to them.
"""

import asyncio
import base64
import random
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from stream_app.batches import Program
from stream_app.deliveries import Delivery
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.expressions import TP
from stream_app.kafka import client_options, explained, require_topics
from stream_app.objects import NEVER_IN_PARTS
from stream_app.receipts import Problem, Receipt, Status, Stored
from stream_app.redelivery import ANNOUNCED, Owed, Search, Wanted, obstacle
from stream_app.reread import Events, Receipts, read_commits
from stream_app.retries import Patience
from stream_app.s3 import Storage
from stream_app.settings import Destination, Settings
from stream_app.told import Announced, Place
from stream_app.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_app.closings import Commit

RECEIPT_BYTES_MAX: Final = 768 * 1024
"""Of a receipt's lists: less than Kafka's usual bound for a message, more than a worker fills."""
PUT_SECONDS_MAX: Final = 30.0
"""How long one object is tried: somebody is waiting at a terminal, and can run it again."""
OBJECT_DIFFERS: Final = "ObjectDiffers"
MIB: Final = 1024 * 1024

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordTooLargeError)


class Outcome(StrEnum):
    """What became of something that was owed."""

    REDELIVERED = "redelivered"
    ALREADY_EXISTED = "already-existed"
    """An earlier try had written the object; its receipt is published now."""
    EMPTY = "empty"
    """None of its events has a line any more: there is no object."""
    STILL_FAILED = "still-failed"
    """Failed events: all of them fail again."""
    ANSWERED = "answered"
    """Somebody else was quicker."""
    PLANNED = "planned"
    """It would be tried: a dry run."""
    NOT_DONE = "not-done"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of something that was owed, and where its object is."""

    owed: Owed
    outcome: Outcome
    place: Place | None = None
    lines: int = 0
    failed: int = 0
    """Events without a line because they fail."""
    reason: str | None = None
    """Why it was not done."""

    @property
    def good(self) -> bool:
        """Whether nothing is left to do; of failed events, whether none fails any more."""
        if self.outcome in (Outcome.NOT_DONE, Outcome.STILL_FAILED):
            return False
        return self.owed.events is None or not self.failed


class NotDoneError(Exception):
    """This one cannot be delivered; the text says why."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What is owed, with what is to be written for it."""

    owed: Owed
    group: str
    destination: Destination
    delivery: Delivery
    content: bytes = b""
    expected: Stored | None = None
    """The object as it is announced."""

    @property
    def place(self) -> Place:
        return self.owed.place(self.destination)

    @property
    def announced(self) -> Announced | None:
        return None if self.expected is None else Announced(self.place, self.expected.checksum)

    def receipt(
        self,
        status: Status,
        *,
        attempts: int = 0,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        return self.owed.answer(
            status,
            self.group,
            self.destination,
            self.delivery.tally,
            self.delivery.size_uncompressed,
            attempts=attempts,
            stored=stored,
            problem=problem,
        )

    def result(self, outcome: Outcome) -> Result:
        tally = self.delivery.tally
        place = self.place if tally.delivered else None
        return Result(self.owed, outcome, place, tally.delivered, len(tally.failed))


class Redelivery:
    """One run; an async context manager.

    Args:
        settings: The present ones: bucket, prefix and payload are taken from here.
        wanted: Which of all that is owed.
        in_doubt: Deliver also where an earlier try may have left another object.

    Raises:
        SetupError: When entered: a topic is missing, Kafka or S3 cannot be asked.
    """

    def __init__(self, settings: Settings, wanted: Wanted, *, in_doubt: bool = False) -> None:
        self.search = Search(settings.kafka.group, wanted)
        self._settings = settings
        self._in_doubt = in_doubt
        self._destinations = {it.id: it for it in settings.destinations}
        self._programs: dict[str, Program] = {}
        self._commits: Mapping[int, Commit] = {}
        self._refused: dict[str, str] = {}
        """Destinations that are not tried any more, and what S3 said."""
        self._patience = Patience(retry_for=PUT_SECONDS_MAX, give_up_after=0.0)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        kafka = self._settings.kafka
        _, partitions = await require_topics(kafka, kafka.events_topic, kafka.receipts_topic)
        async with AsyncExitStack() as stack:
            self._receipts = await stack.enter_async_context(Receipts(kafka, partitions))
            self._events = await stack.enter_async_context(Events(kafka))
            with explained(kafka):
                self._producer = AIOKafkaProducer(
                    **client_options(kafka), enable_idempotence=True, acks="all"
                )
                stack.push_async_callback(self._producer.stop)
                await self._producer.start()
            self._storage = await stack.enter_async_context(Storage(self._settings.s3))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def owed(self) -> list[Owed]:
        """Read the receipts and what the group has committed; return what is owed.

        Raises:
            SetupError: Kafka cannot be asked, or more is owed than fits in memory.
        """
        await self._receipts.read_all(self.search.collect)
        if self.search.found:
            await self._receipts.read_all(self.search.note)
        owed = self.search.owed()
        partitions = sorted({it.receipt.source.partition for it in owed})
        self._commits = await read_commits(self._settings.kafka, partitions)
        return owed

    def plan(self, owed: Owed) -> Result:
        """Return what would be done, as far as it can be told without reading the events."""
        reason = self._obstacle(owed)
        if reason is not None:
            return Result(owed, Outcome.NOT_DONE, reason=reason)
        return Result(owed, Outcome.PLANNED, owed.place(self._destination(owed)))

    async def deliver(self, owed: Owed) -> Result:
        """Bring what is owed to its destination, or say why not.

        Raises:
            SetupError: Kafka cannot be asked. Running again is safe.
        """
        await self._receipts.follow(self.search.note)
        if not self.search.is_owed(owed):
            return Result(owed, Outcome.ANSWERED)
        reason = self._obstacle(owed)
        if reason is not None:
            return Result(owed, Outcome.NOT_DONE, reason=reason)
        try:
            # 1. Read the events again; all of them must be there.
            job = await self._build(owed)
            if job.expected is None:
                return await self._deliver_nothing(job)
            # 2. Announce the object, unless another one may stand.
            await self._announce(job, job.expected)
            # 3. Make it visible, never over another one.
            attempts, stored = await self._put(job, job.expected)
            # 4. Publish the receipt and wait for the broker.
            await self._publish(job.receipt(Status.REDELIVERED, attempts=attempts, stored=stored))
        except NotDoneError as error:
            return Result(owed, Outcome.NOT_DONE, reason=str(error))
        return job.result(
            Outcome.ALREADY_EXISTED if stored.already_existed else Outcome.REDELIVERED
        )

    def _destination(self, owed: Owed) -> Destination:
        return self._destinations[owed.receipt.destination]

    def _obstacle(self, owed: Owed) -> str | None:
        topic = self._settings.kafka.events_topic
        reason = obstacle(owed, self._destinations, topic, self._commits)
        return reason or self._refused.get(owed.receipt.destination)

    async def _build(self, owed: Owed) -> _Job:
        destination, source = self._destination(owed), owed.receipt.source
        if destination.id not in self._programs:
            self._programs[destination.id] = Program([destination])
        program = self._programs[destination.id]
        chosen = None if owed.events is None else frozenset(owed.events)
        mib_max = self._settings.delivery.memory_max_mib
        tp = TP(source.topic, source.partition)
        window = Window(
            tp, owed.first, RECEIPT_BYTES_MAX, sizes=NEVER_IN_PARTS, uploaded_at=owed.uploaded_at
        )
        async with aclosing(self._events.read(source.partition, owed.first, owed.end)) as runs:
            async for first, upto, run in runs:
                records = run if chosen is None else [it for it in run if it.offset in chosen]
                answers = await asyncio.to_thread(program.answer, records, tp)
                if window.add(answers, first, upto) < upto or window.full:
                    raise NotDoneError(
                        "its receipt would be too large: too many of its events are skipped or "
                        "fail now; correct the payload"
                    )
                compressing = window.compressions()
                for it in compressing:
                    await asyncio.to_thread(it.compression.perform)
                window.compressed(compressing, owed.uploaded_at)
                if window.held > mib_max * MIB:
                    raise NotDoneError(f"its lines exceed [delivery] memory_max_mib = {mib_max}")
        delivery = window.close(owed.uploaded_at).get(destination.id)
        found = delivery.tally.matched if delivery else 0
        if delivery is None or found != owed.matched:
            raise NotDoneError(_gone(owed.matched, found))
        group = self._settings.kafka.group
        if delivery.body is None:
            return _Job(owed, group, destination, delivery)
        content = await asyncio.to_thread(delivery.body.finish)
        checksum = base64.b64encode(delivery.body.sha256).decode()
        expected = Stored(len(content), None, None, checksum, already_existed=False)
        return _Job(owed, group, destination, delivery, content, expected)

    async def _deliver_nothing(self, job: _Job) -> Result:
        """Answer with a receipt alone, since no event has a line."""
        result = job.result(Outcome.EMPTY)
        if job.owed.events is not None and result.failed == len(job.owed.events):
            return job.result(Outcome.STILL_FAILED)
        self._require_no_doubt(job)
        await self._publish(job.receipt(Status.EMPTY))
        return result

    def _require_no_doubt(self, job: _Job) -> None:
        place = None if self._in_doubt else job.owed.doubt(job.announced)
        if place is not None:
            raise NotDoneError(
                f"{_url(place)} may exist: an earlier try ended without an answer, and the "
                "destination was corrected since. Look there: if it does not exist, add --in-doubt;"
                " if it does, set the destination back for this run"
            )

    async def _announce(self, job: _Job, expected: Stored) -> None:
        self._require_no_doubt(job)
        problem = Problem(ANNOUNCED, "redeliver is about to write this object", retryable=True)
        await self._publish(job.receipt(Status.RETRYING, stored=expected, problem=problem))
        # Another run may have announced another object since we looked. The topic has one order,
        # so at least one of two runs sees the other's.
        await self._receipts.follow(self.search.note)
        try:
            self._require_no_doubt(job)
        except NotDoneError as error:
            problem = Problem("InDoubt", str(error), retryable=True)
            await self._publish(job.receipt(Status.FAILED, stored=expected, problem=problem))
            raise

    async def _put(self, job: _Job, expected: Stored) -> tuple[int, Stored]:
        """Write the object; return the attempts that it took, and what S3 said."""
        place = job.place
        mine = Announced(place, expected.checksum)
        lines, size = job.delivery.tally.delivered, job.delivery.size_uncompressed
        loop = asyncio.get_running_loop()
        started = loop.time()
        attempts, unanswered = 0, False
        while True:
            attempts += 1
            error: DeliveryError
            try:
                stored = await self._storage.put(
                    job.destination, place.key, job.content, lines=lines, size=size
                )
            except DeliveryError as met:
                error = met
            else:
                ours = not stored.already_existed or unanswered
                if ours or job.owed.wrote(mine, lines, size):
                    return attempts, stored
                error = PermanentError(
                    OBJECT_DIFFERS, f"{_url(place)} exists, and no try to write this is known"
                )
            if isinstance(error, TransientError):
                unanswered = True
                if loop.time() - started < PUT_SECONDS_MAX:
                    pause = self._patience.pause(error, attempts, random.random())  # noqa: S311
                    await asyncio.sleep(pause)
                    continue
            if not unanswered:
                # Nothing of ours stands: another try may go elsewhere.
                problem = Problem(error.code, error.message, retryable=False)
                receipt = job.receipt(
                    Status.FAILED, attempts=attempts, stored=expected, problem=problem
                )
                await self._publish(receipt)
            if error.code == OBJECT_DIFFERS:
                raise NotDoneError(f"{error}; look at it, and remove it if it is not wanted")
            self._refused[job.destination.id] = f"not tried after {error}"
            raise NotDoneError(str(error))

    async def _publish(self, receipt: Receipt) -> None:
        """Return once the broker has it."""
        kafka = self._settings.kafka
        message = receipt.message(int(time.time()))
        try:
            with explained(kafka, topic=kafka.receipts_topic, unless=_TOO_LARGE):
                await self._producer.send_and_wait(
                    kafka.receipts_topic,
                    message.value,
                    key=message.key,
                    headers=list(message.headers),
                )
        except _TOO_LARGE as error:
            raise NotDoneError(
                f"{kafka.receipts_topic} does not take its receipt of {len(message.value)} bytes; "
                "raise the topic's max.message.bytes"
            ) from error


def _url(place: Place) -> str:
    return f"s3://{place.bucket}/{place.key}"


def _gone(counted: int, found: int) -> str:
    if found > counted:
        return (
            f"its receipt counts {counted} events and the topic has {found}; is it another topic "
            "of that name? Nothing was written"
        )
    return (
        f"of the {counted} events that its receipt counts the topic has {found}: retention has "
        "deleted the others. Nothing was written"
    )
