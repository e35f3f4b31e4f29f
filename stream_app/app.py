"""The worker as a Faust app: topics, the windowed table, the agent, its life.

    events topic ─> agent `collect` ─> WindowTable.tumbling(window) ─on_window_close─> Deliver
                                                                     └> S3, then receipts topic

`create_app(settings, program, config)` makes one. `faust -A stream_app.app worker` finds the
attribute `app`, which is made on first use from `STREAM_APP_CONFIG` (default `stream_app.toml`) and
the environment.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, NoReturn, cast

import faust
from faust.tables import TableManager
from faust.types import StreamT, tuples

from stream_app import happenings, telling
from stream_app.assignment import Assignment
from stream_app.batches import Program
from stream_app.breakers import Breakers
from stream_app.configfile import CONFIG_DEFAULT, CONFIG_VARIABLE, compile_program, load
from stream_app.consumer import StreamApp
from stream_app.deliveries import Rules
from stream_app.delivery import Deliver, Publish
from stream_app.errors import StreamAppError
from stream_app.expressions import TP
from stream_app.fetching import SERVICE_LOGGER
from stream_app.health import Progress
from stream_app.kafka import client_options
from stream_app.logs import say
from stream_app.memory import settle_collector
from stream_app.metrics import Counts, ReloadState, Watched
from stream_app.monitoring import Monitoring
from stream_app.receipts import Message
from stream_app.reload import Reloader
from stream_app.retries import Patience
from stream_app.s3 import Storage
from stream_app.settings import Kafka, Settings
from stream_app.table import WindowTable
from stream_app.watch import Watch, complain

TICK_SECONDS: Final = 0.25
"""How often idle partitions are looked at."""
BATCHES_WAITING_MAX: Final = 4
"""Batches between the fetcher and the agent; each is at most one fetch of a partition."""
MIB: Final = 1024 * 1024
END_SECONDS_MAX: Final = 8.0
"""How long a worker may take to end by itself, after a signal or a crash."""
REPEATED_SECONDS: Final = 10.0
"""How often the same message of aiokafka is logged."""
DAY_SECONDS: Final = 86_400.0
RECEIPTS_MAX: Final = 64
"""Receipts on their way at a time: aiokafka wakes all that wait for each batch that leaves."""
SERVED_WINDOWS_MAX: Final = 2
SERVED_SECONDS_MIN: Final = 30
"""A destination that was served within two windows and so many seconds proves that S3 answers."""

logger = logging.getLogger(__name__)


class Worker(faust.Worker):
    """The process around the app: ends for certain when it is told to, or when it has crashed.

    Faust waits without a bound for servers that are away. Nothing is lost by an exit at any moment:
    what is not settled is done again from the commit, by whoever has the partition next.
    """

    _ending: threading.Timer | None = None

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        if self._ending is None:
            say(logger, happenings.STOPPING, "stopping: %s", signal.name, signal=signal.name)
        self._end_within(status=0)
        super()._schedule_shutdown(signal)

    def _crash(self, reason: BaseException) -> None:
        if self._ending is None:
            telling.crashed(reason)
        self._end_within(status=1)
        super()._crash(reason)

    def _end_within(self, *, status: int) -> None:
        if self._ending is None:
            self._ending = threading.Timer(END_SECONDS_MAX, _end, (status,))
            self._ending.daemon = True
            self._ending.start()


class _Tables(TableManager):
    """Lets the app subscribe at once; Faust sleeps for a second before, in case tables are added.

    Agents are no reason to wait: each has entered its topic by the time that it has started, and
    all of them are started before the tables.
    """

    logger = SERVICE_LOGGER

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def _end(status: int) -> NoReturn:
    """End the process at once, whatever threads and servers have still to say."""
    say(logger, happenings.STOPPED, "stopped, status %d", status, status=status)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


class _Readable(logging.Filter):
    """Keeps the log to what helps."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], StreamAppError):
            # An error of ours says in its text what to do; a traceback would only hide it.
            record.exc_info = None
        if not record.name.startswith("aiokafka"):
            return True
        # While a broker is away, aiokafka says so ten times a second.
        template = str(record.msg)
        if record.created - self._passed.get(template, 0.0) < REPEATED_SECONDS:
            return False
        self._passed[template] = record.created
        return True


def create_app(settings: Settings, program: Program, config: str) -> StreamApp:
    """Return the worker for these settings, ready to be started.

    Args:
        settings: What it begins with.
        program: Their destinations, compiled.
        config: The file that they are of; the destinations change with it.

    Raises:
        SetupError: A file named in `[kafka]` cannot be used.
    """
    kafka, delivery = settings.kafka, settings.delivery
    app = _new_app(settings)
    events = app.topic(
        kafka.events_topic,
        key_type=bytes,
        key_serializer="raw",
        value_type=None,  # the value is a Batch already
        value_serializer="raw",
        acks=False,  # only our own commits count
    )
    storage = Storage(settings.s3)
    breakers = Breakers(SERVED_WINDOWS_MAX * delivery.window_seconds + SERVED_SECONDS_MIN)
    counts, progress = Counts(), Progress()
    deliver = Deliver(
        storage,
        _publisher(app),
        Patience(delivery.retry_for_seconds, delivery.give_up_after_seconds),
        breakers,
        counts=counts,
    )
    window = timedelta(seconds=delivery.window_seconds)
    assignment = Assignment(
        Rules(kafka.group, delivery.window_seconds, delivery.grace_seconds),
        delivery.memory_max_mib * MIB,
    )
    table = WindowTable(
        app,
        name="windows",
        beacon=app.beacon,  # so that a crash in it is the app's
        assignment=assignment,
        program=program,
        breakers=breakers,
        counts=counts,
        progress=progress,
        on_shed=deliver.look_again,
        stream=deliver.stream,
        abandon=lambda upload: storage.abandon(*upload),
        on_window_close=deliver,
    )
    table.tumbling(window, expires=window)

    @app.agent(events, name="collect")
    async def collect(batches: StreamT[Any]) -> None:
        """Take each record batch into its partition's open window."""
        async for event in batches.events():
            await table.collect(event.message)

    reload = ReloadState(len(settings.destinations), time.time())
    watched = Watched(
        *(settings, counts, assignment, breakers, reload, storage.clients.skew),
        log_ends=lambda: app.consumer.log_ends,
    )
    app.monitoring = Monitoring(app, watched, progress, table)
    _follow_life(app, table, storage, app.monitoring)
    app.task(Reloader(config, os.environ, settings, table.use, reload).run)
    app.task(_watch(app, table, assignment, counts).run)
    return app


