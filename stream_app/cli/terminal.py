"""Where lines and tables are shown: a terminal in its width and with colours, or plain text.

A terminal gets no colours where NO_COLOR is set. What is no terminal never gets any, whatever the
environment says. rich is imported when there is a terminal, and not before.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from stream_app.tables import Cell, Column, aligned, fitted, headings

if TYPE_CHECKING:
    from rich.console import Console


class Screen:
    """Where to print.

    Args:
        file: Standard output, or standard error.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._console = console_on(file) if file.isatty() else None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self._console is not None

    @property
    def width(self) -> int | None:
        """Characters in a line, now; None: as many as there are."""
        return None if self._console is None else self._console.width

    @property
    def height(self) -> int | None:
        """Lines of the terminal, now."""
        return None if self._console is None else self._console.height

    def mark(self, mark: str, plain: str) -> str:
        """Return a mark, or one that a terminal without Unicode has, and a space; none in a pipe.

        A word is never told by its colour alone.
        """
        if self._console is None:
            return ""
        return f"{mark if self._console.encoding.startswith('utf') else plain} "

    def line(self, *cells: Cell) -> None:
        """Print one line: the cells, one behind the other."""
        if self._console is None:
            click.echo("".join(cell.text for cell in cells).rstrip(), file=self._file)
            return
        from rich.text import Text  # noqa: PLC0415 - only for a terminal

        line = Text.assemble(*((cell.text, cell.style) for cell in cells))
        line.rstrip()
        self._console.print(line, soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table as wide as its content, and no wider than the terminal."""
        widths = fitted(columns, rows, self.width)
        self.line(*aligned(columns, widths, headings(columns)))
        for row in rows:
            self.line(*aligned(columns, widths, row))

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """On a terminal, say what is going on for as long as it goes on."""
        if self._console is None:
            yield
            return
        with self._console.status(what):
            yield


def console_on(file: TextIO, *, width: int | None = None) -> "Console":
    """Return rich's console: a terminal's, or one for plain lines of this width."""
    from rich.console import Console  # noqa: PLC0415 - not before it is needed

    is_terminal = file.isatty()
    return Console(
        file=file,
        width=None if is_terminal else width,
        # The environment can ask rich for colours in a pipe, and for none on a terminal.
        force_terminal=is_terminal,
        color_system="auto" if is_terminal and not os.environ.get("NO_COLOR") else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
