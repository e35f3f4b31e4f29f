"""Logins by tokens, against a real broker that verifies them, and ends each session with its token.

The broker has two listeners beside its plain one, with and without encryption. It knows the keys of
the token server from a file.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from stream_app.config.settings import S3, Delivery, Kafka, Settings
from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import SetupError
from stream_app.kafka.cluster_check import check_kafka
from stream_app.kafka.connection import check_connection, client_options
from stream_app.kafka.event_producer import send
from stream_app.kafka.token_login import TokenConnection
from stream_app.kafka.topics import create_topics
from tests.certificates import identities
from tests.chaos.harness import LONG_SESSION_SECONDS, Lab, Worker, in_a_loop, wait_until
from tests.inspecting import inspecting
from tests.integration.kafka.test_security import environment
from tests.secrets import given_away
from tests.token_server import AUDIENCE, CLIENT, ISSUER, SECRET, TokenServer, jwks

SECONDS_MAX = 180.0
LIFE_SECONDS = 10
"""A token's: a fifth of it is left for a login on a loaded machine."""
LONG_LIFE_SECONDS = 40
"""That of a token of which one request has to fail within its last fifth."""
EXPIRIES = 30
VALIDATOR = "org.apache.kafka.common.security.oauthbearer"


class TokenBroker(KafkaServer):
    """Broker that takes its keys from a file, which Kafka allows only by a property of Java's."""

    @property
    def jwks(self) -> Path:
        return self.folder / "jwks.json"

    def _prepare(self) -> None:
        self.jwks.write_text(jwks(), "ascii")
        super()._prepare()

    def _environment(self) -> dict[str, str]:
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{self.jwks}"
        return super()._environment() | {"JAVA_TOOL_OPTIONS": allowed}


@dataclass(frozen=True)
class Broker:
    server: KafkaServer
    plain: str
    encrypted: str
    ca_file: str

    def login(self, tokens: TokenServer, **changes: Any) -> Kafka:
        return tokens.kafka(self.plain, **changes)

    def encrypted_login(self, tokens: TokenServer) -> Kafka:
        return tokens.kafka(self.encrypted, security_protocol="sasl_ssl", ssl_ca_file=self.ca_file)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("tokens")
    (identity,) = identities(folder, ["broker"])
    ports = dict(zip(("TOKEN", "BOTH"), free_ports(2), strict=True))
    listeners = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
    properties = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "TOKEN:SASL_PLAINTEXT,BOTH:SASL_SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(identity.both),
        "sasl.oauthbearer.jwks.endpoint.url": f"file://{folder / 'kafka' / 'jwks.json'}",
        # By default a broker 4.1.1 takes a JWT of any signature.
        "sasl.oauthbearer.jwt.validator.class": f"{VALIDATOR}.BrokerJwtValidator",
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": ISSUER,
    }
    for listener in ("token", "both"):
        of_listener = f"listener.name.{listener}"
        properties |= {
            f"{of_listener}.sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{of_listener}.oauthbearer.sasl.jaas.config": (
                f"{VALIDATOR}.OAuthBearerLoginModule required;"
            ),
            f"{of_listener}.oauthbearer.sasl.server.callback.handler.class": (
                f"{VALIDATOR}.OAuthBearerValidatorCallbackHandler"
            ),
        }
    with TokenBroker(folder / "kafka", properties=properties) as server:
        at = {name: f"kafka://{HOST}:{port}" for name, port in ports.items()}
        yield Broker(server, at["TOKEN"], at["BOTH"], str(identity.certificate))


async def refusal(kafka: Kafka) -> str:
    """Return the error when no broker accepts the login: one line, without the secret."""
    with pytest.raises(SetupError) as caught:
        await check_connection(kafka)
    text = str(caught.value)
    assert "\n" not in text
    assert given_away({"the secret": SECRET}, [text]) == []
    return text


