"""The web server at which a worker is watched; what is said there is `monitoring`'s matter.

aiohttp's server takes a while to import, and so this module is imported while the worker connects.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from stream_app import happenings
from stream_app.logs import say
from stream_app.settings import HTTP_PORT_MAX

PORTS_MAX: Final = 32
"""The port and those behind it that are tried: workers of one machine that have one each."""
SCRAPES_MAX: Final = 4
"""Requests for metrics at a time."""
STOP_SECONDS_MAX: Final = 1.0
"""How long answers under way may take when the server ends."""

Check = Callable[[], Mapping[str, Any]]
"""Returns what is to be told; its first value says whether all is well."""

logger = logging.getLogger(__name__)


class WatchServer:
    """Answers GET.

    Args:
        metrics: Returns the page of metrics and its content type, given an `Accept` header.
        checks: What is answered with 200 or 503, by path.
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
        """Listen at the first port that is free; return the address, None if there is none."""
        routes = web.Application()
        routes.router.add_get("/metrics", self._scrape)
        for path in self._checks:
            routes.router.add_get(path, self._check)
        self._runner = web.AppRunner(routes, access_log=None, shutdown_timeout=STOP_SECONDS_MAX)
        await self._runner.setup()
        host = f"[{bind}]" if ":" in bind else bind
        last = min(port + PORTS_MAX - 1, HTTP_PORT_MAX)
        for tried in range(port, last + 1):
            try:
                await web.TCPSite(self._runner, bind, tried).start()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                say(
                    *(logger, happenings.NOT_WATCHED),
                    "no metrics and health: %s:%d cannot be listened at: %s; set [http] bind and "
                    "port, or port = 0 for none",
                    *(host, tried, error.strerror or error),
                )
                return None
            return f"http://{host}:{tried}"
        say(
            *(logger, happenings.NOT_WATCHED),
            "no metrics and health: ports %d to %d of %s are taken; set [http] port, or 0 for none",
            *(port, last, host),
        )
        return None

    async def close(self) -> None:
        """Answer nothing any more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _scrape(self, request: web.Request) -> web.Response:
        if self._scrapes >= SCRAPES_MAX:
            raise web.HTTPServiceUnavailable(text=f"{SCRAPES_MAX} scrapes are under way\n")
        self._scrapes += 1
        try:
            body, content_type = await self._metrics(request.headers.get("Accept"))
        finally:
            self._scrapes -= 1
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _check(self, request: web.Request) -> web.Response:
        told = self._checks[request.path]()
        return web.Response(
            status=200 if next(iter(told.values())) else 503,
            body=orjson.dumps(told) + b"\n",
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
