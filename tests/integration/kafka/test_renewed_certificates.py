"""Certificates that are renewed in place, under clients of a real broker that requires them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_app.config.settings import Kafka
from stream_app.embedded.process import free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from tests.certificates import Identity, identities
from tests.chaos.harness import Lab, in_a_loop
from tests.integration.kafka.test_security import environment


class Renewal:
    """Files of a worker and of a broker, each with a certificate that is renewed."""

    def __init__(self, folder: Path) -> None:
        names = ("broker", "newer-broker", "client", "newer-client")
        self.broker, self.newer_broker, self.client, self.newer_client = identities(folder, names)
        self.authorities, self.certificate, self.key = (
            folder / f"{name}.pem" for name in ("authorities", "certificate", "key")
        )
        self.keystore, self.truststore = folder / "keystore.pem", folder / "truststore.pem"
        (self.port,) = free_ports(1)
        self.kafka = Kafka(
            broker=f"kafka://127.0.0.1:{self.port}",
            security_protocol="ssl",
            ssl_ca_file=str(self.authorities),
            ssl_certificate_file=str(self.certificate),
            ssl_key_file=str(self.key),
        )
        copy(self.broker.both, self.keystore)
        copy(self.broker.certificate, self.authorities)
        copy(self.client.certificate, self.truststore, self.certificate)
        copy(self.client.key, self.key)

    @contextmanager
    def server(self, folder: Path) -> Iterator[KafkaServer]:
        listener = f"MUTUAL://127.0.0.1:{self.port}"
        properties = {
            "listeners": listener,
            "advertised.listeners": listener,
            "listener.security.protocol.map": "MUTUAL:SSL",
            "ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.truststore),
        }
        with KafkaServer(folder, properties=properties) as server:
            yield server


def copy(source: Path, *targets: Path) -> None:
    for target in targets:
        target.write_bytes(source.read_bytes())


def both(one: Identity, two: Identity) -> bytes:
    return one.certificate.read_bytes() + two.certificate.read_bytes()


@in_a_loop
async def test_certificates_of_client_and_broker_are_exchanged_under_a_running_worker(
    s3: S3Server, tmp_path: Path
) -> None:
    files = Renewal(tmp_path)
    with files.server(tmp_path / "kafka") as kafka:
        async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
            worker = lab.launch_worker(environment=environment(files.kafka))
            await worker.logged("ready: ")
            await lab.load.send(10)
            await lab.settled()
            # The broker trusts the newer certificate alone, and the worker has the old one.
            copy(files.newer_client.certificate, files.truststore)
            await asyncio.to_thread(kafka.restart)
            await lab.load.send(10)
            await worker.logged(f"Does it trust the client certificate in '{files.certificate}'")
            # Half of the new pair changes nothing.
            copy(files.newer_client.certificate, files.certificate)
            await worker.logged("the old certificates for Kafka stay: [kafka] ssl_certificate_file")
            copy(files.newer_client.key, files.key)
            await worker.logged(f"certificates for Kafka read again: {files.authorities}")
            await lab.settled()
            # The broker's own certificate is exchanged; the file of authorities is first.
            files.authorities.write_bytes(both(files.broker, files.newer_broker))
            copy(files.newer_broker.both, files.keystore)
            await asyncio.to_thread(kafka.restart)
            await lab.load.send(10)
            await lab.settled()
            await lab.verify()
            assert worker.running
