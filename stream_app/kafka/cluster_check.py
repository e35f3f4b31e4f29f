"""Check of Kafka before a worker runs, for `stream-app check`: nothing is written, no group joined.

    brokers ─> topics ─> their configuration ─> group ─> its commits

1. A connection to every broker, at the address that it advertises.
2. Metadata of both topics by name, with what the user may do there. No topic is created.
3. DescribeConfigs of both, where the user may.
4. DescribeGroups, with what the user may do, and OffsetFetch for the events topic.

What is found is judged by `cluster_findings`. aiokafka has no Metadata request that asks for
rights, and reads none from the response of DescribeGroups, so both are defined here, in the version
that all brokers since Kafka 2.3 take.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from stream_app.config.settings import Kafka, Settings
from stream_app.core.commit_metadata import Commit, UnmarkedCommitError
from stream_app.errors import InvariantError, SetupError, TransientError
from stream_app.kafka.assignor import PROTOCOL
from stream_app.kafka.cluster_findings import (
    CONFIGS,
    GroupFacts,
    PartitionFacts,
    ResourceCheck,
    TopicFacts,
    check_events_topic,
    check_group,
    check_receipts_topic,
)
from stream_app.kafka.commits import committed
from stream_app.kafka.connection import (
    REACH_MS_MAX,
    bootstrap_servers,
    brokers,
    client_options,
    translate_errors,
)
from stream_app.records import TopicPartition

SECONDS_MAX: Final = 30.0
"""Bound of the whole check, if brokers hang."""
_RETRY_SECONDS: Final = 0.3
_API_KEY: Final = 3
_API_VERSION: Final = 8
_NO_LEADER: Final = -1


class RightsResponse(Response):  # type: ignore[misc] # aiokafka has no types here
    """Response, version 8."""

    API_KEY = _API_KEY
    API_VERSION = _API_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class RightsStruct(RequestStruct):  # type: ignore[misc] # as above
    """Request as it is sent, version 8."""

    API_KEY = _API_KEY
    API_VERSION = _API_VERSION
    RESPONSE_TYPE = RightsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class RightsRequest(Request[RightsStruct]):  # type: ignore[misc] # as above
    """Metadata of topics by name, with the operations that the user may perform.

    Args:
        topics: Names of the topics; none of them is created.
    """

    API_KEY = _API_KEY

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[RightsStruct]) -> RightsStruct:
        """Return the request in a version that the broker takes."""
        return request_struct_class(self._topics, False, False, True)  # noqa: FBT003 - as sent


class GroupRightsStruct(DescribeGroupsRequest_v3):  # type: ignore[misc] # as above
    """DescribeGroups as it is sent, version 3, with the response that belongs to it."""

    RESPONSE_TYPE = DescribeGroupsResponse_v3


class GroupRightsRequest(Request[GroupRightsStruct]):  # type: ignore[misc] # as above
    """DescribeGroups for one group, with the operations that the user may perform.

    Args:
        group: The group.
    """

    API_KEY = GroupRightsStruct.API_KEY

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[GroupRightsStruct]) -> GroupRightsStruct:
        """Return the request in a version that the broker takes."""
        return request_struct_class([self._group], True)  # noqa: FBT003 - as sent


async def check_kafka(
    settings: Settings, *, seconds_max: float = SECONDS_MAX
) -> list[ResourceCheck]:
    """Check brokers, topics, rights and the group, without a trace.

    Args:
        settings: The settings.
        seconds_max: Bound of the whole check; what was found until then is returned.
    """
    kafka = settings.kafka
    address = ", ".join(bootstrap_servers(kafka))
    found: list[ResourceCheck] = []
    try:
        async with asyncio.timeout(seconds_max):
            await _check(settings, found)
    except SetupError as error:
        found.append(ResourceCheck("cluster", address, problems=(str(error),)))
    except TimeoutError:
        problem = (
            f"Kafka at {address} has not responded to everything within {seconds_max:.3g} s; are "
            "its brokers well? Run the check again"
        )
        found.append(ResourceCheck("cluster", address, problems=(problem,)))
    return found


async def _check(settings: Settings, found: list[ResourceCheck]) -> None:
    """Append what is found, in the order of the requests.

    Raises:
        SetupError: Kafka cannot be reached, or refuses.
    """
    kafka = settings.kafka
    reached = await brokers(kafka)
    for it in reached:
        problems = () if it.problem is None else (it.problem,)
        found.append(ResourceCheck("broker", str(it.id), f"{it.host}:{it.port}", problems))
    if any(it.problem is not None for it in reached):
        unchecked = "topics, rights and the group, since a broker cannot be reached"
        found.append(
            ResourceCheck("cluster", ", ".join(bootstrap_servers(kafka)), unchecked=(unchecked,))
        )
        return
    options = {**client_options(kafka), "request_timeout_ms": REACH_MS_MAX}
    with translate_errors(kafka):
        client, admin = AIOKafkaClient(**options), AIOKafkaAdminClient(**options)
        try:
            await client.bootstrap()
            await admin.start()
            events, receipts = await _topics(kafka, client, admin)
            found.append(check_events_topic(events, kafka, settings.delivery))
            found.append(check_receipts_topic(receipts, kafka))
            group = await _group(kafka, client, admin, events)
            found.append(check_group(group, kafka, PROTOCOL))
        except (errors.IncompatibleBrokerVersion, NotImplementedError) as error:
            raise SetupError(
                f"Kafka is older than 2.3 ({error}); workers need a newer one"
            ) from error
        finally:
            await client.close()
            await admin.close()


async def _topics(
    kafka: Kafka, client: AIOKafkaClient, admin: AIOKafkaAdminClient
) -> list[TopicFacts]:
    names = [kafka.events_topic, kafka.receipts_topic]
    response = await client.send(client.get_random_node(), RightsRequest(names))
    described = {it[1]: it for it in response.topics}
    return [await _topic(admin, *described[name]) for name in names]


async def _topic(
    admin: AIOKafkaAdminClient,
    code: int,
    name: str,
    _is_internal: bool,  # noqa: FBT001 - as received
    partitions: Sequence[tuple[int, int, int, int, Sequence[int], Sequence[int], Sequence[int]]],
    operations: int,
) -> TopicFacts:
    error = errors.for_code(code)
    if error is errors.TopicAuthorizationFailedError:
        return TopicFacts(name, is_visible=False)
    if error is errors.UnknownTopicOrPartitionError:
        return TopicFacts(name, exists=False)
    if error is not errors.NoError:
        raise error(f"topic '{name}'")
    return TopicFacts(
        name,
        partitions=tuple(
            PartitionFacts(partition, leader != _NO_LEADER, len(isr))
            for _, partition, leader, _, _, isr, _ in sorted(partitions, key=lambda it: it[1])
        ),
        operations=operations,
        configs=await _configs(admin, name),
    )


async def _configs(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str] | None:
    """Return a topic's configuration; None: the user may not describe it."""
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((code, message, _, _, entries),) = response.resources
    error = errors.for_code(code)
    if error is errors.TopicAuthorizationFailedError:
        return None
    if error is not errors.NoError:
        raise error(message)
    return {name: value for name, value, *_ in entries if name in CONFIGS and value is not None}


