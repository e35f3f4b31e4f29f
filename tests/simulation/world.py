"""One run: a scenario drawn from a seed, the faults injected into it, and the quiet time after.

`World(seed).run()` returns what happened, counted; it raises a `Violation` when the oracle objects.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, replace

from stream_app.config.settings import OFFSET_METADATA_BYTES_MIN, Destination
from stream_app.core.delivery import WindowPolicy
from stream_app.core.object_body import Sizes
from stream_app.core.router import Router
from stream_app.records import TopicPartition
from tests.simulation.broker import (
    SESSION_SECONDS,
    TOPIC,
    Broker,
    Damage,
    Log,
    Name,
    Record,
)
from tests.simulation.checker import Checker, Violation
from tests.simulation.sabotage import Sabotage
from tests.simulation.scheduler import Fault, Process, Scheduler
from tests.simulation.storage import HEAD_FIELDS, Storage
from tests.simulation.stores import Compressor, other_store
from tests.simulation.worker import Habits, Worker

EPOCH = 1_800_000_000
"""The world's time 0, in seconds since 1970."""
SINCE_1970 = EPOCH * 0.999
"""By how much seconds that are taken for milliseconds are too old, about."""
SLOW_SECONDS_MAX = 15.0
"""How long one way of a slow call takes."""
OUTAGE_SECONDS = {
    "outage": (1.0, 15.0),
    "broken bucket": (1.0, 30.0),
    "long outage": (50.0, 80.0),
    "long broken bucket": (50.0, 80.0),
}
UNDECODABLE_SECONDS = 8.0
"""How long a partition waits at a batch that cannot be decoded."""
QUIET_WINDOWS = 90
"""How long the world waits for everything to drain after the faults."""


STATIC_SHARE = 0.25
"""Of the scenarios, how many have static members."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Parameters of a run. Shares are chances between 0 and 1, times are seconds."""

    partitions: int
    workers: int
    destinations: tuple[Destination, ...]
    seconds: float
    produce_every: float
    rules: WindowPolicy
    broker_metadata_bytes_max: int | None
    """None: no less than the rules say."""
    memory_bytes_max: int
    habits: Habits
    sticky: bool
    slow_share: float
    slow_kinds: tuple[str, ...]
    """Kinds of calls of which every second one is slow."""
    call_crash_share: float
    call_error_share: float
    call_lost_share: float
    storage_errors_share: float
    torn_share: float
    lost_uploads_share: float
    conflicts_share: float
    hole_share: float
    late_share: float
    old_by: float
    """By how much all timestamps are older than their records."""
    padding_max: int
    skip_share: float
    fail_share: float
    damage_share: float
    """How often a batch is appended that cannot be decoded, now or later."""
    retention: bool
    clock_skew: float
    truncations: int
    """How often a log loses its end."""
    events: tuple[str, ...]
    """Disturbances of the world, each at a random time."""
    static: bool = False
    """Whether workers are static members of the group: the next one has a place that is free."""
    losing: str | None = None
    """A bucket that never completes an upload in parts, in the quiet time neither."""
    builds: bool = False
    """Whether each worker has another build of the compressor."""
    head_fields: tuple[str, ...] = HEAD_FIELDS
    """What HeadObject answers, beside ETag and metadata."""


CALM_HABITS = Habits(
    poll_seconds=0.5,
    records_max=20,
    keeps_queue=0.0,
    duplicates=0.0,
    seeks_back=0.0,
    loses=0.0,
    clears=0.0,
    runs_on=0.0,
    give_up_seconds=8.0,
    late_seconds=4.0,
)


def destinations(count: int) -> tuple[Destination, ...]:
    """Return destinations of three kinds: one pipeline, all, one in zstd with a bare prefix."""
    return (
        Destination(id="first", bucket="bucket-one", pipeline="a"),
        Destination(id="every", bucket="bucket-two", prefix="all/"),
        Destination(id="second", bucket="bucket-one", prefix="pre", pipeline="b", format="zstd"),
        Destination(id="third", bucket="bucket-three", pipeline="a"),
    )[:count]


