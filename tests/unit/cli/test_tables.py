"""Rows fit a terminal's width and lose only middles; without a width they are whole."""

import pytest

from stream_app.cli.tables import (
    CUT_WIDTH_MIN,
    Cell,
    Column,
    aligned,
    fitted,
    headings,
    shortened,
    size,
    total,
)

COLUMNS = (
    Column("NAME", 10),
    Column("COUNT", is_number=True),
    Column("WHAT", is_cut=True),
)
ROWS = [
    [Cell("orders-archive"), Cell("7", "red"), Cell("s3://bucket/a/long/key.gz")],
    [Cell("b"), Cell("1234567"), Cell("-")],
]


def shown(room: int | None) -> list[str]:
    widths = fitted(COLUMNS, ROWS, room)
    rows = [headings(COLUMNS), *ROWS]
    return ["".join(it.text for it in aligned(COLUMNS, widths, row)) for row in rows]


def test_columns_are_as_wide_as_their_cells() -> None:
    assert shown(None) == [
        "NAME              COUNT  WHAT                     ",
        "orders-archive        7  s3://bucket/a/long/key.gz",
        "b               1234567  -                        ",
    ]


def test_column_has_its_least_width_without_any_rows() -> None:
    assert fitted(COLUMNS, [], None) == [10, 5, 4]
    assert total([10, 5, 4]) == 23


def test_columns_that_may_be_cut_fit_a_narrow_terminal() -> None:
    assert shown(40)[1] == "orders-archive        7  s3://bu…/key.gz"
    assert {len(row) for row in shown(40)} == {40}
    assert shown(50) == shown(None)


def test_column_is_not_cut_below_the_minimum() -> None:
    assert fitted(COLUMNS, ROWS, 1) == [14, 7, CUT_WIDTH_MIN]


def test_short_column_is_not_cut_on_a_narrow_terminal() -> None:
    assert fitted([Column("WHAT", is_cut=True)], [[Cell("ab")]], 1) == [4]


def test_text_that_cannot_be_cut_overflows() -> None:
    columns = [Column("NAME"), Column("N", is_number=True)]
    row = aligned(columns, [4, 1], [Cell("longer"), Cell("12")])
    assert "".join(it.text for it in row) == "longer  12"


def test_row_keeps_the_styles_of_its_cells() -> None:
    row = aligned(COLUMNS, [10, 5, 4], ROWS[0])
    assert [it for it in row if it.style] == [Cell("7", "red")]


def test_wide_letters_are_cut_by_their_width() -> None:
    assert shortened("日本語日本語", 7) == "日…語"
    assert shortened("日本語", 6) == "日本語"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("orders", 6, "orders"), ("orders", 5, "or…rs"), ("orders", 4, "or…s"), ("orders", 1, "…")],
)
def test_a_text_loses_its_middle(text: str, width: int, expected: str) -> None:
    assert shortened(text, width) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5 * 1024**5, "5120.0 TiB"),
    ],
)
def test_a_size_is_short(count: int, expected: str) -> None:
    assert size(count) == expected