async def _group(
    kafka: Kafka, client: AIOKafkaClient, admin: AIOKafkaAdminClient, events: TopicFacts
) -> GroupFacts:
    """Return the group's facts; a coordinator that is just being elected is waited for."""
    while True:
        try:
            node = await client.coordinator_lookup(CoordinationType.GROUP, kafka.group)
            response = await client.send(node, GroupRightsRequest(kafka.group))
            ((code, _, state, kind, protocol, members, operations),) = response.groups
            error = errors.for_code(code)
            if error is not errors.NoError:
                raise error(f"group '{kafka.group}'")
            break
        except errors.GroupAuthorizationFailedError:
            return GroupFacts(is_visible=False)
        except errors.KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(_RETRY_SECONDS)
    tps = [TopicPartition(events.name, it.partition) for it in events.partitions]
    return GroupFacts(
        state=state,
        kind=kind,
        protocol=protocol,
        members=len(members),
        clients=tuple(f"{client} at {host.lstrip('/')}" for _, client, host, *_ in members),
        operations=operations,
        commits=await _commits(kafka, admin, tps),
    )


async def _commits(
    kafka: Kafka, admin: AIOKafkaAdminClient, tps: Sequence[TopicPartition]
) -> dict[int, Commit | UnmarkedCommitError] | None:
    """Return the group's commits of the events topic, by partition; None: they cannot be read."""
    if not tps:
        return {}
    try:
        found = await committed(
            admin, kafka.group, tps, accept_unmarked=kafka.accept_unmarked_commits
        )
    except TransientError:
        return None
    except InvariantError as error:
        raise SetupError(f"group '{kafka.group}': {error}") from error
    return {tp.partition: commit for tp, commit in found.items()}
