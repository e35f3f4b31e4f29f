"""Handshakes of a Kafka client's TLS context whose files are renewed, with a server of TLS."""

import asyncio
import logging
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from stream_app.config.settings import Kafka
from stream_app.embedded.process import HOST
from stream_app.kafka.tls import RenewedContext
from tests.certificates import Identity, identities

SECONDS_MAX = 60


@dataclass
class Handshakes:
    """A server that knows two clients, and the files of one client."""

    kafka: Kafka
    server: Identity
    newer_server: Identity
    old: Identity
    new: Identity
    seen: list[str] = field(default_factory=list)
    """Names in the certificates that the server was shown."""

    def write(self, certificate: Identity, key: Identity) -> None:
        assert self.kafka.ssl_certificate_file is not None
        assert self.kafka.ssl_key_file is not None
        Path(self.kafka.ssl_certificate_file).write_bytes(certificate.certificate.read_bytes())
        Path(self.kafka.ssl_key_file).write_bytes(key.key.read_bytes())

    def trust(self, *servers: Identity) -> None:
        assert self.kafka.ssl_ca_file is not None
        Path(self.kafka.ssl_ca_file).write_bytes(
            b"".join(it.certificate.read_bytes() for it in servers)
        )

    def connect(self, context: ssl.SSLContext, server: Identity | None = None) -> None:
        """Shake hands once; note the name that the server was shown."""
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.verify_mode = ssl.CERT_REQUIRED
        theirs.load_cert_chain((server or self.server).both)
        for client in (self.old, self.new):
            theirs.load_verify_locations(client.certificate)

        async def scenario() -> None:
            done = asyncio.Event()

            async def shake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                subject = writer.get_extra_info("peercert")["subject"]
                self.seen.append(dict(it[0] for it in subject)["commonName"])
                writer.write(b"1")
                await reader.read()
                writer.close()
                done.set()

            listening = await asyncio.start_server(shake, HOST, 0, ssl=theirs)
            port = listening.sockets[0].getsockname()[1]
            async with asyncio.timeout(SECONDS_MAX), listening:
                reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
                assert await reader.read(1) == b"1"
                writer.close()
                await done.wait()

        asyncio.run(scenario())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    folder = tmp_path_factory.mktemp("identities")
    return identities(folder, ("server", "newer-server", "old", "new"))


@pytest.fixture
def handshakes(made: list[Identity], tmp_path: Path) -> Handshakes:
    names = (str(tmp_path / it) for it in ("authorities.pem", "certificate.pem", "key.pem"))
    kafka = Kafka("kafka://x:1", security_protocol="ssl")
    authorities, certificate, key = names
    kafka = replace(
        kafka, ssl_ca_file=authorities, ssl_certificate_file=certificate, ssl_key_file=key
    )
    handshakes = Handshakes(kafka, *made)
    handshakes.trust(handshakes.server)
    handshakes.write(handshakes.old, handshakes.old)
    return handshakes


def test_connection_after_a_renewal_shows_the_new_certificate(
    handshakes: Handshakes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    context = RenewedContext(handshakes.kafka)
    handshakes.connect(context)
    handshakes.write(handshakes.new, handshakes.new)
    handshakes.connect(context)
    handshakes.connect(context)
    assert handshakes.seen == ["old", "new", "new"]
    kafka = handshakes.kafka
    files = (kafka.ssl_ca_file, kafka.ssl_certificate_file, kafka.ssl_key_file)
    assert caplog.messages == ["certificates for Kafka read again: {}, {}, {}".format(*files)]


def test_half_of_a_new_pair_changes_nothing_and_is_logged_once(
    handshakes: Handshakes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "stream_app")
    context = RenewedContext(handshakes.kafka)
    handshakes.write(handshakes.new, handshakes.old)
    for _ in range(3):
        handshakes.connect(context)
    (message,) = caplog.messages
    assert message.startswith("the old certificates for Kafka stay: [kafka] ssl_certificate_file '")
    handshakes.write(handshakes.new, handshakes.new)
    handshakes.connect(context)
    assert handshakes.seen == ["old", "old", "old", "new"]


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMIIB"])
def test_certificate_that_is_half_written_or_gone_changes_nothing(
    handshakes: Handshakes, text: str
) -> None:
    context = RenewedContext(handshakes.kafka)
    assert handshakes.kafka.ssl_certificate_file is not None
    path = Path(handshakes.kafka.ssl_certificate_file)
    path.write_text(text, "ascii")
    handshakes.connect(context)
    path.unlink()
    handshakes.connect(context)
    assert handshakes.seen == ["old", "old"]


def test_authority_that_is_no_longer_in_the_file_is_no_longer_trusted(
    handshakes: Handshakes,
) -> None:
    context = RenewedContext(handshakes.kafka)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshakes.connect(context, handshakes.newer_server)
    handshakes.trust(handshakes.server, handshakes.newer_server)
    handshakes.connect(context, handshakes.newer_server)
    handshakes.trust(handshakes.newer_server)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshakes.connect(context, handshakes.server)
    assert handshakes.seen == ["old"]


def test_files_are_read_on_request_too(
    handshakes: Handshakes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    context = RenewedContext(handshakes.kafka)
    context.reread()
    assert len(caplog.messages) == 1
    handshakes.trust()
    context.reread()
    assert "ssl_ca_file" in caplog.messages[1]
    handshakes.connect(context)


def test_context_by_itself_trusts_nobody(handshakes: Handshakes) -> None:
    context = RenewedContext(handshakes.kafka)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs() == []
