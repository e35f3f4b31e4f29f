"""A backlog gives the objects that live traffic would have given, and the lag shrinks on the way.

What is expected is computed here from the rule of docs/guarantees.md alone: a record belongs to
the minute of its own time, or to that of the newest record before it where it is late.
"""

import gzip
import json
import random
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.clocked_worker import set_clock
from tests.chaos.harness import (
    LONG_SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    Lab,
    in_a_loop,
    wait_until,
)
from tests.chaos.injector import launch_clocked
from tests.chaos.load import ACKNOWLEDGED_SECONDS_MAX
from tests.chaos.oracle import Target
from tests.integration.worker.test_monitoring import address_of, scraped, total

MINUTE: Final = 60
MINUTES: Final = 20
PARTITIONS: Final = 2
PIPELINES: Final = ("orders", "carts", "users", "payments")
"""The n-th is of partition n modulo 2."""
TARGETS: Final = (
    Target("everything", "everything/"),
    *(Target(it, f"{it}/", pipeline=it) for it in PIPELINES),
)
EVENTS_A_MINUTE: Final = (0, 1, 40, 150, 700)
PADDING_BYTES: Final = 3_000
"""Enough that a fetch, of 1 MiB, ends within minutes, and that some minutes take several."""
LATE: Final = 0.1
"""Of the events are late, by up to three minutes."""
BATCH_EVENTS_MAX: Final = 60
SEED: Final = 7
GROUP_OFFSETS: Final = "__consumer_offsets"
OFFSET_KEY_VERSION_MAX: Final = 1
LIVE_WINDOW_SECONDS: Final = 300
"""By the workers' clocks, which a test sets: no window ends because the machine is slow."""
LIVE_WINDOWS: Final = 4
SILENT: Final = (2, 0)
"""In this live window this partition has no event, so the clock closes the one before it."""


