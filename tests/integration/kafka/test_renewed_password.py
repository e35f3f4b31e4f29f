"""A password that is changed in its file, under clients of a real broker that requires it."""

import asyncio
import subprocess
from pathlib import Path

from stream_app.config.settings import Kafka
from stream_app.embedded.process import free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import Lab, in_a_loop
from tests.integration.kafka.test_security import LOGIN, environment
from tests.secrets import given_away

SECONDS_MAX = 180
OLD, NEW = "the-first-one", "the-second-one"
MECHANISM, USER = "SCRAM-SHA-256", "sam"


def set_password(server: KafkaServer, password: str) -> None:
    subprocess.run(
        [
            *server._java("kafka.admin.ConfigCommand"),
            *("--bootstrap-server", server.address, "--alter"),
            *("--entity-type", "users", "--entity-name", USER),
            *("--add-config", f"{MECHANISM}=[password={password}]"),
        ],
        check=True,
        timeout=SECONDS_MAX,
    )


@in_a_loop
async def test_password_is_changed_in_its_file_under_a_running_worker(
    s3: S3Server, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    listener = f"LOGIN://127.0.0.1:{port}"
    file = tmp_path / "password"
    login = Kafka(
        broker=f"kafka://127.0.0.1:{port}",
        security_protocol="sasl_plaintext",
        sasl_mechanism=MECHANISM,
        sasl_username=USER,
        sasl_password_file=str(file),
    )
    properties = {
        "listeners": listener,
        "advertised.listeners": listener,
        "listener.security.protocol.map": "LOGIN:SASL_PLAINTEXT",
        "listener.name.login.sasl.enabled.mechanisms": MECHANISM,
        **{f"listener.name.login.{name}": text for name, text in LOGIN.items()},
    }
    with KafkaServer(tmp_path / "kafka", properties=properties) as kafka:
        set_password(kafka, OLD)
        file.write_text(f"{OLD}\n", "utf-8")
        async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
            worker = lab.launch_worker(environment=environment(login))
            await worker.logged("ready: ")
            await lab.load.send(10)
            await lab.settled()
            # The broker takes the newer password alone, and the file has the old one.
            await asyncio.to_thread(set_password, kafka, NEW)
            await asyncio.to_thread(kafka.restart)
            await lab.load.send(10)
            await worker.logged(f"refuses user '{USER}' by {MECHANISM}: wrong user or password")
            file.write_text("", "utf-8")
            await worker.logged("the old secret for Kafka stays: [kafka] sasl_password_file")
            file.write_text(f"{NEW}\n", "utf-8")
            await worker.logged(f"secret for Kafka read again: {file}")
            await lab.settled()
            await lab.verify()
            assert worker.running
            assert given_away({"old": OLD, "new": NEW}, [worker.log]) == []
