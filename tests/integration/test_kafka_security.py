"""TLS, SASL and access rights against a real broker that has them."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from stream_app.embedded import KafkaServer
from stream_app.errors import SetupError
from stream_app.kafka import Topic, create_topics, reach, require_topics
from stream_app.serverprocess import free_ports
from stream_app.settings import Kafka

PASSWORD = "made-up-password"  # noqa: S105 - of a broker that lives as long as this module's tests
SECONDS_MAX = 60


@dataclass(frozen=True)
class Secured:
    """A broker with three more listeners, and what a client needs for each."""

    plain: Kafka
    tls: Kafka
    login: Kafka
    both: Kafka


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    keys, certificate = folder / "keys.p12", folder / "certificate.pem"
    ports = dict(zip(("LOGIN", "TLS", "BOTH"), free_ports(3), strict=True))
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    plain_login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_alice="{PASSWORD}" user_nobody="{PASSWORD}";'
    )
    scram_login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "LOGIN:SASL_PLAINTEXT,TLS:SSL,BOTH:SASL_SSL",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(keys),
        "ssl.keystore.password": PASSWORD,
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:alice;User:sam",
    }
    for name in ("login", "both"):
        properties |= {
            f"listener.name.{name}.plain.sasl.jaas.config": plain_login,
            f"listener.name.{name}.scram-sha-256.sasl.jaas.config": scram_login,
        }
    server = KafkaServer(folder / "kafka", properties=properties)
    keytool = [server._java("x")[0], "-m", "java.base/sun.security.tools.keytool.Main"]
    store = ["-keystore", str(keys), "-storetype", "PKCS12", "-storepass", PASSWORD]
    subprocess.run(
        [
            *(*keytool, "-genkeypair", "-keyalg", "EC", "-alias", "broker", "-dname", "CN=test"),
            *("-validity", "2", "-ext", "SAN=IP:127.0.0.1", "-ext", "BC=ca:true", *store),
        ],
        check=True,
        timeout=SECONDS_MAX,
    )
    subprocess.run(
        [*keytool, "-exportcert", "-rfc", "-alias", "broker", "-file", str(certificate), *store],
        check=True,
        timeout=SECONDS_MAX,
    )
    with server:
        subprocess.run(
            [
                *server._java("kafka.admin.ConfigCommand"),
                *("--bootstrap-server", server.address, "--alter"),
                *("--entity-type", "users", "--entity-name", "sam"),
                *("--add-config", f"SCRAM-SHA-256=[password={PASSWORD}]"),
            ],
            check=True,
            timeout=SECONDS_MAX,
        )
        login = Kafka(
            broker=f"kafka://127.0.0.1:{ports['LOGIN']}",
            security_protocol="sasl_plaintext",
            sasl_mechanism="PLAIN",
            sasl_username="alice",
            sasl_password=PASSWORD,
        )
        yield Secured(
            plain=Kafka(broker=f"kafka://{server.address}"),
            tls=Kafka(
                broker=f"kafka://127.0.0.1:{ports['TLS']}",
                security_protocol="ssl",
                ssl_ca_file=str(certificate),
            ),
            login=login,
            both=replace(
                login,
                broker=f"kafka://127.0.0.1:{ports['BOTH']}",
                security_protocol="sasl_ssl",
                ssl_ca_file=str(certificate),
                sasl_mechanism="SCRAM-SHA-256",
                sasl_username="sam",
            ),
        )


def refusal(kafka: Kafka) -> str:
    """Return why nobody lets us in: one line, without the password."""
    with pytest.raises(SetupError) as caught:
        asyncio.run(reach(kafka))
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("way", ["plain", "tls", "login", "both"])
def test_every_way_in_leads_to_the_topics(secured: Secured, way: str) -> None:
    kafka: Kafka = getattr(secured, way)
    kafka = replace(kafka, events_topic=f"{way}-events", receipts_topic=f"{way}-receipts")
    created = asyncio.run(create_topics(kafka, partitions=2, replication_factor=1))
    assert created == (
        Topic(f"{way}-events", 2, created=True),
        Topic(f"{way}-receipts", 2, created=True),
    )
    assert asyncio.run(require_topics(kafka, f"{way}-events")) == [2]


@pytest.mark.parametrize("way", ["login", "both"])
def test_wrong_password_is_told_from_a_broker_that_is_down(secured: Secured, way: str) -> None:
    kafka: Kafka = getattr(secured, way)
    wrong = replace(kafka, sasl_password="another")  # noqa: S106 - made up
    assert f"refuses user '{kafka.sasl_username}' by {kafka.sasl_mechanism}: wrong user or " in (
        refusal(wrong)
    )


def test_mechanism_that_is_not_offered_is_said(secured: Secured) -> None:
    text = refusal(replace(secured.login, sasl_mechanism="SCRAM-SHA-512"))
    assert "does not log in by SCRAM-SHA-512 at this port" in text


def test_login_at_a_port_without_login_is_said(secured: Secured) -> None:
    text = refusal(replace(secured.login, broker=secured.plain.broker))
    assert "does not log in by PLAIN at this port" in text


def test_certificate_of_an_unknown_authority_is_said(secured: Secured) -> None:
    text = refusal(replace(secured.tls, ssl_ca_file=None))
    assert "shows a certificate that is not trusted: " in text
    assert text.endswith("set [kafka] ssl_ca_file to the authority that signed it")


def test_certificate_for_another_host_is_said(secured: Secured) -> None:
    broker = secured.tls.broker.replace("127.0.0.1", "localhost")
    assert "not trusted: Hostname mismatch" in refusal(replace(secured.tls, broker=broker))


@pytest.mark.parametrize(("way", "port_of"), [("plain", "tls"), ("tls", "plain")])
def test_protocol_of_another_port_is_said(secured: Secured, way: str, port_of: str) -> None:
    kafka: Kafka = getattr(secured, way)
    text = refusal(replace(kafka, broker=getattr(secured, port_of).broker))
    assert f'its port for security_protocol = "{kafka.security_protocol}"?' in text


def test_second_broker_is_asked_when_the_first_is_down(secured: Secured) -> None:
    broker = f"kafka://127.0.0.1:{free_ports(1)[0]};{secured.plain.broker}"
    asyncio.run(reach(replace(secured.plain, broker=broker)))


def test_topic_that_the_user_may_not_create_is_said(secured: Secured) -> None:
    nobody = replace(secured.login, sasl_username="nobody")
    with pytest.raises(SetupError, match="does not allow this to user 'nobody'"):
        asyncio.run(create_topics(nobody, partitions=1, replication_factor=1))


def test_topic_that_the_user_may_not_see_counts_as_missing(secured: Secured) -> None:
    kafka = replace(secured.plain, events_topic="hidden", receipts_topic="hidden-receipts")
    asyncio.run(create_topics(kafka, partitions=1, replication_factor=1))
    nobody = replace(secured.login, sasl_username="nobody")
    with pytest.raises(SetupError, match=r"topic 'hidden' does not exist .* or its user may not"):
        asyncio.run(require_topics(nobody, "hidden"))
