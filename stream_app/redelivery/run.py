"""Redelivery of what receipts list as owed: windows that were given up, events that failed.

    receipts topic ── two passes ──> OwedSearch ──> owed
    events topic ── the offsets that a receipt names ──> evaluate ──> lines

For each owed delivery, one after the other: check that it is still owed, read and evaluate its
events, announce the object, put it, publish the receipt. `redelivery.owed` explains announcements.
Nothing is committed, and no worker is disturbed: windows that are not settled are left to workers.
"""

import asyncio
import base64
import math
import random
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from stream_app.config.settings import MIB, Destination, Settings
from stream_app.core.delivery import Delivery
from stream_app.core.object_body import NEVER_IN_PARTS
from stream_app.core.receipt import Problem, Receipt, Status, Stored
from stream_app.core.receipt_decoder import Announced, ObjectLocation
from stream_app.core.retry_policy import RetryPolicy
from stream_app.core.router import Router
from stream_app.core.window import Window
from stream_app.errors import (
    DeliveryError,
    PermanentError,
    SetupError,
    TooLargeError,
    TransientError,
)
from stream_app.kafka.commits import read_commits
from stream_app.kafka.reader import EventsReader, ReceiptsReader
from stream_app.kafka.receipts_topic import ReceiptProducer
from stream_app.kafka.topics import require_topics
from stream_app.records import TopicPartition, Undecodable
from stream_app.redelivery.owed import ANNOUNCED, Owed, OwedFilter, OwedSearch, obstacle
from stream_app.s3.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_app.core.commit_metadata import Commit, UnmarkedCommitError

RECEIPT_BYTES_MAX: Final = 768 * 1024
"""Size of a receipt's lists: below Kafka's default bound of a message, above a worker's."""
PUT_SECONDS_MAX: Final = 30.0
"""Time for which an object is retried: an operator waits at a terminal, and can run it again."""
OBJECT_DIFFERS: Final = "ObjectDiffers"
SHOWN_MAX: Final = 5
"""Runs of offsets that a message names."""


class RedeliveryOutcome(StrEnum):
    """Outcome of an owed delivery."""

    REDELIVERED = "redelivered"
    ALREADY_EXISTED = "already-existed"
    """An earlier attempt had written the object; the receipt is published now."""
    EMPTY = "empty"
    """No event has a line any more: there is no object."""
    STILL_FAILED = "still-failed"
    """Failed events: all of them fail again."""
    ANSWERED = "answered"
    """Another run has delivered it meanwhile."""
    PLANNED = "planned"
    """A dry run: nothing prevents the delivery."""
    NOT_DONE = "not-done"


@dataclass(frozen=True, slots=True)
class RedeliveryResult:
    """Outcome of an owed delivery, and the location of its object."""

    owed: Owed
    outcome: RedeliveryOutcome
    location: ObjectLocation | None = None
    lines: int = 0
    failed: int = 0
    """Events without a line because they fail."""
    reason: str | None = None
    """Reason why it was not done."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do, and none of the events fails."""
        undone = (RedeliveryOutcome.NOT_DONE, RedeliveryOutcome.STILL_FAILED)
        return self.outcome not in undone and not self.failed


class NotDoneError(Exception):
    """The owed delivery cannot be done; the text has the reason."""


