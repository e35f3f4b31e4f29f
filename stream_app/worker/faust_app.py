"""Faust's app and worker process under our settings; the consumer is `kafka.consumer`.

`new_app` returns the app with nothing on it; `worker.app` adds topics, agent and table. `Worker`
bounds how long the process may take to end.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn, cast

import faust
from aiokafka import AIOKafkaProducer
from faust.app.base import BootStrategy
from faust.tables import TableManager
from mode import ServiceT

from stream_app import log_events
from stream_app.config.settings import RETRY_SECONDS_MAX, Kafka, Settings
from stream_app.errors import InstanceFencedError
from stream_app.kafka.connection import METADATA_AGE_MS, client_options
from stream_app.kafka.consumer import BatchTransport, RecordBatchConsumer
from stream_app.kafka.receipts_topic import REQUEST_SECONDS_MAX
from stream_app.kafka.record_batches import install_lenient_decoding
from stream_app.kafka.secrets import RenewedPassword
from stream_app.kafka.tls import RenewedContext
from stream_app.logs import SERVICE_LOGGER, error_fields, log_event

TICK_SECONDS: Final = 0.25
"""Between two checks of idle partitions."""
BATCHES_WAITING_MAX: Final = 4
"""Batches between the fetcher and the agent; each is at most one fetch of a partition."""
END_SECONDS_MAX: Final = 8.0
"""After a signal or a crash the process is ended after so long."""
LINGER_SECONDS: Final = 0.01
"""Time for which a receipt waits for others to share its request, which costs worker and broker
more than a receipt does."""
BATCH_BYTES: Final = 64 * 1024
"""Receipts of one partition in a request: aiokafka wakes every waiting sender for each batch that
is full, and about as many as are published at a time fit into this one."""
IDLE_SECONDS_MAX: Final = 100.0 * RETRY_SECONDS_MAX
"""Time without a fetch after which aiokafka leaves the group, and does not join again before there
is a fetch, which needs a member: longer than any outage of S3 for which windows wait."""
REQUEST_SECONDS_MIN: Final = 30.0
"""Timeout of requests to Kafka, if the group's session is not longer: a connection that was lost
without a reset is noticed by it."""
REBALANCE_SECONDS_MIN: Final = 20.0
"""Time in which each member must have joined again, if the group's session is not longer: a member
that does not holds up the others for so long. The request to join waits for it."""

logger = logging.getLogger(__name__)


def end_process(status: int) -> NoReturn:
    """End the process at once, without waiting for threads and servers."""
    log_event(logger, log_events.STOPPED, status=status)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


class Worker(faust.Worker):
    """Worker process around the app, whose end after a signal or a crash is bounded.

    Faust waits without a bound for servers that are down. Nothing is lost by an exit at any moment:
    the next owner of a partition continues from its commit.
    """

    end_seconds_max: float = END_SECONDS_MAX
    _ending: threading.Timer | None = None
    status = 0
    """Exit status, once the worker has crashed."""

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        if self._ending is None:
            log_event(logger, log_events.STOPPING, signal=signal.name)
        self._end_soon()
        super()._schedule_shutdown(signal)

    def _crash(self, reason: BaseException) -> None:
        if self.status == 0:
            log_event(logger, log_events.CRASHED, **error_fields(reason))
        # Also of a worker that was stopping: its last commits may be missing. As for a wrong
        # configuration, a supervisor must not start one again whose place another worker has: the
        # two would take it from each other without an end.
        self.status = 2 if isinstance(reason, InstanceFencedError) else 1
        self._end_soon()
        super()._crash(reason)

    def _end_soon(self) -> None:
        if self._ending is None:
            self._ending = threading.Timer(self.end_seconds_max, self._end)
            self._ending.daemon = True
            self._ending.start()

    def _end(self) -> None:
        end_process(self.status)


class _Tables(TableManager):
    """Table manager that subscribes at once; Faust sleeps for a second, in case tables are added.

    Agents are no reason to wait: each has registered its topic when it has started, and all of them
    are started before the tables.
    """

    logger = SERVICE_LOGGER

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def _credentials(
    kafka: Kafka, options: Mapping[str, Any]
) -> faust.SSLCredentials | faust.OAuthCredentials | faust.SASLCredentials | None:
    """Return what Faust makes the same options of for its own clients."""
    context = options["ssl_context"]
    if "sasl_oauth_token_provider" in options:
        return faust.OAuthCredentials(
            oauth_cb=options["sasl_oauth_token_provider"], ssl_context=context
        )
    if kafka.sasl_mechanism is not None:
        return faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism,
            username=kafka.sasl_username,
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


class _OwnWeb(BootStrategy):
    """Boot strategy that starts our monitoring in place of Faust's web server."""

    enable_web = False

    def web_server(self) -> Iterable[ServiceT]:
        """Return the monitoring service, which starts before the consumer and ends after it."""
        monitoring = cast("StreamApp", self.app).monitoring
        return () if monitoring is None else (monitoring,)


