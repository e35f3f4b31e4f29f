"""The documents that the Inspector's page asks for, made of what the index tells.

Pure: receipts, records and destinations in, documents out. Receipts go out as they came, byte for
byte; a long one without its lists.
"""

import base64
import binascii
import json
import shlex
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, Final

import orjson

from stream_app.errors import ConfigurationError
from stream_app.events import event_mistake
from stream_app.inspector.outcomes import Answer, Entry, Event, Outcome, is_in, lists
from stream_app.inspector.rows import iso
from stream_app.policy import OPTION_RIGHTS, bucket_policy
from stream_app.settings import Destination

EVENTS_MAX: Final = 500
"""Events whose outcomes one request may ask for."""
TEXT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A longer value is not shown."""
RECEIPT_BYTES_MAX: Final = 64 * 1024
"""A longer receipt is shown without its lists."""
RECEIPTS_MAX: Final = 10
"""Receipts of one event at one destination that are shown, the newest."""
DESTINATIONS_MAX: Final = 1_000
"""Destinations of one event that are shown."""
HEADERS_MAX: Final = 1_000
HEADER_LENGTH_MAX: Final = 10_000
"""Characters of a header that are shown."""
WINDOWS_MAX: Final = 200
"""Windows of a destination that are shown."""
SHORT_FIELDS: Final = (
    *("status", "destination", "pipeline", "window", "source", "counts"),
    *("object", "attempts", "already_existed", "uploaded_at", "error"),
)
"""What is shown of a long receipt."""
PRINCIPAL_EXAMPLE: Final = "arn:aws:iam::123456789012:role/stream-app"
"""Stands in a bucket policy for whoever runs the workers."""


def receipt_at(entry: Entry) -> dict[str, Any]:
    """Return a receipt, and where it stands in its topic."""
    return {
        "id": entry.id,
        "time": None if entry.published_at is None else iso(entry.published_at),
        "partition": entry.partition,
        "offset": entry.offset,
        "receipt": _document(entry),
    }


def event_document(
    record: Any,  # noqa: ANN401 - a record with headers
    row: Mapping[str, Any],
    answers: Mapping[str, Answer],
    configured: Mapping[str, Destination],
    lines: Mapping[str, int | None],
) -> dict[str, Any]:
    """Return what is known of one event.

    Args:
        record: It.
        row: Its row.
        answers: Its outcomes, by destination.
        configured: The destinations that there are.
        lines: The numbers of its lines, as far as they were counted, by destination.
    """
    text, why = _text(record.value)
    shown = sorted(answers)[:DESTINATIONS_MAX]
    return {
        "row": row,
        "text": text,
        "is_json": why is None,
        "why": why,
        "headers": [
            [name[:HEADER_LENGTH_MAX], _header(value)]
            for name, value in record.headers[:HEADERS_MAX]
        ],
        "destinations": [
            _destination(id_, answers[id_], configured.get(id_), lines.get(id_)) for id_ in shown
        ],
        "more_destinations": len(answers) - len(shown),
    }


def events_asked(document: Any) -> list[Event]:  # noqa: ANN401 - whatever a client sends
    """Read the events of a request for outcomes.

    Raises:
        ValueError: It is none; the text says what to write.
    """
    asked = document.get("events") if isinstance(document, dict) else None
    if not isinstance(asked, list) or len(asked) > EVENTS_MAX:
        raise ValueError(f'write {{"events": […]}} with at most {EVENTS_MAX} events')
    return [_event(it) for it in asked]


def line_number(entry: Entry, offset: int) -> int | None:
    """Return the number of a delivered event's line where no record need be read for it.

    That is so of chosen events, which the receipt names, and where every offset of the window is
    an event of the destination.
    """
    skipped, failed = lists(entry.value)
    if offset in failed or is_in(offset, skipped):
        return None
    if entry.answers is not None:
        return sum(
            it <= offset and it not in failed and not is_in(it, skipped) for it in entry.answers
        )
    first, end = entry.source.first_offset, entry.source.end_offset
    if entry.matched != end - first:
        return None
    without_line = sum(
        min(last, offset) - first_ + 1 for first_, last in skipped if first_ <= offset
    )
    return offset - first + 1 - without_line - sum(it < offset for it in failed)


def policy_text(destination: Destination) -> tuple[str, bool]:
    """Return a destination's bucket policy, and whether it is known for whom: else an example."""
    options = [it for it in OPTION_RIGHTS if getattr(destination, it) is not None]
    principal = destination.role_arn or PRINCIPAL_EXAMPLE
    try:
        text = bucket_policy(destination.bucket, principal, options)
    except ConfigurationError:
        # A role of another cloud's S3: the example shows the rights all the same.
        return bucket_policy(destination.bucket, PRINCIPAL_EXAMPLE, options), False
    return text, destination.role_arn is not None