def calm(seed: int) -> Scenario:
    """Draw a scenario in which nothing goes wrong and no bound is met."""
    chance = random.Random(f"calm {seed}")
    return Scenario(
        partitions=chance.randint(1, 3),
        workers=chance.randint(1, 3),
        destinations=destinations(chance.randint(1, 4)),
        seconds=chance.uniform(30.0, 70.0),
        produce_every=chance.choice((0.3, 1.0, 3.0)),
        rules=WindowPolicy("group", chance.choice((5, 10, 20)), 2.0, sizes=tiny(seed)),
        broker_metadata_bytes_max=None,
        memory_bytes_max=1 << 30,
        habits=replace(CALM_HABITS, records_max=chance.choice((2, 5, 20))),
        sticky=True,
        slow_share=0.0,
        slow_kinds=(),
        call_crash_share=0.0,
        call_error_share=0.0,
        call_lost_share=0.0,
        storage_errors_share=0.0,
        torn_share=0.0,
        lost_uploads_share=0.0,
        conflicts_share=0.0,
        hole_share=chance.choice((0.0, 0.2)),
        late_share=chance.choice((0.0, 0.3)),
        old_by=0.0,
        padding_max=chance.choice((0, 100)),
        skip_share=chance.choice((0.0, 0.2, 0.9)),
        fail_share=chance.choice((0.0, 0.1)),
        damage_share=0.0,
        retention=False,
        clock_skew=0.0,
        truncations=0,
        events=(),
    )


KINDS = (
    *("commit", "read-back", "publish", "fetch", "offset", "join"),
    *("put", "head", "begin", "part", "complete", "abort"),
)
STORAGE_KINDS = ("put", "head", "begin", "part", "complete", "abort")
"""Operations to which S3 responds, and not the broker."""
MAY_BE_LATE = ("commit", *STORAGE_KINDS)
"""Operations that can wait in a buffer and take effect after their caller has gone."""
EVENTS = (
    *("crash", "crash", "pause", "pause", "deafen", "rebalance", "join", "leave"),
    *("rebalance storm", "clock", "outage", "broken bucket", "broker outage", "uploads lost"),
)


def tiny(seed: int) -> Sizes:
    """Draw sizes by which most objects leave in parts; the usual ones, for some seeds."""
    chance = random.Random(f"sizes {seed}")
    if chance.random() < 0.3:
        return Sizes()
    part_min = chance.choice((50, 150))
    return Sizes(
        slice=chance.choice((60, 150, 400)),
        part=part_min * chance.choice((1, 2, 8)),
        part_min=part_min,
    )


def stormy(seed: int) -> Scenario:
    """Draw a scenario with faults; each kind is present in some of the seeds only."""
    chance = random.Random(f"stormy {seed}")

    def sometimes(share: float, *values: float) -> float:
        return chance.choice(values) if chance.random() < share else 0.0

    quiet = calm(seed)
    is_truncated = random.Random(f"truncated {seed}").random() < 0.2
    kinds = chance.sample(EVENTS, chance.randint(0, len(EVENTS)))
    events = [chance.choice(kinds) for _ in range(chance.randint(1, 10))] if kinds else []
    retention = chance.random() < 0.04 and not is_truncated
    return replace(
        quiet,
        # Of its own, so that the other draws are as without it.
        static=random.Random(f"static {seed}").random() < STATIC_SHARE,
        workers=chance.randint(1, 4),
        rules=replace(
            quiet.rules,
            receipt_bytes_max=chance.choice((256 * 1024, 256 * 1024, 200)),
            metadata_bytes_max=chance.choice((4096, 100, 76)),
            sizes=replace(quiet.rules.sizes, parts_max=chance.choice((10_000, 10_000, 3))),
        ),
        memory_bytes_max=chance.choice((1 << 30, 1 << 30, 12_000, 5_000)),
        habits=replace(
            quiet.habits,
            keeps_queue=sometimes(0.7, 0.5, 1.0),
            duplicates=sometimes(0.5, 0.02, 0.2),
            seeks_back=sometimes(0.5, 0.02, 0.1),
            loses=sometimes(0.4, 0.02, 0.2),
            clears=sometimes(0.4, 0.3, 1.0),
            runs_on=sometimes(0.7, 0.3, 1.0),
            give_up_seconds=chance.choice((2.0, 8.0)),
        ),
        sticky=chance.random() < 0.5,
        slow_share=sometimes(0.6, 0.02, 0.1),
        slow_kinds=tuple(kind for kind in KINDS if chance.random() < 0.12),
        call_crash_share=sometimes(0.5, 0.002, 0.006),
        call_error_share=sometimes(0.5, 0.02, 0.1),
        call_lost_share=sometimes(0.6, 0.02, 0.1),
        storage_errors_share=sometimes(0.5, 0.05, 0.3),
        torn_share=sometimes(0.4, 0.05, 0.2),
        lost_uploads_share=sometimes(0.5, 0.05, 0.2),
        conflicts_share=sometimes(0.4, 0.05, 0.3),
        hole_share=sometimes(0.5, 0.1, 0.4),
        retention=retention,
        clock_skew=sometimes(0.5, 1.0, 30.0, 400.0),
        events=(*events, *(["retention"] * 2 if retention else [])),
        truncations=1 + seed % 3 if is_truncated else 0,
        damage_share=0.0 if retention or is_truncated else sometimes(0.25, 0.03, 0.1),
        old_by=sometimes(0.15, 20.0, 3600.0, SINCE_1970),
    )