class StreamApp(faust.App):
    """Faust app that reads record batches and keeps nothing on disk."""

    BootStrategy = _OwnWeb
    monitoring: ServiceT | None = None
    """Service for metrics and health."""

    settings: Settings
    consumer: RecordBatchConsumer
    logger = SERVICE_LOGGER

    client_options: dict[str, Any]
    """Options of Kafka clients other than Faust's."""
    tls: RenewedContext | None
    """TLS context of all clients; None without encryption."""
    password: RenewedPassword
    """Password of all clients."""

    async def receipt_producer(self) -> AIOKafkaProducer:
        """Return aiokafka's producer, started."""
        producer: Any = self.producer
        if not producer.started:
            await producer.maybe_start()
        return cast("AIOKafkaProducer", producer._ensure_producer())  # noqa: SLF001

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def _producer_flush(self, logger: Any) -> None:  # noqa: ANN401 - Faust's signature
        """Wait for no receipt when partitions are revoked, nor at the end.

        Its delivery is cancelled, and the partition's next owner sends it again. The producer may
        wait for a broker that does not respond, and all other members would wait for this one.
        """

    def _create_directories(self) -> None:
        """Make none: no table has a store."""


def new_app(settings: Settings) -> StreamApp:
    """Return a Faust app, without topics, under the settings that the guarantees rest on."""
    install_lenient_decoding()
    kafka = settings.kafka
    session = float(kafka.session_timeout_seconds)
    password = RenewedPassword(kafka)  # first: a change from now on is found
    options = client_options(kafka)
    app = StreamApp(
        kafka.group,
        broker=kafka.broker,
        broker_credentials=_credentials(kafka, options),
        consumer_group_instance_id=kafka.group_instance_id,
        broker_session_timeout=session,
        broker_heartbeat_interval=max(1.0, session / 10),
        broker_rebalance_timeout=max(REBALANCE_SECONDS_MIN, session),
        broker_request_timeout=max(REQUEST_SECONDS_MIN, session + 10.0),
        # While S3 is down no batch is taken, however long: the worker must stay a member.
        broker_max_poll_interval=IDLE_SECONDS_MAX,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_AGE_MS,
        producer_metadata_max_age_ms=METADATA_AGE_MS,
        # Faust's 20 minutes are also how long a receipt may wait for a partition that is gone.
        producer_request_timeout=REQUEST_SECONDS_MAX,
        producer_linger=LINGER_SECONDS,
        producer_max_batch_size=BATCH_BYTES,
        stream_buffer_maxsize=BATCHES_WAITING_MAX,
        # Nothing is acknowledged, so waiting for acknowledgements would never end.
        stream_wait_empty=False,
        agent_supervisor="mode.CrashingSupervisor",
        table_cleanup_interval=TICK_SECONDS,
        table_standby_replicas=0,
        TableManager=_Tables,
        topic_allow_declare=False,
        topic_disable_leader=True,
        Worker=Worker,
        web_enabled=False,
        web_bind="127.0.0.1",
        web_tables_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.settings, app.client_options = settings, options
    app.tls, app.password = options["ssl_context"], password
    return app
