"""The command `stream-app`: what an operator types, and how it ends.

Exit status: 0 done · 1 something outside refuses or is missing (a broker, a topic, a right) ·
2 the command line or the configuration is wrong · 130 ended by Ctrl-C. Errors are lines on standard
error, one for each mistake; standard output carries results only.

Whatever takes long to import (Kafka's client, Faust, rich) is imported by the command that uses it,
so that `--help` answers at once.
"""

# Imports stand where they are used (above), and click marks paragraphs with a bare backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import contextlib
import logging
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from stream_app import __version__
from stream_app.cli_redeliver import redeliver
from stream_app.cli_worker import worker
from stream_app.errors import ConfigurationError, SetupError, StreamAppError
from stream_app.printable import printable

if TYPE_CHECKING:
    from stream_app.settings import Settings
    from stream_app.trial import Subject

STATUS_FAILED: Final = 1
STATUS_WRONG: Final = 2
STATUS_INTERRUPTED: Final = 130
PARTITIONS_DEFAULT: Final = 4
PARTITIONS_MAX: Final = 10_000
REPLICATION_MAX: Final = 100


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    sys.exit(_run())


def _run() -> int:
    try:
        status = stream_app.main(prog_name="stream-app", standalone_mode=False)
    except click.Abort:
        return STATUS_INTERRUPTED
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        asks = f"; see {command} --help" if command else ""
        _complain(f"stream-app: {error.format_message().rstrip('.')}{asks}")
        return error.exit_code
    except ConfigurationError as error:
        for mistake in error.mistakes:
            _complain(mistake)
        return STATUS_WRONG
    except StreamAppError as error:
        _complain(f"stream-app: {error}")
        return STATUS_FAILED
    return status if isinstance(status, int) else 0


