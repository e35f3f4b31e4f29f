"""Workers that fetch from a replica in their own rack (KIP-392), of a cluster of two brokers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.records import TopicPartition
from tests.chaos.harness import Lab, in_a_loop, wait_until
from tests.contract.apps import Keeper, becomes, in_a_bounded_loop, new_app, produce, running

COMMON = {
    "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    "offsets.topic.replication.factor": "2",  # the group outlives either broker
}
REPLICAS_SECONDS_MAX = 60.0
NEAR, FAR = "near", "far"


class SecondBroker(KafkaServer):
    """Broker without a controller, in the cluster of another one."""

    def __init__(self, folder: Path, first: KafkaServer) -> None:
        super().__init__(folder, properties={"broker.rack": NEAR, **COMMON})
        self._first = first

    def _properties(self) -> dict[str, str]:
        of_first = self._first._properties()
        return super()._properties() | {
            "process.roles": "broker",
            "node.id": "2",
            "controller.quorum.voters": of_first["controller.quorum.voters"],
            "listeners": f"PLAINTEXT://{self.address}",
        }

    def _format(self) -> None:
        """Write the cluster's id, as the first broker has it."""
        text = (self._first.folder / "data" / "meta.properties").read_text("utf-8")
        (cluster,) = [it for it in text.splitlines() if it.startswith("cluster.id=")]
        data = self.folder / "data"
        data.mkdir()
        (data / "meta.properties").write_text(f"version=1\nnode.id=2\n{cluster}\n", "utf-8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaServer, KafkaServer]]:
    """A broker that leads, and one with a replica, nearer to the workers."""
    folder = tmp_path_factory.mktemp("cluster")
    properties = {"broker.rack": FAR, **COMMON}
    with (
        KafkaServer(folder / "first", properties=properties) as first,
        SecondBroker(folder / "second", first) as second,
    ):
        yield first, second


async def replicated(address: str, topic: str) -> None:
    """Create a topic with one partition, which broker 1 leads and broker 2 follows."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        configs = {"retention.ms": "-1"}
        made = NewTopic(topic, -1, -1, replica_assignments={0: [1, 2]}, topic_configs=configs)
        await admin.create_topics([made])

        async def is_followed() -> bool:
            (described,) = await admin.describe_topics([topic])
            return [it["isr"] for it in described["partitions"]] == [[1, 2]]

        await wait_until(is_followed, REPLICAS_SECONDS_MAX, "broker 2 follows")
    finally:
        await admin.close()


@in_a_bounded_loop
async def test_events_come_from_the_replica_in_the_same_rack_and_else_from_the_leader(
    cluster: tuple[KafkaServer, KafkaServer],
) -> None:
    first, second = cluster
    await replicated(first.address, "near-events")
    app = new_app(first.address, "near-", client_rack=NEAR)
    keeper = Keeper(app)
    tp = TopicPartition("near-events", 0)
    async with running(app):
        fetcher = app.consumer._thread._consumer._fetcher
        await produce(first.address, "near-events", b"1")
        _, batch = await keeper.batch(tp)
        assert [it.value for it in batch.records] == [b"1"]
        await becomes(lambda: [it[0] for it in fetcher._preferred_read_replica.values()] == [2])
        assert app.consumer.fetches().keys() == {tp}
        second.kill()
        await produce(first.address, "near-events", b"2")
        _, batch = await keeper.batch(tp, position=1)
        assert [it.value for it in batch.records] == [b"2"]
        await asyncio.to_thread(second.start)


@in_a_loop
async def test_worker_delivers_from_a_replica_that_comes_and_goes(
    cluster: tuple[KafkaServer, KafkaServer], s3: S3Server, tmp_path: Path
) -> None:
    first, second = cluster
    lab = Lab(first.address, s3, tmp_path, partitions=1)
    await replicated(first.address, lab.events_topic)
    await replicated(first.address, lab.receipts_topic)
    async with lab:
        worker = lab.launch_worker(environment={"STREAM_APP_KAFKA_CLIENT_RACK": NEAR})
        await worker.logged("taken over at")
        await lab.load.send(100)
        await lab.settled()
        async with lab.load.steady(50.0):
            second.kill()
            await lab.published(len(lab.receipts) + 3)
            await asyncio.to_thread(second.start)
            await lab.published(len(lab.receipts) + 3)
        await lab.settled()
        await lab.verify()
        assert worker.running
        assert "has lost records" not in worker.log
