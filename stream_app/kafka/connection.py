"""Connections to Kafka: client options, and clear errors for what a broker refuses.

aiokafka tries every broker in turn and reports only that none could be reached. `check_connection`
connects once beforehand, and so distinguishes a broker that is down from a wrong password, an
untrusted certificate, or a listener of another protocol. Clients then use the addresses that the
brokers advertise, so one connection is made to such an address too: a bootstrap address that
responds proves nothing. `translate_errors` does the same for later errors. Both raise `SetupError`
with one line: what was found, what to do.
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from stream_app.config.settings import Kafka, environment_name
from stream_app.config.validators import broker_addresses
from stream_app.errors import SetupError
from stream_app.kafka.login_tokens import token_refusal
from stream_app.kafka.secrets import PASSWORD, secret
from stream_app.kafka.tls import reason, ssl_context
from stream_app.kafka.token_login import OAUTHBEARER, TokenError, create_connection, token_options
from stream_app.text import counted

REACH_MS_MAX: Final = 10_000
"""Timeout of one broker, and of its response to one request."""
METADATA_AGE_MS: Final = 15_000
"""Age after which a client asks again which topics and partitions there are: its default of five
minutes would leave new partitions, and a topic that was created again, unread for so long."""

_CREDENTIALS_REFUSED: Final = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
)
_LOGIN_NOT_OFFERED: Final = (
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthenticationMethodNotSupported,
)
_NOT_ALLOWED: Final = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)
_GONE: Final = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.NoBrokersAvailable,
    errors.RequestTimedOutError,
    errors.StaleMetadata,
    TimeoutError,
)


def bootstrap_servers(kafka: Kafka) -> list[str]:
    """Return `HOST:PORT` of each configured broker."""
    return [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in broker_addresses(kafka.broker)
    ]


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Return the connection options of every aiokafka client, as keyword arguments.

    Raises:
        SetupError: A file that is named in `[kafka]` cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers(kafka),
        "security_protocol": kafka.security_protocol.upper(),
        "ssl_context": ssl_context(kafka),
        "metadata_max_age_ms": METADATA_AGE_MS,
    }
    if kafka.sasl_mechanism == OAUTHBEARER:
        options |= token_options(kafka)
    elif kafka.sasl_mechanism is not None:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": secret(kafka, PASSWORD),
        }
    return options


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker of the cluster, at the address that it advertises."""

    id: int
    host: str
    port: int
    problem: str | None = None
    """Why no connection to that address is possible, and what to do; None: it is."""


async def check_connection(kafka: Kafka) -> None:
    """Return once one broker has accepted a connection at the address that it advertises.

    Raises:
        SetupError: None does; the text gives the reason.
    """
    at, advertised = await _advertised(kafka)
    attempts = [asyncio.create_task(_reach(kafka, at, it)) for it in advertised]
    problems = []
    try:
        for attempt in asyncio.as_completed(attempts):
            broker = await attempt
            if broker.problem is None:
                return
            problems.append(broker.problem)
    finally:
        for task in attempts:
            task.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
    raise SetupError(_first(problems))


async def brokers(kafka: Kafka) -> list[Broker]:
    """Return every broker of the cluster, after an attempt to connect to each.

    Raises:
        SetupError: No configured address leads to the cluster; the text gives the reason.
    """
    at, advertised = await _advertised(kafka)
    return await asyncio.gather(*[_reach(kafka, at, it) for it in advertised])


async def check_brokers(kafka: Kafka) -> None:
    """Return if every broker of the cluster accepts a connection where it says that it is.

    Raises:
        SetupError: One does not; the text gives the reason.
    """
    problems = [it.problem for it in await brokers(kafka) if it.problem is not None]
    if problems:
        raise SetupError(_first(problems))


def _first(problems: Sequence[str]) -> str:
    others = len(problems) - 1
    return problems[0] + (
        f" ({counted(others, 'other broker')} cannot be reached either)" if others else ""
    )


async def _advertised(kafka: Kafka) -> tuple[str, list[Broker]]:
    """Return a configured address that leads to the cluster, and the brokers that it names."""
    reasons = []
    for host, port in broker_addresses(kafka.broker):
        try:
            connection = await _connect(kafka, host, port)
            try:
                with translate_errors(kafka, unless=_GONE):
                    response = await connection.send(MetadataRequest([]))
            finally:
                await connection.close()
        except (OSError, *_GONE) as error:
            reasons.append(reason(error))
        else:
            named = [Broker(*it[:3]) for it in response.brokers]
            if named:
                return f"{host}:{port}", named
            reasons.append("no broker has joined the cluster")
    raise _unreachable(kafka, ", ".join(dict.fromkeys(reasons)))


async def _reach(kafka: Kafka, at: str, broker: Broker) -> Broker:
    """Return a broker, with the problem if it cannot be reached where it says that it is."""
    address = f"{broker.host}:{broker.port}"
    if address == at:
        return broker
    where = f"Kafka at {at} responds, but advertises its broker {broker.id} as {address}"
    try:
        connection = await _connect(kafka, broker.host, broker.port)
    except SetupError as error:
        return replace(broker, problem=f"{where}: {error}")
    except (OSError, UnicodeError, *_GONE) as error:  # also a name that is none
        return replace(
            broker,
            problem=(
                f"{where}, which cannot be reached from here ({reason(error)}); set that broker's "
                "advertised.listeners to an address that this machine resolves and reaches, or "
                "start the broker if it is down"
            ),
        )
    await connection.close()
    return broker


