"""What once left a worker alive, ready and without progress: no event comes that would wake it."""

from pathlib import Path
from typing import Final

from aiokafka.protocol.fetch import FetchRequest

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import (
    LONG_SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    Lab,
    in_a_loop,
    wait_until,
)
from tests.chaos.kafka_proxy import KafkaProxy, no_error
from tests.integration.worker.test_monitoring import (
    address_of,
    scraped,
    total,
    until_ready,
    verdict,
)

LOSING_WORKER: Final = Path(__file__).with_name("losing_worker.py")
EVENTS: Final = 50
NOT_LEADER: Final = 6
SILENT_SECONDS_MAX: Final = 300.0
"""From silent connections to the commit: a timeout of 30 s each for the consumer and then for the
producer, whose connections no request has tried before, a rebalance, and what a loaded machine
needs."""


@in_a_loop
async def test_connections_that_go_silent_without_a_reset_hold_nothing_up_for_long(
    own_kafka: KafkaServer, kafka_proxy: KafkaProxy, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(own_kafka.address, s3, tmp_path, kafka_proxy=kafka_proxy) as lab:
        worker = await lab.start_worker()
        await lab.load.send(EVENTS)
        await lab.settled()
        kafka_proxy.freeze()
        assert kafka_proxy.frozen
        await lab.load.send(EVENTS)
        await lab.settled(SILENT_SECONDS_MAX)
        await lab.verify()
        assert worker.running


@in_a_loop
async def test_worker_of_whose_partitions_nothing_is_known_is_not_ready(
    own_kafka: KafkaServer, kafka_proxy: KafkaProxy, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(own_kafka.address, s3, tmp_path, partitions=2, kafka_proxy=kafka_proxy) as lab:
        address = await address_of(await lab.start_worker())
        await lab.load.send(EVENTS)
        await lab.settled()
        assert await verdict(address, "ready") == (True, [])
        # The group's coordinator is well, and the leader of the partitions is away.
        kafka_proxy.rule = lambda request: NOT_LEADER if request is FetchRequest else None

        async def is_unready() -> bool:
            return not (await verdict(address, "ready"))[0]

        await wait_until(is_unready, SETTLED_SECONDS_MAX, "503 while nothing can be fetched")
        (reason,) = (await verdict(address, "ready"))[1]
        assert reason.startswith("Kafka has not responded for 2 partitions: for ")
        assert total(await scraped(address), "partitions_unanswered") == 2
        await lab.load.send(EVENTS)
        kafka_proxy.rule = no_error
        await lab.settled()
        await lab.verify()
        await until_ready(address)


@in_a_loop
async def test_worker_that_a_full_group_refuses_ends_and_the_next_one_delivers(
    s3: S3Server, tmp_path: Path
) -> None:
    with KafkaServer(properties={"group.max.size": "1"}) as kafka:
        async with Lab(kafka.address, s3, tmp_path, session_seconds=LONG_SESSION_SECONDS) as lab:
            member, refused = await lab.start_worker(), lab.launch_worker()
            assert await refused.ended() == 1
            assert "keeps this worker out of its group" in refused.log
            await lab.load.send(EVENTS)
            await member.terminate()
            await lab.start_worker()
            await lab.settled()
            await lab.verify()


@in_a_loop
async def test_batch_that_the_client_has_lost_is_read_again_without_a_further_record(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        loses = tmp_path / "loses"
        worker = lab.launch_worker(
            *("-P", str(LOSING_WORKER), str(loses), "worker", "--config", str(lab.configuration))
        )
        await worker.logged("ready: ")
        await lab.load.send(EVENTS)
        await lab.settled()
        loses.touch()
        await lab.load.send(EVENTS)
        await worker.logged("no progress for 10 s")
        loses.unlink()
        await lab.settled()
        await lab.verify()
        assert worker.running
