# ruff: noqa: INP001 - a program, no package
"""Responses of the Inspector with an hour of receipts, while 2,000 events a second flow.

    inspector.py [--rounds 200] [--rate 2000]

The receipts topic gets an hour of 100 destinations over 50 pipelines in 8 partitions: one receipt
for each minute, destination and partition, of which some list failed events, and the last minutes
of some destinations are late or given up. The events topic gets live traffic. A client then
requests what pages request, one after the other and in turn, so that each response is measured
under the same load.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import click
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig
from stream_app.core.object_key import identifier, object_key
from stream_app.core.receipt import Problem, Receipt, Source, Status, Stored, Tally
from stream_app.embedded.process import HOST
from stream_app.embedded.servers import free_ports

EVENTS: Final = "inspector-events"
GROUP: Final = "inspector"
RECEIPTS: Final = "inspector-receipts"
DESTINATIONS: Final = 100
PIPELINES: Final = 50
PARTITIONS: Final = 8
MINUTES: Final = 60
WINDOW_EVENTS: Final = 300
"""Events of a window: 2,000 a second, over partitions and pipelines."""
FAILING_EACH: Final = 10
"""One destination in so many fails a hundredth of its events; of these, one is late."""
READY_SECONDS_MAX: Final = 120.0
SLOW_DOWN: Final = Problem("SlowDown", "Reduce your request rate", retryable=True)
RATE: Final = 2_000
ROUNDS: Final = 200
PAUSE_SECONDS: Final = 0.1


class Result(NamedTuple):
    """Milliseconds of each response, by name, and what the Inspector held and used."""

    held: int
    """Receipts in memory."""
    milliseconds: dict[str, list[float]]
    before: rig.Usage
    after: rig.Usage


def receipts(now: int) -> list[Receipt]:
    """Return an hour of receipts, the oldest first."""
    first_minute = now // rig.MINUTE * rig.MINUTE - MINUTES * rig.MINUTE
    return [
        _receipt(first_minute + minute * rig.MINUTE, minute, partition, number)
        for minute in range(MINUTES)
        for partition in range(PARTITIONS)
        for number in range(DESTINATIONS)
    ]


def _receipt(start: int, minute: int, partition: int, number: int) -> Receipt:
    first = minute * WINDOW_EVENTS * PIPELINES // PARTITIONS
    end = first + WINDOW_EVENTS * PIPELINES // PARTITIONS
    closed_at = start + rig.MINUTE + 2
    name = f"destination-{number:03}"
    is_failing = number % FAILING_EACH == 0
    is_late = number % (FAILING_EACH * FAILING_EACH) == 0 and minute >= MINUTES - 5
    tally = Tally(matched=WINDOW_EVENTS)
    if is_failing:
        tally.failed = [
            (it, f"{EVENTS}/{partition}@{it}", f"TypeError: no plan of {it}, at line 3, column 9")
            for it in range(first, end, WINDOW_EVENTS)
        ]
    stored = Stored(81_200, '"e"', "v1", "c2hhMjU2", already_existed=False, stored_at=closed_at + 1)
    return Receipt(
        status=Status.RETRYING if is_late else Status.DELIVERED,
        group=GROUP,
        destination=name,
        pipeline=f"pipeline-{number % PIPELINES:03}",
        window_start=start,
        window_end=start + rig.MINUTE,
        source=Source(EVENTS, partition, first, end, closed_at),
        tally=tally,
        bucket="my-bucket",
        key=object_key(
            f"{name}/", closed_at, identifier(EVENTS, partition, first, closed_at, name)
        ),
        size_uncompressed=409_600,
        closed_at=closed_at,
        attempts=1,
        stored=None if is_late else stored,
        problem=Problem("SlowDown", "Reduce your request rate", retryable=True)
        if is_late
        else None,
    )


async def fill(address: str) -> None:
    """Publish the receipts."""
    producer = AIOKafkaProducer(bootstrap_servers=address, acks=1, linger_ms=5)
    await producer.start()
    try:
        for it in receipts(int(time.time())):
            message = it.message(it.closed_at + 2)
            await producer.send(
                RECEIPTS,
                message.value,
                key=message.key,
                headers=list(message.headers),
                timestamp_ms=(it.closed_at + 2) * 1000,
            )
    finally:
        await producer.stop()


def config(servers: rig.Servers, folder: Path) -> Path:
    """Write the configuration; return its path."""
    kafka = (
        f'[kafka]\nbroker = "kafka://{servers.kafka.address}"\ngroup = "{GROUP}"\n'
        f'events_topic = "{EVENTS}"\nreceipts_topic = "{RECEIPTS}"\n'
    )
    destinations = [
        f'[[destinations]]\nid = "destination-{it:03}"\nbucket = "my-bucket"\n'
        f'prefix = "destination-{it:03}/"\npipeline = "pipeline-{it % PIPELINES:03}"\n'
        for it in range(DESTINATIONS)
    ]
    path = folder / "stream_app.toml"
    path.write_text("\n".join([kafka, *destinations]), "utf-8")
    return path


def requests() -> Mapping[str, str]:
    """Return what pages request, by name."""
    return {
        "health strip": "/api/health",
        "list of destinations": "/api/destinations",
        "a destination": "/api/destinations/destination-000",
        "errors by text": "/api/errors?outcome=failed",
        "newest 100 events": "/api/events?limit=100",
        "100 failed events of a destination": (
            "/api/events?limit=100&outcome=failed&destination=destination-010"
        ),
        "an event": "/api/events/{event}",
    }


async def measure(address: str, rounds: int, inspector: rig.Program) -> Result:
    """Request in turn what pages request."""
    measured: dict[str, list[float]] = {name: [] for name in requests()}
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> Any:  # noqa: ANN401 - JSON
            async with session.get(address + path) as response:
                response.raise_for_status()
                return await response.json()

        held = await _until_loaded(get)
        before = inspector.usage()
        # A page follows the events meanwhile.
        async with session.get(f"{address}/api/live") as page:
            following = asyncio.create_task(_read(page))
            for _ in range(rounds):
                newest = (await get("/api/events?limit=1"))["rows"][0]
                for name, path in requests().items():
                    event = f"{newest['partition']}/{newest['offset']}"
                    began = time.perf_counter()
                    await get(path.format(event=event))
                    measured[name].append(1000 * (time.perf_counter() - began))
                await asyncio.sleep(PAUSE_SECONDS)
            following.cancel()
    return Result(held, measured, before, inspector.usage())


async def _until_loaded(get: Callable[[str], Awaitable[Any]]) -> int:
    """Wait until the Inspector serves and has the receipts; return how many it holds."""
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            try:
                receipts = (await get("/api/about"))["receipts"]
                if receipts["loaded"]:
                    return int(receipts["held"])
            except aiohttp.ClientConnectionError:
                pass  # It does not listen yet.
            await asyncio.sleep(PAUSE_SECONDS)


async def _read(page: aiohttp.ClientResponse) -> None:
    async for _ in page.content.iter_any():
        pass


def rows(result: Result) -> list[list[str]]:
    """Return the table: median and 95th percentile of each response."""
    head = ["response", "median", "p95"]
    return [head] + [
        [
            name,
            f"{statistics.median(values):.0f} ms",
            f"{statistics.quantiles(values, n=20, method='inclusive')[-1]:.0f} ms",
        ]
        for name, values in result.milliseconds.items()
    ]


def note(result: Result) -> str:
    """Return what was measured, and what the Inspector used."""
    before, after = result.before, result.after
    cores = (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at)
    rounds = len(next(iter(result.milliseconds.values())))
    total = DESTINATIONS * PARTITIONS * MINUTES
    return (
        f"{total:,} receipts, of which memory holds {result.held:,}: an hour of {DESTINATIONS} "
        f"destinations over {PIPELINES} pipelines in {PARTITIONS} partitions, a tenth with failed "
        f"events; {RATE:,} events a second meanwhile, a page that follows them, and {rounds} "
        f"rounds of these requests. The Inspector used {cores:.2f} cores and "
        f"{after.rss_max_mib:.0f} MiB at the most."
    )


def run(servers: rig.Servers, folder: Path, rounds: int, rate: int) -> Result:
    """Start traffic and an Inspector, and measure its responses."""
    address = servers.kafka.address
    for topic in (EVENTS, RECEIPTS):
        asyncio.run(rig.create_topic(address, topic, PARTITIONS))
    asyncio.run(fill(address))
    traffic = [
        *(sys.executable, "benchmarks/live.py", "--broker", address, "--topic", EVENTS),
        *("--rate", str(rate), "--partitions", str(PARTITIONS), "--pipelines", str(PIPELINES)),
    ]
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "stream_app", "inspector", "--port", str(port)]
    command += ["--config", str(config(servers, folder))]
    with (
        rig.Program(traffic, {}, folder / "traffic.log") as sender,
        rig.Program(command, servers.s3.environment, folder / "inspector.log") as inspector,
    ):
        sender.wait_for("^ready$", 1, READY_SECONDS_MAX)
        return asyncio.run(measure(f"http://{HOST}:{port}", rounds, inspector))


@click.command()
@click.option("--rounds", type=int, default=ROUNDS, show_default=True)
@click.option("--rate", type=int, default=RATE, show_default=True, help="Events a second.")
def main(rounds: int, rate: int) -> None:
    """Print the table of responses."""
    with rig.servers() as servers, tempfile.TemporaryDirectory() as folder:
        result = run(servers, Path(folder), rounds, rate)
    print(f"{rig.as_markdown(rows(result))}\n\n{note(result)}")  # noqa: T201


if __name__ == "__main__":
    main()
