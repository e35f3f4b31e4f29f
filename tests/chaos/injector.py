"""Performs a schedule of faults on real workers, a real broker and the proxy before S3.

    injector = Injector(lab, kafka, seed)
    async with injector.watching(), lab.load.steady(200):
        await injector.perform(draw(seed, 180, ...))      # each fault begins and ends by itself

A fault that finds nothing to hit, such as a worker when all of them are under another one, waits a
while and then counts as missed. Workers that are gone are replaced, as an orchestrator would. One
that ends by itself after it was ready is a defect and goes into `complaints`; so does one that
takes more memory than `RSS_MIB_MAX`, or does not end well on SIGTERM.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiokafka.protocol.api import Request as KafkaRequest

from stream_app.embedded.servers import KafkaServer
from tests.chaos.clocked_worker import set_clock
from tests.chaos.harness import WINDOW_SECONDS, Lab, Worker, wait_until
from tests.chaos.kafka_proxy import ERRORS, no_error
from tests.chaos.s3_proxy import Fault, Request
from tests.chaos.schedule import Injection, Kind

CLOCKED_WORKER: Final = Path(__file__).with_name("clocked_worker.py")
WORKERS: Final = 3
"""At the beginning, and again after each kill."""
WORKERS_MIN: Final = 2
WORKERS_MAX: Final = 5
WATCH_SECONDS: Final = 0.5
"""Between looks at whether workers live, and what memory they take."""
AGAIN_SECONDS: Final = 3.0
"""After a worker has ended by itself, such as for want of a broker, until others are started."""
MISSED_SECONDS: Final = 60.0
"""How long a fault waits for something to hit, such as a worker that a loaded machine starts."""
RSS_MIB_MAX: Final = 320
"""Of a worker: some 90 at rest, `memory_max_mib` of 128, fetches on their way, and the windows that
a predecessor has recorded, while they are rebuilt."""
READY: Final = "ready: "
EXCUSED_SECONDS: Final = 30.0
"""From the end of a burst of errors on: a worker that ends is checked and started anew."""
ENDED_WELL: Final = re.compile(
    r"crashed; nothing more is committed: (StalledError|SetupError): |Kafka at .* refuses"
)
"""The line of a worker that ends for what a broker has answered."""

REQUEST_FAULTS: Final = {
    Kind.S3_HANG: (Fault.HOLD,),
    Kind.S3_SLOW: (Fault.SLOW,),
    Kind.S3_ERRORS: (Fault.BROKEN, Fault.SLOW_DOWN),
    Kind.S3_RESET: (Fault.REFUSE, Fault.TEAR_AT_BODY, Fault.TEAR_IN_BODY, Fault.LOSE_ANSWER),
    Kind.S3_DAMAGE: (Fault.DAMAGE,),
    Kind.S3_LOSE: (Fault.LOSE_ANSWER,),
}
"""Proxy fault of each kind; under S3_REFUSE nothing listens."""


@dataclass
class Replays:
    """Repeated work, read from the workers' logs."""

    takeovers: Counter[int] = field(default_factory=Counter)
    """By partition: built from its commit by a worker that did not have it."""
    replayed: int = 0
    """Windows that a predecessor had recorded and not finished."""
    there_already: int = 0
    """Objects that a worker found under the key that it wanted to write."""
    retries: int = 0
    """Attempts that failed and were logged."""
    gone: int = 0
    """Partitions built anew since parts of theirs were gone."""


def launch_clocked(lab: Lab) -> tuple[Worker, Path]:
    """Start a worker whose clock is right until `set_clock` sets the file that is returned."""
    clock = lab.configuration.with_name(f"clock-{len(lab.workers)}")
    set_clock(clock, 0.0)
    worker = lab.launch_worker(
        *("-P", str(CLOCKED_WORKER), str(clock)),
        # Leaves no message out: they are counted.
        *("worker", "--config", str(lab.configuration), "--log-level", "debug"),
    )
    return worker, clock