async def _connect(kafka: Kafka, host: str, port: int) -> AIOKafkaConnection:
    """Return a connection to an address, with the login done.

    Raises:
        SetupError: The address refuses it; the text gives the reason.
        OSError: There is no connection; or another of `_GONE`.
    """
    options = client_options(kafka)
    del options["bootstrap_servers"], options["metadata_max_age_ms"]
    try:
        with translate_errors(kafka, unless=_GONE):
            return await create_connection(host, port, request_timeout_ms=REACH_MS_MAX, **options)
    except ssl.SSLCertVerificationError as error:
        raise SetupError(
            f"Kafka at {host}:{port} shows a certificate that is not trusted: "
            f"{error.verify_message}; set [kafka] ssl_ca_file to the authority that signed it"
        ) from error
    except ssl.SSLError as error:
        raise SetupError(
            f"the TLS handshake with Kafka at {host}:{port} failed: {reason(error)}; is this "
            f'the port for security_protocol = "{kafka.security_protocol}"?'
        ) from error
    except (ConnectionResetError, errors.KafkaConnectionError) as error:
        raise SetupError(
            f"{host}:{port} closes the connection; is it Kafka, and is this its port for "
            f'security_protocol = "{kafka.security_protocol}"?{_certificate_hint(kafka)}'
        ) from error


@contextmanager
def translate_errors(
    kafka: Kafka, *, topic: str | None = None, unless: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Translate errors of aiokafka into a `SetupError` of one line.

    Args:
        kafka: The connection.
        topic: The topic that is used, if it is one.
        unless: Errors that pass.
    """
    try:
        yield
    except unless:
        raise
    except (TokenError, *_CREDENTIALS_REFUSED) as error:
        raise SetupError(_refused_login(kafka, error)) from error
    except _LOGIN_NOT_OFFERED as error:
        raise SetupError(
            f"Kafka at {_servers(kafka)} does not offer {kafka.sasl_mechanism} at this port: "
            f"{type(error).__name__}; set [kafka] sasl_mechanism and security_protocol to what it "
            "offers"
        ) from error
    except _NOT_ALLOWED as error:
        raise SetupError(
            f"Kafka at {_servers(kafka)} does not allow this to {kafka.user} "
            f"({type(error).__name__}"
            f"{f', topic {topic}' if topic else ''}); grant it with kafka-acls"
        ) from error
    except errors.UnknownTopicOrPartitionError as error:
        raise missing_topic(kafka, topic or "of that name") from error
    except errors.InvalidReplicationFactorError as error:
        raise SetupError(
            f"Kafka at {_servers(kafka)} has fewer brokers than --replication-factor requires; "
            "write a smaller one"
        ) from error
    except errors.NodeNotReadyError as error:
        raise SetupError(
            f"a broker of Kafka at {_servers(kafka)} cannot be reached ({reason(error)}); "
            "stream-app check names it, its address and the reason"
        ) from error
    except _GONE as error:
        raise _unreachable(kafka, reason(error)) from error
    except errors.KafkaError as error:
        raise SetupError(
            f"Kafka at {_servers(kafka)} refuses: {type(error).__name__}: {reason(error)}"
        ) from error


def _refused_login(kafka: Kafka, error: errors.KafkaError) -> str:
    """Return why a login has failed, and what to do."""
    if isinstance(error, TokenError):
        return f"no login to Kafka at {_servers(kafka)} without a token: {error.args[0]}"
    if kafka.sasl_mechanism == OAUTHBEARER:
        return f"Kafka at {_servers(kafka)} {token_refusal(kafka)}"
    return (
        f"Kafka at {_servers(kafka)} refuses {kafka.user} by {kafka.sasl_mechanism}: wrong user or "
        "password; set [kafka] sasl_username and "
        f"{kafka.sasl_password_file or environment_name('kafka', PASSWORD)}"
    )


def missing_topic(kafka: Kafka, topic: str) -> SetupError:
    """Return the error for a topic that does not exist."""
    return SetupError(
        f"topic '{topic}' does not exist in Kafka at {_servers(kafka)}, or its user may not see "
        "it; create it with: stream-app topics"
    )


def _unreachable(kafka: Kafka, reason: str) -> SetupError:
    return SetupError(
        f"Kafka at {_servers(kafka)} does not respond ({reason}); is it running? Set [kafka] "
        "broker or STREAM_APP_KAFKA_BROKER to its address"
    )


def _certificate_hint(kafka: Kafka) -> str:
    """Return what else can make a broker close the connection, as the end of an error."""
    if not kafka.security_protocol.endswith("ssl"):
        return ""
    if kafka.ssl_certificate_file is None:
        return " Does it require a client certificate ([kafka] ssl_certificate_file)?"
    return (
        f" Does it trust the client certificate in '{kafka.ssl_certificate_file}' ([kafka] "
        "ssl_certificate_file), and has that not expired?"
    )


def _servers(kafka: Kafka) -> str:
    return ", ".join(bootstrap_servers(kafka))
