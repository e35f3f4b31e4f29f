"""Faust 0.15.3 under our settings: what `consumer`, `table` and `app` rely on.

Where one fails after an upgrade, the name says what has changed; `docs/architecture.md` says what
rests on it.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import faust
import pytest
from aiokafka.structs import TopicPartition as ClientPartition
from faust.app.base import BootStrategy
from faust.types import StreamT, tuples
from mode import Service

from stream_app.config.settings import RETRY_SECONDS_MAX
from stream_app.core.assignment import Assignment
from stream_app.core.circuit_breaker import CircuitBreakers
from stream_app.core.commit_metadata import Commit
from stream_app.core.partition import WindowPolicy
from stream_app.core.receipt import Message
from stream_app.core.router import Router
from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import KafkaServer
from stream_app.kafka.assignor import StreamAppAssignor
from stream_app.kafka.connection import METADATA_AGE_MS
from stream_app.kafka.consumer import ROOM_SECONDS_MAX, BatchTransport, RecordBatchConsumer
from stream_app.kafka.fetch_thread import RecordBatchThread
from stream_app.kafka.receipts_topic import ReceiptPublisher
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.health import Progress
from stream_app.records import Batch, TopicPartition
from stream_app.worker.faust_app import BATCHES_WAITING_MAX, TICK_SECONDS, StreamApp
from stream_app.worker.window_table import WindowTable
from tests.contract.apps import (
    Keeper,
    administration,
    another_member,
    becomes,
    committed,
    create_topics,
    in_a_bounded_loop,
    new_app,
    produce,
    run,
    running,
    unstarted,
)

ROOT = Path(__file__).parents[2]
RECEIPT = Message(b"orders", b"{}", ())


# --- versions -----------------------------------------------------------------------------------


def test_faust_is_the_version_whose_insides_are_replaced() -> None:
    assert version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize(
    "package",
    ["faust-streaming", "mode-streaming", "aiokafka", "aiobotocore", "botocore", "isal"],
)
def test_installed_version_is_that_of_the_lock_file(package: str) -> None:
    lock = (ROOT / "requirements.txt").read_text()
    (pinned,) = re.findall(rf"^{package}==(\S+)", lock, re.MULTILINE)
    assert version(package) == pinned


# --- our classes are the ones that are used -----------------------------------------------------


@in_a_bounded_loop
async def test_transport_of_the_app_makes_our_consumer_and_thread() -> None:
    with unstarted(new_app()) as app:
        assert type(app.transport) is BatchTransport
        assert type(app.consumer) is RecordBatchConsumer
        assert type(app.consumer._thread) is RecordBatchThread


async def started(app: StreamApp) -> Any:
    """Return the aiokafka consumer that the thread would start, closed again."""
    consumer = app.consumer._thread._create_worker_consumer(app.transport)
    await consumer.stop()
    return consumer


@in_a_bounded_loop
async def test_consumer_has_the_group_protocol_of_the_workers() -> None:
    with unstarted(new_app()) as app:
        consumer = await started(app)
        assert consumer._partition_assignment_strategy == (StreamAppAssignor,)


@in_a_bounded_loop
async def test_consumer_reads_committed_and_commits_nothing_by_itself() -> None:
    with unstarted(new_app()) as app:
        consumer = await started(app)
        assert consumer._isolation_level == "read_committed"
        assert consumer._enable_auto_commit is False
        assert consumer._auto_offset_reset == "none"


@in_a_bounded_loop
async def test_settings_of_the_group_reach_the_consumer() -> None:
    own = {"group_instance_id": "worker-1", "client_rack": "zone-a"}
    with unstarted(new_app(session_timeout_seconds=20, **own)) as app:
        consumer = await started(app)
        assert consumer._group_instance_id == "worker-1"
        assert consumer._client_rack == "zone-a"
        assert consumer._session_timeout_ms == 20_000
        assert consumer._heartbeat_interval_ms == 2_000
        assert consumer._rebalance_timeout_ms == 20_000
        assert consumer._request_timeout_ms == 30_000


@in_a_bounded_loop
async def test_request_to_join_outlasts_the_time_for_a_rebalance_in_a_long_session() -> None:
    with unstarted(new_app(session_timeout_seconds=60)) as app:
        consumer = await started(app)
        assert consumer._rebalance_timeout_ms == 60_000
        assert consumer._request_timeout_ms == 70_000


@in_a_bounded_loop
async def test_outage_of_s3_that_lasts_longer_than_a_day_does_not_cost_the_membership() -> None:
    with unstarted(new_app()) as app:
        consumer = await started(app)
        assert consumer._max_poll_interval_ms > RETRY_SECONDS_MAX * 1000


@in_a_bounded_loop
async def test_clients_look_topics_up_again_before_half_a_minute_is_over() -> None:
    with unstarted(new_app()) as app:
        consumer = await started(app)
        assert consumer._client._metadata_max_age_ms == METADATA_AGE_MS <= 15_000
        producer = app.producer._settings_default()
        assert producer["metadata_max_age_ms"] == METADATA_AGE_MS


@in_a_bounded_loop
async def test_requests_of_the_producer_have_a_timeout_of_half_a_minute() -> None:
    with unstarted(new_app()) as app:
        assert app.producer._settings_default()["request_timeout_ms"] == 30_000


@dataclass
class Login:
    """Connection settings of a client, as aiokafka keeps them."""

    protocol: str
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None
    encrypted: bool = False


MADE_UP = "made-up"
SASL = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "alice", "sasl_password": MADE_UP}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Login("PLAINTEXT")),
        ({"security_protocol": "ssl"}, Login("SSL", encrypted=True)),
        (
            {"security_protocol": "sasl_plaintext", **SASL},
            Login("SASL_PLAINTEXT", "SCRAM-SHA-256", "alice", MADE_UP),
        ),
        (
            {"security_protocol": "sasl_ssl", **SASL},
            Login("SASL_SSL", "SCRAM-SHA-256", "alice", MADE_UP, encrypted=True),
        ),
    ],
)
@in_a_bounded_loop
async def test_credentials_reach_consumer_and_producer(
    settings: dict[str, Any], expected: Login
) -> None:
    with unstarted(new_app(**settings)) as app:
        client = (await started(app))._client
        options = app.producer._settings_auth()
    consumers = Login(
        client._security_protocol,
        client._sasl_mechanism if expected.mechanism else None,
        client._sasl_plain_username,
        client._sasl_plain_password,
        isinstance(client._ssl_context, ssl.SSLContext),
    )
    producers = Login(
        options.get("security_protocol", "PLAINTEXT"),
        options.get("sasl_mechanism"),
        options.get("sasl_plain_username"),
        options.get("sasl_plain_password"),
        isinstance(options.get("ssl_context"), ssl.SSLContext),
    )
    assert (consumers, producers) == (expected, expected)


@in_a_bounded_loop
async def test_password_that_is_renewed_reaches_clients_that_are_made_later(
    tmp_path: Path,
) -> None:
    file = tmp_path / "password"
    file.write_text(MADE_UP, "utf-8")
    sasl = {**SASL, "sasl_password": None, "sasl_password_file": str(file)}
    with unstarted(new_app(security_protocol="sasl_plaintext", **sasl)) as app:
        consumer = app.consumer._thread._consumer = await started(app)
        file.write_text("another", "utf-8")
        app.consumer._renew_password()
        options = (app.producer._settings_auth(), app.client_options)
        found = [
            consumer._client._sasl_plain_password,
            *(it["sasl_plain_password"] for it in options),
        ]
        assert found == ["another"] * 3


@in_a_bounded_loop
async def test_tokens_reach_consumer_and_producer() -> None:
    oidc = {
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_token_provider": "oidc",
        "sasl_oidc_token_url": "http://127.0.0.1:1/token",
        "sasl_oidc_client_id": "alice",
        "sasl_oidc_client_secret": MADE_UP,
    }
    for protocol in ("sasl_plaintext", "sasl_ssl"):
        with unstarted(new_app(security_protocol=protocol, **oidc)) as app:
            client = (await started(app))._client
            options = app.producer._settings_auth()
            expected = (
                protocol.upper(),
                "OAUTHBEARER",
                app.client_options["sasl_oauth_token_provider"],
                app.client_options["ssl_context"],
            )
        assert expected == (
            client._security_protocol,
            client._sasl_mechanism,
            client._sasl_oauth_token_provider,
            client._ssl_context,
        )
        names = ("security_protocol", "sasl_mechanism", "sasl_oauth_token_provider", "ssl_context")
        assert expected == tuple(options[name] for name in names)


# --- the fetcher --------------------------------------------------------------------------------


class Fetcher(Service):
    """Whom the draining asks whether to go on."""


class Scripted(RecordBatchConsumer):
    """A consumer whose fetches are written down beforehand."""

    topic: str
    offsets: Sequence[int]
    fetcher: Fetcher

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> AsyncIterator[tuple[tuples.TP, tuples.Message]]:
        del timeout
        for offset in self.offsets:
            tp, batch = ClientPartition(self.topic, 0), Batch(offset, offset + 1, ())
            yield tuples.TP(*tp), self._batch_message(tp, 1, batch)
        self.fetcher._stopped.set()


def passed_on(topic: str, *offsets: int) -> list[int]:
    """Return which offsets the fetcher passes on when they come in this order."""
    passed: list[int] = []

    async def keep(message: tuples.Message) -> None:
        passed.append(message.offset)

    async def scenario() -> None:
        app = new_app()
        app.transport.Consumer = Scripted
        with unstarted(app):
            consumer = app.consumer
            assert isinstance(consumer, Scripted)
            consumer.topic, consumer.offsets = topic, offsets
            consumer.fetcher, consumer.callback = Fetcher(), keep
            await consumer._drain_messages(consumer.fetcher)

    run(scenario())
    return passed


def test_fetcher_drains_the_subclass_getmany() -> None:
    assert passed_on("other", 3, 4) == [3, 4]


def test_fetcher_drops_what_lies_below_the_newest_offset_it_has_noted() -> None:
    assert passed_on("other", 5, 3, 5, 6) == [5, 5, 6]


def test_fetcher_takes_any_offset_where_none_was_noted() -> None:
    assert passed_on("events", 5, 3, 4) == [5, 3, 4]


# --- receipts -----------------------------------------------------------------------------------


@in_a_bounded_loop
async def test_receipt_that_is_cancelled_on_its_way_raises_nothing_in_the_loop(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(own_kafka.address, topic_prefix)
    await create_topics(own_kafka.address, {app.settings.kafka.receipts_topic: 1})
    raised: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: raised.append(context))
    publisher = ReceiptPublisher(app.settings.kafka.receipts_topic, app.receipt_producer)
    with unstarted(app):
        try:
            await publisher.publish(RECEIPT)
            own_kafka.pause()
            publishing = asyncio.create_task(publisher.publish(RECEIPT))
            for _ in range(10):
                await asyncio.sleep(0)  # it is handed to the client, and the broker is silent
            assert publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            own_kafka.resume()
            await publisher.publish(RECEIPT)
        finally:
            await app.producer.stop()
    assert raised == []


@in_a_bounded_loop
async def test_fetch_loop_waits_while_the_agent_is_held_up_in_the_last_of_its_batches() -> None:
    # Faust lets one partition go for each batch that is taken: two that found the queue full leave
    # one out while the event that there is room stays set, and the loop took a whole core.
    with unstarted(new_app()) as app:
        consumer, queue = app.consumer, app.FlowControlQueue(BATCHES_WAITING_MAX)
        tps = [tuples.TP("events", number) for number in range(BATCHES_WAITING_MAX + 1)]
        consumer._active_partitions.update(tps)

        def put(tp: tuples.TP) -> None:
            queue.put_nowait_enhanced(
                tp,
                on_pressure_high=partial(consumer.on_buffer_full, tp),
                on_pressure_drop=partial(consumer.on_buffer_drop, tp),
            )

        for tp in tps[:-1]:
            put(tp)
        queue.get_nowait()
        put(tps[-1])
        while queue.qsize():
            queue.get_nowait()
        assert consumer.is_full
        began = time.monotonic()
        assert not await consumer._has_room()
        assert time.monotonic() - began > ROOM_SECONDS_MAX / 2


# --- batches through the agent ------------------------------------------------------------------


def recorded_batches(app: StreamApp) -> list[Batch]:
    """Return a list that each batch joins when the fetcher passes it on."""
    fetched: list[Batch] = []
    make = app.consumer._batch_message

    def recorded(tp: ClientPartition, generation: int, batch: Batch) -> tuples.ConsumerMessage:
        fetched.append(batch)
        return make(tp, generation, batch)

    app.consumer._batch_message = recorded  # type: ignore[method-assign] # and passes on
    return fetched


@in_a_bounded_loop
async def test_agent_is_handed_the_batch_object_that_was_fetched(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(kafka.address, topic_prefix)
    keeper, fetched = Keeper(app), recorded_batches(app)
    topic = app.settings.kafka.events_topic
    await create_topics(kafka.address, {topic: 1})
    await produce(kafka.address, topic, b"0", b"1")
    async with running(app):
        event = await keeper.events.get()
    assert event.message.value is fetched[0]
    assert event.value is fetched[0]
    assert [it.value for it in fetched[0].records] == [b"0", b"1"]


@in_a_bounded_loop
async def test_topic_without_acks_is_never_committed_by_faust(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(kafka.address, topic_prefix)
    keeper, events = Keeper(app), app.settings.kafka.events_topic
    other, seen = f"{topic_prefix}other", asyncio.Event()

    @app.agent(app.topic(other, value_type=bytes, value_serializer="raw"), name="other")
    async def acknowledge(stream: StreamT[bytes]) -> None:
        async for _ in stream:
            seen.set()

    await create_topics(kafka.address, {events: 1, other: 1})
    await produce(kafka.address, events, b"0")
    await produce(kafka.address, other, b"0")
    async with running(app):
        await keeper.events.get()
        await seen.wait()
        await asyncio.sleep(0)  # the agent goes on to the next, which acknowledges the first
        await app.consumer.commit()
    offsets = await committed(kafka.address, app.conf.id)
    assert offsets == {ClientPartition(other, 0): (1, "")}


@in_a_bounded_loop
async def test_batches_waiting_are_bounded_and_none_is_lost(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(kafka.address, topic_prefix)
    keeper, fetched = Keeper(app), recorded_batches(app)
    topic = app.settings.kafka.events_topic
    keeper.open.clear()  # the agent takes one and waits, as it does when memory is short
    await create_topics(kafka.address, {topic: 2})
    async with running(app):
        for number in range(20):
            # One by one, so that not all of them come with one fetch.
            await produce(kafka.address, topic, b"%d" % number, partition=number % 2)
            if number < BATCHES_WAITING_MAX:
                await becomes(lambda: len(fetched) > number)  # noqa: B023 - awaited within
        # One is with the agent, one is being put into the queue, and the rest is in it.
        most = BATCHES_WAITING_MAX + 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(becomes(lambda: len(fetched) > most), 1.5)
        keeper.open.set()
        seen: dict[int, list[bytes]] = {0: [], 1: []}
        while sum(map(len, seen.values())) < 20:
            message = (await keeper.events.get()).message
            seen[message.partition] += [it.value for it in message.value.records]
    assert seen == {
        0: [b"%d" % number for number in range(0, 20, 2)],
        1: [b"%d" % number for number in range(1, 20, 2)],
    }


@in_a_bounded_loop
async def test_exception_in_the_agent_ends_the_app(kafka: KafkaServer, topic_prefix: str) -> None:
    app = new_app(kafka.address, topic_prefix)
    keeper, topic = Keeper(app), app.settings.kafka.events_topic
    keeper.error = ValueError("a defect")
    await create_topics(kafka.address, {topic: 1})
    async with running(app):
        await produce(kafka.address, topic, b"0")
        await becomes(lambda: app.should_stop)
        assert app._crash_reason is keeper.error
        assert keeper.events.qsize() == 1


@in_a_bounded_loop
async def test_app_without_web_boot_binds_no_port_though_the_setting_turns_it_on(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    app = new_app(kafka.address, topic_prefix)
    Keeper(app)
    await create_topics(kafka.address, {app.settings.kafka.events_topic: 1})
    app.conf.web_enabled = True  # as `faust worker` does
    app.conf.web_port = free_ports(1)[0]
    async with running(app):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, app.conf.web_port)


@in_a_bounded_loop
async def test_boot_that_leaves_web_open_follows_the_setting() -> None:
    # Else the test above would hold for another reason.
    class Boot(BootStrategy):
        enable_web = None

    app = faust.App("any", broker="kafka://127.0.0.1:1", web_enabled=True)
    assert Boot(app)._should_enable_web()
    assert not Boot(app, enable_web=False)._should_enable_web()


# --- the table ----------------------------------------------------------------------------------


class Ticking(WindowTable):
    """Notes when Faust cleans it."""

    ticks: asyncio.Queue[float]

    async def _del_old_keys(self) -> None:
        self.ticks.put_nowait(asyncio.get_running_loop().time())


async def nothing(_: object) -> None:
    """Let no part leave."""


def new_table(app: StreamApp, **options: Any) -> Ticking:
    table = Ticking(
        app,
        name="windows",
        assignment=Assignment(WindowPolicy("group", 60, 2), 2**24),
        router=Router(()),
        breakers=CircuitBreakers(60.0),
        counts=Counts(),
        progress=Progress(),
        on_drop=lambda: None,
        upload_parts=nothing,
        abandon=lambda _: None,
        **options,
    )
    table.ticks = asyncio.Queue()
    return table


@in_a_bounded_loop
async def test_windowed_table_that_expires_is_cleaned_every_interval() -> None:
    with unstarted(new_app()) as app, unstarted(new_app()) as other:
        assert app.conf.table_cleanup_interval == TICK_SECONDS
        table = new_table(app)
        table.tumbling(60.0, expires=60.0)
        began = asyncio.get_running_loop().time()
        await table.start()
        times = [await table.ticks.get() for _ in range(4)]
        # A tick may be late on a loaded machine, and the next one catches up; none comes early.
        other.conf.table_cleanup_interval = 3600.0
        slow = new_table(other)
        slow.tumbling(60.0, expires=60.0)
        await slow.start()
        await table.ticks.get()
        assert slow.ticks.empty(), "it is not this interval that is kept"
        await slow.stop()
        await table.stop()
    assert times[-1] - began > TICK_SECONDS * 2, times


@in_a_bounded_loop
async def test_table_without_a_window_is_never_cleaned() -> None:
    # Why the table is declared tumbling, though its windows are ours.
    with unstarted(new_app()) as app:
        table = new_table(app)
        await table.start()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(table.ticks.get(), TICK_SECONDS * 3)
        await table.stop()


@in_a_bounded_loop
async def test_table_that_is_built_directly_is_unknown_to_the_app() -> None:
    with unstarted(new_app()) as app:
        table = new_table(app)
        table.tumbling(60.0, expires=60.0)
        assert "windows" not in app.tables
        assert app.tables.changelog_topics == set()
        stock = app.Table("stock")
        assert app.tables.changelog_topics == {stock.changelog_topic.get_topic_name()}


# --- a rebalance --------------------------------------------------------------------------------


@dataclass
class Rebalance:
    """Observations while another member joins the group of an app with two partitions."""

    log: list[str] = field(default_factory=list)
    """Calls in order, on both sides."""
    generations: list[tuple[int, int]] = field(default_factory=list)
    """At each assignment: of the app, and of aiokafka's coordinator."""
    before: set[TopicPartition] = field(default_factory=set)
    after: set[TopicPartition] = field(default_factory=set)
    resumed_at: int = -1
    """Position of the first batch of the retained partition afterwards."""
    resumed_generation: int = -1
    topics: set[str] = field(default_factory=set)
    """All that exist of the test's."""


