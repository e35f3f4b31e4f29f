"""The command `stream-app receipts`: follows the receipts topic.

Exit status: 0 the newest receipt is shown (`--exit-at-end`) · 1 Kafka or the topic is missing, the
reader of standard output has gone, or a destination has neither an entry in the configuration nor a
receipt · 2 a wrong command line or configuration · 130 Ctrl-C.
"""

import asyncio
import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from stream_app.cli.common import (
    STATUS_DONE,
    STATUS_FAILED,
    load_settings,
    print_error,
    unknown_destinations,
    with_config,
)
from stream_app.cli.completion import destination_ids

if TYPE_CHECKING:
    from stream_app.config.settings import Settings
    from stream_app.kafka.receipts_topic import PublishedReceipt
    from stream_app.records import Undecodable

STATUSES: Final = ("delivered", "empty", "retrying", "failed", "redelivered")
"""Values of `core.receipt.Status`, which is too slow to import for `--help`."""
STANDARD_OUTPUT: Final = 1


@dataclass(frozen=True, slots=True)
class _ReceiptFilter:
    """Filter of the receipts that are shown; an empty tuple lets all through."""

    destinations: tuple[str, ...]
    statuses: tuple[str, ...]

    def matches(self, published: "PublishedReceipt") -> bool:
        return (
            not self.destinations or _field(published, "destination") in self.destinations
        ) and (not self.statuses or _field(published, "status") in self.statuses)


@click.command()
@click.option(
    "--destination",
    "destinations",
    metavar="ID",
    multiple=True,
    shell_complete=destination_ids,
    help="Only receipts of this destination; can be given more than once.",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES),
    multiple=True,
    help="Only receipts with this status; can be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on each line.")
@click.option("--from-beginning", is_flag=True, help="Start with the oldest receipt.")
@click.option("--exit-at-end", is_flag=True, help="End after the newest receipt at the start.")
@with_config
def receipts(
    config: str,
    destinations: tuple[str, ...],
    statuses: tuple[str, ...],
    *,
    as_json: bool,
    from_beginning: bool,
    exit_at_end: bool,
) -> int:
    """Follow the delivery receipts.

    Receipts are rows of a table, printed as they arrive; Ctrl-C ends the command. With --json each
    line is a document of id, key, partition, offset (of the receipt in its topic) and receipt. In
    failed and retrying receipts counts.delivered is what would have been delivered.

    \b
    Examples:
      stream-app receipts
      stream-app receipts --from-beginning --destination orders --status failed
      stream-app receipts --from-beginning --exit-at-end --json | jq .receipt.object.key
    """
    settings = load_settings(config)
    unknown = unknown_destinations(settings, destinations)
    for text in unknown.values():
        print_error(f"stream-app: note: {text}")
    read = asyncio.run(
        _follow(
            settings,
            _ReceiptFilter(destinations, statuses),
            as_json=as_json,
            from_beginning=from_beginning,
            exit_at_end=exit_at_end,
        )
    )
    missing = sorted(unknown.keys() - read)
    for name in missing:
        print_error(f"stream-app: no receipt of destination '{name}' was read either")
    return STATUS_FAILED if missing else STATUS_DONE


async def _follow(
    settings: "Settings",
    receipt_filter: _ReceiptFilter,
    *,
    as_json: bool,
    from_beginning: bool,
    exit_at_end: bool,
) -> set[str]:
    """Show receipts; return the filter's destinations of which one was read, shown or not."""
    from stream_app.cli.receipt_table import receipt_table
    from stream_app.cli.terminal import Output
    from stream_app.kafka.receipts_topic import receipts as follow
    from stream_app.kafka.record_batches import install_lenient_decoding

    install_lenient_decoding()
    topic = settings.kafka.receipts_topic
    table = receipt_table(
        Output(sys.stdout), receipt_filter.destinations or [it.id for it in settings.destinations]
    )
    read: set[str] = set()
    with _end_with_reader():
        async with contextlib.aclosing(
            follow(
                settings.kafka,
                from_beginning=from_beginning,
                exit_at_end=exit_at_end,
                on_ready=(lambda: None) if as_json else table.begin,
                on_undecodable=partial(_report_undecodable, topic),
            )
        ) as published:
            async for receipt in published:
                destination = _field(receipt, "destination")
                read.update(it for it in receipt_filter.destinations if it == destination)
                if not receipt_filter.matches(receipt):
                    continue
                try:
                    if as_json:
                        click.echo(receipt.line())
                    else:
                        table.add(receipt)
                except ValueError as error:
                    position = f"partition {receipt.partition}, offset {receipt.offset} of {topic}"
                    print_error(f"stream-app: {position}: {error}")
    if not as_json:
        table.end()
    return read


def _field(published: "PublishedReceipt", name: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a field of a receipt; None: it has none, as any producer can write any JSON."""
    receipt = published.receipt
    return receipt.get(name) if isinstance(receipt, dict) else None


def _report_undecodable(topic: str, partition: int, batch: "Undecodable") -> None:
    print_error(
        f"stream-app: partition {partition} of {topic}: the receipts at offsets {batch.offsets} "
        f"are left out, since their record batch cannot be decoded: {batch.reason}"
    )


@contextlib.contextmanager
def _end_with_reader() -> Iterator[None]:
    """Cancel the task when the reader of standard output goes away, though nothing is written.

    `stream-app receipts | head -5` would otherwise stay until the sixth receipt arrives.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None or not stat.S_ISFIFO(os.fstat(STANDARD_OUTPUT).st_mode):
        yield
        return
    has_reader = True

    def check_reader() -> None:
        nonlocal has_reader
        poll = select.poll()
        poll.register(STANDARD_OUTPUT, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            has_reader = False
            task.cancel()
        # Otherwise the pipe is open for reading as well, and our own output woke us.
        loop.remove_reader(STANDARD_OUTPUT)

    loop.add_reader(STANDARD_OUTPUT, check_reader)
    try:
        yield
    except asyncio.CancelledError:
        if has_reader:
            raise
        raise click.exceptions.Exit(STATUS_FAILED) from None
    finally:
        loop.remove_reader(STANDARD_OUTPUT)
