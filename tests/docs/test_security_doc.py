"""docs/security.md names tests that exist, and every security test."""

import ast
import re

from tests.docs.blocks import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = set(re.findall(r"`(test_\w+)`", DOCUMENT))


def names_in(pattern: str) -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").glob(pattern)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 20
    assert sorted(NAMED - names_in("**/test_*.py")) == []


def test_every_security_test_is_named() -> None:
    # The search itself is tested there too; it is not a promise.
    own = names_in("integration/worker/test_security.py") - {
        "test_search_for_secrets_finds_each_spelling"
    }
    assert sorted(own - NAMED) == []


def test_what_an_actor_cannot_do_is_proved_by_a_test() -> None:
    rows = re.findall(r"^\| cannot \|.*$", DOCUMENT, re.MULTILINE)
    assert len(rows) > 15
    assert [row for row in rows if not re.search(r"`test_\w+`", row)] == []
