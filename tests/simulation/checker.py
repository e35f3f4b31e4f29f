"""The oracle: checks promise 1 from outside, and shares no code with the core.

It sees what a bystander sees: the log, each offset commit, each object when it becomes visible,
each receipt when it is published. From these it knows, at any moment, which closings are durable,
which events are answered, and how. It imports nothing from `stream_app`: formats are read here a
second time, from the design's words.

    commit    may only grow; passes only answered records; repeats closings that have become visible
    object    appears once, under a key that a durable closing allows
    receipt   tells the truth about its window, and agrees with the object line by line
"""

import base64
import gzip
import hashlib
import json
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from tests.simulation.broker import TOPIC, Log, Name

Truth = Mapping[tuple[int, int], Mapping[str, bytes | str | None]]
"""By partition and offset, for each matching destination: payload, error text, None: skipped."""

FINAL = ("delivered", "empty", "failed")
MAY_DIFFER = ("attempts", "already_existed", "error")
"""What may differ between two receipts of one id."""


class Violation(AssertionError):  # noqa: N818 - it is found, not raised by what broke
    """A promise is broken."""


class Destination(Protocol):
    """What the oracle needs to know of a destination."""

    id: str
    bucket: str
    prefix: str
    pipeline: str | None


@dataclass(frozen=True, slots=True)
class Window:
    """One window as a durable closing describes it."""

    partition: int
    first: int
    end: int
    uploaded_at: int
    start: int
    settled: bool


@dataclass
class Answer:
    """All receipts of one window and destination."""

    end: int
    final: str | None = None
    by_id: dict[str, dict[str, Any]] = field(default_factory=dict)


