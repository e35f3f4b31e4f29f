"""One worker: the real core inside a shell that does what `table.py` and `delivery.py` do.

The shell is written again with generators instead of asyncio, so that a whole group of workers
runs in one thread under virtual time. Where the real shell has an `await`, there is a `yield`
here: everything else of the world may happen in between.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_app.assignment import Assignment, Compressions, Relief
from stream_app.batches import Answers, Batch, GapError
from stream_app.closings import Commit, decode, encode
from stream_app.deliveries import Rules
from stream_app.errors import FencedError, UploadGoneError
from stream_app.expressions import SKIP, TP, Failure
from stream_app.partition import Stream
from stream_app.window import Window
from tests.simulation.broker import TOPIC, OutOfRangeError, Record, RefusedError
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
    runs_on: float
    """How often a delivery is not cancelled by a revocation, but runs on."""
    give_up_seconds: float
    late_seconds: float


class Worker(Process):
    """A process of the group."""

    def __init__(self, world: "World", rules: Rules, memory_bytes_max: int) -> None:
        self.world = world
        self.counts: Counter[str] = world.counts
        self.assignment = Assignment(rules, memory_bytes_max)
        self.deaf_until = 0.0
        """Until then the broker's answers to heartbeats do not reach it: it may be a zombie."""
        self.clock_ahead = world.clock_ahead()
        self.member: str | None = None
        self.rejoin = self._signal()
        self._memory_bytes_max = memory_bytes_max
        self._positions: dict[TP, int] = {}
        self._log_ends: dict[TP, int] = {}
        self._queue: deque[tuple[TP, int, Batch]] = deque()
        self._arrived = self._signal()
        self.moved = self._signal()
        """Something was settled, recorded or revoked: who waits looks again."""
        self._commit_wanted = self._signal()
        self._loading = Lock(world.scheduler)
        self._committing = Lock(world.scheduler)
        """Held from when commits are made up until the broker has answered."""
        self._doubted: int | None = None
        """A generation in which the outcome of a commit is unknown."""
        self.deliver = Deliver(self)
        self._deliveries: list[Task] = []
        self._compressing: list[Compressions] | None = None
        self._compressed = self._signal()
        for steps in (
            self._take_part(),
            self._fetch(),
            self._collect_all(),
            self._tick(),
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

    # --- the group ----------------------------------------------------------------------------

    def _take_part(self) -> Steps:
        chance, broker = self.world.chance, self.world.broker
        while True:
            self.rejoin.clear()
            try:
                ticket = yield Call("join", lambda: broker.join(self, self.member))
            except NoAnswerError:
                yield RETRY_SECONDS
                continue
            self.member = ticket.member
            yield ticket.signal
            if ticket.generation is None:
                continue
            yield chance.uniform(0.0, 0.2)
            tps = [TP(*name) for name in ticket.partitions]
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

    def _load_missing(self, epoch: int, missing: Sequence[TP]) -> Steps:
        try:
            commits = yield Call("read-back", lambda: self._committed(missing))
        except NoAnswerError:
            yield RETRY_SECONDS
            return
        for tp, commit in commits.items():
            kept = self.assignment.loaded(tp, epoch, commit)
            self.counts["kept" if kept else "taken over"] += 1
            if not kept and commit.closings:
                self.counts["replays"] += 1
                if self.world.sabotage is Sabotage.STREAM_NEW_KEY:
                    self.assignment.partitions[tp].window.uploaded_at = None
        self._perform()

    def _committed(self, tps: Sequence[TP]) -> dict[TP, Commit]:
        broker = self.world.broker
        found = {
            tp: broker.offsets.get(tuple(tp), (broker.logs[tuple(tp)].start, "")) for tp in tps
        }
        if self.world.sabotage is Sabotage.NO_READ_BACK:
            found = {tp: (offset, "") for tp, (offset, _) in found.items()}
        return {tp: decode(*it) for tp, it in found.items()}

    def _seek_all(self, tps: Sequence[TP], generation: int) -> Steps:
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

    def _fetch_offset(self, tp: TP) -> int:
        committed = self.world.broker.offsets.get(tuple(tp))
        return committed[0] if committed else self.world.broker.logs[tuple(tp)].start

    # --- records in ---------------------------------------------------------------------------

    def _fetch(self) -> Steps:
        chance, logs = self.world.chance, self.world.broker.logs
        while True:
            yield self.world.habits.poll_seconds
            habits = self.world.habits
            for tp in list(self._positions):
                position, generation = self._positions.get(tp), self.assignment.generation
                log = logs[tuple(tp)]
                if position is None or generation is None:
                    break
                if len(self._queue) >= BATCHES_WAITING_MAX:
                    break
                if log.end <= position >= log.start:
                    self._log_ends[tp] = log.end
                    continue
                count_max = chance.randint(1, habits.records_max)
                try:
                    end, (after, records) = yield Call(
                        "fetch",
                        lambda log=log, it=position, most=count_max: (log.end, log.read(it, most)),
                    )
                except OutOfRangeError:
                    if self._positions.get(tp) == position:
                        self._positions[tp] = log.start
                    continue
                except NoAnswerError:
                    continue
                if self._positions.get(tp) != position or generation != self.assignment.generation:
                    continue  # sought, or revoked, meanwhile: as aiokafka does
                self._positions[tp] = after
                self._log_ends[tp] = end
                if chance.random() < habits.loses:
                    self.counts["batches lost"] += 1
                    continue
                batch = Batch(position, after, records)
                self._queue.append((tp, generation, batch))
                if chance.random() < habits.duplicates:
                    self.counts["batches repeated"] += 1
                    self._queue.append((tp, generation, batch))
                if chance.random() < habits.seeks_back:
                    self.counts["fetched again"] += 1
                    self._positions[tp] = chance.randint(min(self._fetch_offset(tp), after), after)
                self._arrived.set()

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
            try:
                epoch = self.assignment.epoch_of(generation)
                yield from self._load(epoch)
                yield from self._collect(tp, epoch, batch)
            except FencedError:
                self.counts["batches fenced"] += 1

    def _collect(self, tp: TP, epoch: int, batch: Batch) -> Steps:
        chance = self.world.chance
        for piece in batch.pieces(chance.choice((1, 1, 2))):
            if chance.random() < 0.3:
                yield chance.uniform(0.0, 0.3)  # evaluation in a thread
            if not (yield from self._collect_piece(tp, epoch, piece)):
                return

    def _collect_piece(self, tp: TP, epoch: int, piece: Batch) -> Steps:
        """Take a piece of a batch; False if the partition was rebuilt instead."""
        yield from self._make_room()
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
        while (relief := self._relieve()) is not Relief.GO:
            self._perform()
            if relief is Relief.COMPRESS:
                self.counts["compressed for memory"] += 1
                self._compress(self.assignment.compressions())
                yield from self._note_compressed()
            else:
                self.counts["memory waits"] += 1
                yield from self._wait()

    def _relieve(self) -> Relief:
        assignment = self.assignment
        partitions = list(assignment.partitions.values())
        windows = [partition.window for partition in partitions]
        parts = _parts(windows)
        relief = assignment.relieve(self.now())
        self.counts["closed for memory"] += windows != [it.window for it in partitions]
        self.counts["cut early"] += _parts(windows) > parts
        if relief is Relief.GO:
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

    def _bridge(self, tp: TP, epoch: int, gap: GapError) -> Steps:
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

    def _build_anew(self, task: Stream) -> Steps:
        """Build a partition anew of which S3 has lost parts."""
        if not task.valid or task.delivery.body is None:
            return  # It is built anew already, or this object is not waited for.
        self.counts["rebuilt for an upload that is gone"] += 1
        try:
            yield from self._rebuild(task.partition.tp, task.epoch)
        except FencedError:
            self.counts["works fenced"] += 1

    def _rebuild(self, tp: TP, epoch: int) -> Steps:
        self.counts["rebuilt"] += 1
        # A commit under way could take effect after the read-back, and put older closings over
        # those that are read: what was sent must be answered first.
        yield from self._committing.acquire()
        try:
            if not self.assignment.is_epoch(epoch):
                raise FencedError(f"{tp}: built anew in epoch {epoch}")
            self.assignment.forget(tp)
            yield from self._load(epoch)
            self._positions[tp] = self.assignment.partitions[tp].position
        finally:
            self._committing.release()

    def _answers(self, records: Sequence[Record]) -> list[Answers]:
        """Look the outcomes up that the world has drawn for these records."""
        answers = []
        for destination in self.world.destinations:
            offsets, outcomes, exceptions = [], [], []
            for record in records:
                truth = self.world.truth[record.partition, record.offset]
                if destination.id in truth:
                    outcome = truth[destination.id]
                    if outcome.__class__ is not bytes:
                        exceptions.append(len(offsets))
                        name = f"{TOPIC}/{record.partition}@{record.offset}"
                        outcome = SKIP if outcome is None else Failure(name, outcome)
                    offsets.append(record.offset)
                    outcomes.append(outcome)
            if offsets:
                answers.append(Answers(destination, offsets, outcomes, exceptions))
        return answers

    # --- performing ---------------------------------------------------------------------------

    def _tick(self) -> Steps:
        while True:
            yield TICK_SECONDS
            self.assignment.tick(self.now(), self._log_ends)
            if self.assignment.shed(self.broken(), len(self.world.destinations)):
                self.counts["sheddings"] += 1
            self._perform()
            # Who waits for room looks again: that a part is stuck is no move.
            if self.world.sabotage is not Sabotage.NO_WAKE:
                self.moved.set()

    def broken(self) -> set[str]:
        """The destinations whose breaker would be open."""
        now, until = self.world.scheduler.now, self.world.storage.broken_until
        return {it.id for it in self.world.destinations if until.get(it.bucket, 0.0) > now}

    def _perform(self) -> None:
        self._commit_wanted.set()
        for stream in self.assignment.streams():
            self._begin(stream, self.deliver.stream(stream))
        for work in self.assignment.works():
            self._begin(work, self.deliver.deliver(work))
        for upload in self.assignment.abandoned():
            self.counts["abandoned"] += 1
            self.spawn(self.deliver.abort(upload))
        if len(self._deliveries) > 64:
            self._deliveries = [task for task in self._deliveries if not task.done]

    def _begin(self, task: Stream, steps: Steps) -> None:
        self._deliveries.append(self.spawn(self._run(task, steps)))

    def _run(self, task: Stream, steps: Steps) -> Steps:
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
            or generation in {None, self._doubted}
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
        except NoAnswerError:
            self.counts["commits without an answer"] += 1
            if world.sabotage is not Sabotage.NO_DOUBT:
                # It may take effect later, on top of another: only a new generation is safe.
                self._doubted = generation
                self.rejoin.set()
            return True
        assignment.recorded(commits)
        self._perform()
        self.moved.set()
        return False

    def _wait(self) -> Steps:
        self.moved.clear()
        yield self.moved

    def _signal(self) -> Signal:
        return Signal(self.world.scheduler)

    def spawn(self, steps: Steps) -> Task:
        return self.world.scheduler.spawn(self, steps)


def _parts(windows: Sequence[Window]) -> int:
    bodies = (it.body for window in windows for it in window.deliveries)
    return sum(len(body.parts) for body in bodies if body is not None)
