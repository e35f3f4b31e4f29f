"""Offsets and closings that the group has committed, read through the admin client."""

from collections.abc import Sequence
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition as ClientPartition

from stream_app.config.settings import Kafka
from stream_app.core.commit_metadata import Commit, UnmarkedCommitError, decode
from stream_app.errors import SetupError, TransientError
from stream_app.kafka.topics import administration
from stream_app.records import TopicPartition

NONE_COMMITTED: Final = -1
"""The offset that Kafka returns for a partition without a commit."""


async def committed(
    admin: AIOKafkaAdminClient,
    group: str,
    tps: Sequence[TopicPartition],
    *,
    accept_unmarked: bool,
) -> dict[TopicPartition, Commit | UnmarkedCommitError]:
    """Return the commits of a group, by partition; partitions without a commit are absent.

    Args:
        admin: A connected client; its errors pass.
        group: The consumer group.
        tps: The partitions to look up.
        accept_unmarked: See `decode`.

    Raises:
        TransientError: The response leaves a partition out.
    """
    found = await admin.list_consumer_group_offsets(
        group, partitions=[ClientPartition(*tp) for tp in tps]
    )
    commits: dict[TopicPartition, Commit | UnmarkedCommitError] = {}
    for tp in tps:
        commit = found.get(ClientPartition(*tp))
        if commit is None:
            # Kafka returns every requested partition, with -1 where nothing is committed. But
            # aiokafka drops an error of the whole group, such as a coordinator that is still
            # loading: to take that for "nothing" would deliver everything again.
            raise TransientError(
                "OffsetFetch", f"the response leaves out {tp.topic}/{tp.partition}"
            )
        if commit.offset != NONE_COMMITTED:
            try:
                commits[tp] = decode(
                    commit.offset, commit.metadata, accept_unmarked=accept_unmarked
                )
            except UnmarkedCommitError as error:
                commits[tp] = error
    return commits


async def read_commits(
    kafka: Kafka, partitions: Sequence[int]
) -> dict[int, Commit | UnmarkedCommitError]:
    """Return the group's commits of the events topic, by partition; those without one are absent.

    Raises:
        SetupError: Kafka cannot be reached, or refuses.
    """
    if not partitions:
        return {}
    tps = [TopicPartition(kafka.events_topic, it) for it in partitions]
    async with administration(kafka) as admin:
        try:
            commits = await committed(
                admin, kafka.group, tps, accept_unmarked=kafka.accept_unmarked_commits
            )
        except TransientError as error:
            raise SetupError(
                f"Kafka does not return what group '{kafka.group}' has committed; run it again, "
                "and check that its user may describe the group"
            ) from error
    return {tp.partition: commit for tp, commit in commits.items()}
