"""Web server of a worker's metrics and health checks; `monitoring_service` provides their content.

aiohttp's server takes a while to import, and so this module is imported while the worker connects.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from stream_app import log_events
from stream_app.config.settings import HTTP_PORT_MAX
from stream_app.logs import log_event

PORTS_MAX: Final = 32
"""Ports that are tried from the configured one on: workers of one machine have one each."""
SCRAPES_MAX: Final = 4
"""Concurrent requests for metrics."""
STOP_SECONDS_MAX: Final = 1.0
"""Time for responses in flight when the server stops."""

Check = Callable[[], Mapping[str, Any]]
"""Returns the fields of a health check's response; the first is whether it has passed."""

logger = logging.getLogger(__name__)


class MonitoringServer:
    """HTTP server for metrics and health checks.

    Args:
        metrics: Returns the page of metrics and its content type, given an `Accept` header.
        checks: Health checks, by path; one that has passed is a 200, else a 503.
    """

    def __init__(
        self,
        metrics: Callable[[str | None], Awaitable[tuple[bytes, str]]],
        checks: Mapping[str, Check],
    ) -> None:
        self._metrics = metrics
        self._checks = checks
        self._scrapes = 0
        self._runner: web.AppRunner | None = None

    async def listen(self, bind: str, port: int) -> str | None:
        """Listen on the first free port; return the server's URL, None if it cannot listen."""
        routes = web.Application()
        routes.router.add_get("/metrics", self._scrape)
        for path in self._checks:
            routes.router.add_get(path, self._check)
        self._runner = web.AppRunner(routes, access_log=None, shutdown_timeout=STOP_SECONDS_MAX)
        await self._runner.setup()
        host = f"[{bind}]" if ":" in bind else bind
        last = min(port + PORTS_MAX - 1, HTTP_PORT_MAX)
        for number in range(port, last + 1):
            try:
                await web.TCPSite(self._runner, bind, number).start()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                reason = f"cannot listen on {host}:{number}: {error.strerror or error}"
                break
            return f"http://{host}:{number}"
        else:
            reason = f"ports {port} to {last} of {host} are in use"
        log_event(logger, log_events.MONITORING_UNAVAILABLE, reason=reason)
        return None

    async def close(self) -> None:
        """Stop the server."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _scrape(self, request: web.Request) -> web.Response:
        if self._scrapes >= SCRAPES_MAX:
            raise web.HTTPServiceUnavailable(text=f"{SCRAPES_MAX} scrapes are in progress\n")
        self._scrapes += 1
        try:
            body, content_type = await self._metrics(request.headers.get("Accept"))
        finally:
            self._scrapes -= 1
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _check(self, request: web.Request) -> web.Response:
        fields = self._checks[request.path]()
        return web.Response(
            status=200 if next(iter(fields.values())) else 503,
            body=orjson.dumps(fields) + b"\n",
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
