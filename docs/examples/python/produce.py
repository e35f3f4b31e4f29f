"""Send events: one JSON value on each line of standard input, all of one pipeline.

python produce.py orders < orders.ndjson
"""

import asyncio
import os
import sys

from aiokafka import AIOKafkaProducer

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")
WAITING_MAX = 1_000


async def main(pipeline: str) -> None:
    # Idempotent: a retry after a lost response does not write the event twice.
    producer = AIOKafkaProducer(bootstrap_servers=BROKERS, enable_idempotence=True, linger_ms=20)
    waiting = []
    async with producer:
        for line in sys.stdin.buffer:
            if event := line.strip():
                waiting.append(await producer.send("events", event, key=pipeline.encode()))
            if len(waiting) == WAITING_MAX:
                await asyncio.gather(*waiting)
                waiting.clear()
        # An event is sent when the brokers have acknowledged it; a failure is raised here.
        await asyncio.gather(*waiting)


asyncio.run(main(sys.argv[1]))
