"""The command `stream-app receipts`; `cli` adds it, with `--config`, to the others."""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli_style import complete_destinations, echo, is_coloured
from stream_app.printable import printable
from stream_app.receipts import Status
from stream_app.tables import HIDDEN, Cell, Column, fitted, line, size

if TYPE_CHECKING:
    from stream_app.follow import Published
    from stream_app.settings import Settings

COLUMNS: Final = (
    Column("TIME", 20, 20),
    Column("STATUS", 13, 13),
    Column("DESTINATION", 20, 15),
    Column("PARTITION", 9, HIDDEN, is_number=True),
    Column("OFFSETS", 15, HIDDEN, is_number=True),
    Column("MATCHED", 7, HIDDEN, is_number=True),
    Column("DELIVERED", 9, 9, is_number=True),
    Column("SKIPPED", 7, 7, is_number=True),
    Column("FAILED", 6, 6, is_number=True),
    Column("SIZE", 9, HIDDEN, is_number=True),
    Column("OBJECT OR ERROR", 0, 0),
)
_SHOWN: Final = {
    Status.DELIVERED: ("✓", "green"),
    Status.EMPTY: ("○", "bright_black"),
    Status.RETRYING: ("…", "yellow"),
    Status.FAILED: ("✗", "red"),
    Status.REDELIVERED: ("↻", "cyan"),
}
"""A mark beside the word and the colour: neither alone is seen by everybody."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
@click.option("--from-beginning", is_flag=True, help="Start with the oldest receipt.")
@click.option("--exit-at-end", is_flag=True, help="End with the newest receipt there is now.")
@click.option(
    "--destination",
    "destinations",
    metavar="ID",
    multiple=True,
    shell_complete=complete_destinations,
    help="Only this one's; may be given several times.",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice([str(it) for it in Status]),
    multiple=True,
    help="Only receipts of this status; may be given several times.",
)
def receipts(
    config: str,
    *,
    as_json: bool,
    from_beginning: bool,
    exit_at_end: bool,
    destinations: tuple[str, ...],
    statuses: tuple[str, ...],
) -> None:
    """Follow the delivery receipts; Ctrl-C ends it.

    A terminal shows as many columns as it has room for; a pipe gets all of them. With --json each
    line holds the receipt and where it was found: id, key, partition, offset, receipt.

    \b
    Examples:
      stream-app receipts
      stream-app receipts --from-beginning --exit-at-end --status failed
      stream-app receipts --from-beginning --exit-at-end --json | jq .receipt.counts
    """
    from stream_app.configfile import load

    settings = load(config, os.environ)
    wanted = _Wanted(frozenset(destinations), frozenset(statuses))
    asyncio.run(_follow(settings, wanted, as_json=as_json, options=(from_beginning, exit_at_end)))


class _Wanted:
    """Which receipts are shown."""

    def __init__(self, destinations: frozenset[str], statuses: frozenset[str]) -> None:
        self._destinations = destinations
        self._statuses = statuses

    def has(self, published: "Published") -> bool:
        """Tell whether this one is; what is no receipt is, so that it is complained of."""
        receipt = published.receipt
        if not isinstance(receipt, dict):
            return True
        return (not self._destinations or receipt.get("destination") in self._destinations) and (
            not self._statuses or receipt.get("status") in self._statuses
        )


async def _follow(
    settings: "Settings", wanted: _Wanted, *, as_json: bool, options: tuple[bool, bool]
) -> None:
    from stream_app.follow import receipts as follow

    from_beginning, exit_at_end = options
    if not as_json:
        _row([Cell(it.heading, "bold") for it in COLUMNS])
    async with contextlib.aclosing(
        follow(settings.kafka, from_beginning=from_beginning, exit_at_end=exit_at_end)
    ) as published:
        async for receipt in published:
            if not wanted.has(receipt):
                continue
            try:
                if as_json:
                    click.echo(receipt.line())
                else:
                    _row(_cells(receipt))
            except ValueError as error:
                where = f"partition {receipt.partition}, offset {receipt.offset}"
                topic = settings.kafka.receipts_topic
                click.echo(printable(f"stream-app: {where} of {topic}: {error}"), err=True)


def _cells(published: "Published") -> list[Cell]:
    *before, status, destination, partition, offsets = published.cells()[:5]
    *counts, place = published.cells()[5:]
    mark, colour = _SHOWN.get(Status(status), ("", None)) if status in set(Status) else ("", None)
    shown = f"{mark} {status}" if is_coloured() and mark else status
    stored = published.receipt["object"] or {}
    bytes_ = stored.get("size") if isinstance(stored, dict) else None
    is_bad = status in {Status.FAILED, Status.RETRYING}
    return [
        *(Cell(it) for it in before),
        Cell(shown, colour),
        *(Cell(it) for it in (destination, partition, offsets)),
        *(Cell(it) for it in counts),
        Cell(size(bytes_) if isinstance(bytes_, int) else "-"),
        Cell(place, colour if is_bad else None),
    ]


def _row(cells: list[Cell]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    echo(line(cells, fitted(COLUMNS, width), width))
