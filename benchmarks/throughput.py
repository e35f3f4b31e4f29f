# ruff: noqa: INP001, S603 - a program, no package; the commands are ours
"""Events a second, CPU and memory, in one run: this project, two floors, and Faust as it comes.

    getmany   aiokafka's `getmany` alone: what receiving and decoding costs
    naive     getmany, the payload, gzip by isal, one put for each pipeline and minute; no guarantee
    this      one worker, end to end, every guarantee on: until every event has its receipt
    stock     the same job as Faust's documentation would have it, on fewer events (see `stock`)

Each side is a process of its own that reads the same backlog. The sides take turns, so what changes
on the machine meets all of them; a ratio is the median of those of each turn. Broker and S3 server
share the machine, so their use is reported as well: on two cores it bounds the rate.
"""

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig

EVENTS: Final = 1_000_000
TURNS: Final = 3
STOCK_EVENTS_MAX: Final = 40_000
STOCK_EVENTS_A_WINDOW: Final = 10
START_SECONDS_MAX: Final = 60.0
SECONDS_MAX: Final = 900.0
PROFILE_RATE: Final = 200
"""Samples a second."""
TITLE: Final = re.compile(r"(?<=>)[^<>]*py-spy record[^<>]*(?=<)")
"""A flame graph's: the command line, with places of the machine."""
WHOLE, BODY, ENGINE = "`$event`", "`$event.body`", "filter and map"
EXPRESSIONS: Final = {
    WHOLE: "$event",
    BODY: "$event.body",
    ENGINE: "$event.body.items.filter(it => it.quantity > 1)"
    ".map(it => ({ sku: it.sku, cost: it.quantity * it.price }))",
}


class Case(NamedTuple):
    """What is measured: one side, with one payload."""

    payload: str
    side: str


GETMANY: Final = Case("none", "getmany")
CASES: Final = (
    GETMANY,
    *(Case(payload, side) for payload in (WHOLE, BODY) for side in ("naive", "this", "stock")),
    Case(ENGINE, "this"),
)


class Cost(NamedTuple):
    """What a side has used; CPU in microseconds an event."""

    rate: float
    """Events a second."""
    cpu_us: float
    cores: float
    """How many of the machine's it kept busy."""
    rss_added_mib: float
    """Memory at the most, beyond what it had when it was ready."""
    broker_us: float
    s3_us: float


Turn = Mapping[Case, Cost]


class Bench(NamedTuple):
    """Where a side runs."""

    servers: rig.Servers
    folder: Path
    """For logs and configurations."""
    load: rig.Load
    stock_load: rig.Load

    def cost(self, program: rig.Program, load: rig.Load, finish: Callable[[], object]) -> Cost:
        """Return what the program, which is ready, uses until it has finished."""
        pids = (program.pid, self.servers.kafka.pid, self.servers.s3.pid)
        before = [rig.Usage.of(pid) for pid in pids]
        finish()
        after = [rig.Usage.of(pid) for pid in pids]
        own, broker, s3 = (
            rig.Measured.between(ready, done, load.events)
            for ready, done in zip(before, after, strict=True)
        )
        cores = own.cpu_seconds / own.seconds
        return Cost(own.rate, own.cpu_us, cores, own.rss_added_mib, broker.cpu_us, s3.cpu_us)


def measure(bench: Bench, case: Case, name: str) -> Cost:
    """Let one side do its work once; bucket, topics and logs are called after `name`."""
    if case.side == "this":
        with ready_worker(bench, case.payload, name) as (worker, finish):
            return bench.cost(worker, bench.load, finish)
    return _measure_other(bench, case, name)


@contextmanager
def ready_worker(
    bench: Bench, payload: str, name: str
) -> Iterator[tuple[rig.Program, Callable[[], object]]]:
    """Start a worker and give it out when it has its partitions, with what waits for its end."""
    servers, load = bench.servers, bench.load
    servers.s3.create_bucket(name)
    destinations = [
        {
            "id": f"archive-{number:02d}",
            "pipeline": load.pipeline(number).decode(),
            "bucket": name,
            "prefix": f"{number:02d}/",
            "payload": EXPRESSIONS[payload],
        }
        for number in range(load.pipelines)
    ]
    config = rig.worker_config(servers, bench.folder, name, load.topic, destinations)
    address, receipts = servers.kafka.address, f"{name}-receipts"
    asyncio.run(rig.create_topic(address, receipts, 1))
    with rig.worker(servers, config) as worker:
        worker.wait_for(rig.TAKEN_OVER, load.partitions, START_SECONDS_MAX)
        yield (
            worker,
            lambda: asyncio.run(rig.receipts(address, receipts, load.events, SECONDS_MAX)),
        )


