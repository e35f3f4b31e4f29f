# ruff: noqa: INP001 - a program, no package
"""How fresh objects are: from the end of a minute until its receipts can be read.

Events come live, 5,000 a second, to 100 destinations with a pipeline each, and one worker delivers
them. First every partition has traffic all the time: a window closes when a record of the next
minute arrives. Then half of the partitions fall silent in the middle of each minute, and nothing
but the clock can close their windows, `grace_seconds` after the end.

A receipt is published when its object is visible; that it is, is asked of S3 for a sample. Two
times are noted: the receipt's own, of the same machine's clock, and when a consumer had read it.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import orjson
from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import live, pictures, rig

RATE: Final = 5_000
RATE_HELD_MIN: Final = 0.99
PARTITIONS: Final = 4
SILENT: Final = 2
"""Of the partitions, in the second part."""
SILENT_SECOND: Final = 30
DESTINATIONS: Final = 100
GRACE_SECONDS: Final = 2
MINUTES: Final = (4, 2)
"""Of each part."""
SAMPLE: Final = 10
"""The object of every tenth receipt is looked at."""
LATE_SECONDS_MAX: Final = 60
"""How long after the last minute its receipts are waited for."""
NAME: Final = "freshness"
WANTED: Final = ((50, 3.0), (99, 5.0))
"""So many percent are to be younger than so many seconds."""
PICTURE: Final = rig.ROOT / "docs" / "images" / "freshness.svg"
ALL: Final = 100
SHARES: Final = (50, 90, 99, ALL)
BIN_SECONDS: Final = 0.05
BUSY: Final = "traffic in every partition"
BUSY_BESIDE: Final = "traffic until the end of the minute, while others are silent"
SILENT_ONES: Final = f"silent from second {SILENT_SECOND} on, so closed by the clock"
COLOURS: Final = {BUSY: "tab:blue", BUSY_BESIDE: "tab:green", SILENT_ONES: "tab:orange"}
"""In the picture, by kind of traffic."""
WANTED_COLOUR: Final = "tab:red"


class Plan(NamedTuple):
    """The minutes that are measured; times are seconds since 1970."""

    begin: int
    silent_begin: int
    end: int

    @classmethod
    def after(cls, now: float, minutes: Sequence[int]) -> "Plan":
        """Begin with the next minute."""
        begin = (int(now) // rig.MINUTE + 1) * rig.MINUTE
        middle = begin + minutes[0] * rig.MINUTE
        return cls(begin, middle, middle + minutes[1] * rig.MINUTE)

    def kind(self, start: int, partition: int) -> str:
        """Return the kind of a window."""
        if start < self.silent_begin:
            return BUSY
        return SILENT_ONES if partition >= PARTITIONS - SILENT else BUSY_BESIDE


class Seen(NamedTuple):
    """A receipt; times are seconds after the end of its window."""

    kind: str
    start: int
    """Of its window, seconds since 1970."""
    destination: str
    events: int
    published: float
    read: float


class Result(NamedTuple):
    """What a run has shown."""

    seen: Sequence[Seen]
    worker: rig.Measured
    objects_looked_at: int


class Watcher:
    """Notes receipts of the measured minutes as they come, and looks at some of their objects."""

    def __init__(self, servers: rig.Servers, plan: Plan) -> None:
        self.seen: list[Seen] = []
        self.objects_looked_at = 0
        self._servers = servers
        self._plan = plan
        self._client: Any = None
        self._looks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Return when every destination has had its receipt for each minute."""
        wanted = DESTINATIONS * (self._plan.end - self._plan.begin) // rig.MINUTE
        async with AsyncExitStack() as stack:
            client = get_session().create_client(
                "s3",
                region_name="us-east-1",
                endpoint_url=self._servers.s3.endpoint_url,
                aws_access_key_id=self._servers.s3.access_key,
                aws_secret_access_key=self._servers.s3.secret_key,
            )
            self._client = await stack.enter_async_context(client)
            consumer = AIOKafkaConsumer(
                f"{NAME}-receipts",
                bootstrap_servers=self._servers.kafka.address,
                auto_offset_reset="earliest",
            )
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            while len(self.seen) < wanted:
                found = await consumer.getmany(timeout_ms=1000)
                now = time.time()
                for record in (it for records in found.values() for it in records):
                    self._note(orjson.loads(record.value), record.timestamp / 1000, now)
                if now > self._plan.end + LATE_SECONDS_MAX:
                    raise RuntimeError(f"{len(self.seen)} of {wanted} receipts came in time")
            await asyncio.gather(*self._looks)

    def _note(self, value: dict[str, Any], published: float, now: float) -> None:
        start, end = (
            int(datetime.fromisoformat(value["window"][it]).timestamp()) for it in ("start", "end")
        )
        if not self._plan.begin <= start < self._plan.end:
            return
        if value["status"] != "delivered":
            raise RuntimeError(f"a receipt has the status {value['status']}: {value}")
        kind = self._plan.kind(start, value["source"]["partition"])
        events = value["counts"]["delivered"]
        self.seen.append(
            Seen(kind, start, value["destination"], events, published - end, now - end)
        )
        if len(self.seen) % SAMPLE == 0:
            self._looks.append(asyncio.create_task(self._look(value["object"])))

    async def _look(self, described: dict[str, Any]) -> None:
        """Find the object as its receipt describes it."""
        found = await self._client.head_object(Bucket=described["bucket"], Key=described["key"])
        if found["ContentLength"] != described["size"]:
            raise RuntimeError(f"{described['key']} has {found['ContentLength']} bytes")
        self.objects_looked_at += 1


