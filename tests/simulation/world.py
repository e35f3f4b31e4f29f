"""One run: a scenario drawn from a seed, the faults injected into it, and the quiet time after.

`World(seed).run()` returns what happened, counted; it raises a `Violation` when the oracle objects.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace

from stream_app.deliveries import Rules
from stream_app.objects import Sizes
from stream_app.settings import Destination
from tests.simulation.broker import (
    SESSION_SECONDS,
    TOPIC,
    Broker,
    Log,
    Name,
    Record,
)
from tests.simulation.checker import Checker, Violation
from tests.simulation.sabotage import Sabotage
from tests.simulation.scheduler import Fault, Process, Scheduler
from tests.simulation.storage import Storage
from tests.simulation.worker import Habits, Worker

EPOCH = 1_800_000_000
"""The world's time 0, in seconds since 1970."""
SLOW_SECONDS_MAX = 15.0
"""How long one way of a slow call takes."""
QUIET_WINDOWS = 60
"""How long the world waits for everything to drain after the faults."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run is made of. Shares are chances between 0 and 1, times are seconds."""

    partitions: int
    workers: int
    destinations: tuple[Destination, ...]
    seconds: float
    produce_every: float
    rules: Rules
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
    padding_max: int
    skip_share: float
    fail_share: float
    retention: bool
    clock_skew: float
    events: tuple[str, ...]
    """What is done to the world, each at a random time."""


CALM_HABITS = Habits(
    poll_seconds=0.5,
    records_max=20,
    keeps_queue=0.0,
    duplicates=0.0,
    seeks_back=0.0,
    loses=0.0,
    runs_on=0.0,
    give_up_seconds=8.0,
    late_seconds=4.0,
)


def destinations(count: int) -> tuple[Destination, ...]:
    """Return destinations of three kinds: one pipeline, all of them, one with a bare prefix."""
    return (
        Destination(id="first", bucket="bucket-one", pipeline="a"),
        Destination(id="every", bucket="bucket-two", prefix="all/"),
        Destination(id="second", bucket="bucket-one", prefix="pre", pipeline="b"),
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
        rules=Rules("group", chance.choice((5, 10, 20)), 2.0, sizes=tiny(seed)),
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
        padding_max=chance.choice((0, 100)),
        skip_share=chance.choice((0.0, 0.2, 0.9)),
        fail_share=chance.choice((0.0, 0.1)),
        retention=False,
        clock_skew=0.0,
        events=(),
    )


