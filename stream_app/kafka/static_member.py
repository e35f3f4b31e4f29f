"""Static member of the group (KIP-345): a worker whose place waits for it while it restarts.

    worker ends ────> it leaves no group: its partitions wait for it, for as long as the session
    worker starts ──> the broker gives it the place, and a member id; the generation stays
    two have one id > the broker refuses the older one at its next request: it ends

aiokafka 0.14 joins with the instance's id, but sends heartbeats and commits without it. To these
the broker answers the same (UNKNOWN_MEMBER_ID) where another process has taken the place, and where
the session has expired; aiokafka then joins again at once. Two workers with one id would take the
place from each other, without an end. So both requests are defined here, in the versions that have
the instance: all brokers since Kafka 2.3 take them.
"""

from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetCommitResponse_v3
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatResponse_v1
from aiokafka.protocol.types import Array, Int32, Int64, Schema, String

FENCED_CODE: Final = 82
"""FENCED_INSTANCE_ID, which aiokafka does not know."""
_EPOCH_UNKNOWN: Final = -1


class FencedInstanceIdError(KafkaError):  # type: ignore[misc] # aiokafka has no types here
    """Another process has joined the group with this instance's id."""


class HeartbeatResponse(HeartbeatResponse_v1):  # type: ignore[misc] # as above
    """Response, version 3."""

    API_VERSION = 3


class HeartbeatStruct(RequestStruct):  # type: ignore[misc] # as above
    """Heartbeat as it is sent, version 3."""

    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = HeartbeatResponse
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


class StaticHeartbeat(Request[HeartbeatStruct]):  # type: ignore[misc] # as above
    """Heartbeat that names the instance.

    Args:
        request: aiokafka's request.
        instance: The instance's id.
    """

    API_KEY = 12

    def __init__(self, request: HeartbeatRequest, instance: str) -> None:
        self._request, self._instance = request, instance

    def build(self, request_struct_class: type[HeartbeatStruct]) -> HeartbeatStruct:
        """Return the request in a version that the broker takes."""
        of = self._request
        return request_struct_class(of._group, of._generation_id, of._member_id, self._instance)  # noqa: SLF001


class CommitResponse(OffsetCommitResponse_v3):  # type: ignore[misc] # as above
    """Response, version 7."""

    API_VERSION = 7


class CommitStruct(RequestStruct):  # type: ignore[misc] # as above
    """OffsetCommit as it is sent, version 7."""

    API_KEY = 8
    API_VERSION = 7
    RESPONSE_TYPE = CommitResponse
    SCHEMA = Schema(
        ("consumer_group", String("utf-8")),
        ("consumer_group_generation_id", Int32),
        ("consumer_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", String("utf-8")),
                    ),
                ),
            ),
        ),
    )


class StaticCommit(Request[CommitStruct]):  # type: ignore[misc] # as above
    """OffsetCommit that names the instance.

    Args:
        request: aiokafka's request.
        instance: The instance's id.
    """

    API_KEY = 8

    def __init__(self, request: OffsetCommitRequest, instance: str) -> None:
        self._request, self._instance = request, instance

    def build(self, request_struct_class: type[CommitStruct]) -> CommitStruct:
        """Return the request in a version that the broker takes."""
        of = self._request
        return request_struct_class(
            of._consumer_group,  # noqa: SLF001
            of._consumer_group_generation_id,  # noqa: SLF001
            of._consumer_id,  # noqa: SLF001
            self._instance,
            [
                (topic, [(it, offset, _EPOCH_UNKNOWN, text) for it, offset, text in partitions])
                for topic, partitions in of._topics  # noqa: SLF001
            ],
        )


class StaticMember:
    """Requests of one consumer to the group's coordinator, with the instance named in each.

    Args:
        consumer: The consumer, started and not subscribed yet.
        instance: The instance's id.
    """

    def __init__(self, consumer: AIOKafkaConsumer, instance: str) -> None:
        self.instance = instance
        self.is_fenced = False
        """Whether another process has taken the place in the group."""
        self._consumer = consumer
        self._coordinator = consumer._coordinator  # noqa: SLF001
        self._send = self._coordinator._send_req  # noqa: SLF001
        self._coordinator._send_req = self.send  # noqa: SLF001

    async def send(self, request: Any) -> Any:  # noqa: ANN401 - aiokafka's, without types
        """Send a request to the coordinator; return the response.

        Raises:
            FencedInstanceIdError: The broker refuses the instance.
        """
        if isinstance(request, HeartbeatRequest):
            request = StaticHeartbeat(request, self.instance)
        elif isinstance(request, OffsetCommitRequest):
            request = StaticCommit(request, self.instance)
        response = await self._send(request)
        if isinstance(request, StaticCommit):
            codes = {code for _, partitions in response.topics for _, code in partitions}
        else:
            codes = {getattr(response, "error_code", 0)}
        if FENCED_CODE in codes:
            self.is_fenced = True
            raise FencedInstanceIdError(self.instance)
        return response

    def watch_topics(self) -> None:
        """Join again when the topics get more partitions, as the leader of a group does.

        The broker names a leader that has restarted by its old member id, so that the member does
        not know that it leads. Another member that joins again changes nothing.
        """
        coordinator = self._coordinator
        if coordinator._group_subscription is None:  # noqa: SLF001 - a leader has it
            coordinator._group_subscription = set(self._consumer.subscription())  # noqa: SLF001
            coordinator._metadata_snapshot = coordinator._get_metadata_snapshot()  # noqa: SLF001
