"""The command `stream-app`: what an operator types, and how it ends.

How it ends is what `exits` says. Errors are lines on standard error, one for each mistake; standard
output carries results only.

Whatever takes long to import (Kafka's client, Faust, rich) is imported by the command that uses it,
so that `--help` answers at once.
"""

# Imports stand where they are used (above), and click marks paragraphs with a bare backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import contextlib
import dataclasses
import io
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from stream_app import __version__
from stream_app.cli_check import check
from stream_app.cli_completion import buckets, completion, pipelines
from stream_app.cli_inspector import inspector
from stream_app.cli_receipts import receipts
from stream_app.cli_redeliver import redeliver
from stream_app.cli_shared import complain, print_document
from stream_app.cli_worker import worker
from stream_app.errors import ConfigurationError, SetupError, StreamAppError
from stream_app.exits import (
    MEANINGS,
    STATUS_DONE,
    STATUS_FAILED,
    STATUS_INTERRUPTED,
    STATUS_WRONG,
)

if TYPE_CHECKING:
    from stream_app.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
PARTITIONS_DEFAULT: Final = 4
PARTITIONS_MAX: Final = 10_000
REPLICATION_MAX: Final = 100


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    sys.exit(_run())


def _run() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A mark or a letter that the terminal's encoding lacks is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = stream_app.main(prog_name="stream-app", standalone_mode=False)
    except click.Abort:
        return STATUS_INTERRUPTED
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        # click lists choices on lines of their own.
        message = " ".join(error.format_message().split()).rstrip(".")
        ends = " See" if message.endswith("?") else "; see"
        asks = f"{ends} {command} --help" if command else ""
        complain(f"stream-app: {message}{asks}")
        return error.exit_code
    except ConfigurationError as error:
        for mistake in error.mistakes:
            complain(mistake)
        return STATUS_WRONG
    except StreamAppError as error:
        complain(f"stream-app: {error}")
        return STATUS_FAILED
    return status if isinstance(status, int) else STATUS_DONE


def _with_config(command: _Command) -> _Command:
    return click.option(
        "--config",
        type=click.Path(),
        metavar="FILE",
        envvar="STREAM_APP_CONFIG",
        default="stream_app.toml",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )(command)


def _load(config: str) -> "Settings":
    from stream_app.configfile import load

    return load(config, os.environ)


