# ruff: noqa: INP001, S310 - a program, no package; the URL is that of our own worker
"""What destinations cost that get no event: 100 active ones alone, and 100 of 100,000.

    start     until the worker's partitions are taken over; memory by then
    an event  CPU of a backlog for the 100 that are active, end to end
    at rest   CPU of a second without events, while the files are looked at
    a reload  CPU from the moment that one destination's prefix changes, at rest, until it is logged
    a scrape  CPU, and bytes of the page

The configuration is a folder of 100 files, as of 100 teams. The two take turns, and figures are the
median of the turns: what changes on the machine meets both.
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple
from urllib.request import urlopen

import click
import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig

ACTIVE: Final = 100
CONFIGURED: Final = (ACTIVE, 100_000)
FILES: Final = 100
EVENTS: Final = 1_000_000
TURNS: Final = 3
REST_SECONDS: Final = 10.0
SCRAPES: Final = 5
SECONDS_MAX: Final = 300.0
PAYLOAD: Final = "$event.body.user.id % {} === -1 ? undefined : $event.body"
"""An expression of its own for each destination that gets no event."""
ADDRESS: Final = re.compile(r"metrics and health: (http://\S+)")


class Cost(NamedTuple):
    """What a worker has used in one turn."""

    start_seconds: float
    start_cpu_seconds: float
    idle_mib: float
    cpu_us: float
    """An event."""
    rest_ms: float
    reload_ms: float
    scrape_ms: float
    scrape_bytes: int


def entry(number: int, bucket: str, load: rig.Load, *, moved: bool = False) -> str:
    """Return a destination as TOML; one that has moved has another prefix."""
    values = {
        "id": f"archive-{number}",
        "pipeline": load.pipeline(number).decode(),
        "bucket": bucket,
        "prefix": f"{'moved/' if moved else ''}{number}/",
        "payload": "$event.body" if number < ACTIVE else PAYLOAD.format(number),
    }
    lines = [f"{key} = {orjson.dumps(value).decode()}" for key, value in values.items()]
    return "\n".join(["[[destinations]]", *lines, "", ""])


def write_team(folder: Path, team: int, text: str) -> None:
    """Write the file of a team in one step."""
    unfinished = folder / f".{team}"
    unfinished.write_text(text, "utf-8")
    unfinished.rename(folder / f"team-{team:02d}.toml")


def team_of(team: int, configured: int, bucket: str, load: rig.Load, *, moved: bool = False) -> str:
    """Return the file of a team; its last destination has moved, or none has."""
    numbers = range(team, configured, FILES)
    return "".join(entry(it, bucket, load, moved=moved and it == numbers[-1]) for it in numbers)


def measure(servers: rig.Servers, folder: Path, load: rig.Load, configured: int, name: str) -> Cost:
    """Let a worker with so many destinations deliver the backlog, rest, reload and be scraped."""
    address = servers.kafka.address
    asyncio.run(rig.create_topic(address, f"{name}-receipts", 1))
    servers.s3.create_bucket(name)
    (teams := folder / f"{name}-teams").mkdir()
    for team in range(FILES):
        write_team(teams, team, team_of(team, configured, name, load))
    config = rig.worker_config(servers, folder, name, load.topic, [])
    config.write_text(f'destinations_dir = "{teams.name}"\n{config.read_text("utf-8")}', "utf-8")
    began = time.monotonic()
    with rig.worker(servers, config) as worker:
        worker.wait_for(rig.TAKEN_OVER, load.partitions, SECONDS_MAX)
        (ready,) = worker.wait_for("ready: ", 1, SECONDS_MAX)
        started = worker.usage()
        asyncio.run(rig.receipts(address, f"{name}-receipts", load.events, SECONDS_MAX))
        worked = worker.usage()
        found = ADDRESS.search(ready)
        assert found is not None  # noqa: S101 - the worker serves metrics
        size = _scrape(found[1])  # Not counted: the first one imports its packages.
        resting = worker.usage()
        time.sleep(REST_SECONDS)
        rested = worker.usage()
        write_team(teams, FILES - 1, team_of(FILES - 1, configured, name, load, moved=True))
        worker.wait_for(r"from the next windows on", 1, SECONDS_MAX)
        reloaded = worker.usage()
        for _ in range(SCRAPES):
            size = _scrape(found[1])
        scraped = worker.usage()
    measured = rig.Measured.between(started, worked, load.events)
    rest = (rested.cpu_seconds - resting.cpu_seconds) / (rested.at - resting.at)
    reload_seconds = reloaded.cpu_seconds - rested.cpu_seconds - rest * (reloaded.at - rested.at)
    return Cost(
        started.at - began,
        started.cpu_seconds,
        started.rss_mib,
        measured.cpu_us,
        rest * 1000,
        reload_seconds * 1000,
        (scraped.cpu_seconds - reloaded.cpu_seconds) * 1000 / SCRAPES,
        size,
    )


def _scrape(url: str) -> int:
    """Read the page of metrics; return its bytes."""
    with urlopen(f"{url}/metrics", timeout=SECONDS_MAX) as response:
        return len(response.read())


def rows(
    servers: rig.Servers, folder: Path, events: int = EVENTS, turns: int = TURNS
) -> list[list[str]]:
    """Measure all and return the rows of the table, the heading first."""
    load = rig.Load("destinations-events", events, pipelines=ACTIVE)
    asyncio.run(rig.fill(servers.kafka.address, load))
    measured: dict[int, list[Cost]] = {it: [] for it in CONFIGURED}
    for turn in range(turns):
        for configured, costs in measured.items():
            name = f"destinations-{configured}-{turn}"
            costs.append(measure(servers, folder, load, configured, name))
    head = ["configured", "active", "start", "of CPU", "idle", "CPU an event", "beside"]
    head += ["at rest, a second", "a reload", "a scrape", "page"]
    first = measured[CONFIGURED[0]]
    return [head, *(_row(configured, costs, first) for configured, costs in measured.items())]


def _row(configured: int, costs: Sequence[Cost], first: Sequence[Cost]) -> list[str]:
    typical = Cost(*(median(values) for values in zip(*costs, strict=True)))  # type: ignore[arg-type] # a median of bytes
    ratios = [it.cpu_us / other.cpu_us for it, other in zip(costs, first, strict=True)]
    return [
        f"{configured:,}",
        f"{ACTIVE}",
        f"{typical.start_seconds:.1f} s",
        f"{typical.start_cpu_seconds:.1f} s",
        f"{typical.idle_mib:.0f} MiB",
        f"{typical.cpu_us:.2f} µs",
        f"{median(ratios) - 1:+.0%}",
        f"{typical.rest_ms:.0f} ms",
        f"{typical.reload_ms:.0f} ms",
        f"{typical.scrape_ms:.0f} ms",
        f"{typical.scrape_bytes / 1024:.0f} KiB",
    ]


@click.command()
@click.option("--events", type=click.IntRange(1), default=EVENTS, show_default=True)
@click.option("--turns", type=click.IntRange(1), default=TURNS, show_default=True)
def main(events: int, turns: int) -> None:
    """Measure what destinations cost that get no event."""
    with tempfile.TemporaryDirectory() as folder, rig.servers() as servers:
        table = rows(servers, Path(folder), events, turns)
    click.echo(rig.as_markdown(table))


if __name__ == "__main__":
    main()
