"""Worker app: topics, the window table, the agent, and the services that start with them.

    events topic ─> agent `collect` ─> WindowTable.tumbling() ─on_window_close─> WindowDelivery
                                                              S3, then receipts topic <─┘

`create_app` makes one app for one process.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

from faust.types import StreamT, TopicT, tuples

from stream_app.config.files import ConfigSource
from stream_app.config.settings import MIB, Settings
from stream_app.core.assignment import Assignment
from stream_app.core.circuit_breaker import CircuitBreakers
from stream_app.core.delivery import WindowPolicy
from stream_app.core.retry_policy import RetryPolicy
from stream_app.core.router import Router
from stream_app.kafka.receipts_topic import ReceiptPublisher
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.destination_counts import DestinationCounts
from stream_app.monitoring.health import Progress
from stream_app.monitoring.metrics import MetricSources
from stream_app.monitoring.reload_state import ReloadState
from stream_app.monitoring.summary import PeriodicSummary
from stream_app.records import TopicPartition
from stream_app.s3.storage import Storage
from stream_app.worker import log_messages
from stream_app.worker.broker_diagnosis import diagnose
from stream_app.worker.faust_app import StreamApp, new_app
from stream_app.worker.log_messages import handle_loop_exception
from stream_app.worker.monitoring_service import MonitoringService
from stream_app.worker.reload import Reloader
from stream_app.worker.window_delivery import WindowDelivery
from stream_app.worker.window_table import WindowTable

SERVED_WINDOWS_MAX: Final = 2
SERVED_SECONDS_MIN: Final = 30
"""A destination that was served within two windows and so many seconds proves that S3 responds."""


def _summary(app: StreamApp, table: WindowTable, watched: MetricSources) -> PeriodicSummary:
    return PeriodicSummary(
        watched.counts,
        watched.assignment,
        app.settings.delivery.memory_max_mib,
        app.settings.kafka.broker,
        open_transactions=watched.open_transactions,
        log_ends=watched.log_ends,
        high_watermarks=watched.high_watermarks,
        unanswered=watched.unanswered_partitions,
        waited=lambda: table.waited_seconds,
        knows_coordinator=lambda: app.consumer.knows_coordinator,
        pipelines=lambda: table.pipelines,
    )


def _is_answering(app: StreamApp, watched: MetricSources) -> bool:
    """Return whether Kafka answers: the group's coordinator, and each partition's leader."""
    return app.consumer.knows_coordinator and not watched.unanswered_partitions()


def _use(table: WindowTable, breakers: CircuitBreakers, counts: Counts, router: Router) -> None:
    """Take other destinations, and forget those that were removed."""
    table.use(router)
    breakers.keep(router.destinations)
    counts.keep(router.destinations)


def _events(app: StreamApp) -> TopicT:
    return app.topic(
        app.settings.kafka.events_topic,
        key_type=bytes,
        key_serializer="raw",
        value_type=None,  # the value is a Batch already
        value_serializer="raw",
        acks=False,  # only the committer commits
    )


async def _reread(app: StreamApp, storage: Storage) -> None:
    """Read secrets again."""
    if app.tls is not None:
        await asyncio.to_thread(app.tls.reread)
    await storage.clients.reread_credentials()


def _connect_signals(
    app: StreamApp, table: WindowTable, storage: Storage, monitoring: MonitoringService
) -> None:
    """Pass rebalances to the table; start the table and the S3 clients with the app."""
    settings = app.settings

    async def revoked(_: object, tps: Iterable[tuples.TP], **__: object) -> None:
        # Rebalances are eager: all partitions are revoked.
        log_messages.revoked(settings.kafka.events_topic, [TopicPartition(*tp) for tp in tps])
        table.revoked()

    async def assigned(_: object, tps: Iterable[tuples.TP], **__: object) -> None:
        held = [TopicPartition(*tp) for tp in tps if tp.topic == settings.kafka.events_topic]
        generation = app.consumer_generation_id
        log_messages.assigned(settings.kafka.events_topic, held, generation)
        table.assigned(held, generation)

    async def boot() -> None:
        asyncio.get_running_loop().set_exception_handler(handle_loop_exception)
        await app.add_async_context(storage)
        await app.add_runtime_dependency(table)
        log_messages.ready(settings, await monitoring.address())

    app.on_partitions_revoked.connect(cast("Any", revoked))
    app.on_partitions_assigned.connect(cast("Any", assigned))
    app.task(boot)


def _policy(settings: Settings) -> WindowPolicy:
    kafka, delivery = settings.kafka, settings.delivery
    return WindowPolicy(
        kafka.group,
        delivery.window_seconds,
        delivery.grace_seconds,
        undecodable_seconds=delivery.give_up_after_seconds,
        metadata_bytes_max=kafka.offset_metadata_bytes_max,
    )


def create_app(settings: Settings, router: Router, source: ConfigSource) -> StreamApp:
    """Return the Faust app of a worker, ready to be started.

    Args:
        settings: The settings at the start.
        router: Their destinations, compiled.
        source: Where they were read from; the destinations follow its changes.

    Raises:
        SetupError: A file named in `[kafka]` cannot be used.
    """
    kafka, delivery = settings.kafka, settings.delivery
    app = new_app(settings)
    storage = Storage(settings.s3)
    breakers = CircuitBreakers(SERVED_WINDOWS_MAX * delivery.window_seconds + SERVED_SECONDS_MIN)
    own = DestinationCounts(settings.http.metrics_destinations_max)
    counts, progress = Counts(destinations=own), Progress()
    deliver = WindowDelivery(
        storage,
        ReceiptPublisher(kafka.receipts_topic, app.receipt_producer).publish,
        RetryPolicy(delivery.retry_for_seconds, delivery.give_up_after_seconds),
        breakers,
        counts=counts,
    )
    window = timedelta(seconds=delivery.window_seconds)
    assignment = Assignment(_policy(settings), delivery.memory_max_mib * MIB)
    table = WindowTable(
        app,
        name="windows",
        beacon=app.beacon,  # so that a crash of the table ends the app
        assignment=assignment,
        router=router,
        breakers=breakers,
        counts=counts,
        progress=progress,
        on_drop=deliver.wake_all,
        upload_parts=deliver.upload_parts,
        abandon=lambda upload: storage.abandon(*upload),
        on_window_close=deliver,
    )
    table.tumbling(window, expires=window)

    @app.agent(_events(app), name="collect")
    async def collect(batches: StreamT[Any]) -> None:
        """Take each record batch into its partition's open window."""
        async for event in batches.events():
            await table.collect(event.message)

    reload = ReloadState(len(settings.destinations), time.time())
    watched = MetricSources(
        *(settings, counts, assignment, breakers, reload, storage.clients.skew),
        not_encrypted=lambda: storage.encryption.objects,
        log_ends=lambda: app.consumer.log_ends,
        high_watermarks=lambda: app.consumer.high_watermarks,
    )
    app.monitoring = MonitoringService(app, watched, progress, table)
    _connect_signals(app, table, storage, app.monitoring)

    use = partial(_use, table, breakers, counts)
    reread = partial(_reread, app, storage)
    app.task(Reloader(source, settings, router, use, reload, reread=reread).run)
    app.task(_summary(app, table, watched).run)
    app.task(partial(diagnose, kafka, partial(_is_answering, app, watched)))
    return app
