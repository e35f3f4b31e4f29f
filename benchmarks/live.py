# ruff: noqa: INP001 - a program, no package
"""Live traffic at a steady rate: events that carry the time at which they are sent.

    live.py --broker 127.0.0.1:9092 --topic events --rate 5000 ...

It runs until SIGTERM, as a process of its own, so that it takes no time from what is measured.
Pipelines take turns. From `--silent-from` on the last `--silent` partitions send during a quarter
of each minute only; meanwhile the others take over their share, so that the rate stays the same.

For each minute it logs on standard error how many events it has sent, how long its longest step
took, and how long the broker took at most to acknowledge a batch.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig

STEP_SECONDS: Final = 0.02
DISTINCT: Final = 5_000
BATCH_BYTES_MAX: Final = 512 * 1024
"""What has fallen due in one step is one batch for each partition, if it is not more than this."""
SILENT_SECONDS: Final = 45
"""Of each minute."""
READY: Final = "^ready$"
"""Line on standard error once it sends."""


class Traffic(NamedTuple):
    """What is sent: so many events a second, over partitions and pipelines."""

    topic: str
    rate: int
    partitions: int
    pipelines: int
    silent: int
    silent_from: int
    """Seconds since 1970."""

    def speaking(self, now: float) -> int:
        """Return how many partitions have traffic now; they are the first ones."""
        past = now - self.silent_from
        is_silent = past >= 0 and past % rig.MINUTE < SILENT_SECONDS
        return self.partitions - (self.silent if is_silent else 0)

    def keys(self, partition: int) -> Iterator[bytes]:
        """Return the pipelines of a partition, over and over."""
        return cycle([pipeline(it) for it in range(partition, self.pipelines, self.partitions)])


def pipeline(number: int) -> bytes:
    """Return the key of the events of a pipeline; it is of partition `number % partitions`."""
    return b"pipeline-%03d" % number


class Sender:
    """Sends what is due, and takes note of how well it keeps pace."""

    def __init__(self, producer: AIOKafkaProducer, traffic: Traffic) -> None:
        self._producer = producer
        self._traffic = traffic
        self._keys = [traffic.keys(it) for it in range(traffic.partitions)]
        self._values = cycle(rig.events(DISTINCT))
        self._sent = 0
        self._step_seconds_max = self._answer_seconds_max = 0.0

    async def run(self, ended: asyncio.Event) -> None:
        """Send at the rate until `ended`."""
        began = before = time.time()
        total = 0
        while not ended.is_set():
            now = time.time()
            self._step_seconds_max = max(self._step_seconds_max, now - before)
            if now // rig.MINUTE > before // rig.MINUTE:
                self._print()
            due = int((now - began) * self._traffic.rate) - total
            speaking = self._traffic.speaking(now)
            for partition in range(speaking):
                share = due // speaking + (partition < due % speaking)
                await self._send(partition, share, now)
            total, before = total + due, now
            await asyncio.sleep(STEP_SECONDS)

    async def _send(self, partition: int, count: int, now: float) -> None:
        batch = self._producer.create_batch()
        for _ in range(count):
            record = {
                "key": next(self._keys[partition]),
                "value": next(self._values),
                "timestamp": int(now * 1000),
            }
            if batch.append(**record) is None:
                await self._send_batch(batch, partition)
                batch = self._producer.create_batch()
                batch.append(**record)
        if batch.record_count():
            await self._send_batch(batch, partition)
        self._sent += count

    async def _send_batch(self, batch: Any, partition: int) -> None:  # noqa: ANN401 - aiokafka's
        answer = await self._producer.send_batch(batch, self._traffic.topic, partition=partition)
        answer.add_done_callback(partial(self._answered, time.time()))

    def _answered(self, began: float, answer: asyncio.Future[Any]) -> None:
        answer.result()  # raises what the broker has refused
        self._answer_seconds_max = max(self._answer_seconds_max, time.time() - began)

    def _print(self) -> None:
        print(  # noqa: T201
            f"{self._sent} events in a minute; longest step {self._step_seconds_max:.3f} s; "
            f"acknowledged within {self._answer_seconds_max:.3f} s",
            file=sys.stderr,
            flush=True,
        )
        self._sent, self._step_seconds_max, self._answer_seconds_max = 0, 0.0, 0.0


async def _run(address: str, traffic: Traffic) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    producer = AIOKafkaProducer(bootstrap_servers=address, max_batch_size=BATCH_BYTES_MAX, acks=1)
    await producer.start()
    try:
        print("ready", file=sys.stderr, flush=True)  # noqa: T201
        await Sender(producer, traffic).run(ended)
    finally:
        await producer.stop()


@click.command()
@click.option("--broker", required=True)
@click.option("--topic", required=True)
@click.option("--rate", type=int, required=True, help="Events a second.")
@click.option("--partitions", type=int, required=True)
@click.option("--pipelines", type=int, required=True)
@click.option("--silent", type=int, default=0, help="Partitions that send for a part of a minute.")
@click.option("--silent-from", type=int, default=0, help="Seconds since 1970.")
def main(broker: str, **options: Any) -> None:  # noqa: ANN401
    """Send events until interrupted."""
    asyncio.run(_run(broker, Traffic(**options)))


if __name__ == "__main__":
    main()
