"""Blocks and sections of the documents that tests run or read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def block(document: str, mark: str) -> str:
    """Return the text of the fenced block after a `test:` mark of a document of the tree."""
    text = (ROOT / document).read_text()
    found = re.search(rf"<!-- test: {re.escape(mark)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"{document} has no block marked {mark!r}"
    return found.group(1)


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    assert found, f"there is no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", FENCED.sub(_blank, rest), re.MULTILINE)
    return rest[: end.start()] if end else rest


def _blank(fenced: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", fenced[0])
