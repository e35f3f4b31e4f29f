"""Collector: takes record batches into the open windows, within the memory bound.

    message ─> batch ─> pieces ─> outcomes (threads, if an expression needs the engine) ─> window
                                                              └─> full slices ─> compressor thread

The core decides when a window closes and what the memory bound requires.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, cast

from stream_app import log_events
from stream_app.core.assignment import Assignment, MemoryAction
from stream_app.core.router import DestinationOutcomes, Router, unmatched
from stream_app.core.tasks import Compressions
from stream_app.core.undecodable import Times
from stream_app.errors import FencedError, TransientError
from stream_app.expressions.expression import evaluations
from stream_app.logs import error_fields, log_event
from stream_app.monitoring.counts import Counts
from stream_app.records import Batch, GapError, OutOfRange, TopicPartition, Undecodable
from stream_app.text import counted
from stream_app.worker import log_messages
from stream_app.worker.committer import RETRY_SECONDS, Committer
from stream_app.worker.faust_app import StreamApp
from stream_app.worker.log_messages import partition_fields

if TYPE_CHECKING:
    from faust.types.tuples import Message

ENGINE_THREADS: Final = 2
"""Pieces of a batch whose expressions need the engine; each is evaluated in a thread."""

logger = logging.getLogger(__name__)


class Collector:
    """Collector of all partitions that this worker holds.

    Args:
        app: The app, whose consumer knows what retention has deleted.
        assignment: The core.
        committer: Takes partitions into service, and rebuilds them.
        router: The destinations, compiled.
        counts: Where events are counted.
        start_due: Starts what a batch has made due.
        wait: Returns when a window was settled or recorded, or memory freed.
    """

    def __init__(
        self,
        app: StreamApp,
        assignment: Assignment,
        committer: Committer,
        router: Router,
        counts: Counts,
        *,
        start_due: Callable[[], None],
        wait: Callable[[], Awaitable[None]],
    ) -> None:
        self.router = router
        """The newest destinations: a partition takes them when its open window has closed."""
        self._app = app
        self._assignment = assignment
        self._committer = committer
        self._counts = counts
        self._start_due = start_due
        self._wait_changed = wait
        self._waited_seconds = 0.0
        self.is_held = False
        """Whether a batch waits for memory, or for older windows of its partition."""
        self._taken: set[TopicPartition] = set()
        """Partitions of which batches were taken since they were last asked for."""
        self.under_way: TopicPartition | None = None
        """Partition of the batch that is under way."""
        self._taken_parts = 0
        self._waits_since: float | None = None
        """When a batch began to wait for memory; None while none does."""
        self._compressor = ThreadPoolExecutor(1, "compress")
        self._compressing: asyncio.Task[None] | None = None

    async def collect(self, message: "Message") -> None:
        """Take one batch into its partition's open window; wait while memory is short.

        A batch of an earlier assignment is dropped: the partition's owner reads it again.
        """
        tp = self.under_way = TopicPartition(message.topic, message.partition)
        try:
            # The assignment's epoch fences our own work; the group's generation that of a batch
            # which was fetched before a rebalance.
            epoch = self._assignment.epoch_of(message.generation_id)
            await self._committer.load(epoch)
            fetched = cast("Batch | OutOfRange", message.value)
            if isinstance(fetched, OutOfRange):
                await self._compressed()
                await self._committer.out_of_range(tp, epoch, fetched)
            elif await self._follows(tp, epoch, fetched):
                await self._collect(tp, epoch, fetched)
        except FencedError as error:
            log_messages.fenced("batch", error, tp)
        finally:
            self.under_way = None
            self._taken.add(tp)
            self._taken_parts += 1

    async def _follows(self, tp: TopicPartition, epoch: int, batch: Batch) -> bool:
        leader_epoch = self._assignment.epoch_to_verify(tp, epoch, batch)
        if leader_epoch is not None:
            await self._compressed()
        return await self._committer.verify(tp, epoch, leader_epoch)

    def taken(self) -> set[TopicPartition]:
        """Return the partitions of which a batch is under way, or was taken since the last call."""
        taken, self._taken = self._taken, set()
        return taken if self.under_way is None else taken | {self.under_way}

    @property
    def steps(self) -> int:
        """Steps of all batches so far, see `progress_watchdog.Work`."""
        return self._taken_parts + self._committer.read_backs + evaluations()

    async def _collect(self, tp: TopicPartition, epoch: int, batch: Batch) -> None:
        router = self._assignment.router(tp, self.router)
        waited = self._assignment.wait(tp)
        pieces = batch.pieces(ENGINE_THREADS if router.needs_engine(batch.records) else 1)
        evaluations = [asyncio.ensure_future(_evaluate(router, piece, tp)) for piece in pieces]
        try:
            for piece, outcomes in zip(pieces, evaluations, strict=True):
                if not await self._collect_piece(tp, epoch, piece, router, await outcomes):
                    return
        finally:
            for outcomes in evaluations:
                outcomes.cancel()
        if batch.undecodable is not None:
            try:
                await self.wait_at(tp, epoch, batch.undecodable)
            except GapError as gap:  # The partition was rebuilt meanwhile, for lost parts.
                await self._committer.rebuild(tp, epoch, gap)
        elif waited is not None and self._assignment.wait(tp) is None:
            log_event(
                logger,
                log_events.DECODED,
                offset=waited.batch.first,
                **partition_fields(tp),
            )

    async def _collect_piece(
        self,
        tp: TopicPartition,
        epoch: int,
        piece: Batch,
        evaluated_by: Router,
        outcomes: list[DestinationOutcomes],
    ) -> bool:
        """Take a piece of a batch; return False if the partition was rebuilt instead."""
        await self._relieve()
        rest: Batch | None = piece
        while rest is not None:
            self._taken_parts += 1
            router = self._assignment.router(tp, self.router)
            if router is not evaluated_by:
                evaluated_by, outcomes = router, await _evaluate(router, rest, tp)
            begun, is_newest = rest, router is self.router
            await self._compressed()
            try:
                rest = self._assignment.collect(
                    tp, epoch, rest, outcomes, time.time(), one_window=not is_newest
                )
            except GapError as gap:
                if not await self._bridge(tp, epoch, gap):
                    await self._committer.rebuild(tp, epoch, gap)
                    return False
                continue
            end = begun.next_position if rest is None else rest.position
            self._counts.events += len(begun.records) - (len(rest.records) if rest else 0)
            self._count_unmatched(evaluated_by, outcomes, begun, end)
            self._start_due()
            if rest is not None and rest.position == begun.position:
                await self._wait()
        self._compress(self._assignment.compressions(tp))
        return True

    def _count_unmatched(
        self, router: Router, outcomes: list[DestinationOutcomes], batch: Batch, end: int
    ) -> None:
        """Count the events of a batch, up to an offset, that no destination takes."""
        count = unmatched(outcomes, batch.records, end)
        if count:
            self._counts.unmatched_events += count
            self._counts.unmatched_keys.add(router.unmatched_keys(batch.records, end))

    async def wait_at(self, tp: TopicPartition, epoch: int, batch: Undecodable) -> None:
        """Wait at a batch that cannot be read, or continue after it.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
            GapError: The partition was rebuilt meanwhile.
        """
        await self._compressed()
        before = self._assignment.wait(tp)
        times = Times(time.time(), time.monotonic())
        passed = self._assignment.pass_over(tp, epoch, batch, self.router, times)
        self._start_due()
        if passed is None:
            if before is None or before.batch != batch:
                log_messages.undecodable(tp, batch, self._app.settings.delivery)
            return
        if passed.given_up:
            self._counts.undecodable_offsets += passed.given_up
            log_messages.passed_over(tp, batch, passed)
        await self._app.consumer.seek_to(tp, passed.end)

    async def _bridge(self, tp: TopicPartition, epoch: int, gap: GapError) -> bool:
        """Continue after records that retention has deleted; return False if it has not."""
        try:
            gone = await self._app.consumer.lost_to_retention(tp, gap)
        except TransientError as error:
            log_event(
                logger,
                log_events.OFFSET_GAP,
                first_offset=gap.position,
                end_offset=gap.found,
                **partition_fields(tp),
                **error_fields(error),
            )
            await asyncio.sleep(RETRY_SECONDS)
            return True  # the gap is met again
        if gone:
            self.skip_deleted(tp, epoch, gap.found)
        return gone

    def skip_deleted(self, tp: TopicPartition, epoch: int, start: int) -> None:
        """Continue at the start of the log: what lay before is deleted.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
        """
        lost = self._assignment.skip_to(tp, epoch, start)
        self._counts.lost_offsets += lost
        log_event(
            logger,
            log_events.DATA_LOSS,
            counted=counted(lost, "offset"),
            first_offset=start - lost,
            end_offset=start,
            **partition_fields(tp),
        )

    async def _wait(self) -> None:
        self.is_held = True
        try:
            await self._wait_changed()
        finally:
            self.is_held = False

    # --- memory -------------------------------------------------------------------------------

    @property
    def waited_seconds(self) -> float:
        """How long batches have waited for memory so far."""
        waits = 0.0 if self._waits_since is None else time.monotonic() - self._waits_since
        return self._waited_seconds + waits

    async def _relieve(self) -> None:
        """Return when there is room for a further batch."""
        await self._compressed()
        while (action := self._assignment.relieve(time.time())) is not MemoryAction.GO:
            self._waits_since = self._waits_since or time.monotonic()
            self._start_due()
            if action is MemoryAction.COMPRESS:
                self._compress(self._assignment.compressions())
                await self._compressed()
            else:
                await self._wait()
        self._waited_seconds, self._waits_since = self.waited_seconds, None

    def _compress(self, taken: list[Compressions]) -> None:
        """Compress in a thread, while the next batch is evaluated and until it is added."""
        if taken:
            self._compressing = asyncio.create_task(self._compress_all(taken))

    async def _compress_all(self, taken: list[Compressions]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._compressor, _perform_all, taken)
            # At once, and not only before the next batch, which may not come for long.
            self._assignment.compressed(taken, time.time())
            self._start_due()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be committed
            await self._app.crash(error)

    async def _compressed(self) -> None:
        """Return when no compression is in progress."""
        if self._compressing is not None:
            await asyncio.wait([self._compressing])


def _perform_all(taken: list[Compressions]) -> None:
    for it in taken:
        it.perform()


async def _evaluate(router: Router, batch: Batch, tp: TopicPartition) -> list[DestinationOutcomes]:
    if router.needs_engine(batch.records):
        return await asyncio.to_thread(router.evaluate, batch.records, tp)
    return router.evaluate(batch.records, tp)
