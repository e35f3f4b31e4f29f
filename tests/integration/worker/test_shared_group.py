"""Another client that has the workers' consumer group by mistake."""

from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import InconsistentGroupProtocolError
from aiokafka.structs import TopicPartition

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import SETTLED_SECONDS_MAX, Lab, in_a_loop, wait_until
from tests.integration.worker.test_monitoring import (
    address_of,
    scraped,
    total,
    until_ready,
    verdict,
)

HELD_BACK = "another program has committed in the group for 1 partition"


def stranger(lab: Lab) -> AIOKafkaConsumer:
    """Return an ordinary client of the group, with the defaults of most clients."""
    return AIOKafkaConsumer(
        lab.events_topic,
        bootstrap_servers=lab.broker,
        group_id=lab.name,
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        auto_commit_interval_ms=200,
    )


@in_a_loop
async def test_client_of_another_kind_is_refused_and_takes_no_event(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2) as lab:
        worker = await lab.start_worker()
        await lab.load.send(40)
        other = stranger(lab)
        with pytest.raises(InconsistentGroupProtocolError):
            await other.start()
        await other.stop()
        await lab.load.send(40)
        await lab.settled()
        await lab.verify()
        assert worker.running


@in_a_loop
async def test_worker_that_finds_another_client_in_its_group_ends_and_says_so(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2) as lab:
        other = stranger(lab)
        await other.start()
        try:
            worker = lab.launch_worker()
            assert await worker.ended() == 1
            assert f"another client is in the group '{lab.name}'" in worker.log
        finally:
            await other.stop()


@in_a_loop
async def test_partition_for_which_another_program_has_committed_is_not_read_until_accepted(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2) as lab:
        # A tool needs not be a member to commit while the group has none.
        tool = AIOKafkaConsumer(
            bootstrap_servers=lab.broker, group_id=lab.name, enable_auto_commit=False
        )
        mine = TopicPartition(lab.events_topic, 0)
        tool.assign([mine])
        await tool.start()
        try:
            await tool.commit({mine: 0})
        finally:
            await tool.stop()
        worker = await lab.start_worker()
        address = await address_of(worker)
        await worker.logged("is not read")
        is_ready, reasons = await verdict(address, "ready")
        assert not is_ready
        assert [it for it in reasons if HELD_BACK in it]
        assert total(await scraped(address), "partitions_held_back") == 1
        await lab.load.send(60)

        async def other_partition_is_delivered() -> bool:
            commits = await lab.commits()
            return commits[1].offset == commits[1].log_end > 0 and not commits[1].closings

        await wait_until(
            other_partition_is_delivered, SETTLED_SECONDS_MAX, "the other partition is delivered"
        )
        assert (await lab.commits())[0].offset == 0
        await worker.terminate()
        accepted = lab.launch_worker(
            environment={"STREAM_APP_KAFKA_ACCEPT_UNMARKED_COMMITS": "true"}
        )
        await accepted.logged("ready: ")
        await lab.settled()
        await lab.verify()
        await until_ready(await address_of(accepted))
