"""Reports of `stream-app check`: lines and a table for people, JSON documents for programs."""

import contextlib
import dataclasses
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from stream_app.cli.common import (
    STATUS_DONE,
    STATUS_FAILED,
    STATUS_WRONG,
    print_document,
    print_error,
)
from stream_app.cli.tables import Cell, Column
from stream_app.cli.terminal import Output
from stream_app.text import counted, printable, printable_json

if TYPE_CHECKING:  # `check --offline` does without the clients, which are slow to import
    from stream_app.config.settings import Settings
    from stream_app.expressions.expression import Expression
    from stream_app.expressions.trial import Subject, Trial
    from stream_app.kafka.cluster_findings import ResourceCheck
    from stream_app.s3.access_check import BucketCheck
    from stream_app.s3.conformance import Conformance

SHOWN_MAX: Final = 100
"""Destinations in a terminal's table; those without rights are shown first."""
REASONS_MAX: Final = 10
"""Reasons for the engine that are shown; those of most destinations come first."""
NAMES_MAX: Final = 3
"""Destinations that are named with a reason."""
EXPRESSION_LENGTH_MAX: Final = 72
OUTCOMES: Final = {
    "delivered": ("✓", "+", "green"),
    "skipped": ("○", "o", "yellow"),
    "failed": ("✗", "x", "bold red"),
}
"""Of each outcome on a terminal: the mark, the mark without Unicode, and the style."""
RIGHTS: Final = {
    True: ("✓", "+", "writable", "green"),
    False: ("✗", "x", "not writable", "bold red"),
    None: ("·", "-", "not checked", "dim"),
}
COLUMNS: Final = (
    Column("DESTINATION"),
    Column("PIPELINE", is_cut=True),
    Column("PAYLOAD"),
    Column("RIGHTS"),
    Column("WHERE", is_cut=True),
)
KAFKA_COLUMNS: Final = (
    Column("KAFKA", is_cut=True),
    Column("RESULT"),
    Column("FOUND", is_cut=True),
)
KAFKA_RESULTS: Final = {
    True: ("✓", "+", "well", "green"),
    False: ("✗", "x", "problem", "bold red"),
    None: ("·", "-", "not all checked", "dim"),
}
DIM: Final = "dim"
RESULTS: Final = {
    "passed": ("✓", "+", "green"),
    "failed": ("✗", "x", "bold red"),
    "noted": ("·", "-", "yellow"),
    "unknown": ("?", "?", "dim"),
}
"""Of each verdict on a terminal: the mark, the mark without Unicode, and the style."""
VERDICT_COLUMNS: Final = (Column("QUESTION"), Column("RESULT"), Column("FOUND"))
_Kafka: TypeAlias = "Sequence[ResourceCheck] | None"
"""The result for each resource; None: Kafka was not asked."""
_Checks: TypeAlias = "Sequence[BucketCheck] | None"
"""The result for each destination; None: S3 was not asked."""
_Results: TypeAlias = "Sequence[Conformance] | None"
"""The result for each server and bucket; None: not asked."""


class Report(Protocol):
    """Report of the findings; its methods are called in this order."""

    def mistakes(self, mistakes: Sequence[str]) -> None:
        """Report mistakes in the configuration or the events; nothing follows."""

    def subject(self, subject: "Subject") -> None:
        """Begin the trials of a destination."""

    def trial(self, trial: "Trial") -> None:
        """Report the result of an expression for an event."""

    def checking(self, settings: "Settings", asked: str) -> AbstractContextManager[None]:
        """Show, for the time of the context, which servers are being asked."""

    def kafka(self, kafka: _Kafka) -> None:
        """Report each resource of Kafka, and whether a worker can use it."""

    def destinations(
        self, settings: "Settings", expressions: "Sequence[Expression]", checks: _Checks
    ) -> None:
        """Report each destination, and whether it can be written."""

    def conformance(self, results: "Sequence[Conformance]") -> None:
        """Report the verdicts on each server."""

    def summary(
        self,
        settings: "Settings",
        kafka: _Kafka,
        checks: _Checks,
        results: _Results,
    ) -> int:
        """Report the result of all checks; return the exit status."""

    def no_mistakes(self, name: str, expression: "Expression") -> None:
        """Report that an expression of no destination compiles; nothing follows."""


def new_report(*, as_json: bool) -> Report:
    """Return a report on standard output, for people or for programs."""
    return _JsonReport() if as_json else _TextReport()


