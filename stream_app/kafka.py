"""Speaking to Kafka: connection options, topics, and what to do when it refuses.

aiokafka tries every broker in turn and then says only that none could be reached. `reach` asks the
brokers once beforehand, and so can tell a broker that is down from a wrong password, a certificate
that nobody signed, or a listener that speaks another protocol. `explained` does the same for the
errors that come later. Both raise `SetupError` with one line: what was seen, what to do.

`stream_app.kafka` imports aiokafka (0.3 s), so commands that need no broker do not import it.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import create_conn

from stream_app.decoding import accept_any_header_name
from stream_app.errors import SetupError
from stream_app.settings import Kafka
from stream_app.values import broker_addresses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REACH_MS_MAX: Final = 10_000
"""How long one broker has to answer."""

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

# For whoever reads records; all of them connect by what is in this module.
accept_any_header_name()


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers have it."""

    name: str
    partitions: int
    created: bool
    """Just now, by us; otherwise it existed."""


def bootstrap_servers(kafka: Kafka) -> list[str]:
    """Return `HOST:PORT` of each configured broker."""
    return [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in broker_addresses(kafka.broker)
    ]


def ssl_context(kafka: Kafka) -> ssl.SSLContext | None:
    """Return how to check the brokers' certificates and show ours; None without encryption.

    Raises:
        SetupError: A file cannot be read, or does not hold what it should.
    """
    if not kafka.security_protocol.endswith("ssl"):
        return None
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    except OSError as error:
        raise SetupError(
            f"[kafka] ssl_ca_file '{kafka.ssl_ca_file}' cannot be used: {_reason(error)}; write "
            "the name of a PEM file with certificates"
        ) from error
    if kafka.ssl_certificate_file is not None and kafka.ssl_key_file is not None:
        try:
            # Without a password given here, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(kafka.ssl_certificate_file, kafka.ssl_key_file, password="")
        except OSError as error:
            raise SetupError(
                f"[kafka] ssl_certificate_file '{kafka.ssl_certificate_file}' with ssl_key_file "
                f"'{kafka.ssl_key_file}' cannot be used: {_reason(error)}; write the names of two "
                "PEM files, a certificate and its unencrypted key"
            ) from error
    return context


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Return the keyword arguments with which every aiokafka client connects."""
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers(kafka),
        "security_protocol": kafka.security_protocol.upper(),
        "ssl_context": ssl_context(kafka),
    }
    if kafka.sasl_mechanism is not None:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password,
        }
    return options


async def reach(kafka: Kafka) -> None:
    """Return once one broker has let us in.

    Raises:
        SetupError: None did; it says why.
    """
    options = client_options(kafka)
    del options["bootstrap_servers"]
    seen = []
    for host, port in broker_addresses(kafka.broker):
        try:
            with explained(kafka, unless=_GONE):
                connection = await create_conn(
                    host, port, request_timeout_ms=REACH_MS_MAX, **options
                )
        except ssl.SSLCertVerificationError as error:
            raise SetupError(
                f"Kafka at {host}:{port} shows a certificate that is not trusted: "
                f"{error.verify_message}; set [kafka] ssl_ca_file to the authority that signed it"
            ) from error
        except ssl.SSLError as error:
            raise SetupError(
                f"Kafka at {host}:{port} does not speak TLS as we do: {_reason(error)}; is this "
                f'the port for security_protocol = "{kafka.security_protocol}"?'
            ) from error
        except (ConnectionResetError, errors.KafkaConnectionError) as error:
            asks = (
                " Does it ask for a certificate that it trusts ([kafka] ssl_certificate_file)?"
                if kafka.security_protocol.endswith("ssl")
                else ""
            )
            raise SetupError(
                f"{host}:{port} closes the connection; is it Kafka, and is this its port for "
                f'security_protocol = "{kafka.security_protocol}"?{asks}'
            ) from error
        except (OSError, *_GONE) as error:
            seen.append(_reason(error))
        else:
            await connection.close()
            return
    raise _unanswered(kafka, ", ".join(dict.fromkeys(seen)))


@contextmanager
def explained(
    kafka: Kafka, *, topic: str | None = None, unless: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what aiokafka raises inside into a `SetupError` of one line.

    Args:
        kafka: Where we are connected.
        topic: What is being used, if one topic is.
        unless: Errors to let pass.
    """
    try:
        yield
    except unless:
        raise
    except _CREDENTIALS_REFUSED as error:
        raise SetupError(
            f"Kafka at {_place(kafka)} refuses user '{kafka.sasl_username}' by "
            f"{kafka.sasl_mechanism}: wrong user or password; set [kafka] sasl_username and "
            "STREAM_APP_KAFKA_SASL_PASSWORD"
        ) from error
    except _LOGIN_NOT_OFFERED as error:
        raise SetupError(
            f"Kafka at {_place(kafka)} does not log in by {kafka.sasl_mechanism} at this port: "
            f"{type(error).__name__}; set [kafka] sasl_mechanism and security_protocol to what it "
            "offers"
        ) from error
    except _NOT_ALLOWED as error:
        raise SetupError(
            f"Kafka at {_place(kafka)} does not allow this to user "
            f"'{kafka.sasl_username or 'anonymous'}' ({type(error).__name__}"
            f"{f', topic {topic}' if topic else ''}); grant it with kafka-acls"
        ) from error
    except errors.UnknownTopicOrPartitionError as error:
        raise _missing(kafka, topic or "of that name") from error
    except errors.InvalidReplicationFactorError as error:
        raise SetupError(
            f"Kafka at {_place(kafka)} has fewer brokers than --replication-factor asks for; "
            "write a smaller one"
        ) from error
    except _GONE as error:
        raise _unanswered(kafka, _reason(error)) from error
    except errors.KafkaError as error:
        raise SetupError(
            f"Kafka at {_place(kafka)} refuses: {type(error).__name__}: {_reason(error)}"
        ) from error