class Checker:
    """Watches one run.

    Args:
        logs: The partitions.
        truth: What each destination should be told of each record.
        destinations: All of them.
        window_seconds: Length of a window.
        receipt_bytes_max: Bound of a receipt's lists.
        retention: Whether records may have been deleted before they were read: then receipts of
            such a window may speak of fewer records than their object holds.
    """

    def __init__(
        self,
        logs: Mapping[Name, Log],
        truth: Truth,
        destinations: Sequence[Destination],
        *,
        window_seconds: int,
        receipt_bytes_max: int,
        retention: bool,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._logs = logs
        self._truth = truth
        self._destinations = {it.id: it for it in destinations}
        self._window_seconds = window_seconds
        self._receipt_bytes_max = receipt_bytes_max
        self._retention = retention
        self._offsets: dict[Name, int] = {}
        self._recorded: dict[tuple[int, int], set[Window]] = defaultdict(set)
        """All that was ever durable, by partition and first offset, as if not settled."""
        self._visible: dict[tuple[int, int], Window] = {}
        """Windows of which an object or a receipt is to be seen."""
        self._allowed: dict[tuple[str, str], tuple[Window, str]] = {}
        self._objects: dict[tuple[str, str], bytes] = {}
        self._parts: dict[tuple[str, int], bytes] = {}
        self._answers: dict[tuple[int, str], dict[int, Answer]] = defaultdict(dict)

    # --- what happens -------------------------------------------------------------------------

    def on_commit(self, name: Name, offset: int, metadata: str) -> None:
        """Check a commit in the moment in which it is applied."""
        partition = name[1]
        before = self._offsets.get(name, self._logs[name].start)
        if offset < before:
            # Harmless as long as it holds all that has become visible, which is checked below: a
            # partition was rebuilt while a commit was under way, and does its work again.
            self.counts["commits that go back"] += 1
        chain = {it.first: it for it in _windows(partition, offset, metadata)}
        for first, window in [(it[1], w) for it, w in self._visible.items() if it[0] == partition]:
            if first < offset < window.end:
                raise Violation(f"{name}: commit {offset} lies within visible {window}")
            if first >= offset and not _same(chain.get(first), window):
                raise Violation(f"{name}: commit {offset} drops {window}, has {chain.get(first)}")
        for window in chain.values():
            unsettled = _unsettled(window)
            if unsettled not in self._recorded[partition, window.first]:
                self._recorded[partition, window.first].add(unsettled)
                for destination in self._destinations.values():
                    self._allowed[destination.bucket, _key(destination, window)] = (
                        unsettled,
                        destination.id,
                    )
            if window.settled:
                self._demand_answers(name, window.first, window.end, "marked as settled")
        self._demand_answers(name, before, offset, "passed by a commit")
        self._offsets[name] = offset

    def on_object(self, bucket: str, key: str, body: bytes) -> None:
        """Check an object in the moment in which it becomes visible."""
        if (bucket, key) not in self._allowed:
            raise Violation(f"object {bucket}/{key} is visible without a durable closing")
        if (bucket, key) in self._objects:
            raise Violation(f"object {bucket}/{key} was written twice")
        window, destination = self._allowed[bucket, key]
        self._see(window)
        self._objects[bucket, key] = body
        if not self._retention:
            lines = _lines(body, key)
            expected = self._expected(window, destination)[0]
            if lines != expected:
                raise Violation(f"object {key} of {window} holds {lines}, not {expected}")

    def on_part(self, upload: str, number: int, body: bytes) -> None:
        """Check a part in the moment in which S3 has it."""
        if (upload, number) in self._parts:
            self.counts["parts sent again"] += 1
        if self._parts.setdefault((upload, number), body) != body:
            raise Violation(f"{upload}: part {number} was sent with two contents")

    def on_receipt(self, message: Any) -> None:
        """Check a receipt in the moment in which the broker has it."""
        headers = {name: value.decode() for name, value in message.headers}
        document = json.loads(message.value)
        destination = self._destinations[document["destination"]]
        source, status = document["source"], document["status"]
        partition, first, end = (source[it] for it in ("partition", "first_offset", "end_offset"))
        text = "\0".join((source["topic"], str(partition), str(first), destination.id))
        where = f"receipt {status} of {destination.id}, {partition}: {first} to {end}"
        _equal(where, "topic", source["topic"], TOPIC)
        _equal(where, "key", message.key.decode(), destination.id)
        _equal(where, "pipeline", document["pipeline"], destination.pipeline)
        _equal(where, "id", headers["ce_id"], _sha256(f"{text}\0{status}"))
        _equal(where, "type", headers["ce_type"], f"stream-app.delivery.{status}.v1")
        window = self._window_of_receipt(where, document, partition, first, end)
        self._see(window)
        self._check_object_of_receipt(where, document, headers, destination, window)
        if not self._retention:
            self._check_lists(where, document, window, destination.id)
        self._remember(where, document, headers["ce_id"], (partition, destination.id), first, end)

    def on_memory(self, held: int, bound: int, *, excused: bool) -> None:
        """Check the memory before a batch is taken."""
        if held >= bound and not excused:
            raise Violation(f"{held} bytes are held with a bound of {bound}, and more are taken")

    def unanswered(self, destination: str, before_ms: int) -> list[tuple[int, int]]:
        """Return what a destination was not told of: partition and offset of older records."""
        return [
            (partition, record.offset)
            for (_, partition), log in self._logs.items()
            for record in log.records
            if record.timestamp < before_ms
            and destination in self._truth[partition, record.offset]
            and self._answer(partition, destination, record.offset) is None
        ]

    # --- the end ------------------------------------------------------------------------------

    def undrained(self, offsets: Mapping[Name, tuple[int, str]]) -> list[str]:
        """Return what is still to be done: nothing when all is answered and committed."""
        return [
            f"{name}: committed {offsets.get(name)}, the log ends at {log.end}"
            for name, log in self._logs.items()
            if log.end > log.start and offsets.get(name) != (log.end, "")
        ]

    def finish(self, stored: Mapping[tuple[str, str], bytes]) -> None:
        """Check the whole: each record and destination has exactly one answer."""
        _equal("storage", "objects", dict(stored), self._objects)
        lines: Counter[tuple[str, int, int]] = Counter()
        for (bucket, key), body in stored.items():
            _, destination = self._allowed[bucket, key]
            for line in _lines(body, key):
                event = json.loads(line)
                lines[destination, event["partition"], event["offset"]] += 1
        for name, log in self._logs.items():
            for record in log.records:
                if record.offset >= log.start:
                    self._check_record(name, record.offset, lines)
        foreign = [it for it in lines if it[0] not in self._truth.get((it[1], it[2]), ())]
        if foreign:
            raise Violation(f"lines of events that do not match: {foreign}")
        for (partition, destination), answers in self._answers.items():
            for first, answer in answers.items():
                if answer.final is None and not self._retention:
                    raise Violation(
                        f"{destination}, {partition}: {first} to {answer.end}: no final receipt"
                    )

    def minutes(self) -> Counter[tuple[str, int, int]]:
        """Return how many windows each destination, partition and minute has."""
        minutes: Counter[tuple[str, int, int]] = Counter()
        for (partition, destination), answers in self._answers.items():
            for first in answers:
                (window,) = self._recorded[partition, first]
                minutes[destination, partition, window.start] += 1
        return minutes

    # --- inside -------------------------------------------------------------------------------

    def _see(self, window: Window) -> None:
        seen = self._visible.setdefault((window.partition, window.first), window)
        if seen != window:
            raise Violation(f"{window} is visible after {seen}: one offset under two closings")

    def _window_of_receipt(
        self, where: str, document: dict[str, Any], partition: int, first: int, end: int
    ) -> Window:
        durable = [it for it in self._recorded[partition, first] if it.end == end]
        start = document["window"]["start"]
        durable = [it for it in durable if _iso(it.start) == start]
        uploaded_at = document["uploaded_at"]
        if uploaded_at is not None:
            durable = [it for it in durable if _iso(it.uploaded_at) == uploaded_at]
        if document["object"] is not None:
            stamp = document["object"]["key"].rsplit("/", 1)[-1][:19]
            durable = [it for it in durable if _stamp(it.uploaded_at) == stamp]
        seen = self._visible.get((partition, first))
        if seen in durable:
            return seen
        if not durable:
            raise Violation(f"{where}: no such closing is durable: {document}")
        _equal(
            where,
            "window end",
            document["window"]["end"],
            _iso(durable[0].start + self._window_seconds),
        )
        return durable[0]

    def _check_object_of_receipt(
        self,
        where: str,
        document: dict[str, Any],
        headers: dict[str, str],
        destination: Destination,
        window: Window,
    ) -> None:
        described, status = document["object"], document["status"]
        if status == "empty":
            _equal(where, "object", described, None)
            return
        key = described["key"]
        pattern = (
            re.escape(destination.prefix + "/" * (destination.prefix[-1:] not in ("", "/")))
            + r"\d{4}/\d\d/\d\d/\d\d/\d{4}(-\d\d){5}-[0-9a-f]{64}\.gz"
        )
        if re.fullmatch(pattern, key) is None:
            raise Violation(f"{where}: key {key}")
        _equal(where, "key", key, _key(destination, window))
        _equal(where, "subject", headers["ce_subject"], key)
        _equal(where, "bucket", described["bucket"], destination.bucket)
        _equal(where, "error", document["error"] is None, status == "delivered")
        if status != "delivered":
            return
        body = self._objects.get((destination.bucket, key))
        if body is None:
            raise Violation(f"{where}: there is no object {key}")
        if self._retention:
            return
        _equal(where, "size", described["size"], len(body))
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        _equal(where, "checksum", described["checksum"], {"algorithm": "SHA256", "value": checksum})
        _equal(where, "lines", described["lines"], len(_lines(body, key)))
        _equal(
            where, "uncompressed size", described["uncompressed_size"], len(gzip.decompress(body))
        )

    def _check_lists(
        self, where: str, document: dict[str, Any], window: Window, destination: str
    ) -> None:
        delivered, skipped, failed = self._expected(window, destination)
        matched = self._matched(window, destination)
        runs = document["skipped"]
        _equal(where, "order of skipped runs", runs, sorted(runs))
        in_runs = [it for it in matched if any(low <= it <= high for low, high in runs)]
        _equal(where, "skipped", in_runs, skipped)
        _equal(where, "failed", document["failed"], failed)
        counts = {
            "matched": len(matched),
            "delivered": len(delivered),
            "skipped": len(skipped),
            "failed": len(failed),
        }
        _equal(where, "counts", document["counts"], counts)
        if not matched:
            raise Violation(f"{where}: no record matches")
        if (document["status"] == "empty") != (not delivered):
            raise Violation(f"{where}: {len(delivered)} lines")
        size = len(json.dumps([runs, failed]))
        largest = max((len(json.dumps(it)) for it in failed), default=0)
        if size > self._receipt_bytes_max + largest + 100:
            raise Violation(f"{where}: lists of {size} bytes")

    def _remember(
        self,
        where: str,
        document: dict[str, Any],
        id_: str,
        owner: tuple[int, str],
        first: int,
        end: int,
    ) -> None:
        answers = self._answers[owner]
        for other, answer in answers.items():
            if other != first and other < end and first < answer.end:
                raise Violation(f"{where} overlaps the window {other} to {answer.end}")
        answer = answers.setdefault(first, Answer(end))
        _equal(where, "end of the window", end, answer.end)
        status = document["status"]
        if status == "retrying" and answer.final is not None:
            self.counts["retrying after the final receipt"] += 1
        if answer.final is not None and status in FINAL and status != answer.final:
            self.counts[f"{status} after {answer.final}"] += 1
        said = {key: it for key, it in document.items() if key not in MAY_DIFFER}
        if said["object"] is not None:
            said["object"] = {key: it for key, it in said["object"].items() if key != "etag"}
        if not self._retention:
            _equal(where, "what it says", said, answer.by_id.setdefault(id_, said))
        self.counts["receipts"] += 1
        if status in FINAL and answer.final != "delivered":
            answer.final = status

    def _demand_answers(self, name: Name, first: int, end: int, why: str) -> None:
        log = self._logs[name]
        place = bisect_left(log.records, first, key=lambda record: record.offset)
        for record in log.records[place:]:
            if record.offset >= end:
                return
            if record.offset < log.start:
                continue
            for destination in self._truth[name[1], record.offset]:
                if self._answer(name[1], destination, record.offset) is None:
                    raise Violation(
                        f"{name}: record {record.offset} is {why} (to {end}) without an answer "
                        f"of {destination}"
                    )

    def _answer(self, partition: int, destination: str, offset: int) -> str | None:
        for first, answer in self._answers[partition, destination].items():
            if first <= offset < answer.end:
                return answer.final
        return None

    def _check_record(
        self, name: Name, offset: int, lines: Mapping[tuple[str, int, int], int]
    ) -> None:
        for destination, outcome in self._truth[name[1], offset].items():
            found = lines.get((destination, name[1], offset), 0)
            answer = self._answer(name[1], destination, offset)
            right = (0, 1) if answer == "failed" else (1,)
            if not isinstance(outcome, bytes):
                right = (0,)
            if answer is None or found not in right:
                raise Violation(
                    f"{name}: record {offset} at {destination}: {found} lines, answer {answer}, "
                    f"outcome {outcome!r}"
                )

    def _matched(self, window: Window, destination: str) -> list[int]:
        log = self._logs[TOPIC, window.partition]
        place = bisect_left(log.records, window.first, key=lambda record: record.offset)
        matched = []
        for record in log.records[place:]:
            if record.offset >= window.end:
                break
            if destination in self._truth[window.partition, record.offset]:
                matched.append(record.offset)
        return matched

    def _expected(
        self, window: Window, destination: str
    ) -> tuple[list[bytes], list[int], list[dict[str, Any]]]:
        delivered: list[bytes] = []
        skipped: list[int] = []
        failed: list[dict[str, Any]] = []
        for offset in self._matched(window, destination):
            match self._truth[window.partition, offset][destination]:
                case None:
                    skipped.append(offset)
                case str() as error:
                    record = f"{TOPIC}/{window.partition}@{offset}"
                    failed.append({"offset": offset, "record": record, "error": error})
                case payload:
                    delivered.append(payload)
        return delivered, skipped, failed


def _windows(partition: int, offset: int, metadata: str) -> list[Window]:
    """Read the closings of a commit: for each end and settled, upload time, lag of the window."""
    if not metadata:
        return []
    if metadata[0] != "1":
        raise Violation(f"metadata {metadata!r}")
    numbers, number, shift = [], 0, 0
    for byte in base64.urlsafe_b64decode(metadata[1:] + "=" * (-len(metadata[1:]) % 4)):
        number += (byte % 128) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    windows, first, uploaded_at = [], offset, 0
    for step, later, lag in zip(*[iter(numbers)] * 3, strict=True):
        uploaded_at += _signed(later)
        end = first + (step >> 1)
        start = uploaded_at - _signed(lag)
        windows.append(Window(partition, first, end, uploaded_at, start, bool(step & 1)))
        first = end
    return windows


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _unsettled(window: Window) -> Window:
    if not window.settled:
        return window
    return Window(
        window.partition, window.first, window.end, window.uploaded_at, window.start, settled=False
    )


def _same(window: Window | None, other: Window) -> bool:
    return window is not None and _unsettled(window) == other


def _key(destination: Destination, window: Window) -> str:
    text = f"{TOPIC}\0{window.partition}\0{window.first}\0{destination.id}"
    stamp = _stamp(window.uploaded_at)
    prefix = destination.prefix
    if prefix and prefix[-1] != "/":
        prefix += "/"
    return f"{prefix}{stamp[:13].replace('-', '/')}/{stamp}-{_sha256(text)}.gz"


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d-%H-%M-%S")


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(body: bytes, key: str) -> list[bytes]:
    try:
        text = gzip.decompress(body)
    except (EOFError, OSError) as error:
        raise Violation(f"object {key} is no gzip: {error}") from error
    if not text.endswith(b"\n"):
        raise Violation(f"object {key} does not end with a line end")
    return text[:-1].split(b"\n")


def _equal(where: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Violation(f"{where}: {what} is {found!r}, not {expected!r}")
