"""Blocks of the documents that tests run or read: those that follow a `test:` mark."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def block(document: str, mark: str) -> str:
    """Return the text of the fenced block behind a mark; `document` is relative to the tree."""
    text = (ROOT / document).read_text()
    found = re.search(rf"<!-- test: {re.escape(mark)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"{document} has no block marked {mark!r}"
    return found.group(1)
