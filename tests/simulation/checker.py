"""The oracle: checks promise 1 from outside, and shares no code with the core.

It sees what a bystander sees: the log, each offset commit, each object when it becomes visible,
each receipt when it is published. From these it knows, at any moment, which closings are durable,
which events are answered, and how. It imports nothing from `stream_app`: formats are read here a
second time, from the design's words.

A log can lose its end, and then its offsets name other events. The group reads one *life* of a
partition until it has found that out, and then begins another one, by a commit that says since
when. Offsets, closings and answers are those of a life.

    commit    may only grow; passes only answered records; repeats closings that have become visible
    object    appears once, under a key that a durable closing allows
    receipt   is true of its window, and agrees with the object line by line
    life      begins where the log does, when what was read in the one before is answered
"""

import base64
import gzip
import hashlib
import json
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import cramjam

from tests.simulation.broker import TOPIC, Log, Name, Record

Truth = Mapping[Record, Mapping[str, bytes | str | None]]
"""By record, for each matching destination: payload, error text, None: skipped."""

SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}
FINAL = ("delivered", "empty", "failed")
MAY_DIFFER = ("attempts", "already_existed", "stored_at", "error")
"""Fields that may differ between two receipts of one id."""


class Violation(AssertionError):  # noqa: N818 - it is found, not raised by what broke
    """A promise is broken."""


class Destination(Protocol):
    """A destination, as the oracle knows it."""

    id: str
    bucket: str
    prefix: str
    pipeline: str | None
    format: str


class Life(NamedTuple):
    """The log of a partition, as the group reads it from its start on."""

    partition: int
    began_at: int
    """Of the first one 0: workers whose clocks differ may state several times."""


