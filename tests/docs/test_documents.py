"""What the documents say of receipts and states is what the code does."""

import json
import re

from jsonschema import Draft202012Validator

from stream_app.deliveries import NEXT, State
from tests.docs.blocks import ROOT, block

DOCS = ROOT / "docs"


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
