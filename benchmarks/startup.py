# ruff: noqa: INP001, S603 - a program, no package; the commands are ours
"""How long a start takes: `stream-app --help`, and a worker until it consumes.

A worker consumes when it has taken over every partition of the events topic: from then on a record
is collected as it comes. Broker and S3 server run already; the group is new, as at a first start.

Imports are what `python -X importtime` prints, summed over all modules of such a worker.
"""

import asyncio
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import click
from rich.box import MARKDOWN, SIMPLE
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig

PARTITIONS: Final = 4
TURNS: Final = 3
PACKAGES: Final = 6
"""How many of those that cost most to import are listed by name."""
SECONDS_MAX: Final = 180.0
CHARACTERS_A_LINE: Final = 140
HELP_SECONDS_WANTED: Final = 0.3
WORKER_SECONDS_WANTED: Final = 5.0
MOST: Final = 100_000
"""Destinations that a group can have."""
SHARED: Final = "$event.n % 3 === 0 ? undefined : $event"
OWN: Final = "$event.n % 3 === {} ? undefined : $event"
NO_BYTECODE: Final = {"PYTHONDONTWRITEBYTECODE": "1"}
"""With an empty folder for it: as in a container whose image holds no `.pyc` files."""


IMPORT: Final = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)
"""A line of `-X importtime`: the microseconds of a module itself, and its name."""


class Case(NamedTuple):
    """A worker that is started."""

    name: str
    destinations: int
    payload: str
    has_bytecode: bool = True
    seconds_wanted: float = WORKER_SECONDS_WANTED


CASES: Final = (
    Case("worker, 1 destination", 1, SHARED),
    Case("worker, 100 destinations", 100, SHARED),
    Case("worker, 10,000 destinations with one expression", 10_000, SHARED),
    Case("worker, 10,000 destinations with an expression each", 10_000, OWN),
    Case("worker, 100,000 destinations with one expression", MOST, SHARED, seconds_wanted=10.0),
    Case("worker, 100,000 destinations with an expression each", MOST, OWN, seconds_wanted=10.0),
    Case("worker, 1 destination, no `.pyc` files", 1, SHARED, has_bytecode=False),
)


class Start(NamedTuple):
    """One start."""

    seconds: float
    cpu_seconds: float


class Row(NamedTuple):
    """Several starts of the same thing."""

    name: str
    seconds_wanted: float
    starts: Sequence[Start]


class Imports(NamedTuple):
    """What a worker imports, in ms."""

    total: float
    packages: Mapping[str, float]
    """Those that cost most, by name, without what they import of others."""


def start_help() -> Start:
    """Ask the program as it is installed for help."""
    command = [str(Path(sys.executable).with_name("stream-app")), "--help"]
    cpu, wall = _cpu_of_children(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=SECONDS_MAX, check=True)
    return Start(time.perf_counter() - wall, _cpu_of_children() - cpu)


def start_worker(servers: rig.Servers, case: Case, folder: Path, *options: str) -> Start:
    """Start a worker of a new group on new topics until it consumes, and end it.

    Args:
        servers: What it uses.
        case: Its configuration.
        folder: An empty one, for its configuration and its log, `worker.log`.
        options: Python's.
    """
    name = folder.name
    for topic, partitions in ((f"{name}-events", PARTITIONS), (f"{name}-receipts", 1)):
        asyncio.run(rig.create_topic(servers.kafka.address, topic, partitions))
    destinations = [
        {
            "id": f"archive-{number}",
            "pipeline": f"pipeline-{number}",
            "bucket": "archive",
            "prefix": f"pipeline-{number}/",
            "payload": case.payload.format(number),
        }
        for number in range(case.destinations)
    ]
    config = rig.worker_config(servers, folder, name, f"{name}-events", destinations)
    environment = servers.s3.environment
    if not case.has_bytecode:
        environment |= NO_BYTECODE | {"PYTHONPYCACHEPREFIX": str(folder / "empty")}
    command = [sys.executable, *options, "-m", "stream_app", "worker", "--config", str(config)]
    began = time.monotonic()
    with rig.Program(command, environment, folder / "worker.log") as worker:
        worker.wait_for(rig.TAKEN_OVER, PARTITIONS, SECONDS_MAX)
        used = worker.usage()
    return Start(used.at - began, used.cpu_seconds)


def rows(servers: rig.Servers, folder: Path, turns: int = TURNS) -> list[Row]:
    """Return what each start took; `folder` is an empty one.

    The cases take turns, so what changes on the machine meets all of them.
    """
    starts: dict[str, list[Start]] = {case.name: [] for case in CASES}
    for turn in range(turns):
        for number, case in enumerate(CASES):
            (place := folder / f"start-{turn}-{number}").mkdir()
            starts[case.name].append(start_worker(servers, case, place))
    start_help()  # Not counted: it may have to write the .pyc files.
    helped = Row("`stream-app --help`", HELP_SECONDS_WANTED, [start_help() for _ in range(turns)])
    return [helped, *(Row(case.name, case.seconds_wanted, starts[case.name]) for case in CASES)]


def imports(servers: rig.Servers, folder: Path) -> Imports:
    """Return what the imports of a worker take; `folder` is an empty one."""
    (place := folder / "imports").mkdir()
    start_worker(servers, CASES[0], place, "-X", "importtime")
    log = (place / "worker.log").read_text("utf-8")
    spent: Counter[str] = Counter()
    for microseconds, module in IMPORT.findall(log):
        package = module.partition(".")[0]
        name = "Python's own" if package in sys.stdlib_module_names else package
        spent[name] += int(microseconds)
    largest = {name: it / 1000 for name, it in spent.most_common(PACKAGES)}
    return Imports(spent.total() / 1000, largest)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cell(values: Sequence[float]) -> str:
    """Write the median and the range."""
    middle, low, high = (f"{f(values):.2f}" for f in (median, min, max))
    return f"{middle} ({low}..{high})"


def table(measured: Sequence[Row], *, markdown: bool) -> Table:
    """Return the rows as people read them."""
    shown = Table("start", box=MARKDOWN if markdown else SIMPLE)
    for header in ("seconds", "of CPU", "wanted"):
        shown.add_column(header, justify="right")
    for row in measured:
        seconds, cpu = ([it[place] for it in row.starts] for place in (0, 1))
        shown.add_row(row.name, cell(seconds), cell(cpu), f"{row.seconds_wanted:g}")
    return shown


def sentence(it: Imports) -> str:
    """Return a table of the time of imports."""
    shares = ", ".join(f"{name} {spent:.0f}" for name, spent in it.packages.items())
    return f"Imports of a worker (`python -X importtime`): {it.total:.0f} ms; of these {shares}."


@click.command()
@click.option("--turns", type=click.IntRange(1), default=TURNS, show_default=True, help="Of each.")
@click.option("--markdown", is_flag=True, help="Print the table as the documents have it.")
def main(turns: int, *, markdown: bool) -> None:
    """Measure how long a start takes."""
    with rig.servers() as servers, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        servers.s3.create_bucket("archive")
        measured, imported = rows(servers, folder, turns), imports(servers, folder)
    console = Console(width=CHARACTERS_A_LINE, highlight=False)
    console.print(table(measured, markdown=markdown))
    console.print(f"Median (range) of {turns} starts. {sentence(imported)}", soft_wrap=True)


if __name__ == "__main__":
    main()
