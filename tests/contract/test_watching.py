"""Facts of Faust, aiokafka and aiobotocore from which `monitoring` and `s3.clients` read state."""

import asyncio
import contextlib
import threading

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.embedded.servers import KafkaServer
from stream_app.errors import DeliveryError
from stream_app.records import TopicPartition
from stream_app.s3.storage import Storage
from tests.contract.apps import (
    Keeper,
    becomes,
    create_topics,
    in_a_bounded_loop,
    new_app,
    running,
    unstarted,
)
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
            answers = storage.clients.skew._responses
            assert [date for date, _ in answers.values()] == kept
            assert set(answers) <= {server.endpoint_url}

    asyncio.run(scenario())


@in_a_bounded_loop
async def test_coordinator_is_known_to_a_member_and_forgotten_when_the_broker_goes_away(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(own_kafka.address, topic_prefix, session_timeout_seconds=6)
    keeper = Keeper(app)
    topic = app.settings.kafka.events_topic
    await create_topics(own_kafka.address, {topic: 1})
    assert not app.consumer.knows_coordinator
    async with running(app):
        await becomes(lambda: app.consumer.knows_coordinator)
        await becomes(lambda: app.consumer.has_topic(topic))
        assert not app.consumer.has_topic("no-such-topic")
        tp, none = TopicPartition(topic, 0), (None, True)
        # The time is that of the leader's last response, though no record comes.
        await becomes(lambda: app.consumer.fetches().get(tp, none)[0] is not None)
        first = app.consumer.fetches()[tp]
        assert first[1] is False
        await becomes(lambda: app.consumer.fetches()[tp] > first)
        await asyncio.to_thread(own_kafka.kill)
        await becomes(lambda: not app.consumer.knows_coordinator)
        last = app.consumer.fetches().get(tp, first)
        await asyncio.to_thread(own_kafka.start)
        await becomes(lambda: app.consumer.knows_coordinator)
        await becomes(lambda: app.consumer.fetches().get(tp, last) > last)
    assert keeper.events.empty()


@in_a_bounded_loop
async def test_loop_of_kafkas_client_answers_in_a_thread_of_its_own(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(kafka.address, topic_prefix)
    Keeper(app)
    await create_topics(kafka.address, {app.settings.kafka.events_topic: 1})
    answered: list[str] = []
    async with running(app):
        app.consumer.call_in_thread(lambda: answered.append(threading.current_thread().name))
        await becomes(lambda: bool(answered))
    assert answered != [threading.current_thread().name]


def test_ended_loop_of_kafkas_client_is_asked_without_harm_and_never_answers() -> None:
    async def scenario() -> None:
        with unstarted(new_app()) as app:
            consumer = app.consumer
        consumer.call_in_thread(lambda: pytest.fail("nobody is there to call this"))

    asyncio.run(scenario())