SLOW_KINDS = (
    *("commit", "commit", "commit", "read-back", "read-back", "put", "publish", "publish"),
    *("begin", "part", "complete"),
)


def contended(seed: int) -> Scenario:
    """Draw a scenario in which busy partitions change hands all the time, with slow calls."""
    chance = random.Random(f"contended {seed}")
    scenario = stormy(seed)
    return replace(
        scenario,
        partitions=chance.randint(1, 2),
        workers=chance.randint(2, 3),
        seconds=60.0,
        produce_every=0.3,
        rules=WindowPolicy("group", 5, 2.0, sizes=scenario.rules.sizes),
        memory_bytes_max=1 << 30,
        habits=replace(
            scenario.habits,
            records_max=20,
            loses=chance.choice((0.0, 0.1)),
            seeks_back=0.0,
        ),
        sticky=False,
        slow_kinds=(chance.choice(SLOW_KINDS),),
        storage_errors_share=0.0,
        call_error_share=0.0,
        skip_share=0.1,
        retention=False,
        events=("rebalance",) * chance.randint(0, 6) + ("rebalance storm", "pause", "deafen"),
    )


def crowded(seed: int) -> Scenario:
    """Draw a scenario in which long lines meet a small memory: they are compressed, cut, closed."""
    chance = random.Random(f"crowded {seed}")
    scenario = stormy(seed)
    part_min = chance.choice((400, 2_000))
    return replace(
        scenario,
        partitions=1,
        workers=2,
        destinations=destinations(chance.randint(1, 2)),
        produce_every=0.3,
        rules=WindowPolicy(
            "group",
            20,
            2.0,
            sizes=Sizes(
                slice=chance.choice((700, 3_000, 256 * 1024)),
                part=part_min * chance.choice((1, 3, 100)),
                part_min=part_min,
                parts_max=chance.choice((10_000, 3)),
            ),
        ),
        memory_bytes_max=chance.choice((8_000, 16_000)),
        habits=replace(
            scenario.habits, records_max=chance.choice((2, 5)), loses=0.0, give_up_seconds=2.0
        ),
        padding_max=600,
        skip_share=0.1,
        retention=False,
        events=("crash", "broken bucket", "broken bucket", *chance.choices(EVENTS, k=3)),
    )


def limited(seed: int) -> Scenario:
    """Draw a scenario in which windows pile up at a broker that takes less metadata than is set."""
    chance = random.Random(f"limited {seed}")
    scenario = stormy(seed)
    return replace(
        scenario,
        partitions=chance.randint(1, 2),
        workers=chance.randint(1, 2),
        destinations=destinations(2),
        seconds=120.0,
        produce_every=0.3,
        rules=WindowPolicy("group", 1, 0.0, sizes=scenario.rules.sizes),
        broker_metadata_bytes_max=chance.choice((4096, 250, 160, OFFSET_METADATA_BYTES_MIN)),
        memory_bytes_max=1 << 30,
        habits=replace(
            scenario.habits,
            records_max=20,
            give_up_seconds=chance.choice((8.0, 1000.0)),
        ),
        retention=False,
        old_by=0.0,
        events=(
            chance.choice(("long outage", "long broken bucket")),
            "metadata limit",
            *chance.choices(EVENTS, k=2),
        ),
    )


