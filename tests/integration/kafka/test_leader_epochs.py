"""Where a leader epoch ends, from a real broker, and from one that refuses."""

import socket
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request

from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import KafkaServer
from stream_app.errors import TransientError
from stream_app.kafka.leader_epochs import EpochEndRequest, epoch_end
from stream_app.records import TopicPartition
from tests.chaos.harness import in_a_loop
from tests.chaos.kafka_proxy import KafkaProxy
from tests.contract.apps import create_topics, produce


async def three_events(address: str) -> TopicPartition:
    tp = TopicPartition(f"epochs-{uuid4().hex[:8]}", 0)
    await create_topics(address, {tp.topic: 1})
    await produce(address, tp.topic, b"1", b"2", b"3")
    return tp


@in_a_loop
async def test_epoch_of_the_leader_ends_where_the_log_ends_and_a_later_one_is_unknown(
    kafka: KafkaServer,
) -> None:
    tp = await three_events(kafka.address)
    options = {"bootstrap_servers": kafka.address}
    assert await epoch_end(options, tp, 0) == 3
    assert await epoch_end(options, tp, 7) is None


@in_a_loop
async def test_epoch_is_asked_for_again_while_the_leader_changes_and_not_where_it_is_refused(
    own_kafka: KafkaServer, proxied_ports: tuple[int, int]
) -> None:
    codes: list[int] = []

    def rule(request: type[Request[Any]]) -> int | None:
        return codes.pop(0) if request is EpochEndRequest and codes else None

    behind, before = proxied_ports
    async with KafkaProxy(upstream_port=behind, port=before, rule=rule) as proxy:
        tp = await three_events(own_kafka.address)
        options = {"bootstrap_servers": proxy.address}
        codes[:] = [6, 3]  # not the leader, no such partition
        assert await epoch_end(options, tp, 0) == 3
        for code in (29, 35):  # no right to describe the topic, no such version
            codes[:] = [code]
            assert await epoch_end(options, tp, 0) is None
        assert proxy.replaced == 4


@in_a_loop
async def test_broker_that_does_not_respond_is_waited_for_no_longer_than_the_bound() -> None:
    tp = TopicPartition("events", 0)
    with socket.create_server((HOST, 0)) as silent:
        options = {"bootstrap_servers": f"{HOST}:{silent.getsockname()[1]}"}
        with pytest.raises(TransientError, match="OffsetForLeaderEpoch"):
            await epoch_end(options, tp, 0, seconds_max=0.5)
    (unused,) = free_ports(1)
    with pytest.raises(TransientError, match="OffsetForLeaderEpoch"):
        await epoch_end({"bootstrap_servers": f"{HOST}:{unused}"}, tp, 0)


@pytest.mark.parametrize(
    ("versions", "error"),
    [({}, IncompatibleBrokerVersion), ({EpochEndRequest.API_KEY: (3, 9)}, NotImplementedError)],
)
def test_request_of_another_version_is_not_sent(
    versions: dict[int, tuple[int, int]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        EpochEndRequest(TopicPartition("events", 0), 0).prepare(versions)
