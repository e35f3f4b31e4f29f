"""Output for a terminal, in its width and with colors, or plain text for a pipe or a file.

A terminal gets no colors where NO_COLOR is set; a pipe never gets any, whatever other variables
ask for. rich is imported only for a terminal.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from stream_app.cli.common import STATUS_FAILED
from stream_app.cli.tables import Cell, Column, aligned, fitted, headings

if TYPE_CHECKING:
    from rich.console import Console


class Output:
    """Standard output or standard error, as a terminal or as plain text.

    Args:
        file: The stream to print to.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._console = console_on(file) if file.isatty() else None

    @property
    def is_terminal(self) -> bool:
        """Whether the output is a terminal."""
        return self._console is not None

    @property
    def width(self) -> int | None:
        """Present width of the terminal in columns; None: unlimited."""
        return None if self._console is None else self._console.width

    @property
    def height(self) -> int | None:
        """Present height of the terminal in lines; None: unlimited."""
        return None if self._console is None else self._console.height

    def mark(self, mark: str, plain: str) -> str:
        """Return a mark and a space for a terminal, nothing for a pipe.

        A color always has a mark beside it, for people who do not see the color.

        Args:
            mark: The mark.
            plain: The mark of a terminal without Unicode.
        """
        if self._console is None:
            return ""
        return f"{mark if self._console.encoding.startswith('utf') else plain} "

    def line(self, *cells: Cell) -> None:
        """Print cells one after the other on a line.

        Raises:
            SystemExit: The reader of the output has gone; rich raises the same on a terminal.
        """
        if self._console is None:
            try:
                click.echo("".join(cell.text for cell in cells).rstrip(), file=self._file)
            except BrokenPipeError:
                # The rest of the buffer is flushed at exit, and would fail again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
                raise SystemExit(STATUS_FAILED) from None
            return
        from rich.text import Text

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
    def status(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a status line on a terminal for the time of the context.

        Yields:
            A function that changes the text.
        """
        if self._console is None:
            yield lambda _: None
            return
        with self._console.status(text) as status:
            yield status.update


def console_on(file: TextIO) -> "Console":
    """Return rich's console for a stream."""
    from rich.console import Console

    is_terminal = file.isatty()
    return Console(
        file=file,
        # The environment can ask rich for colors in a pipe, and for none on a terminal.
        force_terminal=is_terminal,
        color_system="auto" if is_terminal and not os.environ.get("NO_COLOR") else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