class Commit(NamedTuple):
    """What a commit says."""

    life: Life
    is_truncated: bool
    windows: list["Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """One window as a durable closing describes it."""

    life: Life
    first: int
    end: int
    closed_at: int
    start: int
    settled: bool
    passed_over: bool = field(default=False, compare=False)
    """Nothing of it is delivered any more, since a batch of it cannot be decoded."""


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
        truth: The outcome of each record at each destination, as it should be.
        destinations: All of them.
        window_seconds: Length of a window.
        receipt_bytes_max: Bound of a receipt's lists.
        retention: Whether records may have been deleted before they were read: then receipts of
            such a window may speak of fewer records than their object holds.
        builds: Whether workers may have different compressors: then size and checksum of an object
            that another one wrote may be unknown, but not wrong.
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
        builds: bool,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._logs = logs
        self._truth = truth
        self._destinations = {it.id: it for it in destinations}
        self._window_seconds = window_seconds
        self._receipt_bytes_max = receipt_bytes_max
        self._retention = retention
        self._builds = builds
        self._offsets: dict[Life, int] = {}
        self._commits: dict[Name, tuple[int, Commit]] = {}
        self._lives: dict[int, list[Life]] = defaultdict(list)
        """By partition, the newest last."""
        self._since: dict[Life, int] = {}
        """The version of the log with which a life begins."""
        self._found: dict[Life, tuple[int, int]] = {}
        """Of lives that end: up to where a worker will deliver what it has read, and the version of
        the log in which it was found."""
        self._recorded: dict[tuple[Life, int], set[Window]] = defaultdict(set)
        """All that was ever durable, by life and first offset, as if not settled."""
        self._visible: dict[tuple[Life, int], Window] = {}
        """Windows of which an object or a receipt is to be seen."""
        self._ids: dict[str, Life] = {}
        self._allowed: dict[tuple[str, str], tuple[Window, str]] = {}
        self._objects: dict[tuple[str, str], bytes] = {}
        self._passed_over: set[Window] = set()
        """Durable closings that say so."""
        self._parts: dict[tuple[str, int], bytes] = {}
        self._answers: dict[tuple[Life, str], dict[int, Answer]] = defaultdict(dict)

    # --- what happens -------------------------------------------------------------------------

    def on_commit(self, name: Name, offset: int, metadata: str) -> None:
        """Check a commit in the moment in which it is applied."""
        commit = _commit(name[1], offset, metadata)
        life = commit.life
        if life not in self._since:
            self._begin(name, life)
        if life != self._lives[life.partition][-1]:
            raise Violation(f"{name}: commit {offset} of {life}, which is over")
        before = self._offsets.get(life, self._logs[name].start)
        if offset < before:
            # Harmless as long as it holds all that has become visible, which is checked below: a
            # partition was rebuilt while a commit was under way, and does its work again.
            self.counts["commits that go back"] += 1
        chain = {it.first: it for it in commit.windows}
        for first, window in [(it[1], w) for it, w in self._visible.items() if it[0] == life]:
            if first < offset < window.end:
                raise Violation(f"{name}: commit {offset} lies within visible {window}")
            is_dropped = first >= offset and not _same(chain.get(first), window)
            # What only a predecessor had read, nobody can deliver when the log has lost it.
            if is_dropped and not commit.is_truncated:
                raise Violation(f"{name}: commit {offset} drops {window}, has {chain.get(first)}")
        for window in chain.values():
            unsettled = _unsettled(window)
            if window.passed_over:
                self._check_passed_over(name, unsettled)
            elif unsettled in self._passed_over:
                raise Violation(f"{name}: commit {offset} takes back that {window} is passed over")
            if unsettled not in self._recorded[life, window.first]:
                self._recorded[life, window.first].add(unsettled)
                if window.passed_over:
                    continue  # no object of it may become visible
                for destination in self._destinations.values():
                    self._allow(destination, unsettled)
            if window.settled:
                self._demand_answers(life, window.first, window.end, "marked as settled")
        self._demand_answers(life, before, offset, "passed by a commit")
        self._offsets[life] = offset
        self._commits[name] = offset, commit

    def on_truncated(self, name: Name, began_at: int, promised: int) -> None:
        """A worker has found that a log has lost its end.

        Args:
            name: Which partition.
            began_at: When the life began that it has read, 0: it was the first one.
            promised: Up to there it still delivers what it has read.
        """
        life, version = Life(name[1], began_at), self._logs[name].version
        _, version = self._found.get(life, (0, version))
        self._found[life] = promised, version

    def recorded(self, name: Name) -> tuple[bool, list[int]]:
        """Return whether the last commit says that the log has lost its end, and its offsets."""
        if name not in self._commits:
            return False, []
        offset, commit = self._commits[name]
        return commit.is_truncated, [offset, *(it.end for it in commit.windows)]

    def _check_passed_over(self, name: Name, window: Window) -> None:
        """Only a batch that is damaged may be passed over, and nothing beside it.

        But a window that was recorded while the batch could be decoded is passed over as a whole.
        """
        log = self._logs[name]
        damages = [it for it in log.damages if it.first < window.end and window.first < it.end]
        if not damages:
            raise Violation(f"{name}: {window} is passed over, and nothing of it is damaged")
        if window in self._passed_over:
            return
        self._passed_over.add(window)
        was_recorded = window in self._recorded[window.life, window.first]
        for record in () if was_recorded else log.records:
            is_within = window.first <= record.offset < window.end
            if is_within and not any(it.first <= record.offset < it.end for it in damages):
                raise Violation(f"{name}: {window} passes over {record.offset}, which is whole")
        self.counts["undecodable: windows"] += 1

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
            expected = [self._expected(it, destination)[0] for it in self._contents(window)]
            if lines not in expected:
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
        closed_at = int(datetime.fromisoformat(source["closed_at"]).timestamp())
        name = (source["topic"], str(partition), str(first), f"closed at {closed_at}")
        text = "\0".join((*name, destination.id))
        where = f"receipt {status} of {destination.id}, {partition}: {first} to {end}"
        _equal(where, "topic", source["topic"], TOPIC)
        _equal(where, "key", message.key.decode(), destination.id)
        _equal(where, "pipeline", document["pipeline"], destination.pipeline)
        is_passed_over = (document["error"] or {}).get("code") == "UndecodableBatch"
        suffix = "\0undecodable" if is_passed_over else ""
        _equal(where, "id", headers["ce_id"], _sha256(f"{text}\0{status}{suffix}"))
        _equal(where, "type", headers["ce_type"], f"stream-app.delivery.{status}.v1")
        window = self._window_of_receipt(where, document, closed_at)
        life = window.life
        if self._ids.setdefault(headers["ce_id"], life) != life:
            raise Violation(f"{where}: {life} and {self._ids[headers['ce_id']]} have one id")
        self._see(window)
        self._check_object_of_receipt(where, document, headers, destination, window)
        if is_passed_over:
            nothing = {"matched": 0, "delivered": 0, "skipped": 0, "failed": 0}
            _equal(where, "status", status, "failed")
            _equal(where, "durable", window in self._passed_over, expected=True)
            _equal(where, "counts", document["counts"], nothing)
            _equal(where, "lists", document["skipped"] + document["failed"], [])
        elif not self._retention:
            self._check_lists_of_a_version(where, document, window, destination.id)
        self._remember(where, document, headers["ce_id"], (life, destination.id), first, end)

    def on_memory(self, held: int, bound: int, *, excused: bool) -> None:
        """Check the memory before a batch is taken."""
        if held >= bound and not excused:
            raise Violation(f"{held} bytes are held with a bound of {bound}, and more are taken")

    def unanswered(self, destination: str, before_ms: int) -> list[tuple[int, int]]:
        """Return partition and offset of older records that no receipt of a destination names."""
        return [
            (partition, record.offset)
            for (_, partition), log in self._logs.items()
            for record in log.records
            if record.timestamp < before_ms
            and destination in self._truth[record]
            and self._answer(self._lives[partition][-1], destination, record.offset) is None
        ]

    # --- the end ------------------------------------------------------------------------------

    def undrained(self, offsets: Mapping[Name, tuple[int, str]]) -> list[str]:
        """Return what is still to be done: nothing when all is answered and committed."""
        return [
            f"{name}: committed {offsets.get(name)}, the log ends at {log.end}"
            for name, log in self._logs.items()
            if (log.end > log.start or self._offset(name) > log.end)
            and not _is_settled(name, offsets, log.end)
        ]

    def finish(self, stored: Mapping[tuple[str, str], bytes]) -> None:
        """Check the whole: each record and destination has exactly one answer."""
        _equal("storage", "objects", dict(stored), self._objects)
        lines: Counter[tuple[Life, str, tuple[int, ...]]] = Counter()
        for (bucket, key), body in stored.items():
            window, destination = self._allowed[bucket, key]
            for line in _lines(body, key):
                lines[window.life, destination, tuple(json.loads(line)["record"])] += 1
        repeated = [it for it, count in lines.items() if count > 1]
        if repeated:
            raise Violation(f"lines that are repeated within a life: {repeated}")
        for name, log in self._logs.items():
            for record in log.records:
                if record.offset >= log.start:
                    self._check_record(name, record, lines)
        matching = {(it, _name(record)) for record, found in self._truth.items() for it in found}
        foreign = [it for it in lines if it[1:] not in matching]
        if foreign:
            raise Violation(f"lines of events that do not match: {foreign}")
        for (life, destination), answers in self._answers.items():
            for first, answer in answers.items():
                is_over = life != self._lives[life.partition][-1]
                if answer.final is None and not self._retention and not is_over:
                    raise Violation(
                        f"{destination}, {life}: {first} to {answer.end}: no final receipt"
                    )

    def minutes(self) -> Counter[tuple[str, int, int]]:
        """Return how many windows each destination, partition and minute has."""
        minutes: Counter[tuple[str, int, int]] = Counter()
        for (life, destination), answers in self._answers.items():
            for first in answers:
                (window,) = self._recorded[life, first]
                minutes[destination, life.partition, window.start] += 1
        return minutes

    # --- inside -------------------------------------------------------------------------------

    def _begin(self, name: Name, life: Life) -> None:
        """Check that a life may begin: the one before is over, and what was read is answered."""
        lives = self._lives[life.partition]
        version = 0
        if lives:
            if life.began_at <= lives[-1].began_at or lives[-1] not in self._found:
                raise Violation(f"{name}: {life} begins after {lives[-1]}")
            promised, version = self._found[lives[-1]]
            before = self._offsets[lives[-1]]
            self._demand_answers(lives[-1], before, promised, "read of a log that lost its end")
            self.counts["lives"] += 1
        self._since[life] = version
        lives.append(life)

    def _allow(self, destination: Destination, window: Window) -> None:
        name = destination.bucket, _key(destination, window)
        other, _ = self._allowed.get(name, (window, ""))
        if other.life != window.life:
            raise Violation(f"{window} and {other} have one key {name}")
        self._allowed[name] = window, destination.id

    def _offset(self, name: Name) -> int:
        return self._commits[name][0] if name in self._commits else 0

    def _contents(self, window: Window) -> list[list[Record]]:
        """Return what a window can have read: the log may have had other records there before."""
        return self._read(window.life, window.first, window.end)

    def _read(self, life: Life, first: int, end: int) -> list[list[Record]]:
        versions = self._logs[TOPIC, life.partition].versions(self._since[life])
        return [_between(records, first, end) for records, log_end in versions if log_end >= end]

    def _see(self, window: Window) -> None:
        seen = self._visible.setdefault((window.life, window.first), window)
        if seen != window:
            raise Violation(f"{window} is visible after {seen}: one offset under two closings")

    def _window_of_receipt(self, where: str, document: dict[str, Any], closed_at: int) -> Window:
        source = document["source"]
        durable = [
            it
            for life in self._lives[source["partition"]]
            for it in self._recorded[life, source["first_offset"]]
            if it.end == source["end_offset"] and it.closed_at == closed_at
        ]
        start = document["window"]["start"]
        durable = [it for it in durable if _iso(it.start) == start]
        uploaded_at = document["uploaded_at"]
        if uploaded_at is not None:
            durable = [it for it in durable if _iso(it.closed_at) == uploaded_at]
        if document["object"] is not None:
            stamp = document["object"]["key"].rsplit("/", 1)[-1][:19]
            durable = [it for it in durable if _stamp(it.closed_at) == stamp]
        for it in durable:
            if self._visible.get((it.life, it.first)) == it:
                return it
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
        _equal(where, "stored", document["stored_at"] is not None, status == "delivered")
        if status == "empty":
            _equal(where, "object", described, None)
            return
        key = described["key"]
        pattern = (
            re.escape(destination.prefix + "/" * (destination.prefix[-1:] not in ("", "/")))
            + r"\d{4}/\d\d/\d\d/\d\d/\d{4}(-\d\d){5}-[0-9a-f]{64}"
            + re.escape(SUFFIXES[destination.format])
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
        may_be_unknown = self._builds and document["already_existed"]
        if described["size"] is not None or not may_be_unknown:
            _equal(where, "size", described["size"], len(body))
        if described["checksum"] is not None or not may_be_unknown:
            value = base64.b64encode(hashlib.sha256(body).digest()).decode()
            right = {"algorithm": "SHA256", "value": value}
            _equal(where, "checksum", described["checksum"], right)
        _equal(where, "lines", described["lines"], len(_lines(body, key)))
        _equal(where, "uncompressed size", described["uncompressed_size"], len(_text(body, key)))

    def _check_lists_of_a_version(
        self, where: str, document: dict[str, Any], window: Window, destination: str
    ) -> None:
        contents = self._contents(window)
        if not contents:
            raise Violation(f"{where}: the log never had it in {window.life}")
        *others, last = contents
        for records in others:
            try:
                self._check_lists(where, document, records, destination)
            except Violation:
                continue
            return
        self._check_lists(where, document, last, destination)

    def _check_lists(
        self, where: str, document: dict[str, Any], records: Sequence[Record], destination: str
    ) -> None:
        delivered, skipped, failed = self._expected(records, destination)
        matched = [it.offset for it in records if destination in self._truth[it]]
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
        owner: tuple[Life, str],
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
            unsaid = ("etag", "size", "checksum") if self._builds else ("etag",)
            said["object"] = {key: it for key, it in said["object"].items() if key not in unsaid}
        if not self._retention:
            _equal(where, "what it says", said, answer.by_id.setdefault(id_, said))
        self.counts["receipts"] += 1
        if status in FINAL and answer.final != "delivered":
            answer.final = status

    def _demand_answers(self, life: Life, first: int, end: int, why: str) -> None:
        contents = self._read(life, first, end)
        unanswered = [list(self._unanswered(life, records)) for records in contents]
        if first < end and all(unanswered):
            raise Violation(f"{life}: {unanswered} is {why} ({first} to {end}) without an answer")

    def _unanswered(self, life: Life, records: Sequence[Record]) -> Iterable[tuple[int, str]]:
        start = self._logs[TOPIC, life.partition].start
        return (
            (record.offset, destination)
            for record in records
            if record.offset >= start
            for destination in self._truth[record]
            if self._answer(life, destination, record.offset) is None
        )

    def _answer(self, life: Life, destination: str, offset: int) -> str | None:
        for first, answer in self._answers[life, destination].items():
            if first <= offset < answer.end:
                return answer.final
        return None

    def _check_record(
        self, name: Name, record: Record, lines: Mapping[tuple[Life, str, tuple[int, ...]], int]
    ) -> None:
        life, offset = self._lives[name[1]][-1], record.offset
        for destination, outcome in self._truth[record].items():
            found = lines.get((life, destination, _name(record)), 0)
            answer = self._answer(life, destination, offset)
            right = (0, 1) if answer == "failed" else (1,)
            if not isinstance(outcome, bytes):
                right = (0,)
            if answer is None or found not in right:
                raise Violation(
                    f"{name}: record {offset} at {destination}: {found} lines, answer {answer}, "
                    f"outcome {outcome!r}"
                )

    def _expected(
        self, records: Sequence[Record], destination: str
    ) -> tuple[list[bytes], list[int], list[dict[str, Any]]]:
        delivered: list[bytes] = []
        skipped: list[int] = []
        failed: list[dict[str, Any]] = []
        for record in records:
            if destination not in self._truth[record]:
                continue
            match self._truth[record][destination]:
                case None:
                    skipped.append(record.offset)
                case str() as error:
                    place = f"{TOPIC}/{record.partition}@{record.offset}"
                    failed.append({"offset": record.offset, "record": place, "error": error})
                case payload:
                    delivered.append(payload)
        return delivered, skipped, failed


def _between(records: Sequence[Record], first: int, end: int) -> list[Record]:
    low, high = (bisect_left(records, it, key=lambda record: record.offset) for it in (first, end))
    return list(records[low:high])


def _name(record: Record) -> tuple[int, ...]:
    return record.partition, record.offset, record.version


def _commit(partition: int, offset: int, metadata: str) -> Commit:
    """Read a commit: since when, then for each closing end and settled, closing time, and lag."""
    packed = base64.urlsafe_b64decode(metadata[1:] + "=" * (-len(metadata[1:]) % 4))
    content, mark = packed[:-4], packed[-4:]
    if metadata[0] != "2" or int.from_bytes(mark, "big") != crc32(str(offset).encode() + content):
        raise Violation(f"metadata {metadata!r}")
    numbers, number, shift = [], 0, 0
    for byte in content[9:]:
        number += (byte % 128) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    windows, first, closed_at = [], offset, 0
    head, named_by_offset, *numbers = numbers
    began_at = head >> 2
    life = Life(partition, began_at if head & 2 else 0)
    if named_by_offset:
        raise Violation(f"metadata {metadata!r} of a group in which no old version ever was")
    while numbers:
        passed_over = numbers[0] == 0
        step, later, lag = numbers[passed_over : 3 + passed_over]
        del numbers[: 3 + passed_over]
        closed_at += _signed(later)
        end = first + (step >> 1)
        start = closed_at - _signed(lag)
        settled = bool(step & 1)
        if closed_at < began_at:
            raise Violation(f"commit {offset}: closed at {closed_at}, before {began_at}")
        windows.append(Window(life, first, end, closed_at, start, settled, passed_over))
        first = end
    return Commit(life, bool(head & 1), windows)


def _is_settled(name: Name, offsets: Mapping[Name, tuple[int, str]], end: int) -> bool:
    offset, metadata = offsets.get(name, (-1, ""))
    return offset == end and not _commit(name[1], offset, metadata).windows


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _unsettled(window: Window) -> Window:
    if not window.settled:
        return window
    return replace(window, settled=False)


def _same(window: Window | None, other: Window) -> bool:
    return window is not None and _unsettled(window) == other


def _key(destination: Destination, window: Window) -> str:
    name = (TOPIC, window.life.partition, window.first, destination.id, window.closed_at)
    text = "\0".join(map(str, name))
    stamp = _stamp(window.closed_at)
    prefix = destination.prefix
    if prefix and prefix[-1] != "/":
        prefix += "/"
    return (
        f"{prefix}{stamp[:13].replace('-', '/')}/{stamp}-{_sha256(text)}"
        + SUFFIXES[destination.format]
    )


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d-%H-%M-%S")


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(body: bytes, key: str) -> bytes:
    try:
        if key.endswith(SUFFIXES["zstd"]):
            return bytes(cramjam.zstd.decompress(body))
        return gzip.decompress(body)
    except (EOFError, OSError, cramjam.DecompressionError) as error:
        raise Violation(f"object {key} cannot be decompressed: {error}") from error


def _lines(body: bytes, key: str) -> list[bytes]:
    text = _text(body, key)
    if not text.endswith(b"\n"):
        raise Violation(f"object {key} does not end with a line end")
    return text[:-1].split(b"\n")


def _equal(where: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Violation(f"{where}: {what} is {found!r}, not {expected!r}")
