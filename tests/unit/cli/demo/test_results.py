"""Results of the demo: in the width of a terminal, whole in a pipe, and as a document."""

import io
import json
import re

import pytest

from stream_app.cli.demo.results import DemoObject, document, show, summary
from stream_app.cli.terminal import Output
from stream_app.kafka.receipts_topic import PublishedReceipt
from tests.unit.cli.test_receipt_table import KEY, at, published
from tests.unit.cli.test_terminal import Terminal

LINE = b'{"order":1001,"customer":"ada@example.com","item":"espresso cups","quantity":1,"x":"%s"}'
OBJECTS = [DemoObject("my-bucket", KEY, 369, [LINE % str(number).encode() for number in range(18)])]
RECEIPTS = [published(), published("empty", destination="none", object=None)]


def totals(objects: list[DemoObject], receipts: list[PublishedReceipt]) -> dict[str, object]:
    return summary(objects, receipts, events=60, seconds=13.76)


def lines_on(columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    at(monkeypatch, columns)
    terminal = Terminal()
    show(Output(terminal), OBJECTS, RECEIPTS, totals(OBJECTS, RECEIPTS))
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown()).splitlines()


def test_summary_adds_the_receipts_up() -> None:
    assert totals(OBJECTS, RECEIPTS) == {
        "events": 60,
        "matched": 60,
        "delivered": 54,
        "skipped": 6,
        "failed": 0,
        "objects": 1,
        "receipts": 2,
        "seconds": 13.8,
    }


def test_narrow_terminal_has_keys_and_lines_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_on(80, monkeypatch)
    assert max(map(len, lines)) == 80
    assert lines[3].startswith("orders/2026/11/24/18/")
    assert re.search(r"…\S+\.gz     18  369 B$", lines[3])
    assert [it for it in lines if it.startswith('  {"order"')] == [
        f"  {LINE[:77].decode()}…" for _ in range(3)
    ]
    assert lines[-1] == ("✓ 60 events in 13.8 s: 54 delivered in 1 object, 6 skipped, 0 failed")


def test_wide_terminal_has_them_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_on(140, monkeypatch)
    assert lines[3].startswith(f"{KEY} ")
    assert f"  {(LINE % b'0').decode()}" in lines
    assert max(map(len, lines)) <= 140


def test_pipe_has_them_whole_and_no_marks() -> None:
    pipe = io.StringIO()
    show(Output(pipe), OBJECTS, RECEIPTS, totals(OBJECTS, RECEIPTS))
    text = pipe.getvalue()
    assert f"\n{KEY}     18  369 B\n" in text
    assert text.isascii()


def test_demo_without_objects_shows_what_there_is() -> None:
    pipe = io.StringIO()
    show(Output(pipe), [], RECEIPTS[1:], totals([], RECEIPTS[1:]))
    assert "first lines" not in pipe.getvalue()
    assert " delivered in 0 objects" in pipe.getvalue()


def test_document_has_all_lines_all_receipts_and_the_summary() -> None:
    text = document(OBJECTS, RECEIPTS, totals(OBJECTS, RECEIPTS))
    assert "\n" not in text
    read = json.loads(text)
    assert len(read["objects"][0].pop("lines")) == 18
    assert read["objects"] == [{"bucket": "my-bucket", "key": KEY, "size": 369}]
    assert read["receipts"] == [it.receipt for it in RECEIPTS]
    assert read["summary"] == totals(OBJECTS, RECEIPTS)