def scenario(seed: int) -> Scenario:
    """Draw a scenario of any kind."""
    if seed % 12 == 5:
        drawn = limited(seed)
    elif seed % 3 == 0:
        drawn = contended(seed)
    else:
        drawn = crowded(seed) if seed % 6 == 1 else stormy(seed)
    return replace(drawn, **other_store(seed, drawn.destinations))


class World:
    """Everything around the workers.

    Args:
        seed: Decides all chances.
        scenario: What is run.
        nth: Fails one call instead of calls at random: its number and how.
        sabotage: A mistake that the workers make.
    """

    def __init__(
        self,
        seed: int,
        scenario: Scenario,
        *,
        nth: tuple[int, Fault] | None = None,
        sabotage: Sabotage | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.chance = random.Random(seed)
        self.scenario = scenario
        self.sabotage = sabotage
        self.habits = scenario.habits
        self.destinations = scenario.destinations
        self.router = Router(scenario.destinations)
        self.truth: dict[Record, dict[str, bytes | str | None]] = {}
        self.workers: list[Worker] = []
        self.scheduler = Scheduler(self._latency, self._plan)
        self.hesitation_seconds = SLOW_SECONDS_MAX if "commit" in scenario.slow_kinds else 0.1
        """How long a commit may wait before it is sent."""
        self._nth = nth
        self._started = 0
        """Number of workers that were started."""
        self._quiet = False
        self._broker_down_until = 0.0
        logs: dict[Name, Log] = {(TOPIC, it): Log() for it in range(scenario.partitions)}
        self.checker = Checker(
            logs,
            self.truth,
            self.destinations,
            window_seconds=scenario.rules.window_seconds,
            receipt_bytes_max=scenario.rules.receipt_bytes_max,
            retention=scenario.retention,
            builds=scenario.builds,
        )
        self.storage = Storage(
            self.scheduler,
            self.chance,
            scenario.rules.sizes,
            written=self.checker.on_object,
            part_sent=self.checker.on_part,
            head_fields=scenario.head_fields,
        )
        self.storage.losing = scenario.losing
        self.storage.errors_share = scenario.storage_errors_share
        self.storage.torn_share = scenario.torn_share
        self.storage.lost_uploads_share = scenario.lost_uploads_share
        self.storage.conflicts_share = scenario.conflicts_share
        self.broker = Broker(
            self.scheduler,
            self.chance,
            logs,
            metadata_bytes_max=scenario.broker_metadata_bytes_max
            or scenario.rules.metadata_bytes_max,
            sticky=scenario.sticky,
            committed=self.checker.on_commit,
        )

    def run(self) -> Counter[str]:
        """Run to the end and return what happened."""
        scenario, scheduler = self.scenario, self.scheduler
        self.run_with_faults()
        self._calm_down()
        step = float(max(scenario.rules.window_seconds, SLOW_SECONDS_MAX * 2 + 10.0))
        for _ in range(QUIET_WINDOWS):
            scheduler.run_until(scheduler.now + step)
            undrained = self.checker.undrained(self.broker.offsets)
            if not undrained:
                break
        else:
            raise Violation(f"not drained after {QUIET_WINDOWS} quiet windows: {undrained}")
        self.checker.finish(self.storage.objects)
        for worker in self.workers:
            held = worker.assignment.held
            if worker.assignment.generation == self.broker.generation and held:
                raise Violation(f"{held} bytes are held by nothing")
        self._check_uploads()
        return self._counted()

    def run_with_faults(self) -> None:
        """Run as long as events are produced and faults injected."""
        scenario, scheduler, chance = self.scenario, self.scheduler, self.chance
        for _ in range(scenario.workers):
            scheduler.after(chance.uniform(0.0, 3.0), self._start_worker)
        self._produce()
        for event in scenario.events:
            scheduler.after(chance.uniform(3.0, scenario.seconds), self._do, event)
        for _ in range(scenario.truncations):
            scheduler.after(chance.uniform(3.0, scenario.seconds), self._truncate)
        scheduler.run_until(scenario.seconds)

    def time(self) -> float:
        """Return the true time in seconds since 1970."""
        return EPOCH + self.scheduler.now

    def clock_ahead(self) -> float:
        """Draw how far a new worker's clock is ahead."""
        skew = self.scenario.clock_skew
        return self.chance.uniform(-skew, skew)

    def crashed(self, worker: Worker) -> None:
        """A worker died: its session ends some time later, and another one may be started."""
        self.counts["crashes"] += 1
        self.workers.remove(worker)
        self.scheduler.after(SESSION_SECONDS, self._end_session, worker)
        self.scheduler.after(self.chance.uniform(0.1, 12.0), self._start_worker)

    def gave_up(self, worker: Worker, tp: Name) -> None:
        """A worker ends since a partition makes no progress, which needs faults that go on."""
        self.counts["gave up"] += 1
        if self._quiet:
            raise Violation(f"{tp}: a worker ends for want of progress, and nothing holds it up")
        worker.crash()

    def _check_uploads(self) -> None:
        """Only what its worker could not end may be left: see `docs/operations.md`."""
        self.scheduler.run_until(self.scheduler.now + 1.0)
        for name, upload in self.storage.uploads.items():
            worker = upload.owner
            if worker.crashed:
                self.counts["uploads left: crash"] += 1
            elif name not in worker.deliver.uploads:
                self.counts["uploads left: begun without an answer"] += 1
            elif name in worker.deliver.not_aborted:
                self.counts["uploads left: not aborted"] += 1
            else:
                raise Violation(f"{name} of {upload.key} is left, and its worker is alive")

    # --- what is produced ---------------------------------------------------------------------

    def _produce(self) -> None:
        scenario, chance = self.scenario, self.chance
        if self.scheduler.now >= scenario.seconds:
            return
        for _ in range(chance.randint(1, 5)):
            key = chance.choice((b"a", b"a", b"b", None))
            partition = chance.randrange(scenario.partitions)
            log = self.broker.logs[TOPIC, partition]
            if log.past and log.end + 5 >= self._seen(partition):
                self.counts["not produced"] += 1
                continue
            if chance.random() < scenario.hole_share:
                log.end += chance.randint(1, 3)
            self._append(log, partition, key)
            if chance.random() < scenario.hole_share:
                log.end += 1
            if scenario.damage_share and chance.random() < scenario.damage_share:
                self._append_damaged(log, partition)
        pause = scenario.produce_every * chance.choice((0.1, 1.0, 1.0, 2.0))
        if chance.random() < 0.03:
            pause += scenario.rules.window_seconds * chance.uniform(0.5, 2.5)
        self.scheduler.after(pause, self._produce)

    def _append_damaged(self, log: Log, partition: int) -> None:
        chance, now = self.chance, self.scheduler.now
        first = log.end
        for _ in range(chance.randint(1, 4)):
            self._append(log, partition, chance.choice((b"a", b"b", None)))
        since, until = chance.choice(
            (
                (0.0, math.inf),
                (0.0, now + chance.uniform(1.0, 20.0)),
                (now + chance.uniform(0.5, 20.0), math.inf),
            )
        )
        log.damages.append(Damage(first, log.end, since, until))
        self.counts["undecodable: batches"] += 1

    def _append(self, log: Log, partition: int, key: bytes | None) -> None:
        scenario, chance = self.scenario, self.chance
        time = self.time() - scenario.old_by
        if chance.random() < scenario.late_share:
            time = chance.choice((time - chance.uniform(0, 30), time + 500, time - 1e6, -0.001))
        record = Record(partition, log.end, int(time * 1000), key, log.version)
        log.records.append(record)
        log.end += 1
        outcomes: dict[str, bytes | str | None] = {}
        for destination in self.destinations:
            if destination.pipeline is None or destination.pipeline.encode() == key:
                outcomes[destination.id] = self._outcome(record)
        self.truth[record] = outcomes

    def _seen(self, partition: int) -> float:
        """Return the least offset beyond the log's end that somebody has read, or recorded.

        A log that grows up to there before a worker looks cannot be distinguished from one that has
        lost nothing, see `docs/operations.md`; so producers wait.
        """
        name, end = TopicPartition(TOPIC, partition), self.broker.logs[TOPIC, partition].end
        seen = [it for worker in self.workers for it in worker.seen(name)]
        is_truncated, recorded = self.checker.recorded(name)
        if not is_truncated:
            seen += recorded
        return min((it for it in seen if it > end), default=math.inf)

    def _outcome(self, record: Record) -> bytes | str | None:
        chance = self.chance.random()
        if chance < self.scenario.skip_share:
            return None
        if chance < self.scenario.skip_share + self.scenario.fail_share:
            return "TypeError: it is undefined"
        padding = "x" * self.chance.randint(0, self.scenario.padding_max)
        name = (record.partition, record.offset, record.version)
        return b'{"record":[%d,%d,%d],"x":"%s"}' % (*name, padding.encode())

    # --- what goes wrong ----------------------------------------------------------------------

    def _latency(self, kind: str) -> float:
        chance = self.chance
        if not self._quiet:
            if kind in self.scenario.slow_kinds and chance.random() < 0.5:
                return chance.uniform(0.5, SLOW_SECONDS_MAX)
            if chance.random() < self.scenario.slow_share:
                return chance.uniform(0.5, 5.0)
        return chance.uniform(0.002, 0.05)

    def _plan(self, number: int, kind: str, process: Process) -> Fault | None:
        del process
        fault = None
        if self._nth is not None:
            fault = self._nth[1] if number == self._nth[0] else None
        elif not self._quiet:
            fault = self._random_fault(kind)
        if fault is not None:
            self.counts[f"{kind}: {fault.name}"] += 1
            self.counts[fault.name] += 1
        return fault

    def _random_fault(self, kind: str) -> Fault | None:
        scenario, chance = self.scenario, self.chance.random()
        if self.scheduler.now < self._broker_down_until and kind not in STORAGE_KINDS:
            return Fault.ERROR
        if chance < scenario.call_crash_share:
            return self.chance.choice((Fault.CRASH_BEFORE, Fault.CRASH_AFTER))
        chance -= scenario.call_crash_share
        if chance < scenario.call_error_share:
            return Fault.ERROR
        if chance < scenario.call_error_share + scenario.call_lost_share:
            late = kind in MAY_BE_LATE and self.chance.random() < 0.5
            return Fault.LATE if late else Fault.LOST_ANSWER
        return None

    def _do(self, event: str) -> None:
        chance, now = self.chance, self.scheduler.now
        worker = chance.choice(self.workers) if self.workers else None
        self.counts[event] += 1
        match event:
            case "rebalance":
                self.broker.rebalance()
            case "rebalance storm":
                for delay in (0.0, 3.0, 6.0, 9.0):
                    self.scheduler.after(delay, self.broker.rebalance)
            case "join":
                if len(self.workers) < 5:
                    self._start_worker()
            case "outage" | "long outage":
                self.storage.down_until = now + chance.uniform(*OUTAGE_SECONDS[event])
            case "metadata limit":
                lowest = OFFSET_METADATA_BYTES_MIN
                self.broker.metadata_bytes_max = chance.choice((lowest, lowest, 200))
            case "broker outage":
                self._broker_down_until = now + chance.uniform(0.5, SLOW_SECONDS_MAX)
            case "broken bucket" | "long broken bucket":
                bucket = chance.choice(self.destinations).bucket
                self.storage.broken_until[bucket] = now + chance.uniform(*OUTAGE_SECONDS[event])
            case "uploads lost":
                self.storage.lose_uploads()
            case "retention":
                log = self.broker.logs[chance.choice(sorted(self.broker.logs))]
                log.start = max(log.start, log.end - chance.randint(0, 30))
            case _ if worker is None:
                pass
            case "crash":
                worker.crash()
            case "leave":
                worker.crashed = True
                self.workers.remove(worker)
                # A static member leaves no group: its session ends, unless another takes its place.
                delay = SESSION_SECONDS if self.scenario.static else 0.0
                self.scheduler.after(delay, self.broker.leave, worker)
                self.scheduler.after(chance.uniform(0.1, 5.0), self._start_worker)
            case "pause" | "deafen":
                until = now + chance.choice((2.0, 10.0, 25.0)) * chance.uniform(0.5, 1.5)
                if event == "pause":
                    worker.paused_until = until
                else:
                    worker.deaf_until = until
                if self.scenario.static and chance.random() < 0.5:
                    delay = chance.uniform(0.5, 5.0)
                    self.scheduler.after(delay, self._start_worker, worker.place)
                self.scheduler.after(SESSION_SECONDS, self._end_session, worker)
            case "clock":
                worker.clock_ahead += chance.choice((-1, 1)) * chance.choice((2.0, 12.0, 90.0, 4e3))
            case _:
                raise AssertionError(event)

    def _truncate(self) -> None:
        """Let a log lose its end, of which some or all was read."""
        chance, log = self.chance, self.broker.logs[self.chance.choice(sorted(self.broker.logs))]
        kept = chance.choice((0, log.end // 2, log.end - chance.randint(1, 8)))
        if log.end:
            self.counts["log truncated"] += 1
            log.truncate(max(0, kept))

    def _end_session(self, worker: Worker) -> None:
        silent = max(worker.paused_until, worker.deaf_until) > self.scheduler.now
        if worker.crashed or silent:
            self.broker.leave(worker)

    def _start_worker(self, place: str | None = None) -> None:
        """Start a worker; a static member has the given place, or the first that is free."""
        scenario = self.scenario
        if scenario.static and place is None:
            taken = {worker.place for worker in self.workers}
            place = next(it for it in map(str, range(len(taken) + 1)) if it not in taken)
        rules = replace(scenario.rules, undecodable_seconds=UNDECODABLE_SECONDS)
        self._started += 1
        if scenario.builds:
            compress = Compressor(self._started)
            rules = replace(rules, sizes=replace(rules.sizes, compress=compress))
        self.workers.append(Worker(self, rules, scenario.memory_bytes_max, place))

    def _calm_down(self) -> None:
        """End all faults; who is stopped goes on, and at least one worker is there."""
        self._quiet = True
        self.habits = replace(self.habits, duplicates=0.0, seeks_back=0.0, loses=0.0)
        storage = self.storage
        storage.errors_share = storage.torn_share = storage.down_until = 0.0
        storage.lost_uploads_share = storage.conflicts_share = 0.0
        storage.broken_until.clear()
        for worker in self.workers:
            worker.paused_until = worker.deaf_until = 0.0
        if not self.workers:
            self._start_worker()

    def _counted(self) -> Counter[str]:
        counts = self.counts + self.checker.counts
        counts["runs"] = 1
        counts["calls"] = self.scheduler.calls
        counts["rebalances"] = self.broker.rebalances
        counts["places taken"] = self.broker.taken_places
        counts["records"] = len(self.truth)
        counts["objects"] = len(self.storage.objects)
        counts["already there"] = self.storage.already_there
        counts["torn"] = self.storage.torn
        counts["storage errors"] = self.storage.refused
        counts["conflicts"] = self.storage.conflicts
        counts["uploads begun"] = self.storage.begun
        counts["parts"] = self.storage.parts
        counts["objects in parts"] = self.storage.completed
        counts["completions refused"] = self.storage.completions_refused
        counts["uploads aborted"] = self.storage.aborted
        counts["uploads gone"] = self.storage.lost_uploads
        counts["completions lost"] = self.storage.completions_lost
        return counts


def simulate(seed: int) -> Counter[str]:
    """Run the scenario of a seed; return how often each thing happened."""
    try:
        return World(seed, scenario(seed)).run()
    except Exception as error:
        error.add_note(f"run it again with: pytest tests/simulation --seed {seed}")
        raise
