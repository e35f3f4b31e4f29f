# ruff: noqa: INP001 - a program, no package
"""How a worker catches up: a backlog of an hour, beside the same events as one of five minutes.

The objects of a backlog are those that live traffic would have given: one for each pipeline and
minute, so an hour has twelve times as many as five minutes, which is the difference between the
two. The lag is the end of the log minus the group's committed offset, over all partitions, as every
tool that watches Kafka shows it; it is looked at once a second.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import pictures, rig

EVENTS: Final = 1_000_000
MINUTES: Final = (5, 60)
SAMPLE_SECONDS: Final = 1.0
SECONDS_MAX: Final = 600.0
PICTURE: Final = rig.ROOT / "docs" / "images" / "catching-up.svg"
NAME: Final = "catching-up"


class Sample(NamedTuple):
    """A look at the lag."""

    seconds: float
    """Since the worker had taken the partitions over."""
    lag: int
    """Events that are in the log, but not committed."""


class CaughtUp(NamedTuple):
    """What a worker has made of a backlog."""

    load: rig.Load
    objects: int
    used: rig.Measured
    samples: Sequence[Sample]

    @property
    def objects_wanted(self) -> int:
        """Return how many objects live traffic would have given."""
        return self.load.minutes * self.load.pipelines


def measure(servers: rig.Servers, folder: Path, load: rig.Load) -> CaughtUp:
    """Write a backlog and let a worker catch up; configuration and log go to `folder`.

    Raises:
        RuntimeError: The objects are not those of live traffic, or the lag has grown.
    """
    name, address = f"{NAME}-{load.minutes}", servers.kafka.address
    asyncio.run(rig.fill(address, load))
    asyncio.run(rig.create_topic(address, f"{name}-receipts", 1))
    servers.s3.create_bucket(name)
    keys = [load.pipeline(it).decode() for it in range(load.pipelines)]
    destinations = [
        {"id": f"archive-{key}", "pipeline": key, "bucket": name, "prefix": f"{key}/"}
        for key in keys
    ]
    config = rig.worker_config(servers, folder, name, load.topic, destinations)
    with rig.worker(servers, config) as worker:
        worker.wait_for(rig.TAKEN_OVER, load.partitions, SECONDS_MAX)
        found, used, samples = asyncio.run(_watch(address, name, load, worker))
    windows = {(it["destination"], it["window"]["start"]) for it in found}
    caught_up = CaughtUp(load, len(found), used, samples)
    if not len(windows) == len(found) == caught_up.objects_wanted:
        raise RuntimeError(
            f"{load.minutes} minutes x {load.pipelines} pipelines gave {len(found)} objects of "
            f"{len(windows)} windows"
        )
    grown = [pair for pair in pairwise(samples) if pair[1].lag > pair[0].lag]
    if grown:
        raise RuntimeError(f"the lag has grown: {grown}")
    return caught_up


async def _watch(
    address: str, name: str, load: rig.Load, worker: rig.Program
) -> tuple[Sequence[Any], rig.Measured, Sequence[Sample]]:
    """Return the receipts, what they have cost, and the lag meanwhile and until it was gone."""
    ready = worker.usage()
    lag = asyncio.create_task(_samples(address, name, load, ready.at))
    try:
        found = await rig.receipts(address, f"{name}-receipts", load.events, SECONDS_MAX)
        done = worker.usage()
        return found, rig.Measured.between(ready, done, load.events), await lag
    finally:
        lag.cancel()


async def _samples(address: str, group: str, load: rig.Load, began: float) -> Sequence[Sample]:
    """Look at the lag once a second until there is none."""
    tps = [TopicPartition(load.topic, it) for it in range(load.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await consumer.start()
    await admin.start()
    try:
        end = sum((await consumer.end_offsets(tps)).values())
        samples: list[Sample] = []
        while not samples or samples[-1].lag:
            committed = await admin.list_consumer_group_offsets(group, partitions=tps)
            offset = sum(max(0, it.offset) for it in committed.values())
            samples.append(Sample(time.monotonic() - began, end - offset))
            await asyncio.sleep(max(0.0, began + len(samples) * SAMPLE_SECONDS - time.monotonic()))
        return samples
    finally:
        await admin.close()
        await consumer.stop()


def rows(results: Sequence[CaughtUp]) -> list[list[str]]:
    """Return the rows of the table, the heading first; a row for each backlog."""
    table = [["backlog", "events", "objects", "events/s", "CPU an event", "memory at the most"]]
    for it in results:
        minutes, events, objects = it.load.minutes, it.load.events, it.objects
        table.append(
            [
                f"{minutes} minutes",
                f"{events:,}",
                f"{objects:,}",
                f"{it.used.rate:,.0f}",
                f"{it.used.cpu_us:.1f} µs",
                f"{it.used.rss_max_mib:.0f} MiB",
            ]
        )
    return table


def note(results: Sequence[CaughtUp]) -> str:
    """Return a line on how the lag has shrunk."""
    sentences = []
    for it in results:
        lags = ", ".join(f"{sample.lag:,}" for sample in it.samples)
        sentences.append(f"Lag over {it.load.minutes} minutes, second by second: {lags}.")
    return "\n".join(sentences)


def draw(results: Sequence[CaughtUp], file: Path) -> None:
    """Draw the lag over time."""
    with pictures.picture(file) as axes:
        for it in results:
            axes.plot(
                [sample.seconds for sample in it.samples],
                [sample.lag for sample in it.samples],
                "o-",
                label=f"{it.load.minutes} minutes in {it.objects:,} objects",
            )
        axes.set_xlabel("seconds since the worker took the partitions over")
        axes.set_ylabel("lag: events not yet committed")
        axes.yaxis.set_major_formatter(lambda lag, _: f"{lag:,.0f}")
        axes.set_xlim(0)
        axes.set_ylim(0)
        pictures.legend(axes)


@click.command()
@click.option("--events", type=click.IntRange(1), default=EVENTS, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), default=PICTURE, help="An SVG file.")
def main(events: int, picture: Path) -> None:
    """Let a worker catch up with a short and with a long backlog, and draw the lag."""
    with tempfile.TemporaryDirectory() as folder, rig.servers() as servers:
        results = [
            measure(servers, Path(folder), rig.Load(f"{NAME}-{it}-events", events, minutes=it))
            for it in MINUTES
        ]
    draw(results, picture)
    click.echo(f"{rig.as_markdown(rows(results))}\n\n{note(results)}")


if __name__ == "__main__":
    main()