@asynccontextmanager
async def administration(kafka: Kafka) -> "AsyncIterator[AIOKafkaAdminClient]":
    """Give a connected admin client; what goes wrong with it is explained."""
    await reach(kafka)
    with explained(kafka):
        admin = AIOKafkaAdminClient(**client_options(kafka))
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


async def require_topics(kafka: Kafka, *names: str) -> list[int]:
    """Return how many partitions each of these topics has.

    Raises:
        SetupError: One is missing, or Kafka cannot be asked.
    """
    async with administration(kafka) as admin:
        existing = await _partition_counts(admin)
    for name in names:
        if name not in existing:
            raise _missing(kafka, name)
    return [existing[name] for name in names]


async def create_topics(
    kafka: Kafka, *, partitions: int, replication_factor: int
) -> tuple[Topic, Topic]:
    """Create the events and the receipts topic where they do not exist; change nothing else.

    Raises:
        SetupError: Kafka cannot be reached, or refuses.
    """
    names = (kafka.events_topic, kafka.receipts_topic)
    async with administration(kafka) as admin:
        existing = await _partition_counts(admin)
        missing = [
            NewTopic(name, num_partitions=partitions, replication_factor=replication_factor)
            for name in names
            if name not in existing
        ]
        created = set()
        if missing:
            response = await admin.create_topics(missing)
            for name, code, *message in response.topic_errors:
                # Somebody else may have created it since we looked.
                if code not in (0, errors.TopicAlreadyExistsError.errno):
                    with explained(kafka, topic=name):
                        raise errors.for_code(code)(f"topic {name}: {message[0]}")
                if code == 0:
                    created.add(name)
            if len(created) < len(missing):
                existing = await _partition_counts(admin)
    events, receipts = (
        Topic(name, partitions if name in created else existing[name], name in created)
        for name in names
    )
    return events, receipts


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    # Asking for all topics never creates one; asking for a topic by name may.
    return {
        described["topic"]: len(described["partitions"])
        for described in await admin.describe_topics()
    }


def _missing(kafka: Kafka, topic: str) -> SetupError:
    return SetupError(
        f"topic '{topic}' does not exist in Kafka at {_place(kafka)}, or its user may not see it; "
        "create it with: stream-app topics"
    )


def _unanswered(kafka: Kafka, seen: str) -> SetupError:
    return SetupError(
        f"Kafka at {_place(kafka)} does not answer ({seen}); is it running? Set [kafka] broker or "
        "STREAM_APP_KAFKA_BROKER to where it is"
    )


def _place(kafka: Kafka) -> str:
    return ", ".join(bootstrap_servers(kafka))


def _reason(error: BaseException) -> str:
    """Return an error's own words on one line, or its type where it has none."""
    words = str(error)
    if isinstance(error, TimeoutError) and not words:
        words = "no answer in time"
    if isinstance(error, ssl.SSLError | socket.gaierror):
        words = error.strerror or words
    elif isinstance(error, OSError) and error.errno is not None:
        # asyncio puts words of its own where the system's would be.
        words = os.strerror(error.errno)
    return " ".join(words.split()) or type(error).__name__
