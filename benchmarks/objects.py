# ruff: noqa: INP001 - a program, no package
"""What an object costs: CPU of a worker with many quiet destinations, and objects a second.

    5,000 destinations, 20 events of one minute each ──> 5,000 objects and receipts, then the commit

Everything that a worker does for an object is in the figure: its events, the closing, the PUT, the
receipt, the commit, log and counters. One event of each partition is delivered before, since the
first use of an S3 client costs a fifth of a second, and the worker is stopped while the backlog is
written.

Beside it, what the PUT alone costs, many at a time in this process:

    aiobotocore    `put_object` of its client, with the same options
    worker         `Storage.put`
    aiohttp        a PUT with three headers and no signature, which the server refuses or takes
"""

import asyncio
import base64
import hashlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from os import kill
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final, NamedTuple

import aiohttp
import click
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig
from stream_app.config.settings import S3, Destination
from stream_app.s3.storage import Storage

DESTINATIONS: Final = 5_000
EVENTS_EACH: Final = 20
TURNS: Final = 3
SECONDS_MAX: Final = 300.0
SESSION_SECONDS: Final = 60
"""A stopped worker must stay a member while the backlog is written."""
DISTINCT: Final = 5_000
PUTS: Final = 3_000
PUTS_AT_ONCE: Final = 32
PUT_BYTES: Final = 3_000
"""As large as 20 events of 1 KB become."""
CPU_US_WANTED: Final = 500.0
RATE_WANTED: Final = 900.0
CPU_US_BEFORE: Final = 1_620.0
RATE_BEFORE: Final = 370.0
"""Figures before the PUT of a small object had a way of its own."""


class Cost(NamedTuple):
    """What one turn has used."""

    objects: int
    cpu_us: float
    """Microseconds of the worker's CPU, an object."""
    rate: float
    """Objects a second, with the servers on the same machine."""
    broker_us: float
    s3_us: float
    rss_added_mib: float


def measure(servers: rig.Servers, folder: Path, destinations: int, turn: int = 0) -> Cost:
    """Let a worker deliver one minute to so many destinations, each of its own pipeline."""
    name = f"objects-{destinations}-{turn}"
    address = servers.kafka.address
    load = rig.Load(f"{name}-events", destinations * EVENTS_EACH, pipelines=destinations, minutes=1)
    first = load._replace(events=load.partitions)
    asyncio.run(rig.create_topic(address, load.topic, load.partitions))
    asyncio.run(rig.create_topic(address, f"{name}-receipts", 1))
    servers.s3.create_bucket(name)
    values = rig.events(DISTINCT)
    asyncio.run(rig.write(address, first, values, minutes_before=1))
    with rig.worker(servers, _config(servers, folder, name, load)) as worker:
        worker.wait_for(rig.TAKEN_OVER, load.partitions, SECONDS_MAX)
        asyncio.run(_delivered(address, name, first, 0))
        kill(worker.pid, signal.SIGSTOP)
        try:
            asyncio.run(rig.write(address, load, values))
            pids = (worker.pid, servers.kafka.pid, servers.s3.pid)
            before = [rig.Usage.of(pid) for pid in pids]
        finally:
            kill(worker.pid, signal.SIGCONT)
        objects = asyncio.run(_delivered(address, name, load, first.events)) - first.events
        after = [rig.Usage.of(pid) for pid in pids]
    own, broker, s3 = (
        rig.Measured.between(ready, done, objects)
        for ready, done in zip(before, after, strict=True)
    )
    return Cost(objects, own.cpu_us, own.rate, broker.cpu_us, s3.cpu_us, own.rss_added_mib)


def _config(servers: rig.Servers, folder: Path, name: str, load: rig.Load) -> Path:
    entries = [
        {
            "id": f"archive-{number}",
            "bucket": name,
            "prefix": f"{number}/",
            "pipeline": load.pipeline(number).decode(),
        }
        for number in range(load.pipelines)
    ]
    config = rig.worker_config(servers, folder, name, load.topic, entries)
    text = config.read_text("utf-8")
    session = f"[kafka]\nsession_timeout_seconds = {SESSION_SECONDS}"
    config.write_text(text.replace("[kafka]", session, 1), "utf-8")
    return config


async def _delivered(address: str, group: str, load: rig.Load, before: int) -> int:
    """Return the number of receipts once all events have one and the group has committed."""
    wanted = before + load.events
    found = await rig.receipts(address, f"{group}-receipts", wanted, SECONDS_MAX)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    tps = [TopicPartition(load.topic, it) for it in range(load.partitions)]
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while await _committed(admin, group, tps) < wanted:  # noqa: ASYNC110 - no callback exists
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    return len(found)


