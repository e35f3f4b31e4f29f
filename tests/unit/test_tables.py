import pytest

from stream_app.tables import HIDDEN, Cell, Column, fitted, line, shortened, size

COLUMNS = (
    Column("NAME", 10, 10),
    Column("PLACE", 8, HIDDEN),
    Column("COUNT", 5, 5, is_number=True),
    Column("WHAT", 0, 0),
)
CELLS = [Cell("orders-archive"), Cell("0"), Cell("7", "red"), Cell("s3://bucket/a/long/key.gz")]


def shown(width: int | None) -> str:
    return "".join(it.text for it in line(CELLS, fitted(COLUMNS, width), width))


def test_a_pipe_gets_every_column_in_full() -> None:
    assert shown(None) == "orders-archive  0             7  s3://bucket/a/long/key.gz"


def test_a_wide_terminal_gets_every_column_and_no_more_than_fits() -> None:
    assert shown(60) == "order…hive  0             7  s3://bucket/a/long/key.gz"
    assert shown(53) == "order…hive  0             7  s3://bucket/…long/key.gz"
    assert len(shown(53)) == 53


def test_a_narrow_terminal_gets_what_matters() -> None:
    assert shown(45) == "order…hive      7  s3://bucket/a/long/key.gz"
    assert shown(30) == "order…hive      7"


def test_a_row_keeps_the_colours_of_its_cells() -> None:
    pieces = line(CELLS, fitted(COLUMNS, None), None)
    assert [it.text for it in pieces if it.colour] == ["    7"]


def test_there_is_always_room_for_something() -> None:
    columns = list(enumerate(COLUMNS))
    assert line(CELLS, columns, 20)[-1].text == "…"


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
