"""JSON documents of the API, built from receipts, records and destinations.

Pure. A receipt is included byte for byte as it was published; a long one without its lists.
"""

import base64
import binascii
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import index
from typing import Any, Final

import orjson

from stream_app.config.parser import ENVIRONMENT
from stream_app.config.settings import Destination
from stream_app.core.pipeline_names import PipelineNames
from stream_app.inspector.core.index import (
    Entry,
    Event,
    EventOutcome,
    EventStatus,
    in_runs,
    receipt_lists,
)
from stream_app.inspector.core.rows import iso_milliseconds, iso_or_none
from stream_app.records import event_mistake
from stream_app.s3.bucket_policy import (
    PRINCIPAL_FORM,
    bucket_policy,
    encryption_note,
    known_principal,
    unknown_arn,
)

REQUESTED_EVENTS_MAX: Final = 500
"""Events of one request for outcomes."""
SHOWN_VALUE_BYTES_MAX: Final = 8 * 1024 * 1024
"""A longer value is not shown."""
SHOWN_RECEIPT_BYTES_MAX: Final = 64 * 1024
"""A longer receipt is shown without its lists."""
SHOWN_RECEIPTS_MAX: Final = 10
"""Receipts shown for one event at one destination, the newest."""
SHOWN_DESTINATIONS_MAX: Final = 1_000
"""Destinations shown for one event."""
SHOWN_HEADERS_MAX: Final = 1_000
SHOWN_HEADER_LENGTH_MAX: Final = 10_000
"""Characters shown of a header's name, and of its value."""
SHOWN_WINDOWS_MAX: Final = 200
"""Windows shown for a destination."""
SHORT_FIELDS: Final = (
    *("status", "destination", "pipeline", "window", "source", "counts"),
    *("object", "attempts", "already_existed", "uploaded_at", "stored_at", "error"),
)
"""Fields shown of a long receipt."""


def receipt_document(entry: Entry) -> dict[str, Any]:
    """Return a receipt with its position in the receipts topic, and what it counts."""
    return {
        "id": entry.id,
        "time": iso_or_none(entry.published_at),
        "partition": entry.partition,
        "offset": entry.offset,
        "counts": entry.counts,
        "receipt": _receipt(entry),
    }


def event_document(
    record: Any,  # noqa: ANN401 - a record with headers
    row: Mapping[str, Any],
    outcomes: Mapping[str, EventOutcome],
    configured: Mapping[str, Destination],
    lines: Mapping[str, int | None],
) -> dict[str, Any]:
    """Return an event with its outcome at each destination.

    Args:
        record: Record of the event.
        row: Its table row.
        outcomes: Its outcomes, by destination.
        configured: Destinations of the configuration, by id.
        lines: Line numbers that were counted, by destination.
    """
    text, why = _text(record.value)
    shown = sorted(outcomes)[:SHOWN_DESTINATIONS_MAX]
    return {
        "row": row,
        "text": text,
        "is_json": why is None,
        "why": why,
        "headers": [
            [name[:SHOWN_HEADER_LENGTH_MAX], _header(value)]
            for name, value in record.headers[:SHOWN_HEADERS_MAX]
        ],
        "destinations": [
            _destination(id_, outcomes[id_], configured.get(id_), lines.get(id_)) for id_ in shown
        ],
        "more_destinations": len(outcomes) - len(shown),
        "unmatched": None if outcomes else _unmatched(record.key, configured),
    }


def parse_events(document: Any) -> list[Event]:  # noqa: ANN401 - anything that a client sends
    """Return the events of a request for outcomes.

    Raises:
        ValueError: The document is not such a request; the message says what to write.
    """
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list) or len(events) > REQUESTED_EVENTS_MAX:
        raise ValueError(f'write {{"events": […]}} with at most {REQUESTED_EVENTS_MAX} events')
    return [_event(it) for it in events]


def line_number(entry: Entry, offset: int) -> int | None:
    """Return the line number of a delivered event if the receipt alone determines it.

    The receipt does so where it lists its events (`answers`), and where every offset of the window
    is an event of the destination.
    """
    lists = receipt_lists(entry.value)
    skipped, failed = lists.skipped, lists.failed
    if offset in failed or in_runs(offset, skipped) or not lists.cover(offset):
        return None
    if entry.answers is not None:
        return sum(
            it <= offset and it not in failed and not in_runs(it, skipped) for it in entry.answers
        )
    first, end = entry.source.first_offset, entry.source.end_offset
    if entry.matched != end - first:
        return None
    without_line = sum(
        min(last, offset) - first_ + 1 for first_, last in skipped if first_ <= offset
    )
    return offset - first + 1 - without_line - sum(it < offset for it in failed)


def policy_document(
    destinations: Sequence[Destination], principal: str | None
) -> dict[str, str | None]:
    """Return the policy of a bucket, as its owner attaches it.

    There is none as long as it is unknown who writes: a document that names somebody else would
    give that principal the right to write. Nor is there one for a bucket whose ARN is unknown.

    Args:
        destinations: All destinations of the bucket.
        principal: ARN of the role of the workers; None if nobody has given one.

    Raises:
        ConfigurationError: `principal` is no such ARN.
    """
    problem = unknown_arn(destinations)
    note = problem or encryption_note(destinations)
    is_known = principal is not None or all(known_principal(it) for it in destinations)
    return {
        "bucket": destinations[0].bucket,
        "policy": bucket_policy(destinations, principal) if is_known and not problem else None,
        "principal_form": PRINCIPAL_FORM,
        "note": None if note is None else f"{note[0].upper()}{note[1:]}.",
    }


