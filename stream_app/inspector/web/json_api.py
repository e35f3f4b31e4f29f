"""Routes of the JSON API, as `docs/inspector.md` lists them.

Every response is bounded in size and in the records that are read for it; every request is
untrusted input.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from stream_app import __version__
from stream_app.errors import ConfigurationError
from stream_app.inspector.core.cursors import (
    Item,
    RecordPosition,
    parse_cursor,
    parse_start,
    parse_time,
    parse_window_cursor,
)
from stream_app.inspector.core.documents import (
    SHOWN_RECEIPTS_MAX,
    SHOWN_WINDOWS_MAX,
    add_outcomes,
    event_document,
    line_number,
    parse_events,
    policy_document,
    receipt_document,
    redeliver_arguments,
    redeliver_command,
    settings_document,
)
from stream_app.inspector.core.event_filter import OUTCOMES, EventFilter, runs_with
from stream_app.inspector.core.health import choices_document, health_document
from stream_app.inspector.core.index import Event, EventOutcome, EventStatus
from stream_app.inspector.core.rows import event_row, iso_milliseconds, iso_or_none
from stream_app.inspector.service.event_log import (
    BLOCKING_SECONDS_MAX,
    SEARCHED_MAX,
    InvalidRequestError,
    NotFoundError,
    Selection,
)
from stream_app.inspector.service.inspector import InspectorService
from stream_app.inspector.web.middleware import json_response, read_json
from stream_app.s3.bucket_policy import by_bucket

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 500
"""Rows of one response."""
SEARCH_LENGTH_MAX: Final = 500
"""Characters of a search text, and of a pipeline."""
TRIED_EVENT_BYTES_MAX: Final = 1024 * 1024
"""Bytes of an event on which an expression is tried."""
NUMBERED_DESTINATIONS_MAX: Final = 50
"""Destinations with line numbers on an event's page; the route `sent` numbers the others."""
NUMBERING_RECORDS_MAX: Final = 5_000
"""Records that are read for these numbers."""
NUMBERING_SECONDS_MAX: Final = 1.0
SHOWN_MISTAKES_MAX: Final = 3
"""Mistakes of the configuration in one response, and characters of each."""
SHOWN_MISTAKE_LENGTH_MAX: Final = 500
LATE_OR_FAILED: Final = (EventStatus.FAILED, EventStatus.RETRYING)
"""Outcomes with errors."""
EVENT: Final = r"/api/events/{partition:\d{1,9}}/{offset:\d{1,18}}"


