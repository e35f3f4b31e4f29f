"""The programs of docs/examples send events and read receipts: a real broker, a real worker.

Each runs as on its page. Tests whose tool (npm, javac, kcat) is missing are skipped with a reason.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.partitioner import murmur2

from stream_app.config.settings import Kafka
from stream_app.core.receipt import Status
from stream_app.embedded.kafka_jars import kafka_jars
from stream_app.embedded.process import becomes_true
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.kafka.topics import administration
from tests.docs.blocks import ROOT

EXAMPLES = ROOT / "docs" / "examples"
SECONDS_MAX = 180
POLL_MS = 500
INSTALL_SECONDS_MAX = 240
PARTITIONS = {"events": 12, "delivery-receipts": 1}
NODE_VERSION_MIN = (20, 19, 4)
PIPELINE = "orders"
CONFIG = """\
[kafka]
broker = "kafka://{broker}"
[s3]
endpoint_url = "{endpoint_url}"
[delivery]
window_seconds = 1
grace_seconds = 0
give_up_after_seconds = 1
[[destinations]]
id = "orders-archive"
pipeline = "orders"
bucket = "my-bucket"
payload = "$event.body"
[[destinations]]
id = "nothing"
pipeline = "orders"
bucket = "my-bucket"
payload = "undefined"
[[destinations]]
id = "late"
pipeline = "orders"
bucket = "late-bucket"
payload = "$event.body"
"""
"""Of `late`, whose bucket is created later, windows are given up and redelivered."""
EVENTS = "".join(f'{{"body":{{"order":{number},"name":"Zoë"}}}}\n' for number in range(3))
LINES = "".join(f'{{"order":{number},"name":"Zoë"}}\n' for number in range(3))
Command = Callable[..., list[str]]
Record = ConsumerRecord[bytes, bytes]


@dataclass(frozen=True)
class Place:
    """Servers with the topics' and the group's default names, and a worker."""

    kafka: KafkaServer
    s3: S3Server
    environment: Mapping[str, str]

    def run(self, command: Sequence[str], text: str = "") -> str:
        """Run a program to its end and return what it printed."""
        done = subprocess.run(
            command,
            input=text,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clients")
    with KafkaServer() as kafka, S3Server() as s3:
        s3.create_bucket("my-bucket")
        config = folder / "stream_app.toml"
        config.write_text(CONFIG.format(broker=kafka.address, endpoint_url=s3.endpoint_url))
        environment = {
            **os.environ,
            **s3.environment,
            "KAFKA_BROKERS": kafka.address,
            "S3_ENDPOINT_URL": s3.endpoint_url,
            "STREAM_APP_CONFIG": str(config),
            "PYTHONUTF8": "1",
        }
        asyncio.run(create_topics(kafka))
        with (folder / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "stream_app", "worker"],
                env=environment,
                stdout=log,
                stderr=log,
            )
            place = Place(kafka, s3, environment)
            try:
                place.run([sys.executable, str(EXAMPLES / "python/produce.py"), PIPELINE], EVENTS)
                assert becomes_true(lambda: answered(place), SECONDS_MAX)
                s3.create_bucket("late-bucket")
                place.run([sys.executable, "-m", "stream_app", "redeliver"])
                yield place
            finally:
                worker.terminate()
                worker.wait(SECONDS_MAX)


async def create_topics(kafka: KafkaServer) -> None:
    # Receipts in one partition: the last one that is sent is the last one that is read.
    async with administration(Kafka(broker=f"kafka://{kafka.address}")) as admin:
        await admin.create_topics([NewTopic(name, count, 1) for name, count in PARTITIONS.items()])


@pytest.fixture(scope="module")
def python() -> Command:
    return lambda program, *rest: [sys.executable, str(EXAMPLES / f"python/{program}.py"), *rest]


def install_node_examples(folder: Path, *packages: str) -> str:
    """Install the examples' packages, and others, beside a copy of them; return Node's program."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is not on this machine")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version))) < NODE_VERSION_MIN:
        pytest.skip(f"node is {version.strip()}, and the client needs a newer one")
    shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True)
    options = (
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--ignore-scripts",
        "--omit=optional",
    )
    installed = subprocess.run(
        [npm, "install", *options, *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS_MAX,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the packages: {installed.stderr.strip()[-200:]}")
    return node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("node")
    program = install_node_examples(folder)
    return lambda name, *rest: [program, str(folder / f"{name}.js"), *rest]


@pytest.fixture(scope="module")
def java() -> Command:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("no JDK (java and javac) is on this machine")
    return lambda program, *rest: [
        *(java, "-cp", f"{kafka_jars()}/*"),
        str(EXAMPLES / "java" / f"{program.capitalize()}.java"),
        *rest,
    ]


@pytest.fixture(scope="module")
def kcat() -> Command:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not on this machine")
    return lambda program, *rest: ["bash", str(EXAMPLES / "kcat" / f"{program}.sh"), *rest]


@pytest.fixture(params=["python", "node", "java", "kcat"])
def client(request: pytest.FixtureRequest) -> tuple[str, Command]:
    command: Command = request.getfixturevalue(request.param)
    return request.param, command


def records(place: Place, topic: str) -> list[Record]:
    """Return the records of a topic, by partition and offset."""

    async def read() -> list[Record]:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS[topic])]
        async with AIOKafkaConsumer(bootstrap_servers=place.kafka.address) as consumer:
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Record] = []
            while any([await consumer.position(it) < end for it, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    found += batch
        return sorted(found, key=lambda record: (record.partition, record.offset))

    return asyncio.run(asyncio.wait_for(read(), SECONDS_MAX))


def receipts(place: Place) -> list[Record]:
    """Return all receipts, each once."""
    each: dict[tuple[bytes, bytes], Record] = {}
    for record in records(place, "delivery-receipts"):
        headers = dict(record.headers)
        each.setdefault((headers["ce_source"], headers["ce_id"]), record)
    return list(each.values())


def answered(place: Place) -> bool:
    """Whether every event has its receipt at each destination."""
    counts = {destination: {} for destination in ("orders-archive", "nothing", "late")}
    for record in receipts(place):
        receipt = json.loads(record.value)
        if receipt["status"] != "retrying" and receipt["destination"] in counts:
            window = receipt["source"]["partition"], receipt["source"]["first_offset"]
            counts[receipt["destination"]][window] = receipt["counts"]["matched"]
    sent = len(records(place, "events"))
    return all(sum(it.values()) == sent for it in counts.values())


def publish_again(place: Place, last: str) -> None:
    """Publish every receipt a second time, and a new one of a destination named `last`."""
    each = receipts(place)
    nothing = next(record for record in each if record.key == b"nothing")
    headers = dict(nothing.headers) | {"ce_id": uuid4().hex.encode()}
    value = json.loads(nothing.value) | {"destination": last}

    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=place.kafka.address) as producer:
            for key, value_, headers_ in (
                *((record.key, record.value, list(record.headers)) for record in each),
                (last.encode(), json.dumps(value).encode(), list(headers.items())),
            ):
                await producer.send_and_wait("delivery-receipts", value_, key=key, headers=headers_)

    asyncio.run(publish())


def follow(place: Place, command: Sequence[str], last: str) -> list[str]:
    """Run an endless program until it has printed the receipt named `last`."""

    async def read() -> list[str]:
        process = await asyncio.create_subprocess_exec(
            *command, env=place.environment, stdout=PIPE, stderr=PIPE
        )
        assert process.stdout is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(SECONDS_MAX):
                while not lines or f" {last} " not in lines[-1]:
                    line = await process.stdout.readline()
                    assert line, f"it ended: {(await process.communicate())[1].decode()}"
                    lines.append(line.decode().rstrip("\n"))
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()
        return lines

    return asyncio.run(read())


def test_program_sends_each_event_under_its_pipeline(
    place: Place, client: tuple[str, Command]
) -> None:
    _, command = client
    before = {(record.partition, record.offset) for record in records(place, "events")}
    place.run(command("produce", PIPELINE), EVENTS)
    sent = [it for it in records(place, "events") if (it.partition, it.offset) not in before]
    assert "".join(f"{record.value.decode()}\n" for record in sent) == EVENTS
    assert {record.key for record in sent} == {PIPELINE.encode()}
    # The partition of Kafka's own client: all producers have to agree.
    partition = (murmur2(PIPELINE.encode()) & 0x7FFFFFFF) % PARTITIONS["events"]
    assert {record.partition for record in sent} == {partition}


def test_program_reads_every_receipt_once(
    place: Place, client: tuple[str, Command], python: Command
) -> None:
    name, command = client
    place.run(python("produce", PIPELINE), EVENTS)
    assert becomes_true(lambda: answered(place), SECONDS_MAX)
    last = f"last-for-{name}"
    publish_again(place, last)
    expected = [json.loads(record.value) for record in receipts(place)]
    assert {it["status"] for it in expected} == set(Status)
    assert expected[-1]["destination"] == last
    if name == "kcat":
        printed = place.run(command("receipts")).splitlines()
        assert [json.loads(line) for line in printed] == expected
        return
    assert follow(place, command("receipts", f"readers-{name}"), last) == [
        f"{receipt['status']} {receipt['destination']} "
        + (
            f"{receipt['counts']['delivered']} {receipt['object']['key']}"
            if receipt["status"] in ("delivered", "redelivered")
            else "0 -"
        )
        for receipt in expected
    ]


def test_lines_of_the_objects_are_printed(place: Place, python: Command) -> None:
    place.run(python("produce", PIPELINE), EVENTS)
    assert becomes_true(lambda: answered(place), SECONDS_MAX)
    objects = [
        json.loads(record.value)["object"]
        for record in receipts(place)
        if record.key == b"orders-archive"
    ]
    printed = [
        place.run(python("read_object", stored["bucket"], stored["key"])) for stored in objects
    ]
    assert "".join(printed) == LINES * (len(records(place, "events")) // 3)


def test_every_program_is_on_the_page() -> None:
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    # The other folders are one for each language.
    files = [path for path in EXAMPLES.glob("*/*") if path.is_file() and path.parent.name != "helm"]
    assert len(files) >= 10
    names = [f"examples/{path.parent.name}/{path.name}" for path in files]
    assert [name for name in names if f"<!-- generated: {name} -->" not in page] == []
