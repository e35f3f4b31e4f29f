"""A terminal gets colors, marks and its width; a pipe plain text, whatever a variable asks for."""

import io
import os

import pytest

from stream_app.cli.common import STATUS_FAILED
from stream_app.cli.tables import Cell, Column
from stream_app.cli.terminal import Output, console_on

ROWS = [[Cell("a", "green"), Cell("s3://bucket/a/long/key.gz")]]
COLUMNS = (Column("NAME"), Column("WHERE", is_cut=True))


class Terminal(io.TextIOWrapper):
    """A file that claims to be a terminal, with an encoding."""

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


def test_terminal_gets_colors_and_no_more_than_its_width() -> None:
    terminal = Terminal()
    output = Output(terminal)
    output.table(COLUMNS, ROWS)
    assert (output.is_terminal, output.width, output.height) == (True, 24, 10)
    assert terminal.shown() == (
        "\x1b[1mNAME\x1b[0m  \x1b[1mWHERE\x1b[0m\n\x1b[32ma\x1b[0m     s3://buck…g/key.gz\n"
    )


def test_printed_text_is_neither_markup_nor_wrapped() -> None:
    terminal = Terminal()
    Output(terminal).line(Cell("[red]a[/] :smile: 1.5 'x' " + "y" * 30))
    assert terminal.shown() == "[red]a[/] :smile: 1.5 'x' " + "y" * 30 + "\n"


def test_no_color_leaves_marks_and_removes_styles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    output = Output(terminal)
    output.line(Cell(output.mark("✓", "+"), "green"), Cell("done", "bold"))
    assert terminal.shown() == "✓ done\n"


def test_terminal_without_unicode_gets_plain_marks() -> None:
    terminal = Terminal("latin-1")
    output = Output(terminal)
    output.line(Cell(output.mark("✓", "+")), Cell("é…"))
    assert terminal.shown() == "+ é\\u2026\n"


def test_pipe_gets_plain_text_whole_whatever_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    pipe = io.StringIO()
    output = Output(pipe)
    assert (output.is_terminal, output.width, output.height) == (False, None, None)
    assert output.mark("✓", "+") == ""
    output.table(COLUMNS, ROWS)
    with output.status("asking") as update:
        update("asking again")
    assert pipe.getvalue() == "NAME  WHERE\na     s3://bucket/a/long/key.gz\n"


def test_progress_in_a_pipe_has_no_colors_whatever_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    pipe = io.StringIO()
    console_on(pipe).print("[x]", style="red")
    assert pipe.getvalue() == "[x]\n"


def test_output_without_a_reader_ends_the_program_silently() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as file:  # noqa: PTH123 - a descriptor
        with pytest.raises(SystemExit) as ended:
            Output(file).line(Cell("a"))
        assert ended.value.code == STATUS_FAILED


def test_status_line_disappears_at_its_end() -> None:
    terminal = Terminal()
    with Output(terminal).status("starting") as update:
        update("asking S3")
    shown = terminal.shown()
    assert "asking S3" in shown
    # The line is erased, and the cursor is seen again.
    assert shown.rindex("\x1b[2K") > shown.rindex("asking S3")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
