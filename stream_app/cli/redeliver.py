"""The command `stream-app redeliver`: delivers again what failed receipts name.

Exit status: 0 all that was asked for is delivered, or planned · 1 a part is not, an event fails, or
a destination is unknown; the reason is printed · 2 a wrong command line or configuration.
"""

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

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
from stream_app.errors import SetupError
from stream_app.text import counted, printable

if TYPE_CHECKING:
    from stream_app.config.settings import Settings
    from stream_app.redelivery.owed import Owed, OwedFilter
    from stream_app.redelivery.run import Redelivery, RedeliveryResult

_ShowResult = Callable[["RedeliveryResult"], None]


class _Time(click.ParamType):
    """ISO 8601 time, in UTC without an offset, as seconds since 1970."""

    name = "time"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is not a time; write one as 2026-11-24T16:31:00Z", param, ctx)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


class _ReceiptId(click.ParamType):
    """Id of a receipt: 64 hex digits."""

    name = "id"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            self.fail(f"'{value}' is not the id of a receipt; write its 64 hex digits", param, ctx)
        return value


@click.command()
@click.option(
    "--destination",
    "destinations",
    metavar="ID",
    multiple=True,
    shell_complete=destination_ids,
    help="Only this destination; can be given more than once.",
)
@click.option(
    "--since", type=_Time(), metavar="TIME", help="Only windows that start at this time or later."
)
@click.option(
    "--until", type=_Time(), metavar="TIME", help="Only windows that start before this time."
)
@click.option(
    "--id",
    "ids",
    type=_ReceiptId(),
    metavar="ID",
    multiple=True,
    help="Only the window or events of this receipt; can be given more than once.",
)
@click.option(
    "--failed-events", is_flag=True, help="Failed events, not windows that were given up."
)
@click.option("--dry-run", is_flag=True, help="Print the plan; read no event, write nothing.")
@click.option(
    "--in-doubt",
    is_flag=True,
    help="Deliver even where an earlier attempt may have left an object elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on each line.")
@with_config
def redeliver(
    config: str,
    destinations: tuple[str, ...],
    since: float | None,
    until: float | None,
    ids: tuple[str, ...],
    *,
    failed_events: bool,
    dry_run: bool,
    in_doubt: bool,
    as_json: bool,
) -> int:
    """Deliver again what failed, under the original keys.

    Correct the destination first. Windows that were given up are read again and evaluated with the
    present configuration. With --failed-events, events whose expression failed are evaluated again,
    and those that now have a payload become an object of their own.

    The command can run at any time, beside workers, and again: windows and events that were
    delivered meanwhile are left alone. Times are ISO 8601, in UTC unless they have an offset.

    \b
    Examples:
      stream-app redeliver --dry-run
      stream-app redeliver --destination orders --since 2026-11-24 --until 2026-11-25
      stream-app redeliver --failed-events --destination orders
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until")
    from stream_app.core.router import compile_payloads
    from stream_app.redelivery.owed import OwedFilter

    settings = load_settings(config)
    compile_payloads(settings)
    advice = "; if it was removed, put it back for this run"
    if unknown := unknown_destinations(settings, destinations, advice):
        raise SetupError(next(iter(unknown.values())))
    owed_filter = OwedFilter(failed_events, frozenset(destinations), frozenset(ids), since, until)
    return asyncio.run(
        _run(settings, owed_filter, dry_run=dry_run, in_doubt=in_doubt, as_json=as_json)
    )


async def _run(
    settings: "Settings", owed_filter: "OwedFilter", *, dry_run: bool, in_doubt: bool, as_json: bool
) -> int:
    from stream_app.kafka.record_batches import install_lenient_decoding
    from stream_app.redelivery.run import Redelivery

    install_lenient_decoding()
    outcomes: Counter[str] = Counter()
    good = True
    async with Redelivery(settings, owed_filter, in_doubt=in_doubt) as redelivery:
        owed = await redelivery.owed()
        good = not _print_notes(settings, redelivery)
        with _progress(len(owed), has_bar=not (as_json or dry_run), as_json=as_json) as show:
            for it in owed:
                result = redelivery.plan(it) if dry_run else await redelivery.deliver(it)
                outcomes[result.outcome] += 1
                good = good and result.is_complete
                show(result)
    if not as_json:
        counts = ", ".join(f"{outcomes[it]} {it}" for it in sorted(outcomes))
        click.echo(counts or "nothing to redeliver")
    return STATUS_DONE if good else STATUS_FAILED


def _print_notes(settings: "Settings", redelivery: "Redelivery") -> bool:
    """Print unreadable receipts and unknown ids; return whether an id is unknown."""
    kafka, search = settings.kafka, redelivery.search
    if search.unreadable:
        print_error(
            f"stream-app: note: skipped {counted(search.unreadable, 'message')} of "
            f"{kafka.receipts_topic} that this version cannot read as receipts"
        )
    unknown = search.unknown_ids()
    for name in unknown:
        print_error(
            f"stream-app: no receipt of group '{kafka.group}' that can be redelivered has the id "
            f"{name}; see: stream-app receipts --from-beginning --json"
        )
    return bool(unknown)


@contextlib.contextmanager
def _progress(total: int, *, has_bar: bool, as_json: bool) -> Iterator[_ShowResult]:
    """Yield the function that prints a result, on a terminal above a bar if there is to be one."""
    if not has_bar or not total or not sys.stdout.isatty():
        yield lambda result: click.echo(_document(result) if as_json else _line(result))
        return
    from rich.progress import Progress

    from stream_app.cli.terminal import console_on

    with Progress(console=console_on(sys.stdout), transient=True) as progress:
        bar = progress.add_task("redelivering", total=total)

        def show(result: "RedeliveryResult") -> None:
            progress.console.print(_line(result), markup=False, highlight=False, soft_wrap=True)
            progress.advance(bar)

        yield show


def _line(result: "RedeliveryResult") -> str:
    receipt = result.owed.receipt
    source = receipt.source
    start = datetime.fromtimestamp(receipt.window_start, UTC)
    text = (
        f"{receipt.destination}, window {start:%Y-%m-%dT%H:%M:%SZ}, {source.topic}/"
        f"{source.partition} offsets {source.first_offset} to {source.end_offset - 1}"
        f"{_events(result.owed)}: {result.outcome}"
    )
    if result.lines:
        text += f", {counted(result.lines, 'line')}"
    if result.location is not None:
        text += f" at {_url(result)}"
    if result.failed:
        text += f", {result.failed} failed"
    if result.reason is not None:
        text += f": {result.reason}"
    return printable(text)


def _events(owed: "Owed") -> str:
    return "" if owed.events is None else f", {counted(len(owed.events), 'failed event')}"


def _url(result: "RedeliveryResult") -> str | None:
    return (
        None if result.location is None else f"s3://{result.location.bucket}/{result.location.key}"
    )


def _document(result: "RedeliveryResult") -> str:
    owed = result.owed
    source = owed.receipt.source
    start = datetime.fromtimestamp(owed.receipt.window_start, UTC)
    return json.dumps(
        {
            "id": owed.receipt.id,
            "destination": owed.receipt.destination,
            "window_start": f"{start:%Y-%m-%dT%H:%M:%SZ}",
            "partition": source.partition,
            "first_offset": source.first_offset,
            "end_offset": source.end_offset,
            "events": None if owed.events is None else owed.events,
            "outcome": str(result.outcome),
            "object": _url(result),
            "lines": result.lines,
            "failed": result.failed,
            "reason": result.reason,
        }
    )
