"""Topics that change while workers run: more partitions, fewer ones, a topic created again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stream_app.core.receipt import Message
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import TooLargeError, TransientError
from stream_app.kafka.receipts_topic import ReceiptPublisher
from tests.chaos.harness import SETTLED_SECONDS_MAX, TARGETS, Lab, in_a_loop, wait_until
from tests.chaos.oracle import Target
from tests.integration.worker.test_monitoring import address_of, until_ready, verdict

NOTICED_SECONDS_MAX = 75.0
"""The promise is 30 s, of which 15 are the age of what is known of topics, by a contract test; a
loaded machine may need as long again. The client's own age of it is five minutes."""
PUBLISHED_MILLISECONDS_MAX = 8_000
"""For a receipt: a partition that is gone is waited for so long."""
NARROW = {"max.message.bytes": "4000"}
KEYS = 24
"""Destinations, so many that each of a few partitions has some."""


@asynccontextmanager
async def administration(kafka: KafkaServer) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create(admin: AIOKafkaAdminClient, name: str, partitions: int) -> None:
    """Create a topic that keeps records of any time, once a deletion of the same name is over."""
    topic = NewTopic(name, partitions, 1, topic_configs={"retention.ms": "-1"})

    async def created() -> bool:
        response = await admin.create_topics([topic])
        return bool(response.topic_errors[0][1] == 0)

    await wait_until(created, SETTLED_SECONDS_MAX, f"topic {name} is created")


# --- the receipts topic ------------------------------------------------------------------------


def receipt(number: int) -> Message:
    return Message(f"destination-{number}".encode(), b"{}", ())


@in_a_loop
async def test_receipt_for_a_partition_that_is_gone_fails_in_bounded_time_and_is_published_again(
    kafka: KafkaServer,
) -> None:
    topic = f"receipts-{uuid4().hex}"
    async with administration(kafka) as admin:
        await create(admin, topic, 6)
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka.address,
            acks="all",
            request_timeout_ms=PUBLISHED_MILLISECONDS_MAX,
        )

        async def started() -> AIOKafkaProducer:
            return producer

        publisher = ReceiptPublisher(topic, started)
        async with producer:
            await publisher.publish(receipt(0))
            await admin.delete_topics([topic])
            await create(admin, topic, 1)
            began = time.monotonic()
            published = await asyncio.gather(
                *[publisher.publish(receipt(it)) for it in range(KEYS)], return_exceptions=True
            )
            assert time.monotonic() - began < NOTICED_SECONDS_MAX
            failed = [number for number, error in enumerate(published) if error is not None]
            assert failed
            assert {type(error) for error in published} <= {TransientError, type(None)}
            assert {str(it.code) for it in published if isinstance(it, TransientError)} <= {
                "NotLeaderForPartitionError",
                "UnknownTopicOrPartitionError",
            }
            await asyncio.gather(*[publisher.publish(receipt(number)) for number in failed])


@in_a_loop
async def test_receipt_is_not_refused_for_the_size_of_others_in_its_batch(
    kafka: KafkaServer,
) -> None:
    topic = f"receipts-{uuid4().hex}"
    async with administration(kafka) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=NARROW)])
        # So long that all of them join one batch.
        producer = AIOKafkaProducer(bootstrap_servers=kafka.address, linger_ms=500)

        async def started() -> AIOKafkaProducer:
            return producer

        publisher = ReceiptPublisher(topic, started)
        large = Message(b"large", b" " * 5_000, ())
        async with producer:
            published = await asyncio.gather(
                publisher.publish(large),
                *[publisher.publish(receipt(number)) for number in range(KEYS)],
                return_exceptions=True,
            )
    refused, *others = published
    assert isinstance(refused, TooLargeError)
    assert refused.size == 5_000
    assert others == [None] * KEYS


@in_a_loop
async def test_receipt_that_the_topic_does_not_take_is_shortened_and_holds_up_nobody(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    always = Target("always", "always/", payload="$event.no.such", outcome=lambda _: "failed")
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=[TARGETS[0], always]) as lab:
        assert lab._admin is not None
        resource = ConfigResource(ConfigResourceType.TOPIC, lab.receipts_topic, NARROW)
        await lab._admin.alter_configs([resource])
        worker = await lab.start_worker()
        await lab.load.send(60)
        await lab.settled()
        receipts = {it.value["destination"]: it.value for it in await lab.read_receipts()}
        assert receipts["everything"]["counts"]["delivered"] == 60
        short = receipts["always"]
        assert short["counts"]["failed"] == 60
        listed = [it["offset"] for it in short["failed"]]
        assert listed == list(range(short["lists_end_offset"]))
        assert 10 < len(listed) < 60
        assert "published a shortened receipt" in worker.log


# --- the events topic --------------------------------------------------------------------------


@in_a_loop
async def test_partitions_that_are_added_are_read_within_half_a_minute(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
        await lab.start_worker()
        await lab.load.send(20)
        await lab.settled()
        async with administration(kafka) as admin:
            await admin.create_partitions({lab.events_topic: NewPartitions(4)})
        lab.partitions = 4
        await lab.load.stop()
        await lab.load.start()  # a producer that knows of the new ones
        await lab.load.send(40)
        await lab.settled(NOTICED_SECONDS_MAX)
        assert {it.partition for it in lab.load.sent} == {0, 1, 2, 3}
        await lab.verify()


@in_a_loop
async def test_events_topic_that_is_created_again_is_read_within_half_a_minute(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2) as lab:
        worker = await lab.start_worker()
        address = await address_of(worker)
        await lab.load.send(20)
        await lab.settled()
        before = len(await lab.read_receipts())

        async def is_missing() -> bool:
            _, reasons = await verdict(address, "ready")
            return f"topic {lab.events_topic} does not exist" in reasons

        async with administration(kafka) as admin:
            await admin.delete_topics([lab.events_topic])
            await wait_until(is_missing, NOTICED_SECONDS_MAX, "the topic is missed")
            await create(admin, lab.events_topic, 2)
        for number in range(10):
            await lab.load.send_raw(b'"new"', pipeline=f"pipeline-{number}")

        async def is_delivered() -> bool:
            new = (await lab.read_receipts())[before:]
            every = [it.value for it in new if it.value["destination"] == "everything"]
            return sum(it["counts"]["delivered"] for it in every) == 10

        await wait_until(is_delivered, NOTICED_SECONDS_MAX, "events of the topic's new life")
        await until_ready(address)
