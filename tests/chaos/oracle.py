"""Judges what a run has left behind. It shares no code with the program and trusts only ids.

Evidence comes from outside: what the broker acknowledged, what stands in S3, what the receipts
topic holds, and what the group has committed. `findings` compares them and names every
disagreement; a run is good when there is none.

    acknowledged events ── expected outcome ──> each delivered exactly once, as one line
    objects ── gzip, key ──> lines ── ids ──┘        │
    receipts ── offsets ──> n-th delivered offset = n-th line, every matched offset once
    commits ──> the end of the log, and nothing recorded is left
"""

import base64
import gzip
import hashlib
import json
import re
import zlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import cramjam

from tests.chaos.load import Event, Sent

KEY: Final = re.compile(
    r"(\d{4})/(\d\d)/(\d\d)/(\d\d)/\1-\2-\3-\4-(\d\d)-(\d\d)-([0-9a-f]{64})\.(?:gz|zst)"
)
MAY_DIFFER: Final = ("attempts", "already_existed", "stored_at")
"""In which two receipts with one id may differ: how it went, not what became of the events."""
NOT_FINAL: Final = "retrying"
"""The status of a receipt that only says that a window is late, and why so far."""
SHOWN_MAX: Final = 8
UNREADABLE: Final = (
    *(OSError, EOFError, zlib.error, cramjam.DecompressionError, ValueError, KeyError, TypeError),
)
"""Errors of reading a damaged object, from its compression up to its lines."""

Lines = Mapping[str, Sequence[str]]
"""The ids in each readable object, by key."""


@dataclass(frozen=True)
class Target:
    """A destination, with what its expression does in Python."""

    id: str
    prefix: str
    payload: str | None = None
    pipeline: str | None = None
    outcome: Callable[[Event], str] = lambda _: "delivered"
    """Of an event: delivered, skipped or failed. A delivered line is an object with the `id`."""
    settings: str = ""
    """Further lines of its table."""

    def matches(self, sent: Sent) -> bool:
        return self.pipeline is None or self.pipeline == sent.pipeline


@dataclass(frozen=True)
class Stored:
    key: str
    body: bytes
    etag: str


@dataclass(frozen=True)
class Published:
    """A message of the receipts topic."""

    key: str
    headers: Mapping[str, str]
    value: dict[str, Any]

    @property
    def window(self) -> tuple[str, int, int, str]:
        source = self.value["source"]
        return (
            source["topic"],
            source["partition"],
            source["first_offset"],
            self.value["destination"],
        )


@dataclass(frozen=True)
class Committed:
    """The group's commit of one partition, and the end of its log."""

    offset: int | None
    closings: int
    """Number of recorded closings."""
    log_end: int


@dataclass(frozen=True)
class Evidence:
    targets: Sequence[Target]
    bucket: str
    sent: Sequence[Sent]
    objects: Sequence[Stored]
    receipts: Sequence[Published]
    commits: Mapping[int, Committed]
    began: datetime
    ended: datetime
    workers_may_read: bool = True
    """Without that right the receipt of an object that was found again has no ETag."""

    @cached_property
    def by_key(self) -> dict[str, Stored]:
        return {stored.key: stored for stored in self.objects}

    @cached_property
    def by_partition(self) -> dict[int, list[Sent]]:
        """Events sent, by partition and in offset order."""
        by_partition: defaultdict[int, list[Sent]] = defaultdict(list)
        for sent in sorted(self.sent, key=_offset):
            by_partition[sent.partition].append(sent)
        return by_partition

    def run(self, source: Mapping[str, Any]) -> list[Sent]:
        """Events sent in the run of offsets that a receipt names."""
        sent = self.by_partition.get(source["partition"], [])
        first = bisect_left(sent, source["first_offset"], key=_offset)
        return sent[first : bisect_left(sent, source["end_offset"], key=_offset)]


def findings(evidence: Evidence) -> list[str]:
    """Name every disagreement; empty when the run has kept its promises."""
    lines, found = _lines(evidence)
    found += _lost_or_repeated(evidence, lines)
    latest, doubts = _latest(evidence.receipts)
    found += doubts
    for published in latest.values():
        found += [
            f"receipt {published.window}: {it}" for it in _receipt(evidence, published, lines)
        ]
    found += _recorded(evidence, latest.values())
    found += _objects_without_receipt(evidence, latest.values())
    found += _commits(evidence)
    return found


def windows(receipts: Iterable[Published]) -> int:
    """How many windows the receipts speak of."""
    return len({published.window[:3] for published in receipts})


