# ruff: noqa: INP001 - a program, no package
"""What workers cost when they share the work, and what each object costs: CPU, which is to stay.

    1, 2 and 4 workers over 8 partitions, the same backlog for each: CPU an event, all of them
    together, from the moment that the partitions are dealt out evenly until every receipt is there

    2,000 destinations beside 20, the same events: the difference is what the objects cost

Workers join an empty topic, deliver one event of each partition, since the first use of an S3
client costs a fifth of a second, and are stopped while the backlog is written: none begins early.
A machine with two cores cannot show the throughput of four workers; CPU time it can.
"""

import asyncio
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from os import kill
from pathlib import Path
from typing import Final, NamedTuple

import click
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig

PARTITIONS: Final = 8
WORKERS: Final = (1, 2, 4)
TURNS: Final = 2
"""Of each number of workers; the lower figure counts, since others use the machine too."""
DESTINATIONS: Final = (20, 2_000)
EVENTS: Final = 1_200_000
"""Enough that what a worker does once in its life does not count for much."""
MINUTES: Final = 5
DISTINCT: Final = 5_000
SECONDS_MAX: Final = 300.0
SESSION_SECONDS: Final = 60
"""Stopped workers must stay members while the backlog is written."""


class Cost(NamedTuple):
    """What the workers of one run have used, together."""

    workers: int
    destinations: int
    objects: int
    events: int
    cpu_seconds: float
    seconds: float

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU an event."""
        return self.cpu_seconds * 1e6 / self.events


async def _dealt_out(address: str, group: str, topic: str, workers: int) -> None:
    """Return once each of the workers has its equal share of the partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            wanted = [PARTITIONS // workers] * workers
            while await _shares(admin, group, topic) != wanted:  # noqa: ASYNC110 - no callback exists
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def _shares(admin: AIOKafkaAdminClient, group: str, topic: str) -> list[int]:
    """Return how many partitions each member has; nothing while they are being dealt out."""
    (answer,) = await admin.describe_consumer_groups([group])
    ((_, _, state, _, _, members, *_),) = answer.groups
    if state != "Stable":
        return []
    shares = []
    for *_, assignment in members:
        topics = dict(ConsumerProtocolMemberAssignment.decode(assignment).assignment)
        shares.append(len(topics.get(topic, ())))
    return shares


def _begin() -> int:
    """Return when the backlog begins, in milliseconds; the last of its minutes is over."""
    return (int(time.time()) // rig.MINUTE - MINUTES - 1) * rig.MINUTE * 1000


async def _warm_up(address: str, topic: str) -> None:
    """Write one event into each partition, of a minute before the backlog."""
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(
                topic,
                b"{}",
                key=b"pipeline-%d" % partition,
                partition=partition,
                timestamp_ms=_begin() - rig.MINUTE * 1000,
            )
    finally:
        await producer.stop()


async def _write(address: str, topic: str, pipelines: int) -> None:
    """Write the backlog."""
    values = rig.events(DISTINCT)
    begin, each = _begin(), EVENTS // PARTITIONS
    producer = AIOKafkaProducer(bootstrap_servers=address, max_batch_size=rig.BATCH_BYTES, acks=1)
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            keys = [b"pipeline-%d" % it for it in range(partition, pipelines, PARTITIONS)]
            batch, sent = producer.create_batch(), []
            for number in range(each):
                record = {
                    "key": keys[number % len(keys)],
                    "value": values[(number * 13 + partition) % DISTINCT],
                    "timestamp": begin + number * MINUTES * rig.MINUTE * 1000 // each,
                }
                if batch.append(**record) is None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(**record)
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


def measure(
    servers: rig.Servers, folder: Path, workers: int, destinations: int, turn: int = 0
) -> Cost:
    """Let so many workers deliver the backlog to so many destinations, each of its own pipeline."""
    name = f"scaling-{workers}-{destinations}-{turn}"
    address, events, receipts = servers.kafka.address, f"{name}-events", f"{name}-receipts"
    asyncio.run(rig.create_topic(address, events, PARTITIONS))
    asyncio.run(rig.create_topic(address, receipts, 1))
    servers.s3.create_bucket(name)
    entries = [
        {"id": f"archive-{it}", "bucket": name, "prefix": f"{it}/", "pipeline": f"pipeline-{it}"}
        for it in range(destinations)
    ]
    config = rig.worker_config(servers, folder, name, events, entries)
    text = config.read_text("utf-8")
    session = f"[kafka]\nsession_timeout_seconds = {SESSION_SECONDS}"
    config.write_text(text.replace("[kafka]", session, 1), "utf-8")
    command = [sys.executable, "-m", "stream_app", "worker", "--config", str(config)]
    with ExitStack() as stack:
        programs = [
            stack.enter_context(
                rig.Program(command, servers.s3.environment, folder / f"{name}-{number}.log")
            )
            for number in range(workers)
        ]
        for program in programs:
            program.wait_for("ready: ", 1, SECONDS_MAX)
        asyncio.run(_dealt_out(address, name, events, workers))
        asyncio.run(_warm_up(address, events))
        asyncio.run(rig.receipts(address, receipts, PARTITIONS, SECONDS_MAX))
        for program in programs:
            kill(program.pid, signal.SIGSTOP)
        try:
            asyncio.run(_write(address, events, destinations))
            before = [program.usage() for program in programs]
        finally:
            for program in programs:
                kill(program.pid, signal.SIGCONT)
        found = asyncio.run(rig.receipts(address, receipts, PARTITIONS + EVENTS, SECONDS_MAX))
        after = [program.usage() for program in programs]
        used = [
            rig.Measured.between(ready, done, EVENTS)
            for ready, done in zip(before, after, strict=True)
        ]
    cpu_seconds = sum(it.cpu_seconds for it in used)
    return Cost(
        workers, destinations, len(found) - PARTITIONS, EVENTS, cpu_seconds, used[0].seconds
    )


def rows(servers: rig.Servers, folder: Path) -> list[list[str]]:
    """Measure all and return the rows of the table, the heading first."""
    turns = [
        [measure(servers, folder, workers, DESTINATIONS[0], turn) for workers in WORKERS]
        for turn in range(TURNS)
    ]
    costs = [min(them, key=lambda it: it.cpu_seconds) for them in zip(*turns, strict=True)]
    costs += [measure(servers, folder, 1, it) for it in DESTINATIONS[1:]]
    first = costs[0]
    table = [
        ["workers", "destinations", "objects", "CPU an event", "beside one worker", "an object"]
    ]
    for cost in costs:
        is_same = cost.destinations == first.destinations
        more = cost.objects - first.objects
        table.append(
            [
                f"{cost.workers}",
                f"{cost.destinations:,}",
                f"{cost.objects:,}",
                f"{cost.cpu_us:.2f} µs",
                f"{cost.cpu_us / first.cpu_us - 1:+.0%}" if is_same else "",
                "" if is_same else f"{(cost.cpu_seconds - first.cpu_seconds) * 1e6 / more:,.0f} µs",
            ]
        )
    return table


@click.command()
def main() -> None:
    """Measure what workers cost when they share the work, and what an object costs."""
    with tempfile.TemporaryDirectory() as folder, rig.servers() as servers:
        table = rows(servers, Path(folder))
    click.echo(rig.as_markdown(table))


if __name__ == "__main__":
    main()
