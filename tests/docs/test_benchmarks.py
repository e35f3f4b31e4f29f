"""The README's table of what expressions cost is of the kind that the benchmark prints."""

import subprocess
import sys
from itertools import dropwhile, takewhile

import click
import orjson
import pytest

from benchmarks.expressions import CASES, ENGINE, FAST, SIZES, Size, batch, verify
from stream_app.expressions import compile_expression
from tests.docs.blocks import ROOT

PROGRAM = ROOT / "benchmarks" / "expressions.py"
SECONDS_MAX = 120


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table that begins with `payload`, but for the line of dashes."""
    rest = dropwhile(lambda line: not line.startswith("| payload "), text.splitlines())
    head, _, *body = takewhile(lambda line: line.startswith("|"), rest)
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in (head, *body)]


def test_table_of_the_readme_has_the_rows_and_columns_that_the_benchmark_prints() -> None:
    # It also compares what every payload gives with what is written by hand.
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), "--seconds", "0", "--markdown"],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS_MAX,
    )
    head, *printed = rows(ran.stdout)
    shown_head, *shown = rows((ROOT / "README.md").read_text("utf-8"))
    assert [row[0] for row in printed] == list(CASES)
    assert shown_head == head
    assert [row[:2] for row in shown] == [row[:2] for row in printed]
    assert [len(row) for row in shown] == [len(row) for row in printed]


@pytest.mark.parametrize("name", CASES)
def test_payload_takes_the_way_that_the_table_names(name: str) -> None:
    uses_engine = {compile_expression(text).uses_engine for text, _ in CASES[name]}
    assert uses_engine == {name not in FAST}


def test_every_engine_payload_is_in_the_row_of_all() -> None:
    *_, together = CASES.values()
    assert list(together) == list(ENGINE.values())


@pytest.mark.parametrize(("size", "length"), [*zip(SIZES, (1_000, 100_000), strict=True)])
def test_events_are_as_large_as_the_table_says(size: Size, length: int) -> None:
    assert {round(len(record.value or b"") / length, 1) for record in batch(size)} == {1.0}


@pytest.mark.parametrize("other", [b'"PUT"', b"null", None])
def test_difference_from_what_is_written_by_hand_ends_the_benchmark(other: bytes | None) -> None:
    records = batch(SIZES[0])
    verify([("$event.method", lambda event: orjson.dumps(event["method"]))], records)
    with pytest.raises(click.ClickException, match=r"event 0: ours, by hand \(b'\"POST\"', "):
        verify([("$event.method", lambda _: other)], records)


def test_skipped_event_is_no_null() -> None:
    with pytest.raises(click.ClickException, match=r"event 0: ours, by hand \(b'null', None\)"):
        verify([("null", lambda _: None)], batch(SIZES[0]))