async def rebalanced(address: str, prefix: str) -> Rebalance:
    seen = Rebalance()
    app = new_app(address, prefix)
    app.conf.broker_heartbeat_interval = 0.3
    keeper, topic = Keeper(app), app.settings.kafka.events_topic
    tps = {TopicPartition(topic, 0), TopicPartition(topic, 1)}

    async def revoked(_: object, partitions: set[tuples.TP], **__: object) -> None:
        seen.log.append(f"revoked {len(partitions)} begins")
        await asyncio.sleep(0.3)  # that nothing goes on meanwhile is what is tested
        seen.log.append(f"revoked {len(partitions)} ends")

    async def assigned(_: object, partitions: set[tuples.TP], **__: object) -> None:
        coordinator = app.consumer._thread._ensure_consumer()._coordinator
        seen.log.append(f"assigned {len(partitions)}")
        seen.generations.append((app.consumer_generation_id, coordinator.generation))

    app.on_partitions_revoked.connect(revoked)
    app.on_partitions_assigned.connect(assigned)
    table = new_table(app)
    table.tumbling(60.0, expires=60.0)
    await create_topics(address, {topic: 2})
    for tp in tps:
        await produce(address, topic, b"0", b"1", b"2", partition=tp.partition)
    async with running(app):
        await app.add_runtime_dependency(table)
        for tp in tps:
            generation, _ = await keeper.batch(tp)
        seen.before = {TopicPartition(*tp) for tp in app.consumer.assignment()}
        await app.consumer.commit_closings(
            {tp: Commit(1, ()) for tp in tps}, generation, lambda: True
        )
        async with another_member(app, seen.log.append):
            await becomes(lambda: len(seen.generations) == 2)
            seen.after = {TopicPartition(*tp) for tp in app.consumer.assignment()}
            (kept,) = seen.after
            message = await next_of_generation(keeper, seen.generations[1][0])
            assert message.tp == kept
            seen.resumed_at, seen.resumed_generation = message.value.position, message.generation_id
            async with administration(address) as admin:
                names = await admin.list_topics()
            seen.topics = {name for name in names if name.startswith(prefix)}
    return seen


