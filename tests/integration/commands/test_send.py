import asyncio
from pathlib import Path

import pytest

from stream_app.config.settings import Kafka
from stream_app.embedded.servers import KafkaServer
from stream_app.errors import SetupError
from stream_app.kafka.event_producer import send
from stream_app.kafka.topics import create_topics


def test_broker_that_falls_silent_ends_sending_with_what_was_sent(
    own_kafka: KafkaServer, tmp_path: Path, topic_prefix: str
) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"1\n2\n")
    kafka = Kafka(
        broker=f"kafka://{own_kafka.address}",
        events_topic=f"{topic_prefix}events",
        receipts_topic=f"{topic_prefix}receipts",
    )
    asyncio.run(create_topics(kafka, partitions=1, replication_factor=1))

    def fall_silent(_: int) -> None:
        own_kafka.pause()

    with pytest.raises(SetupError) as caught:
        asyncio.run(
            send(
                kafka,
                [str(events)],
                pipeline=None,
                read=fall_silent,
                acknowledge_seconds_max=1,
            )
        )
    assert str(caught.value) == (
        f"Kafka at {own_kafka.address} does not respond (timed out); is it running? Set "
        "[kafka] broker or STREAM_APP_KAFKA_BROKER to its address; events sent before that: 0"
    )