def measure(servers: rig.Servers, folder: Path, minutes: Sequence[int] = MINUTES) -> Result:
    """Run live traffic through one worker; `folder` is an empty one.

    Raises:
        RuntimeError: The rate was not held, or a window had another than its one object.
    """
    address = servers.kafka.address
    for topic, partitions in ((f"{NAME}-events", PARTITIONS), (f"{NAME}-receipts", 1)):
        asyncio.run(rig.create_topic(address, topic, partitions))
    servers.s3.create_bucket(NAME)
    keys = [live.pipeline(it).decode() for it in range(DESTINATIONS)]
    destinations = [
        {"id": f"archive-{key}", "pipeline": key, "bucket": NAME, "prefix": f"{key}/"}
        for key in keys
    ]
    config = rig.worker_config(
        servers,
        folder,
        NAME,
        f"{NAME}-events",
        destinations,
        window_seconds=rig.MINUTE,
        grace_seconds=GRACE_SECONDS,
    )
    with rig.worker(servers, config) as worker:
        worker.wait_for(rig.TAKEN_OVER, PARTITIONS, LATE_SECONDS_MAX)
        plan = Plan.after(time.time(), minutes)
        options = {
            "broker": address,
            "topic": f"{NAME}-events",
            "rate": RATE,
            "partitions": PARTITIONS,
            "pipelines": DESTINATIONS,
            "silent": SILENT,
            "silent-from": plan.silent_begin + SILENT_SECOND,
        }
        command = [sys.executable, "benchmarks/live.py"]
        command += [f"--{name}={value}" for name, value in options.items()]
        with rig.Program(command, {}, folder / "live.log") as sender:
            sender.wait_for(live.READY, 1, LATE_SECONDS_MAX)
            before = worker.usage()
            watcher = Watcher(servers, plan)
            asyncio.run(watcher.run())
            events = sum(it.events for it in watcher.seen)
            used = rig.Measured.between(before, worker.usage(), events)
    _verify(watcher.seen, plan)
    return Result(watcher.seen, used, watcher.objects_looked_at)


def _verify(seen: Sequence[Seen], plan: Plan) -> None:
    windows = {(it.start, it.destination) for it in seen}
    if len(windows) != len(seen):
        raise RuntimeError(f"{len(seen)} receipts for {len(windows)} windows and destinations")
    for start in range(plan.begin, plan.end, rig.MINUTE):
        events = sum(it.events for it in seen if it.start == start)
        if events < RATE_HELD_MIN * RATE * rig.MINUTE:
            raise RuntimeError(f"{events / rig.MINUTE:,.0f} events/s came in a minute, not {RATE}")