def _measure_other(bench: Bench, case: Case, name: str) -> Cost:
    servers, is_stock = bench.servers, case.side == "stock"
    servers.s3.create_bucket(name)
    load = bench.stock_load if is_stock else bench.load
    program = ["stock.py"] if is_stock else ["floors.py", case.side]
    command = [
        *(sys.executable, f"benchmarks/{program[0]}", *program[1:]),
        *("--broker", servers.kafka.address, "--topic", load.topic, "--events", str(load.events)),
        *("--endpoint-url", servers.s3.endpoint_url, "--bucket", name),
        *(() if is_stock else ("--partitions", str(load.partitions))),
        *(("--body",) if case.payload == BODY else ()),
    ]
    with rig.Program(command, servers.s3.environment, bench.folder / f"{name}.log") as side:
        side.wait_for("^ready", 1, START_SECONDS_MAX)
        # Stock is not charged for its many small objects; that they hold all events is looked at.
        last = "^taken" if is_stock else "^done"
        cost = bench.cost(side, load, lambda: side.wait_for(last, 1, SECONDS_MAX))
        (done,) = side.wait_for("^done", 1, SECONDS_MAX)
    if done != f"done: {load.events} lines\n":
        raise click.ClickException(f"{name}: {load.events} events, but {done}")
    return cost


def turns(servers: rig.Servers, folder: Path, events: int, count: int) -> list[Turn]:
    """Fill the topics, and measure every side so many times."""
    bench = filled(servers, folder, events)
    return [
        {case: measure(bench, case, f"turn-{turn}-{number}") for number, case in enumerate(CASES)}
        for turn in range(count)
    ]


