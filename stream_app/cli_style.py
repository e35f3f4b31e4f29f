"""What the commands have in common: colours, and what a shell is offered to complete."""

import os
import sys
from collections.abc import Iterable

import click

from stream_app.tables import Cell


def is_coloured() -> bool:
    """Tell whether standard output takes colours: a terminal, and nobody said NO_COLOR."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def echo(pieces: Iterable[Cell]) -> None:
    """Print a row."""
    coloured = is_coloured()
    text = "".join(
        _painted(it.text, it.colour) if coloured and it.colour else it.text for it in pieces
    )
    click.echo(text, color=coloured)


def complete_destinations(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the ids of the configuration's destinations that begin so."""
    del parameter
    return [it for it in _named(context, "id") if it.startswith(incomplete)]


def complete_buckets(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the configuration's buckets whose names begin so."""
    del parameter
    return [it for it in _named(context, "bucket") if it.startswith(incomplete)]


def _named(context: click.Context, setting: str) -> list[str]:
    from stream_app.configfile import CONFIG_DEFAULT, CONFIG_VARIABLE, load  # noqa: PLC0415
    from stream_app.errors import StreamAppError  # noqa: PLC0415

    config = context.params.get("config") or os.environ.get(CONFIG_VARIABLE, CONFIG_DEFAULT)
    try:
        settings = load(config, os.environ)
    except StreamAppError:
        return []  # Nothing to offer: the command itself will say what is wrong.
    return list(dict.fromkeys(str(getattr(it, setting)) for it in settings.destinations))


def _painted(text: str, colour: str) -> str:
    if colour == "bold":
        return click.style(text, bold=True)
    return click.style(text, fg=colour)