async def _committed(admin: AIOKafkaAdminClient, group: str, tps: Sequence[TopicPartition]) -> int:
    commits = await admin.list_consumer_group_offsets(group, partitions=tps)
    return sum(it.offset for it in commits.values())


async def put_costs(servers: rig.Servers, bucket: str, count: int) -> Mapping[str, float]:
    """Return microseconds of CPU for the PUT of an object, by the way that it takes."""
    os.environ.update(servers.s3.environment)
    servers.s3.create_bucket(bucket)
    content = random.Random(1).randbytes(PUT_BYTES)  # noqa: S311 - seeded is the point
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    url = servers.s3.endpoint_url
    destination = Destination("archive", bucket)
    options = {"ContentType": "application/gzip", "IfNoneMatch": "*", "ChecksumSHA256": digest}
    async with Storage(S3(endpoint_url=url)) as storage, aiohttp.ClientSession() as session:
        clients = storage.clients
        access = clients.access(destination)
        with await clients._opened(access) as client:  # noqa: SLF001 - aiobotocore alone

            async def by_aiobotocore(number: int) -> None:
                metadata = {"lines": "20", "uncompressed-size": "20000"}
                await client.put_object(
                    Bucket=bucket, Key=f"a{number}", Body=content, Metadata=metadata, **options
                )

            async def by_storage(number: int) -> None:
                await storage.put(
                    destination, f"b{number}", content, lines=20, size=20_000, sha256=digest
                )

            async def by_aiohttp(number: int) -> None:
                async with session.put(f"{url}/{bucket}/c{number}", data=content) as response:
                    await response.read()

            ways = {"aiobotocore": by_aiobotocore, "worker": by_storage, "aiohttp": by_aiohttp}
            return {name: await _cost(put, count) for name, put in ways.items()}


async def _cost(put: Callable[[int], Awaitable[None]], count: int) -> float:
    await put(-1)
    numbers = iter(range(count))

    async def put_some() -> None:
        for number in numbers:
            await put(number)

    begun = process_time()
    await asyncio.gather(*(put_some() for _ in range(PUTS_AT_ONCE)))
    return (process_time() - begun) * 1e6 / count


def rows(costs: Sequence[Cost]) -> list[list[str]]:
    """Return the table of a worker, the heading first."""
    cpu, rate = ([getattr(it, name) for it in costs] for name in ("cpu_us", "rate"))
    return [
        ["an object with its events, receipt and commit", "before", "wanted", "measured", ""],
        [
            "CPU of the worker",
            f"{CPU_US_BEFORE:,.0f} µs",
            f"at most {CPU_US_WANTED:.0f} µs",
            f"{median(cpu):,.0f} µs ({min(cpu):,.0f}..{max(cpu):,.0f})",
            "reached" if median(cpu) <= CPU_US_WANTED else "missed",
        ],
        [
            "objects a second",
            f"{RATE_BEFORE:,.0f}",
            f"at least {RATE_WANTED:.0f}",
            f"{median(rate):,.0f} ({min(rate):,.0f}..{max(rate):,.0f})",
            "reached" if median(rate) >= RATE_WANTED else "missed",
        ],
        ["CPU of the broker", "", "", f"{median(it.broker_us for it in costs):,.0f} µs", ""],
        ["CPU of the S3 server", "", "", f"{median(it.s3_us for it in costs):,.0f} µs", ""],
    ]


def put_rows(costs: Mapping[str, float]) -> list[list[str]]:
    """Return the table of the PUT alone, the heading first."""
    return [["the PUT alone", "µs"], *([name, f"{it:,.0f}"] for name, it in costs.items())]


def text(servers: rig.Servers, folder: Path, destinations: int, count: int) -> str:
    """Measure all and return both tables."""
    note = f"{destinations:,} destinations, {EVENTS_EACH} events of 1 KB each; {count} turns."
    worker = rig.as_markdown(rows(turns(servers, folder, destinations, count)))
    puts = asyncio.run(put_costs(servers, "objects-puts", min(PUTS, destinations)))
    return "\n\n".join([note, worker, rig.as_markdown(put_rows(puts))])


def turns(servers: rig.Servers, folder: Path, destinations: int, count: int) -> list[Cost]:
    """Measure so many times."""
    return [measure(servers, folder, destinations, turn) for turn in range(count)]


@click.command()
@click.option("--destinations", type=click.IntRange(1), default=DESTINATIONS, show_default=True)
@click.option("--turns", "count", type=click.IntRange(1), default=TURNS, show_default=True)
def main(destinations: int, count: int) -> None:
    """Measure what an object costs."""
    with rig.servers() as servers, tempfile.TemporaryDirectory() as folder:
        click.echo(text(servers, Path(folder), destinations, count))


if __name__ == "__main__":
    main()