def at_share(values: Sequence[float], share: int) -> float:
    """Return the value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def rows(result: Result) -> list[list[str]]:
    """Return the rows of the table, the heading first; a row for each kind of traffic."""
    names = [f"p{it}" if it < ALL else "max" for it in SHARES]
    table = [["traffic", "receipts", *names, "p99 of publishing"]]
    for kind in COLOURS:
        mine = [it for it in result.seen if it.kind == kind]
        if mine:
            read = [at_share([it.read for it in mine], share) for share in SHARES]
            published = at_share([it.published for it in mine], 99)
            table.append([kind, f"{len(mine)}", *(f"{it:.2f} s" for it in (*read, published))])
    return table


def note(result: Result) -> str:
    """Return a line on the conditions of the rows."""
    events = sum(it.events for it in result.seen)
    minutes = len({it.start for it in result.seen})
    share = result.worker.cpu_seconds / result.worker.seconds
    return (
        f"{events / minutes / rig.MINUTE:,.0f} events/s of 1 KB to {DESTINATIONS} destinations "
        f"over {PARTITIONS} partitions for {minutes} min, grace_seconds = {GRACE_SECONDS}; from "
        f"the end of the minute until the receipt was read. {result.objects_looked_at} objects "
        f"were looked at as their receipts came: all were there. The worker used {share:.0%} of a "
        f"core and {result.worker.rss_max_mib:.0f} MiB."
    )


def draw(result: Result, file: Path) -> None:
    """Draw how many receipts had come after how long, for each kind of traffic."""
    last = max(*(it.read for it in result.seen), *(seconds for _, seconds in WANTED)) + 0.25
    bins = [it * BIN_SECONDS for it in range(int(last / BIN_SECONDS) + 2)]
    with pictures.picture(file) as counts:
        shares = counts.twinx()
        for kind, colour in COLOURS.items():
            ages = [it.read for it in result.seen if it.kind == kind]
            if ages:
                counts.hist(ages, bins, histtype="stepfilled", alpha=0.5, color=colour, label=kind)
                come = range(ALL + 1)
                shares.plot([at_share(ages, it) for it in come], come, color=colour)
        counts.set_xlabel("seconds from the end of the minute until the receipt was read")
        counts.set_ylabel(f"receipts in {BIN_SECONDS * 1000:.0f} ms (areas)")
        counts.set_xlim(0, last)
        shares.set_ylim(0)
        shares.set_ylabel("share of receipts that had come (curves)")
        shares.yaxis.set_major_formatter(lambda share, _: f"{share:.0f}%")
        for share, seconds in WANTED:
            shares.plot(seconds, share, ">", color=WANTED_COLOUR, clip_on=False)
            text = f"wanted: {share} % within {seconds:.0f} s "
            where = (seconds, share)
            shares.annotate(text, where, color=WANTED_COLOUR, ha="right", va="top")
        pictures.legend(counts)


@click.command()
@click.option("--minutes", type=click.IntRange(1), default=MINUTES[0], show_default=True)
@click.option(
    "--silent-minutes",
    type=click.IntRange(0),
    default=MINUTES[1],
    show_default=True,
    help="More, in which half of the partitions fall silent.",
)
@click.option("--picture", type=click.Path(path_type=Path), default=PICTURE, help="An SVG file.")
def main(minutes: int, silent_minutes: int, picture: Path) -> None:
    """Measure how fresh objects are under live traffic, and draw it."""
    with tempfile.TemporaryDirectory() as folder, rig.servers() as servers:
        result = measure(servers, Path(folder), (minutes, silent_minutes))
    draw(result, picture)
    click.echo(f"{rig.as_markdown(rows(result))}\n\n{note(result)}")


if __name__ == "__main__":
    main()