def redeliver_arguments(config: str, destination: str, *, failed_events: bool) -> list[str]:
    """Return the arguments of `stream-app` that deliver what failed of a destination.

    Args:
        config: Name of the configuration.
        destination: Id of the destination.
        failed_events: Deliver failed events; otherwise windows that were given up.
    """
    events = ["--failed-events"] if failed_events else []
    source = [] if config == ENVIRONMENT else ["--config", config]
    return ["redeliver", *source, *events, "--destination", destination]


def redeliver_command(config: str, destination: str, *, failed_events: bool = False) -> str:
    """Return the command that delivers what failed of a destination."""
    arguments = redeliver_arguments(config, destination, failed_events=failed_events)
    return shlex.join(["stream-app", *arguments])


def settings_document(destination: Destination) -> dict[str, Any]:
    """Return the settings of a destination by name, without those that are not set.

    The external ID is a secret between the owner of the role and the operator.
    """
    names = [it.name for it in fields(destination) if it.name != "external_id"]
    settings = {name: getattr(destination, name) for name in names}
    return {name: it for name, it in settings.items() if it is not None}


def _unmatched(key: bytes | None, configured: Mapping[str, Destination]) -> str:
    """Return why no destination has the event, with the pipeline that its key resembles."""
    return PipelineNames(it.pipeline for it in configured.values()).unmatched(key)


def _receipt(entry: Entry) -> Any:  # noqa: ANN401 - orjson's fragment, or a document
    if len(entry.value) <= SHOWN_RECEIPT_BYTES_MAX:
        return orjson.Fragment(entry.value)
    document = entry.document()
    known = {name: document[name] for name in SHORT_FIELDS if name in document}
    cut = known | {"skipped": [], "failed": [], "is_cut": True}
    try:
        orjson.dumps(cut)
    except orjson.JSONEncodeError:
        return {"is_cut": True}  # Nested too deeply to come from a worker.
    return cut


def _destination(
    id_: str, outcome: EventOutcome, destination: Destination | None, line: int | None
) -> dict[str, Any]:
    entry = outcome.entry
    pipeline = entry.pipeline if destination is None and entry else None
    return {
        "id": id_,
        "pipeline": destination.pipeline if destination is not None else pipeline,
        "outcome": str(outcome.status),
        "reason": outcome.reason,
        "error": outcome.error,
        "line": line if outcome.status is EventStatus.DELIVERED else None,
        "configured": destination is not None,
        "payload": None if destination is None else destination.payload,
        "window": None if entry is None else _window(entry),
        "receipt": None if entry is None else receipt_document(entry),
        "receipts": [receipt_document(it) for it in outcome.entries[:SHOWN_RECEIPTS_MAX]],
    }


def _window(entry: Entry) -> dict[str, Any]:
    return {
        "partition": entry.source.partition,
        "first_offset": entry.source.first_offset,
        "start": iso_milliseconds(entry.window_start),
        "end": iso_milliseconds(entry.window_end),
    }


def _text(value: bytes | None) -> tuple[str | None, str | None]:
    """Return a value as text, and why it is not shown or not an event."""
    if value is None:
        return None, "not JSON: the record has no value"
    if len(value) > SHOWN_VALUE_BYTES_MAX:
        return None, f"not shown: it has {len(value)} bytes; at most {SHOWN_VALUE_BYTES_MAX} are"
    mistake = event_mistake(value)
    text = value.decode(errors="replace")
    if mistake is None:
        return text, None
    words = mistake.partition("; write")[0].removeprefix("it is not JSON: ")
    return text, f"not JSON: {words.replace(' of the line', '')}"


def _header(value: bytes | None) -> str | None:
    return None if value is None else value[:SHOWN_HEADER_LENGTH_MAX].decode(errors="replace")


def _event(document: Any) -> Event:  # noqa: ANN401 - anything that a client sends
    try:
        text, encoded = document.get("pipeline"), document.get("key_base64")
        # `index` refuses what is not a whole number.
        partition, offset = index(document["partition"]), index(document["offset"])
        if encoded is not None:
            return Event(partition, offset, base64.b64decode(encoded, validate=True))
        return Event(partition, offset, None if text is None else text.encode())
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        shown = json.dumps(document, default=str)[:100]
        raise ValueError(
            f"{shown} is not an event; write its partition, offset, and pipeline or key_base64"
        ) from error


def add_outcomes(
    id_: str, rows: Sequence[dict[str, Any]], outcomes: Sequence[Mapping[str, EventOutcome]]
) -> list[dict[str, Any]]:
    """Return rows of a window with the outcome at its destination, and the line number."""
    shown = []
    for row, by_destination in zip(rows, outcomes, strict=True):
        outcome = by_destination.get(id_, EventOutcome(EventStatus.UNKNOWN))
        if outcome.status is not EventStatus.DELIVERED:
            row["line"] = None
        elif outcome.entry is not None and outcome.entry.answers is not None:
            row["line"] = line_number(outcome.entry, row["offset"])
        shown.append(row | {"outcome": str(outcome.status)})
    return shown
