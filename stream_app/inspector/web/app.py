"""The web application: the API, the stream of server-sent events, and the page's files."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from aiohttp import web

from stream_app.errors import SetupError
from stream_app.inspector.core.auth import TokenAuth
from stream_app.inspector.service.inspector import InspectorService
from stream_app.inspector.web.json_api import Api, filter_of
from stream_app.inspector.web.metrics import ProcessMetrics
from stream_app.inspector.web.middleware import AuthMiddleware, error_response, json_response

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of a request body: an event escaped in JSON can take several times its size."""
WRITE_SECONDS_MAX: Final = 30.0
"""Time for a page to receive a message; then its connection is closed."""
TAIL_SECONDS_MAX: Final = 5.0
"""Time that a stream waits until the follower is at the end of the events topic."""
RETRY_MS: Final = 2_000
"""Delay before a page reconnects after its stream ended."""
PAGE: Final = "index.html"
PAGE_ROUTES: Final = (
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
    """Static file of the page."""

    content: bytes
    content_type: str
    etag: str


def read_assets() -> dict[str, Asset]:
    """Return the page's files by path below `static/`; few and small, they stay in memory.

    Raises:
        SetupError: The page is missing.
    """
    assets = dict(_assets_below(files("stream_app.inspector") / "static", PurePosixPath()))
    if PAGE not in assets:
        raise SetupError(
            f"the Inspector's page ({PAGE}) is not installed with stream_app; install it again"
        )
    return assets


def _assets_below(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[str, Asset]]:
    for file in folder.iterdir() if folder.is_dir() else ():
        file_path = path / file.name
        content_type = TYPES.get(file_path.suffix)
        if file.is_dir():
            yield from _assets_below(file, file_path)
        elif content_type is not None:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            yield str(file_path), Asset(content, content_type, digest)


def application(
    service: InspectorService, auth: TokenAuth, assets: Mapping[str, Asset]
) -> web.Application:
    """Return the web application.

    Args:
        service: Service that the routes read from.
        auth: Authentication of requests.
        assets: Files of the page, by name.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    ProcessMetrics(service).register(app)
    AuthMiddleware(auth).register(app)
    Api(service).register(app)
    _Pages(service, assets).register(app)
    return app


class _Pages:
    def __init__(self, service: InspectorService, assets: Mapping[str, Asset]) -> None:
        self._service = service
        self._assets = assets

    def register(self, app: web.Application) -> None:
        app.router.add_get("/health", self._health)
        app.router.add_get("/api/live", self._live)
        app.router.add_route("*", "/api/{rest:.*}", self._no_route)
        app.router.add_get("/static/{path:.+}", self._static)
        for path in PAGE_ROUTES:
            app.router.add_get(path, self._page)
        app.router.add_get("/{rest:.*}", self._no_page)
        app.on_shutdown.append(self._close)

    async def _health(self, _: web.Request) -> web.StreamResponse:
        service = self._service
        return json_response(
            {
                "status": "ok",
                "kafka_readable": service.kafka_error is None,
                "receipts_loaded": service.receipts.loaded.is_set(),
                "configuration_taken": not service.config.mistakes,
            }
        )

    async def _no_route(self, request: web.Request) -> web.StreamResponse:
        return error_response(HTTPStatus.NOT_FOUND, f"the API has no route {request.path}")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _file(request, self._assets[PAGE])

    async def _no_page(self, request: web.Request) -> web.StreamResponse:
        response = _file(request, self._assets[PAGE])
        response.set_status(HTTPStatus.NOT_FOUND)
        return response

    async def _static(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.get(request.match_info["path"])
        if asset is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="there is no such file\n")
        return _file(request, asset)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Stream messages for as long as the page is open."""
        subscriber = self._service.broadcaster.subscribe(filter_of(request))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers["X-Accel-Buffering"] = "no"
        try:
            # No gap between what the page reads from /api/events afterwards and this stream.
            await self._wait_for_tail()
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % RETRY_MS)
            async for text in subscriber.messages():
                async with asyncio.timeout(WRITE_SECONDS_MAX):
                    await response.write(text)
        except TimeoutError:
            # The page receives nothing any more, not even the end of its stream.
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._service.broadcaster.unsubscribe(subscriber)
        return response

    async def _wait_for_tail(self) -> None:
        try:
            async with asyncio.timeout(TAIL_SECONDS_MAX):
                await self._service.events.at_end.wait()
        except TimeoutError:
            return  # Kafka does not respond; the page gets a message then, and when it is back.

    async def _close(self, _: web.Application) -> None:
        self._service.broadcaster.close()


def _file(request: web.Request, asset: Asset) -> web.Response:
    etag = f'"{asset.etag}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(
        body=asset.content, content_type=asset.content_type, charset="utf-8", headers=headers
    )
