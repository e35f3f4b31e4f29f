"""The command `stream-app redeliver`; `cli` adds it, with `--config`, to the others.

Exit status: 0 all of it is done · 1 some of it is not, and why is said · 2 a wrong command line.
"""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from stream_app.cli_completion import destination_ids
from stream_app.cli_shared import note_unknown
from stream_app.printable import printable

if TYPE_CHECKING:
    from stream_app.redeliver import Redelivery, Result
    from stream_app.redelivery import Owed, Wanted
    from stream_app.settings import Settings

_Tell = Callable[["Result"], None]


class _Time(click.ParamType):
    """A time as ISO 8601, in UTC unless it says otherwise; seconds since 1970."""

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
            self.fail(f"'{value}' is no time; write one as 2026-11-24T16:31:00Z", param, ctx)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


class _Id(click.ParamType):
    name = "id"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            self.fail(f"'{value}' is no receipt's id; write its 64 hex digits", param, ctx)
        return value


@click.command()
@click.option(
    "--destination",
    "destinations",
    metavar="ID",
    multiple=True,
    shell_complete=destination_ids,
    help="Only this one's.",
)
@click.option(
    "--since", type=_Time(), metavar="TIME", help="Only windows that start then or later."
)
@click.option("--until", type=_Time(), metavar="TIME", help="Only windows that start before it.")
@click.option(
    "--id", "ids", type=_Id(), metavar="ID", multiple=True, help="Only what this receipt names."
)
@click.option(
    "--failed-events", is_flag=True, help="Events that failed, not windows that were given up."
)
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done; read no event, write nothing."
)
@click.option(
    "--in-doubt",
    is_flag=True,
    help="Deliver also where an earlier try may have left an object elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
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
    """Deliver again what failed receipts name, under the original keys.

    Correct the destination first. Windows that were given up are read again and evaluated by the
    present configuration. With --failed-events, events whose expression failed are evaluated again,
    and those that have a payload now become an object of their own.

    It can be run at any time, beside workers, and again: what was answered is not touched. Times
    are ISO 8601, in UTC unless they say otherwise.

    \b
    Examples:
      stream-app redeliver --dry-run
      stream-app redeliver --destination orders --since 2026-11-24 --until 2026-11-25
      stream-app redeliver --failed-events --destination orders
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until")
    from stream_app.configfile import compile_payloads, load
    from stream_app.redelivery import Wanted

    settings = load(config, os.environ)
    compile_payloads(settings, config)
    note_unknown(config, destinations, frozenset(it.id for it in settings.destinations))
    wanted = Wanted(failed_events, frozenset(destinations), frozenset(ids), since, until)
    return asyncio.run(_run(settings, wanted, dry_run=dry_run, in_doubt=in_doubt, as_json=as_json))


async def _run(
    settings: "Settings", wanted: "Wanted", *, dry_run: bool, in_doubt: bool, as_json: bool
) -> int:
    from stream_app.redeliver import Redelivery

    outcomes: Counter[str] = Counter()
    good = True
    async with Redelivery(settings, wanted, in_doubt=in_doubt) as redelivery:
        owed = await redelivery.owed()
        good = not _notes(settings, redelivery)
        with _progress(len(owed), as_json=as_json) as tell:
            for it in owed:
                result = redelivery.plan(it) if dry_run else await redelivery.deliver(it)
                outcomes[result.outcome] += 1
                good = good and result.good
                tell(result)
    if not as_json:
        counts = ", ".join(f"{outcomes[it]} {it}" for it in sorted(outcomes))
        click.echo(counts or "nothing to redeliver")
    return 0 if good else 1


def _notes(settings: "Settings", redelivery: "Redelivery") -> bool:
    """Say what was found beside what is owed; whether anything of it is amiss."""
    kafka, search = settings.kafka, redelivery.search
    if search.unreadable:
        click.echo(
            f"stream-app: note: {search.unreadable} messages of {kafka.receipts_topic} are no "
            "receipts that this version knows; they were passed over",
            err=True,
        )
    unknown = search.unknown_ids()
    for name in unknown:
        click.echo(
            f"stream-app: no receipt of group '{kafka.group}' that could be redelivered has the "
            f"id {name}; see: stream-app receipts --from-beginning --json",
            err=True,
        )
    return bool(unknown)


@contextlib.contextmanager
def _progress(total: int, *, as_json: bool) -> Iterator[_Tell]:
    """Give the function that tells a result: a bar on a terminal, else a line for each."""
    if as_json or not sys.stderr.isatty() or not total:
        yield lambda result: click.echo(_document(result) if as_json else _line(result))
        return
    from rich.progress import Progress

    from stream_app.screen import console_on

    with Progress(console=console_on(sys.stderr), transient=True) as progress:
        bar = progress.add_task("redelivering", total=total)

        def tell(result: "Result") -> None:
            if result.reason is not None or not result.good:
                progress.console.print(_line(result), markup=False, highlight=False)
            progress.advance(bar)

        yield tell


def _line(result: "Result") -> str:
    receipt = result.owed.receipt
    source = receipt.source
    start = datetime.fromtimestamp(receipt.window_start, UTC)
    text = (
        f"{receipt.destination}, window {start:%Y-%m-%dT%H:%M:%SZ}, {source.topic}/"
        f"{source.partition} offsets {source.first_offset} to {source.end_offset - 1}"
        f"{_events(result.owed)}: {result.outcome}"
    )
    if result.lines:
        text += f", {result.lines} lines"
    if result.place is not None:
        text += f" at {_url(result)}"
    if result.failed:
        text += f", {result.failed} fail"
    if result.reason is not None:
        text += f": {result.reason}"
    return printable(text)


def _events(owed: "Owed") -> str:
    return "" if owed.events is None else f", {len(owed.events)} failed events"


def _url(result: "Result") -> str | None:
    return None if result.place is None else f"s3://{result.place.bucket}/{result.place.key}"


def _document(result: "Result") -> str:
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