def filled(servers: rig.Servers, folder: Path, events: int, name: str = "throughput") -> Bench:
    """Write the backlogs into topics called after `name`, which must be new."""
    load = rig.Load(name, events)
    stock_events = min(events, STOCK_EVENTS_MAX)
    minutes = max(1, stock_events // (load.pipelines * STOCK_EVENTS_A_WINDOW))
    stock_load = rig.Load(f"{name}-stock", stock_events, partitions=1, minutes=minutes)
    for it in (load, stock_load):
        asyncio.run(rig.fill(servers.kafka.address, it))
    return Bench(servers, folder, load, stock_load)


class Target(NamedTuple):
    """A ratio of two sides in one turn, and what it is to be."""

    name: str
    wanted: float
    at_most: bool
    ratio: Callable[[Turn], float]

    def row(self, measured: Sequence[Turn]) -> list[str]:
        """Return its row."""
        ratios = [self.ratio(turn) for turn in measured]
        middle = median(ratios)
        is_reached = middle <= self.wanted if self.at_most else middle >= self.wanted
        return [
            self.name,
            f"{'at most' if self.at_most else 'at least'} {self.wanted:g}",
            f"{middle:.2f} ({min(ratios):.2f}..{max(ratios):.2f})",
            "reached" if is_reached else "missed",
        ]


def _cpu(payload: str, wanted: float) -> Target:
    mine, other = Case(payload, "this"), Case(payload, "naive")
    name = f"CPU of naive, {payload}"
    return Target(name, wanted, True, lambda turn: turn[mine].cpu_us / turn[other].cpu_us)  # noqa: FBT003


def _rate(payload: str, side: str, wanted: float) -> Target:
    mine = Case(payload, "this")
    other = GETMANY if side == GETMANY.side else Case(payload, side)
    name = f"rate of {side}, {payload}"
    return Target(name, wanted, False, lambda turn: turn[mine].rate / turn[other].rate)  # noqa: FBT003


TARGETS: Final = (
    _cpu(BODY, 1.0),
    _cpu(WHOLE, 1.15),
    *(
        _rate(payload, side, wanted)
        for side, wanted in (("naive", 0.9), ("getmany", 0.45), ("stock", 20))
        for payload in (WHOLE, BODY)
    ),
)


def cost_rows(measured: Sequence[Turn]) -> list[list[str]]:
    """Return the table of all sides, the heading first."""
    heads = ("events/s", "CPU µs an event", "cores", "memory added", "broker µs", "S3 µs")
    rows = [["payload", "side", *heads]]
    for case in CASES:
        costs = [turn[case] for turn in measured]
        middle = Cost(*map(median, zip(*costs, strict=True)))
        rows.append(
            [
                *case,
                f"{middle.rate:,.0f}",
                f"{middle.cpu_us:.2f}",
                f"{middle.cores:.2f}",
                f"{max(it.rss_added_mib for it in costs):.0f} MiB",
                f"{middle.broker_us:.2f}",
                f"{middle.s3_us:.2f}",
            ]
        )
    return rows


def target_rows(measured: Sequence[Turn]) -> list[list[str]]:
    """Return the table of ratios, the heading first."""
    head = ["this, as a part or a multiple of", "wanted", "measured", ""]
    return [head, *(target.row(measured) for target in TARGETS)]


def text(measured: Sequence[Turn], events: int) -> str:
    """Return both tables as the documents have them."""
    note = (
        f"{events:,} events ({min(events, STOCK_EVENTS_MAX):,} for stock); the median of "
        f"{len(measured)} turns (memory: the most), ratios with their range."
    )
    tables = (rig.as_markdown(cost_rows(measured), 2), rig.as_markdown(target_rows(measured), 2))
    return "\n\n".join([note, *tables])


def profile(servers: rig.Servers, folder: Path, events: int, file: Path) -> Cost:
    """Record where a worker that delivers `$event.body` spends its time, as a flame graph.

    The recorder takes CPU of its own and holds the worker up at each sample.

    Raises:
        click.ClickException: `py-spy` wrote none, or one that names places of this machine.
    """
    bench = filled(servers, folder, events)
    recorder = [
        *(str(Path(sys.executable).with_name("py-spy")), "record", "--format", "flamegraph"),
        *(
            "--rate",
            str(PROFILE_RATE),
            "--output",
            str(file.absolute()),
            "--threads",
            "--nonblocking",
        ),
    ]
    with ExitStack() as stack:
        worker, finish = stack.enter_context(ready_worker(bench, BODY, "profile"))
        process = subprocess.Popen([*recorder, "--pid", str(worker.pid)])

        def finish_both() -> None:
            finish()
            process.send_signal(signal.SIGINT)
            process.wait(START_SECONDS_MAX)

        cost = bench.cost(worker, bench.load, finish_both)
    clean(file)
    return cost


def clean(file: Path) -> None:
    """Take the machine's own folders out of a flame graph.

    Raises:
        click.ClickException: There is none, or it would still name such a folder.
    """
    if not file.exists():
        raise click.ClickException(f"{file}: py-spy wrote no flame graph; its words are above")
    graph = file.read_text("utf-8")
    for folder in sorted({str(rig.ROOT), sys.prefix, sys.base_prefix}, key=len, reverse=True):
        graph = graph.replace(f"{folder}/", "")
    graph = TITLE.sub("py-spy record of a worker that delivers $event.body", graph)
    if f"{rig.ROOT}/" in graph or f"{Path.home()}/" in graph:
        raise click.ClickException(f"{file}: it names folders of this machine; look at its titles")
    file.write_text(graph, "utf-8")


@click.command()
@click.option("--events", type=click.IntRange(100), default=EVENTS, show_default=True)
@click.option("--turns", "count", type=click.IntRange(1), default=TURNS, show_default=True)
@click.option("--profile", "file", type=click.Path(path_type=Path), help="Only draw this graph.")
def main(events: int, count: int, file: Path | None) -> None:
    """Measure all sides, or record the worker as a flame graph."""
    with rig.servers() as servers, tempfile.TemporaryDirectory() as folder:
        if file is not None:
            cost = profile(servers, Path(folder), events, file)
            click.echo(f"{file}: {cost.rate:,.0f} events/s while it was recorded")
        else:
            click.echo(text(turns(servers, Path(folder), events, count), events))


if __name__ == "__main__":
    main()
