"""The oracle finds each kind of harm: a judge that finds nothing proves nothing."""

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.load import Event, Sent
from tests.chaos.oracle import (
    Balance,
    Committed,
    Evidence,
    Published,
    Stored,
    Target,
    balance,
    findings,
    windows_back_in_time,
)

NOW = datetime(2026, 11, 24, 16, 32, 2, tzinfo=UTC)
TARGET = Target(
    "all", "all/", outcome=lambda event: ("delivered", "skipped", "failed")[event.n % 3]
)


def stored(*ids: str, name: str = "a") -> Stored:
    body = gzip.compress("".join(json.dumps({"id": it}) + "\n" for it in ids).encode())
    key = f"all/2026/11/24/16/2026-11-24-16-32-02-{name * 64}.gz"
    return Stored(key, body, hashlib.md5(body).hexdigest())  # noqa: S324 - S3's etag is MD5


def published(kept: Stored, first: int, end: int, **changes: Any) -> Published:
    offsets = range(first, end)
    text = gzip.decompress(kept.body)
    value = {
        "status": "delivered",
        "destination": "all",
        "pipeline": None,
        "source": {"topic": "t", "partition": 0, "first_offset": first, "end_offset": end},
        "counts": {
            "matched": len(offsets),
            **{
                outcome: sum(it % 3 == rest for it in offsets)
                for rest, outcome in enumerate(("delivered", "skipped", "failed"))
            },
        },
        "skipped": [[it, it] for it in offsets if it % 3 == 1],
        "failed": [{"offset": it, "error": "TypeError"} for it in offsets if it % 3 == 2],
        "object": {
            "bucket": "bucket",
            "key": kept.key,
            "size": len(kept.body),
            "lines": text.count(b"\n"),
            "uncompressed_size": len(text),
            "etag": kept.etag,
            "checksum": {
                "algorithm": "SHA256",
                "value": base64.b64encode(hashlib.sha256(kept.body).digest()).decode(),
            },
        },
        "attempts": 1,
        "already_existed": False,
        "error": None,
    }
    return Published("all", {"ce_id": f"{first}"}, value | changes)


A, B = stored("e0", "e3"), stored("e6", name="b")
GOOD = Evidence(
    targets=[TARGET],
    bucket="bucket",
    sent=[Sent(0, n, "orders", Event(f"e{n}", n)) for n in range(9)],
    objects=[A, B],
    receipts=[published(A, 0, 6), published(B, 6, 9)],
    commits={0: Committed(9, 0, 9), 1: Committed(None, 0, 0)},
    began=NOW - timedelta(seconds=5),
    ended=NOW + timedelta(seconds=5),
)


def with_objects(*objects: Stored) -> Evidence:
    return replace(GOOD, objects=objects)


def with_receipts(*receipts: Published) -> Evidence:
    return replace(GOOD, receipts=receipts)


def test_good_run_has_no_findings() -> None:
    assert findings(GOOD) == []


def test_receipt_published_twice_is_no_finding() -> None:
    again = published(A, 0, 6, attempts=2, already_existed=True)
    assert findings(replace(GOOD, receipts=[*GOOD.receipts, again])) == []


def test_receipt_that_says_that_a_window_is_late_is_no_finding() -> None:
    late = published(A, 0, 6, status="retrying", error={"code": "SlowDown"}, attempts=7)
    for receipts in ([late, *GOOD.receipts], [*GOOD.receipts, late]):
        assert findings(replace(GOOD, receipts=receipts)) == []


def test_balance_counts_what_was_lost_and_repeated() -> None:
    assert balance(GOOD) == Balance(delivered=3, lost=0, repeated=0, foreign=0)
    harmed = with_objects(stored("e0", "e0", "e7"), stored("e6", name="b"))
    assert balance(harmed) == Balance(delivered=2, lost=1, repeated=1, foreign=1)


def test_windows_back_in_time_are_counted_by_partition() -> None:
    def of(first: int, minute: int) -> Published:
        return published(A, first, first + 1, window={"start": f"2026-11-24T16:{minute:02}:00Z"})

    forward = [of(0, 31), of(1, 32), of(1, 32), of(2, 40)]
    assert windows_back_in_time(forward) == {0: 0}
    assert windows_back_in_time([*forward, of(3, 40), of(4, 39), of(5, 41)]) == {0: 2}


HARM: dict[str, tuple[Callable[[], Evidence], str]] = {
    "lost line": (lambda: with_objects(stored("e0"), B), "1 lost"),
    "lost object": (lambda: with_objects(A), "1 lost"),
    "repeated line": (lambda: with_objects(stored("e0", "e0", "e3"), B), "1 repeated"),
    "repeated object": (lambda: with_objects(A, B, stored("e6", name="c")), "1 repeated"),
    "line of a skipped event": (lambda: with_objects(A, stored("e6", "e7", name="b")), "1 foreign"),
    "object without receipt": (lambda: with_receipts(GOOD.receipts[0]), "has no receipt"),
    "untold event": (lambda: with_receipts(GOOD.receipts[0]), "no receipt for 3 events"),
    "swapped lines": (lambda: with_objects(stored("e3", "e0"), B), "n-th line"),
    "empty object": (lambda: with_objects(replace(A, body=b""), B), "unreadable"),
    "torn object": (lambda: with_objects(replace(A, body=A.body[:-9]), B), "unreadable"),
    "damaged object": (
        lambda: with_objects(replace(A, body=A.body[:10] + b"\xff" + A.body[11:]), B),
        "unreadable",
    ),
    "strange key": (lambda: with_objects(replace(A, key="all/a.gz"), B), "no key of any"),
    "folders of another hour": (
        lambda: with_objects(replace(A, key=A.key.replace("/16/", "/17/")), B),
        "no key of any",
    ),
    "closing time of another day": (
        lambda: with_objects(replace(A, key=A.key.replace("24", "23")), B),
        "closing time",
    ),
    "overlapping windows": (
        lambda: with_receipts(published(A, 0, 7), GOOD.receipts[1]),
        "overlap",
    ),
    "wrong counts": (
        lambda: with_receipts(
            published(A, 0, 6, counts={"matched": 6, "delivered": 6, "skipped": 0, "failed": 0}),
            GOOD.receipts[1],
        ),
        "counts",
    ),
    "wrong outcome": (
        lambda: with_receipts(published(A, 0, 6, skipped=[[0, 1], [4, 4]]), GOOD.receipts[1]),
        "offset 0 is recorded as skipped",
    ),
    "late without an end": (
        lambda: with_receipts(published(A, 0, 6, status="retrying"), GOOD.receipts[1]),
        "status retrying",
    ),
    "given up": (
        lambda: with_receipts(published(A, 0, 6, status="failed"), GOOD.receipts[1]),
        "status failed",
    ),
    "wrong etag": (
        lambda: with_objects(replace(A, etag="0"), B),
        "it says",
    ),
    "receipts of one id that disagree": (
        lambda: with_receipts(published(A, 0, 6, skipped=[]), *GOOD.receipts),
        "differ in skipped",
    ),
    "commit before the end": (
        lambda: replace(GOOD, commits={0: Committed(6, 0, 9)}),
        "not at its end",
    ),
    "closing left behind": (
        lambda: replace(GOOD, commits={0: Committed(9, 1, 9)}),
        "closings left",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_found(harm: str) -> None:
    evidence, finding = HARM[harm]
    assert any(finding in it for it in findings(evidence())), findings(evidence())
