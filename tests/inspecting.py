"""An Inspector as a client meets it: over HTTP, in the test's own loop."""

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

from stream_app.inspector.guard import Gate
from stream_app.inspector.inspection import Inspection
from stream_app.inspector.pages import Asset, application
from stream_app.inspector.server import runner_of

ASSETS = {
    "index.html": Asset(b"<!doctype html><title>page</title>", "text/html", "1"),
    "app.js": Asset(b"export {};", "text/javascript", "2"),
}
SECRET = b"s" * 32
SECONDS_MAX = 60.0


@dataclass
class Client:
    """Asks an Inspector."""

    address: str
    session: aiohttp.ClientSession
    inspection: Inspection
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, path: str, status: int = 200, *, post: Any = None, **query: str
    ) -> dict[str, Any]:
        """Return the JSON of an answer, which must have this status."""
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
        """Return all rows, whatever number of pages they take."""
        rows: list[dict[str, Any]] = []
        answer = await self.ask("/api/events", **query)
        while True:
            rows += answer["rows"]
            if answer["cursor"] is None:
                return rows
            query["cursor"] = answer["cursor"]
            query.pop("at", None)
            answer = await self.ask("/api/events", **query)

    async def dest(self, row: Mapping[str, Any]) -> dict[str, int]:
        names = ("partition", "offset", "pipeline", "key_base64", "time")
        event = {name: row[name] for name in names if name in row}
        answer = await self.ask("/api/outcomes", post={"events": [event]})
        found: dict[str, int] = answer["outcomes"][0]["dest"]
        return found

    async def until(
        self, look: Callable[[], Awaitable[Any]], right: Callable[[Any], bool], what: str
    ) -> Any:
        """Return what is seen once it is right."""
        deadline = time.monotonic() + SECONDS_MAX
        while not right(seen := await look()):
            assert time.monotonic() < deadline, f"not within {SECONDS_MAX:.0f} s: {what}: {seen}"
            await asyncio.sleep(0.1)
        return seen

    @asynccontextmanager
    async def live(self, **query: str) -> AsyncIterator["Stream"]:
        """Follow the stream."""
        async with self.session.get(
            self.address + "/api/live", params=query, headers=self.headers
        ) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield Stream(response)


@dataclass
class Stream:
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
    """Serve an Inspector meanwhile."""
    async with Inspection(str(config), environment or {}, **options) as inspection:
        runner = runner_of(application(inspection, Gate(token, SECRET), ASSETS))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with aiohttp.ClientSession() as session:
                yield Client(address, session, inspection)
        finally:
            await runner.cleanup()
