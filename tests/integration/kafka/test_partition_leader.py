"""The record batch at an offset, as the leader of a partition has it, or refuses it."""

from typing import Any

from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest

from stream_app.embedded.servers import KafkaServer
from stream_app.kafka.partition_leader import Fetched, fetched
from tests.chaos.harness import in_a_loop
from tests.chaos.kafka_proxy import KafkaProxy
from tests.integration.kafka.test_leader_epochs import three_events


@in_a_loop
async def test_leader_has_a_batch_or_is_at_its_end_or_refuses(
    own_kafka: KafkaServer, proxied_ports: tuple[int, int]
) -> None:
    codes: list[int] = []

    def rule(request: type[Request[Any]]) -> int | None:
        return codes.pop(0) if request is FetchRequest and codes else None

    behind, before = proxied_ports
    async with KafkaProxy(upstream_port=behind, port=before, rule=rule) as proxy:
        tp = await three_events(own_kafka.address)
        options = {"bootstrap_servers": proxy.address}
        codes[:] = [6]  # not the leader
        assert await fetched(options, tp, 2) == Fetched(3, None)
        assert await fetched(options, tp, 3) == Fetched(3, None)
        codes[:] = [1]  # out of range
        assert await fetched(options, tp, 2) == Fetched(None, None)
        codes[:] = [2]
        refused = await fetched(options, tp, 2)
        assert refused.log_end is None
        assert refused.refusal is not None
        assert refused.refusal.startswith("CorruptRecordException: ")
        assert proxy.replaced == 3
