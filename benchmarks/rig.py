# ruff: noqa: INP001, S311 - programs, no package; seeded randomness is the point
"""What the benchmarks share: real servers, events that are known, and one process that is measured.

A side of a comparison is a program of its own. It logs on standard error when it is ready and its
work is known beforehand, so that what it used in between, from `/proc`, is what the work cost: the
CPU of all its threads, and its memory at the most. What Python needs to start is not in it.
"""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream_app.embedded.servers import KafkaServer, S3Server

ROOT: Final = Path(__file__).parents[1]
MINUTE: Final = 60
BATCH_BYTES: Final = 64 * 1024
"""How producers send: record batches of this size, not compressed."""
REQUEST_BYTES_MAX: Final = 1024 * 1024
"""As aiokafka has it."""
LINES_KEPT: Final = 40
STOP_SECONDS_MAX: Final = 15
TICK: Final = os.sysconf("SC_CLK_TCK")
AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Safari/605.1.15",
    "okhttp/4.12.0",
)
PATHS: Final = ("/orders", "/orders/confirm", "/carts/items", "/users/login", "/payments")


class Servers(NamedTuple):
    """A broker and an S3 server."""

    kafka: KafkaServer
    s3: S3Server


@contextmanager
def servers() -> Iterator[Servers]:
    """Start both, and stop them at the end."""
    with KafkaServer() as kafka, S3Server() as s3:
        yield Servers(kafka, s3)


def events(count: int, seed: int = 7) -> list[bytes]:
    """Return so many different HTTP events of 1,024 bytes; `body` is half of each."""
    chance = random.Random(seed)
    return [_event(chance, number) for number in range(count)]


def _event(chance: random.Random, number: int) -> bytes:
    items = [
        {"sku": f"cup-{chance.randrange(100_000):05d}", "quantity": quantity, "price": price / 100}
        for quantity, price in ((chance.randrange(1, 5), chance.randrange(9_999)) for _ in range(6))
    ]
    body = {
        "id": number,
        "user": {
            "id": chance.randrange(10**6),
            "email": f"{chance.randbytes(6).hex()}@example.com",
        },
        "items": items,
        "note": "",
    }
    body["note"] = chance.randbytes(256).hex()[: 512 - len(orjson.dumps(body))]
    event = {
        "method": "POST",
        "path": chance.choice(PATHS),
        "headers": {
            "host": "shop.example.com",
            "user-agent": chance.choice(AGENTS),
            "content-type": "application/json",
            "accept-encoding": "gzip, deflate, br",
            "x-request-id": chance.randbytes(16).hex(),
        },
        "query": {"campaign": "autumn-2026", "page": str(chance.randrange(100))},
        "client_ip": f"203.0.113.{chance.randrange(256)}",
        "body": body,
        "trace": "",
    }
    event["trace"] = chance.randbytes(256).hex()[: 1024 - len(orjson.dumps(event))]
    return orjson.dumps(event)


class Load(NamedTuple):
    """A backlog: so many events, spread over partitions, pipelines and past minutes."""

    topic: str
    events: int
    partitions: int = 4
    pipelines: int = 20
    minutes: int = 5

    def pipeline(self, number: int) -> bytes:
        """Return the key of the events of a pipeline; it is of partition `number % partitions`."""
        return b"pipeline-%02d" % number


async def create_topic(address: str, name: str, partitions: int) -> None:
    """Create a topic that is not there yet."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()


async def fill(
    address: str,
    load: Load,
    values: Sequence[bytes] | None = None,
    *,
    distinct: int = 20_000,
    batch_bytes: int = BATCH_BYTES,
    compression: str | None = None,
) -> None:
    """Create the topic and write the backlog; its last minute is over.

    Args:
        address: Of the broker.
        load: What is written.
        values: From which events are taken; left out, so many `distinct` ones of 1,024 bytes.
        distinct: See above.
        batch_bytes: Size of a record batch before it is compressed.
        compression: The producer's, as aiokafka calls it.
    """
    await create_topic(address, load.topic, load.partitions)
    if values is None:
        values = events(min(distinct, load.events))
    await write(address, load, values, batch_bytes=batch_bytes, compression=compression)


async def write(
    address: str,
    load: Load,
    values: Sequence[bytes],
    *,
    minutes_before: int = 0,
    batch_bytes: int = BATCH_BYTES,
    compression: str | None = None,
) -> None:
    """Write a backlog into its topic, so many minutes before the last one that is over."""
    begin = (int(time.time()) // MINUTE - load.minutes - 1 - minutes_before) * MINUTE
    producer = AIOKafkaProducer(
        bootstrap_servers=address,
        max_batch_size=batch_bytes,
        max_request_size=max(REQUEST_BYTES_MAX, batch_bytes),
        compression_type=compression,
        acks=1,
    )
    await producer.start()
    try:
        await asyncio.gather(
            *(
                _fill_one(producer, load, partition=it, values=values, begin=begin)
                for it in range(load.partitions)
            )
        )
        await producer.flush()
    finally:
        await producer.stop()


async def _fill_one(
    producer: AIOKafkaProducer,
    load: Load,
    *,
    partition: int,
    values: Sequence[bytes],
    begin: int,
) -> None:
    keys = [load.pipeline(it) for it in range(partition, load.pipelines, load.partitions)]
    count = len(range(partition, load.events, load.partitions))
    batch, sent = producer.create_batch(), None
    for number in range(count):
        at = (begin * 1000) + number * load.minutes * MINUTE * 1000 // count
        record = {
            "key": keys[number % len(keys)],
            "value": values[(number * 13 + partition) % len(values)],
            "timestamp": at,
        }
        if batch.append(**record) is None:
            if sent is not None:
                await sent
            sent = await producer.send_batch(batch, load.topic, partition=partition)
            batch = producer.create_batch()
            batch.append(**record)
    await (await producer.send_batch(batch, load.topic, partition=partition))


class Usage(NamedTuple):
    """What a process has used so far."""

    at: float
    cpu_seconds: float
    rss_mib: float
    """Now."""
    rss_max_mib: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Look at a process, with all of its threads."""
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
        memory = dict(re.findall(r"^(Vm\w+):\s+(\d+) kB$", status, re.MULTILINE))
        return cls(
            time.monotonic(),
            (int(fields[11]) + int(fields[12])) / TICK,
            int(memory["VmRSS"]) / 1024,
            int(memory["VmHWM"]) / 1024,
        )


