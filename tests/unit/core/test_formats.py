"""Every version reads the commits and the receipts of those before it, as they were recorded."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from stream_app.core.commit_metadata import UnmarkedCommitError, decode
from stream_app.core.receipt import Status
from stream_app.core.receipt_decoder import decode as decode_receipt
from stream_app.core.receipt_decoder import decode_details, decode_lists, summary

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "schemas" / "receipt.schema.json").read_text("utf-8"))
RECORDS = sorted((ROOT / "tests" / "formats").glob("*.json"))
WITHOUT_MARK = "0.1.0"


def loaded(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


@pytest.mark.parametrize("file", RECORDS, ids=lambda it: it.stem)
def test_commits_name_the_windows_whose_receipts_are_there(file: Path) -> None:
    record = loaded(file)
    windows = {
        (
            it["value"]["source"]["end_offset"],
            seconds(it["value"]["uploaded_at"]),
            seconds(it["value"]["window"]["start"]),
        )
        for it in record["receipts"]
        if it["value"]["uploaded_at"]
    }
    unsettled, settled = record["commits"]
    commit = decode(unsettled["offset"], unsettled["metadata"], accept_unmarked=True)
    assert {(it.end, it.closed_at, it.window_start) for it in commit.closings} == windows
    assert not any(it.settled for it in commit.closings)
    is_marked = record["version"] != WITHOUT_MARK
    assert all(it.is_named_by_time is is_marked for it in commit.closings)
    commit = decode(settled["offset"], settled["metadata"], accept_unmarked=True)
    assert (commit.offset, commit.closings) == (max(it[0] for it in windows), ())
    if not is_marked:
        with pytest.raises(UnmarkedCommitError):
            decode(settled["offset"], settled["metadata"])


@pytest.mark.parametrize("file", RECORDS, ids=lambda it: it.stem)
def test_receipts_are_read_by_every_reader(file: Path) -> None:
    record = loaded(file)
    schema = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
    seen = set()
    for it in record["receipts"]:
        value = it["value"]
        schema.validate(value)
        headers = [(name, text.encode()) for name, text in it["headers"].items()]
        text = json.dumps(value).encode()
        found = decode_receipt(headers, text, record["group"], frozenset(Status), with_failed=True)
        assert found is not None
        assert found.status == value["status"]
        assert (found.destination, found.matched) == (
            value["destination"],
            value["counts"]["matched"],
        )
        assert len(found.failed) == value["counts"]["failed"]
        details = decode_details(headers, text, record["group"])
        assert details is not None
        assert details.skipped == value["counts"]["skipped"]
        assert decode_lists(text).cover(value["source"]["end_offset"] - 1)
        assert summary(value).status == value["status"]
        seen.add(found.status)
    assert seen == set(Status)
