"""The command `stream-app check`; `cli` adds it, with `--config`, to the others.

Exit status: 0 no mistakes · 1 S3 refuses something, or cannot be asked · 2 there are mistakes, or a
wrong command line.
"""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import os
import time
from typing import TYPE_CHECKING

import click

from stream_app.errors import ConfigurationError
from stream_app.exits import STATUS_DONE, STATUS_WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_app.check_report import Report
    from stream_app.trial import Subject


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
    is made. With --event, each destination's outcome for each event is told: the line that would be
    written, the way it is computed (fast path or engine), and how long that takes.

    With --json each line is a document of the kind mistake, trial, destination or summary.

    \b
    Examples:
      stream-app check --config production.toml
      stream-app check --offline --event events.ndjson
      stream-app check --json | jq 'select(.kind == "destination" and .writable == false)'
      echo '{"body": {"id": 7}}' | stream-app check --event - --expression '$event.body.id + 1'
    """
    if expression is not None:
        source = context.get_parameter_source("config")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--expression needs no --config; leave one of them out")
    from stream_app.check_report import new_report

    report = new_report(as_json=as_json)
    try:
        if expression is not None:
            return _check_expression(report, expression, events)
        return _check_configuration(report, config, events, offline=offline)
    except ConfigurationError as error:
        report.mistakes(error.mistakes)
        return STATUS_WRONG


def _check_configuration(
    report: "Report", config: str, events: str | None, *, offline: bool
) -> int:
    from stream_app.configfile import compile_payloads, load

    settings = load(config, os.environ)
    expressions = compile_payloads(settings, config)
    if events is not None:
        from stream_app.trial import Subject

        subjects = [
            Subject(destination.id, destination.pipeline, compiled)
            for destination, compiled in zip(settings.destinations, expressions, strict=True)
        ]
        _try(report, subjects, events, settings.kafka.events_topic)
    checks = None
    if not offline:
        from stream_app.rights import check_buckets

        with report.asking(settings):
            checks = asyncio.run(check_buckets(settings))
    report.destinations(settings, expressions, checks)
    return report.summary(config, settings, checks)


def _check_expression(report: "Report", text: str, events: str | None) -> int:
    from stream_app.configfile import compile_payload
    from stream_app.settings import Kafka
    from stream_app.trial import EXPRESSION_NAME, Subject

    compiled = compile_payload(text, "--expression")
    if events is not None:
        subject = Subject(EXPRESSION_NAME, None, compiled)
        _try(report, [subject], events, Kafka().events_topic)
    report.no_mistakes("--expression")
    return STATUS_DONE


def _try(report: "Report", subjects: "Sequence[Subject]", events: str, topic: str) -> None:
    from stream_app.trial import read_events, try_events

    values = read_events(events)
    now = time.time()
    for subject in subjects:
        report.subject(subject)
        for trial in try_events(subject, values, topic=topic, now=now):
            report.trial(trial)
