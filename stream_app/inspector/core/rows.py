"""Records as the Inspector shows them: one row each, found by what is in them.

Whatever a producer wrote can come: no JSON, no UTF-8, no value at all. Pure.
"""

import base64
import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from stream_app.inspector.outcomes import Entry, is_in, lists
from stream_app.printable import printable

SUMMARY_CHARACTERS_MAX: Final = 200
PARSED_BYTES_MAX: Final = 256 * 1024
"""A longer event is not read for its row: method and path would cost too much."""
SECONDS_MIN: Final = -62_135_596_800
"""Year 1. A producer can claim any time."""
SECONDS_MAX: Final = 253_402_300_799
"""The end of year 9999."""
METHOD: Final = re.compile(r"[A-Z]{1,20}")
NO_VALUE: Final = "(no value)"


class Record(Protocol):
    """A record as aiokafka hands it out."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None


def iso(seconds: float) -> str:
    """Return a time as text, to the millisecond; one beyond the calendar becomes its end."""
    within = min(max(seconds, SECONDS_MIN), SECONDS_MAX)
    text = datetime.fromtimestamp(within, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def row(record: Record, dest: Mapping[str, int]) -> dict[str, Any]:
    """Return the row of a record; `dest` as `Index.dest` has it."""
    method, path, body = _request(record.value)
    found: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "time": iso(record.timestamp / 1000),
        "pipeline": None,
        "size": len(record.value or b""),
        "method": method,
        "path": path,
        "summary": _summary(record.value if body is None else body),
        "dest": dest,
    }
    if record.key is not None:
        found["pipeline"] = record.key.decode(errors="replace")
        if found["pipeline"].encode() != record.key:
            found["key_base64"] = base64.b64encode(record.key).decode()
    return found


class Search:
    """What a row must have in it.

    Args:
        text: A part of a name, of a value, or of the key, in any case; empty: anything.
        pipeline: The key; None: any.
    """

    def __init__(self, text: str, pipeline: str | None) -> None:
        self._text = text.casefold()
        self._bytes = text.encode(errors="replace").lower() if text.isascii() else None
        self._pipeline = None if pipeline is None else pipeline.encode(errors="replace")

    def matches(self, key: bytes | None, value: bytes | None) -> bool:
        """Tell whether a record is meant."""
        if self._pipeline is not None and key != self._pipeline:
            return False
        if not self._text:
            return True
        if key is not None and self._text in key.decode(errors="replace").casefold():
            return True
        return value is not None and self._may_be_in(value) and self._is_in(value)

    def _may_be_in(self, value: bytes) -> bool:
        """Tell whether reading the value is worth it."""
        # Plain text can stand in it as escapes, and a letter beyond ASCII can fold to one of it.
        return (
            self._bytes is None
            or self._bytes in value.lower()
            or b"\\" in value
            or not value.isascii()
        )

    def _is_in(self, value: bytes) -> bool:
        try:
            # Objects become lists of pairs, and numbers stay as they are written.
            found = json.loads(
                value, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str
            )
        except (ValueError, RecursionError):
            return self._text in value.decode(errors="replace").casefold()
        waiting = [found]
        while waiting:
            it = waiting.pop()
            if isinstance(it, list | tuple):
                waiting.extend(it)
            elif self._text in _text(it).casefold():
                return True
        return False


class Lines:
    """Numbers the lines of the object that a receipt speaks of.

    Args:
        entry: The receipt.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._key = None if entry.pipeline is None else entry.pipeline.encode()
        self._skipped, failed = lists(entry.value) if entry.skipped or entry.failed else ([], {})
        self._failed: Sequence[int] = sorted(failed)
        self._line = 0

    def take(self, offset: int, key: bytes | None) -> int | None:
        """Take the next record of the window, in offset order.

        Returns:
            The number of its line, from 1; None if it has none.
        """
        if not self._is_matched(offset, key) or self._has_no_payload(offset):
            return None
        self._line += 1
        return self._line

    def _is_matched(self, offset: int, key: bytes | None) -> bool:
        if self._entry.answers is not None and offset not in self._entry.answers:
            return False
        return self._key is None or key == self._key

    def _has_no_payload(self, offset: int) -> bool:
        place = bisect_left(self._failed, offset)
        has_failed = place < len(self._failed) and self._failed[place] == offset
        return has_failed or is_in(offset, self._skipped)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return {True: "true", False: "false"}.get(value, "null")  # type: ignore[call-overload,no-any-return]


def _request(value: bytes | None) -> tuple[str | None, str | None, bytes | None]:
    """Return method, path and body of an HTTP event."""
    if value is None or len(value) > PARSED_BYTES_MAX or b'"method"' not in value:
        return None, None, None
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None, None, None
    method = event.get("method") if isinstance(event, dict) else None
    if not isinstance(method, str) or METHOD.fullmatch(method) is None:
        return None, None, None
    return method, _path(event), _body(event)


def _body(event: Mapping[str, Any]) -> bytes | None:
    """Return what an HTTP event is about, without the headers that all of them have."""
    if event.get("body") is None:
        return None
    try:
        return orjson.dumps(event["body"])
    except orjson.JSONEncodeError:
        return None  # Nested so deep that it is read but not written.


def _path(event: Mapping[str, Any]) -> str | None:
    """Return the path that an HTTP event names in one of the usual ways."""
    proto = event.get("proto")
    for place in (
        event.get("path"),
        event.get("url"),
        isinstance(proto, dict) and proto.get("uri"),
    ):
        if isinstance(place, str) and place:
            path = re.sub(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", place) or "/"
            return _cut(path)
    return None


def _summary(value: bytes | None) -> str:
    if value is None:
        return NO_VALUE
    # A character has at most four bytes.
    return _cut(value[: 4 * SUMMARY_CHARACTERS_MAX].decode(errors="replace"))


def _cut(text: str) -> str:
    # Far more would only be cut off again, and escapes take time.
    shown = printable(" ".join(text[: 4 * SUMMARY_CHARACTERS_MAX].split()))
    if len(shown) <= SUMMARY_CHARACTERS_MAX:
        return shown
    return shown[: SUMMARY_CHARACTERS_MAX - 1] + "…"
