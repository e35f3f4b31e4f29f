"""`stream-app check` asks a real broker for all that a worker needs of it."""

import asyncio
import os
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from stream_app.config.settings import S3, Delivery, Kafka, Settings
from stream_app.embedded.process import HOST
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.kafka.cluster_check import check_kafka
from tests.integration.commands.test_check import documents_of
from tests.integration.commands.test_cli import NEED_KAFKA, Outcome, Shell


def shell_at(folder: Path, broker: str, prefix: str, s3: S3Server) -> Shell:
    """Return a shell whose one destination can be written."""
    s3.create_bucket(bucket := f"test-{os.urandom(6).hex()}")
    destinations = (
        f'group = "{prefix}group"\n[s3]\nendpoint_url = "{s3.endpoint_url}"\n'
        f'[[destinations]]\nid = "a"\nbucket = "{bucket}"\n'
    )
    return Shell(folder, broker, prefix, destinations, s3.environment).configure()


@pytest.fixture
def shell(tmp_path: Path, kafka: KafkaServer, topic_prefix: str, s3: S3Server) -> Shell:
    return shell_at(tmp_path, kafka.address, topic_prefix, s3)


def problems(outcome: Outcome) -> dict[str, list[str]]:
    """Return the problems of each resource that has some; the last document counts them."""
    found = {it["resource"]: it["problems"] for it in documents_of(outcome, "kafka")}
    (summary,) = documents_of(outcome, "summary")
    assert summary["kafka_problems"] == sum(map(len, found.values()))
    assert outcome.status == bool(summary["kafka_problems"])
    return {resource: lines for resource, lines in found.items() if lines}


def test_broker_topics_and_group_are_in_the_table_and_in_documents(shell: Shell) -> None:
    missing = shell.run("check")
    assert missing.status == 1
    assert missing.error.splitlines() == [
        f"stream-app: topic '{it}' does not exist; create it with: stream-app topics"
        for it in (shell.events, shell.receipts)
    ]
    assert shell.run("topics", "--partitions", "2").status == 0
    outcome = shell.run("check")
    assert (outcome.status, outcome.error) == (0, "")
    table, _, rest = outcome.output.partition("\n\n")
    assert [line.split(maxsplit=2) for line in table.splitlines()] == [
        ["KAFKA", "RESULT", "FOUND"],
        ["broker", "1", f"well    {shell.broker}"],
        ["topic", shell.events, "well    2 partitions, kept for 7 days, READ and WRITE"],
        ["topic", shell.receipts, "well    2 partitions, kept for 7 days, READ and WRITE"],
        ["group", f"{shell.prefix}group", "well    0 members, 0 partitions with a commit"],
    ]
    assert rest.splitlines()[-1] == (
        "stream_app.toml: no mistakes; 1 destination, all can be written; Kafka has what a worker "
        "needs"
    )
    documents = documents_of(shell.run("check", "--json"), "kafka")
    assert [it["resource"] for it in documents] == ["broker", "topic", "topic", "group"]
    assert documents[0] == {
        "resource": "broker",
        "name": "1",
        "detail": shell.broker,
        "problems": [],
        "notes": [],
        "unchecked": [],
    }
    with_events = shell.run("check", "--event", "-", standard_input=b"{}")
    assert "KAFKA" not in with_events.output


async def create(shell: Shell, topic: str, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=shell.broker)
    await admin.start()
    try:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        response = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=named)])
        assert [code for _, code, *_ in response.topic_errors] == [0]
    finally:
        await admin.close()


def test_configuration_of_the_topics_that_loses_something_is_found(shell: Shell) -> None:
    asyncio.run(
        create(
            shell,
            shell.events,
            cleanup_policy="compact,delete",
            retention_ms="3600000",
            retention_bytes="1000000000",
        )
    )
    asyncio.run(create(shell, shell.receipts, max_message_bytes="300000", min_insync_replicas="2"))
    outcome = shell.run("check")
    assert outcome.status == 1
    note, *lines = outcome.error.splitlines()
    assert note.startswith(f"stream-app: note: topic '{shell.events}' has retention.bytes=")
    assert [line.split(": ", 1)[1].split(",")[0] for line in lines] == [
        f"topic '{shell.events}' has cleanup.policy=compact",
        f"topic '{shell.events}' keeps events for 1 h (retention.ms)",
        f"topic '{shell.receipts}' has max.message.bytes=300000: larger receipts are shortened",
        (
            f"topic '{shell.receipts}': fewer replicas in sync than min.insync.replicas=2 in "
            "partition 0: no receipt is taken there; start the missing brokers"
        ),
    ]


def test_members_and_commits_of_another_program_are_found(shell: Shell) -> None:
    assert shell.run("topics", "--partitions", "1").status == 0

    async def scenario() -> tuple[Outcome, Outcome]:
        consumer = AIOKafkaConsumer(
            shell.events,
            bootstrap_servers=shell.broker,
            group_id=f"{shell.prefix}group",
            client_id="another",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            member = await asyncio.to_thread(shell.run, "check", "--json")
            await consumer.commit({TopicPartition(shell.events, 0): 0})
        finally:
            await consumer.stop()
        return member, await asyncio.to_thread(shell.run, "check", "--json")

    member, commit = asyncio.run(scenario())
    ((first,),) = problems(member).values()
    assert f"has members with the protocol 'roundrobin' (another at {HOST})" in first
    ((second,),) = problems(commit).values()
    assert "a commit of another program for partition 0 (partition 0: offset 0)" in second


# --- brokers that cannot be reached -----------------------------------------------------------


def test_advertised_address_that_cannot_be_reached_is_named_by_every_command(
    own_kafka: KafkaServer,
    proxied_ports: tuple[int, int],
    s3: S3Server,
    tmp_path: Path,
    topic_prefix: str,
) -> None:
    behind, before = proxied_ports  # Nothing listens where the broker says that it is.
    shell = shell_at(tmp_path, f"{HOST}:{behind}", topic_prefix, s3)
    assert own_kafka.address != shell.broker
    line = (
        f"Kafka at {shell.broker} responds, but advertises its broker 1 as {HOST}:{before}, which "
        "cannot be reached from here (Connection refused); set that broker's advertised.listeners "
        "to an address that this machine resolves and reaches, or start the broker if it is down"
    )
    for command in (*NEED_KAFKA, ["inspector"]):
        assert shell.run(*command).only_error(1) == f"stream-app: {line}", command
    outcome = shell.run("check", "--json")
    assert problems(outcome) == {"broker": [line]}
    (cluster,) = [it for it in documents_of(outcome, "kafka") if it["resource"] == "cluster"]
    assert cluster["unchecked"] == [
        "topics, rights and the group, since a broker cannot be reached"
    ]


def test_broker_that_hangs_ends_the_check_within_its_bound(
    own_kafka: KafkaServer, s3: S3Server, tmp_path: Path, topic_prefix: str
) -> None:
    shell = shell_at(tmp_path, own_kafka.address, topic_prefix, s3)
    own_kafka.pause()
    outcome = shell.run("check", "--json")
    (problem,) = problems(outcome)["cluster"]
    assert problem.startswith(f"Kafka at {own_kafka.address} does not respond (timed out);")
    settings = Settings(Kafka(broker=f"kafka://{own_kafka.address}"), S3(), Delivery(), ())
    (cluster,) = asyncio.run(check_kafka(settings, seconds_max=0.5))
    assert cluster.problems[0].startswith(
        f"Kafka at {own_kafka.address} has not responded to everything within 0.5 s"
    )