KINDS = (
    *("commit", "read-back", "publish", "fetch", "offset", "join"),
    *("put", "begin", "part", "complete", "abort"),
)
STORAGE_KINDS = ("put", "begin", "part", "complete", "abort")
"""Those that S3 answers, and not the broker."""
MAY_BE_LATE = ("commit", *STORAGE_KINDS)
"""What can wait in a buffer and take effect when nobody waits for it any more."""
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
    kinds = chance.sample(EVENTS, chance.randint(0, len(EVENTS)))
    events = [chance.choice(kinds) for _ in range(chance.randint(1, 10))] if kinds else []
    retention = chance.random() < 0.04
    return replace(
        quiet,
        workers=chance.randint(1, 4),
        rules=replace(
            quiet.rules,
            receipt_bytes_max=chance.choice((256 * 1024, 256 * 1024, 200)),
            metadata_bytes_max=chance.choice((4096, 100, 64)),
            sizes=replace(quiet.rules.sizes, parts_max=chance.choice((10_000, 10_000, 3))),
        ),
        memory_bytes_max=chance.choice((1 << 30, 1 << 30, 12_000, 5_000)),
        habits=replace(
            quiet.habits,
            keeps_queue=sometimes(0.7, 0.5, 1.0),
            duplicates=sometimes(0.5, 0.02, 0.2),
            seeks_back=sometimes(0.5, 0.02, 0.1),
            loses=sometimes(0.4, 0.02, 0.2),
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
        lost_uploads_share=sometimes(0.3, 0.02, 0.1),
        conflicts_share=sometimes(0.4, 0.05, 0.3),
        hole_share=sometimes(0.5, 0.1, 0.4),
        retention=retention,
        clock_skew=sometimes(0.5, 1.0, 30.0, 400.0),
        events=(*events, *(["retention"] * 2 if retention else [])),
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
        rules=Rules("group", 5, 2.0, sizes=scenario.rules.sizes),
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
        rules=Rules(
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


def scenario(seed: int) -> Scenario:
    """Draw a scenario of any kind."""
    if seed % 3 == 0:
        return contended(seed)
    return crowded(seed) if seed % 6 == 1 else stormy(seed)


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
        self.truth: dict[tuple[int, int], dict[str, bytes | str | None]] = {}
        self.workers: list[Worker] = []
        self.scheduler = Scheduler(self._latency, self._plan)
        self.hesitation_seconds = SLOW_SECONDS_MAX if "commit" in scenario.slow_kinds else 0.1
        """How long a commit may wait before it is sent."""
        self._nth = nth
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
        )
        self.storage = Storage(
            self.scheduler,
            self.chance,
            scenario.rules.sizes,
            written=self.checker.on_object,
            part_sent=self.checker.on_part,
        )
        self.storage.errors_share = scenario.storage_errors_share
        self.storage.torn_share = scenario.torn_share
        self.storage.lost_uploads_share = scenario.lost_uploads_share
        self.storage.conflicts_share = scenario.conflicts_share
        self.broker = Broker(
            self.scheduler,
            self.chance,
            logs,
            metadata_bytes_max=scenario.rules.metadata_bytes_max,
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
            if chance.random() < scenario.hole_share:
                log.end += chance.randint(1, 3)
            self._append(log, partition, key)
            if chance.random() < scenario.hole_share:
                log.end += 1
        pause = scenario.produce_every * chance.choice((0.1, 1.0, 1.0, 2.0))
        if chance.random() < 0.03:
            pause += scenario.rules.window_seconds * chance.uniform(0.5, 2.5)
        self.scheduler.after(pause, self._produce)

    def _append(self, log: Log, partition: int, key: bytes | None) -> None:
        scenario, chance = self.scenario, self.chance
        time = self.time()
        if chance.random() < scenario.late_share:
            time = chance.choice((time - chance.uniform(0, 30), time + 500, time - 1e6, -0.001))
        offset = log.end
        log.records.append(Record(partition, offset, int(time * 1000), key))
        log.end += 1
        outcomes: dict[str, bytes | str | None] = {}
        for destination in self.destinations:
            if destination.pipeline is None or destination.pipeline.encode() == key:
                outcomes[destination.id] = self._outcome(partition, offset)
        self.truth[partition, offset] = outcomes

    def _outcome(self, partition: int, offset: int) -> bytes | str | None:
        chance = self.chance.random()
        if chance < self.scenario.skip_share:
            return None
        if chance < self.scenario.skip_share + self.scenario.fail_share:
            return "TypeError: it is undefined"
        padding = "x" * self.chance.randint(0, self.scenario.padding_max)
        return b'{"partition":%d,"offset":%d,"x":"%s"}' % (partition, offset, padding.encode())

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
            case "outage":
                self.storage.down_until = now + chance.uniform(1.0, 15.0)
            case "broker outage":
                self._broker_down_until = now + chance.uniform(0.5, SLOW_SECONDS_MAX)
            case "broken bucket":
                bucket = chance.choice(self.destinations).bucket
                self.storage.broken_until[bucket] = now + chance.uniform(1.0, 30.0)
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
                self.broker.leave(worker)
                self.scheduler.after(chance.uniform(0.1, 5.0), self._start_worker)
            case "pause" | "deafen":
                until = now + chance.choice((2.0, 10.0, 25.0)) * chance.uniform(0.5, 1.5)
                if event == "pause":
                    worker.paused_until = until
                else:
                    worker.deaf_until = until
                self.scheduler.after(SESSION_SECONDS, self._end_session, worker)
            case "clock":
                worker.clock_ahead += chance.choice((-1, 1)) * chance.choice((2.0, 12.0, 90.0, 4e3))
            case _:
                raise AssertionError(event)

    def _end_session(self, worker: Worker) -> None:
        silent = max(worker.paused_until, worker.deaf_until) > self.scheduler.now
        if worker.crashed or silent:
            self.broker.leave(worker)

    def _start_worker(self) -> None:
        scenario = self.scenario
        self.workers.append(Worker(self, scenario.rules, scenario.memory_bytes_max))

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
        for partition in range(self.scenario.partitions):
            # A batch that was lost is noticed by the next one, so there is a next one.
            log = self.broker.logs[TOPIC, partition]
            self.scheduler.after(SLOW_SECONDS_MAX * 2, self._append, log, partition, b"a")

    def _counted(self) -> Counter[str]:
        counts = self.counts + self.checker.counts
        counts["runs"] = 1
        counts["calls"] = self.scheduler.calls
        counts["rebalances"] = self.broker.rebalances
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
        return counts