def _watch(app: StreamApp, table: WindowTable, assignment: Assignment, counts: Counts) -> Watch:
    return Watch(
        counts,
        assignment,
        app.settings.delivery.memory_max_mib,
        app.settings.kafka.broker,
        log_ends=lambda: app.consumer.log_ends,
        waited=lambda: table.waited_seconds,
        knows_broker=lambda: app.consumer.knows_broker,
    )


def _publisher(app: StreamApp) -> Publish:
    """Return what sends one receipt and returns when the broker has it."""
    receipts = app.topic(
        app.settings.kafka.receipts_topic,
        key_type=bytes,
        key_serializer="raw",
        value_type=bytes,
        value_serializer="raw",
    )
    publishing = asyncio.Semaphore(RECEIPTS_MAX)

    async def publish(message: Message) -> None:
        async with publishing:
            sent = await receipts.send(
                key=message.key, value=message.value, headers=list(message.headers)
            )
            await sent

    return publish


def _follow_life(
    app: StreamApp, table: WindowTable, storage: Storage, monitoring: Monitoring
) -> None:
    """Tell the table of rebalances; start it and the S3 client with the app."""
    settings = app.settings

    async def revoked(_: object, tps: Iterable[tuples.TP], **__: object) -> None:
        # Rebalances are eager: all of them.
        telling.revoked(settings.kafka.events_topic, [TP(*tp) for tp in tps])
        table.revoked()

    async def assigned(_: object, tps: Iterable[tuples.TP], **__: object) -> None:
        mine = [TP(*tp) for tp in tps if tp.topic == settings.kafka.events_topic]
        generation = app.consumer_generation_id
        telling.assigned(settings.kafka.events_topic, mine, generation)
        table.assigned(mine, generation)

    async def boot() -> None:
        asyncio.get_running_loop().set_exception_handler(complain)
        await app.add_async_context(storage)
        await app.add_runtime_dependency(table)
        telling.ready(settings, await monitoring.address())

    app.on_partitions_revoked.connect(cast("Any", revoked))
    app.on_partitions_assigned.connect(cast("Any", assigned))
    app.task(boot)


def run_worker(settings: Settings, program: Program, config: str) -> NoReturn:
    """Run a worker until SIGTERM or Ctrl-C, and end the process with its status.

    Args:
        settings: What it begins with.
        program: Their destinations, compiled.
        config: The file that they are of; the destinations change with it.

    Raises:
        SetupError: S3 does not accept our credentials.
    """
    for name in ("faust", "mode", "aiokafka", "aiobotocore", "botocore"):
        # Their lesser messages speak of their own insides, not of the life of the worker.
        logging.getLogger(name).setLevel(logging.WARNING)
    # A refresh that fails is told by `roles` in one line, here with a traceback for each.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Readable())
    telling.starting(settings, config)
    asyncio.run(_require_credentials(settings))
    try:
        worker = Worker(
            create_app(settings, program, config),
            override_logging=False,
            redirect_stdouts=False,
            quiet=True,  # it would write to standard error past the log
        )
        worker.spinner = None
        settle_collector()
        worker.execute_from_commandline()
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    # Not a return: Python would wait for a thread in which an expression may still run.
    _end(status)


def _new_app(settings: Settings) -> StreamApp:
    """Return Faust's app under the settings that its guarantees rest on, with nothing on it yet."""
    kafka = settings.kafka
    app = StreamApp(
        kafka.group,
        broker=kafka.broker,
        broker_credentials=_credentials(kafka),
        broker_session_timeout=float(kafka.session_timeout_seconds),
        broker_heartbeat_interval=max(1.0, kafka.session_timeout_seconds / 10),
        # While S3 is away no batch is taken, for as long as that lasts: still a live member.
        broker_max_poll_interval=DAY_SECONDS,
        consumer_auto_offset_reset="earliest",
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
    app.settings = settings
    return app


async def _require_credentials(settings: Settings) -> None:
    async with Storage(settings.s3) as storage:
        await storage.require_credentials(settings.destinations[0])


def _credentials(kafka: Kafka) -> faust.SSLCredentials | faust.SASLCredentials | None:
    options = client_options(kafka)
    if kafka.sasl_mechanism is not None:
        return faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism,
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            ssl_context=options["ssl_context"],
        )
    context = options["ssl_context"]
    return None if context is None else faust.SSLCredentials(context)


def __getattr__(name: str) -> StreamApp:
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        config = os.environ.get(CONFIG_VARIABLE, CONFIG_DEFAULT)
        settings = load(config, os.environ)
        app = create_app(settings, compile_program(settings, config), config)
    except StreamAppError as error:
        raise SystemExit(f"stream-app: {error}") from None
    globals()["app"] = app  # made once
    return app