def redeliver_command(config: str, destination: str) -> str:
    """Return the command that delivers what failed."""
    return shlex.join(["stream-app", "redeliver", "--config", config, "--destination", destination])


def _document(entry: Entry) -> Any:  # noqa: ANN401 - orjson's fragment, or a document
    if len(entry.value) <= RECEIPT_BYTES_MAX:
        return orjson.Fragment(entry.value)
    document = entry.document()
    known = {name: document[name] for name in SHORT_FIELDS if name in document}
    cut = known | {"skipped": [], "failed": [], "is_cut": True}
    try:
        orjson.dumps(cut)
    except orjson.JSONEncodeError:
        return {"is_cut": True}  # Nested so deep that it is no receipt of a worker.
    return cut


def _destination(
    id_: str, answer: Answer, destination: Destination | None, line: int | None
) -> dict[str, Any]:
    entry = answer.entry
    pipeline = entry.pipeline if destination is None and entry else None
    return {
        "id": id_,
        "pipeline": destination.pipeline if destination is not None else pipeline,
        "outcome": str(answer.outcome),
        "reason": answer.reason,
        "error": answer.error,
        "line": line if answer.outcome is Outcome.DELIVERED else None,
        "configured": destination is not None,
        "payload": None if destination is None else destination.payload,
        "window": None if entry is None else _window(entry),
        "receipt": None if entry is None else receipt_at(entry),
        "receipts": [receipt_at(it) for it in answer.entries[:RECEIPTS_MAX]],
    }


def _window(entry: Entry) -> dict[str, Any]:
    return {
        "partition": entry.source.partition,
        "first_offset": entry.source.first_offset,
        "start": iso(entry.window_start),
        "end": iso(entry.window_end),
    }


def _text(value: bytes | None) -> tuple[str | None, str | None]:
    """Return a value as text, and why it is no event, if so."""
    if value is None:
        return None, "not JSON: the record has no value"
    if len(value) > TEXT_BYTES_MAX:
        return None, f"not shown: it has {len(value)} bytes; at most {TEXT_BYTES_MAX} are"
    mistake = event_mistake(value)
    text = value.decode(errors="replace")
    if mistake is None:
        return text, None
    words = mistake.partition("; write")[0].removeprefix("it is no JSON: ")
    return text, f"not JSON: {words.replace(' of the line', '')}"


def _header(value: bytes | None) -> str | None:
    return None if value is None else value[:HEADER_LENGTH_MAX].decode(errors="replace")


def _event(asked: Any) -> Event:  # noqa: ANN401 - whatever a client sends
    try:
        text, encoded = asked.get("pipeline"), asked.get("key_base64")
        # What is no whole number has no such operation.
        partition, offset = index(asked["partition"]), index(asked["offset"])
        if encoded is not None:
            return Event(partition, offset, base64.b64decode(encoded, validate=True))
        return Event(partition, offset, None if text is None else text.encode())
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        shown = json.dumps(asked, default=str)[:100]
        raise ValueError(
            f"{shown} is no event; write its partition, offset, and pipeline or key_base64"
        ) from error


def window_rows(
    id_: str, rows: Sequence[dict[str, Any]], answers: Sequence[Mapping[str, Answer]]
) -> list[dict[str, Any]]:
    """Add to rows of a window what became of each at its destination, and the line."""
    shown = []
    for row, found in zip(rows, answers, strict=True):
        answer = found.get(id_)
        outcome = Outcome.UNKNOWN if answer is None else answer.outcome
        if outcome is not Outcome.DELIVERED:
            row["line"] = None
        elif answer is not None and answer.entry is not None and answer.entry.answers is not None:
            row["line"] = line_number(answer.entry, row["offset"])
        shown.append(row | {"outcome": str(outcome)})
    return shown