class Api:
    """Handlers of the API.

    Args:
        service: Service that the handlers read from.
    """

    def __init__(self, service: InspectorService) -> None:
        self._service = service
        self._index = service.index
        self._config = service.config

    def register(self, application: web.Application) -> None:
        """Add the routes."""
        application.router.add_get("/api/about", self._about)
        application.router.add_get("/api/health", self._health)
        application.router.add_get("/api/choices", self._choices)
        application.router.add_get("/api/errors", self._errors)
        application.router.add_get("/api/events", self._events)
        application.router.add_get(EVENT, self._event)
        application.router.add_get(EVENT + "/sent/{id}", self._sent)
        application.router.add_post("/api/outcomes", self._outcomes)
        application.router.add_get("/api/destinations", self._all_destinations)
        application.router.add_get("/api/destinations/{id}", self._one_destination)
        application.router.add_get("/api/destinations/{id}/policy", self._policy)
        application.router.add_post("/api/destinations/{id}/redeliver", self._redeliver)
        application.router.add_get("/api/redelivery", self._redelivery)
        application.router.add_get(
            r"/api/windows/{id}/{partition:\d{1,9}}/{offset:\d{1,18}}", self._window
        )
        application.router.add_post("/api/try", self._try)

    async def _about(self, _: web.Request) -> web.StreamResponse:
        settings, index = self._config.settings, self._index
        return json_response(
            {
                "version": __version__,
                "group": settings.kafka.group,
                "events_topic": settings.kafka.events_topic,
                "receipts_topic": settings.kafka.receipts_topic,
                "events_partitions": self._service.events.partitions,
                "window_seconds": settings.delivery.window_seconds,
                "grace_seconds": settings.delivery.grace_seconds,
                "destinations": len(self._config.destinations),
                "configuration": self._config.settings.name,
                "configuration_mistakes": self._shown_mistakes(),
                "receipts": {
                    "held": index.receipt_count,
                    "held_max": self._service.receipts_max,
                    "bytes": index.memory_bytes,
                    "bytes_max": self._service.bytes_max,
                    "oldest": iso_or_none(index.oldest_at),
                    "not_receipts": index.not_receipts,
                    "loaded": self._service.receipts.loaded.is_set(),
                },
                "searched_max": SEARCHED_MAX,
                "can_read_objects": self._service.sent_lines.can_read,
                "kafka": self._service.kafka_error,
                "now": iso_milliseconds(time.time()),
            }
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        begin: Any = None
        try:
            if "cursor" in query:
                begin = parse_cursor(query["cursor"], self._service.events.partitions)
            elif "at" in query:
                begin = parse_start(query["at"])
            since_ms = parse_time(query["since"]) if "since" in query else None
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        event_filter = filter_of(request)
        await self._service.wait_until_loaded()
        page = await self._service.log.page(
            limit=_limit(query.get("limit", "")),
            begin=begin,
            since_ms=since_ms,
            search=event_filter.compiled(),
            selection=await self._selection(event_filter),
        )
        rows = []
        for partition, item in page.items:
            event = Event(partition, item.offset, item.key)
            rows.append((item.row or {}) | {"dest": self._index.outcome_counts(event)})
        to_ms = page.searched_to_ms
        return json_response(
            {
                "rows": rows,
                "cursor": page.cursor,
                "searched": page.searched,
                "searched_to": iso_or_none(None if to_ms is None else to_ms / 1000),
                "complete": page.complete,
            }
        )

    async def _selection(self, event_filter: EventFilter) -> Selection | None:
        if not event_filter.by_outcome:
            return None
        index, only = self._index, event_filter.destination

        def takes(partition: int, item: Item) -> bool:
            event = Event(partition, item.offset, item.key)
            return event_filter.takes(index.outcomes(event, only))

        entries = index.entries(only)
        return Selection(takes, await asyncio.to_thread(runs_with, event_filter.outcome, entries))

    async def _outcomes(self, request: web.Request) -> web.StreamResponse:
        try:
            events = parse_events(await read_json(request))
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        await self._service.wait_until_loaded()
        outcomes = []
        yield_at = time.monotonic() + BLOCKING_SECONDS_MAX
        for event in events:
            dest = self._index.outcome_counts(event)
            outcomes.append({"partition": event.partition, "offset": event.offset, "dest": dest})
            if time.monotonic() > yield_at:
                await asyncio.sleep(0)
                yield_at = time.monotonic() + BLOCKING_SECONDS_MAX
        return json_response({"outcomes": outcomes})

    async def _event(self, request: web.Request) -> web.StreamResponse:
        position = _position(request)
        await self._service.wait_until_loaded()
        found = await self._service.log.event(position)
        event = Event(*position, found.record.key)
        outcomes = self._index.outcomes(event)
        shown = await asyncio.to_thread(event_row, found.record, self._index.outcome_counts(event))
        document = await asyncio.to_thread(
            event_document,
            found.record,
            shown,
            outcomes,
            self._config.destinations,
            await self._numbers(position, outcomes),
        )
        document["older"] = _position_text(position.partition, found.older)
        document["newer"] = _position_text(position.partition, found.newer)
        return await asyncio.to_thread(json_response, document)

    async def _numbers(
        self, position: RecordPosition, outcomes: Mapping[str, EventOutcome]
    ) -> dict[str, int | None]:
        entries = {
            id_: it.entry
            for id_, it in outcomes.items()
            if it.status is EventStatus.DELIVERED and it.entry is not None
        }
        entries = {id_: entries[id_] for id_ in sorted(entries)[:NUMBERED_DESTINATIONS_MAX]}
        numbers = {id_: line_number(it, position.offset) for id_, it in entries.items()}
        uncounted = {
            id_: it for id_, it in entries.items() if numbers[id_] is None and it.answers is None
        }
        if uncounted:
            numbers |= await self._service.log.numbers(
                position,
                uncounted,
                counted_max=NUMBERING_RECORDS_MAX,
                seconds_max=NUMBERING_SECONDS_MAX,
            )
        return numbers

    async def _sent(self, request: web.Request) -> web.StreamResponse:
        position, id_ = _position(request), request.match_info["id"]
        await self._service.wait_until_loaded()
        record = await self._service.log.record(position)
        outcome = self._index.outcomes(Event(*position, record.key)).get(id_)
        if outcome is None:
            raise NotFoundError(
                f"{position} is not an event of destination '{id_}': it takes another pipeline, or "
                "there is no such destination"
            )
        sent = await self._service.sent_lines.line(record, id_, outcome)
        return json_response(sent.document())

    async def _health(self, _: web.Request) -> web.StreamResponse:
        await self._service.wait_until_loaded()
        summaries = await self._service.summaries.get()
        document = health_document(
            summaries.briefs, await self._service.unmatched.get(), self._shown_mistakes()
        )
        return json_response(
            document
            | {
                "configuration_taken": iso_milliseconds(self._config.taken_at),
                "kafka": self._service.kafka_error,
                "now": iso_milliseconds(time.time()),
            }
        )

    async def _choices(self, _: web.Request) -> web.StreamResponse:
        await self._service.wait_until_loaded()
        summaries = await self._service.summaries.get()
        return json_response(await asyncio.to_thread(choices_document, summaries.briefs))

    async def _errors(self, request: web.Request) -> web.StreamResponse:
        event_filter = filter_of(request)
        await self._service.wait_until_loaded()
        wanted = event_filter.outcome
        status = EventStatus(wanted) if wanted in LATE_OR_FAILED else None
        errors = await self._service.summaries.errors(status, event_filter.destination)
        return json_response({"errors": errors})

    async def _all_destinations(self, _: web.Request) -> web.StreamResponse:
        await self._service.wait_until_loaded()
        summaries = await self._service.summaries.get()
        return web.Response(body=summaries.document, content_type="application/json")

    async def _one_destination(self, request: web.Request) -> web.StreamResponse:
        id_ = request.match_info["id"]
        await self._service.wait_until_loaded()
        receipts = self._service.summaries.receipts_of(id_)
        destination = self._config.destinations.get(id_)
        if destination is None and not receipts.entries:
            raise NotFoundError(
                f"destination '{id_}' is not in {self._config.settings.name}, and no receipt in "
                "memory is for it"
            )
        name = self._config.settings.name
        document = await asyncio.to_thread(
            receipts.details, time.time(), windows_max=SHOWN_WINDOWS_MAX
        )
        return json_response(
            document
            | {
                "payload": None if destination is None else destination.payload,
                "settings": None if destination is None else settings_document(destination),
                "redeliver": redeliver_command(name, id_),
                "redeliver_failed_events": redeliver_command(name, id_, failed_events=True),
            }
        )

    async def _policy(self, request: web.Request) -> web.StreamResponse:
        id_ = request.match_info["id"]
        destination = self._config.destinations.get(id_)
        if destination is None:
            raise NotFoundError(f"destination '{id_}' is not in {self._config.settings.name}")
        same = by_bucket(self._config.destinations.values())[destination.bucket]
        try:
            document = await asyncio.to_thread(
                policy_document, same, request.query.get("principal")
            )
        except ConfigurationError as error:
            raise InvalidRequestError("; ".join(error.mistakes)) from error
        return json_response(document)

    async def _redeliver(self, request: web.Request) -> web.StreamResponse:
        id_ = request.match_info["id"]
        document = await read_json(request)
        failed_events = document.get("failed_events") if isinstance(document, dict) else None
        if not isinstance(failed_events, bool):
            raise InvalidRequestError('write {"failed_events": true}, or false for windows')
        if id_ not in self._config.destinations:
            raise NotFoundError(f"destination '{id_}' is not in {self._config.settings.name}")
        arguments = redeliver_arguments(
            self._config.settings.name, id_, failed_events=failed_events
        )
        self._service.redelivery.start(id_, arguments, request.remote or "unknown")
        return json_response(self._service.redelivery.document())

    async def _redelivery(self, _: web.Request) -> web.StreamResponse:
        return json_response(self._service.redelivery.document())

    async def _window(self, request: web.Request) -> web.StreamResponse:
        position, id_ = _position(request), request.match_info["id"]
        await self._service.wait_until_loaded()
        entries = self._index.window(id_, *position)
        if not entries:
            raise NotFoundError(
                f"no receipt in memory is for a window of '{id_}' that begins at {position}"
            )
        try:
            offset, lines = parse_window_cursor(request.query.get("cursor", f"{position.offset}.0"))
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        page = await self._service.log.window(entries[0], offset, lines)
        outcomes = []
        for shown, key in zip(page.rows, page.keys, strict=True):
            event = Event(position.partition, shown["offset"], key)
            outcomes.append(self._index.outcomes(event))
            shown["dest"] = self._index.outcome_counts(event)
        return json_response(
            {
                "destination": {
                    "id": id_,
                    "pipeline": entries[0].pipeline,
                    "bucket": entries[0].bucket,
                },
                "receipt": receipt_document(entries[0]),
                "receipts": [receipt_document(it) for it in entries[:SHOWN_RECEIPTS_MAX]],
                "rows": add_outcomes(id_, page.rows, outcomes),
                "cursor": page.cursor,
            }
        )

    async def _try(self, request: web.Request) -> web.StreamResponse:
        document = await read_json(request)
        text = document.get("expression") if isinstance(document, dict) else None
        if not isinstance(text, str):
            raise InvalidRequestError(
                'write {"expression": "…"} with an "event" as text, or its partition and offset'
            )
        event = document.get("event")
        if event is None:
            try:
                position = RecordPosition(int(document["partition"]), int(document["offset"]))
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidRequestError(
                    "write an event as text, or its partition and offset"
                ) from error
            if min(position) < 0:
                raise InvalidRequestError("partition and offset are 0 or more")
            record = await self._service.log.record(position)
            pipeline = None if record.key is None else record.key.decode(errors="replace")
            return json_response(
                await self._service.evaluator.trial(
                    text, record.value, pipeline, max(0, record.timestamp) / 1000
                )
            )
        if not isinstance(event, str) or len(event.encode()) > TRIED_EVENT_BYTES_MAX:
            raise InvalidRequestError(
                f"write the event as JSON text of at most {TRIED_EVENT_BYTES_MAX} bytes"
            )
        trial = await self._service.evaluator.trial(text, event.encode(), None, time.time())
        return json_response(trial)

    def _shown_mistakes(self) -> list[str]:
        mistakes = self._config.mistakes[:SHOWN_MISTAKES_MAX]
        return [it[:SHOWN_MISTAKE_LENGTH_MAX] for it in mistakes]


def filter_of(request: web.Request) -> EventFilter:
    """Return the filter of a request's query.

    Raises:
        InvalidRequestError: A text is too long, or there is no such outcome.
    """
    query = request.query
    search, outcome = query.get("search", ""), query.get("outcome")
    pipeline, destination = query.get("pipeline"), query.get("destination")
    if max(map(len, (search, pipeline or "", destination or ""))) > SEARCH_LENGTH_MAX:
        raise InvalidRequestError(
            f"search, pipeline and destination have at most {SEARCH_LENGTH_MAX} characters"
        )
    if outcome is not None and outcome not in OUTCOMES:
        raise InvalidRequestError(
            f"outcome is '{outcome[:SEARCH_LENGTH_MAX]}'; write {', '.join(OUTCOMES)}"
        )
    return EventFilter(search, pipeline, outcome, destination)


def _limit(text: str) -> int:
    if not text:
        return LIMIT_DEFAULT
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LIMIT_MAX:
        raise InvalidRequestError(f"limit is '{text[:SEARCH_LENGTH_MAX]}'; write 1 to {LIMIT_MAX}")
    return int(text)


def _position(request: web.Request) -> RecordPosition:
    return RecordPosition(int(request.match_info["partition"]), int(request.match_info["offset"]))


def _position_text(partition: int, offset: int | None) -> str | None:
    return None if offset is None else str(RecordPosition(partition, offset))
