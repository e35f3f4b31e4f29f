"""What the commands have in common: how they complain, and how they print a document."""

import json
from collections.abc import Mapping

import click

from stream_app.printable import printable


def complain(text: str) -> None:
    """Write to standard error; what others wrote of it cannot steer the terminal."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=True)


def note_unknown(config: str, named: tuple[str, ...], known: frozenset[str]) -> None:
    """Say which of the destinations on the command line the configuration does not have."""
    for name in named:
        if name not in known:
            complain(f"stream-app: note: {config} has no destination '{name}'")


def print_document(document: Mapping[str, object]) -> None:
    """Print one JSON document on a line of its own, in ASCII."""
    click.echo(json.dumps(document))
