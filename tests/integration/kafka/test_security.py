"""TLS, SASL and access rights against a real broker that has them.

The broker has five listeners beside its plain one: encrypted; encrypted and asking for a
certificate; encrypted with one that has run out; with a login; encrypted with a login.
"""

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from stream_app.config.settings import S3, Delivery, Kafka, Settings
from stream_app.embedded.process import free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import SetupError
from stream_app.kafka.cluster_check import check_kafka
from stream_app.kafka.connection import check_connection
from stream_app.kafka.topics import Topic, administration, create_topics, require_topics
from tests.certificates import Identity, identities
from tests.chaos.harness import Lab, in_a_loop
from tests.inspecting import inspecting
from tests.secrets import given_away

PASSWORD = "made-up-password"  # noqa: S105 - of a broker that lives as long as this module's tests
SECONDS_MAX = 180
SCRAM_USERS = {"SCRAM-SHA-256": "sam", "SCRAM-SHA-512": "sue"}
MECHANISMS = [("PLAIN", "alice"), *SCRAM_USERS.items()]
TOPIC, GROUP = 2, 3
READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 8, 10
LITERAL = ALLOW = 3
"""As Kafka's protocol numbers resources, operations, kinds of names, and permissions."""
CERTIFICATE_WANTED = (
    " closes the connection; is it Kafka, and is this its port for "
    'security_protocol = "ssl"? Does it require a client certificate ([kafka] '
    "ssl_certificate_file)?"
)
LOGIN = {
    f"{mechanism.lower()}.sasl.jaas.config": (
        f"org.apache.kafka.common.security.{kind} required{users};"
    )
    for mechanism, kind, users in (
        (
            "PLAIN",
            "plain.PlainLoginModule",
            f' user_alice="{PASSWORD}" user_nobody="{PASSWORD}"',
        ),
        ("SCRAM-SHA-256", "scram.ScramLoginModule", ""),
        ("SCRAM-SHA-512", "scram.ScramLoginModule", ""),
    )
}


@dataclass(frozen=True)
class Secured:
    """Settings of a client for each listener of the broker."""

    plain: Kafka
    tls: Kafka
    mutual: Kafka
    expired: Kafka
    login: Kafka
    both: Kafka
    stranger: Identity
    """A certificate authority that the broker does not trust."""


def properties(ports: Mapping[str, int], trusted: Mapping[str, Identity]) -> dict[str, str]:
    """Return the settings of the listeners beside the plain one."""
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    own = {
        "mutual": {
            "ssl.client.auth": "required",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(trusted["client"].certificate),
        },
        "expired": {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(trusted["expired"].both),
        },
        "login": {**LOGIN, "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256"},
        "both": {**LOGIN, "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"},
    }
    return {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": (
            "LOGIN:SASL_PLAINTEXT,TLS:SSL,MUTUAL:SSL,EXPIRED:SSL,BOTH:SASL_SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(trusted["broker"].both),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:alice;User:sam;User:sue;User:CN=client",
        **{
            f"listener.name.{listener}.{name}": text
            for listener, settings in own.items()
            for name, text in settings.items()
        },
    }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    names = ("broker", "expired", "client", "stranger")
    made = dict(zip(names, identities(folder, names, expired=["expired"]), strict=True))
    listeners = ("LOGIN", "TLS", "MUTUAL", "EXPIRED", "BOTH")
    ports = dict(zip(listeners, free_ports(len(listeners)), strict=True))
    server = KafkaServer(folder / "kafka", properties=properties(ports, made))
    with server:
        for mechanism, user in SCRAM_USERS.items():
            subprocess.run(
                [
                    *server._java("kafka.admin.ConfigCommand"),
                    *("--bootstrap-server", server.address, "--alter"),
                    *("--entity-type", "users", "--entity-name", user),
                    *("--add-config", f"{mechanism}=[password={PASSWORD}]"),
                ],
                check=True,
                timeout=SECONDS_MAX,
            )
        at = {name: f"kafka://127.0.0.1:{port}" for name, port in ports.items()}
        tls = Kafka(
            broker=at["TLS"],
            security_protocol="ssl",
            ssl_ca_file=str(made["broker"].certificate),
        )
        login = Kafka(
            broker=at["LOGIN"],
            security_protocol="sasl_plaintext",
            sasl_mechanism="PLAIN",
            sasl_username="alice",
            sasl_password=PASSWORD,
        )
        yield Secured(
            plain=Kafka(broker=f"kafka://{server.address}"),
            tls=tls,
            mutual=shows(replace(tls, broker=at["MUTUAL"]), made["client"]),
            expired=replace(
                tls, broker=at["EXPIRED"], ssl_ca_file=str(made["expired"].certificate)
            ),
            login=login,
            both=replace(
                login,
                broker=at["BOTH"],
                security_protocol="sasl_ssl",
                ssl_ca_file=tls.ssl_ca_file,
                sasl_mechanism="SCRAM-SHA-256",
                sasl_username="sam",
            ),
            stranger=made["stranger"],
        )


