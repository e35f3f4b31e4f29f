"""Leader epochs: where the leader of a partition says that an epoch ends in its log (KIP-320).

Each change of a partition's leader begins an epoch, and each record batch has the one under which
it was written. A log that has lost records ends an epoch earlier than it was read, however far it
has grown again.

aiokafka has no such request, so it is defined here, in the version that all brokers since Kafka 2.1
take.
"""

from collections.abc import Mapping
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String

from stream_app.kafka.partition_leader import LEADER_SECONDS_MAX, ask_leader, with_leader
from stream_app.records import TopicPartition

_API_KEY: Final = 23
_API_VERSION: Final = 2
_CURRENT_UNKNOWN: Final = -1


class EpochEndResponse(Response):  # type: ignore[misc] # aiokafka has no types here
    """Response, version 2."""

    API_KEY = _API_KEY
    API_VERSION = _API_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                    ),
                ),
            ),
        ),
    )


class EpochEndStruct(RequestStruct):  # type: ignore[misc] # as above
    """Request as it is sent, version 2."""

    API_KEY = _API_KEY
    API_VERSION = _API_VERSION
    RESPONSE_TYPE = EpochEndResponse
    SCHEMA = Schema(
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class EpochEndRequest(Request[EpochEndStruct]):  # type: ignore[misc] # as above
    """OffsetForLeaderEpoch for one partition.

    Args:
        tp: Which partition.
        leader_epoch: The epoch.
    """

    API_KEY = _API_KEY

    def __init__(self, tp: TopicPartition, leader_epoch: int) -> None:
        self._topics = [(tp.topic, [(tp.partition, _CURRENT_UNKNOWN, leader_epoch)])]

    def build(self, request_struct_class: type[EpochEndStruct]) -> EpochEndStruct:
        """Return the request in a version that the broker takes."""
        return request_struct_class(self._topics)


async def epoch_end(
    options: Mapping[str, Any],
    tp: TopicPartition,
    leader_epoch: int,
    *,
    seconds_max: float = LEADER_SECONDS_MAX,
) -> int | None:
    """Return the first offset beyond an epoch, and all before it, in the log of a partition.

    Args:
        options: Of the connection.
        tp: Which partition.
        leader_epoch: The epoch.
        seconds_max: Timeout.

    Returns:
        The offset; None where the broker states none: it does not know the epoch, or the request,
        or its user may not describe the topic.

    Raises:
        TransientError: The leader does not respond at present.
    """

    async def ask(client: AIOKafkaClient) -> int | None:
        try:
            response = await ask_leader(client, tp, EpochEndRequest(tp, leader_epoch))
        except NotImplementedError:
            return None  # None of the versions of the request that the broker takes is ours.
        except KafkaError as error:
            if error.retriable:
                raise
            return None
        (((_, ((code, _, _, end),)),),) = [response.topics]
        refusal = for_code(code)
        if refusal is not NoError and refusal.retriable:
            raise refusal
        return end if refusal is NoError and end >= 0 else None

    return await with_leader(options, "OffsetForLeaderEpoch", tp, ask, seconds_max)
