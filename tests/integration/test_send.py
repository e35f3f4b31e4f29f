import asyncio
from pathlib import Path

import pytest

from stream_app.embedded import KafkaServer
from stream_app.errors import SetupError
from stream_app.kafka import create_topics
from stream_app.send import send
from stream_app.settings import Kafka


def test_broker_that_falls_silent_ends_sending_with_what_was_sent(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"1\n2\n")
    with KafkaServer() as server:
        kafka = Kafka(broker=f"kafka://{server.address}")
        asyncio.run(create_topics(kafka, partitions=1, replication_factor=1))

        def fall_silent(_: int) -> None:
            server.pause()

        try:
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
        finally:
            server.resume()
    assert str(caught.value) == (
        f"Kafka at {server.address} does not answer (no answer in time); is it running? Set "
        "[kafka] broker or STREAM_APP_KAFKA_BROKER to where it is; events sent before that: 0"
    )