def shows(kafka: Kafka, identity: Identity) -> Kafka:
    """Return the settings of a client with this certificate."""
    return replace(
        kafka, ssl_certificate_file=str(identity.certificate), ssl_key_file=str(identity.key)
    )


def refusal(kafka: Kafka) -> str:
    """Return the error when no broker accepts the connection: one line, without the password."""
    with pytest.raises(SetupError) as caught:
        asyncio.run(check_connection(kafka))
    assert "\n" not in str(caught.value)
    assert given_away({"a password": PASSWORD}, [str(caught.value)]) == []
    return str(caught.value)


@pytest.mark.parametrize("way", ["plain", "tls", "mutual", "login", "both"])
def test_every_listener_leads_to_the_topics(secured: Secured, way: str) -> None:
    kafka: Kafka = getattr(secured, way)
    kafka = replace(kafka, events_topic=f"{way}-events", receipts_topic=f"{way}-receipts")
    created = asyncio.run(create_topics(kafka, partitions=2, replication_factor=1))
    assert created == (
        Topic(f"{way}-events", 2, created=True),
        Topic(f"{way}-receipts", 2, created=True),
    )
    assert asyncio.run(require_topics(kafka, f"{way}-events")) == [2]


@pytest.mark.parametrize(("mechanism", "user"), MECHANISMS)
def test_right_password_is_accepted(secured: Secured, mechanism: str, user: str) -> None:
    asyncio.run(
        check_connection(replace(secured.both, sasl_mechanism=mechanism, sasl_username=user))  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("way", "mechanism", "user"),
    [("login", "PLAIN", "alice"), *(("both", *it) for it in MECHANISMS)],
)
def test_wrong_password_is_distinguished_from_a_broker_that_is_down(
    secured: Secured, way: str, mechanism: str, user: str
) -> None:
    kafka: Kafka = getattr(secured, way)
    wrong = replace(
        kafka,
        sasl_mechanism=mechanism,  # type: ignore[arg-type] # one of the three
        sasl_username=user,
        sasl_password="another",  # noqa: S106 - not a real one
    )
    assert f"refuses user '{user}' by {mechanism}: wrong user or password" in refusal(wrong)


def test_mechanism_that_is_not_offered_is_named(secured: Secured) -> None:
    text = refusal(replace(secured.login, sasl_mechanism="SCRAM-SHA-512"))
    assert "does not offer SCRAM-SHA-512 at this port" in text


def test_login_at_a_port_without_login_is_explained(secured: Secured) -> None:
    text = refusal(replace(secured.login, broker=secured.plain.broker))
    assert "does not offer PLAIN at this port" in text


def test_certificate_of_an_unknown_authority_is_explained(secured: Secured) -> None:
    text = refusal(replace(secured.tls, ssl_ca_file=None))
    assert "shows a certificate that is not trusted: " in text
    assert text.endswith("set [kafka] ssl_ca_file to the authority that signed it")


