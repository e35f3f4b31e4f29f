"""Offsets that begin anew: a broker that lost its log, and a topic that was created again.

Each event of the new log is delivered, under names that no window of the old one has.
"""

import asyncio
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import Lab, in_a_loop, wait_until
from tests.chaos.oracle import Target
from tests.chaos.s3_proxy import Fault
from tests.integration.worker.test_monitoring import (
    address_of,
    scraped,
    total,
    until_ready,
    verdict,
)
from tests.integration.worker.test_topics import create
from tests.integration.worker.test_undecodable import run, until_delivered
from tests.integration.worker.test_worker import valid

SECONDS_MAX = 240.0
EVERYTHING = (Target("everything", "everything/"),)
EVENTS = 10
SENT_AT_MS = 1_000
"""One timestamp, so that the events of a run are one window, whenever they are sent."""


async def send(lab: Lab, name: str, count: int) -> None:
    """Send events in one request, whose values say which they are."""
    async with AIOKafkaProducer(bootstrap_servers=lab.broker, linger_ms=200) as producer:
        values = [f'{{"id":"{name}-{number}"}}'.encode() for number in range(count)]
        sending = [
            await producer.send(lab.events_topic, it, partition=0, timestamp_ms=SENT_AT_MS)
            for it in values
        ]
        await asyncio.gather(*sending)


@in_a_loop
async def test_f1_log_that_ends_before_the_commit_is_read_from_its_start(
    s3: S3Server, tmp_path: Path
) -> None:
    with KafkaServer(tmp_path / "kafka") as broker:
        async with Lab(broker.address, s3, tmp_path, partitions=1, targets=EVERYTHING) as lab:
            await lose_the_log(lab, broker)


async def lose_the_log(lab: Lab, broker: KafkaServer) -> None:
    worker = await lab.start_worker()
    address = await address_of(worker)
    await send(lab, "before", 50)
    await until_delivered(lab, "before", 50)
    await lab.settled()
    lab.proxy.rule = lambda request: Fault.REFUSE if request.is_put else Fault.NONE
    await send(lab, "read", 5)
    await wait_until(lambda: Fault.REFUSE in lab.proxy.faults, SECONDS_MAX, "an upload is refused")

    await lab.lose_log(broker)
    await worker.logged("the log has lost records before offset 55")
    is_ready, reasons = await verdict(address, "ready")
    assert not is_ready
    assert any("has lost records that were read" in it for it in reasons), reasons
    await send(lab, "new", 20)
    lab.proxy.heal()
    await until_delivered(lab, "read", 5)
    await until_delivered(lab, "new", 20)
    assert total(await scraped(address), "log_truncated_total") == 1
    assert total(await scraped(address), "lost_offsets_total") == 0
    await worker.terminate()

    worker = await lab.start_worker()
    await send(lab, "newer", 40)
    await until_delivered(lab, "newer", 40)
    await lab.settled()
    first = lab.workers[0]
    assert first.log.count("the log has lost records") == 1
    assert first.log.count("begun anew at offset 0") == 1
    assert "the log has lost records" not in worker.log
    await until_ready(await address_of(worker))


@in_a_loop
async def test_f3_topic_created_again_has_other_receipts_and_owes_what_it_owes(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    settings = "give_up_after_seconds = 1"
    async with Lab(
        kafka.address, s3, tmp_path, partitions=1, targets=EVERYTHING, settings=settings
    ) as lab:
        await live(lab, "first")
        await until_delivered(lab, "first", EVENTS)
        await create_again(lab)
        await live(lab, "second")
        await until_delivered(lab, "second", EVENTS)
        await create_again(lab)
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(
            text.replace(f'bucket = "{lab.bucket}"', 'bucket = "gone"'), "utf-8"
        )
        await live(lab, "third")
        lab.configuration.write_text(text, "utf-8")

        receipts = [valid(it) for it in await lab.read_receipts()]
        sources = [it.value["source"] for it in receipts if it.value["status"] != "retrying"]
        runs = {(it["partition"], it["first_offset"], it["end_offset"]) for it in sources}
        assert runs == {(0, 0, EVENTS)}, "the same run of offsets in each life"
        assert len({it["closed_at"] for it in sources}) == 3
        assert len({it.headers["ce_id"] for it in receipts}) >= 3
        assert sorted(
            it.value["status"] for it in receipts if it.value["status"] != "retrying"
        ) == [
            "delivered",
            "delivered",
            "failed",
        ]
        status, output = await run(lab, "redeliver")
        assert status == 0, output
        assert "1 redelivered" in output
        await until_delivered(lab, "third", EVENTS)
        await until_delivered(lab, "second", EVENTS)


async def live(lab: Lab, name: str) -> None:
    """Deliver ten events in one window, or give it up, and stop."""
    await send(lab, name, EVENTS)
    worker = await lab.start_worker()
    await lab.settled()
    await worker.terminate()


async def create_again(lab: Lab) -> None:
    """Delete the topic and create it again: Kafka deletes the group's offsets of it, too."""
    admin = AIOKafkaAdminClient(bootstrap_servers=lab.broker)
    await admin.start()
    try:
        await admin.delete_topics([lab.events_topic])
        await create(admin, lab.events_topic, 1)
    finally:
        await admin.close()

    async def forgotten() -> bool:
        return (await lab.commits())[0].offset != EVENTS

    await wait_until(forgotten, SECONDS_MAX, "the group's offset of the topic is gone")