@dataclass(frozen=True, slots=True)
class _Job:
    """An owed delivery, and the object to be written for it."""

    owed: Owed
    group: str
    destination: Destination
    delivery: Delivery
    content: bytes = b""
    checksum: str = ""
    """SHA-256 of the content, in base64."""
    expected: Stored | None = None
    """The object as it is announced; None: there is none to write."""

    @property
    def location(self) -> ObjectLocation:
        return self.owed.location(self.destination)

    @property
    def announced(self) -> Announced | None:
        return None if self.expected is None else Announced(self.location, self.checksum)

    def receipt(
        self,
        status: Status,
        *,
        attempts: int = 0,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        return self.owed.build_receipt(
            status,
            self.group,
            self.delivery,
            attempts=attempts,
            stored=stored,
            problem=problem,
        )

    def result(self, outcome: RedeliveryOutcome) -> RedeliveryResult:
        tally = self.delivery.tally
        location = self.location if tally.delivered else None
        return RedeliveryResult(self.owed, outcome, location, tally.delivered, len(tally.failed))


class Redelivery:
    """One run; an async context manager.

    Args:
        settings: The present settings: bucket, prefix and payload are taken from here.
        wanted: Which owed deliveries.
        in_doubt: Deliver also where an earlier attempt may have left another object.

    Raises:
        SetupError: When entered: a topic is missing, or Kafka or S3 cannot be reached.
    """

    def __init__(self, settings: Settings, wanted: OwedFilter, *, in_doubt: bool = False) -> None:
        self.search = OwedSearch(settings.kafka.group, wanted)
        self._settings = settings
        self._in_doubt = in_doubt
        self._destinations = {it.id: it for it in settings.destinations}
        self._routers: dict[str, Router] = {}
        self._commits: Mapping[int, Commit | UnmarkedCommitError] = {}
        self._refused: dict[str, str] = {}
        """Destinations that are not tried any more, and the reason."""
        self._retry_policy = RetryPolicy(retry_for=PUT_SECONDS_MAX, give_up_after=0.0)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        kafka = self._settings.kafka
        events, receipts = await require_topics(kafka, kafka.events_topic, kafka.receipts_topic)
        async with AsyncExitStack() as stack:
            self._receipts = await stack.enter_async_context(ReceiptsReader(kafka, receipts))
            self._events = await stack.enter_async_context(EventsReader(kafka, events))
            self._producer = await stack.enter_async_context(ReceiptProducer(kafka))
            self._storage = await stack.enter_async_context(Storage(self._settings.s3))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def owed(self) -> list[Owed]:
        """Read the receipts and what the group has committed; return what is owed.

        Raises:
            SetupError: Kafka cannot be reached, or refuses, or more is owed than fits in memory.
        """
        await self._receipts.read_all(self.search.collect)
        self._require_receipts()
        if self.search.found:
            await self._receipts.read_all(self.search.update)
        owed = self.search.owed()
        partitions = sorted({it.receipt.source.partition for it in owed})
        self._commits = await read_commits(self._settings.kafka, partitions)
        return owed

    def plan(self, owed: Owed) -> RedeliveryResult:
        """Return what would be done, as far as it is known without reading the events."""
        reason = self._obstacle(owed)
        if reason is not None:
            return RedeliveryResult(owed, RedeliveryOutcome.NOT_DONE, reason=reason)
        return RedeliveryResult(
            owed, RedeliveryOutcome.PLANNED, owed.location(self._destination(owed))
        )

    async def deliver(self, owed: Owed) -> RedeliveryResult:
        """Deliver what is owed, or return the reason why not.

        Raises:
            SetupError: Kafka cannot be reached, or refuses. Running again is safe.
        """
        await self._receipts.read_new(self.search.update)
        self._require_receipts()
        if not self.search.is_owed(owed):
            return RedeliveryResult(owed, RedeliveryOutcome.ANSWERED)
        reason = self._obstacle(owed)
        if reason is not None:
            return RedeliveryResult(owed, RedeliveryOutcome.NOT_DONE, reason=reason)
        try:
            # 1. Read the events again; all of them must be there.
            job = await self._prepare(owed)
            if job.expected is None:
                return await self._deliver_nothing(job)
            # 2. Announce the object, unless another one may exist.
            await self._announce(job, job.expected)
            # 3. Make it visible, never over another one.
            attempts, stored = await self._put(job, job.expected)
            # 4. Publish the receipt and wait for the broker.
            await self._publish(job.receipt(Status.REDELIVERED, attempts=attempts, stored=stored))
        except NotDoneError as error:
            return RedeliveryResult(owed, RedeliveryOutcome.NOT_DONE, reason=str(error))
        return job.result(
            RedeliveryOutcome.ALREADY_EXISTED
            if stored.already_existed
            else RedeliveryOutcome.REDELIVERED
        )

    def _require_receipts(self) -> None:
        if self._receipts.undecodable and not self._in_doubt:
            raise SetupError(
                f"topic '{self._settings.kafka.receipts_topic}': receipts cannot be decoded "
                f"({', '.join(self._receipts.undecodable[:SHOWN_MAX])}), so it is unknown what "
                "they answer; check what is owed, and add --in-doubt to deliver it all the same"
            )

    def _destination(self, owed: Owed) -> Destination:
        return self._destinations[owed.receipt.destination]

    def _obstacle(self, owed: Owed) -> str | None:
        topic = self._settings.kafka.events_topic
        reason = obstacle(owed, self._destinations, topic, self._commits)
        return reason or self._refused.get(owed.receipt.destination)

    async def _prepare(self, owed: Owed) -> _Job:
        destination, source = self._destination(owed), owed.receipt.source
        if destination.id not in self._routers:
            self._routers[destination.id] = Router([destination])
        router = self._routers[destination.id]
        chosen = None if owed.events is None else frozenset(owed.events)
        mib_max = self._settings.delivery.memory_max_mib
        tp = TopicPartition(source.topic, source.partition)
        window = Window(
            tp, owed.first, RECEIPT_BYTES_MAX, sizes=NEVER_IN_PARTS, closed_at=owed.closed_at
        )
        run = self._events.read_run(source.partition, owed.first, owed.end)
        begin: int | None = None
        async with aclosing(run) as batches:
            async for batch in batches:
                begin = batch.position if begin is None else begin
                _require_decodable(batch.undecodable, chosen)
                records = [it for it in batch.records if chosen is None or it.offset in chosen]
                answers = await asyncio.to_thread(router.evaluate, records, tp)
                end = batch.next_position
                if window.add(answers, batch.position, end) < end or window.full:
                    raise NotDoneError(
                        "its receipt would be too large: too many of its events are skipped or "
                        "fail now; correct the payload"
                    )
                compressing = window.compressions()
                for it in compressing:
                    await asyncio.to_thread(it.compression.perform)
                window.compressed(compressing, owed.closed_at)
                if window.memory.held > mib_max * MIB:
                    raise NotDoneError(f"its lines exceed [delivery] memory_max_mib = {mib_max}")
        delivery = window.close(owed.closed_at).get(destination.id)
        found = delivery.tally.matched if delivery else 0
        if owed.matched is None and begin == owed.first and delivery is None:
            delivery = Delivery(destination)
            delivery.close()
        is_whole = begin == owed.first if owed.matched is None else found == owed.matched
        if delivery is None or not is_whole:
            raise NotDoneError(_gone(owed.matched, found))
        group = self._settings.kafka.group
        if delivery.body is None:
            return _Job(owed, group, destination, delivery)
        content = await asyncio.to_thread(delivery.body.finish)
        checksum = base64.b64encode(delivery.body.sha256).decode()
        expected = Stored(len(content), None, None, checksum, already_existed=False, stored_at=None)
        return _Job(owed, group, destination, delivery, content, checksum, expected)

    async def _deliver_nothing(self, job: _Job) -> RedeliveryResult:
        """Publish a receipt alone, since no event has a line."""
        result = job.result(RedeliveryOutcome.EMPTY)
        if job.owed.events is not None and result.failed == len(job.owed.events):
            return job.result(RedeliveryOutcome.STILL_FAILED)
        self._require_no_doubt(job)
        await self._publish(job.receipt(Status.EMPTY))
        return result

    def _require_no_doubt(self, job: _Job) -> None:
        location = None if self._in_doubt else job.owed.doubt(job.announced)
        if location is not None:
            raise NotDoneError(
                f"{_url(location)} may exist: an earlier attempt ended without a response, and the "
                "destination was corrected since. Check: if it does not exist, add --in-doubt; if "
                "it does, set the destination back for this run"
            )

    async def _announce(self, job: _Job, expected: Stored) -> None:
        self._require_no_doubt(job)
        problem = Problem(ANNOUNCED, "redeliver is about to write this object", retryable=True)
        await self._publish(job.receipt(Status.RETRYING, stored=expected, problem=problem))
        # Another run may have announced another object since the last read. The topic has one
        # order, so at least one of two runs sees the other's announcement.
        await self._receipts.read_new(self.search.update)
        try:
            self._require_no_doubt(job)
        except NotDoneError as error:
            problem = Problem("InDoubt", str(error), retryable=True)
            await self._publish(job.receipt(Status.FAILED, stored=expected, problem=problem))
            raise

    async def _put(self, job: _Job, expected: Stored) -> tuple[int, Stored]:
        """Write the object; return the number of attempts, and the object as S3 stored it."""
        location = job.location
        mine = Announced(location, job.checksum)
        lines, size = job.delivery.tally.delivered, job.delivery.size_uncompressed
        loop = asyncio.get_running_loop()
        started = loop.time()
        attempts, is_in_doubt = 0, False
        while True:
            attempts += 1
            error: DeliveryError
            try:
                stored = await self._storage.put(
                    job.destination, location.key, job.content, lines=lines, size=size
                )
            except DeliveryError as raised:
                error = raised
            else:
                ours = not stored.already_existed or is_in_doubt
                if ours or job.owed.is_same_object(mine, lines, size):
                    return attempts, stored
                error = PermanentError(
                    OBJECT_DIFFERS, f"{_url(location)} exists, and no attempt to write it is known"
                )
            if isinstance(error, TransientError):
                is_in_doubt = True
                if loop.time() - started < PUT_SECONDS_MAX:
                    pause = self._retry_policy.pause(error, attempts, random.random())  # noqa: S311
                    await asyncio.sleep(pause)
                    continue
            if not is_in_doubt:
                # This object was not written: another attempt may write elsewhere.
                problem = Problem(error.code, error.message, retryable=False)
                receipt = job.receipt(
                    Status.FAILED, attempts=attempts, stored=expected, problem=problem
                )
                await self._publish(receipt)
            if error.code == OBJECT_DIFFERS:
                raise NotDoneError(f"{error}; check it, and remove it if it is not wanted")
            self._refused[job.destination.id] = f"not tried after {error}"
            raise NotDoneError(str(error))

    async def _publish(self, receipt: Receipt) -> None:
        """Return once the broker has acknowledged it, shortened until the topic takes it."""
        while True:
            try:
                return await self._producer.publish(receipt.message(int(time.time())))
            except TooLargeError as error:
                shorter = receipt.shortened(error.size // 2)
                if shorter is None:
                    raise NotDoneError(error.message) from error
                receipt = shorter


def _url(location: ObjectLocation) -> str:
    return f"s3://{location.bucket}/{location.key}"


def _require_decodable(batch: Undecodable | None, chosen: frozenset[int] | None) -> None:
    if batch is None:
        return
    end = math.inf if batch.end is None else batch.end
    if chosen is None or any(batch.first <= offset < end for offset in chosen):
        raise NotDoneError(
            f"offsets {batch.offsets} cannot be decoded: {batch.reason}. Nothing was written; run "
            "this again when the broker has the record batch whole, or with a version that decodes "
            "it"
        )


def _gone(counted: int | None, found: int) -> str:
    if counted is None:
        return "retention has deleted events of its offsets. Nothing was written"
    if found > counted:
        return (
            f"its receipt counts {counted} events and the topic has {found}; is it another topic "
            "of that name? Nothing was written"
        )
    return (
        f"of the {counted} events that its receipt counts the topic has {found}: retention has "
        "deleted the others. Nothing was written"
    )