def test_certificate_of_another_authority_is_explained(secured: Secured) -> None:
    other = replace(secured.tls, ssl_ca_file=str(secured.stranger.certificate))
    assert "shows a certificate that is not trusted: " in refusal(other)


def test_expired_certificate_is_explained(secured: Secured) -> None:
    assert "not trusted: certificate has expired" in refusal(secured.expired)


def test_client_without_a_certificate_is_refused_where_one_is_required(secured: Secured) -> None:
    text = refusal(replace(secured.tls, broker=secured.mutual.broker))
    assert text.endswith(CERTIFICATE_WANTED)


def test_client_with_a_certificate_of_another_authority_is_refused(secured: Secured) -> None:
    assert refusal(shows(secured.mutual, secured.stranger)).endswith(
        f"Does it trust the client certificate in '{secured.stranger.certificate}' ([kafka] "
        "ssl_certificate_file), and has that not expired?"
    )


def test_certificate_for_another_host_is_explained(secured: Secured) -> None:
    broker = secured.tls.broker.replace("127.0.0.1", "localhost")
    assert "not trusted: Hostname mismatch" in refusal(replace(secured.tls, broker=broker))


@pytest.mark.parametrize(("way", "port_of"), [("plain", "tls"), ("tls", "plain")])
def test_protocol_of_another_port_is_explained(secured: Secured, way: str, port_of: str) -> None:
    kafka: Kafka = getattr(secured, way)
    text = refusal(replace(kafka, broker=getattr(secured, port_of).broker))
    assert f'its port for security_protocol = "{kafka.security_protocol}"?' in text


def test_second_broker_is_tried_when_the_first_is_down(secured: Secured) -> None:
    broker = f"kafka://127.0.0.1:{free_ports(1)[0]};{secured.plain.broker}"
    asyncio.run(check_connection(replace(secured.plain, broker=broker)))


def test_topic_that_the_user_may_not_create_is_named(secured: Secured) -> None:
    nobody = replace(secured.login, sasl_username="nobody")
    with pytest.raises(SetupError, match="does not allow this to user 'nobody'"):
        asyncio.run(create_topics(nobody, partitions=1, replication_factor=1))


def test_topic_that_the_user_may_not_see_counts_as_missing(secured: Secured) -> None:
    kafka = replace(secured.plain, events_topic="hidden", receipts_topic="hidden-receipts")
    asyncio.run(create_topics(kafka, partitions=1, replication_factor=1))
    nobody = replace(secured.login, sasl_username="nobody")
    with pytest.raises(SetupError, match=r"topic 'hidden' does not exist .* or its user may not"):
        asyncio.run(require_topics(nobody, "hidden"))


@in_a_loop
async def test_workers_deliver_over_every_encrypted_listener_and_with_the_least_rights(
    secured: Secured, s3: S3Server, tmp_path: Path
) -> None:
    ways = [
        secured.mutual,
        *(
            replace(secured.both, sasl_mechanism=mechanism, sasl_username=user)  # type: ignore[arg-type]
            for mechanism, user in MECHANISMS
        ),
        replace(secured.login, sasl_username="nobody"),
    ]
    broker = secured.plain.broker.removeprefix("kafka://")
    async with Lab(broker, s3, tmp_path, partitions=2 * len(ways)) as lab:
        await allow_nobody(lab)
        options = ("--config", str(lab.configuration), "--log-level", "debug")
        workers = [
            lab.launch_worker(
                *("-m", "stream_app", "worker", *options), environment=environment(way)
            )
            for way in ways
        ]
        await asyncio.gather(*[worker.logged("taken over at") for worker in workers])
        await lab.load.send(300)
        await lab.settled()
        await lab.verify()
        assert given_away({"a password": PASSWORD}, [it.log for it in workers]) == []


