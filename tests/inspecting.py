"""An Inspector behind HTTP, in the test's own event loop."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from stream_app.inspector.core.auth import TokenAuth
from stream_app.inspector.service.inspector import InspectorService
from stream_app.inspector.web.app import Asset, application
from stream_app.inspector.web.listener import runner_of

ASSETS = {
    "index.html": Asset(b"<!doctype html><title>page</title>", "text/html", "1"),
    "app.js": Asset(b"export {};", "text/javascript", "2"),
    "css/app.css": Asset(b"a {}", "text/css", "3"),
}
SECRET = b"s" * 32
SECONDS_MAX = 120.0


@dataclass
class Client:
    """HTTP client of an Inspector."""

    address: str
    session: aiohttp.ClientSession
    service: InspectorService
    headers: dict[str, str] = field(default_factory=dict)

    async def request(
        self, path: str, status: int = 200, *, post: Any = None, **query: str
    ) -> dict[str, Any]:
        """Return the JSON of a response, which must have this status."""
        method, headers, body = "GET", self.headers, None
        if post is not None:
            method, body = "POST", io.BytesIO(json.dumps(post).encode())
            headers = headers | {"Content-Type": "application/json"}
        async with self.session.request(
            method, self.address + path, params=query, data=body, headers=headers
        ) as response:
            text = await response.text()
            assert response.status == status, f"{method} {path}: {response.status} {text}"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"
            document: dict[str, Any] = json.loads(text)
        return document

    async def rows(self, **query: str) -> list[dict[str, Any]]:
        """Return the rows of all pages."""
        rows: list[dict[str, Any]] = []
        page = await self.request("/api/events", **query)
        while True:
            rows += page["rows"]
            if page["cursor"] is None:
                return rows
            query["cursor"] = page["cursor"]
            query.pop("at", None)
            page = await self.request("/api/events", **query)

    async def outcome_counts(self, row: Mapping[str, Any]) -> dict[str, int]:
        """Return the current outcome counts of a row's event."""
        names = ("partition", "offset", "pipeline", "key_base64", "time")
        event = {name: row[name] for name in names if name in row}
        document = await self.request("/api/outcomes", post={"events": [event]})
        found: dict[str, int] = document["outcomes"][0]["dest"]
        return found

    async def until(
        self,
        poll: Callable[[], Awaitable[Any]],
        is_expected: Callable[[Any], bool],
        expectation: str,
    ) -> Any:
        """Return the first polled value that is as expected."""
        deadline = time.monotonic() + SECONDS_MAX
        while not is_expected(seen := await poll()):
            assert time.monotonic() < deadline, (
                f"not within {SECONDS_MAX:.0f} s: {expectation}: {seen}"
            )
            await asyncio.sleep(0.1)
        return seen

    @asynccontextmanager
    async def live(self, **query: str) -> AsyncIterator["Stream"]:
        """Follow the stream of server-sent events."""
        async with self.session.get(
            self.address + "/api/live", params=query, headers=self.headers
        ) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield Stream(response)


@dataclass
class Stream:
    """Stream of server-sent events."""

    response: aiohttp.ClientResponse

    async def next(self, *names: str) -> tuple[str, dict[str, Any]]:
        """Return the next message, or the next of these names."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                name = ""
                while line := (await self.response.content.readline()).decode().rstrip("\n"):
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data" and (not names or name in names):
                        await self.response.content.readline()
                        return name, json.loads(value)
                assert not self.response.content.at_eof(), "the stream has ended"


@asynccontextmanager
async def inspecting(
    config: Path,
    environment: Mapping[str, str] | None = None,
    *,
    token: str | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """Serve an Inspector for the duration of the context."""
    async with InspectorService(str(config), environment or {}, **options) as service:
        runner = runner_of(application(service, TokenAuth(token, SECRET), ASSETS))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with aiohttp.ClientSession() as session:
                yield Client(address, session, service)
        finally:
            await runner.cleanup()
