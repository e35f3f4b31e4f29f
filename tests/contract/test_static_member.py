"""Static members of a real broker's group (KIP-345): what `kafka.static_member` relies on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewPartitions
from aiokafka.errors import UnknownMemberIdError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_app.embedded.servers import KafkaServer
from stream_app.kafka.assignor import StreamAppAssignor
from stream_app.kafka.static_member import FencedInstanceIdError, StaticMember
from tests.chaos.harness import wait_until
from tests.contract.apps import administration, becomes, create_topics, in_a_bounded_loop

SESSION_MS = 30_000
METADATA_MS = 500


class Group:
    """A group of static members, on a topic of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.name = f"static-{uuid4().hex[:12]}"

    @contextlib.asynccontextmanager
    async def member(
        self, instance: str, *, session_ms: int = SESSION_MS
    ) -> AsyncIterator[tuple[AIOKafkaConsumer, StaticMember]]:
        """Join the group; entered with an assignment. The end leaves nothing, as KIP-345 has it."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            group_id=self.name,
            group_instance_id=instance,
            partition_assignment_strategy=[StreamAppAssignor],
            enable_auto_commit=False,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=200,
            metadata_max_age_ms=METADATA_MS,
        )
        async with consumer:
            member = StaticMember(consumer, instance)
            consumer.subscribe([self.name])
            await consumer._subscription.wait_for_assignment()
            member.watch_topics()
            yield consumer, member


@pytest.fixture
def group(kafka: KafkaServer) -> Group:
    made = Group(kafka.address)
    asyncio.run(create_topics(made.address, {made.name: 2}))
    return made


def generation(consumer: AIOKafkaConsumer) -> int:
    return consumer._coordinator.generation


async def commit(consumer: AIOKafkaConsumer, group: Group, offset: int) -> None:
    """Commit once, under the consumer's generation and member id."""
    assignment = consumer._subscription.subscription.assignment
    found = {TopicPartition(group.name, 0): OffsetAndMetadata(offset, "")}
    await consumer._coordinator._do_commit_offsets(assignment, found)


@in_a_bounded_loop
async def test_member_that_restarts_has_its_partitions_again_in_the_same_generation(
    group: Group,
) -> None:
    async with group.member("a") as (one, _):
        await becomes(lambda: len(one.assignment()) == 2)
        async with group.member("b") as (other, _):
            await becomes(lambda: len(one.assignment()) == len(other.assignment()) == 1)
            before, held, id_ = generation(one), other.assignment(), other._coordinator.member_id
            assignment = one._subscription.subscription.assignment
        async with group.member("b") as (again, _):
            assert (generation(again), again.assignment()) == (before, held)
            assert again._coordinator.member_id != id_
            await commit(again, group, 5)
            await commit(one, group, 6)
            # Not even a rejoin: the assignment of the other member is the same object.
            assert one._subscription.subscription.assignment is assignment
            assert assignment.active


@in_a_bounded_loop
async def test_place_that_another_process_takes_is_lost_at_the_next_request(group: Group) -> None:
    async with group.member("a") as (one, fenced), group.member("a") as (other, holder):
        with pytest.raises(FencedInstanceIdError):
            await commit(one, group, 7)
        await commit(other, group, 8)
        await becomes(lambda: fenced.is_fenced)
        # It does not take the place back.
        await asyncio.sleep(1.0)
        assert not holder.is_fenced
        assert one._coordinator.member_id != other._coordinator.member_id
        found = await other._coordinator.fetch_committed_offsets([TopicPartition(group.name, 0)])
        assert [it.offset for it in found.values()] == [8]


@in_a_bounded_loop
async def test_heartbeat_alone_shows_that_the_place_is_lost(group: Group) -> None:
    async with group.member("a") as (_, fenced), group.member("a") as (other, holder):
        id_ = other._coordinator.member_id
        await becomes(lambda: fenced.is_fenced)
        # Not by a fight for the place: the older one has not joined again.
        assert (other._coordinator.member_id, holder.is_fenced) == (id_, False)


@in_a_bounded_loop
async def test_aiokafkas_own_requests_are_refused_as_those_of_an_expired_session(
    group: Group,
) -> None:
    async with group.member("a") as (one, member):
        coordinator = one._coordinator
        async with group.member("a"):
            beat = HeartbeatRequest(group.name, coordinator.generation, coordinator.member_id)
            assert (await member._send(beat)).error_code == UnknownMemberIdError.errno
            who = (group.name, coordinator.generation, coordinator.member_id, -1)
            request = OffsetCommitRequest(*who, [(group.name, [(0, 9, "")])])
            ((_, ((_, code),)),) = (await member._send(request)).topics
            assert code == UnknownMemberIdError.errno


@in_a_bounded_loop
async def test_member_whose_session_has_expired_joins_again(group: Group) -> None:
    async with group.member("a", session_ms=6_000) as (one, member):
        coordinator = one._coordinator
        before, id_ = generation(one), coordinator.member_id
        await commit(one, group, 1)  # a task that has just been made cannot be stopped
        await coordinator._stop_heartbeat_task()
        async with administration(group.address) as admin:

            async def is_gone() -> bool:
                (described,) = await admin.describe_consumer_groups([group.name])
                ((_, _, state, *_),) = described.groups
                return bool(state == "Empty")

            await wait_until(is_gone, SESSION_MS / 1000, "the session expires")
        coordinator._start_heartbeat_task()
        await becomes(lambda: coordinator.member_id not in {"", id_})
        await becomes(lambda: generation(one) > before)
        assert not member.is_fenced


@in_a_bounded_loop
async def test_leader_that_has_restarted_notices_new_partitions(group: Group) -> None:
    async with group.member("a"):
        pass
    async with group.member("a") as (one, _):
        assert len(one.assignment()) == 2
        async with administration(group.address) as admin:
            await admin.create_partitions({group.name: NewPartitions(total_count=4)})
        await becomes(lambda: len(one.assignment()) == 4)
