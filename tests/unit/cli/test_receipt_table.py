"""The table of receipts: whole in a pipe, in a terminal's width, and readable to its last line."""

import io
import re
from itertools import pairwise
from typing import Any

import pytest

from stream_app.cli.receipt_table import CELL_WIDTH_MAX, STATUSES, receipt_table
from stream_app.cli.receipts import STATUSES as OFFERED
from stream_app.cli.terminal import Output
from stream_app.core.receipt import Status
from stream_app.kafka.receipts_topic import PublishedReceipt
from tests.unit.cli.test_terminal import Terminal

KEY = "orders/2026/11/24/18/2026-11-24-18-47-02-" + "3d5f1989964add0c" * 4 + ".gz"
ERROR = "Access Denied " * 10


def published(
    status: str = "delivered", *, time: str | None = "2026-11-24T18:47:02Z", **fields: Any
) -> PublishedReceipt:
    receipt = {
        "status": status,
        "destination": "orders",
        "source": {"topic": "events", "partition": 3, "first_offset": 0, "end_offset": 30},
        "counts": {"matched": 30, "delivered": 27, "skipped": 3, "failed": 0},
        "object": {"bucket": "my-bucket", "key": KEY, "size": 1536},
        "error": None,
        **fields,
    }
    return PublishedReceipt("id", time, "orders", 0, 0, receipt)


def denied(message: str = ERROR) -> PublishedReceipt:
    error = {"code": "AccessDenied", "message": message}
    return published("failed", object={"bucket": "b", "key": KEY, "size": None}, error=error)


@pytest.fixture(params=[60, 80, 100, 120, 140, 200])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    return at(monkeypatch, request.param)


