"""What watches a worker: its heart, and the web server of `/metrics` and `/health`.

    GET /metrics        every metric of `metrics`, as Prometheus reads them
    GET /health/live    200, or 503 and the reasons why only a new start would help
    GET /health/ready   200, or 503 and what it still waits for

It only looks: no promise rests on it, and none of it can hold up a delivery. It starts before the
consumer, so that a worker that waits for Kafka can be asked what it waits for.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from mode import Service

from stream_app.consumer import StreamApp
from stream_app.fetching import SERVICE_LOGGER
from stream_app.health import (
    BEAT_SECONDS,
    Heart,
    Membership,
    Progress,
    Verdict,
    live,
    ready,
    signs,
)
from stream_app.metrics import Delays, Pulse, Samples, Watched, readings
from stream_app.settings import HTTP_PORT_MAX

if TYPE_CHECKING:
    from stream_app.exposition import Exposition

PORTS_MAX: Final = 32
"""The port and those behind it that are tried: workers of one machine that have one each."""
SCRAPES_MAX: Final = 4
"""Scrapes at a time, of which one is worked on."""
STOP_SECONDS_MAX: Final = 1.0
"""How long the server waits for answers under way when it ends."""

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
        self.address: str | None = None
        """Where it is served; None: nowhere."""
        self._app = app
        self._watched = watched
        self._progress = progress
        self._table = table
        self._heart = Heart(time.monotonic())
        self._beating: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._scrapes = 0
        self._scraping = asyncio.Lock()
        self._exposition: Exposition | None = None

    # --- life ---------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Let the heart beat, and serve, if the settings say so and there is a port."""
        self._heart = Heart(time.monotonic())
        self._beating = asyncio.create_task(self._beat())
        self._beating.add_done_callback(_tell_of_its_end)
        if self._app.settings.http.port:
            await self._serve()

    async def on_stop(self) -> None:
        """End both."""
        if self._beating is not None:
            self._beating.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _beat(self) -> None:
        """Beat for ever; who is late for it is seen by `health`."""
        progress = self._progress
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now, consumer = time.monotonic(), self._app.consumer
            self._heart.beat(now)
            progress.reachable(now, is_known=consumer.is_coordinated)
            if progress.asked_at is None and consumer.started:
                progress.asked_at = now
                consumer.ask_thread(progress.answered)

    async def _serve(self) -> None:
        """Listen at the first port that is free."""
        http = self._app.settings.http
        routes = web.Application()
        routes.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
            ]
        )
        self._runner = web.AppRunner(routes, access_log=None, shutdown_timeout=STOP_SECONDS_MAX)
        await self._runner.setup()
        host = f"[{http.bind}]" if ":" in http.bind else http.bind
        last = min(http.port + PORTS_MAX - 1, HTTP_PORT_MAX)
        for port in range(http.port, last + 1):
            try:
                await web.TCPSite(self._runner, http.bind, port).start()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                logger.warning(
                    "no metrics and health: %s:%d cannot be listened at: %s; set [http] bind and "
                    "port, or port = 0",
                    *(host, port, error.strerror or error),
                )
                return
            self.address = f"http://{host}:{port}"
            return
        logger.warning(
            "no metrics and health: ports %d to %d of %s are taken; set [http] port, or 0 for none",
            *(http.port, last, host),
        )

    # --- what is asked ------------------------------------------------------------------------

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._scrapes >= SCRAPES_MAX:
            raise web.HTTPServiceUnavailable(text=f"{SCRAPES_MAX} scrapes are under way\n")
        self._scrapes += 1
        try:
            async with self._scraping:
                # Read here, where nothing can change meanwhile; written in a thread, for as long
                # as that takes.
                now = time.monotonic()
                pulse = Pulse(
                    self._judge_life(now).holds,
                    ready(self._membership()).holds,
                    self._heart.late_seconds,
                )
                taken = readings(self._watched, pulse, time.time())
                accept = request.headers.get("Accept")
                body, content_type = await asyncio.to_thread(self._encode, taken, accept)
        finally:
            self._scrapes -= 1
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _live(self, _: web.Request) -> web.Response:
        now = time.monotonic()
        seconds = signs(self._heart, self._progress, now)
        return _answer("live", self._judge_life(now), {"seconds": seconds})

    async def _ready(self, _: web.Request) -> web.Response:
        membership = self._membership()
        partitions = {
            "read_back": membership.partitions_read_back,
            "missing": membership.partitions_missing,
        }
        return _answer("ready", ready(membership), {"partitions": partitions})

    def _judge_life(self, now: float) -> Verdict:
        return live(self._heart, self._progress, now)

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

    def _encode(
        self, taken: Mapping[str, Samples | Delays], accept: str | None
    ) -> tuple[bytes, str]:
        if self._exposition is None:
            # prometheus_client: a worker that nobody asks need not have it.
            from stream_app.exposition import Exposition  # noqa: PLC0415

            self._exposition = Exposition()
        return self._exposition.encode(taken, accept)


def _answer(what: str, verdict: Verdict, more: Mapping[str, Any]) -> web.Response:
    return web.Response(
        status=200 if verdict.holds else 503,
        body=orjson.dumps({what: verdict.holds, "reasons": verdict.reasons, **more}) + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _tell_of_its_end(beating: asyncio.Task[None]) -> None:
    """Log why the heart has stopped; `/health/live` will say that it has."""
    if not beating.cancelled() and beating.exception() is not None:
        logger.error("the heartbeat has ended; report it", exc_info=beating.exception())
