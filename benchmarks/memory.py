# ruff: noqa: INP001 - a program, no package
"""The most memory that a worker takes, beyond what it has when it is idle, in the worst cases.

    huge windows      all of a backlog in one minute, at full speed: 1 GiB and 2 GiB of events
    one destination   the same for a single destination, whose objects leave in parts
    10,000            destinations, each with one event of 1 KB a second, over two minutes; the
                      same without S3: each window keeps what it needs to try again
    100,000           destinations, each with three events in one minute; the same without S3
    large events      of 1 MB each; and 1 KB events that a producer has compressed 1:10
    no S3             refuses connections, or does not respond, at full speed; then it comes back

Each case has a worker of its own, over 4 partitions of a backlog that does not end before the bound
is reached. What it takes is the peak of its resident set (VmHWM) less what it had after its
partitions were taken over. Each event must have its receipt in the end, from the same process.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import click
import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig

TARGET_MIB: Final = 300
"""Beyond idle, whatever comes."""
BESIDE_MIB: Final = 320
"""What a worker's process is given beside `[delivery] memory_max_mib`, in all documents and
examples: the most that was measured (233 MiB) and a margin."""
OUTAGE_SECONDS: Final = 30.0
BEFORE_OUTAGE_SECONDS: Final = 1.5
"""At full speed: S3 has served its clients, and most of the backlog is still there."""
START_SECONDS_MAX: Final = 120.0
SECONDS_MAX: Final = 1_200.0
LARGE_BYTES: Final = 1_000_000
LARGE_DISTINCT: Final = 40
COMPRESSIBLE_DISTINCT: Final = 2_000
COMPRESSIBLE_BASES: Final = 400
"""They differ in their numbers only: 1 MiB of them is 110 KiB in zstd."""
COMPRESSED_BATCH_BYTES: Final = 1024 * 1024
MANY: Final = 10_000
MOST: Final = 100_000


class Backlog(NamedTuple):
    """A topic, and how it is written."""

    load: rig.Load
    write: Callable[[str, rig.Load], None]


class Case(NamedTuple):
    """What is measured."""

    name: str
    backlog: str
    destinations: int | None
    """One for each of so many pipelines; None: one for all events."""
    outage: Callable[[rig.Servers, float], None] | None = None


class Peak(NamedTuple):
    """What a worker took."""

    case: str
    events: int
    start_seconds: float
    """Until its partitions were taken over."""
    idle_mib: float
    added_mib: float
    rate: float
    """Events a second; of an outage the time is counted as well."""
    cpu_us: float
    objects: int


def _usual(address: str, load: rig.Load) -> None:
    asyncio.run(rig.fill(address, load))


def _large(address: str, load: rig.Load) -> None:
    chance = random.Random(7)  # noqa: S311
    values = [
        orjson.dumps({"id": number, "body": chance.randbytes(LARGE_BYTES // 2 - 20).hex()})
        for number in range(LARGE_DISTINCT)
    ]
    asyncio.run(rig.fill(address, load, values, batch_bytes=2 * LARGE_BYTES))


def _compressible(address: str, load: rig.Load) -> None:
    """Write events whose batches the producer compresses 1:10, to 100 KiB."""
    few = rig.events(COMPRESSIBLE_BASES)
    values = [
        few[number % len(few)].replace(b'"id":', b'"id":%d' % number, 1)
        for number in range(COMPRESSIBLE_DISTINCT)
    ]
    options = {"batch_bytes": COMPRESSED_BATCH_BYTES, "compression": "zstd"}
    asyncio.run(rig.fill(address, load, values, **options))


def refuse(servers: rig.Servers, seconds: float) -> None:
    """Let S3 refuse connections for so long."""
    servers.s3.kill()
    time.sleep(seconds)
    servers.s3.start()


def stall(servers: rig.Servers, seconds: float) -> None:
    """Let S3 accept connections and send nothing for so long."""
    servers.s3.pause()
    time.sleep(seconds)
    servers.s3.resume()


BACKLOGS: Final[Mapping[str, Backlog]] = {
    "1 GiB": Backlog(rig.Load("memory-1", 1_000_000, minutes=1), _usual),
    "2 GiB": Backlog(rig.Load("memory-2", 2_000_000, minutes=1), _usual),
    "10,000": Backlog(rig.Load("memory-many", 1_200_000, pipelines=MANY, minutes=2), _usual),
    "100,000": Backlog(rig.Load("memory-most", 300_000, pipelines=MOST, minutes=1), _usual),
    "1 MB": Backlog(rig.Load("memory-large", 1_000, minutes=1), _large),
    "1:10": Backlog(rig.Load("memory-compressed", 1_000_000, minutes=1), _compressible),
}
CASES: Final = (
    Case("1 GiB in one minute", "1 GiB", 20),
    Case("2 GiB in one minute", "2 GiB", 20),
    Case("one destination, 1 GiB in one minute", "1 GiB", None),
    Case("10,000 destinations, 1 KB a second each", "10,000", MANY),
    Case("100,000 destinations, 3 events in a minute each", "100,000", MOST),
    Case("events of 1 MB", "1 MB", 20),
    Case("record batches compressed 1:10", "1:10", 20),
    Case("no S3: connections refused", "1 GiB", 20, refuse),
    Case("no S3: no answers", "1 GiB", 20, stall),
    Case("no S3, 10,000 destinations", "10,000", MANY, refuse),
    Case("no S3, 100,000 destinations", "100,000", MOST, refuse),
)


class Bench:
    """Runs cases; a backlog is written when the first of its cases comes."""

    def __init__(
        self,
        servers: rig.Servers,
        folder: Path,
        backlogs: Mapping[str, Backlog] = BACKLOGS,
    ) -> None:
        self._servers = servers
        self._backlogs = backlogs
        self._folder = folder
        self._written: set[str] = set()

    def measure(self, case: Case, outage_seconds: float, **delivery: int) -> Peak:
        """Let a worker deliver the backlog of a case; return what it took.

        Raises:
            RuntimeError: Not every event has its receipt in time, or the worker has ended.
        """
        load = self._backlog(case)
        name = f"memory-{time.time_ns()}"
        config = self._config(case, load, name, delivery)
        address = self._servers.kafka.address
        begun = time.monotonic()
        with rig.worker(self._servers, config) as worker, ThreadPoolExecutor(1) as reader:
            worker.wait_for(rig.TAKEN_OVER, load.partitions, START_SECONDS_MAX)
            ready = worker.usage()
            seconds_max = SECONDS_MAX + (outage_seconds if case.outage else 0.0)
            receipts = partial(rig.receipts, address, f"{name}-receipts", load.events, seconds_max)
            reading = reader.submit(lambda: asyncio.run(receipts()))
            if case.outage is not None:
                time.sleep(BEFORE_OUTAGE_SECONDS)
                case.outage(self._servers, outage_seconds)
            count = len(reading.result())
            measured = rig.Measured.between(ready, worker.usage(), load.events)
        return Peak(
            case.name,
            load.events,
            ready.at - begun,
            measured.rss_idle_mib,
            measured.rss_added_mib,
            measured.rate,
            measured.cpu_us,
            count,
        )

    def _backlog(self, case: Case) -> rig.Load:
        load, write = self._backlogs[case.backlog]
        if case.backlog not in self._written:
            write(self._servers.kafka.address, load)
            self._written.add(case.backlog)
        return load

    def _config(self, case: Case, load: rig.Load, name: str, delivery: Mapping[str, int]) -> Path:
        self._servers.s3.create_bucket(name)
        asyncio.run(rig.create_topic(self._servers.kafka.address, f"{name}-receipts", 1))
        if case.destinations is None:
            destinations = [{"id": "archive", "bucket": name}]
        else:
            destinations = [
                {
                    "id": f"archive-{number}",
                    "pipeline": load.pipeline(number).decode(),
                    "bucket": name,
                    "prefix": f"{number}/",
                }
                for number in range(case.destinations)
            ]
        return rig.worker_config(
            self._servers, self._folder, name, load.topic, destinations, **delivery
        )


def rows(peaks: Sequence[Peak]) -> list[list[str]]:
    """Return the table, the heading first."""
    head = ["case", "events", "start", "idle", "added at most", "events/s", "CPU µs", "receipts"]
    return [
        head,
        *(
            [
                peak.case,
                f"{peak.events:,}",
                f"{peak.start_seconds:.1f} s",
                f"{peak.idle_mib:.0f} MiB",
                f"{peak.added_mib:.0f} MiB",
                f"{peak.rate:,.0f}",
                f"{peak.cpu_us:.1f}",
                f"{peak.objects:,}",
            ]
            for peak in peaks
        ),
    ]


@click.command()
@click.option("--outage", "outage_seconds", type=float, default=OUTAGE_SECONDS, show_default=True)
@click.option("--only", help="Cases whose name contains this.", default="")
@click.option("--memory-max-mib", type=int)
def main(outage_seconds: float, only: str, memory_max_mib: int | None) -> None:
    """Measure all cases and print a Markdown table."""
    delivery = {} if memory_max_mib is None else {"memory_max_mib": memory_max_mib}
    peaks = []
    with rig.servers() as servers, tempfile.TemporaryDirectory() as folder:
        bench = Bench(servers, Path(folder))
        for case in CASES:
            if only in case.name:
                peaks.append(bench.measure(case, outage_seconds, **delivery))
                click.echo(peaks[-1], err=True)
    click.echo(rig.as_markdown(rows(peaks)))


if __name__ == "__main__":
    main()
