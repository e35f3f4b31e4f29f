import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import client, errors

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.connection import (
    METADATA_AGE_MS,
    bootstrap_servers,
    client_options,
    translate_errors,
)
from stream_app.kafka.tls import ssl_context
from stream_app.kafka.token_login import TokenError, TokenProvider, create_connection
from tests.unit.kafka.test_login_tokens import OIDC

PLAIN = Kafka(broker="kafka://a:1;kafka://[::1]")


def test_every_broker_is_a_bootstrap_server() -> None:
    assert bootstrap_servers(PLAIN) == ["a:1", "[::1]:9092"]


def test_plaintext_needs_no_certificates() -> None:
    assert client_options(PLAIN) == {
        "bootstrap_servers": ["a:1", "[::1]:9092"],
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
        "metadata_max_age_ms": METADATA_AGE_MS,
    }


def test_login_is_part_of_the_options() -> None:
    kafka = Kafka(
        security_protocol="sasl_plaintext",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="u",
        sasl_password="p",  # noqa: S106 - not a real one
    )
    assert client_options(kafka) == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }


def test_login_by_token_has_a_provider_and_our_connections() -> None:
    options = client_options(replace(OIDC, security_protocol="sasl_plaintext"))
    assert isinstance(options.pop("sasl_oauth_token_provider"), TokenProvider)
    assert options == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "sasl_mechanism": "OAUTHBEARER",
    }
    assert client.create_conn is create_connection


@pytest.mark.parametrize("protocol", ["ssl", "sasl_ssl"])
def test_tls_checks_certificates_and_host_names(protocol: str) -> None:
    context = ssl_context(Kafka(security_protocol=protocol))  # type: ignore[arg-type]
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_missing_authority_file_is_an_error(tmp_path: Path) -> None:
    kafka = Kafka(security_protocol="ssl", ssl_ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(SetupError, match=r"ssl_ca_file '.*ca\.pem' cannot be used: No such file"):
        ssl_context(kafka)


def test_authority_file_without_certificates_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate", "utf-8")
    with pytest.raises(SetupError, match=r"ssl_ca_file '.*ca\.pem' cannot be used: "):
        ssl_context(Kafka(security_protocol="ssl", ssl_ca_file=str(path)))


def test_missing_certificate_is_an_error(tmp_path: Path) -> None:
    name = str(tmp_path / "x.pem")
    kafka = Kafka(security_protocol="ssl", ssl_certificate_file=name, ssl_key_file=name)
    with pytest.raises(SetupError, match=r"ssl_certificate_file '.*x\.pem' with ssl_key_file"):
        ssl_context(kafka)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.KafkaConnectionError("x"), "does not respond .*; is it running?"),
        (TimeoutError(), r"does not respond \(timed out\); is it running?"),
        (errors.UnknownTopicOrPartitionError(), "topic 't' does not exist .* stream-app topics"),
        (errors.TopicAuthorizationFailedError("t"), "not allow .* 'anonymous' .*topic t"),
        (errors.SaslAuthenticationFailed("x"), "wrong user or password"),
        (TokenError("no answer"), "no login to Kafka at .* without a token: no answer"),
        (errors.InvalidReplicationFactorError("x"), "fewer brokers than --replication-factor"),
        (errors.PolicyViolationError("too\nmany"), "refuses: PolicyViolationError: .*too many"),
    ],
)
def test_client_error_is_explained_on_one_line(error: Exception, text: str) -> None:
    with pytest.raises(SetupError, match=text) as caught, translate_errors(Kafka(), topic="t"):
        raise error
    assert "\n" not in str(caught.value)


def test_other_errors_pass() -> None:
    with pytest.raises(BrokenPipeError), translate_errors(Kafka()):
        raise BrokenPipeError