class _TextReport:
    """Lines for people; mistakes and missing rights go to standard error."""

    def __init__(self) -> None:
        self._output = Output(sys.stdout)
        self._has_trials = False

    def mistakes(self, mistakes: Sequence[str]) -> None:
        for mistake in mistakes:
            print_error(mistake)

    def subject(self, subject: "Subject") -> None:
        self._has_trials = True
        text = " ".join(subject.expression.text.split())
        if len(text) > EXPRESSION_LENGTH_MAX:
            text = text[: EXPRESSION_LENGTH_MAX - 1] + "…"
        shown = "".join(it if it.isprintable() else " " for it in text)
        self._output.line(Cell(f"{subject.destination}:", "bold"), Cell(f" {shown}"))

    def trial(self, trial: "Trial") -> None:
        output = self._output
        mark, plain, style = OUTCOMES[trial.outcome]
        output.line(
            Cell(f"  {f'event {trial.event}':<10}"),
            Cell(f"{output.mark(mark, plain)}{trial.outcome:<11}", style),
            Cell(f"{trial.path:<8}{trial.microseconds:>10.1f} µs", DIM),
        )
        if trial.line is not None:
            # The same JSON, escaped so that no terminal takes a part of it for a command.
            output.line(Cell(f"    {printable_json(trial.line)}"))
        if trial.error is not None:
            output.line(Cell(f"    {trial.error}", "red"))
        for line in (trial.excerpt or "").splitlines():
            output.line(Cell(f"    {line}", DIM))

    @contextlib.contextmanager
    def checking(self, settings: "Settings", asked: str) -> Iterator[None]:
        with Output(sys.stderr).status(f"asking {asked} about {_destinations(settings)}"):
            yield

    def kafka(self, kafka: _Kafka) -> None:
        if kafka is None or self._has_trials:
            return
        output, rows = self._output, []
        for it in kafka:
            mark, plain, text, style = KAFKA_RESULTS[_is_well(it)]
            rows.append(
                [
                    Cell(printable(f"{it.resource} {it.name}"), "bold"),
                    Cell(f"{output.mark(mark, plain)}{text}", style),
                    Cell(printable(it.detail)),
                ]
            )
        output.table(KAFKA_COLUMNS, rows)
        output.line()

    def destinations(
        self, settings: "Settings", expressions: "Sequence[Expression]", checks: _Checks
    ) -> None:
        if self._has_trials:
            return  # the user asked for the trials only
        output = self._output
        rows = []
        for index, destination in enumerate(settings.destinations):
            writable = None if checks is None else checks[index].writable
            mark, plain, text, style = RIGHTS[writable]
            pipeline = destination.pipeline
            cells = [
                Cell(destination.id, "bold"),
                Cell("(every)", DIM) if pipeline is None else Cell(printable(pipeline)),
                Cell(path_of(expressions[index])),
                Cell(f"{output.mark(mark, plain)}{text}", style),
                Cell(printable(f"s3://{destination.bucket}/{destination.prefix}")),
            ]
            rows.append((writable is not False, cells))
        hidden = len(rows) - SHOWN_MAX if output.is_terminal else 0
        if hidden > 0:
            rows = sorted(rows, key=lambda row: row[0])[:SHOWN_MAX]
        output.table(COLUMNS, [cells for _, cells in rows])
        if hidden > 0:
            output.line(Cell(f"and {hidden} more", DIM))
        ids = [it.id for it in settings.destinations]
        for line in engine_lines(ids, expressions):
            output.line(Cell(printable(line), DIM))

    def conformance(self, results: "Sequence[Conformance]") -> None:
        output = self._output
        for result in results:
            place = printable(f"{result.endpoint}, s3://{result.bucket}/{result.folder}")
            output.line(Cell(place, "bold"))
            rows = []
            for verdict in result.verdicts:
                mark, plain, style = RESULTS[verdict.result]
                cells = [
                    Cell(verdict.question),
                    Cell(f"{output.mark(mark, plain)}{verdict.result}", style),
                    Cell(printable(verdict.found)),
                ]
                rows.append(cells)
            output.table(VERDICT_COLUMNS, rows)

    def summary(
        self,
        settings: "Settings",
        kafka: _Kafka,
        checks: _Checks,
        results: _Results,
    ) -> int:
        for it in kafka or ():
            for note in it.notes:
                print_error(f"stream-app: note: {note}")
            for what in it.unchecked:
                print_error(f"stream-app: not checked: {what}")
        # A problem that several destinations share names them all: printed once.
        lines = [it.problems for it in kafka or ()] + [it.problems for it in checks or ()]
        problems = dict.fromkeys(problem for it in lines for problem in it)
        for problem in problems:
            print_error(f"stream-app: {problem}")
        faults = [line for it in results or () for line in it.faults()]
        for fault in faults:
            print_error(f"stream-app: {fault}")
        if problems or faults:
            return STATUS_FAILED
        can = "" if checks is None else _can(checks)
        self._done(
            f"{settings.name}: no mistakes; {_destinations(settings)}{can}{_kafka_text(kafka)}"
        )
        return STATUS_DONE

    def no_mistakes(self, name: str, expression: "Expression") -> None:
        if not self._has_trials:
            self._done(printable(f"{name}: no mistakes; {way_of(expression)}"))

    def _done(self, text: str) -> None:
        self._output.line(Cell(self._output.mark("✓", "+"), "green"), Cell(text))


