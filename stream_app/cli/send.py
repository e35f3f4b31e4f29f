"""The command `stream-app send`: produces events from files or standard input."""

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator

import click

from stream_app.cli.common import load_settings, print_error, with_config
from stream_app.cli.completion import pipelines
from stream_app.errors import SetupError
from stream_app.text import counted


@click.command()
@click.argument(
    "files",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True),
    metavar="[FILE]...",
)
@click.option(
    "--pipeline",
    metavar="KEY",
    shell_complete=pipelines,
    help="The key of the records; left out: none.",
)
@with_config
def send(config: str, files: tuple[str, ...], pipeline: str | None) -> None:
    """Send events from files or standard input (-).

    Each line is one JSON value; empty lines are skipped. The first line that is not JSON ends the
    command: the events before it are sent, none after it.

    \b
    Examples:
      stream-app send --pipeline orders orders.ndjson
      echo '{"body": {"id": 7}}' | stream-app send --pipeline orders
    """
    if pipeline == "":
        raise click.UsageError("--pipeline is empty; write a key, or leave the option out")
    settings = load_settings(config)
    if pipeline is not None and not any(
        destination.pipeline in (None, pipeline) for destination in settings.destinations
    ):
        from stream_app.core.pipeline_names import PipelineNames

        names = PipelineNames(destination.pipeline for destination in settings.destinations)
        print_error(f"stream-app: note: {settings.name}: {names.unmatched(pipeline.encode())}")
    from stream_app.kafka.event_producer import send as send_events

    sources = files or ("-",)
    with _progress(sources) as advance:
        sent = asyncio.run(send_events(settings.kafka, sources, pipeline=pipeline, read=advance))
    counts = ", ".join(f"{partition}: {count}" for partition, count in sorted(sent.items()))
    by_partition = f" (by partition: {counts})" if counts else ""
    events = counted(sent.total(), "event")
    click.echo(f"{events} sent to {settings.kafka.events_topic}{by_partition}")


@contextlib.contextmanager
def _progress(names: tuple[str, ...]) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yield the function to call with the bytes read."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from stream_app.cli.terminal import console_on

    try:
        statuses = [os.fstat(0) if name == "-" else os.stat(name) for name in names]  # noqa: PTH116
    except OSError as error:
        raise SetupError(f"standard input cannot be read: {error.strerror}") from error
    regular = all(stat.S_ISREG(status.st_mode) for status in statuses)
    with Progress(
        "sending",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console_on(sys.stderr),
        transient=True,
    ) as progress:
        bar = progress.add_task(
            "sending", total=sum(status.st_size for status in statuses) if regular else None
        )
        yield lambda count: progress.advance(bar, count)
