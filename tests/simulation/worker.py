"""One worker: the real core inside a shell that does what `table.py` and `delivery.py` do.

The shell is written again with generators instead of asyncio, so that a whole group of workers
runs in one thread under virtual time. Where the real shell has an `await`, there is a `yield`
here: everything else of the world may happen in between.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_app.core.assignment import Assignment, MemoryAction, Truncation
from stream_app.core.closed_windows import ClosedWindows
from stream_app.core.commit_metadata import Commit, decode, encode
from stream_app.core.delivery import WindowPolicy
from stream_app.core.progress_watchdog import WATCH_SECONDS, ProgressWatchdog, Remedy, Sight
from stream_app.core.router import DestinationOutcomes
from stream_app.core.tasks import Compressions, PartUpload
from stream_app.core.undecodable import Times
from stream_app.core.window import Window
from stream_app.errors import FencedError, UploadGoneError
from stream_app.expressions.expression import SKIP, Failure
from stream_app.records import Batch, GapError, OutOfRange, TopicPartition, Undecodable
from tests.simulation.broker import (
    TOPIC,
    OutOfRangeError,
    Record,
    RefusedError,
    TooLargeError,
)
from tests.simulation.delivery import RETRY_SECONDS, Deliver
from tests.simulation.sabotage import Sabotage
from tests.simulation.scheduler import (
    Call,
    Lock,
    NoAnswerError,
    Process,
    Signal,
    Steps,
    Task,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

BATCHES_WAITING_MAX = 3
UNDECODABLE_RETRY_SECONDS = 2.0
TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How a worker's client behaves: what Kafka and Faust allow, and what only a fault does."""

    poll_seconds: float
    records_max: int
    keeps_queue: float
    """How often batches that wait survive a revocation, with their old generation."""
    duplicates: float
    """How often a batch is handed on twice."""
    seeks_back: float
    """How often the consumer fetches again from an older position."""
    loses: float
    """How often a batch is not handed on at all."""
    clears: float
    """How often the queue is cleared after the positions were sought, with what came since."""
    runs_on: float
    """How often a delivery is not cancelled by a revocation, but runs on."""
    give_up_seconds: float
    late_seconds: float


