"""The command `stream-app receipts`; `cli` adds it, with `--config`, to the others.

Exit status: 0 the newest receipt is shown (`--exit-at-end`) · 1 Kafka or the topic is missing, or
nobody reads any more · 2 a wrong command line or configuration · 130 Ctrl-C.
"""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli_completion import destination_ids
from stream_app.cli_shared import complain, note_unknown
from stream_app.exits import STATUS_FAILED

if TYPE_CHECKING:
    from stream_app.follow import Published
    from stream_app.settings import Settings

STATUSES: Final = ("delivered", "empty", "retrying", "failed", "redelivered")
"""Those of `receipts.Status`, which takes longer to import than `--help` may."""
STANDARD_OUTPUT: Final = 1


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which receipts are shown; an empty tuple: all."""

    destinations: tuple[str, ...]
    statuses: tuple[str, ...]

    def has(self, published: "Published") -> bool:
        if not self.destinations and not self.statuses:
            return True
        # Whoever may write to the topic may have written anything.
        receipt = published.receipt if isinstance(published.receipt, dict) else {}
        return (not self.destinations or receipt.get("destination") in self.destinations) and (
            not self.statuses or receipt.get("status") in self.statuses
        )


@click.command()
@click.option(
    "--destination",
    "destinations",
    metavar="ID",
    multiple=True,
    shell_complete=destination_ids,
    help="Only this one's; can be given more than once.",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES),
    multiple=True,
    help="Only those that say so; can be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
@click.option("--from-beginning", is_flag=True, help="Start with the oldest receipt.")
@click.option("--exit-at-end", is_flag=True, help="End with the newest receipt there is now.")
def receipts(
    config: str,
    destinations: tuple[str, ...],
    statuses: tuple[str, ...],
    *,
    as_json: bool,
    from_beginning: bool,
    exit_at_end: bool,
) -> None:
    """Follow the delivery receipts as a table; Ctrl-C ends it.

    With --json each line holds the receipt and where it was found: id, key, partition, offset,
    receipt.

    \b
    Examples:
      stream-app receipts
      stream-app receipts --from-beginning --destination orders --status failed
      stream-app receipts --from-beginning --exit-at-end --json | jq .receipt.counts
    """
    from stream_app.configfile import load

    settings = load(config, os.environ)
    note_unknown(config, destinations, frozenset(it.id for it in settings.destinations))
    asyncio.run(
        _follow(
            settings,
            _Wanted(destinations, statuses),
            as_json=as_json,
            from_beginning=from_beginning,
            exit_at_end=exit_at_end,
        )
    )


async def _follow(
    settings: "Settings",
    wanted: _Wanted,
    *,
    as_json: bool,
    from_beginning: bool,
    exit_at_end: bool,
) -> None:
    from stream_app.follow import receipts as follow
    from stream_app.receipt_table import receipt_table
    from stream_app.screen import Screen

    topic = settings.kafka.receipts_topic
    screen = Screen(sys.stdout)
    table = receipt_table(screen, wanted.destinations or [it.id for it in settings.destinations])
    if not as_json:
        table.begin()
    with _ended_by_its_reader():
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
                        table.add(receipt)
                except ValueError as error:
                    place = f"partition {receipt.partition}, offset {receipt.offset} of {topic}"
                    complain(f"stream-app: {place}: {error}")
    if not as_json:
        table.end()


@contextlib.contextmanager
def _ended_by_its_reader() -> Iterator[None]:
    """End the task when nobody reads standard output any more, though there is nothing to write.

    `stream-app receipts | head -5` would otherwise stay until the sixth receipt comes.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None or not stat.S_ISFIFO(os.fstat(STANDARD_OUTPUT).st_mode):
        yield
        return
    has_reader = True

    def look() -> None:
        nonlocal has_reader
        poll = select.poll()
        poll.register(STANDARD_OUTPUT, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            has_reader = False
            task.cancel()
        # Else it is open for reading as well, and what we write ourselves can be read.
        loop.remove_reader(STANDARD_OUTPUT)

    loop.add_reader(STANDARD_OUTPUT, look)
    try:
        yield
    except asyncio.CancelledError:
        if has_reader:
            raise
        raise click.exceptions.Exit(STATUS_FAILED) from None
    finally:
        loop.remove_reader(STANDARD_OUTPUT)
