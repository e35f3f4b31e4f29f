"""Every pain of `docs/pains.md` is held by tests that exist."""

import ast
import re
from functools import cache

import pytest

from tests.docs.blocks import ROOT

PAINS = range(1, 21)
NAMED = re.compile(r"`(tests/\w+/test_\w+\.py)::(test_\w+)(?:\[(\w+)\])?`")
ROWS = {
    int(number): cells
    for number, *cells in re.findall(
        r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", (ROOT / "docs/pains.md").read_text(), re.MULTILINE
    )
}
TESTS = {number: NAMED.findall(cells[-1]) for number, cells in ROWS.items()}


@cache
def functions(file: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {
        node.name: node
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def cases(file: str) -> set[str]:
    """Return the functions that the file's tests are parametrized by: those in a table."""
    return {
        element.id
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple)
        for element in node.value.elts
        if isinstance(element, ast.Name)
    }


def test_table_has_all_twenty() -> None:
    assert list(ROWS) == list(PAINS)


@pytest.mark.parametrize("pain", PAINS)
def test_pain_is_held_by_tests_that_exist(pain: int) -> None:
    assert TESTS[pain], "no test is named"
    said = ROWS[pain][-1].split(" · ")
    assert len(said) == len(TESTS[pain]), f"something else than tests is named: {said}"
    for file, test, case in TESTS[pain]:
        assert test in functions(file), f"{file} has no test {test}"
        if case:
            assert case in cases(file), f"{file} has no case {case}"


def test_each_test_of_a_pain_is_in_its_row() -> None:
    for file in ("tests/unit/test_pains.py", "tests/integration/test_pains.py"):
        for test in functions(file):
            if found := re.match(r"test_pain_(\d\d)_", test):
                assert (file, test, "") in TESTS[int(found[1])], f"{test} is not in its row"
            else:
                assert not test.startswith("test_"), f"{test} does not say which pain it cures"
