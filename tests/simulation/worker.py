"""One worker: the real core inside a shell that does what `table.py` and `delivery.py` do.

The shell is written again with generators instead of asyncio, so that a whole group of workers
runs in one thread under virtual time. Where the real shell has an `await`, there is a `yield`
here: everything else of the world may happen in between.
"""

import enum
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_app.assignment import Assignment, Relief
from stream_app.batches import Answers, Batch
from stream_app.closings import Commit, decode, encode
from stream_app.config import Destination
from stream_app.errors import FencedError
from stream_app.expressions import SKIP, TP, Failure
from stream_app.partition import GapError, Rules, Work
from stream_app.receipts import Problem, Receipt, Stored
from tests.simulation.broker import TOPIC, OutOfRangeError, Record, RefusedError
from tests.simulation.scheduler import Call, NoAnswerError, Process, Signal, Steps, Task
from tests.simulation.storage import StorageError, sha256

if TYPE_CHECKING:
    from tests.simulation.world import World

BATCHES_WAITING_MAX = 3
RETRY_SECONDS = 0.3
TICK_SECONDS = 1.0


class Sabotage(enum.Enum):
    """Mistakes that a shell could make; the oracle must see each of them."""

    NO_CHECKSUM = enum.auto()
    NO_IF_NONE_MATCH = enum.auto()
    NO_READ_BACK = enum.auto()
    PUBLISH_FIRST = enum.auto()
    NO_OWNERSHIP_CHECK = enum.auto()
    NO_DOUBT = enum.auto()
    """Go on in the same generation after a commit without an answer."""


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
        self._moved = self._signal()
        self._commit_wanted = self._signal()
        self._loading = False
        self._unanswered = False
        self._doubted: int | None = None
        """A generation in which the outcome of a commit is unknown."""
        """A commit was sent of which it is not known whether the broker has it."""
        self._loading_done = self._signal()
        self._deliveries: list[Task] = []
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
            self._spawn(self._load_assigned(self.assignment.epoch))
            self._spawn(self._seek_all(tps, ticket.generation))
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
        self._moved.set()

    def _load_assigned(self, epoch: int) -> Steps:
        try:
            yield from self._load(epoch)
        except FencedError:
            self.counts["read-back fenced"] += 1

    def _load(self, epoch: int) -> Steps:
        """Read back the commit of each partition that is ours and not in service yet."""
        assignment = self.assignment
        while assignment.missing or epoch != assignment.epoch:
            if epoch != assignment.epoch:
                raise FencedError(f"read-back of epoch {epoch}, now {assignment.epoch}")
            while self._loading:
                yield self._loading_done
            self._loading = True
            self._loading_done.clear()
            # Sorted: the order of a set differs from run to run, and would spoil the seed.
            missing = sorted(assignment.missing)
            try:
                commits = yield Call("read-back", lambda tps=missing: self._committed(tps))
            except NoAnswerError:
                commits = None
            self._loading = False
            self._loading_done.set()
            if commits is None:
                yield RETRY_SECONDS
                continue
            for tp, commit in commits.items():
                kept = assignment.loaded(tp, epoch, commit)
                self.counts["kept" if kept else "taken over"] += 1
                if not kept and commit.closings:
                    self.counts["replays"] += 1
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
        chance, assignment = self.world.chance, self.assignment
        while self._relieve() is Relief.WAIT:
            self.counts["memory waits"] += 1
            self._perform()
            yield from self._wait()
        if chance.random() < 0.3:
            yield chance.uniform(0.0, 0.3)  # evaluation in a thread
        answers = self._answers(batch.records)
        rest: Batch | None = batch
        while rest is not None:
            try:
                rest = assignment.collect(tp, epoch, rest, answers, self.now())
            except GapError as gap:
                self.counts["gaps"] += 1
                if not (yield from self._bridge(tp, epoch, gap)):
                    yield from self._rebuild(tp, epoch)
                    return
                continue
            self._perform()
            if rest is not None:
                self.counts["metadata waits"] += 1
                yield from self._wait()

    def _relieve(self) -> Relief:
        assignment = self.assignment
        partitions = list(assignment.partitions.values())
        open_before = sum(partition.held_open for partition in partitions)
        relief = assignment.relieve(self.now())
        open_after = sum(partition.held_open for partition in partitions)
        if open_after < open_before:
            self.counts["closed for memory"] += 1
        if relief is Relief.GO:
            # What a recorded closing demands is not ours to end, and what is suspended waits for
            # the group: neither would leave by waiting.
            excused = bool(assignment._suspended) or any(it._replay for it in partitions)
            self.counts["beyond memory"] += assignment.held >= self._memory_bytes_max
            self.world.checker.on_memory(assignment.held, self._memory_bytes_max, excused=excused)
        return relief

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

    def _rebuild(self, tp: TP, epoch: int) -> Steps:
        self.counts["rebuilt"] += 1
        self.assignment.forget(tp)
        # A commit under way could take effect after the read-back, and put older closings over
        # those that are read: what was sent must be answered first.
        while self._unanswered:
            yield from self._wait()
        yield from self._load(epoch)
        self._positions[tp] = self.assignment.partitions[tp].position

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
            if self.assignment.shed(self._broken(), len(self.world.destinations)):
                self.counts["sheddings"] += 1
            self._perform()

    def _broken(self) -> set[str]:
        """The destinations whose breaker would be open."""
        now, until = self.world.scheduler.now, self.world.storage.broken_until
        return {it.id for it in self.world.destinations if until.get(it.bucket, 0.0) > now}

    def _perform(self) -> None:
        self._commit_wanted.set()
        for work in self.assignment.works():
            self._deliveries.append(self._spawn(self._deliver(work)))
        if len(self._deliveries) > 64:
            self._deliveries = [task for task in self._deliveries if not task.done]

    def _commit(self) -> Steps:
        while True:
            yield self._commit_wanted
            self._commit_wanted.clear()
            again = yield from self._commit_once()
            if self._unanswered:
                self._unanswered = False
                self._moved.set()
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
        self._unanswered = True
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
        return False

    def _wait(self) -> Steps:
        self._moved.clear()
        yield self._moved

    # --- a delivery ---------------------------------------------------------------------------

    def _deliver(self, work: Work) -> Steps:
        try:
            receipt = work.delivery.receipt or (yield from self._upload(work))
            yield from self._publish(work, receipt)
            work.partition.published(work)
        except FencedError:
            self.counts["works fenced"] += 1
        else:
            self._commit_wanted.set()
            self._moved.set()

    def _upload(self, work: Work) -> Steps:
        world, partition = self.world, work.partition
        content = partition.content(work)
        if content is None:
            return partition.uploaded(work, None, 0)
        if world.sabotage is Sabotage.PUBLISH_FIRST:
            stored = Stored(len(content), None, None, sha256(content), already_existed=False)
            receipt = partition.uploaded(work, stored, 1)
            yield from self._publish(work, receipt)
            yield from self._put(work, content)
            return receipt
        started, attempts, told = world.scheduler.now, 0, False
        while True:
            attempts += 1
            if not work.valid:
                raise FencedError("not begun")
            found = yield from self._put(work, content)
            if isinstance(found, Stored):
                return partition.uploaded(work, found, attempts)
            elapsed = world.scheduler.now - started
            is_over = elapsed >= world.habits.give_up_seconds or work.delivery.is_shed
            if not found.retryable and is_over:
                self.counts["given up"] += 1
                return partition.uploaded(work, found, attempts)
            if elapsed >= world.habits.late_seconds and not told:
                told = True
                self.counts["late"] += 1
                yield from self._publish(work, partition.retrying(work, found, attempts))
            yield world.chance.uniform(0.1, 2.0)

    def _put(self, work: Work, content: bytes) -> Steps:
        world, delivery = self.world, work.delivery
        bucket, key = delivery.destination.bucket, delivery.key
        checksum = sha256(content)
        try:
            etag = yield Call(
                "put",
                lambda: world.storage.put(
                    bucket,
                    key,
                    content,
                    if_none_match=world.sabotage is not Sabotage.NO_IF_NONE_MATCH,
                    checksum=None if world.sabotage is Sabotage.NO_CHECKSUM else checksum,
                ),
            )
        except StorageError as error:
            if error.code != "PreconditionFailed":
                return Problem(error.code, str(error), not error.permanent)
            return Stored(len(content), None, None, checksum, already_existed=True)
        except NoAnswerError as error:
            return Problem("ConnectionClosed", str(error), retryable=True)
        return Stored(len(content), etag, None, checksum, already_existed=False)

    def _publish(self, work: Work, receipt: Receipt) -> Steps:
        message = receipt.message(int(self.now()))
        while True:
            if not work.valid:
                raise FencedError("receipt not sent")
            try:
                yield Call("publish", lambda: self.world.checker.on_receipt(message))
            except NoAnswerError:
                yield RETRY_SECONDS
            else:
                return

    def _signal(self) -> Signal:
        return Signal(self.world.scheduler)

    def _spawn(self, steps: Steps) -> Task:
        return self.world.scheduler.spawn(self, steps)


__all__ = ["Destination", "Habits", "Sabotage", "Worker"]
