"""Monitoring service: monitors the event loop, and serves metrics and health.

    GET /metrics        every metric of `metrics`, as Prometheus reads them
    GET /health/live    200, or 503 and the reasons why only a restart would help
    GET /health/ready   200, or 503 and what the worker waits for

Monitoring only reads: no promise rests on it, and no delivery waits for it. The service starts
before the consumer, so that a worker that waits for Kafka can report that.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mode import Service

from stream_app import log_events
from stream_app.logs import SERVICE_LOGGER, error_fields, log_event
from stream_app.monitoring.accumulators import Delays
from stream_app.monitoring.health import (
    BEAT_SECONDS,
    LoopMonitor,
    Membership,
    Progress,
    durations,
    live,
    ready,
    warnings,
)
from stream_app.monitoring.metrics import HealthStatus, MetricSources, Samples, readings
from stream_app.monitoring.unanswered_partitions import Fetch
from stream_app.worker.faust_app import StreamApp

if TYPE_CHECKING:
    from stream_app.monitoring.http import MonitoringServer
    from stream_app.monitoring.prometheus import Exposition

logger = logging.getLogger(__name__)


class MonitoringService(Service):
    """Service that checks the event loop and serves metrics and health.

    Args:
        app: The app, with its settings.
        sources: The state that metrics are read from.
        progress: Progress of its commits.
        table: The window table, started when the worker can deliver.
    """

    logger = SERVICE_LOGGER

    def __init__(
        self, app: StreamApp, sources: MetricSources, progress: Progress, table: Service
    ) -> None:
        super().__init__()
        self._app = app
        self._sources = sources
        self._progress = progress
        self._table = table
        self._loop_monitor = LoopMonitor(time.monotonic())
        self._address: str | None = None
        self._server: MonitoringServer | None = None
        self._under_way: list[asyncio.Task[None]] = []
        self._scraping = asyncio.Lock()
        self._exposition: Exposition | None = None

    # --- life ---------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Start the loop monitor and, if configured, the HTTP server, without waiting for them."""
        self._loop_monitor = LoopMonitor(time.monotonic())
        self._under_way = [asyncio.create_task(self._serve()), asyncio.create_task(self._beat())]
        for task in self._under_way:
            task.add_done_callback(_log_failure)

    async def on_stop(self) -> None:
        """Stop both."""
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._server is not None:
            await self._server.close()

    async def address(self) -> str | None:
        """Return the address of the HTTP server as soon as it is known; None: there is none."""
        if self._under_way:
            await asyncio.wait(self._under_way[:1])
        return self._address

    async def _serve(self) -> None:
        http = self._app.settings.http
        if http.port:
            server_of = await asyncio.to_thread(_server_class)
            checks = {"/health/live": self._live, "/health/ready": self._ready}
            self._server = server_of(self._metrics, checks)
            self._address = await self._server.listen(http.bind, http.port)

    async def _beat(self) -> None:
        """Record at a fixed interval that the event loop runs; `health` judges delays."""
        progress = self._progress
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now, consumer = time.monotonic(), self._app.consumer
            self._loop_monitor.beat(now)
            is_member = self._sources.assignment.generation is not None
            progress.member(now, is_member=is_member)
            progress.reachable(now, is_known=consumer.knows_coordinator)
            fetches = {tp: Fetch(*it) for tp, it in consumer.fetches().items()}
            self._sources.unanswered.check(now, fetches)
            if progress.requested_at is None and consumer.started:
                progress.requested_at = now
                consumer.call_in_thread(progress.responded)

    # --- responses ---------------------------------------------------------------------------

    async def _metrics(self, accept: str | None) -> tuple[bytes, str]:
        async with self._scraping:
            # Read here, where nothing can change meanwhile; encoded in a thread.
            health = HealthStatus(
                live(self._loop_monitor, self._progress, time.monotonic()).passed,
                ready(self._membership()).passed,
                self._loop_monitor.lag_seconds,
            )
            taken = readings(self._sources, health, time.time())
            return await asyncio.to_thread(self._encode, taken, accept)

    def _encode(
        self, taken: Mapping[str, Samples | Delays], accept: str | None
    ) -> tuple[bytes, str]:
        if self._exposition is None:
            # A worker that is never scraped does not import prometheus_client.
            from stream_app.monitoring.prometheus import Exposition  # noqa: PLC0415

            self._exposition = Exposition()
        return self._exposition.encode(taken, accept)

    def _live(self) -> dict[str, Any]:
        now = time.monotonic()
        verdict = live(self._loop_monitor, self._progress, now)
        seconds = durations(self._loop_monitor, self._progress, now)
        return {"live": verdict.passed, "reasons": verdict.reasons, "seconds": seconds}

    def _ready(self) -> dict[str, Any]:
        membership = self._membership()
        verdict = ready(membership)
        partitions = {
            "read_back": membership.partitions_read_back,
            "missing": membership.partitions_missing,
        }
        counts = self._sources.counts
        return {
            "ready": verdict.passed,
            "reasons": verdict.reasons,
            "partitions": partitions,
            "warnings": warnings(counts.failing.worst(), counts.unmatched_keys.reported),
        }

    def _membership(self) -> Membership:
        assignment, app = self._sources.assignment, self._app
        is_member = assignment.generation is not None
        events_topic = app.settings.kafka.events_topic
        now, failing = time.monotonic(), self._sources.counts.longest_failing()
        is_missing = is_member and not app.consumer.has_topic(events_topic)
        return Membership(
            has_started=self._table.started,
            is_ending=app.should_stop,
            is_member=is_member,
            partitions_read_back=len(assignment.partitions),
            partitions_missing=len(assignment.missing),
            partitions_held_back=len(assignment.held_back),
            partitions_truncated=sum(it.is_truncated for it in assignment.partitions.values()),
            topics_missing=(events_topic,) if is_missing else (),
            coordinator_away_seconds=self._progress.unreachable_seconds(now),
            session_seconds=app.settings.kafka.session_timeout_seconds,
            partitions_unanswered=self._sources.unanswered_partitions(),
            receipt_failing_seconds=0.0 if failing is None else now - failing[0],
            receipt_error="" if failing is None else failing[1],
            partitions_waiting=tuple(
                f"partition {tp.topic}/{tp.partition} waits at offsets {wait.batch.offsets}, which "
                f"cannot be decoded: {wait.batch.reason}"
                for tp, wait in assignment.waits.items()
            ),
            standstills=self._progress.standstills,
        )


def _server_class() -> "type[MonitoringServer]":
    """Import the server, which takes a while; in a thread, while the consumer connects."""
    from stream_app.monitoring.http import MonitoringServer  # noqa: PLC0415

    return MonitoringServer


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log why one of the tasks has ended; the worker continues without it."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log_event(logger, log_events.MONITORING_FAILED, **error_fields(error))
