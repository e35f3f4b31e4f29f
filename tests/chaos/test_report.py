"""The table of faults comes to where the document wants it, and names what there is."""

from pathlib import Path

import pytest

from tests.chaos.report import BEGIN, END, put
from tests.chaos.schedule import Kind

GUARANTEES = Path(__file__).parents[2] / "docs" / "guarantees.md"


def test_table_replaces_the_one_between_the_marks() -> None:
    text = f"before\n{BEGIN}old\n{END}\nafter\n{END}\n"
    assert put(text, "new\n") == f"before\n{BEGIN}new\n{END}\nafter\n{END}\n"
    assert put(put(text, "newer\n"), "new\n") == put(text, "new\n")


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}"])
def test_document_without_the_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="where the table goes"):
        put(text, "new\n")


def test_document_has_a_table_of_every_kind_of_fault_and_nothing_lost() -> None:
    table = GUARANTEES.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines]
    kinds = [it[0] for it in rows if it[0] in {kind.value for kind in Kind}]
    assert kinds == [kind.value for kind in Kind]
    assert ["**lost**", "**0**"] in rows
    assert ["**repeated**", "**0**"] in rows