def windows_back_in_time(receipts: Iterable[Published]) -> Counter[int]:
    """By partition, how many windows begin no later than the one before, or are of its minute."""
    starts: defaultdict[int, dict[int, datetime]] = defaultdict(dict)
    for published in receipts:
        _, partition, first, _ = published.window
        start = published.value["window"]["start"]
        starts[partition][first] = datetime.fromisoformat(start)
    return Counter(
        {
            partition: sum(later <= one for one, later in pairwise(start for _, start in ordered))
            for partition, ordered in ((it, sorted(by.items())) for it, by in starts.items())
        }
    )


@dataclass(frozen=True)
class Balance:
    """Numbers of payloads by result, counted in the objects, not taken from receipts."""

    delivered: int
    lost: int
    repeated: int
    foreign: int


def balance(evidence: Evidence) -> Balance:
    """Count what was owed against what the objects hold."""
    expected, delivered = _owed(evidence), _held(evidence, _lines(evidence)[0])
    more = delivered - expected
    return Balance(
        delivered=(expected & delivered).total(),
        lost=(expected - delivered).total(),
        repeated=sum(count for it, count in more.items() if it in expected),
        foreign=sum(count for it, count in more.items() if it not in expected),
    )


def _lines(evidence: Evidence) -> tuple[Lines, list[str]]:
    """The ids in each readable object, by key; and what is wrong with objects as such."""
    lines: dict[str, list[str]] = {}
    found: list[str] = []
    names: Counter[str] = Counter()
    for stored in evidence.objects:
        target = _target(evidence, stored.key)
        match = KEY.fullmatch(stored.key.removeprefix(target.prefix)) if target else None
        if match is None:
            found.append(f"object {stored.key}: no key of any destination")
            continue
        uploaded = datetime(*map(int, match.groups()[:6]), tzinfo=UTC)
        if not evidence.began <= uploaded <= evidence.ended:
            found.append(f"object {stored.key}: its closing time is outside the run")
        names[match[7]] += 1
        try:
            lines[stored.key] = _ids(stored)
        except UNREADABLE as error:
            found.append(f"object {stored.key}: {len(stored.body)} bytes, unreadable: {error!r}")
    found += [f"{count} objects are named {name}" for name, count in names.items() if count > 1]
    return lines, found


def text_of(key: str, body: bytes) -> bytes:
    if key.endswith(".zst"):
        return bytes(cramjam.zstd.decompress(body))
    return gzip.decompress(body)


def _ids(stored: Stored) -> list[str]:
    text = text_of(stored.key, stored.body)
    if not text.endswith(b"\n"):
        raise ValueError("its last line has no end")
    return [str(json.loads(line)["id"]) for line in text[:-1].split(b"\n")]


def _target(evidence: Evidence, key: str) -> Target | None:
    return next((it for it in evidence.targets if key.startswith(it.prefix)), None)


def _owed(evidence: Evidence) -> Counter[tuple[str, str]]:
    """The id and destination of each payload that must be a line."""
    return Counter(
        (sent.event.id, target.id)
        for sent in evidence.sent
        for target in evidence.targets
        if target.matches(sent) and target.outcome(sent.event) == "delivered"
    )


def _held(evidence: Evidence, lines: Lines) -> Counter[tuple[str, str]]:
    """The id and destination of each line."""
    held: Counter[tuple[str, str]] = Counter()
    for key, ids in lines.items():
        target = _target(evidence, key)
        held.update((id_, target.id if target else "?") for id_ in ids)
    return held


def _lost_or_repeated(evidence: Evidence, lines: Lines) -> list[str]:
    expected, delivered = _owed(evidence), _held(evidence, lines)
    lost, more = expected - delivered, delivered - expected
    repeated = [it for it in more if it in expected]
    foreign = [it for it in more if it not in expected]
    return [
        f"{len(these)} {what}, such as {these[:SHOWN_MAX]}"
        for what, these in (("lost", [*lost]), ("repeated", repeated), ("foreign", foreign))
        if these
    ]


def _latest(
    receipts: Iterable[Published],
) -> tuple[dict[tuple[str, int, int, str], Published], list[str]]:
    """The last word on each window and destination; and where two of one id disagree."""
    latest: dict[tuple[str, int, int, str], Published] = {}
    by_id: dict[str, Published] = {}
    # A worker that lost the partition may have said that it tries again after another was done.
    found: list[str] = []
    for published in receipts:
        if published.value["status"] == NOT_FINAL:
            latest.setdefault(published.window, published)
            continue
        latest[published.window] = published
        first = by_id.setdefault(published.headers["ce_id"], published)
        differing = [
            name
            for name in published.value
            if name not in MAY_DIFFER and published.value[name] != first.value.get(name)
        ]
        if differing:
            found.append(
                f"two receipts {published.headers['ce_id']} of {published.window} differ in "
                + ", ".join(f"{it}: {first.value[it]} / {published.value[it]}" for it in differing)
            )
    return latest, found


