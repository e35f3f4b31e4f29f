"""The application: the API, the stream of what comes, and the page with what it is made of."""

import asyncio
import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from aiohttp import web

from stream_app.errors import SetupError
from stream_app.inspector.access import Door, answer, refusal
from stream_app.inspector.api import Api, wanted_of
from stream_app.inspector.guard import Gate
from stream_app.inspector.inspection import Inspection

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of a request: an event as text within JSON can take several times its size."""
WRITE_SECONDS_MAX: Final = 30.0
"""How long a page may take to take a message; then it is let go."""
BEGIN_SECONDS_MAX: Final = 5.0
"""How long a stream waits for the end of the log to be found."""
RETRY_MS: Final = 2_000
"""After so long a page asks again when its stream has ended."""
PAGE: Final = "index.html"
PAGES: Final = (
    "/",
    r"/events/{partition:\d+}/{offset:\d+}",
    "/destinations",
    "/destinations/{id}",
    r"/windows/{id}/{partition:\d+}/{offset:\d+}",
    "/login",
)
TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file of the page."""

    content: bytes
    content_type: str
    etag: str


def read_assets() -> dict[str, Asset]:
    """Return the page's files by name; they are few and small, and stay in memory.

    Raises:
        SetupError: They are not there.
    """
    folder = files("stream_app.inspector") / "static"
    assets = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        content_type = TYPES.get(PurePosixPath(file.name).suffix)
        if content_type is not None:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            assets[file.name] = Asset(content, content_type, digest)
    if PAGE not in assets:
        raise SetupError(
            f"the Inspector's page ({PAGE}) is not installed with stream_app; install it again"
        )
    return assets


def application(inspection: Inspection, gate: Gate, assets: Mapping[str, Asset]) -> web.Application:
    """Return the whole application.

    Args:
        inspection: What there is to tell.
        gate: Knows the token.
        assets: The page's files.
    """
    made = web.Application(client_max_size=BODY_BYTES_MAX)
    Door(gate).hang(made)
    Api(inspection).hang(made)
    _Pages(inspection, assets).hang(made)
    return made


class _Pages:
    def __init__(self, inspection: Inspection, assets: Mapping[str, Asset]) -> None:
        self._inspection = inspection
        self._assets = assets

    def hang(self, made: web.Application) -> None:
        made.router.add_get("/health", self._health)
        made.router.add_get("/api/live", self._live)
        made.router.add_route("*", "/api/{rest:.*}", self._no_route)
        made.router.add_get("/static/{name}", self._static)
        for path in PAGES:
            made.router.add_get(path, self._page)
        made.router.add_get("/{rest:.*}", self._no_page)
        made.on_shutdown.append(self._end)

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return answer({"status": "ok"})

    async def _no_route(self, request: web.Request) -> web.StreamResponse:
        return refusal(HTTPStatus.NOT_FOUND, f"{request.path} is no route of the API")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _file(request, self._assets[PAGE])

    async def _no_page(self, request: web.Request) -> web.StreamResponse:
        response = _file(request, self._assets[PAGE])
        response.set_status(HTTPStatus.NOT_FOUND)
        return response

    async def _static(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="there is no such file\n")
        return _file(request, asset)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Stream what comes, for as long as the page is open."""
        client = self._inspection.hub.join(wanted_of(request))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers["X-Accel-Buffering"] = "no"
        try:
            # What a page reads by /api/events from now on and what is told here leave no gap.
            await self._tail_begins()
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % RETRY_MS)
            async for text in client.messages():
                async with asyncio.timeout(WRITE_SECONDS_MAX):
                    await response.write(text)
        except TimeoutError:
            # It takes nothing any more, not even the end of its stream.
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._inspection.hub.leave(client)
        return response

    async def _tail_begins(self) -> None:
        try:
            async with asyncio.timeout(BEGIN_SECONDS_MAX):
                await self._inspection.tail.at_end.wait()
        except TimeoutError:
            return  # Kafka is away; the page is told so, and of its return.

    async def _end(self, _: web.Application) -> None:
        self._inspection.hub.end()


def _file(request: web.Request, asset: Asset) -> web.Response:
    etag = f'"{asset.etag}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(
        body=asset.content, content_type=asset.content_type, charset="utf-8", headers=headers
    )
