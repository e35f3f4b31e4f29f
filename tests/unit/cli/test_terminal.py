"""A terminal gets colours, marks and its width; anything else plain text, whoever asks for more."""

import io

import pytest

from stream_app.screen import Screen, console_on
from stream_app.tables import Cell, Column

ROWS = [[Cell("a", "green"), Cell("s3://bucket/a/long/key.gz")]]
COLUMNS = (Column("NAME"), Column("WHERE", is_cut=True))


class Terminal(io.TextIOWrapper):
    """A file that says that it is a terminal, with an encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding, errors="backslashreplace", write_through=True)

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        return self.bytes.getvalue().decode(self.encoding)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "24", "LINES": "10"}.items():
        monkeypatch.setenv(name, value)


def test_terminal_gets_colours_and_no_more_than_its_width() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    screen.table(COLUMNS, ROWS)
    assert (screen.is_terminal, screen.width, screen.height) == (True, 24, 10)
    assert terminal.shown() == (
        "\x1b[1mNAME\x1b[0m  \x1b[1mWHERE\x1b[0m\n\x1b[32ma\x1b[0m     s3://buck…g/key.gz\n"
    )


def test_nothing_that_is_printed_is_taken_for_markup_or_folded() -> None:
    terminal = Terminal()
    Screen(terminal).line(Cell("[red]a[/] :smile: 1.5 'x' " + "y" * 30))
    assert terminal.shown() == "[red]a[/] :smile: 1.5 'x' " + "y" * 30 + "\n"


def test_no_color_leaves_marks_and_takes_all_that_is_no_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    screen = Screen(terminal)
    screen.line(Cell(screen.mark("✓", "+"), "green"), Cell("done", "bold"))
    assert terminal.shown() == "✓ done\n"


def test_terminal_without_unicode_gets_plain_marks() -> None:
    terminal = Terminal("latin-1")
    screen = Screen(terminal)
    screen.line(Cell(screen.mark("✓", "+")), Cell("é…"))
    assert terminal.shown() == "+ é\\u2026\n"


def test_pipe_gets_plain_text_whole_whatever_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    pipe = io.StringIO()
    screen = Screen(pipe)
    assert (screen.is_terminal, screen.width, screen.height) == (False, None, None)
    assert screen.mark("✓", "+") == ""
    screen.table(COLUMNS, ROWS)
    with screen.busy("asking"):
        pass
    console_on(pipe, width=100).print("[x]", style="red")
    assert pipe.getvalue() == "NAME  WHERE\na     s3://bucket/a/long/key.gz\n[x]\n"


def test_what_goes_on_is_taken_away_when_it_is_done() -> None:
    terminal = Terminal()
    with Screen(terminal).busy("asking S3"):
        pass
    shown = terminal.shown()
    assert "asking S3" in shown
    # The line is erased, and the cursor is seen again.
    assert shown.rindex("\x1b[2K") > shown.rindex("asking S3")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