def _complain(text: str) -> None:
    """Write to standard error; what others wrote of it cannot steer the terminal."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=True)


def _with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
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


@click.group(no_args_is_help=False)
@click.version_option(__version__, message="%(prog)s %(version)s")
def stream_app() -> None:
    """Deliver Kafka events to S3 once a minute, exactly once.

    \b
    Exit status:
      0    done
      1    something outside refuses or is missing: a broker, a topic, a right
      2    the command line or the configuration is wrong
      130  ended by Ctrl-C
    """
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
def topics(config: str, partitions: int, replication_factor: int) -> None:
    """Create the events and the receipts topic; one that exists stays as it is.

    \b
    Example:
      stream-app topics --partitions 12 --replication-factor 3
    """
    settings = _load(config)
    from stream_app.kafka import create_topics

    for topic in asyncio.run(
        create_topics(settings.kafka, partitions=partitions, replication_factor=replication_factor)
    ):
        done = "created" if topic.created else "exists"
        click.echo(f"{topic.name}: {done}, partitions: {topic.partitions}")
        if topic.partitions != partitions:
            click.echo(
                f"stream-app: note: topic '{topic.name}' keeps its {topic.partitions} partitions; "
                f"--partitions {partitions} holds only for a topic that is created",
                err=True,
            )


@stream_app.command()
@_with_config
@click.argument(
    "files",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True),
    metavar="[FILE]...",
)
@click.option("--pipeline", metavar="KEY", help="The records' key; left out: none.")
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
        _complain(f"stream-app: note: no destination in {config} takes pipeline '{pipeline}'")
    from stream_app.send import send as send_events

    names = files or ("-",)
    with _progress(names) as read:
        sent = asyncio.run(send_events(settings.kafka, names, pipeline=pipeline, read=read))
    where = ", ".join(f"{partition}: {count}" for partition, count in sorted(sent.items()))
    click.echo(
        f"{sent.total()} events sent to {settings.kafka.events_topic}"
        + (f" (by partition: {where})" if where else "")
    )


@stream_app.command()
@_with_config
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
@click.option("--from-beginning", is_flag=True, help="Start with the oldest receipt.")
@click.option("--exit-at-end", is_flag=True, help="End with the newest receipt there is now.")
def receipts(config: str, *, as_json: bool, from_beginning: bool, exit_at_end: bool) -> None:
    """Follow the delivery receipts; Ctrl-C ends it.

    With --json each line holds the receipt and where it was found: id, key, partition, offset,
    receipt.

    \b
    Examples:
      stream-app receipts
      stream-app receipts --from-beginning --exit-at-end --json | jq .receipt.counts
    """
    settings = _load(config)
    asyncio.run(
        _follow(settings, as_json=as_json, from_beginning=from_beginning, exit_at_end=exit_at_end)
    )


async def _follow(
    settings: "Settings", *, as_json: bool, from_beginning: bool, exit_at_end: bool
) -> None:
    from stream_app.follow import COLUMNS, row
    from stream_app.follow import receipts as follow

    if not as_json:
        click.echo(row(tuple(heading for heading, _ in COLUMNS)))
    async with contextlib.aclosing(
        follow(settings.kafka, from_beginning=from_beginning, exit_at_end=exit_at_end)
    ) as published:
        async for receipt in published:
            try:
                click.echo(receipt.line() if as_json else row(receipt.cells()))
            except ValueError as error:
                _complain(
                    f"stream-app: partition {receipt.partition}, offset {receipt.offset} of "
                    f"{settings.kafka.receipts_topic}: {error}"
                )


@stream_app.command()
@_with_config
@click.option("--offline", is_flag=True, help="Do not ask S3.")
@click.option(
    "--event",
    "events",
    type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True),
    metavar="FILE",
    help="Try every expression on one event, or on NDJSON; - is standard input.",
)
@click.option(
    "--expression",
    metavar="TEXT",
    help="Look at this expression instead of a configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="What is tried, one JSON document a line.")
@click.pass_context
def check(
    context: click.Context,
    config: str,
    *,
    offline: bool,
    events: str | None,
    expression: str | None,
    as_json: bool,
) -> int:
    """Look for mistakes: in the configuration, its expressions, and the rights to its buckets.

    Each bucket is asked for its region, and whether an upload may be begun and aborted; no object
    is made. With --event, each destination's outcome for each event follows: the line that would be
    written, the way it is computed (fast path or engine), and how long that takes.

    \b
    Examples:
      stream-app check --config production.toml
      stream-app check --offline --event events.ndjson
      echo '{"body": {"id": 7}}' | stream-app check --event - --expression '$event.body.id + 1'
    """
    if as_json and events is None:
        raise click.UsageError("--json tells what is tried; add --event FILE")
    if expression is not None:
        source = context.get_parameter_source("config")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--expression needs no --config; leave one of them out")
        return _check_expression(expression, events, as_json=as_json)
    settings = _load(config)
    from stream_app.configfile import compile_payloads

    expressions = compile_payloads(settings, config)
    if events is not None:
        from stream_app.trial import Subject

        subjects = [
            Subject(destination.id, destination.pipeline, compiled)
            for destination, compiled in zip(settings.destinations, expressions, strict=True)
        ]
        _try(subjects, events, settings.kafka.events_topic, as_json=as_json)
    if not offline and not _can_write(settings):
        return STATUS_FAILED
    if not as_json:
        count = len(settings.destinations)
        click.echo(
            f"{config}: no mistakes; {count} destination{'' if count == 1 else 's'}"
            f"{'' if offline else ', all can be written'}"
        )
    return 0


def _check_expression(text: str, events: str | None, *, as_json: bool) -> int:
    from stream_app.configfile import compile_payload
    from stream_app.settings import Kafka
    from stream_app.trial import EXPRESSION_NAME, Subject

    compiled = compile_payload(text, "--expression")
    if events is None:
        click.echo("--expression: no mistakes")
    else:
        subject = Subject(EXPRESSION_NAME, None, compiled)
        _try([subject], events, Kafka().events_topic, as_json=as_json)
    return 0


def _try(subjects: "Sequence[Subject]", events: str, topic: str, *, as_json: bool) -> None:
    from stream_app.trial import heading, read_events, try_events

    values = read_events(events)
    now = time.time()
    for subject in subjects:
        if not as_json:
            click.echo(heading(subject))
        for trial in try_events(subject, values, topic=topic, now=now):
            click.echo(trial.document() if as_json else trial.text())


def _can_write(settings: "Settings") -> bool:
    from stream_app.rights import check_buckets

    checks = asyncio.run(check_buckets(settings))
    # One and the same for several destinations is said once: it names them.
    problems = dict.fromkeys(problem for it in checks for problem in it.problems)
    for problem in problems:
        _complain(f"stream-app: {problem}")
    return not problems


@stream_app.command()
@_with_config
@click.option(
    "--principal",
    metavar="ARN",
    required=True,
    help="Who runs the workers: an account, role or user.",
)
@click.option("--bucket", metavar="NAME", help="Only this bucket's; left out: every destination's.")
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
def demo(*, keep: bool) -> int:
    """Show it all on this machine: real Kafka, real S3, one worker, 30 events, two destinations.

    Nothing is left behind. Windows last 10 s here; 60 s is the default.

    \b
    Example:
      stream-app demo
    """
    from stream_app.demo import run_demo

    return run_demo(keep=keep)


for command in (redeliver, worker):
    _with_config(command)
    stream_app.add_command(command)


@contextlib.contextmanager
def _progress(names: tuple[str, ...]) -> Iterator[Callable[[int], None]]:
    """Give the function to call with bytes read; on a terminal it moves a bar."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

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
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        bar = progress.add_task(
            "sending", total=sum(status.st_size for status in statuses) if regular else None
        )
        yield lambda count: progress.advance(bar, count)
