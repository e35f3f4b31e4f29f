"""Follow the delivery receipts, each once, as a member of a consumer group.

python receipts.py my-group
"""

import asyncio
import json
import os
import sys

from aiokafka import AIOKafkaConsumer

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")
SEEN_MAX = 100_000


def handle(receipt: dict) -> None:
    # Only these have an object; of a `retrying` or `failed` window nothing is delivered.
    is_stored = receipt["status"] in ("delivered", "redelivered")
    lines, key = (receipt["object"]["lines"], receipt["object"]["key"]) if is_stored else (0, "-")
    print(receipt["status"], receipt["destination"], lines, key, flush=True)


async def main(group: str) -> None:
    consumer = AIOKafkaConsumer(
        "delivery-receipts",
        bootstrap_servers=BROKERS,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    seen: dict[tuple[bytes, bytes], None] = {}  # a dict keeps its order: the oldest is first
    async with consumer:
        while True:
            batches = await consumer.getmany(timeout_ms=1_000)
            for message in (message for batch in batches.values() for message in batch):
                headers = dict(message.headers)
                name = headers["ce_source"], headers["ce_id"]
                if name not in seen:
                    seen[name] = None
                    handle(json.loads(message.value))
                if len(seen) > SEEN_MAX:
                    del seen[next(iter(seen))]
            if batches:
                await consumer.commit()


asyncio.run(main(sys.argv[1]))
