"""The place of a mistake is under the caret, whatever stands before it."""

import pytest

from stream_app.expressions.excerpt import WIDTH_MAX, excerpt


@pytest.mark.parametrize(
    ("text", "line", "column", "shown"),
    [
        ("a b", 1, 3, "1 | a b\n  |   ^"),
        ("{\n  a: 1,\n  b c\n}", 3, 5, "3 |   b c\n  |     ^"),
        ("1 +", 1, 4, "1 | 1 +\n  |    ^"),
        ("", 1, 1, "1 | \n  | ^"),
        ("\n" * 9 + "\ta b", 10, 4, "10 |  a b\n   |    ^"),
        ("'中' b", 1, 5, "1 | '中' b\n  |      ^"),
        ("'e\u0301' b", 1, 6, "1 | 'e\u0301' b\n  |     ^"),
        ("'\x1b[31m\u202e' b", 1, 10, "1 | ' [31m ' b\n  |          ^"),
    ],
)
def test_caret_stands_under_the_place(text: str, line: int, column: int, shown: str) -> None:
    assert excerpt(text, line, column) == shown


@pytest.mark.parametrize("column", [1, 30, 100, 999, 1001])
def test_long_line_is_cut_around_the_place(column: int) -> None:
    text = "a" * 999 + "b"
    marked = text[: column - 1] + "X" + text[column:]
    line, caret = excerpt(marked, 1, column).splitlines()
    assert len(line) <= WIDTH_MAX + len("1 | ……")
    assert line[caret.index("^")] == "X"
    assert line.startswith("1 | …") == (column > WIDTH_MAX // 2 + 1)
    assert line.endswith("…") == (column < 900)
