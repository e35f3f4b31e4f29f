# ruff: noqa: INP001 - a program, no package
"""Where each microsecond of an event goes: the stages of a worker, one at a time, and the rest.

One minute of one partition, 50,000 events for five destinations, goes through the worker's own code
in this process, a fetch of 1 MiB at a time; for each stage the CPU time of the process is taken:

    decode     the records of a fetch, out of the bytes that the broker sends
    match      group them by pipeline, and gather what each destination is to answer
    evaluate   the payload expression
    window     lines, counts and bounds of the open window
    compress   gzip by isal and its CRC, a slice at a time
    checksum   SHA-256 over what is compressed
    upload     PutObject to the S3 server, without computing the checksum again

Two figures are of whole processes: what `floors.py batches` uses is *receive* and *decode*, and
what a worker uses in the throughput benchmark is all of it. The *rest* is what that has more:
Faust, the way from thread to thread, commits, receipts, and Python's collector.
"""

import asyncio
import base64
import gc
import hashlib
import os
import struct
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import process_time, time
from typing import Final

import click
from aiokafka.record.default_records import DefaultRecordBatchBuilder

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig, throughput
from stream_app.config.parser import parse
from stream_app.config.settings import Settings
from stream_app.core.receipt import RECEIPT_BYTES_MAX
from stream_app.core.router import Router
from stream_app.core.window import Window
from stream_app.expressions.expression import Route, compile_expression, evaluate
from stream_app.kafka.record_batches import _Records
from stream_app.records import Record, TopicPartition
from stream_app.s3.storage import Storage

EVENTS: Final = 50_000
WHOLE_EVENTS: Final = 500_000
"""Of the runs of whole processes."""
ROUNDS: Final = 5
PIPELINES: Final = 5
FETCH_BYTES: Final = 1024 * 1024
SOURCE: Final = TopicPartition("events", 0)
BUCKET: Final = "stages"
RECEIVE: Final = "receive"
STAGES: Final = ("decode", "match", "evaluate", "window", "compress", "checksum", "upload")
PAYLOADS: Final = tuple(throughput.EXPRESSIONS)

Spent = defaultdict[str, float]
"""CPU seconds by stage."""


def fetches(events: int) -> list[bytes]:
    """Return what a broker answers: record batches as producers send them, 1 MiB at a time."""
    values, now = rig.events(min(events, 20_000)), int(time() * 1000)
    batches: list[bytes] = []
    offset = 0
    while offset < events:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, rig.BATCH_BYTES)
        count = 0
        while offset + count < events:
            number = offset + count
            key, value = b"pipeline-%02d" % (number % PIPELINES), values[number % len(values)]
            if builder.append(count, now, key, value, []) is None:
                break
            count += 1
        # Producers begin at 0, the broker writes the offset over it; the CRC begins behind.
        batches.append(struct.pack(">q", offset) + bytes(builder.build()[8:]))
        offset += count
    each = FETCH_BYTES // rig.BATCH_BYTES
    return [b"".join(batches[it : it + each]) for it in range(0, len(batches), each)]


@contextmanager
def timed(spent: Spent, stage: str) -> Iterator[None]:
    """Add what is spent in the block."""
    began = process_time()
    yield
    spent[stage] += process_time() - began


def settings_for(
    servers: rig.Servers, folder: Path, payload: str, bucket: str = BUCKET
) -> Settings:
    """Return a worker's settings with a destination for each pipeline."""
    destinations = [
        {
            "id": f"archive-{number}",
            "pipeline": f"pipeline-{number:02d}",
            "bucket": bucket,
            "payload": throughput.EXPRESSIONS[payload],
        }
        for number in range(PIPELINES)
    ]
    config = rig.worker_config(servers, folder, BUCKET, SOURCE.topic, destinations)
    return parse(config.read_text("utf-8"), {}, config.name)


