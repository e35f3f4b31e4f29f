"""Text from outside on one line, in cells; counts, names and shares."""

import json
import sys

import pytest

from stream_app.text import cell_width, counted, listed, percent, printable, printable_json

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))


def test_every_character_that_is_not_printable_is_escaped() -> None:
    assert printable(EVERY_CHARACTER).isprintable()
    assert printable_json(json.dumps(EVERY_CHARACTER, ensure_ascii=False)).isprintable()


def test_json_stays_the_same_document() -> None:
    # Backwards: two halves of a surrogate pair in their order would be read as one character.
    every_one = EVERY_CHARACTER[::-1]
    text = json.dumps({every_one: [every_one]}, ensure_ascii=False)
    assert json.loads(printable_json(text)) == json.loads(text)


@pytest.mark.parametrize("text", ["", "plain", "ü 日本 é\u0301", "back\\slash"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable_json(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r", r"a\nb\r"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("\u202e\u2028", r"\u202e\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_escape_names_the_character(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("ab", 2), ("日本", 4), ("é", 1), ("e\u0301", 1), ("\u200b", 0), ("\uff21", 2)],
)
def test_wide_letters_take_two_cells_and_marks_none(text: str, width: int) -> None:
    assert cell_width(text) == width


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 events"), (1, "1 event"), (30, "30 events")]
)
def test_one_has_a_singular(count: int, expected: str) -> None:
    assert counted(count, "event") == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([7], "partition 7"),
        ([7, 8], "partitions 7, 8"),
        ([7, 8, 9], "partitions 7, 8 and 1 more"),
    ],
)
def test_list_of_names_has_a_bound(names: list[int], expected: str) -> None:
    assert listed("partition", names, 2) == expected


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (14, 45, "31 %"),
        (1, 1_000, "<1 %"),
        (999, 1_000, ">99 %"),
    ],
)
def test_share_is_none_or_all_only_if_it_is(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text