@in_a_loop
async def test_one_token_serves_every_client_of_a_process(
    broker: Broker, s3: S3Server, tmp_path: Path
) -> None:
    async with TokenServer() as tokens, Lab(broker.server.address, s3, tmp_path) as lab:
        names = {name: getattr(lab, name) for name in ("events_topic", "receipts_topic")} | {
            "group": lab.name
        }
        for login in (broker.login(tokens), broker.encrypted_login(tokens)):
            kafka = replace(login, **names)
            topics = await create_topics(kafka, partitions=1, replication_factor=1)
            assert not any(it.created for it in topics)
            found = await check_kafka(Settings(kafka, S3(), Delivery(), ()))
            assert [it.problems for it in found] == [()] * 4
            file = tmp_path / "events.jsonl"
            file.write_text('{"id": 1}\n', "ascii")
            sent = await send(kafka, [str(file)], pipeline="orders", read=lambda _: None)
            assert sent.total() == 1
            async with inspecting(lab.configuration, environment(kafka)) as client:
                assert await client.rows()
        assert len(tokens.tokens) <= 4  # the Inspector's settings are others: its own login


@pytest.mark.parametrize("way", ["login", "encrypted_login"])
@in_a_loop
async def test_connection_outlives_its_sessions_under_load(broker: Broker, way: str) -> None:
    async with TokenServer(life_seconds=LIFE_SECONDS) as tokens:
        client = AIOKafkaClient(**client_options(getattr(broker, way)(tokens)))
        try:
            await client.bootstrap()
            connection = await client._get_conn(1)
            assert isinstance(connection, TokenConnection)

            async def ask() -> None:
                while len(tokens.tokens) < 5:
                    # Several at once, so that a login falls between requests and responses.
                    sent = [connection.send(MetadataRequest([])) for _ in range(5)]
                    assert all(it.brokers for it in await asyncio.gather(*sent))

            async with asyncio.timeout(SECONDS_MAX):
                await asyncio.gather(ask(), ask())
            assert connection.connected()
            assert await client._get_conn(1) is connection
        finally:
            await client.close()


@in_a_loop
async def test_login_that_is_refused_in_use_closes_the_connection_and_spoils_no_response(
    broker: Broker,
) -> None:
    async with TokenServer(life_seconds=LIFE_SECONDS) as tokens:
        client = AIOKafkaClient(**client_options(broker.login(tokens)))
        try:
            await client.bootstrap()
            connection = await client._get_conn(1)
            tokens.seed = 2

            async def ask() -> None:
                while True:
                    sent = [connection.send(MetadataRequest([])) for _ in range(5)]
                    assert all(it.brokers for it in await asyncio.gather(*sent))

            async with asyncio.timeout(SECONDS_MAX):
                with pytest.raises(KafkaConnectionError):
                    await asyncio.gather(ask(), ask())
            assert not connection.connected()
            tokens.seed = 1
            await wait_until(lambda: client.ready(1), SECONDS_MAX, "a login by another token")
        finally:
            await client.close()


@in_a_loop
async def test_token_that_the_broker_refuses_is_explained(broker: Broker) -> None:
    async with TokenServer(seed=2) as tokens:
        kafka = broker.login(tokens)
        text = await refusal(kafka)
        assert text.startswith(
            f"Kafka at {broker.plain.removeprefix('kafka://')} refuses the token that {tokens.url} "
            f"has issued to client '{CLIENT}'; let the brokers trust that issuer"
        )
        assert given_away({"the token": tokens.tokens[0]}, [text]) == []
        (check,) = await check_kafka(Settings(kafka, S3(), Delivery(), ()))
        assert check.problems == (text,)
        assert len(tokens.tokens) == 1


@in_a_loop
async def test_connection_of_aiokafka_alone_takes_a_refusal_for_a_login(broker: Broker) -> None:
    """Where this fails, aiokafka has learnt what `TokenConnection` is for."""
    async with TokenServer(seed=2) as tokens:
        options = client_options(broker.login(tokens))
        del options["bootstrap_servers"], options["metadata_max_age_ms"]
        address = broker.plain.removeprefix("kafka://").split(":")
        connection = AIOKafkaConnection(address[0], int(address[1]), **options)
        await connection.connect()  # raises nothing
        await connection.close()
        assert len(tokens.tokens) == 1