class Program:
    """A process that is measured from outside; a context manager that ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._log = log
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            cwd=ROOT,
            # What is waited for is texts; where it is no terminal a worker would write JSON.
            env={**os.environ, "STREAM_APP_LOG_FORMAT": "text", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_for(self, pattern: str, times: int, seconds_max: float) -> list[str]:
        """Return the lines of standard error that match, when there are so many.

        Raises:
            RuntimeError: There are not, in time, or the program has ended.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + seconds_max
        with self._changed:
            while len(found := [line for line in self._lines if wanted.search(line)]) < times:
                left = deadline - time.monotonic()
                if left <= 0 or self._process.poll() is not None:
                    tail = "".join(self._lines[-LINES_KEPT:])
                    raise RuntimeError(f"no {times} lines {pattern!r} in {self._log}:\n{tail}")
                self._changed.wait(min(left, 1.0))
        return found

    def usage(self) -> Usage:
        """Look at what it has used so far."""
        return Usage.of(self.pid)

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        with self._log.open("a", encoding="utf-8") as log:
            for line in self._process.stderr:
                log.write(line)
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()


class Measured(NamedTuple):
    """What a piece of work has cost."""

    events: int
    seconds: float
    cpu_seconds: float
    rss_idle_mib: float
    rss_max_mib: float

    @classmethod
    def between(cls, ready: Usage, done: Usage, events: int) -> Self:
        """Return the difference of two looks at a process."""
        return cls(
            events,
            done.at - ready.at,
            done.cpu_seconds - ready.cpu_seconds,
            ready.rss_mib,
            done.rss_max_mib,
        )

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU an event."""
        return self.cpu_seconds * 1e6 / self.events

    @property
    def rss_added_mib(self) -> float:
        """Memory at the most, beyond what the idle process has."""
        return self.rss_max_mib - self.rss_idle_mib


def worker_config(
    servers: Servers,
    folder: Path,
    name: str,
    topic: str,
    destinations: Sequence[Mapping[str, str]],
    **delivery: int,
) -> Path:
    """Write a worker's configuration; group and receipts topic are called after `name`."""
    lines = [
        "[kafka]",
        f'broker = "kafka://{servers.kafka.address}"',
        f'group = "{name}"',
        f'events_topic = "{topic}"',
        f'receipts_topic = "{name}-receipts"',
        "[s3]",
        f'endpoint_url = "{servers.s3.endpoint_url}"',
        "[delivery]",
        *(f"{key} = {value}" for key, value in delivery.items()),
    ]
    for destination in destinations:
        lines.append("[[destinations]]")
        lines += [f"{key} = {orjson.dumps(value).decode()}" for key, value in destination.items()]
    file = folder / f"{name}.toml"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def worker(servers: Servers, config: Path) -> Program:
    """Start a worker; it is ready when each partition was `taken over`."""
    return Program(
        [sys.executable, "-m", "stream_app", "worker", "--config", str(config)],
        servers.s3.environment,
        config.with_suffix(".log"),
    )


TAKEN_OVER: Final = r"taken over at offset"
"""The line of a worker for each partition that it begins with."""


def as_markdown(rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return a table, the heading first; all columns but so many are flush right."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    rule = "|" + "---|" * texts + "---:|" * (len(rows[0]) - texts)
    return "\n".join([head, rule, *body])


async def receipts(address: str, topic: str, wanted: int, seconds_max: float) -> list[Any]:
    """Read receipts until they answer for so many events in all; return their values."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    answered = 0
    try:
        async with asyncio.timeout(seconds_max):
            while answered < wanted:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        found.append(orjson.loads(record.value))
                        if found[-1]["status"] in {"delivered", "empty"}:
                            answered += found[-1]["counts"]["matched"]
    except TimeoutError:
        raise RuntimeError(f"{topic}: receipts answer for {answered} of {wanted}") from None
    finally:
        await consumer.stop()
    if answered != wanted:
        raise RuntimeError(f"{topic}: receipts answer for {answered}, beyond {wanted}")
    return found
