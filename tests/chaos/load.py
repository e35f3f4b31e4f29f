"""Events at a steady rate, each with an id of its own, recorded as the broker acknowledged them.

Most carry the time at which they are sent; some are late, some from the future, some from 1970,
and some carry no time at all. The offset under which the broker acknowledged an event is all that
the oracle believes.
"""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer

BATCHES_PER_SECOND: Final = 20
BURST_BATCHES: Final = 8
BURST_SECONDS: Final = 1.2
"""How long the events of a burst take to come, one batch after the other."""
ACKNOWLEDGED_SECONDS_MAX: Final = 120
"""A broker may be away for so long before an event counts as refused."""
NO_TIME: Final = -1
"""Kafka's own number for a record without a timestamp."""


@dataclass(frozen=True)
class Event:
    id: str
    n: int
    bulk_bytes: int = 0
    """How much of it hardly compresses."""

    def value(self) -> bytes:
        text = "é" * (self.n % 90)
        if self.bulk_bytes:
            drawn = random.Random(self.n).randbytes(self.bulk_bytes)
            text = base64.b64encode(drawn)[: self.bulk_bytes].decode()
        return json.dumps({"id": self.id, "n": self.n, "body": {"text": text}}).encode()


@dataclass(frozen=True)
class Sent:
    partition: int
    offset: int
    pipeline: str
    event: Event


@dataclass
class Load:
    """A producer; its pipelines take turns at random."""

    client_options: Mapping[str, Any]
    topic: str
    pipelines: Sequence[str]
    seed: int
    at_ms: int | None = None
    """All events claim to be of this time, if it is given."""
    sent: list[Sent] = field(default_factory=list)
    _producer: AIOKafkaProducer | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    async def start(self) -> Self:
        # Idempotent: a batch that the producer repeats is in the log once.
        self._producer = AIOKafkaProducer(
            **self.client_options,
            enable_idempotence=True,
            request_timeout_ms=ACKNOWLEDGED_SECONDS_MAX * 1000,
            linger_ms=5,
        )
        await self._producer.start()
        return self

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def send(
        self, count: int, *, pipeline: str | None = None, bulk_bytes: int = 0
    ) -> list[Sent]:
        """Send events and return them once the broker has all of them.

        Args:
            count: How many.
            pipeline: Theirs; each its own if left out.
            bulk_bytes: How much of each is to be hard to compress.
        """
        sending = [await self._one(pipeline, bulk_bytes) for _ in range(count)]
        return list(await asyncio.gather(*sending))

    async def send_raw(
        self, value: bytes | None, *, pipeline: str, timestamp_ms: int | None = None
    ) -> None:
        """Send a record that the oracle knows nothing of; now, if no time is given."""
        await self._running.send_and_wait(
            self.topic, value, key=pipeline.encode(), timestamp_ms=timestamp_ms
        )

    @asynccontextmanager
    async def steady(self, rate: int) -> AsyncIterator[None]:
        """Send `rate` events a second meanwhile; at the end all are acknowledged."""
        waiting: set[asyncio.Task[Sent]] = set()
        failures: list[BaseException] = []
        ended = asyncio.Event()

        def done(task: asyncio.Task[Sent]) -> None:
            waiting.discard(task)
            if (error := task.exception()) is not None:
                failures.append(error)

        async def run() -> None:
            started, sent = time.monotonic(), 0
            while not ended.is_set():
                due = int((time.monotonic() - started) * rate)
                for _ in range(due - sent):
                    task = await self._one(None)
                    waiting.add(task)
                    task.add_done_callback(done)
                sent = due
                await asyncio.sleep(1 / BATCHES_PER_SECOND)

        runner = asyncio.create_task(run())
        try:
            yield
        finally:
            ended.set()
            await runner
            await asyncio.gather(*waiting)
            if failures:
                raise failures[0]

    @asynccontextmanager
    async def bursts(
        self, count: int, *, pipeline: str, bulk_bytes: int, every_seconds: int
    ) -> AsyncIterator[None]:
        """Meanwhile send many bytes at a time, beginning at multiples of `every_seconds`.

        Args:
            count: Events of a burst.
            pipeline: Theirs.
            bulk_bytes: How much of each is to be hard to compress.
            every_seconds: Between the beginnings of two bursts, if the broker takes them so fast.
        """
        ended = asyncio.Event()

        async def run() -> None:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(every_seconds - time.time() % every_seconds):
                        await ended.wait()
                        return
                began = time.monotonic()
                for number in range(1, BURST_BATCHES + 1):
                    await self.send(
                        count // BURST_BATCHES, pipeline=pipeline, bulk_bytes=bulk_bytes
                    )
                    due = began + number * BURST_SECONDS / BURST_BATCHES
                    await asyncio.sleep(due - time.monotonic())

        runner = asyncio.create_task(run())
        try:
            yield
        finally:
            ended.set()
            await runner

    @property
    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("start the load first")
        return self._producer

    async def _one(self, pipeline: str | None, bulk_bytes: int = 0) -> "asyncio.Task[Sent]":
        event = Event(f"{self.seed}-{self._count}", self._count, bulk_bytes)
        self._count += 1
        pipeline = self._chance.choice(self.pipelines) if pipeline is None else pipeline
        acknowledged = await self._running.send(
            self.topic,
            key=pipeline.encode(),
            value=event.value(),
            timestamp_ms=self._timestamp_ms(),
        )

        async def sent() -> Sent:
            where = await acknowledged
            record = Sent(where.partition, where.offset, pipeline, event)
            self.sent.append(record)
            return record

        return asyncio.create_task(sent())

    def _timestamp_ms(self) -> int:
        if self.at_ms is not None:
            return self.at_ms
        now = int(time.time() * 1000)
        drawn = self._chance.random()
        if drawn < 0.05:
            return now - self._chance.randrange(90_000)
        if drawn < 0.07:
            return now + self._chance.randrange(3_000_000)
        if drawn < 0.08:
            return self._chance.randrange(1_000_000)
        return NO_TIME if drawn < 0.09 else now