def _receipt(evidence: Evidence, published: Published, lines: Lines) -> Iterable[str]:
    """Errors of one receipt."""
    value = published.value
    target = next((it for it in evidence.targets if it.id == value["destination"]), None)
    if target is None:
        yield "of no destination"
        return
    matched = [
        (sent.offset, sent.event) for sent in evidence.run(value["source"]) if target.matches(sent)
    ]
    recorded: dict[int, str] = {}
    for offset, event in matched:
        skipped = any(first <= offset <= last for first, last in value["skipped"])
        failed = any(entry["offset"] == offset for entry in value["failed"])
        recorded[offset] = "skipped" if skipped else "failed" if failed else "delivered"
        if (skipped and failed) or recorded[offset] != target.outcome(event):
            outcome = target.outcome(event)
            yield f"offset {offset} is recorded as {recorded[offset]}, expected {outcome}"
    counts = Counter(recorded.values())
    expected = {
        "matched": len(matched),
        **{outcome: counts[outcome] for outcome in ("delivered", "skipped", "failed")},
    }
    if value["counts"] != expected:
        yield f"counts {value['counts']}, expected {expected}"
    if published.key != target.id or value["pipeline"] != target.pipeline:
        yield f"key {published.key}, pipeline {value['pipeline']}"
    wanted = [event.id for offset, event in matched if recorded[offset] == "delivered"]
    yield from _answer(evidence, value, wanted, lines)


def _answer(
    evidence: Evidence, value: Mapping[str, Any], wanted: Sequence[str], lines: Lines
) -> Iterable[str]:
    """Errors of a receipt's status and object; `wanted` are the ids of its lines."""
    if not wanted:
        if value["status"] != "empty" or value["object"] is not None:
            yield f"nothing was delivered, but it says {value['status']}, {value['object']}"
        return
    if value["status"] != "delivered":
        yield f"status {value['status']}: {value['error']}"
        return
    key = value["object"]["key"]
    if key not in lines or value["object"]["bucket"] != evidence.bucket:
        yield f"there is no readable object {value['object']['bucket']}/{key}"
        return
    is_unread = value["already_existed"] and not evidence.workers_may_read
    yield from _object(evidence.by_key[key], value["object"], etag_is_known=not is_unread)
    if lines[key] != wanted:
        yield "its n-th delivered offset is not the n-th line"


def _object(stored: Stored, described: Mapping[str, Any], *, etag_is_known: bool) -> Iterable[str]:
    """Errors of a receipt's object."""
    text = text_of(stored.key, stored.body)
    digest = base64.b64encode(hashlib.sha256(stored.body).digest()).decode()
    actual = {
        "size": len(stored.body),
        "lines": text.count(b"\n"),
        "uncompressed_size": len(text),
        "etag": stored.etag if etag_is_known else None,
        "checksum": {"algorithm": "SHA256", "value": digest},
    }
    said = {name: described[name] for name in actual}
    if said != actual:
        yield f"of object {stored.key} it says {said}, found {actual}"


def _recorded(evidence: Evidence, latest: Collection[Published]) -> Iterable[str]:
    """Offsets in no receipt, or in more than one."""
    runs: defaultdict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for published in latest:
        source = published.value["source"]
        runs[source["partition"], published.value["destination"]].append(
            (source["first_offset"], source["end_offset"])
        )
    for stream, ranges in runs.items():
        ranges.sort()
        for one, next_one in pairwise(ranges):
            if next_one[0] < one[1]:
                yield f"windows {one} and {next_one} of {stream} overlap"
    covered = {
        (sent.partition, sent.offset, published.value["destination"])
        for published in latest
        for sent in evidence.run(published.value["source"])
    }
    for target in evidence.targets:
        untold = [
            (sent.partition, sent.offset)
            for sent in evidence.sent
            if target.matches(sent) and (sent.partition, sent.offset, target.id) not in covered
        ]
        if untold:
            yield f"{target.id}: no receipt for {len(untold)} events: {untold[:SHOWN_MAX]}"


def _objects_without_receipt(evidence: Evidence, latest: Collection[Published]) -> Iterable[str]:
    named = [it.value["object"]["key"] for it in latest if it.value["object"]]
    yield from (
        f"{count} windows name object {key}" for key, count in Counter(named).items() if count > 1
    )
    yield from (
        f"object {stored.key} has no receipt"
        for stored in evidence.objects
        if stored.key not in named
    )


def _commits(evidence: Evidence) -> Iterable[str]:
    for partition, committed in evidence.commits.items():
        if committed.log_end and (committed.offset, committed.closings) != (committed.log_end, 0):
            yield f"partition {partition} is not at its end, or has closings left: {committed}"


def _offset(sent: Sent) -> int:
    return sent.offset