class Injector:
    """Faults into one lab, whose broker nobody else uses."""

    def __init__(self, lab: Lab, kafka: KafkaServer, seed: int) -> None:
        self.drawn: Counter[Kind] = Counter()
        self.performed: Counter[Kind] = Counter()
        self.complaints: list[str] = []
        self.timeline: list[str] = []
        """Faults with their times, to be read by people."""
        self.rss_mib_max = 0
        self.workers_started = 0
        assert lab.kafka_proxy is not None, "there is one before the broker"
        self._proxy = lab.kafka_proxy
        self._lab = lab
        self._kafka = kafka
        self._chance = random.Random(seed)
        self._began = time.monotonic()
        self._busy: set[str] = set()
        """Workers that are under a fault."""
        self._gone: set[str] = set()
        """Workers whose end is ours, or is dealt with."""
        self._clocks: dict[str, Path] = {}
        self._s3: list[Injection] = []
        """Faults of S3 that are in force."""
        self._port = asyncio.Lock()
        """Held while nobody listens for S3."""
        self._broker = asyncio.Lock()
        """Held while the broker is under a fault."""
        self._responses = asyncio.Lock()
        """Held while responses of the broker are replaced."""
        self._errors_until = 0.0
        """Until when a worker may end for what it was answered."""
        self._broker_failed_at = 0.0
        """When the broker was last away."""
        self._started: dict[str, float] = {}
        self._heavy: set[str] = set()
        self._again_at = 0.0
        """When missing workers may be started."""

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Start the first workers, and see to it meanwhile that there are some, and well."""
        await self._start_workers()
        watch = asyncio.create_task(self._watch())
        try:
            yield
            self._look()
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _start_workers(self) -> None:
        workers = [self._launch() for _ in range(WORKERS)]
        await asyncio.gather(*[worker.logged(READY) for worker in workers])

    async def perform(self, schedule: Sequence[Injection]) -> None:
        """Perform all faults, each in its time; return when the last one has ended."""
        self.drawn = Counter(injection.kind for injection in schedule)
        self._lab.proxy.rule = self._rule
        await asyncio.sleep(WINDOW_SECONDS - time.time() % WINDOW_SECONDS)
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for injection in schedule:
                group.create_task(self._perform(injection))

    def replays(self) -> Replays:
        """Read what all workers have logged."""
        found = Replays()
        for worker in self._lab.workers:
            log = worker.log
            for partition, closings in re.findall(
                r"partition \S+/(\d+): taken over at offset \d+, recorded closings: (\d+)", log
            ):
                found.takeovers[int(partition)] += 1
                found.replayed += int(closings)
            for partition, _ in re.findall(r"forgotten and rebuilt .*?/(\d+): (expected)", log):
                found.takeovers[int(partition)] += 1
            found.there_already += log.count(", there already")
            found.gone += len(re.findall(r"forgotten and rebuilt .*? are gone: ", log))
            found.retries += len(re.findall(r": attempt \d+: ", log))
        return found

    # --- faults -------------------------------------------------------------------------------

    async def _perform(self, injection: Injection) -> None:
        await asyncio.sleep(self._began + injection.at - time.monotonic())
        done = await self._perform_now(injection)
        self.performed[injection.kind] += done

    async def _perform_now(self, injection: Injection) -> bool:
        """Do it, and undo it; return whether there was something to do it to."""
        kind = injection.kind
        if kind is Kind.S3_ABORT:
            return await self._abort(injection)
        server = SERVERS.get(kind, Injector._hit_s3 if kind.of_s3 else None)
        if server is not None:
            await server(self, injection)
            return True
        hit = self._join if kind is Kind.JOIN else self._hit_worker
        try:
            await wait_until(lambda: hit(injection), MISSED_SECONDS, "something to hit")
        except AssertionError:
            self._write(f"{kind.value}: nothing to hit")
            return False
        return True

    async def _join(self, injection: Injection) -> bool:
        room = len(self._lab.running) < WORKERS_MAX
        if room:
            self._note(injection, self._launch().name)
        return room

    async def _hit_worker(self, injection: Injection) -> bool:
        can_be_hit = [
            worker
            for worker in self._lab.running
            if worker.name not in self._busy and READY in worker.log
        ]
        if not can_be_hit:
            return False
        worker = can_be_hit[int(injection.aim * len(can_be_hit))]
        self._note(injection, worker.name)
        self._busy.add(worker.name)
        await WORKER[injection.kind](self, worker, injection)
        self._busy.discard(worker.name)
        return True

    async def _kill(self, worker: Worker, injection: Injection) -> None:
        self._gone.add(worker.name)
        worker.kill()
        await asyncio.sleep(injection.seconds)
        if len(self._lab.running) < WORKERS:
            self._launch()

    async def _stop(self, worker: Worker, injection: Injection) -> None:
        worker.pause()
        await asyncio.sleep(injection.seconds)
        worker.resume()

    async def _leave(self, worker: Worker, _: Injection) -> None:
        self._gone.add(worker.name)
        try:
            await worker.terminate()
        except AssertionError as error:
            self.complaints.append(str(error))
            worker.kill()
        else:
            if worker.process.returncode != 0 and not self._is_excused(worker):
                self._complain(worker, f"ended with {worker.process.returncode} on SIGTERM")

    async def _step_clock(self, worker: Worker, injection: Injection) -> None:
        clock = self._clocks[worker.name]
        set_clock(clock, injection.strength)
        await asyncio.sleep(injection.seconds)
        set_clock(clock, 0.0)

    async def _hit_nothing(self, injection: Injection) -> None:
        self._note(injection, "")

    async def _silence(self, injection: Injection) -> None:
        self._proxy.freeze(injection.strength, self._chance)
        self._note(injection, f"{injection.strength:.0%} of connections")

    async def _hit_broker(self, injection: Injection) -> None:
        async with self._broker:
            self._note(injection, "")
            self._broker_failed_at = float("inf")
            match injection.kind:
                case Kind.BROKER_KILL:
                    await asyncio.to_thread(self._kafka.kill)
                    await asyncio.sleep(injection.seconds)
                    await asyncio.to_thread(self._kafka.start)
                case Kind.BROKER_RESTART:
                    await asyncio.to_thread(self._kafka.restart)
                case Kind.BROKER_STALL:
                    self._kafka.pause()
                    await asyncio.sleep(injection.seconds)
                    self._kafka.resume()
            self._broker_failed_at = time.monotonic()

    async def _replace_responses(self, injection: Injection) -> None:
        async with self._responses:
            self._note(injection, f"{injection.strength:.0%} of responses")

            def rule(request: type[KafkaRequest[Any]]) -> int | None:
                hit = self._chance.random() < injection.strength
                return self._chance.choice(ERRORS[request]) if hit else None

            self._proxy.rule = rule
            self._errors_until = float("inf")
            await asyncio.sleep(injection.seconds)
            self._proxy.rule = no_error
            self._errors_until = time.monotonic() + EXCUSED_SECONDS

    async def _hit_s3(self, injection: Injection) -> None:
        if injection.kind is Kind.S3_REFUSE:
            async with self._port:
                self._note(injection, "")
                await self._lab.proxy.close()
                await asyncio.sleep(injection.seconds)
                await self._lab.proxy.open()
            return
        self._note(injection, f"{injection.strength:.0%} of requests")
        self._s3.append(injection)
        await asyncio.sleep(injection.seconds)
        self._s3.remove(injection)
        if injection.kind is Kind.S3_HANG and not self._hanging:
            self._lab.proxy.release()

    async def _abort(self, injection: Injection) -> bool:
        """Abort what is being uploaded in parts, as soon as there is something."""
        aborted: list[str] = []

        async def some() -> bool:
            aborted.extend(await asyncio.to_thread(self._lab.abort_uploads))
            return bool(aborted)

        with suppress(AssertionError):
            await wait_until(some, injection.seconds, "an upload to abort")
        self._note(injection, f"{len(aborted)} uploads")
        return bool(aborted)

    @property
    def _hanging(self) -> bool:
        return any(injection.kind is Kind.S3_HANG for injection in self._s3)

    def _rule(self, request: Request) -> Fault:
        """The first fault in force that hits a request; it is drawn anew for each."""
        del request
        for injection in self._s3:
            if self._chance.random() < injection.strength:
                return self._chance.choice(REQUEST_FAULTS[injection.kind])
        return Fault.NONE

    # --- workers ------------------------------------------------------------------------------

    def _launch(self) -> Worker:
        worker, clock = launch_clocked(self._lab)
        self._clocks[worker.name] = clock
        self._started[worker.name] = time.monotonic()
        self.workers_started += 1
        return worker

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(WATCH_SECONDS)

    def _look(self) -> None:
        """Replace workers that ended by themselves; complain of them, and of their memory."""
        for worker in list(self._lab.workers):
            if worker.running:
                self._weigh(worker)
            elif worker.name not in self._gone:
                self._gone.add(worker.name)
                # One that finds no broker when it starts says so and ends, as it should.
                found = READY in worker.log or self._broker_failed_at < self._started[worker.name]
                if found and not self._is_excused(worker):
                    self._complain(worker, f"ended by itself with {worker.process.returncode}")
                self._again_at = time.monotonic() + AGAIN_SECONDS
        if len(self._lab.running) < WORKERS_MIN and time.monotonic() > self._again_at:
            self._launch()

    def _is_excused(self, worker: Worker) -> bool:
        """Whether a worker ended for a response of the broker, and says so."""
        excused = time.monotonic() < self._errors_until and ENDED_WELL.search(worker.log)
        if excused:
            self._write(f"{worker.name} ended for a response of the broker")
        return bool(excused)

    def _weigh(self, worker: Worker) -> None:
        mib = worker.rss_mib_max
        self.rss_mib_max = max(self.rss_mib_max, mib)
        if mib > RSS_MIB_MAX and worker.name not in self._heavy:
            self._heavy.add(worker.name)
            self._complain(worker, f"takes {mib} MiB, more than {RSS_MIB_MAX}")

    def _complain(self, worker: Worker, what: str) -> None:
        self.complaints.append(f"{worker.name} {what}; its log is {worker.log_file}")
        self._write(f"{worker.name} {what}")

    def _note(self, injection: Injection, about: str) -> None:
        self._write(f"{injection.kind.value}, {injection.seconds:.1f} s {about}")

    def _write(self, what: str) -> None:
        elapsed = time.monotonic() - self._began
        self.timeline.append(f"{datetime.now(UTC):%H:%M:%S} {elapsed:8.1f} s  {what}")


SERVERS: Final[dict[Kind, Callable[[Injector, Injection], Awaitable[None]]]] = {
    Kind.NOTHING: Injector._hit_nothing,
    Kind.BROKER_KILL: Injector._hit_broker,
    Kind.BROKER_RESTART: Injector._hit_broker,
    Kind.BROKER_STALL: Injector._hit_broker,
    Kind.BROKER_SILENCE: Injector._silence,
    Kind.BROKER_ERRORS: Injector._replace_responses,
}
WORKER: Final[dict[Kind, Callable[[Injector, Worker, Injection], Awaitable[None]]]] = {
    Kind.KILL: Injector._kill,
    Kind.STALL: Injector._stop,
    Kind.ZOMBIE: Injector._stop,
    Kind.LEAVE: Injector._leave,
    Kind.CLOCK: Injector._step_clock,
}