def at(monkeypatch: pytest.MonkeyPatch, columns: int, lines: int = 50) -> int:
    """Give every terminal this size."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": columns, "LINES": lines}.items():
        monkeypatch.setenv(name, str(value))
    return columns


def shown(*receipts: PublishedReceipt, destinations: tuple[str, ...] = ("orders",)) -> list[str]:
    """Return the lines on a terminal, without their colors."""
    terminal = Terminal()
    table = receipt_table(Output(terminal), destinations)
    table.begin()
    for receipt in receipts:
        table.add(receipt)
    table.end()
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown()).splitlines()


def test_failed_events_of_a_window_have_a_line_with_their_share_and_an_error(width: int) -> None:
    counts = {"matched": 45, "delivered": 31, "skipped": 0, "failed": 14}
    failed = [{"offset": 7, "record": "events/3@7", "error": "TypeError: x\x1b[2J"}]
    lines = shown(published(counts=counts, failed=failed), published())
    assert max(map(len, lines)) <= max(width, 77)
    text = " ".join(" ".join(lines).split())
    assert text.count("failed (31 %)") == 1
    assert "14 of 45 events failed (31 %): TypeError: x\\x1b[2J" in text


def test_failed_events_of_a_window_are_in_its_row_in_a_pipe() -> None:
    output = io.StringIO()
    table = receipt_table(Output(output), ())
    counts = {"matched": 1, "delivered": 0, "skipped": 0, "failed": 1}
    table.add(published("empty", counts=counts, failed=[{"error": "TypeError: x"}], object=None))
    table.add(published())
    failing, right = output.getvalue().splitlines()
    assert failing.endswith("  -  1 of 1 event failed (100 %): TypeError: x")
    assert right.endswith(".gz")


def test_every_status_has_a_mark_and_is_an_option() -> None:
    assert list(STATUSES) == list(OFFERED) == [str(it) for it in Status]
    assert len({plain for _, plain, _ in STATUSES.values()}) == len(STATUSES) - 1


def test_terminal_shows_every_receipt_in_its_width(width: int) -> None:
    lines = shown(published(), denied(), published("empty", object=None))
    assert max(map(len, lines)) <= max(width, 77)
    text = " ".join(" ".join(lines).split())
    assert "✓ delivered orders 3@0-29 30 27 3 0 1.5 KiB s3://my-" in text.replace(
        # Without room in the row the object is on a line below.
        " 0 s3",
        " 0 1.5 KiB s3",
    )
    assert "✗ failed" in text
    assert ERROR.strip() in text
    assert "○ empty" in text
    assert lines[-1] == "receipts: 1 delivered, 1 failed, 1 empty"


def test_object_keeps_both_ends(width: int) -> None:
    (place,) = re.findall(r"s3://\S+", "\n".join(shown(published())))
    whole = f"s3://my-bucket/{KEY}"
    front, cut, back = place.partition("…")
    assert cut
    assert whole.startswith(front)
    assert whole.endswith(back)
    assert min(len(front), len(back)) > 10
    assert width


def test_narrow_terminal_has_the_object_below_and_the_error_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at(monkeypatch, 80)
    assert shown(published(), denied("no"), published("empty", object=None)) == [
        "PUBLISHED  STATUS         DESTINATION       OFFSETS  MATCH  DELIV  SKIP  FAIL",
        "2026-11-24 UTC",
        "18:47:02   ✓ delivered    orders             3@0-29     30     27     3     0",
        "          1.5 KiB  s3://my-bucket/orders/2026/11/…989964add0c3d5f1989964add0c.gz",
        "18:47:02   ✗ failed       orders             3@0-29     30      0     3     0",
        "          27 not delivered: AccessDenied: no",
        "18:47:02   ○ empty        orders             3@0-29     30     27     3     0",
        "receipts: 1 delivered, 1 failed, 1 empty",
    ]


def test_wide_terminal_has_a_line_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 140)
    heading, _, first, second, *more = shown(published(), denied("no"))
    assert heading.endswith("FAILED      SIZE  OBJECT OR ERROR")
    assert first.endswith(".gz")
    assert len(first) == 140
    assert second.endswith("  27 not delivered: AccessDenied: no")
    assert more == ["receipts: 1 delivered, 1 failed"]


def test_headings_are_repeated_before_they_leave_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at(monkeypatch, 200, lines=10)
    lines = shown(*[published()] * 30)
    places = [number for number, line in enumerate(lines) if line.startswith("PUBLISHED")]
    assert [after - before for before, after in pairwise(places)] == [9, 9, 9]


def test_headings_are_repeated_when_a_column_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 200)
    source = {"topic": "e", "partition": 3, "first_offset": 10**9, "end_offset": 10**9 + 30}
    lines = shown(published(), published(source=source), published())
    assert [it.split()[0] for it in lines] == [
        *("PUBLISHED", "2026-11-24", "18:47:02"),
        *("PUBLISHED", "18:47:02", "18:47:02"),
        "receipts:",
    ]
    assert lines[3].index("OFFSETS") + len("OFFSETS") == lines[4].index("3@") + len(
        "3@1000000000-1000000029"
    )


def test_new_day_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 200)
    times = ["2026-11-24T23:59:58Z", "2026-11-25T00:00:58Z", None, "last-tuesday"]
    lines = shown(*[published(time=time) for time in times])
    assert [it.split()[0] for it in lines] == [
        *("PUBLISHED", "2026-11-24", "23:59:58", "2026-11-25", "00:00:58", "-"),
        *("PUBLISHED", "last-tuesday", "receipts:"),
    ]


def test_long_ids_and_offsets_lose_their_middle_where_they_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at(monkeypatch, 80)
    source = {"topic": "e", "partition": 3, "first_offset": 10**9, "end_offset": 10**9 + 30}
    lines = shown(
        published(destination="everything-for-the-lake", source=source),
        destinations=("everything-for-the-lake",),
    )
    assert max(map(len, lines)) <= 80
    assert any("everyt…-lake" in line for line in lines)


@pytest.mark.parametrize("field", ["status", "destination"])
def test_foreign_receipt_cannot_widen_a_column_without_end(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    at(monkeypatch, 200)
    lines = shown(published(**{field: "x" * 1000}))
    assert max(map(len, lines)) < 200 + CELL_WIDTH_MAX
    assert "x" not in lines[-1]


@pytest.mark.parametrize("stored", ["12", "9" * 400, "³", None, [1]])
def test_size_that_is_not_a_number_is_shown_as_missing(
    monkeypatch: pytest.MonkeyPatch, stored: object
) -> None:
    at(monkeypatch, 140)
    row = shown(published(object={"bucket": "b", "key": "k", "size": stored}))[2]
    assert row.endswith(("12 B  s3://b/k", " 0            s3://b/k"))


def test_document_that_is_not_a_receipt_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 140)
    terminal = Terminal()
    table = receipt_table(Output(terminal), [])
    with pytest.raises(ValueError, match="not a receipt"):
        table.add(PublishedReceipt(None, None, None, 0, 0, {}))
    assert terminal.shown() == ""
    table.end()
    assert "receipts: none" in terminal.shown()


def test_pipe_has_fixed_columns_with_whole_texts() -> None:
    pipe = io.StringIO()
    table = receipt_table(Output(pipe), ["orders"])
    table.begin()
    table.add(published())
    table.add(denied("no"))
    table.end()
    heading, first, second = pipe.getvalue().splitlines()
    for name, text in {"STATUS": "failed", "DESTINATION": "orders", "OFFSETS": "0-29"}.items():
        assert second.index(text) == heading.index(name)
    for name, text in {"PARTITION": "  3 ", "BYTES": "1536 "}.items():
        assert first.index(text) + len(text) - 1 == heading.index(name) + len(name)
    assert first.endswith(f"  1536  s3://my-bucket/{KEY}")
    assert second.endswith("  -  27 not delivered: AccessDenied: no")
