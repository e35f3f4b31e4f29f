"""The routes of the API: what the page asks for, as `docs/inspector.md` has it.

What an answer is made of is bounded (`paging`, `answers`); what a request says is read as a
stranger's.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from stream_app import __version__
from stream_app.inspector.access import answer, body
from stream_app.inspector.answers import (
    RECEIPTS_MAX,
    WINDOWS_MAX,
    event_document,
    events_asked,
    line_number,
    policy_text,
    receipt_at,
    redeliver_command,
    window_rows,
)
from stream_app.inspector.hub import Filter
from stream_app.inspector.inspection import Inspection
from stream_app.inspector.minutes import failed_windows, summary, window_row, windows
from stream_app.inspector.outcomes import Answer, Entry, Event, Outcome
from stream_app.inspector.paging import SEARCHED_MAX, MistakeError, NotThereError
from stream_app.inspector.places import Place, at, in_window, positions
from stream_app.inspector.rows import iso, row

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 500
"""Rows of one answer."""
TEXT_LENGTH_MAX: Final = 500
"""Characters of what is searched for, and of a pipeline."""
EVENT_BYTES_MAX: Final = 1024 * 1024
"""Of an event that is tried."""
NUMBERED_MAX: Final = 50
"""Destinations whose lines are numbered on an event's page; `sent` numbers the others."""
COUNTED_MAX: Final = 5_000
"""Records that are read for these numbers."""
COUNT_SECONDS_MAX: Final = 1.0
DESTINATIONS_MAX: Final = 10_000
"""Destinations of one answer."""
DESTINATIONS_SECONDS: Final = 2.0
"""How old the answer about all destinations may be."""
TURN_SECONDS_MAX: Final = 0.02
"""How long outcomes are told before others have their turn."""
EVENT: Final = r"/api/events/{partition:\d{1,9}}/{offset:\d{1,18}}"


