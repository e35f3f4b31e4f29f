"""Trial of Kafka brokers: the commands, and deliveries while nodes of a cluster are killed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.harness import SETTLED_SECONDS_MAX, Lab, wait_until
from tests.compat.brokers import NODES, Brokers, Node
from tests.compat.trial import Deliveries, deliveries

EVENTS: Final = 20
EVENTS_PER_SECOND: Final = 50
RECEIPTS_AFTER_A_KILL: Final = 4
"""New windows of both workers, so that the group goes on without the node."""


async def commands(lab: Lab) -> None:
    """Create topics, send events and read their receipts by the commands."""
    name = f"{lab.name}-commands"
    environment = {
        "STREAM_APP_KAFKA_GROUP": name,
        "STREAM_APP_KAFKA_EVENTS_TOPIC": f"{name}-events",
        "STREAM_APP_KAFKA_RECEIPTS_TOPIC": f"{name}-receipts",
    }
    created = ("--partitions", "2", "--replication-factor", str(lab.replication_factor))
    await _command(lab, environment, "topics", *created)
    lines = "".join(f'{{"number":{it}}}\n' for it in range(EVENTS))
    await _command(lab, environment, "send", "--pipeline", "orders", text=lines)
    worker = lab.launch_worker(environment=environment)

    async def delivered() -> bool:
        options = ("--from-beginning", "--exit-at-end", "--json")
        printed = await _command(lab, environment, "receipts", *options)
        receipts = [json.loads(it)["receipt"] for it in printed.splitlines()]
        return sum(it["counts"]["delivered"] for it in receipts) == EVENTS

    await wait_until(delivered, SETTLED_SECONDS_MAX, "receipts of all events that were sent")
    await worker.terminate()


async def _command(lab: Lab, environment: Mapping[str, str], *command: str, text: str = "") -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "stream_app", *command],
        env={**lab.environment, **environment, "STREAM_APP_CONFIG": str(lab.configuration)},
        input=text,
        capture_output=True,
        text=True,
        timeout=SETTLED_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def deliver_while_nodes_die(lab: Lab, brokers: Brokers) -> Deliveries:
    """Kill the coordinator's node, then a leader's, under two workers and a steady load."""
    admin = AIOKafkaAdminClient(bootstrap_servers=lab.broker)
    await admin.start()
    try:
        await lab.start_workers(2)
        async with lab.load.steady(EVENTS_PER_SECOND):
            await lab.published(RECEIPTS_AFTER_A_KILL)
            await _survived(lab, admin, brokers.node(await admin.find_coordinator(lab.name)))
            (topic,) = await admin.describe_topics([lab.events_topic])
            await _survived(lab, admin, brokers.node(topic["partitions"][0]["leader"]))
        await lab.settled()
    finally:
        await admin.close()
    return await deliveries(lab)


async def _survived(lab: Lab, admin: AIOKafkaAdminClient, node: Node) -> None:
    """Kill a node, wait for receipts without it, start it, and wait until it has all copies."""
    await asyncio.to_thread(node.kill)
    before = len(lab.receipts)

    async def goes_on() -> bool:
        try:
            return len(await lab.read_receipts()) >= before + RECEIPTS_AFTER_A_KILL
        except KafkaError:
            return False  # the leader of the receipts is being elected

    await wait_until(goes_on, SETTLED_SECONDS_MAX, f"receipts without node {node.id}")
    await asyncio.to_thread(node.start)

    async def is_complete() -> bool:
        try:
            topics = await admin.describe_topics([lab.events_topic, lab.receipts_topic])
        except KafkaError:
            return False
        return all(len(it["isr"]) == NODES for topic in topics for it in topic["partitions"])

    await wait_until(is_complete, SETTLED_SECONDS_MAX, f"all copies on node {node.id}")
