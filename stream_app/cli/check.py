"""The command `stream-app check`: finds mistakes before a worker does.

Exit status: 0 no mistakes · 1 Kafka or S3 refuses or lacks something, or does not respond · 2 there
are mistakes, or the command line is wrong.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.common import STATUS_DONE, STATUS_WRONG, load_settings, with_config
from stream_app.cli.completion import pipelines
from stream_app.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_app.cli.check_report import Report
    from stream_app.config.settings import Settings
    from stream_app.expressions.trial import Subject
    from stream_app.kafka.cluster_findings import ResourceCheck
    from stream_app.s3.access_check import BucketCheck

EVENTS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of the file with events: read whole, to see whether it holds one event or many."""
STANDARD_INPUT: Final = "-"


@click.command()
@click.option("--offline", is_flag=True, help="Send no request to Kafka and S3.")
@click.option(
    "--event",
    "events",
    type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True),
    metavar="FILE",
    help="Try every expression on one event, or on NDJSON; - is standard input.",
)
@click.option(
    "--pipeline",
    metavar="KEY",
    shell_complete=pipelines,
    help="Try --event as records with this key: at destinations that take it.",
)
@click.option(
    "--expression",
    metavar="TEXT",
    help="Check this expression instead of a configuration.",
)
@click.option(
    "--conformance",
    is_flag=True,
    help="Ask the S3 servers by real writes, under a name of their own, what deliveries rely on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on each line.")
@with_config
@click.pass_context
def check(
    context: click.Context,
    config: str,
    *,
    offline: bool,
    events: str | None,
    pipeline: str | None,
    expression: str | None,
    conformance: bool,
    as_json: bool,
) -> int:
    """Check the configuration, its expressions, Kafka and S3.

    Kafka is asked for its brokers, both topics, the group, and what the user may do there; nothing
    is written, and the group is not joined. For each bucket the command requests the region, and
    begins and aborts an upload; no object is made. Why an expression needs the JavaScript engine is
    listed; all others take the fast path. With --event, each destination's outcome for each event
    is shown: the line that would be written, how the line is computed (fast path or engine), and
    how long that takes. With --pipeline as well, only the destinations that take this key; it is a
    mistake if none does.

    With --conformance some 40 small objects and two of over 10 MiB are written into each bucket,
    below a destination's prefix under stream-app-conformance-RANDOM/, to find out what its server
    does: conditional writes, also of several writers at once, checksums, uploads that are cut, and
    options that are dropped. They are removed where S3 allows it.

    With --json each line is a document of the kind mistake, trial, kafka, destination,
    conformance, expression or summary.

    \b
    Examples:
      stream-app check --config production.toml
      stream-app check --offline --event events.ndjson --pipeline orders
      stream-app check --conformance
      stream-app check --json | jq 'select(.kind == "destination" and .writable == false)'
      echo '{"body": {"id": 7}}' | stream-app check --event - --expression '$event.body.id + 1'
    """
    if expression is not None:
        source = context.get_parameter_source("config")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--expression needs no --config; leave one of them out")
    if conformance and (offline or expression is not None):
        other = "--offline" if offline else "--expression"
        raise click.UsageError(
            f"--conformance asks S3, and {other} does not; leave one of them out"
        )
    if pipeline is not None and (events is None or expression is not None):
        raise click.UsageError("--pipeline is the key of --event, tried on a configuration")
    from stream_app.cli.check_report import new_report

    report = new_report(as_json=as_json)
    try:
        if expression is not None:
            return _check_expression(report, expression, events)
        return _check_configuration(
            report, config, events, pipeline, offline=offline, conformance=conformance
        )
    except ConfigurationError as error:
        report.mistakes(error.mistakes)
        return STATUS_WRONG


def _check_configuration(
    report: "Report",
    config: str,
    events: str | None,
    pipeline: str | None,
    *,
    offline: bool,
    conformance: bool,
) -> int:
    from stream_app.core.router import compile_payloads

    settings = load_settings(config)
    expressions = compile_payloads(settings)
    if events is not None:
        from stream_app.expressions.trial import Subject

        subjects = [
            Subject(destination.id, pipeline or destination.pipeline, compiled)
            for destination, compiled in zip(settings.destinations, expressions, strict=True)
            if pipeline is None or destination.pipeline in (None, pipeline)
        ]
        if not subjects and pipeline is not None:
            from stream_app.core.pipeline_names import PipelineNames

            names = PipelineNames(destination.pipeline for destination in settings.destinations)
            raise ConfigurationError([f"{settings.name}: {names.unmatched(pipeline.encode())}"])
        _try(report, subjects, events, settings.kafka.events_topic)
    kafka = checks = None
    if not offline:
        with report.checking(settings, "Kafka, and S3"):
            kafka, checks = asyncio.run(_check_servers(settings))
    report.kafka(kafka)
    report.destinations(settings, expressions, checks)
    results = None
    if conformance:
        from stream_app.s3.conformance import check_conformance

        with report.checking(settings, "S3"):
            results = asyncio.run(check_conformance(settings))
        report.conformance(results)
    return report.summary(settings, kafka, checks, results)


async def _check_servers(
    settings: "Settings",
) -> tuple["Sequence[ResourceCheck]", "Sequence[BucketCheck]"]:
    from stream_app.kafka.cluster_check import check_kafka
    from stream_app.s3.access_check import check_buckets

    return await asyncio.gather(check_kafka(settings), check_buckets(settings))


def _check_expression(report: "Report", text: str, events: str | None) -> int:
    from stream_app.config.settings import Kafka
    from stream_app.core.router import compile_payload
    from stream_app.expressions.trial import EXPRESSION_NAME, Subject

    compiled = compile_payload(text, "--expression")
    if events is not None:
        subject = Subject(EXPRESSION_NAME, None, compiled)
        _try(report, [subject], events, Kafka().events_topic)
    report.no_mistakes("--expression", compiled)
    return STATUS_DONE


def _try(report: "Report", subjects: "Sequence[Subject]", events: str, topic: str) -> None:
    from stream_app.expressions.trial import try_events

    values = read_events(events)
    now = time.time()
    for subject in subjects:
        report.subject(subject)
        for trial in try_events(subject, values, topic=topic, now=now, timer=time.perf_counter):
            report.trial(trial)


def read_events(name: str) -> list[bytes]:
    """Return the events of a file: one JSON value, or one on each line.

    A line that is not JSON is an event too, and will fail as it would in a worker.

    Args:
        name: Name of the file; `-` is standard input.

    Raises:
        ConfigurationError: The file cannot be read, is too long, or has no JSON at all.
    """
    from stream_app.records import event_mistake

    shown = "standard input" if name == STANDARD_INPUT else name
    try:
        if name == STANDARD_INPUT:
            content = sys.stdin.buffer.read(EVENTS_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(EVENTS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError([f"{shown}: cannot be read: {error.strerror}"]) from error
    if len(content) > EVENTS_BYTES_MAX:
        raise ConfigurationError(
            [f"{shown}: longer than {EVENTS_BYTES_MAX} bytes; try some of its events"]
        )
    content = content.strip()
    if not content:
        raise ConfigurationError([f"{shown}: no event found; write one JSON value, or NDJSON"])
    mistake = event_mistake(content)
    if mistake is None:
        return [content]
    events = [line for part in content.split(b"\n") if (line := part.strip())]
    if len(events) > 1 and all(map(event_mistake, events)):
        raise ConfigurationError([f"{shown}: {mistake}"])
    return events