@in_a_loop
async def test_check_names_the_rights_that_a_worker_lacks_and_needs_no_other(
    secured: Secured,
) -> None:
    names = ("checked-events", "checked-receipts", "checked-group")
    kafka = replace(secured.plain, events_topic=names[0], receipts_topic=names[1], group=names[2])
    await create_topics(kafka, partitions=1, replication_factor=1)
    nobody = replace(
        secured.login,
        sasl_username="nobody",
        **{name: getattr(kafka, name) for name in ("events_topic", "receipts_topic", "group")},
    )

    async def check() -> tuple[list[str], list[str]]:
        found = await check_kafka(Settings(nobody, S3(), Delivery(), ()))
        assert [it.resource for it in found] == ["broker", "topic", "topic", "group"]
        lacking = [
            f"{it.name}: {problem.split('the right ')[1].split(',')[0]}"
            for it in found
            for problem in it.problems
        ]
        return lacking, [line for it in found for line in it.unchecked]

    events, receipts, group = (TOPIC, names[0]), (TOPIC, names[1]), (GROUP, names[2])
    lacks = [f"{names[0]}: READ", f"{names[1]}: WRITE", f"{names[2]}: READ"]
    assert await check() == (lacks, [])
    async with administration(kafka) as admin:
        # To see a thing is not enough, and the right to read receipts is none to write them.
        await allow(admin, (*events, DESCRIBE), (*receipts, READ), (*group, DESCRIBE))
        assert (await check())[0] == lacks
        await allow(admin, (*events, READ), (*receipts, WRITE), (*group, READ))
        lacking, unchecked = await check()
        assert lacking == []
        assert [it.partition(":")[0] for it in unchecked] == [f"topic '{it}'" for it in names[:2]]
        await allow(admin, (*events, DESCRIBE_CONFIGS), (*receipts, DESCRIBE_CONFIGS))
        assert await check() == ([], [])


@in_a_loop
async def test_inspector_needs_to_read_both_topics_and_nothing_else(
    secured: Secured, s3: S3Server, tmp_path: Path
) -> None:
    broker = secured.plain.broker.removeprefix("kafka://")
    async with Lab(broker, s3, tmp_path, partitions=2) as lab:
        rights = (TOPIC, lab.events_topic, READ), (TOPIC, lab.receipts_topic, READ)
        await allow(lab._admin, *rights)
        await lab.load.send(10)
        await lab.start_worker()
        await lab.settled()
        nobody = replace(secured.login, sasl_username="nobody")
        async with (
            inspecting(lab.configuration, environment(nobody)) as client,
            client.live() as stream,
        ):
            row = (await client.rows())[-1]
            assert row["dest"]["pending"] == 0
            assert (await client.request(f"/api/events/{row['partition']}/0"))["destinations"]
            await lab.load.send(1)
            assert (await stream.next("rows"))[1]["rows"]


async def allow_nobody(lab: Lab) -> None:
    """Give the user `nobody` the rights that `docs/security.md` lists for a worker."""
    await allow(
        lab._admin,
        (TOPIC, lab.events_topic, READ),
        (GROUP, lab.name, READ),
        (TOPIC, lab.receipts_topic, WRITE),
    )


async def allow(admin: AIOKafkaAdminClient | None, *rights: tuple[int, str, int]) -> None:
    """Give the user `nobody` rights."""
    assert admin is not None
    for kind, name, operation in rights:
        request = CreateAclsRequest(kind, name, LITERAL, "User:nobody", "*", operation, ALLOW)
        answer = await admin._send_request(request)
        assert [code for code, _ in answer.creation_responses] == [0]


def environment(kafka: Kafka) -> dict[str, str]:
    """Return the environment variables of a worker that connects so."""
    names = ("broker", "security_protocol")
    return {
        f"STREAM_APP_KAFKA_{field.name.upper()}": getattr(kafka, field.name)
        for field in fields(kafka)
        if field.name in names or field.name.startswith(("sasl_", "ssl_"))
        if getattr(kafka, field.name) is not None
    }
