"""Starting and stopping consumers that belong to no group."""

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from stream_app.kafka import client_options, reach
from stream_app.settings import Kafka

REQUEST_MS_MAX: Final = 10_000
"""How long a broker may take to answer."""
FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one fetch; one record that is larger comes all the same."""


async def start(kafka: Kafka, **options: Any) -> AIOKafkaConsumer:  # noqa: ANN401 - aiokafka's
    """Return a consumer that is connected; to be called within `explained`.

    Raises:
        SetupError: Kafka cannot be reached.
    """
    await reach(kafka)
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=REQUEST_MS_MAX,
        fetch_max_bytes=FETCH_BYTES_MAX,
        **options,
    )
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise
    return consumer


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, be its broker away or not."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        # aiokafka waits for fetches that it has cancelled itself, and where one fails just then it
        # looks as if we were cancelled; and its connections stay.
        await consumer._client.close()  # noqa: SLF001 - it has no other way
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
