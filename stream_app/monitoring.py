"""What watches a worker: its heart, and what its web server says.

    GET /metrics        every metric of `metrics`, as Prometheus reads them
    GET /health/live    200, or 503 and the reasons why only a new start would help
    GET /health/ready   200, or 503 and what it still waits for

It only looks: no promise rests on it, and none of it can hold up a delivery. It starts before the
consumer, so that a worker that waits for Kafka can be asked what it waits for.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mode import Service

from stream_app import happenings
from stream_app.consumer import StreamApp
from stream_app.fetching import SERVICE_LOGGER
from stream_app.health import (
    BEAT_SECONDS,
    Heart,
    Membership,
    Progress,
    live,
    ready,
    signs,
)
from stream_app.logs import say
from stream_app.metrics import Delays, Pulse, Samples, Watched, readings

if TYPE_CHECKING:
    from stream_app.exposition import Exposition
    from stream_app.watchserver import WatchServer

logger = logging.getLogger(__name__)


class Monitoring(Service):
    """A service of the app; see above.

    Args:
        app: The app, with its settings.
        watched: What can be read off the worker.
        progress: How its commits go on.
        table: Started when the worker has what it needs.
    """

    logger = SERVICE_LOGGER

    def __init__(
        self, app: StreamApp, watched: Watched, progress: Progress, table: Service
    ) -> None:
        super().__init__()
        self._app = app
        self._watched = watched
        self._progress = progress
        self._table = table
        self._heart = Heart(time.monotonic())
        self._address: str | None = None
        self._server: WatchServer | None = None
        self._under_way: list[asyncio.Task[None]] = []
        self._scraping = asyncio.Lock()
        self._exposition: Exposition | None = None

    # --- life ---------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Let the heart beat; begin to serve, if the settings say so, and do not wait for it."""
        self._heart = Heart(time.monotonic())
        self._under_way = [asyncio.create_task(self._serve()), asyncio.create_task(self._beat())]
        for task in self._under_way:
            task.add_done_callback(_tell_of_failure)

    async def on_stop(self) -> None:
        """End both."""
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._server is not None:
            await self._server.close()

    async def address(self) -> str | None:
        """Return where metrics and health are served, as soon as that is known; None: nowhere."""
        if self._under_way:
            await asyncio.wait(self._under_way[:1])
        return self._address

    async def _serve(self) -> None:
        http = self._app.settings.http
        if http.port:
            server_of = await asyncio.to_thread(_server_class)
            checks = {"/health/live": self._tell_life, "/health/ready": self._tell_readiness}
            self._server = server_of(self._metrics, checks)
            self._address = await self._server.listen(http.bind, http.port)

    async def _beat(self) -> None:
        """Beat for ever; how late it came is judged by `health`."""
        progress = self._progress
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now, consumer = time.monotonic(), self._app.consumer
            self._heart.beat(now)
            progress.reachable(now, is_known=consumer.knows_broker)
            if progress.asked_at is None and consumer.started:
                progress.asked_at = now
                consumer.ask_thread(progress.answered)

    # --- what is asked ------------------------------------------------------------------------

    async def _metrics(self, accept: str | None) -> tuple[bytes, str]:
        async with self._scraping:
            # Read here, where nothing can change meanwhile; written in a thread, for as long as
            # that takes.
            pulse = Pulse(
                live(self._heart, self._progress, time.monotonic()).holds,
                ready(self._membership()).holds,
                self._heart.late_seconds,
            )
            taken = readings(self._watched, pulse, time.time())
            return await asyncio.to_thread(self._encode, taken, accept)

    def _encode(
        self, taken: Mapping[str, Samples | Delays], accept: str | None
    ) -> tuple[bytes, str]:
        if self._exposition is None:
            # prometheus_client: a worker that nobody asks need not have it.
            from stream_app.exposition import Exposition  # noqa: PLC0415

            self._exposition = Exposition()
        return self._exposition.encode(taken, accept)

    def _tell_life(self) -> dict[str, Any]:
        now = time.monotonic()
        verdict = live(self._heart, self._progress, now)
        seconds = signs(self._heart, self._progress, now)
        return {"live": verdict.holds, "reasons": verdict.reasons, "seconds": seconds}

    def _tell_readiness(self) -> dict[str, Any]:
        membership = self._membership()
        verdict = ready(membership)
        partitions = {
            "read_back": membership.partitions_read_back,
            "missing": membership.partitions_missing,
        }
        return {"ready": verdict.holds, "reasons": verdict.reasons, "partitions": partitions}

    def _membership(self) -> Membership:
        assignment, app = self._watched.assignment, self._app
        is_member = assignment.generation is not None
        events_topic = app.settings.kafka.events_topic
        is_missing = is_member and not app.consumer.has_topic(events_topic)
        return Membership(
            has_started=self._table.started,
            is_ending=app.should_stop,
            is_member=is_member,
            partitions_read_back=len(assignment.partitions),
            partitions_missing=len(assignment.missing),
            topics_missing=(events_topic,) if is_missing else (),
        )


def _server_class() -> "type[WatchServer]":
    """Import what takes a while; in a thread, while the consumer connects."""
    from stream_app.watchserver import WatchServer  # noqa: PLC0415

    return WatchServer


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    """Log why one of the two has ended; the worker goes on without it."""
    if not task.cancelled() and task.exception() is not None:
        text = "monitoring has failed; report it: %r"
        say(logger, happenings.WATCHING_FAILED, text, task.exception())
