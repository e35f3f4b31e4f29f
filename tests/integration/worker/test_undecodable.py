"""Record batches that no client can decode, in a real broker's log: only their partition waits.

One is sent: brokers do not look at the checksum of the content of an LZ4 frame. The other one is
damaged on the broker's disk. Both are passed over after `give_up_after_seconds`, by a `failed`
receipt for each destination; once such a batch can be decoded, `redeliver` delivers it. Where the
length is damaged the broker itself cannot read on, and the partition waits until it can.
"""

import asyncio
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from stream_app.core.undecodable import UNDECODABLE
from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import ROOT, Lab, Worker, in_a_loop, wait_until
from tests.chaos.oracle import Target
from tests.damaged_batches import LENGTH, send_damaged, wrong_content_checksum
from tests.integration.worker.test_monitoring import (
    address_of,
    scraped,
    total,
    until_ready,
    verdict,
)
from tests.integration.worker.test_worker import lines, valid

TARGETS = (
    Target("everything", "everything/"),
    Target("orders", "orders/", pipeline="orders"),
    Target("signups", "signups/", pipeline="signups"),
)
SECONDS_MAX = 240.0
SOON = {"STREAM_APP_DELIVERY_GIVE_UP_AFTER_SECONDS": "1"}
"""Environment of a worker that passes such a batch over at once. Others wait for ten minutes."""


def lab_of(kafka: KafkaServer, s3: S3Server, folder: Path, *, partitions: int = 2) -> Lab:
    return Lab(kafka.address, s3, folder, partitions=partitions, targets=TARGETS)


async def send(lab: Lab, partition: int, name: str, count: int = 10) -> None:
    """Send events to a partition, whose values say which they are."""
    async with AIOKafkaProducer(bootstrap_servers=lab.broker) as producer:
        for number in range(count):
            value = f'{{"id":"{name}-{number}"}}'.encode()
            await producer.send_and_wait(
                lab.events_topic, value, key=b"orders", partition=partition
            )


async def delivered(lab: Lab, name: str) -> int:
    """Return how many lines at `everything` are of events with this name."""
    receipts = {
        it.value["object"]["key"]: it  # a receipt may be published twice
        for it in await lab.read_receipts()
        if it.value["destination"] == "everything" and it.value["object"] and not it.value["error"]
    }
    found = [line for it in receipts.values() for line in await asyncio.to_thread(lines, lab, it)]
    assert len(found) == len(set(found)), "a line is there twice"
    return sum(f'"{name}-' in line for line in found)


async def until_delivered(lab: Lab, name: str, count: int = 10) -> None:
    async def all_there() -> bool:
        return await delivered(lab, name) == count

    await wait_until(all_there, SECONDS_MAX, f"{count} lines of {name}")


