"""The partitions of this worker as a tumbling Faust table.

A stock windowed table logs every change to a changelog topic and closes by one wall clock for all
partitions. This one is keyed by (partition, destination) too, and its closing callback is the
table's `on_window_close`, but its log is the events topic itself and its checkpoint the offset
commit: what is collected since the last commit is read again after a crash. So it has no changelog
topic and is not registered with `app.tables`. `assignment` (core) decides; here it is performed.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import faust
from mode import Service

from stream_app import telling
from stream_app.assignment import Assignment, Compressions, Relief
from stream_app.batches import Answers, Batch, GapError, Program
from stream_app.breakers import Breakers
from stream_app.consumer import StreamApp
from stream_app.deliveries import Upload
from stream_app.errors import FencedError, StreamAppError, TransientError, UploadGoneError
from stream_app.expressions import TP
from stream_app.fetching import SERVICE_LOGGER
from stream_app.health import Progress
from stream_app.metrics import Counts
from stream_app.partition import Stream, Work

if TYPE_CHECKING:
    from faust.types.tuples import Message

RETRY_SECONDS: Final = 0.5
"""Between attempts to reach a broker that is away."""

ENGINE_THREADS: Final = 2
"""Into how many pieces a batch is cut whose expressions need the engine, which runs in threads."""


class WindowTable(faust.Table[Any, Any]):
    """The open and closed windows of all partitions that this worker holds.

    Args:
        app: The application.
        assignment: The core: what is ours and what it holds.
        program: The destinations, compiled.
        breakers: Which destinations are broken.
        counts: Where events and commits are counted.
        progress: How commits go on.
        on_shed: Called when windows are to be given up at once.
        stream: Lets parts leave an open window.
        abandon: Ends an upload in parts that nobody goes on with.
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
        counts: Counts,
        progress: Progress,
        on_shed: Callable[[], None],
        stream: Callable[[Stream], Coroutine[Any, Any, None]],
        abandon: Callable[[Upload], None],
        **options: Any,  # noqa: ANN401 - passed through
    ) -> None:
        super().__init__(app, **options)
        self._assignment = assignment
        self._program = program
        self._programs: dict[TP, Program] = {}
        """That of each partition's open window, which a newer one may have followed."""
        self._breakers = breakers
        self._counts = counts
        self._waited_seconds = 0.0
        self._waits_since: float | None = None
        """When a batch began to wait for memory; None while none does."""
        self._progress = progress
        self._on_shed = on_shed
        self._stream = stream
        self._abandon = abandon
        self._loading = asyncio.Lock()
        self._committing = asyncio.Lock()
        """Held from when commits are made up until the broker has answered."""
        self._commit_wanted = asyncio.Event()
        self._moved = asyncio.Event()
        """Something was settled, recorded or revoked: who waits looks again."""
        self._deliveries: set[asyncio.Task[None]] = set()
        self._compressor = ThreadPoolExecutor(1, "compress")
        self._compressing: asyncio.Task[None] | None = None

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
            telling.not_ours("batch dropped", error, tp)

    async def _collect(self, tp: TP, epoch: int, batch: Batch) -> None:
        program = self._program_for(tp)
        pieces = batch.pieces(ENGINE_THREADS if program.uses_engine else 1)
        answering = [asyncio.ensure_future(_answer(program, piece, tp)) for piece in pieces]
        try:
            for piece, answers in zip(pieces, answering, strict=True):
                if not await self._collect_piece(tp, epoch, piece, program, await answers):
                    return
        finally:
            for answers in answering:
                answers.cancel()

    async def _collect_piece(
        self, tp: TP, epoch: int, piece: Batch, answered_by: Program, answers: list[Answers]
    ) -> bool:
        """Take a piece of a batch; False if the partition was rebuilt instead."""
        await self._relieve()
        rest: Batch | None = piece
        while rest is not None:
            program = self._program_for(tp)
            if program is not answered_by:
                answered_by, answers = program, await _answer(program, rest, tp)
            position, is_newest = rest.position, program is self._program
            count = len(rest.records)
            await self._compressed()
            try:
                rest = self._assignment.collect(
                    tp, epoch, rest, answers, time.time(), one_window=not is_newest
                )
            except GapError as gap:
                if not await self._bridge(tp, epoch, gap):
                    await self._rebuild(tp, epoch, gap)
                    return False
                continue
            self._counts.events += count - (len(rest.records) if rest is not None else 0)
            self._perform()
            if rest is not None and rest.position == position:
                await self._wait()
        self._compress(self._assignment.compressions(tp))
        return True

    async def _relieve(self) -> None:
        """Return when there is room for a further batch."""
        await self._compressed()
        while (relief := self._assignment.relieve(time.time())) is not Relief.GO:
            self._waits_since = self._waits_since or time.monotonic()
            self._perform()
            if relief is Relief.COMPRESS:
                self._compress(self._assignment.compressions())
                await self._compressed()
            else:
                await self._wait()
        self._waited_seconds, self._waits_since = self.waited_seconds, None

    @property
    def waited_seconds(self) -> float:
        """How long batches have waited for memory so far."""
        waits = 0.0 if self._waits_since is None else time.monotonic() - self._waits_since
        return self._waited_seconds + waits

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
            self._perform()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be committed
            await self.app.crash(error)

    async def _compressed(self) -> None:
        """Return when nothing is being compressed."""
        if self._compressing is not None:
            await asyncio.wait([self._compressing])

    def use(self, program: Program) -> None:
        """Take other destinations: each partition does so when its open window has closed."""
        self._program = program
        self._breakers.keep(program.destinations)
        self._counts.keep(program.destinations)

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
            telling.unexplained(tp, gap, error)
            await asyncio.sleep(RETRY_SECONDS)
            return True  # the gap is met again
        if gone:
            lost = self._assignment.skip_to(tp, epoch, gap.found)
            self._counts.lost_offsets += lost
            telling.lost(tp, gap, lost)
        return gone

    async def _build_anew(self, task: Stream, error: UploadGoneError) -> None:
        if not task.valid or task.delivery.body is None:
            return  # It is built anew already for another object, or nobody needs this one.
        await asyncio.sleep(RETRY_SECONDS)  # a server may lose parts again and again
        try:
            await self._rebuild(task.partition.tp, task.epoch, error)
        except FencedError as fenced:
            telling.not_ours("not built anew by us", fenced, task.partition.tp)

    async def _rebuild(self, tp: TP, epoch: int, error: StreamAppError) -> None:
        """Forget a partition whose state cannot be trusted and begin again at its commit."""
        telling.rebuilt(tp, error)
        # Not while a commit is on its way: it could land behind the read-back, and take away what
        # was read.
        async with self._committing:
            if not self._assignment.is_epoch(epoch):
                raise FencedError(
                    f"{tp}: built anew in epoch {epoch}, now {self._assignment.epoch}"
                )
            self._assignment.forget(tp)
            self._counts.rebuilt_partitions += 1
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
            telling.not_ours("not read back", error)

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
            telling.not_read_back(error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        for tp, commit in commits.items():
            kept = self._assignment.loaded(tp, epoch, commit)
            if not kept:
                self._programs.pop(tp, None)
            telling.read_back(tp, commit, kept=kept)
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
        # Whoever waits for room looks again: that a part is stuck, or a partition gone, is no move.
        self._moved.set()

    def _perform(self) -> None:
        """Begin what the core has made due."""
        self._commit_wanted.set()
        for stream in self._assignment.streams():
            self._begin(stream, self._stream(stream))
        works = self._assignment.works()
        telling.closed(works)
        for work in works:
            self._begin(work, self._deliver(work))
        for upload in self._assignment.abandoned():
            self._abandon(upload)

    def _begin(self, task: Stream, steps: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(self._run(task, steps))
        self._deliveries.add(running)
        running.add_done_callback(self._deliveries.discard)

    async def _deliver(self, work: Work) -> None:
        window, destination = work.window, work.delivery.destination
        end = window.window_start + self.app.settings.delivery.window_seconds
        key = ((work.partition.tp.partition, destination.id), (window.window_start, end))
        await self.on_window_close(key, work)

    async def _run(self, task: Stream, steps: Coroutine[Any, Any, None]) -> None:
        try:
            await steps
        except FencedError as error:
            telling.not_ours("not delivered by us", error, task.partition.tp)
        except UploadGoneError as error:
            await self._build_anew(task, error)
            self._moved.set()
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
                telling.not_ours("not committed", error)
            except TransientError as error:
                self._counts.failed_commits += 1
                telling.not_committed(error)
                await self.sleep(RETRY_SECONDS)
                self._commit_wanted.set()
            self._progress.turned_at = time.monotonic()

    async def _commit_once(self) -> None:
        epoch, generation = self._assignment.epoch, self._assignment.generation
        commits = self._assignment.commits()
        if not commits or generation is None:
            self._progress.none_due()
            return
        self._progress.due(time.monotonic())
        await self.app.consumer.commit_closings(
            commits, generation, partial(self._assignment.is_epoch, epoch)
        )
        self._progress.none_due()
        self._counts.committed(time.time())
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
        # Whoever has the partitions next begins uploads of its own.
        self._assignment.revoked()
        self._assignment.assigned(())
        for upload in self._assignment.abandoned():
            self._abandon(upload)


def _perform_all(taken: list[Compressions]) -> None:
    for it in taken:
        it.perform()


async def _answer(program: Program, batch: Batch, tp: TP) -> list[Answers]:
    if program.uses_engine:
        return await asyncio.to_thread(program.answer, batch.records, tp)
    return program.answer(batch.records, tp)
