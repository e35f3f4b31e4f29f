"""What `monitoring` and `clients` read off Faust, aiokafka and aiobotocore to watch a worker."""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest

from stream_app.embedded import KafkaServer
from stream_app.errors import DeliveryError
from stream_app.s3 import Storage
from stream_app.settings import S3, Destination
from tests.contract.apps import Keeper, becomes, create_topics, new_app, run, running, unstarted
from tests.contract.recorder import Answer, answer, recorder, refusal

DATE = "Tue, 24 Nov 2026 16:31:07 GMT"
DESTINATION = Destination(id="a", bucket="my-bucket")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUPMADEUPMADE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (answer("200 OK", ETag='"e"', Date=DATE), [DATE]),
        # The very answer that a wrong clock gets.
        (refusal("403 Forbidden", "RequestTimeTooSkewed", Date=DATE), [DATE]),
        (answer("200 OK", ETag='"e"'), []),
    ],
)
def test_date_of_every_answer_is_seen_be_it_a_refusal(reply: Answer, kept: list[str]) -> None:
    async def scenario() -> None:
        async with (
            recorder(reply) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            with contextlib.suppress(DeliveryError):
                await storage.put(DESTINATION, "k", b"content", lines=1, size=1)
            answers = storage.clients.skew._answers
            assert [date for date, _ in answers.values()] == kept
            assert set(answers) <= {server.endpoint_url}

    asyncio.run(scenario())


def test_coordinator_is_known_to_a_member_and_forgotten_when_the_broker_goes_away(
    tmp_path: Path, topic_prefix: str
) -> None:
    async def scenario(kafka: KafkaServer) -> None:
        app = new_app(kafka.address, topic_prefix, session_timeout_seconds=6)
        keeper = Keeper(app)
        topic = app.settings.kafka.events_topic
        await create_topics(kafka.address, {topic: 1})
        assert not app.consumer.knows_broker
        async with running(app):
            await becomes(lambda: app.consumer.knows_broker)
            await becomes(lambda: app.consumer.has_topic(topic))
            assert not app.consumer.has_topic("no-such-topic")
            await asyncio.to_thread(kafka.kill)
            await becomes(lambda: not app.consumer.knows_broker)
            await asyncio.to_thread(kafka.start)
            await becomes(lambda: app.consumer.knows_broker)
        assert keeper.events.empty()

    with KafkaServer(tmp_path / "kafka") as kafka:
        run(scenario(kafka))


def test_loop_of_kafkas_client_answers_in_a_thread_of_its_own(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        app = new_app(kafka.address, topic_prefix)
        Keeper(app)
        await create_topics(kafka.address, {app.settings.kafka.events_topic: 1})
        answered: list[str] = []
        async with running(app):
            app.consumer.ask_thread(lambda: answered.append(threading.current_thread().name))
            await becomes(lambda: bool(answered))
        assert answered != [threading.current_thread().name]

    run(scenario())


def test_ended_loop_of_kafkas_client_is_asked_without_harm_and_never_answers() -> None:
    async def scenario() -> None:
        with unstarted(new_app()) as app:
            consumer = app.consumer
        consumer.ask_thread(lambda: pytest.fail("nobody is there to call this"))

    asyncio.run(scenario())
