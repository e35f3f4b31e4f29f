"""The partitions of this worker as a tumbling Faust table.

A stock windowed table logs every change to a changelog topic and closes by one wall clock for all
partitions. This one is keyed by (partition, destination) too, and its closing callback is the
table's `on_window_close`, but its log is the events topic itself and its checkpoint the offset
commit: what is collected since the last commit is read again after a crash. So it has no changelog
topic and is not registered with `app.tables`. `assignment` (core) decides; here it is performed.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import faust
from mode import Service

from stream_app.assignment import Assignment, Relief
from stream_app.batches import Answers, Batch, Program
from stream_app.breakers import Breakers
from stream_app.consumer import SERVICE_LOGGER, StreamApp
from stream_app.errors import FencedError, TransientError
from stream_app.expressions import TP
from stream_app.partition import GapError, Work

if TYPE_CHECKING:
    from faust.types.tuples import Message

RETRY_SECONDS: Final = 0.5
"""Between attempts to reach a broker that is away."""

logger = logging.getLogger(__name__)


class WindowTable(faust.Table[Any, Any]):
    """The open and closed windows of all partitions that this worker holds.

    Args:
        app: The application.
        assignment: The core: what is ours and what it holds.
        program: The destinations, compiled.
        breakers: Which destinations are broken.
        on_shed: Called when windows are to be given up at once.
        **options: As for `faust.Table`; `on_window_close` delivers one closed window to one
            destination: `await on_window_close(((partition, destination), (start, end)), work)`.
    """

    app: StreamApp
    logger = SERVICE_LOGGER

    def __init__(
        self,
        app: StreamApp,
        *,
        assignment: Assignment,
        program: Program,
        breakers: Breakers,
        on_shed: Callable[[], None],
        **options: Any,  # noqa: ANN401 - passed through
    ) -> None:
        super().__init__(app, **options)
        self._assignment = assignment
        self._program = program
        self._programs: dict[TP, Program] = {}
        """That of each partition's open window, which a newer one may have followed."""
        self._breakers = breakers
        self._on_shed = on_shed
        self._loading = asyncio.Lock()
        self._committing = asyncio.Lock()
        """Held from when commits are made up until the broker has answered."""
        self._commit_wanted = asyncio.Event()
        self._moved = asyncio.Event()
        """Something was settled, recorded or revoked: who waits looks again."""
        self._deliveries: set[asyncio.Task[None]] = set()

    # --- what makes a Faust table log and restore: none of it ---------------------------------

    async def on_start(self) -> None:
        """Start without a store and without a changelog topic."""

    def on_key_set(self, key: Any, value: Any) -> None:  # noqa: ANN401 - Faust's signature
        """Log nothing: the events topic is the log."""

    def on_key_del(self, key: Any) -> None:  # noqa: ANN401 - Faust's signature
        """Log nothing: the events topic is the log."""

    # --- records in ---------------------------------------------------------------------------

    async def collect(self, message: "Message") -> None:
        """Take one batch into its partition's open window; wait while memory is short.

        A batch of an earlier assignment is dropped: whoever has the partition reads it again.
        """
        tp = TP(message.topic, message.partition)
        try:
            epoch = self._assignment.epoch_of(message.generation_id)
            await self._load(epoch)
            await self._collect(tp, epoch, cast("Batch", message.value))
        except FencedError as error:
            logger.debug("batch dropped: %s", error)

    async def _collect(self, tp: TP, epoch: int, batch: Batch) -> None:
        while self._assignment.relieve(time.time()) is Relief.WAIT:
            self._perform()
            await self._wait()
        rest: Batch | None = batch
        answered_by: Program | None = None
        while rest is not None:
            program = self._program_for(tp)
            if program is not answered_by:
                answered_by, answers = program, await _answer(program, rest, tp)
            position, is_newest = rest.position, program is self._program
            try:
                rest = self._assignment.collect(
                    tp, epoch, rest, answers, time.time(), one_window=not is_newest
                )
            except GapError as gap:
                if not await self._bridge(tp, epoch, gap):
                    await self._rebuild(tp, epoch, gap)
                    return
                continue
            self._perform()
            if rest is not None and rest.position == position:
                await self._wait()

    def use(self, program: Program) -> None:
        """Take other destinations: each partition does so when its open window has closed."""
        self._program = program
        self._breakers.keep(program.destinations)

    def _program_for(self, tp: TP) -> Program:
        partition = self._assignment.partitions.get(tp)
        if partition is None or partition.is_between_windows:
            self._programs[tp] = self._program
        return self._programs.setdefault(tp, self._program)

    async def _bridge(self, tp: TP, epoch: int, gap: GapError) -> bool:
        """Go on behind records that retention has deleted; False when they are not gone."""
        try:
            gone = await self.app.consumer.lost_to_retention(tp, gap)
        except TransientError as error:
            logger.warning("%s; where the log begins cannot be asked: %s; trying again", gap, error)
            await asyncio.sleep(RETRY_SECONDS)
            return True  # the gap is met again
        if gone:
            lost = self._assignment.skip_to(tp, epoch, gap.found)
            logger.error(
                "partition %s/%d: %d offsets from %d on were deleted by retention before they were "
                "read; keep records longer (retention.ms) or run more workers",
                *(*tp, lost, gap.position),
            )
        return gone

    async def _rebuild(self, tp: TP, epoch: int, gap: GapError) -> None:
        """Forget a partition whose state cannot be trusted and begin again at its commit."""
        logger.error("partition forgotten and rebuilt from its commit: %s", gap)
        # Not while a commit is on its way: it could land behind the read-back, and take away what
        # was read.
        async with self._committing:
            self._assignment.forget(tp)
            await self._load(epoch)
            await self.app.consumer.seek_to(tp, self._assignment.partitions[tp].position)

    # --- the life of an assignment ------------------------------------------------------------

    def revoked(self) -> None:
        """Every partition may go: end what is under way, keep what was collected."""
        self._assignment.revoked()
        self.app.consumer.log_ends.clear()
        for task in self._deliveries:
            task.cancel()
        self._moved.set()

    def assigned(self, tps: Iterable[TP], generation: int) -> None:
        """Take note of what is ours, and read it back even if no record comes."""
        self._assignment.assigned(tps, generation)
        self.add_future(self._load_assigned(self._assignment.epoch))

    async def _load_assigned(self, epoch: int) -> None:
        try:
            await self._load(epoch)
        except FencedError as error:
            logger.debug("not read back: %s", error)

    async def _load(self, epoch: int) -> None:
        """Read back the commit of each partition that is ours and not in service yet.

        Raises:
            FencedError: The partitions were taken away meanwhile.
        """
        while True:
            if not self._assignment.is_epoch(epoch):
                raise FencedError(f"read-back of epoch {epoch}, now {self._assignment.epoch}")
            if not self._assignment.missing:
                return
            async with self._loading:  # the agent and `assigned` need not both ask
                missing = self._assignment.missing
                if missing:
                    await self._load_missing(epoch, missing)

    async def _load_missing(self, epoch: int, missing: Sequence[TP]) -> None:
        try:
            commits = await self.app.consumer.read_commits(missing)
        except TransientError as error:
            logger.warning("commits cannot be read back: %s; trying again", error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        for tp, commit in commits.items():
            kept = self._assignment.loaded(tp, epoch, commit)
            if not kept:
                self._programs.pop(tp, None)
            logger.info(
                "partition %s/%d: %s at offset %s, %d recorded closings",
                *tp,
                "kept" if kept else "taken over",
                commit.offset,
                len(commit.closings),
            )
        self._perform()

    # --- performing ---------------------------------------------------------------------------

    async def _del_old_keys(self) -> None:
        """Close what is idle and over; Faust calls this every `table_cleanup_interval`."""
        self._assignment.tick(time.time(), self.app.consumer.log_ends)
        if self._assignment.shed(
            self._breakers.broken(time.monotonic()), len(self._program.destinations)
        ):
            self._on_shed()
        self._perform()

    def _perform(self) -> None:
        """Begin what the core has made due."""
        self._commit_wanted.set()
        for work in self._assignment.works():
            task = asyncio.create_task(self._deliver(work))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, work: Work) -> None:
        window, destination = work.window, work.delivery.destination
        end = window.window_start + self.app.settings.delivery.window_seconds
        key = ((work.partition.tp.partition, destination.id), (window.window_start, end))
        try:
            await self.on_window_close(key, work)
        except FencedError as error:
            logger.debug("not delivered by us: %s", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be committed
            await self.app.crash(error)
        else:
            self._commit_wanted.set()
            self._moved.set()

    @Service.task
    async def _commit(self) -> None:
        """Commit what the core wants committed, one request at a time, and release its works."""
        while not self.should_stop:
            await self._commit_wanted.wait()
            self._commit_wanted.clear()
            try:
                async with self._committing:
                    await self._commit_once()
            except FencedError as error:
                logger.debug("not committed: %s", error)
            except TransientError as error:
                logger.warning("not committed: %s; trying again", error)
                await self.sleep(RETRY_SECONDS)
                self._commit_wanted.set()

    async def _commit_once(self) -> None:
        epoch, generation = self._assignment.epoch, self._assignment.generation
        commits = self._assignment.commits()
        if not commits or generation is None:
            return
        await self.app.consumer.commit_closings(
            commits, generation, partial(self._assignment.is_epoch, epoch)
        )
        self._assignment.recorded(commits)
        self._perform()
        self._moved.set()

    async def _wait(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def on_stop(self) -> None:
        """End what is under way; it is done again from the commit."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)


async def _answer(program: Program, batch: Batch, tp: TP) -> list[Answers]:
    if program.uses_engine:
        return await asyncio.to_thread(program.answer, batch.records, tp)
    return program.answer(batch.records, tp)
