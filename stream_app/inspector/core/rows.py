"""Table rows of events, and text search in events.

A record can hold anything that a producer wrote: not JSON, not UTF-8, no value at all. Pure.
"""

import base64
import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from stream_app.core.receipt_decoder import ListedOutcomes
from stream_app.inspector.core.index import Entry, in_runs, receipt_lists
from stream_app.text import printable

SUMMARY_CHARACTERS_MAX: Final = 200
PARSED_BYTES_MAX: Final = 256 * 1024
"""A longer event is not parsed for its row: method and path would cost too much."""
CALENDAR_SECONDS_MIN: Final = -62_135_596_800
"""Start of year 1. A producer can set any timestamp."""
CALENDAR_SECONDS_MAX: Final = 253_402_300_799
"""End of year 9999."""
METHOD: Final = re.compile(r"[A-Z]{1,20}")
NO_VALUE: Final = "(no value)"


class Record(Protocol):
    """A record as aiokafka returns it."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None


def iso_milliseconds(seconds: float) -> str:
    """Return a time in ISO 8601 with milliseconds, clamped to the years 1 to 9999."""
    within = min(max(seconds, CALENDAR_SECONDS_MIN), CALENDAR_SECONDS_MAX)
    text = datetime.fromtimestamp(within, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def iso_or_none(seconds: float | None) -> str | None:
    """Return `iso_milliseconds` of a time; None without one."""
    return None if seconds is None else iso_milliseconds(seconds)


def event_row(record: Record, dest: Mapping[str, int]) -> dict[str, Any]:
    """Return the row of a record; `dest` is the result of `Index.outcome_counts`."""
    method, path, body = _request(record.value)
    found: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "time": iso_milliseconds(record.timestamp / 1000),
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


class TextSearch:
    """Search for events by text and pipeline.

    Args:
        text: Part of a name, a value, or the key, in any case; empty matches every event.
        pipeline: Key of the events; None matches every key.
    """

    def __init__(self, text: str, pipeline: str | None) -> None:
        self._text = text.casefold()
        self._bytes = text.encode(errors="replace").lower() if text.isascii() else None
        self._pipeline = None if pipeline is None else pipeline.encode(errors="replace")

    def matches(self, key: bytes | None, value: bytes | None) -> bool:
        """Return whether a record matches."""
        if self._pipeline is not None and key != self._pipeline:
            return False
        if not self._text:
            return True
        if key is not None and self._text in key.decode(errors="replace").casefold():
            return True
        return value is not None and self._may_be_in(value) and self._is_in(value)

    def _may_be_in(self, value: bytes) -> bool:
        """Return whether the value must be parsed; a cheap test on its bytes."""
        # JSON can escape any character, and a letter beyond ASCII can fold to an ASCII one.
        return (
            self._bytes is None
            or self._bytes in value.lower()
            or b"\\" in value
            or not value.isascii()
        )

    def _is_in(self, value: bytes) -> bool:
        try:
            # Objects become lists of pairs, and numbers keep their digits.
            found = json.loads(
                value, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str
            )
        except (ValueError, RecursionError):
            return self._text in value.decode(errors="replace").casefold()
        unvisited = [found]
        while unvisited:
            it = unvisited.pop()
            if isinstance(it, list | tuple):
                unvisited.extend(it)
            elif self._text in _text(it).casefold():
                return True
        return False


class LineCounter:
    """Line numbers of a window's records in the object of a receipt.

    Args:
        entry: The receipt.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._key = None if entry.pipeline is None else entry.pipeline.encode()
        self._lists = (
            receipt_lists(entry.value)
            if entry.skipped or entry.failed
            else ListedOutcomes((), {}, None)
        )
        self._failed: Sequence[int] = sorted(self._lists.failed)
        self._line = 0

    def next_number(self, offset: int, key: bytes | None) -> int | None:
        """Return the line number of the next record of the window, in offset order.

        Returns:
            The number, from 1; None if the record has no line.
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
        index = bisect_left(self._failed, offset)
        has_failed = index < len(self._failed) and self._failed[index] == offset
        is_skipped = in_runs(offset, self._lists.skipped)
        return has_failed or is_skipped or not self._lists.cover(offset)


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
    """Return the body of an HTTP event, without the headers that all of them share."""
    if event.get("body") is None:
        return None
    try:
        return orjson.dumps(event["body"])
    except orjson.JSONEncodeError:
        return None  # Nested too deeply: orjson parses but does not write it.


def _path(event: Mapping[str, Any]) -> str | None:
    """Return the path of an HTTP event, from one of the usual fields."""
    proto = event.get("proto")
    for value in (
        event.get("path"),
        event.get("url"),
        isinstance(proto, dict) and proto.get("uri"),
    ):
        if isinstance(value, str) and value:
            path = re.sub(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", value) or "/"
            return _cut(path)
    return None


def _summary(value: bytes | None) -> str:
    if value is None:
        return NO_VALUE
    # A character takes at most four bytes of UTF-8.
    return _cut(value[: 4 * SUMMARY_CHARACTERS_MAX].decode(errors="replace"))


def _cut(text: str) -> str:
    # A longer text is cut below in any case, and escaping takes time.
    shown = printable(" ".join(text[: 4 * SUMMARY_CHARACTERS_MAX].split()))
    if len(shown) <= SUMMARY_CHARACTERS_MAX:
        return shown
    return shown[: SUMMARY_CHARACTERS_MAX - 1] + "…"
