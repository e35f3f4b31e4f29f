# ruff: noqa: INP001, T201 - a program, no package; the log is standard error
"""The floors of the throughput benchmark: what the same work costs without any guarantee.

    floors.py getmany ...    aiokafka's `getmany` alone: nothing is done with the records
    floors.py batches ...    the same, but the records as the worker takes them: batch by batch
    floors.py naive ...      getmany, the payload, gzip, one put for each pipeline and minute

The naive one forgets what it holds when it dies, repeats what it has not committed, and has no
bound: it is what the fewest lines would do.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import click
import orjson
from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from isal import isal_zlib

from stream_app.kafka.record_batches import give_batches, install_lenient_decoding

LEVEL: Final = 1
GZIP: Final = 31
MINUTE_MS: Final = 60_000
WAIT_MS: Final = 500


class Naive:
    """One object for each pipeline and minute of a partition, in the order of its records."""

    def __init__(self, client: Any, bucket: str, *, body: bool) -> None:  # noqa: ANN401
        self.lines = 0
        """Put, or soon to be."""
        self._client, self._bucket, self._body = client, bucket, body
        self._minute = 0
        self._open: dict[bytes, tuple[Any, list[bytes]]] = {}

    async def take(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Add a fetch; put the objects of each minute that has passed."""
        groups: defaultdict[tuple[int, bytes], list[bytes]] = defaultdict(list)
        for record in records:
            line = orjson.dumps(orjson.loads(record.value)["body"]) if self._body else record.value
            groups[record.timestamp // MINUTE_MS, record.key].append(line)
        for (minute, pipeline), lines in groups.items():
            if minute != self._minute:
                await self.put()
                self._minute = minute
            if pipeline not in self._open:
                self._open[pipeline] = isal_zlib.compressobj(LEVEL, wbits=GZIP), []
            compressor, pieces = self._open[pipeline]
            pieces.append(compressor.compress(b"\n".join(lines) + b"\n"))
            self.lines += len(lines)

    async def put(self) -> None:
        """Write the objects of the minute, one after the other."""
        for pipeline, (compressor, pieces) in self._open.items():
            name = f"{self._minute}-{pipeline.decode()}.gz"
            content = b"".join(pieces) + compressor.flush()
            await self._client.put_object(Bucket=self._bucket, Key=name, Body=content)
        self._open.clear()


async def _getmany(consumer: AIOKafkaConsumer, events: int) -> int:
    taken = 0
    while taken < events:
        for records in (await consumer.getmany(timeout_ms=WAIT_MS)).values():
            taken += len(records)
    return taken


async def _batches(consumer: AIOKafkaConsumer, events: int) -> int:
    fetcher, taken = consumer._fetcher, 0  # noqa: SLF001 - as the worker does
    while taken < events:
        for fetched in fetcher._records.values():  # noqa: SLF001
            if fetched.has_more():
                give_batches(fetched._partition_records)  # noqa: SLF001
        found = await fetcher.fetched_records((), timeout=0)
        for batches in found.values():
            taken += sum(len(batch.records) for batch in batches)
        if not found:
            await fetcher._create_fetch_waiter()  # noqa: SLF001
    return taken


async def _naive(
    consumer: AIOKafkaConsumer, events: int, bucket: str, endpoint_url: str, *, body: bool
) -> int:
    async with get_session().create_client("s3", endpoint_url=endpoint_url) as client:
        sides = {tp: Naive(client, bucket, body=body) for tp in consumer.assignment()}
        taken = 0
        while taken < events:
            for tp, records in (await consumer.getmany(timeout_ms=WAIT_MS)).items():
                taken += len(records)
                await sides[tp].take(records)
        for side in sides.values():
            await side.put()
        return sum(side.lines for side in sides.values())


async def _run(
    *,
    side: str,
    broker: str,
    topic: str,
    partitions: int,
    events: int,
    endpoint_url: str,
    bucket: str,
    body: bool,
) -> None:
    if side == "batches":
        install_lenient_decoding()
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, it) for it in range(partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        print("ready", file=sys.stderr, flush=True)
        match side:
            case "getmany":
                lines = await _getmany(consumer, events)
            case "batches":
                lines = await _batches(consumer, events)
            case _:
                lines = await _naive(consumer, events, bucket, endpoint_url, body=body)
        print(f"done: {lines} lines", file=sys.stderr, flush=True)
        await asyncio.Event().wait()  # until the measuring process has read its figures
    finally:
        await consumer.stop()


@click.command()
@click.argument("side", type=click.Choice(["getmany", "batches", "naive"]))
@click.option("--broker", required=True)
@click.option("--topic", required=True)
@click.option("--partitions", type=int, required=True)
@click.option("--events", type=int, required=True)
@click.option("--endpoint-url", required=True)
@click.option("--bucket", required=True)
@click.option("--body/--whole", default=False)
def main(**options: Any) -> None:  # noqa: ANN401 - as `_run` takes them
    """Read a topic from its beginning, so many events, and wait to be ended."""
    asyncio.run(_run(**options))


if __name__ == "__main__":
    main()
