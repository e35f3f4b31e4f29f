"""The command `stream-app test`: test cases of payload expressions.

Exit status: 0 every case has passed, or was updated · 1 a case has failed, or Kafka refuses or does
not respond · 2 a wrong command line, configuration or case.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.common import (
    STATUS_DONE,
    STATUS_FAILED,
    load_settings,
    unknown_destinations,
    with_config,
)
from stream_app.cli.completion import destination_ids
from stream_app.errors import ConfigurationError

if TYPE_CHECKING:
    from stream_app.config.settings import Destination, Settings
    from stream_app.expressions.cases import Case, Verdict
    from stream_app.expressions.expression import Expression

FORMATS: Final = ("text", "tap", "junit")
EVENTS_MAX: Final = 10_000
SHOWN_MAX: Final = 5
"""Events of a destination whose differences are shown."""
EVENT_BYTES_MAX: Final = 64 * 1024 * 1024


@click.command()
@click.argument(
    "files",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, readable=True),
    metavar="[FILE]...",
)
@click.option(
    "--destination",
    "ids",
    metavar="ID",
    multiple=True,
    shell_complete=destination_ids,
    help="Only cases of this destination; can be given more than once.",
)
@click.option("--update", is_flag=True, help="Write the outcomes into the files as expectations.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How the result is printed.",
)
@click.option(
    "--from-topic",
    "count",
    type=click.IntRange(1, EVENTS_MAX),
    metavar="COUNT",
    help="In place of cases, compare the newest events' lines with those of --against.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="The configuration that runs, for --from-topic.",
)
@with_config
def test(
    config: str,
    files: tuple[str, ...],
    ids: tuple[str, ...],
    *,
    update: bool,
    kind: str,
    count: int | None,
    against: str | None,
) -> int:
    """Test the expressions by the cases beside the configuration.

    The cases of stream_app.toml are in stream_app.test.toml, and those of each file of
    destinations_dir in a file beside it; FILE names others. A case is a table [[cases]] with
    destination, event (JSON) or file, and expect: the line, "skipped", "failed" or "failed: TEXT".
    It is evaluated by a worker's own engine. Destinations without a case are listed.

    With --from-topic the newest events of the topic are evaluated by --config and by --against, and
    the lines that differ are shown. Nothing is written, and no group is joined.

    \b
    Examples:
      stream-app test
      stream-app test --update --destination orders
      stream-app test --format junit >junit.xml
      stream-app test --config changed.toml --against stream_app.toml --from-topic 1000
    """
    if (count is None) != (against is None):
        raise click.UsageError("--from-topic and --against belong together; write both or neither")
    if count is not None and (files or update or kind != FORMATS[0]):
        raise click.UsageError("--from-topic has no cases; leave FILE, --update and --format out")
    settings = load_settings(config)
    unknown = unknown_destinations(settings, ids)
    if unknown:
        raise ConfigurationError(list(unknown.values()))
    if count is not None and against is not None:
        return _compare(settings, load_settings(against), frozenset(ids), count)
    texts = _texts(settings, files)
    verdicts = [
        (file, index, verdict)
        for file, text in texts.items()
        for index, verdict in _verdicts(settings, file, text, frozenset(ids), update=update)
    ]
    if update:
        _update(texts, verdicts)
        return STATUS_DONE
    from stream_app.cli.case_report import report

    tested = {it.case.destination for _, _, it in verdicts}
    wanted = ids or [it.id for it in settings.destinations]
    report([it for _, _, it in verdicts], [it for it in wanted if it not in tested], kind)
    return STATUS_DONE if all(it.is_expected for _, _, it in verdicts) else STATUS_FAILED


def _texts(settings: "Settings", files: Sequence[str]) -> dict[str, str]:
    """Return the texts of the files with cases, by name.

    Raises:
        ConfigurationError: There is none, or one cannot be read.
    """
    from stream_app.config.files import CONFIG_BYTES_MAX

    beside = [_beside(name) for name in (settings.name, *(it for it, _ in settings.origins))]
    names = files or [it for it in dict.fromkeys(beside) if it is not None and Path(it).exists()]
    if not names:
        first = next((it for it in beside if it is not None), "a file of cases")
        raise ConfigurationError([f"{first}: there is no such file; write one, or name another"])
    return {name: _read(Path(name), CONFIG_BYTES_MAX).decode() for name in names}


def _beside(name: str) -> str | None:
    """Return the name of the file with the cases of a configuration file."""
    from stream_app.config.files import TEST_SUFFIX

    end = ".toml"
    return name.removesuffix(end) + TEST_SUFFIX if name.endswith(end) else None


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
        content.decode()
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path}: byte {error.start + 1} is not UTF-8"]) from None
    if len(content) > bytes_max:
        raise ConfigurationError([f"{path}: longer than {bytes_max} bytes; write a shorter one"])
    return content


def _verdicts(
    settings: "Settings", file: str, text: str, ids: frozenset[str], *, update: bool
) -> list[tuple[int, "Verdict"]]:
    """Return the verdicts on a file's cases, each with the case's index.

    Raises:
        ConfigurationError: All mistakes that were found.
    """
    from stream_app.core.router import compile_payload
    from stream_app.expressions.cases import judge, parse_cases

    destinations = {it.id: it for it in settings.destinations}
    mistakes: list[str] = []
    compiled: dict[str, Expression] = {}
    verdicts = []
    for index, case in enumerate(parse_cases(text, file)):
        destination = destinations.get(case.destination)
        mistake = _mistake(settings, case, destination, update=update)
        if mistake is not None or destination is None:
            mistakes.append(f"{case.place}: {mistake}")
            continue
        if ids and case.destination not in ids:
            continue
        try:
            payload = destination.payload
            if payload not in compiled:
                place = f"{settings.name} (id '{destination.id}'): payload"
                compiled[payload] = compile_payload(payload, place)
            event = _event(case, file)
        except ConfigurationError as error:
            mistakes += error.mistakes
            continue
        pipeline = case.pipeline or destination.pipeline
        verdicts.append((index, judge(case, compiled[payload], event, pipeline)))
    if mistakes:
        raise ConfigurationError(mistakes)
    return verdicts


def _mistake(
    settings: "Settings", case: "Case", destination: "Destination | None", *, update: bool
) -> str | None:
    if destination is None:
        (text,) = unknown_destinations(settings, [case.destination]).values()
        return text
    pipelines = (None, destination.pipeline)
    if destination.pipeline is not None and case.pipeline not in pipelines:
        return (
            f"pipeline is '{case.pipeline}', but the destination takes '{destination.pipeline}'; "
            "remove it"
        )
    if case.expect is None and not update:
        return "expect is missing; write it, or run with --update"
    return None


def _event(case: "Case", file: str) -> bytes:
    """Return the event of a case.

    Raises:
        ConfigurationError: Its file cannot be read, or is no event.
    """
    from stream_app.records import event_mistake

    if case.file is None:
        return (case.event or "").encode()
    path = Path(file).parent / case.file
    content = _read(path, EVENT_BYTES_MAX).strip()
    mistake = event_mistake(content)
    if mistake is not None:
        raise ConfigurationError([f"{case.place}: {path}: {mistake}"])
    return content


def _update(texts: Mapping[str, str], verdicts: "Sequence[tuple[str, int, Verdict]]") -> None:
    """Write what was found into the files.

    Raises:
        ConfigurationError: A file cannot be written, or its text cannot be changed.
    """
    from stream_app.expressions.cases import updated

    found: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for file, index, verdict in verdicts:
        if not verdict.is_expected:
            found[file][index] = verdict.found
    changed = {file: updated(texts[file], file, of) for file, of in found.items()}
    for file, text in changed.items():
        try:
            Path(file).write_text(text, "utf-8")
        except OSError as error:
            raise ConfigurationError([f"{file}: cannot be written: {error.strerror}"]) from error
    click.echo(f"expectations written: {sum(map(len, found.values()))}")


def _compare(changed: "Settings", running: "Settings", ids: frozenset[str], count: int) -> int:
    """Show how the lines of real events differ between two configurations."""
    from stream_app.cli.case_report import report_changes
    from stream_app.core.router import compile_payload
    from stream_app.expressions.cases import ChangedLine, changed_lines
    from stream_app.kafka.newest_events import NewestEvent, newest_events
    from stream_app.records import TopicPartition

    before = {it.id: it for it in running.destinations}
    subjects: list[tuple[Destination, Expression, Expression]] = []
    for destination in changed.destinations:
        old = before.get(destination.id)
        if old is None or (ids and destination.id not in ids) or old.payload == destination.payload:
            continue
        compiled = [
            compile_payload(text, f"{it.name} (id '{old.id}'): payload")
            for text, it in ((old.payload, running), (destination.payload, changed))
        ]
        subjects.append((destination, compiled[0], compiled[1]))
    if not subjects:
        click.echo("payloads that differ: 0")
        return STATUS_DONE
    events = asyncio.run(newest_events(changed.kafka, count))
    click.echo(f"payloads that differ: {len(subjects)}; events read: {len(events)}")
    for destination, old_expression, new_expression in subjects:
        by_partition: defaultdict[int, list[NewestEvent]] = defaultdict(list)
        key = None if destination.pipeline is None else destination.pipeline.encode()
        for event in events:
            if key is None or event.record.key == key:
                by_partition[event.partition].append(event)
        found: list[tuple[int, ChangedLine]] = []
        for partition, its in by_partition.items():
            source = TopicPartition(changed.kafka.events_topic, partition)
            records = [it.record for it in its]
            lines = changed_lines(old_expression, new_expression, records, destination.id, source)
            found += [(partition, it) for it in lines]
        report_changes(
            destination.id,
            sum(map(len, by_partition.values())),
            [it for _, it in found[:SHOWN_MAX]],
            [it for it, _ in found],
        )
    return STATUS_DONE