async def next_of_generation(keeper: Keeper, generation: int) -> tuples.Message:
    while True:
        message = (await keeper.events.get()).message
        if message.generation_id >= generation:
            return message


@pytest.fixture(scope="module")
def rebalance(kafka: KafkaServer) -> Rebalance:
    seen: list[Rebalance] = []

    async def scenario() -> None:
        seen.append(await rebalanced(kafka.address, f"test-{uuid4().hex[:12]}-"))

    run(scenario())
    return seen[0]


def test_revocation_is_announced_and_awaited_before_any_member_has_a_new_assignment(
    rebalance: Rebalance,
) -> None:
    assert rebalance.log[:4] == [
        "revoked 0 begins",
        "revoked 0 ends",
        "assigned 2",
        "revoked 2 begins",
    ]
    assert rebalance.log[4] == "revoked 2 ends"
    assert sorted(rebalance.log[5:7]) == ["another got 1", "assigned 1"]


def test_generation_is_set_before_the_assignment_is_announced(rebalance: Rebalance) -> None:
    (first, first_of_kafka), (second, second_of_kafka) = rebalance.generations
    assert (first, second) == (first_of_kafka, second_of_kafka)
    assert second > first


def test_rebalance_is_eager_all_partitions_go(rebalance: Rebalance) -> None:
    assert len(rebalance.before) == 2
    assert len(rebalance.after) == 1
    assert "revoked 2 begins" in rebalance.log


def test_retained_partition_is_sought_to_its_commit(rebalance: Rebalance) -> None:
    assert rebalance.resumed_at == 1


def test_batch_carries_the_generation_under_which_it_was_fetched(rebalance: Rebalance) -> None:
    assert rebalance.resumed_generation == rebalance.generations[1][0]


def test_table_of_ours_declares_no_topic(rebalance: Rebalance) -> None:
    assert {name.rpartition("-")[2] for name in rebalance.topics} == {"events"}