class Api:
    """Answers what the page asks for.

    Args:
        inspection: What there is to tell.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._index = inspection.index
        self._configured = inspection.configured
        self._summing = asyncio.Lock()
        self._summed_at = 0.0
        self._summaries = b""

    def hang(self, application: web.Application) -> None:
        """Add the routes."""
        application.router.add_get("/api/about", self._about)
        application.router.add_get("/api/events", self._events)
        application.router.add_get(EVENT, self._event)
        application.router.add_get(EVENT + "/sent/{id}", self._sent)
        application.router.add_post("/api/outcomes", self._outcomes)
        application.router.add_get("/api/destinations", self._all_destinations)
        application.router.add_get("/api/destinations/{id}", self._one_destination)
        application.router.add_get(
            r"/api/windows/{id}/{partition:\d{1,9}}/{offset:\d{1,18}}", self._window
        )
        application.router.add_post("/api/try", self._try)

    async def _about(self, _: web.Request) -> web.StreamResponse:
        settings, index = self._configured.settings, self._index
        return answer(
            {
                "version": __version__,
                "group": settings.kafka.group,
                "events_topic": settings.kafka.events_topic,
                "receipts_topic": settings.kafka.receipts_topic,
                "events_partitions": self._inspection.tail.partitions,
                "window_seconds": settings.delivery.window_seconds,
                "grace_seconds": settings.delivery.grace_seconds,
                "destinations": len(self._configured.destinations),
                "configuration": self._configured.path,
                "receipts": {
                    "held": index.held,
                    "held_max": self._inspection.receipts_max,
                    "bytes": index.bytes_held,
                    "bytes_max": self._inspection.bytes_max,
                    "oldest": None if index.oldest is None else iso(index.oldest),
                    "not_receipts": index.not_receipts,
                    "loaded": self._inspection.receipts.loaded.is_set(),
                },
                "searched_max": SEARCHED_MAX,
                "can_read_objects": self._inspection.sent.can_read,
                "kafka": self._inspection.trouble,
                "now": iso(time.time()),
            }
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        begin: Any = None
        try:
            if "cursor" in query:
                begin = positions(query["cursor"], self._inspection.tail.partitions)
            elif "at" in query:
                begin = at(query["at"])
        except ValueError as error:
            raise MistakeError(str(error)) from error
        wanted = wanted_of(request)
        await self._inspection.loaded()
        page = await self._inspection.log.page(
            limit=_limit(query.get("limit", "")), begin=begin, search=wanted.compiled()
        )
        rows = []
        for partition, item in page.items:
            found = item.row or {}
            rows.append(found | {"dest": self._index.dest(Event(partition, item.offset, item.key))})
        to = page.searched_to_ms
        return answer(
            {
                "rows": rows,
                "cursor": page.cursor,
                "searched": page.searched,
                "searched_to": None if to is None else iso(to / 1000),
                "complete": page.complete,
            }
        )

    async def _outcomes(self, request: web.Request) -> web.StreamResponse:
        try:
            events = events_asked(await body(request))
        except ValueError as error:
            raise MistakeError(str(error)) from error
        await self._inspection.loaded()
        outcomes = []
        turn_ends = time.monotonic() + TURN_SECONDS_MAX
        for event in events:
            dest = self._index.dest(event)
            outcomes.append({"partition": event.partition, "offset": event.offset, "dest": dest})
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN_SECONDS_MAX
        return answer({"outcomes": outcomes})

    async def _event(self, request: web.Request) -> web.StreamResponse:
        place = _place(request)
        await self._inspection.loaded()
        found = await self._inspection.log.event(place)
        event = Event(*place, found.record.key)
        answers = self._index.answers(event)
        shown = await asyncio.to_thread(row, found.record, self._index.dest(event))
        document = await asyncio.to_thread(
            event_document,
            found.record,
            shown,
            answers,
            self._configured.destinations,
            await self._numbers(place, answers),
        )
        document["older"] = _name(place.partition, found.older)
        document["newer"] = _name(place.partition, found.newer)
        return await asyncio.to_thread(answer, document)

    async def _numbers(self, place: Place, answers: Mapping[str, Answer]) -> dict[str, int | None]:
        entries = {
            id_: it.entry
            for id_, it in answers.items()
            if it.outcome is Outcome.DELIVERED and it.entry is not None
        }
        entries = {id_: entries[id_] for id_ in sorted(entries)[:NUMBERED_MAX]}
        numbers = {id_: line_number(it, place.offset) for id_, it in entries.items()}
        uncounted = {
            id_: it for id_, it in entries.items() if numbers[id_] is None and it.answers is None
        }
        if uncounted:
            numbers |= await self._inspection.log.numbers(
                place, uncounted, counted_max=COUNTED_MAX, seconds_max=COUNT_SECONDS_MAX
            )
        return numbers

    async def _sent(self, request: web.Request) -> web.StreamResponse:
        place, id_ = _place(request), request.match_info["id"]
        await self._inspection.loaded()
        record = await self._inspection.log.record(place)
        found = self._index.answers(Event(*place, record.key)).get(id_)
        if found is None:
            raise NotThereError(
                f"{place.partition}@{place.offset} is no event of destination '{id_}': it takes "
                "another pipeline, or there is no such destination"
            )
        sent = await self._inspection.sent.sent(record, id_, found)
        return answer(sent.document())

    async def _all_destinations(self, _: web.Request) -> web.StreamResponse:
        await self._inspection.loaded()
        # Many destinations take a while to sum up, and many pages ask: once is enough for all.
        async with self._summing:
            now = time.time()
            if now - self._summed_at > DESTINATIONS_SECONDS or now < self._summed_at:
                asked = [self._described(it) for it in self._index.destinations()]
                self._summaries = await asyncio.to_thread(
                    _summaries, asked[:DESTINATIONS_MAX], self._index.oldest, now
                )
                self._summed_at = now
        return web.Response(body=self._summaries, content_type="application/json")

    async def _one_destination(self, request: web.Request) -> web.StreamResponse:
        id_ = request.match_info["id"]
        await self._inspection.loaded()
        described = self._described(id_)
        destination = self._configured.destinations.get(id_)
        if destination is None and not described.entries:
            raise NotThereError(
                f"destination '{id_}' is not in {self._configured.path}, and no receipt that is "
                "held speaks of it"
            )
        document = await asyncio.to_thread(described.details, time.time())
        text, is_known = (None, False) if destination is None else policy_text(destination)
        return answer(
            document
            | {
                "payload": None if destination is None else destination.payload,
                "policy": text,
                "policy_principal_known": is_known,
                "redeliver": redeliver_command(self._configured.path, id_),
            }
        )

    async def _window(self, request: web.Request) -> web.StreamResponse:
        place, id_ = _place(request), request.match_info["id"]
        await self._inspection.loaded()
        entries = self._index.window(id_, *place)
        if not entries:
            raise NotThereError(
                f"no receipt that is held speaks of a window of '{id_}' that begins at "
                f"{place.partition}@{place.offset}"
            )
        try:
            offset, lines = in_window(request.query.get("cursor", f"{place.offset}.0"))
        except ValueError as error:
            raise MistakeError(str(error)) from error
        page = await self._inspection.log.window(entries[0], offset, lines)
        answers = []
        for shown, key in zip(page.rows, page.keys, strict=True):
            event = Event(place.partition, shown["offset"], key)
            answers.append(self._index.answers(event))
            shown["dest"] = self._index.dest(event)
        return answer(
            {
                "destination": {
                    "id": id_,
                    "pipeline": entries[0].pipeline,
                    "bucket": entries[0].bucket,
                },
                "receipt": receipt_at(entries[0]),
                "receipts": [receipt_at(it) for it in entries[:RECEIPTS_MAX]],
                "rows": window_rows(id_, page.rows, answers),
                "cursor": page.cursor,
            }
        )

    async def _try(self, request: web.Request) -> web.StreamResponse:
        document = await body(request)
        text = document.get("expression") if isinstance(document, dict) else None
        if not isinstance(text, str):
            raise MistakeError(
                'write {"expression": "…"} with an "event" as text, or its partition and offset'
            )
        event = document.get("event")
        if event is None:
            try:
                place = Place(int(document["partition"]), int(document["offset"]))
            except (KeyError, TypeError, ValueError) as error:
                raise MistakeError("write an event as text, or its partition and offset") from error
            if min(place) < 0:
                raise MistakeError("partition and offset are 0 or more")
            record = await self._inspection.log.record(place)
            pipeline = None if record.key is None else record.key.decode(errors="replace")
            return answer(
                await self._inspection.evaluations.trial(
                    text, record.value, pipeline, max(0, record.timestamp) / 1000
                )
            )
        if not isinstance(event, str) or len(event.encode()) > EVENT_BYTES_MAX:
            raise MistakeError(f"write the event as JSON text of at most {EVENT_BYTES_MAX} bytes")
        trial = await self._inspection.evaluations.trial(text, event.encode(), None, time.time())
        return answer(trial)

    def _described(self, id_: str) -> "_Described":
        destination = self._configured.destinations.get(id_)
        entries = tuple(self._index.of_destination(id_))
        if destination is not None:
            return _Described(
                id_,
                destination.pipeline,
                destination.bucket,
                destination.prefix,
                entries,
                is_configured=True,
            )
        last = entries[-1] if entries else None
        return _Described(
            id_,
            last.pipeline if last else None,
            last.bucket if last else None,
            None,
            entries,
            is_configured=False,
        )


@dataclass(frozen=True, slots=True)
class _Described:
    """A destination with the receipts that are held of it, to be summed up in any thread."""

    id: str
    pipeline: str | None
    bucket: str | None
    prefix: str | None
    entries: tuple[Entry, ...]
    is_configured: bool

    def summary(self, now: float) -> dict[str, Any]:
        return summary(
            self.id,
            self.pipeline,
            self.bucket,
            self.prefix,
            entries=self.entries,
            now=now,
            configured=self.is_configured,
        )

    def details(self, now: float) -> dict[str, Any]:
        counting = windows(self.entries)
        return self.summary(now) | {
            "windows": [window_row(it) for it in counting[:WINDOWS_MAX]],
            "failed": [window_row(it) for it in failed_windows(counting)[:WINDOWS_MAX]],
        }


def wanted_of(request: web.Request) -> Filter:
    """Return what a request wants to see.

    Raises:
        MistakeError: It is too long.
    """
    search, pipeline = request.query.get("search", ""), request.query.get("pipeline")
    if max(len(search), len(pipeline or "")) > TEXT_LENGTH_MAX:
        raise MistakeError(f"search and pipeline have at most {TEXT_LENGTH_MAX} characters")
    return Filter(search, pipeline)


def _summaries(described: Sequence[_Described], oldest: float | None, now: float) -> bytes:
    document = {
        "destinations": [it.summary(now) for it in described],
        "since": None if oldest is None else iso(oldest),
    }
    return orjson.dumps(document)


def _limit(text: str) -> int:
    if not text:
        return LIMIT_DEFAULT
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LIMIT_MAX:
        raise MistakeError(f"limit is '{text[:TEXT_LENGTH_MAX]}'; write 1 to {LIMIT_MAX}")
    return int(text)


def _place(request: web.Request) -> Place:
    return Place(int(request.match_info["partition"]), int(request.match_info["offset"]))


def _name(partition: int, offset: int | None) -> str | None:
    return None if offset is None else f"{partition}@{offset}"