async def passed_over(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return the receipts of batches that were passed over, by destination."""
    found = [valid(it) for it in await lab.read_receipts() if it.value["status"] == "failed"]
    assert len({it.value["destination"] for it in found}) == len(found)
    return {it.value["destination"]: it.value for it in found}


async def run(lab: Lab, *command: str) -> tuple[int | None, str]:
    """Run a command of `stream-app`; return its status and all that it has printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stream_app", command[0], "--config", str(lab.configuration)),
        *command[1:],
        env={**os.environ, "PYTHONPATH": str(ROOT), **lab.s3.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS_MAX):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


@in_a_loop
async def test_lz4_content_checksum_that_is_wrong_stops_its_partition_alone_and_is_passed_over(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab:
        for partition in (0, 1):
            await send(lab, partition, f"p{partition}-before")
        odd = [f'{{"id":"odd-{number}"}}'.encode() for number in range(10)]
        first = await send_damaged(lab.broker, lab.events_topic, 0, odd, wrong_content_checksum)
        assert first == 10
        for partition in (0, 1):
            await send(lab, partition, f"p{partition}-behind")
        worker = await lab.start_worker()
        await worker.logged("offsets 10 to 19 cannot be decoded: ")
        for name in ("p0-before", "p1-before", "p1-behind"):
            await until_delivered(lab, name)
        assert await passed_over(lab) == {}, "it waits"
        assert await delivered(lab, "p0-behind") == 0
        await worker.terminate()
        worker = lab.launch_worker(environment=SOON)
        await worker.logged("offsets 10 to 19 are passed over")
        await until_delivered(lab, "p0-behind")
        receipts = await passed_over(lab)
        assert receipts.keys() == {it.id for it in TARGETS}
        for value in receipts.values():
            source = value["source"]
            assert (source["partition"], source["first_offset"], source["end_offset"]) == (
                0,
                10,
                20,
            )
            assert value["counts"]["matched"] == 0
            assert value["error"]["code"] == UNDECODABLE
            assert "ERROR_contentChecksum_invalid" in value["error"]["message"]
        await lab.settled()
        assert worker.running
        assert (await lab.commits())[0].offset == 30
        address = await address_of(worker)
        assert total(await scraped(address), "undecodable_offsets_total") == 10
        await until_ready(address)

        status, output = await run(lab, "redeliver")
        assert status == 1, output
        assert "offsets 10 to 19 cannot be decoded: DecompressionError" in output
        status, output = await run(lab, "receipts", "--from-beginning", "--exit-at-end")
        assert status == 0, output
        assert output.count(UNDECODABLE) == len(TARGETS)
        assert await delivered(lab, "odd") == 0


@in_a_loop
async def test_bytes_turned_on_the_disk_are_passed_over_and_redelivered_once_they_are_whole(
    s3: S3Server, tmp_path: Path
) -> None:
    with KafkaServer(tmp_path / "kafka") as broker:
        await turn_bytes(broker, s3, tmp_path)


async def turn_bytes(broker: KafkaServer, s3: S3Server, folder: Path) -> None:
    async with lab_of(broker, s3, folder) as lab:
        for partition in (0, 1):
            await send(lab, partition, f"p{partition}-before")
        await send(lab, 0, "MARKED", count=1)
        for partition in (0, 1):
            await send(lab, partition, f"p{partition}-behind")
        # After a kill the broker would look for such bytes itself, and cut the log off there.
        await asyncio.to_thread(broker.stop)
        (segment,) = broker.folder.glob(f"data/{lab.events_topic}-0/*.log")
        whole = segment.read_bytes()
        segment.write_bytes(whole.replace(b"MARKED", b"mARKED"))
        await asyncio.to_thread(broker.start)
        workers = await lab.start_workers(2)
        for name in ("p0-before", "p1-before", "p1-behind"):
            await until_delivered(lab, name)
        verdicts = [await verdict(await address_of(it), "ready") for it in workers]
        (waiting,) = [reasons for is_ready, reasons in verdicts if not is_ready]
        assert waiting[0].startswith(
            f"partition {lab.events_topic}/0 waits at offsets 10 to 10, which cannot be decoded: "
        )
        assert await passed_over(lab) == {}, "it waits"
        await asyncio.gather(*[it.terminate() for it in workers])
        workers = [lab.launch_worker(environment=SOON) for _ in workers]
        await until_delivered(lab, "p0-behind")
        assert (await passed_over(lab)).keys() == {it.id for it in TARGETS}
        await lab.settled()
        assert all(it.running for it in workers)

        segment.write_bytes(whole)
        status, output = await run(lab, "redeliver")
        assert status == 0, output
        await until_delivered(lab, "MARKED", count=1)
        found = {it.value["destination"]: it for it in await lab.read_receipts()}
        assert found["orders"].value["status"] == "redelivered"
        assert found["signups"].value["status"] == "empty"


@in_a_loop
async def test_length_that_is_damaged_on_the_disk_holds_its_partition_until_it_is_whole(
    s3: S3Server, tmp_path: Path
) -> None:
    with KafkaServer(tmp_path / "kafka") as broker:
        async with lab_of(broker, s3, tmp_path, partitions=3) as lab:
            for partition in range(3):
                await send(lab, partition, f"p{partition}-before")
                await send(lab, partition, f"p{partition}-behind")
            # Beyond the end of the file the broker finds nothing; below 0 it fails.
            damages = [damage_length(broker, lab, 0, 1 << 28), damage_length(broker, lab, 1, -5)]
            first = lab.launch_worker(environment=SOON)
            for name in ("p0-before", "p1-before", "p2-before", "p2-behind"):
                await until_delivered(lab, name)
            await until_both_wait(lab, first)
            await first.terminate()

            # Of this worker no fetch of the two partitions succeeds.
            successor = lab.launch_worker(environment=SOON)
            await until_both_wait(lab, successor)
            await send(lab, 2, "p2-later")
            await until_delivered(lab, "p2-later")
            assert await passed_over(lab) == {}
            for segment, at, whole in damages:
                write_at(segment, at, whole)
            for name in ("p0-behind", "p1-behind"):
                await until_delivered(lab, name)
            await lab.settled()
            assert successor.running
            await until_ready(await address_of(successor))


def damage_length(broker: KafkaServer, lab: Lab, partition: int, length: int) -> tuple[Any, ...]:
    """Damage the 11th batch of a partition on the disk; return the file, where, and what was there.

    The broker runs: at its start it would look for such a batch, and not start.
    """
    (segment,) = broker.folder.glob(f"data/{lab.events_topic}-{partition}/*.log")
    content, at = segment.read_bytes(), 0
    for _ in range(10):
        (size,) = struct.unpack(">i", content[at:][LENGTH])
        at += LENGTH.stop + size
    at += LENGTH.start
    write_at(segment, at, struct.pack(">i", length))
    return segment, at, content[at : at + 4]


def write_at(segment: Path, at: int, content: bytes) -> None:
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(content)


async def until_both_wait(lab: Lab, worker: Worker) -> None:
    address = await address_of(worker)
    named = [f"partition {lab.events_topic}/{number} waits at offsets 10 to " for number in (0, 1)]

    async def both_wait() -> bool:
        is_ready, reasons = await verdict(address, "ready")
        waiting = sorted(it for it in reasons if "waits at offsets" in it)
        return (
            not is_ready and len(waiting) == len(named) and all(map(str.startswith, waiting, named))
        )

    await wait_until(both_wait, SECONDS_MAX, "partitions 0 and 1 wait")
