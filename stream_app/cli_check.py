"""The command `stream-app check`; `cli` adds it, with `--config`, to the others.

Exit status: 0 no mistakes · 1 S3 refuses something · 2 the configuration or the command line is
wrong.
"""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli_style import echo, is_coloured
from stream_app.errors import ConfigurationError
from stream_app.printable import printable
from stream_app.tables import HIDDEN, Cell, Column, fitted, line

if TYPE_CHECKING:
    from stream_app.expressions import Expression
    from stream_app.rights import BucketCheck
    from stream_app.settings import Destination, Settings
    from stream_app.trial import Subject

STATUS_FAILED: Final = 1
ROWS_MAX: Final = 50
"""Destinations in the table; those with problems come first."""
COLUMNS: Final = (
    Column("DESTINATION", 24, 15),
    Column("PIPELINE", 20, 20),
    Column("PAYLOAD", 9, HIDDEN),
    Column("S3", 9, 9),
    Column("OBJECTS", 0, 0),
)
_SHOWN: Final = {"ok": ("✓", "green"), "refused": ("✗", "red"), "not asked": ("-", "bright_black")}


@click.command()
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
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
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
    if expression is not None:
        source = context.get_parameter_source("config")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--expression needs no --config; leave one of them out")
        if as_json and events is None:
            raise click.UsageError("--json tells what is tried; add --event FILE")
        return _check_expression(expression, events, as_json=as_json)
    settings, expressions = _compiled(config, as_json=as_json)
    if events is not None:
        from stream_app.trial import Subject

        subjects = [
            Subject(destination.id, destination.pipeline, compiled)
            for destination, compiled in zip(settings.destinations, expressions, strict=True)
        ]
        _try(subjects, events, settings.kafka.events_topic, as_json=as_json)
    checks = {} if offline else _asked(settings)
    if events is None:
        _show(settings.destinations, expressions, checks, as_json=as_json)
    if _complains(checks):
        return STATUS_FAILED
    if not as_json:
        count = len(settings.destinations)
        click.echo(
            f"{config}: no mistakes; {count} destination{'' if count == 1 else 's'}"
            f"{'' if offline else ', all can be written'}"
        )
    return 0


def _compiled(config: str, *, as_json: bool) -> "tuple[Settings, Sequence[Expression]]":
    from stream_app.configfile import compile_payloads, load

    try:
        settings = load(config, os.environ)
        return settings, compile_payloads(settings, config)
    except ConfigurationError as error:
        if as_json:
            click.echo(json.dumps({"mistakes": error.mistakes}))
        raise


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


def _asked(settings: "Settings") -> "Mapping[str, BucketCheck]":
    from stream_app.rights import check_buckets

    return {it.destination: it for it in asyncio.run(check_buckets(settings))}


def _complains(checks: "Mapping[str, BucketCheck]") -> bool:
    # One and the same for several destinations is said once: it names them.
    problems = dict.fromkeys(problem for it in checks.values() for problem in it.problems)
    for problem in problems:
        click.echo(printable(f"stream-app: {problem}"), err=True)
    return bool(problems)


def _show(
    destinations: "Sequence[Destination]",
    expressions: "Sequence[Expression]",
    checks: "Mapping[str, BucketCheck]",
    *,
    as_json: bool,
) -> None:
    """Print a row or a document for each destination."""
    documents = []
    for destination, expression in zip(destinations, expressions, strict=True):
        asked = checks.get(destination.id)
        problems = () if asked is None else asked.problems
        documents.append(
            {
                "destination": destination.id,
                "pipeline": destination.pipeline,
                "bucket": destination.bucket,
                "prefix": destination.prefix,
                "path": "engine" if expression.uses_engine else "fast",
                "s3": "not asked" if asked is None else "refused" if problems else "ok",
                "problems": problems,
            }
        )
    if as_json:
        for document in documents:
            click.echo(json.dumps(document))
        return
    documents.sort(key=lambda it: not it["problems"])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    columns = fitted(COLUMNS, width)
    echo(line([Cell(it.heading, "bold") for it in COLUMNS], columns, width))
    for document in documents[:ROWS_MAX]:
        echo(line(_cells(document), columns, width))
    if len(documents) > ROWS_MAX:
        click.echo(f"and {len(documents) - ROWS_MAX} more (--json shows all)")


def _cells(document: Mapping[str, object]) -> list[Cell]:
    s3 = str(document["s3"])
    mark, colour = _SHOWN[s3]
    pipeline = document["pipeline"]
    return [
        Cell(str(document["destination"])),
        Cell("(every event)" if pipeline is None else printable(str(pipeline))),
        Cell("fast path" if document["path"] == "fast" else "engine"),
        Cell(f"{mark} {s3}" if is_coloured() else s3, colour),
        Cell(printable(f"s3://{document['bucket']}/{document['prefix']}")),
    ]
