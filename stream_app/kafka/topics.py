"""Topics and the admin client: partition counts, creation, clear errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream_app.config.settings import Kafka
from stream_app.kafka.connection import (
    check_connection,
    client_options,
    missing_topic,
    translate_errors,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the brokers."""

    name: str
    partitions: int
    created: bool
    """Whether it was created by this call."""


@asynccontextmanager
async def administration(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a connected admin client; its errors are translated."""
    await check_connection(kafka)
    with translate_errors(kafka):
        admin = AIOKafkaAdminClient(**client_options(kafka))
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    # A request for all topics never creates one; a request for a topic by name may.
    return {
        described["topic"]: len(described["partitions"])
        for described in await admin.describe_topics()
    }


async def require_topics(kafka: Kafka, *names: str) -> list[int]:
    """Return the number of partitions of each of these topics.

    Raises:
        SetupError: A topic is missing, or Kafka cannot be reached, or refuses.
    """
    async with administration(kafka) as admin:
        existing = await _partition_counts(admin)
    for name in names:
        if name not in existing:
            raise missing_topic(kafka, name)
    return [existing[name] for name in names]


async def create_topics(
    kafka: Kafka, *, partitions: int, replication_factor: int
) -> tuple[Topic, Topic]:
    """Create the events and the receipts topic unless they exist; change nothing else.

    Raises:
        SetupError: Kafka cannot be reached, or refuses.
    """
    names = (kafka.events_topic, kafka.receipts_topic)
    async with administration(kafka) as admin:
        existing = await _partition_counts(admin)
        missing = [
            NewTopic(name, num_partitions=partitions, replication_factor=replication_factor)
            for name in names
            if name not in existing
        ]
        created = set()
        if missing:
            response = await admin.create_topics(missing)
            for name, code, *message in response.topic_errors:
                # Another process may have created it since the topics were listed.
                if code not in (0, errors.TopicAlreadyExistsError.errno):
                    with translate_errors(kafka, topic=name):
                        raise errors.for_code(code)(f"topic {name}: {message[0]}")
                if code == 0:
                    created.add(name)
            if len(created) < len(missing):
                existing = await _partition_counts(admin)
    events, receipts = (
        Topic(name, partitions if name in created else existing[name], name in created)
        for name in names
    )
    return events, receipts