class Worker(Process):
    """A process of the group."""

    def __init__(
        self,
        world: "World",
        rules: WindowPolicy,
        memory_bytes_max: int,
        place: str | None = None,
    ) -> None:
        self.world = world
        self.place = place
        """Id of a static member of the group."""
        self.counts: Counter[str] = world.counts
        self.assignment = Assignment(rules, memory_bytes_max)
        self.deaf_until = 0.0
        """Until then the broker's answers to heartbeats do not reach it: it may be a zombie."""
        self.clock_ahead = world.clock_ahead()
        self.member: str | None = None
        self.rejoin = self._signal()
        self._memory_bytes_max = memory_bytes_max
        self._positions: dict[TopicPartition, int] = {}
        self._seeks: Counter[TopicPartition] = Counter()
        self._log_ends: dict[TopicPartition, int] = {}
        self._held: dict[TopicPartition, float] = {}
        """Until when a partition is not fetched that waits at a batch that cannot be decoded."""
        self._paused: set[TopicPartition] = set()
        """Partitions that are not fetched until they are sought, or assigned anew."""
        self._answering: dict[TopicPartition, int] = {}
        """Where the answers end that have not arrived yet."""
        self._queue: deque[tuple[TopicPartition, int, Batch | OutOfRange]] = deque()
        self._arrived = self._signal()
        self._watchdog = ProgressWatchdog()
        self._taken: set[TopicPartition] = set()
        """Partitions of which batches were taken since the watchdog has looked."""
        self._under_way: TopicPartition | None = None
        self._taking = -1
        """Where the batch ends that is under way."""
        self._is_held = False
        self.moved = self._signal()
        """Something was settled, recorded or revoked: who waits looks again."""
        self._commit_wanted = self._signal()
        self._loading = Lock(world.scheduler)
        self._committing = Lock(world.scheduler)
        """Held from when commits are made up until the broker has answered."""
        self._doubted: tuple[str | None, int] | None = None
        """Member and generation in which the outcome of a commit is unknown."""
        self.deliver = Deliver(self)
        self._deliveries: list[Task] = []
        self._compressing: list[Compressions] | None = None
        self._compressed = self._signal()
        for steps in (
            self._take_part(),
            self._fetch(),
            self._collect_all(),
            self._tick(),
            self._watch(),
            self._commit(),
        ):
            world.scheduler.spawn(self, steps)

    def crash(self) -> None:
        super().crash()
        self.world.crashed(self)

    @property
    def alive(self) -> bool:
        return not self.crashed

    def now(self) -> float:
        """Return what its clock says, in seconds since 1970."""
        return self.world.time() + self.clock_ahead

    def seen(self, tp: TopicPartition) -> list[int]:
        """Return the offsets that its parts have reached, but for what is known to be truncated."""
        assignment = self.assignment
        held = assignment.partitions.get(tp) or assignment._suspended.get(tp)
        if held is not None and held.is_truncated:
            return []
        seen = [end.next_position for name, _, end in self._queue if name == tp]
        seen += [it[tp] for it in (self._positions, self._answering) if tp in it]
        if self._under_way == tp:
            seen.append(self._taking)
        return seen if held is None else [*seen, held.position]

    # --- the group ----------------------------------------------------------------------------

    def _take_part(self) -> Steps:
        chance, broker = self.world.chance, self.world.broker
        while True:
            self.rejoin.clear()
            # A static member joins anew where another would leave first.
            is_doubted = self._doubted is not None and self._doubted[0] == self.member
            member = None if is_doubted and self.place is not None else self.member
            try:
                ticket = yield Call("join", lambda member=member: broker.join(self, member))
            except NoAnswerError:
                yield RETRY_SECONDS
                continue
            self.member = ticket.member
            yield ticket.signal
            if ticket.generation is None:
                continue
            yield chance.uniform(0.0, 0.2)
            tps = [TopicPartition(*name) for name in ticket.partitions]
            self.assignment.assigned(tps, ticket.generation)
            self.spawn(self._load_assigned(self.assignment.epoch))
            self.spawn(self._seek_all(tps, ticket.generation))
            yield self.rejoin
            self._revoke()
            # The signals to Faust's parts take their time before it joins again.
            yield chance.uniform(0.0, 1.5) if chance.random() < 0.9 else 12.0

    def _revoke(self) -> None:
        chance, habits = self.world.chance, self.world.habits
        self.assignment.revoked()
        self._positions.clear()
        self._paused.clear()
        self._log_ends.clear()
        if chance.random() >= habits.keeps_queue:
            self._queue.clear()
        kept = []
        for task in self._deliveries:
            if not task.done and chance.random() < habits.runs_on:
                kept.append(task)
            else:
                task.cancel()
        self._deliveries = kept
        self.moved.set()

    def _load_assigned(self, epoch: int) -> Steps:
        try:
            yield from self._load(epoch)
        except FencedError:
            self.counts["read-back fenced"] += 1

    def _load(self, epoch: int) -> Steps:
        """Read back the commit of each partition that is ours and not in service yet."""
        assignment = self.assignment
        while True:
            if not assignment.is_epoch(epoch):
                raise FencedError(f"read-back of epoch {epoch}, now {assignment.epoch}")
            if not assignment.missing:
                return
            yield from self._loading.acquire()
            try:
                if assignment.missing:
                    yield from self._load_missing(epoch, assignment.missing)
            finally:
                self._loading.release()

    def _load_missing(self, epoch: int, missing: Sequence[TopicPartition]) -> Steps:
        try:
            commits = yield Call("read-back", lambda: self._committed(missing))
            logs = yield Call("log-bounds", lambda: self._bounds(missing))
        except NoAnswerError:
            yield RETRY_SECONDS
            return
        for tp, commit in commits.items():
            start, end = logs[tp]
            restart = commit.restarted(start, self.now()) if commit.is_beyond(end) else None
            kept = self.assignment.loaded(tp, epoch, commit, restart)
            if restart is not None and not kept:
                self.counts["begun anew by a successor"] += 1
                began_at = commit.began_at if commit.is_after_truncation else 0
                self.world.checker.on_truncated(tp, began_at, commit.offset)
                self._seek(tp, restart.offset)
                self.assignment.sought(tp, epoch, self._seeks[tp])
            self.counts["kept" if kept else "taken over"] += 1
            if not kept and commit.closings:
                self.counts["replays"] += 1
                if self.world.sabotage is Sabotage.STREAM_NEW_KEY:
                    self.assignment.partitions[tp].window.closed_at = None
        self._perform()

    def _committed(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, Commit]:
        broker, commits = self.world.broker, {}
        for tp in tps:
            committed = broker.offsets.get(tuple(tp))
            if committed is None:
                commits[tp] = Commit(
                    broker.logs[tuple(tp)].start, (), began_at=int(self.now()), is_new=True
                )
            elif self.world.sabotage is Sabotage.NO_READ_BACK:
                commits[tp] = Commit(committed[0], ())
            else:
                commits[tp] = decode(*committed)
        return commits

    def _bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        logs = self.world.broker.logs
        return {tp: (logs[tuple(tp)].start, logs[tuple(tp)].end) for tp in tps}

    def _seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._seeks[tp] += 1
        self._paused.discard(tp)

    def _seek_all(self, tps: Sequence[TopicPartition], generation: int) -> Steps:
        for tp in tps:
            while True:
                try:
                    offset = yield Call("offset", lambda tp=tp: self._fetch_offset(tp))
                except NoAnswerError:
                    yield RETRY_SECONDS
                else:
                    break
            if generation != self.assignment.generation:
                return
            # A seek that the worker itself has ordered meanwhile counts.
            self._positions.setdefault(tp, offset)
        if self.world.chance.random() < self.world.habits.clears:
            yield self.world.chance.uniform(0.5, 3.0)
            if generation == self.assignment.generation:
                self.counts["batches cleared"] += len(self._queue)
                self._queue.clear()

    def _fetch_offset(self, tp: TopicPartition) -> int:
        committed = self.world.broker.offsets.get(tuple(tp))
        return committed[0] if committed else self.world.broker.logs[tuple(tp)].start

    # --- records in ---------------------------------------------------------------------------

    def _fetch(self) -> Steps:
        chance = self.world.chance
        while True:
            yield self.world.habits.poll_seconds
            habits = self.world.habits
            for tp in list(self._positions):
                position, generation = self._positions.get(tp), self.assignment.generation
                log = self.world.broker.logs[tuple(tp)]
                if position is None or generation is None:
                    break
                if self._held.get(tp, 0.0) > self.world.scheduler.now:
                    continue
                if len(self._queue) >= BATCHES_WAITING_MAX:
                    break
                if tp in self._paused:
                    continue
                if position == log.end:
                    self._log_ends[tp] = log.end
                    continue
                count_max = chance.randint(1, habits.records_max)
                try:
                    end, (after, records, broken) = yield Call(
                        "fetch", lambda it=(tp, position, count_max): self._read(*it)
                    )
                except OutOfRangeError:
                    if self._positions.get(tp) == position:
                        self._out_of_range(tp, generation, position)
                    continue
                except NoAnswerError:
                    continue
                finally:
                    self._answering.pop(tp, None)
                if self._positions.get(tp) != position or generation != self.assignment.generation:
                    continue  # sought, or revoked, meanwhile: as aiokafka does
                self._positions[tp] = after
                self._log_ends[tp] = end
                if broken is not None:
                    self._held[tp] = self.world.scheduler.now + UNDECODABLE_RETRY_SECONDS
                if chance.random() < habits.loses:
                    self.counts["batches lost"] += 1
                    continue
                batch = Batch(position, after, records, broken, self._seeks[tp])
                self._queue.append((tp, generation, batch))
                if chance.random() < habits.duplicates:
                    self.counts["batches repeated"] += 1
                    self._queue.append((tp, generation, batch))
                if chance.random() < habits.seeks_back:
                    self.counts["fetched again"] += 1
                    self._positions[tp] = chance.randint(min(self._fetch_offset(tp), after), after)
                self._arrived.set()

    def _read(
        self, tp: TopicPartition, position: int, count_max: int
    ) -> tuple[int, tuple[int, list[Record], Undecodable | None]]:
        log = self.world.broker.logs[tuple(tp)]
        found = log.read(position, count_max, self.world.scheduler.now)
        self._answering[tp] = found[0]
        return log.end, found

    def _out_of_range(self, tp: TopicPartition, generation: int, position: int) -> None:
        self.counts["out of range"] += 1
        if self.world.sabotage is Sabotage.RESET_TO_EARLIEST:
            self._positions[tp] = self.world.broker.logs[tuple(tp)].start
            return
        self._queue.append((tp, generation, OutOfRange(position, self._seeks[tp])))
        self._arrived.set()

    def _go_on(self, tp: TopicPartition, epoch: int, fetched: OutOfRange) -> Steps:
        """Go on where the broker has no record at a position, as `Committer.out_of_range`."""
        try:
            start, _ = (yield Call("log-bounds", lambda: self._bounds([tp])))[tp]
        except NoAnswerError:
            return
        found = self.assignment.out_of_range(tp, epoch, fetched, start, self.now())
        if isinstance(found, Truncation):
            self._settle(tp, found)
        elif found is not None:
            self._seek(tp, found)
            return
        self._paused.add(tp)

    def _check_ends(self) -> Steps:
        """Look for logs that end too early, as `Committer.check_ends`."""
        epoch, early = self.assignment.epoch, self.assignment.ends_early(self._log_ends)
        if not early or self.world.sabotage in (Sabotage.NO_END_CHECK, Sabotage.RESET_TO_EARLIEST):
            return
        try:
            logs = yield Call("log-bounds", lambda: self._bounds(early))
        except NoAnswerError:
            return
        for tp, log in logs.items():
            partition = self.assignment.partitions.get(tp)
            if partition is None or not self.assignment.is_epoch(epoch) or partition.window.busy:
                continue
            found = self.assignment.ended(tp, epoch, log, self.now())
            if found is not None:
                self.counts["log found to end early"] += 1
                self._settle(tp, found)
                self._paused.add(tp)

    def _settle(self, tp: TopicPartition, truncation: Truncation) -> None:
        self.counts["truncations found"] += 1
        self.counts["recorded offsets lost"] += truncation.lost
        partition = self.assignment.partitions[tp]
        began_at = partition._began_at if partition._is_after_truncation else 0
        self.world.checker.on_truncated(tp, began_at, partition.position)
        if self.world.sabotage is Sabotage.RESTART_AT_ONCE:
            partition._closed = ClosedWindows()
            partition._first = partition.position
        self._perform()

    def _collect_all(self) -> Steps:
        chance = self.world.chance
        while True:
            if not self._queue:
                self._arrived.clear()
                yield self._arrived
            if not self._queue:
                continue
            tp, generation, batch = self._queue.popleft()
            if chance.random() < 0.1:
                yield chance.uniform(0.0, 2.0)
            self._under_way, self._taking = tp, batch.next_position
            try:
                epoch = self.assignment.epoch_of(generation)
                yield from self._load(epoch)
                if isinstance(batch, OutOfRange):
                    yield from self._note_compressed()
                    yield from self._go_on(tp, epoch, batch)
                else:
                    yield from self._collect(tp, epoch, batch)
            except FencedError:
                self.counts["batches fenced"] += 1
            self._under_way = None
            self._taken.add(tp)

    def _collect(self, tp: TopicPartition, epoch: int, batch: Batch) -> Steps:
        chance = self.world.chance
        for piece in batch.pieces(chance.choice((1, 1, 2))):
            if chance.random() < 0.3:
                yield chance.uniform(0.0, 0.3)  # evaluation in a thread
            if not (yield from self._collect_piece(tp, epoch, piece)):
                return
        if batch.undecodable is not None:
            try:
                yield from self._pass_over(tp, epoch, batch.undecodable)
            except GapError:
                self.counts["gaps"] += 1
                yield from self._rebuild(tp, epoch)

    def _pass_over(self, tp: TopicPartition, epoch: int, broken: Undecodable) -> Steps:
        yield from self._note_compressed()
        world, assignment = self.world, self.assignment
        recorded = [it for it in assignment.partitions.values() if it.tp == tp and it._replay]
        times = Times(self.now(), world.scheduler.now)
        passed = assignment.pass_over(tp, epoch, broken, world.router, times)
        self._perform()
        if passed is None:
            self.counts["undecodable: waits"] += 1
            return
        if passed.given_up:
            self.counts["undecodable: recorded window" if recorded else "undecodable: passed"] += 1
        elif recorded:
            self.counts["undecodable: passed as recorded"] += 1
        self._positions[tp] = passed.end
        self._held.pop(tp, None)

    def _collect_piece(self, tp: TopicPartition, epoch: int, piece: Batch) -> Steps:
        """Take a piece of a batch; False if the partition was rebuilt instead."""
        yield from self._make_room()
        self.assignment.router(tp, self.world.router)
        answers = self._answers(piece.records)
        rest: Batch | None = piece
        while rest is not None:
            position = rest.position
            yield from self._note_compressed()
            try:
                rest = self.assignment.collect(tp, epoch, rest, answers, self.now())
            except GapError as gap:
                self.counts["gaps"] += 1
                if not (yield from self._bridge(tp, epoch, gap)):
                    yield from self._rebuild(tp, epoch)
                    return False
                continue
            self._perform()
            if rest is not None and rest.position == position:
                self.counts["metadata waits"] += 1
                yield from self._wait()
        self._compress(self.assignment.compressions(tp))
        return True

    def _make_room(self) -> Steps:
        yield from self._note_compressed()
        while (relief := self._relieve()) is not MemoryAction.GO:
            self._perform()
            if relief is MemoryAction.COMPRESS:
                self.counts["compressed for memory"] += 1
                self._compress(self.assignment.compressions())
                yield from self._note_compressed()
            else:
                self.counts["memory waits"] += 1
                yield from self._wait()

    def _relieve(self) -> MemoryAction:
        assignment = self.assignment
        partitions = list(assignment.partitions.values())
        windows = [partition.window for partition in partitions]
        parts = _parts(windows)
        relief = assignment.relieve(self.now())
        self.counts["closed for memory"] += windows != [it.window for it in partitions]
        self.counts["cut early"] += _parts(windows) > parts
        if relief is MemoryAction.GO:
            # What a recorded closing demands is not ours to end, and what is suspended waits for
            # the group: neither would leave by waiting.
            excused = bool(assignment._suspended) or any(it._replay for it in partitions)
            self.counts["beyond memory"] += assignment.held >= self._memory_bytes_max
            self.world.checker.on_memory(assignment.held, self._memory_bytes_max, excused=excused)
        return relief

    def _compress(self, taken: list[Compressions]) -> None:
        """Compress in a thread, while the next batch is evaluated and until it is added."""
        if taken:
            if self._compressing is not None:
                raise AssertionError("two compressions at a time")
            self._compressing = taken
            self._compressed.clear()
            self.spawn(self._compress_in_a_thread(taken))

    def _compress_in_a_thread(self, taken: list[Compressions]) -> Steps:
        chance = self.world.chance
        yield chance.uniform(0.0, 0.05 if chance.random() < 0.8 else 3.0)
        for it in taken:
            it.perform()
        yield 0.0
        if self.world.sabotage is not Sabotage.NOTE_LATE:
            self._note(taken)
        self._compressed.set()

    def _note_compressed(self) -> Steps:
        taken = self._compressing
        if taken is not None:
            yield self._compressed
            if self.world.sabotage is Sabotage.NOTE_LATE:
                self._note(taken)

    def _note(self, taken: list[Compressions]) -> None:
        self.counts["compressions"] += len(taken)
        self._compressing = None
        self.assignment.compressed(taken, self.now())
        self._perform()

    def _bridge(self, tp: TopicPartition, epoch: int, gap: GapError) -> Steps:
        log = self.world.broker.logs[tuple(tp)]
        try:
            start = yield Call("log-start", lambda: log.start)
        except NoAnswerError:
            yield RETRY_SECONDS
            return True
        if start < gap.found:
            return False
        self.counts["offsets lost to retention"] += self.assignment.skip_to(tp, epoch, gap.found)
        return True

    def _build_anew(self, task: PartUpload) -> Steps:
        """Build a partition anew of which S3 has lost parts."""
        if not task.valid or task.delivery.body is None:
            return  # It is built anew already, or this object is not waited for.
        self.counts["rebuilt for an upload that is gone"] += 1
        try:
            yield from self._rebuild(task.partition.tp, task.epoch)
        except FencedError:
            self.counts["works fenced"] += 1

    def _rebuild(self, tp: TopicPartition, epoch: int) -> Steps:
        self.counts["rebuilt"] += 1
        # A commit under way could take effect after the read-back, and put older closings over
        # those that are read: what was sent must be answered first.
        yield from self._committing.acquire()
        try:
            if not self.assignment.is_epoch(epoch):
                raise FencedError(f"{tp}: built anew in epoch {epoch}")
            self.assignment.forget(tp)
            yield from self._load(epoch)
            self._seek(tp, self.assignment.partitions[tp].position)
            self.assignment.sought(tp, epoch, self._seeks[tp])
        finally:
            self._committing.release()

    def _answers(self, records: Sequence[Record]) -> list[DestinationOutcomes]:
        """Look the outcomes up that the world has drawn for these records."""
        answers = []
        for destination in self.world.destinations:
            offsets, outcomes, exceptions = [], [], []
            for record in records:
                truth = self.world.truth[record]
                if destination.id in truth:
                    outcome = truth[destination.id]
                    if outcome.__class__ is not bytes:
                        exceptions.append(len(offsets))
                        name = f"{TOPIC}/{record.partition}@{record.offset}"
                        outcome = SKIP if outcome is None else Failure(name, outcome)
                    offsets.append(record.offset)
                    outcomes.append(outcome)
            if offsets:
                answers.append(DestinationOutcomes(destination, offsets, outcomes, exceptions))
        return answers

    # --- performing ---------------------------------------------------------------------------

    def _tick(self) -> Steps:
        while True:
            yield TICK_SECONDS
            self.assignment.tick(self.now(), self._log_ends)
            if self.assignment.drop_windows(self.broken(), len(self.world.destinations)):
                self.counts["sheddings"] += 1
            self._perform()
            # Who waits for room looks again: that a part is stuck is no move.
            if self.world.sabotage is not Sabotage.NO_WAKE:
                self.moved.set()

    def _watch(self) -> Steps:
        """Fetch again what stands still, as `stall_monitor` does."""
        while True:
            yield WATCH_SECONDS
            yield from self._check_ends()
            partitions = self.assignment.partitions
            busy = self._taken | {tp for tp, _, _ in self._queue} | {self._under_way}
            self._taken = set()
            sights = {
                tp: Sight(
                    partition.position,
                    self._log_ends.get(tp),
                    tp in busy or partition.is_truncated,
                )
                for tp, partition in partitions.items()
            }
            is_open = not self._is_held and len(self._queue) < BATCHES_WAITING_MAX
            now, epoch = self.world.scheduler.now, self.assignment.epoch
            if self.world.sabotage is Sabotage.NO_WATCHDOG:
                continue
            for tp, remedy in self._watchdog.check(sights, now, is_open=is_open).items():
                self.counts["stalls"] += 1
                start = None
                try:
                    log = self.world.broker.logs[tuple(tp)]
                    start = yield Call("log-start", lambda log=log: log.start)
                except NoAnswerError:
                    self._watchdog.unanswered(tp)
                partition = partitions.get(tp)
                if not self.assignment.is_epoch(epoch) or partition is None:
                    continue
                if partition.position != sights[tp].position:
                    continue
                if start is not None and start > partition.position and not partition.window.busy:
                    lost = self.assignment.skip_to(tp, epoch, start)
                    self.counts["offsets lost to retention"] += lost
                elif start is not None and remedy is Remedy.EXIT:
                    self.world.gave_up(self, tp)
                    return
                self._seek(tp, partition.position)

    def broken(self) -> set[str]:
        """The destinations whose breaker would be open."""
        now, until = self.world.scheduler.now, self.world.storage.broken_until
        return {it.id for it in self.world.destinations if until.get(it.bucket, 0.0) > now}

    def _perform(self) -> None:
        self._commit_wanted.set()
        for stream in self.assignment.part_uploads():
            self._begin(stream, self.deliver.stream(stream))
        for work in self.assignment.delivery_tasks():
            self._begin(work, self.deliver.deliver(work))
        for upload in self.assignment.abandoned():
            self.counts["abandoned"] += 1
            self.spawn(self.deliver.abort(upload))
        if len(self._deliveries) > 64:
            self._deliveries = [task for task in self._deliveries if not task.done]

    def _begin(self, task: PartUpload, steps: Steps) -> None:
        self._deliveries.append(self.spawn(self._run(task, steps)))

    def _run(self, task: PartUpload, steps: Steps) -> Steps:
        try:
            yield from steps
        except FencedError:
            self.counts["works fenced"] += 1
        except UploadGoneError:
            yield from self._build_anew(task)
            self.moved.set()  # what it held is free
        else:
            self._commit_wanted.set()
            self.moved.set()

    def _commit(self) -> Steps:
        while True:
            yield self._commit_wanted
            self._commit_wanted.clear()
            yield from self._committing.acquire()
            try:
                again = yield from self._commit_once()
            finally:
                self._committing.release()
            if again:
                yield RETRY_SECONDS
                self._commit_wanted.set()

    def _commit_once(self) -> Steps:
        """Make one request; return whether it must be made again after a pause."""
        world, assignment = self.world, self.assignment
        epoch, generation = assignment.epoch, assignment.generation
        commits = assignment.commits()
        if not commits or generation is None:
            return False
        offsets = {tuple(tp): (it.offset, encode(it)) for tp, it in commits.items()}
        # Into the consumer's thread, and there until the group's coordinator is known.
        hesitates = world.chance.random() < 0.2
        yield world.chance.uniform(0.0, world.hesitation_seconds if hesitates else 0.02)
        if world.sabotage is Sabotage.NO_OWNERSHIP_CHECK:
            generation = assignment.generation
        elif (
            epoch != assignment.epoch
            or generation is None
            or (self.member, generation) == self._doubted
            or generation != assignment.generation
        ):
            generation = None
        if generation is None:
            self.counts["commits fenced by us"] += 1
            return False
        member = self.member
        try:
            yield Call("commit", lambda: world.broker.commit(member, generation, offsets))
        except RefusedError:
            self.counts["commits refused"] += 1
            if world.chance.random() < 0.5:
                self.rejoin.set()
            return False
        except TooLargeError:
            self.counts["commits too large"] += 1
            assignment.metadata_refused(commits)
            self._commit_wanted.set()
            return False
        except NoAnswerError:
            self.counts["commits without an answer"] += 1
            if world.sabotage is not Sabotage.NO_DOUBT:
                # A commit may take effect later, on top of another: only a new generation is safe.
                self._doubted = (member, generation)
                self.rejoin.set()
            return True
        restarted = assignment.recorded(commits)
        self._perform()
        self.moved.set()
        for tp in restarted:
            self.counts["begun anew"] += 1
            self.spawn(self._begin_anew(tp, assignment.epoch))
        return False

    def _begin_anew(self, tp: TopicPartition, epoch: int) -> Steps:
        try:
            yield from self._rebuild(tp, epoch)
        except FencedError:
            self.counts["works fenced"] += 1

    def _wait(self) -> Steps:
        self._is_held = True
        self.moved.clear()
        yield self.moved
        self._is_held = False

    def _signal(self) -> Signal:
        return Signal(self.world.scheduler)

    def spawn(self, steps: Steps) -> Task:
        return self.world.scheduler.spawn(self, steps)


def _parts(windows: Sequence[Window]) -> int:
    bodies = (it.body for window in windows for it in window.deliveries)
    return sum(len(body.parts) for body in bodies if body is not None)