def collect(settings: Settings, contents: Sequence[bytes], spent: Spent) -> Window:
    """Take the fetches into a window."""
    program = Router(settings.destinations)
    (text,) = {it.payload for it in settings.destinations}
    expression, window = compile_expression(text), Window(SOURCE, 0, RECEIPT_BYTES_MAX)
    for content in contents:
        with timed(spent, "decode"):
            records = _decoded(content)
        with timed(spent, "match"):
            answers = program.evaluate(records, SOURCE)
        groups: defaultdict[bytes | None, list[Record]] = defaultdict(list)
        for record in records:
            groups[record.key].append(record)
        routes = [Route(expression, "archive", group) for group in groups.values()]
        with timed(spent, "evaluate"):
            evaluate(routes, SOURCE)
        with timed(spent, "window"):
            window.add(answers, records[0].offset, records[-1].offset + 1)
            taken = window.compressions()
        for it in taken:
            with timed(spent, "compress"):
                it.compression.perform()
            with timed(spent, "checksum"):
                digest = hashlib.sha256()
                for segment in it.compression.segments:
                    digest.update(segment)
        with timed(spent, "window"):
            window.compressed(taken, int(time()))
    return window


def _decoded(content: bytes) -> list[Record]:
    fetched, records = _Records(content), []
    while fetched.has_next():
        batch = fetched.next_batch()
        batch.validate_crc()
        records += batch
    return records


async def upload(storage: Storage, window: Window, spent: Spent, name: str) -> int:
    """Put the window's objects; return how many lines they have."""
    lines = 0
    for number, delivery in enumerate(window.close(int(time())).values()):
        body = delivery.content
        with timed(spent, "compress"):
            content = body.finish()
        with timed(spent, "upload"):
            await storage.put(
                delivery.destination,
                f"{name}-{number}.gz",
                content,
                lines=body.lines,
                size=body.size,
                sha256=base64.b64encode(body.sha256).decode(),
            )
        lines += body.lines
    return lines


async def measure(
    settings: Settings, contents: Sequence[bytes], events: int, name: str
) -> Mapping[str, float]:
    """Return the microseconds of an event in each stage that runs in this process.

    Raises:
        click.ClickException: An event got lost on the way.
    """
    rounds: list[Spent] = []
    async with Storage(settings.s3) as storage:
        for number in range(ROUNDS + 1):
            spent: Spent = defaultdict(float)
            window = collect(settings, contents, spent)
            lines = await upload(storage, window, spent, f"{name}-{number}")
            if lines != events:
                raise click.ClickException(f"{lines} of {events} events are in the objects")
            # To match alone cannot be asked of a program, and to compress not without the digest.
            spent["match"] -= spent["evaluate"]
            spent["compress"] -= spent["checksum"]
            rounds.append(spent)
    warm = rounds[1:]
    return {it: median(spent[it] for spent in warm) * 1e6 / events for it in STAGES}


def costs(servers: rig.Servers, folder: Path, events: int) -> dict[str, dict[str, float]]:
    """Return the microseconds of an event by payload and stage, the rest and the whole included."""
    os.environ.update(servers.s3.environment)
    servers.s3.create_bucket(BUCKET)
    bytearray(1 << 24)  # As after a worker's first fetches: glibc keeps freed memory from then on.
    contents = fetches(EVENTS)
    gc.collect()
    gc.disable()
    try:
        stages = {
            payload: asyncio.run(
                measure(settings_for(servers, folder, payload), contents, EVENTS, f"stage-{number}")
            )
            for number, payload in enumerate(PAYLOADS)
        }
    finally:
        gc.enable()
    bench = throughput.filled(servers, folder, events, "stages")
    taken = throughput.measure(bench, throughput.Case("none", "batches"), "stages-batches").cpu_us
    table: dict[str, dict[str, float]] = {}
    for number, payload in enumerate(PAYLOADS):
        case = throughput.Case(payload, "this")
        whole = throughput.measure(bench, case, f"stages-{number}").cpu_us
        known = {RECEIVE: taken - stages[payload]["decode"], **stages[payload]}
        table[payload] = {**known, "rest": whole - sum(known.values()), "whole": whole}
    return table


def rows(found: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Return the table, the heading first."""
    names = next(iter(found.values()))
    lines = [[it, *(f"{costs[it]:.2f}" for costs in found.values())] for it in names]
    return [["stage, µs of CPU an event", *found], *lines]


@click.command()
@click.option("--events", type=click.IntRange(100), default=WHOLE_EVENTS, show_default=True)
def main(events: int) -> None:
    """Measure the stages of a worker."""
    with rig.servers() as servers, tempfile.TemporaryDirectory() as folder:
        click.echo(rig.as_markdown(rows(costs(servers, Path(folder), events))))


if __name__ == "__main__":
    main()