@in_a_loop
async def test_login_without_a_token_is_explained(broker: Broker) -> None:
    async with TokenServer() as tokens:
        start = f"no login to Kafka at {broker.plain.removeprefix('kafka://')} without a token: "
        wrong = broker.login(tokens, sasl_oidc_client_secret="another")  # noqa: S106 - not a real one
        text = await refusal(wrong)
        assert text.startswith(
            f"{start}token server {tokens.url} refuses client '{CLIENT}' (status"
        )
        url = f"http://{HOST}:{free_ports(1)[0]}/token"
        text = await refusal(broker.login(tokens, sasl_oidc_token_url=url))
        assert text.startswith(f"{start}token server {url} does not respond (Connection refused)")


@in_a_loop
async def test_login_by_a_token_at_a_port_without_one_is_explained(broker: Broker) -> None:
    async with TokenServer() as tokens:
        kafka = tokens.kafka(f"kafka://{broker.server.address}")
        assert "does not offer OAUTHBEARER at this port" in await refusal(kafka)
        assert tokens.tokens == []


@asynccontextmanager
async def working(
    broker: Broker, tokens: TokenServer, s3: S3Server, folder: Path
) -> AsyncIterator[tuple[Lab, Worker]]:
    """A worker that logs in by tokens, and talks most."""
    async with Lab(broker.server.address, s3, folder, session_seconds=LONG_SESSION_SECONDS) as lab:
        options = ("--config", str(lab.configuration), "--log-level", "debug")
        worker = lab.launch_worker(
            *("-m", "stream_app", "worker", *options), environment=environment(broker.login(tokens))
        )
        await worker.logged("ready: ")
        await lab.load.send(30)
        await lab.settled()
        yield lab, worker


def kept_secrets(tokens: TokenServer) -> dict[str, str]:
    found = {f"token {number}": it for number, it in enumerate(tokens.tokens)}
    # The last part alone lets nobody in, but would be a sign that the whole was there.
    found |= {f"signature {name}": it.rpartition(".")[2] for name, it in found.items()}
    return found | {"the secret": SECRET}


@in_a_loop
async def test_worker_delivers_through_thirty_ends_of_its_token_without_a_rebalance(
    broker: Broker, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        TokenServer(life_seconds=LIFE_SECONDS) as tokens,
        working(broker, tokens, s3, tmp_path) as (lab, worker),
    ):
        assert worker.log.count(" assigned: ") == 1
        first = len(tokens.tokens)
        while len(tokens.tokens) < first + EXPIRIES:
            await lab.load.send(10)
            before = len(tokens.tokens)
            await wait_until(
                lambda before=before: len(tokens.tokens) > before, SECONDS_MAX, "a new token"
            )
        await lab.settled()
        await lab.verify()
        assert worker.running
        renewed = f"new token for Kafka from oidc, valid for {LIFE_SECONDS} s"
        assert worker.log.count(renewed) >= EXPIRIES
        assert worker.log.count(" assigned: ") == 1
        assert "no connection to Kafka" not in worker.log
        assert given_away(kept_secrets(tokens), [worker.log]) == []


@in_a_loop
async def test_worker_goes_on_when_the_token_server_is_back(
    broker: Broker, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        TokenServer(life_seconds=LONG_LIFE_SECONDS) as tokens,
        working(broker, tokens, s3, tmp_path) as (lab, worker),
    ):
        tokens.answer = lambda _: web.Response(status=503)
        await lab.load.send(30)
        await worker.logged("the old token for Kafka from oidc stays, valid for ")
        await worker.logged("no connection to Kafka: no login to Kafka at ")
        assert f"without a token: token server {tokens.url} responds with status 503" in worker.log
        tokens.answer = None
        await lab.load.send(30)
        await lab.settled()
        await lab.verify()
        assert worker.running
        assert given_away(kept_secrets(tokens), [worker.log]) == []