class _Commands(click.Group):
    """The commands; a slip of the pen gets the one that was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.commands, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command '{name}'{meant}")
        return super().resolve_command(ctx, args)


_HELP: Final = "\n".join(
    [
        "Deliver Kafka events to S3 once a minute, exactly once.",
        "",
        "\b",
        "Example:",
        "  stream-app demo",
        "",
        "\b",
        "Exit status:",
        *(f"  {status:<4} {meaning}" for status, meaning in MEANINGS.items()),
    ]
)


@click.group(cls=_Commands, no_args_is_help=False, help=_HELP)
@click.version_option(__version__, message="%(prog)s %(version)s")
def stream_app() -> None:
    """Begin a command."""
    # What goes wrong is said in one line by whoever catches it.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False


@stream_app.command()
@_with_config
@click.option(
    "--partitions",
    type=click.IntRange(1, PARTITIONS_MAX),
    default=PARTITIONS_DEFAULT,
    show_default=True,
    help="Of each topic that is created.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, REPLICATION_MAX),
    default=1,
    show_default=True,
    help="Copies of each partition; 3 is usual where there are 3 brokers.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
def topics(config: str, partitions: int, replication_factor: int, *, as_json: bool) -> None:
    """Create the events and the receipts topic; one that exists stays as it is.

    \b
    Examples:
      stream-app topics --partitions 12 --replication-factor 3
      stream-app topics --json | jq .partitions
    """
    settings = _load(config)
    from stream_app.kafka import create_topics

    for topic in asyncio.run(
        create_topics(settings.kafka, partitions=partitions, replication_factor=replication_factor)
    ):
        if as_json:
            print_document(dataclasses.asdict(topic))
        else:
            done = "created" if topic.created else "exists"
            click.echo(f"{topic.name}: {done}, partitions: {topic.partitions}")
        if topic.partitions != partitions:
            complain(
                f"stream-app: note: topic '{topic.name}' keeps its {topic.partitions} partitions; "
                f"--partitions {partitions} holds only for a topic that is created"
            )


@stream_app.command()
@_with_config
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
    help="The records' key; left out: none.",
)
def send(config: str, files: tuple[str, ...], pipeline: str | None) -> None:
    """Send events: one JSON value on each line, from files or standard input (-).

    The first line that is no JSON ends it: the events before it are sent, none after it.
    Empty lines are passed over.

    \b
    Examples:
      stream-app send --pipeline orders orders.ndjson
      echo '{"body": {"id": 7}}' | stream-app send --pipeline orders
    """
    if pipeline == "":
        raise click.UsageError("--pipeline is empty; write a key, or leave the option out")
    settings = _load(config)
    if pipeline is not None and not any(
        destination.pipeline in (None, pipeline) for destination in settings.destinations
    ):
        complain(f"stream-app: note: no destination in {config} takes pipeline '{pipeline}'")
    from stream_app.send import send as send_events

    names = files or ("-",)
    with _progress(names) as read:
        sent = asyncio.run(send_events(settings.kafka, names, pipeline=pipeline, read=read))
    where = ", ".join(f"{partition}: {count}" for partition, count in sorted(sent.items()))
    by = f" (by partition: {where})" if where else ""
    click.echo(f"{sent.total()} events sent to {settings.kafka.events_topic}{by}")


@stream_app.command()
@_with_config
@click.option(
    "--principal",
    metavar="ARN",
    required=True,
    help="Who runs the workers: an account, role or user.",
)
@click.option(
    "--bucket",
    metavar="NAME",
    shell_complete=buckets,
    help="Only this bucket's; left out: every destination's.",
)
def policy(config: str, principal: str, bucket: str | None) -> None:
    """Print the least bucket policy that delivery needs: one JSON document for each bucket.

    \b
    Example:
      stream-app policy --principal arn:aws:iam::123456789012:role/stream-app --bucket my-bucket
    """
    settings = _load(config)
    from stream_app.policy import OPTION_RIGHTS, bucket_policy

    buckets: dict[str, set[str]] = {}
    for destination in settings.destinations:
        has = {it for it in OPTION_RIGHTS if getattr(destination, it) is not None}
        buckets.setdefault(destination.bucket, set()).update(has)
    if bucket is not None:
        if bucket not in buckets:
            raise ConfigurationError(
                [f"--bucket is '{bucket}'; write one of {config}'s buckets: {', '.join(buckets)}"]
            )
        buckets = {bucket: buckets[bucket]}
    for name, options in buckets.items():
        click.echo(bucket_policy(name, principal, options))


@stream_app.command()
@click.option("--keep", is_flag=True, help="Stay up at the end until Ctrl-C; print the addresses.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="What came of it as one JSON document; the rest as notes.",
)
def demo(*, keep: bool, as_json: bool) -> int:
    """Show it all on this machine: real Kafka, real S3, one worker, 30 events, two destinations.

    Nothing is left behind. Windows last 10 s here; 60 s is the default.

    With --json standard output has one document of objects and receipts, and standard error tells
    how far it is.

    \b
    Examples:
      stream-app demo
      stream-app demo --json | jq .objects
    """
    from stream_app.demo import run_demo

    return run_demo(keep=keep, as_json=as_json)


for _command in (check, inspector, receipts, redeliver, worker):
    stream_app.add_command(_with_config(_command))
stream_app.add_command(completion)


@contextlib.contextmanager
def _progress(names: tuple[str, ...]) -> Iterator[Callable[[int], None]]:
    """Give the function to call with bytes read; on a terminal it moves a bar."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from stream_app.screen import console_on

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