@dataclass(frozen=True)
class Event:
    """One to send; its offset is its index among those of its partition."""

    partition: int
    pipeline: str
    at_ms: int
    id: str

    def value(self) -> bytes:
        padding = random.Random(self.id).randbytes(PADDING_BYTES // 2).hex()
        return json.dumps({"id": self.id, "padding": padding}).encode()


Objects = dict[tuple[int, int, str], tuple[int, int, list[str]]]
"""By partition, begin of the window and destination: first and end offset, ids of the lines."""


def backlog() -> list[Event]:
    """Twenty minutes that are over, in the order in which they were sent."""
    chance = random.Random(SEED)
    begin = int(time.time()) // MINUTE * MINUTE - (MINUTES + 1) * MINUTE
    events = []
    for minute in range(MINUTES):
        for partition in range(PARTITIONS):
            count = chance.choice(EVENTS_A_MINUTE)
            for number in range(count):
                at = begin + minute * MINUTE + number * MINUTE / count
                if chance.random() < LATE:
                    at -= chance.uniform(0, 3 * MINUTE)
                pipeline = chance.choice(PIPELINES[partition::PARTITIONS])
                events.append(Event(partition, pipeline, int(at * 1000), f"{len(events)}"))
    return events


def live_events(window: int, turn: int, at: int) -> list[Event]:
    """An event of each pipeline, but none for a partition that is silent in this window."""
    return [
        Event(number % PARTITIONS, it, at * 1000, f"{window}-{it}-{turn}")
        for number, it in enumerate(PIPELINES)
        if (window, number % PARTITIONS) != SILENT
    ]


def by_the_rule(events: Iterable[Event], window_seconds: int) -> Objects:
    newest: defaultdict[int, int] = defaultdict(int)
    offsets: defaultdict[int, int] = defaultdict(int)
    runs: dict[tuple[int, int], list[int]] = {}
    ids: defaultdict[tuple[int, int, str], list[str]] = defaultdict(list)
    for event in events:
        partition, offset = event.partition, offsets[event.partition]
        offsets[partition] += 1
        newest[partition] = max(newest[partition], event.at_ms // 1000)
        start = newest[partition] // window_seconds * window_seconds
        runs.setdefault((partition, start), []).append(offset)
        for destination in ("everything", event.pipeline):
            ids[partition, start, destination].append(event.id)
    return {
        (partition, start, destination): (run[0], run[-1] + 1, lines)
        for (partition, start, destination), lines in ids.items()
        for run in (runs[partition, start],)
    }


async def objects(lab: Lab) -> Objects:
    """Contents of receipts and objects, in pairs: each has one of the other."""
    stored = {it.key: it for it in lab.objects()}
    found: Objects = {}
    for receipt in await lab.read_receipts():
        value, source = receipt.value, receipt.value["source"]
        start = int(datetime.fromisoformat(value["window"]["start"]).timestamp())
        lines = gzip.decompress(stored.pop(value["object"]["key"]).body).splitlines()
        key = (source["partition"], start, value["destination"])
        assert key not in found, f"two objects of {key}"
        ids = [json.loads(line)["id"] for line in lines]
        found[key] = (source["first_offset"], source["end_offset"], ids)
    assert not stored
    return found


@dataclass
class Sender:
    """Sends to each partition in order, in batches of any size."""

    producer: AIOKafkaProducer
    topic: str
    chance: random.Random
    sent: list[Event] = field(default_factory=list)

    async def send(self, events: Sequence[Event]) -> None:
        """Send, and return when the broker has all of them."""
        answers = []
        for partition in range(PARTITIONS):
            waiting = [it for it in events if it.partition == partition]
            while waiting:
                batch = self.producer.create_batch()
                size = self.chance.randint(1, BATCH_EVENTS_MAX)
                for it in waiting[:size]:
                    key = it.pipeline.encode()
                    assert batch.append(key=key, value=it.value(), timestamp=it.at_ms) is not None
                waiting = waiting[size:]
                answers.append(
                    await self.producer.send_batch(batch, self.topic, partition=partition)
                )
        for answer in answers:
            await answer
        self.sent += events


async def commits_in_order(lab: Lab) -> dict[int, list[int]]:
    """Every offset that the group has ever committed, by partition, from the broker's own log."""
    consumer = AIOKafkaConsumer(
        GROUP_OFFSETS, bootstrap_servers=lab.broker, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        commits: dict[int, list[int]] = {it: [] for it in range(PARTITIONS)}
        for tp, end in (await consumer.end_offsets(consumer.assignment())).items():
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=200)).get(tp, []):
                    version, key = struct.unpack_from(">h", record.key)[0], record.key[2:]
                    if version > OFFSET_KEY_VERSION_MAX or record.value is None:
                        continue  # what the broker keeps of the members of a group
                    (group, topic), rest = _texts(key, 2)
                    if (group, topic) == (lab.name, lab.events_topic):
                        partition = struct.unpack(">i", rest)[0]
                        commits[partition].append(struct.unpack_from(">q", record.value, 2)[0])
        return commits
    finally:
        await consumer.stop()


def _texts(data: bytes, count: int) -> tuple[list[str], bytes]:
    """Split so many of Kafka's strings off, each behind its length."""
    texts = []
    for _ in range(count):
        end = 2 + struct.unpack_from(">h", data)[0]
        texts.append(data[2:end].decode())
        data = data[end:]
    return texts, data


@asynccontextmanager
async def lab_and_sender(
    kafka: KafkaServer, s3: S3Server, folder: Path, window_seconds: int
) -> AsyncIterator[tuple[Lab, Sender]]:
    async with Lab(
        kafka.address,
        s3,
        folder,
        partitions=PARTITIONS,
        window_seconds=window_seconds,
        targets=TARGETS,
        session_seconds=LONG_SESSION_SECONDS,
    ) as lab:
        producer = AIOKafkaProducer(
            bootstrap_servers=lab.broker,
            enable_idempotence=True,
            request_timeout_ms=ACKNOWLEDGED_SECONDS_MAX * 1000,
            max_batch_size=2 * BATCH_EVENTS_MAX * PADDING_BYTES,
        )
        await producer.start()
        try:
            yield lab, Sender(producer, lab.events_topic, random.Random(SEED))
        finally:
            await producer.stop()


@in_a_loop
async def test_backlog_gives_one_object_for_each_minute_partition_and_destination(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_and_sender(kafka, s3, tmp_path, MINUTE) as (lab, sender):
        await sender.send(backlog())
        await lab.start_worker()
        await lab.settled()
        assert await objects(lab) == by_the_rule(sender.sent, MINUTE)


@in_a_loop
async def test_lag_of_a_backlog_shrinks_by_whole_windows_to_nothing(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_and_sender(kafka, s3, tmp_path, MINUTE) as (lab, sender):
        await sender.send(backlog())
        await lab.start_worker()
        await lab.settled()
        expected = by_the_rule(sender.sent, MINUTE)
        for partition, offsets in (await commits_in_order(lab)).items():
            ends = {end for (it, *_), (_, end, _) in expected.items() if it == partition}
            assert offsets == sorted(offsets)
            assert offsets[-1] == max(ends)
            # 0 is committed with the closings of the first windows, before these are delivered. How
            # many steps follow is a matter of time: what is settled together is committed together.
            assert set(offsets) <= ends | {0}
            assert offsets[0] == 0


@in_a_loop
async def test_backlog_gives_the_objects_that_live_traffic_has_given(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    length = LIVE_WINDOW_SECONDS
    async with (
        lab_and_sender(kafka, s3, tmp_path, length) as (live, live_sender),
        lab_and_sender(kafka, s3, tmp_path, length) as (later, later_sender),
    ):
        begin = (int(time.time()) // length + 1) * length
        worker, clock = launch_clocked(live)
        address = await address_of(worker)

        async def are_read() -> bool:
            return total(await scraped(address), "events_total") == len(live_sender.sent)

        async def is_closed_by_the_clock() -> bool:
            sources = [it.value["source"] for it in await live.read_receipts()]
            ends = [it["end_offset"] for it in sources if it["partition"] == SILENT[1]]
            return max(ends, default=0) == sum(it.partition == SILENT[1] for it in live_sender.sent)

        for number in range(LIVE_WINDOWS):
            start = begin + number * length
            set_clock(clock, 0.0, stands_at=start)
            for turn, late_seconds in enumerate((0, length, 0)):
                await live_sender.send(live_events(number, turn, start - late_seconds))
                await wait_until(are_read, SETTLED_SECONDS_MAX, "the events are read")
            if number == SILENT[0]:
                set_clock(clock, 0.0, stands_at=start + length / 2)
                await wait_until(is_closed_by_the_clock, SETTLED_SECONDS_MAX, "a window is closed")
        end = begin + (LIVE_WINDOWS + 1) * length
        set_clock(clock, 0.0, stands_at=end)
        await live.settled()
        await later_sender.send(live_sender.sent)
        worker, clock = launch_clocked(later)
        set_clock(clock, end - time.time())
        await later.settled()
        assert await objects(live) == await objects(later) == by_the_rule(live_sender.sent, length)
