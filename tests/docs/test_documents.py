"""Receipts, states and modules in the documents are those of the code."""

import json
import re

from jsonschema import Draft202012Validator

from stream_app.core.delivery import NEXT, State
from tests.docs.blocks import ROOT, block, section

DOCS = ROOT / "docs"
PACKAGE = ROOT / "stream_app"


def test_receipt_of_the_document_fits_the_schema() -> None:
    schema = json.loads((ROOT / "schemas" / "receipt.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads(block("docs/receipts.md", "receipt")))


def test_every_field_of_the_receipt_is_documented() -> None:
    receipt = json.loads(block("docs/receipts.md", "receipt"))
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "receipts.md").read_text(), re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert set(receipt) <= documented


def test_line_of_an_event_is_found_as_the_document_says() -> None:
    names: dict[str, object] = {}
    exec(block("docs/receipts.md", "line"), names)  # noqa: S102 - the document's own program
    line_of = names["line_of"]
    assert callable(line_of)
    receipt = {"skipped": [[12, 13]], "failed": [{"offset": 15, "error": "x"}]}
    matched = [10, 11, 12, 13, 15, 16]
    assert [line_of(receipt, matched, offset) for offset in matched] == [0, 1, None, None, None, 2]


def test_table_of_states_is_the_one_of_the_code() -> None:
    text = (DOCS / "architecture.md").read_text()
    shown = text.partition("<!-- generated: states -->\n")[2].partition("<!-- end -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()[2:]
    ]
    moves = {state: (move.name, to.name) for (state, move), to in NEXT.items()}
    expected = [[state.name, *moves.get(state, ("", ""))] for state in State]
    assert [[row[0], row[2], row[3]] for row in rows] == expected


def test_every_module_of_the_package_and_no_other_is_in_the_architecture() -> None:
    named, room = [], ""
    for folder, module in re.findall(
        r"^\| (?:\*\*`(\S+)`\*\*)? \| (?:`(\S+\.py)`)? \| .+ \|$",
        section((DOCS / "architecture.md").read_text("utf-8"), "Every module"),
        re.MULTILINE,
    ):
        room = folder or room
        named.append(PACKAGE / room.removeprefix("stream_app") / (module or "__init__.py"))
    assert sorted(named) == sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_in_the_picture_and_the_import_rules_of_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    picture = section(text, "The eleven rooms").partition("```text\n")[2].partition("```")[0]
    rules = section(text, "Import rules")
    rooms = [it.name for it in PACKAGE.iterdir() if (it / "__init__.py").exists()]
    assert len(rooms) == 11
    assert [it for it in rooms if not re.search(rf"\b{it}\b", picture)] == []
    assert [it for it in rooms if f"`{it}`" not in rules] == []