class _JsonReport:
    """JSON documents for programs, one on each line, each with its `kind`."""

    def mistakes(self, mistakes: Sequence[str]) -> None:
        for mistake in mistakes:
            message, *excerpt = mistake.split("\n")
            print_document({"kind": "mistake", "message": message, "excerpt": excerpt})
        _print_summary(STATUS_WRONG, mistakes=len(mistakes))

    def subject(self, subject: "Subject") -> None:
        pass  # each trial names its subject

    def trial(self, trial: "Trial") -> None:
        print_document({"kind": "trial", **trial.document()})

    def checking(self, settings: "Settings", asked: str) -> AbstractContextManager[None]:
        del settings, asked
        return contextlib.nullcontext()

    def kafka(self, kafka: _Kafka) -> None:
        for it in kafka or ():
            print_document({"kind": "kafka", **dataclasses.asdict(it)})

    def destinations(
        self, settings: "Settings", expressions: "Sequence[Expression]", checks: _Checks
    ) -> None:
        for index, destination in enumerate(settings.destinations):
            check = None if checks is None else checks[index]
            print_document(
                {
                    "kind": "destination",
                    "destination": destination.id,
                    "pipeline": destination.pipeline,
                    "bucket": destination.bucket,
                    "prefix": destination.prefix,
                    "path": path_of(expressions[index]),
                    "reason": expressions[index].reason,
                    "writable": None if check is None else check.writable,
                    "problems": () if check is None else check.problems,
                }
            )

    def conformance(self, results: "Sequence[Conformance]") -> None:
        for result in results:
            for verdict in result.verdicts:
                print_document(
                    {
                        "kind": "conformance",
                        "endpoint": result.endpoint,
                        "bucket": result.bucket,
                        "folder": result.folder,
                        "destinations": result.destinations,
                        **verdict.document(),
                    }
                )

    def summary(
        self,
        settings: "Settings",
        kafka: _Kafka,
        checks: _Checks,
        results: _Results,
    ) -> int:
        count = len(settings.destinations)
        writable = None if checks is None else sum(it.writable is True for it in checks)
        has_faults = any(it.faults() for it in results or ())
        problems = None if kafka is None else sum(len(it.problems) for it in kafka)
        is_refused = any(it.writable is False for it in checks or ())
        is_well = not (is_refused or problems or has_faults)
        status = STATUS_DONE if is_well else STATUS_FAILED
        _print_summary(status, destinations=count, writable=writable, kafka_problems=problems)
        return status

    def no_mistakes(self, name: str, expression: "Expression") -> None:
        document = {"path": path_of(expression), "reason": expression.reason}
        print_document({"kind": "expression", "name": name, **document})
        _print_summary(STATUS_DONE)


def path_of(expression: "Expression") -> str:
    """Return how an expression is evaluated where each of its paths has a value."""
    return "engine" if expression.uses_engine else "fast"


def way_of(expression: "Expression") -> str:
    """Return how an expression is evaluated, and why."""
    return "fast path" if expression.reason is None else f"engine: {expression.reason}"


def engine_lines(ids: Sequence[str], expressions: "Sequence[Expression]") -> list[str]:
    """Return a line for each reason why expressions need the engine, as many as are readable.

    Args:
        ids: Those of the destinations.
        expressions: In the same order.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for destination, expression in zip(ids, expressions, strict=True):
        if expression.reason is not None:
            names[way_of(expression)].append(destination)
    ways = sorted(names, key=lambda it: -len(names[it]))
    lines = []
    for way in ways[:REASONS_MAX]:
        ids = names[way]
        more = f" and {len(ids) - NAMES_MAX} more" if len(ids) > NAMES_MAX else ""
        lines.append(f"{way} ({', '.join(ids[:NAMES_MAX])}{more})")
    rest = ways[REASONS_MAX:]
    if rest:
        count = sum(len(names[it]) for it in rest)
        lines.append(f"engine: {len(rest)} more reasons ({counted(count, 'destination')})")
    return lines


def _destinations(settings: "Settings") -> str:
    return counted(len(settings.destinations), "destination")


def _can(checks: "Sequence[BucketCheck]") -> str:
    """Return what the last line of a check without problems says of S3."""
    tried = sum(it.is_tried for it in checks)
    if tried == len(checks):
        return ", all can be written"
    return f", {tried} of them were tried and can be written"


def _is_well(check: "ResourceCheck") -> bool | None:
    """Return whether a resource is well; None: not all of it was looked at."""
    if check.problems:
        return False
    return None if check.unchecked else True


def _kafka_text(kafka: _Kafka) -> str:
    """Return what the last line of a check without problems says of Kafka."""
    if kafka is None:
        return ""
    if any(it.unchecked for it in kafka):
        return "; Kafka responds, not all of it was checked"
    return "; Kafka has what a worker needs"


def _print_summary(
    status: int,
    *,
    mistakes: int = 0,
    destinations: int | None = None,
    writable: int | None = None,
    kafka_problems: int | None = None,
) -> None:
    print_document(
        {
            "kind": "summary",
            "mistakes": mistakes,
            "destinations": destinations,
            "writable": writable,
            "kafka_problems": kafka_problems,
            "status": status,
        }
    )
