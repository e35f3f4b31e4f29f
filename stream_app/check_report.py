"""What `stream-app check` finds: lines and a table for people, JSON documents for machines."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from stream_app.cli_shared import complain, print_document
from stream_app.exits import STATUS_DONE, STATUS_FAILED, STATUS_WRONG
from stream_app.printable import printable, printable_json
from stream_app.screen import Screen
from stream_app.tables import Cell, Column

if TYPE_CHECKING:  # who does not ask S3 need not wait for its client
    from stream_app.expressions import Expression
    from stream_app.rights import BucketCheck
    from stream_app.settings import Settings
    from stream_app.trial import Subject, Trial

SHOWN_MAX: Final = 100
"""Destinations in a terminal's table; those that cannot be written are the last to be left out."""
EXPRESSION_LENGTH_MAX: Final = 72
OUTCOMES: Final = {
    "delivered": ("✓", "+", "green"),
    "skipped": ("○", "o", "yellow"),
    "failed": ("✗", "x", "bold red"),
}
"""How an outcome looks on a terminal: its mark, one without Unicode, and its style."""
RIGHTS: Final = {
    True: ("✓", "+", "writable", "green"),
    False: ("✗", "x", "not writable", "bold red"),
    None: ("·", "-", "not asked", "dim"),
}
COLUMNS: Final = (
    Column("DESTINATION"),
    Column("PIPELINE", is_cut=True),
    Column("PAYLOAD"),
    Column("RIGHTS"),
    Column("WHERE", is_cut=True),
)
DIM: Final = "dim"
_Checks: TypeAlias = "Sequence[BucketCheck] | None"
"""What S3 answered for each destination; None: it was not asked."""


class Report(Protocol):
    """Where `check` says what it finds, in this order."""

    def mistakes(self, mistakes: Sequence[str]) -> None:
        """Tell what is wrong with the configuration or the events; nothing follows."""

    def subject(self, subject: "Subject") -> None:
        """Begin with the trials of a destination."""

    def trial(self, trial: "Trial") -> None:
        """Tell what an expression gives for an event."""

    def asking(self, settings: "Settings") -> AbstractContextManager[None]:
        """Say that S3 is being asked."""

    def destinations(
        self, settings: "Settings", expressions: "Sequence[Expression]", checks: _Checks
    ) -> None:
        """Tell of each destination what it is, and whether it can be written."""

    def summary(self, config: str, settings: "Settings", checks: _Checks) -> int:
        """Tell what it comes to; return the exit status."""

    def no_mistakes(self, name: str) -> None:
        """Tell that an expression of no destination compiles; nothing follows."""


def new_report(*, as_json: bool) -> Report:
    """Return a report to standard output: for people, or JSON for machines."""
    return _Documents() if as_json else _Lines()


class _Lines:
    """For people; what is amiss goes to standard error."""

    def __init__(self) -> None:
        self._screen = Screen(sys.stdout)
        self._has_trials = False

    def mistakes(self, mistakes: Sequence[str]) -> None:
        for mistake in mistakes:
            complain(mistake)

    def subject(self, subject: "Subject") -> None:
        self._has_trials = True
        text = " ".join(subject.expression.text.split())
        if len(text) > EXPRESSION_LENGTH_MAX:
            text = text[: EXPRESSION_LENGTH_MAX - 1] + "…"
        shown = "".join(it if it.isprintable() else " " for it in text)
        self._screen.line(Cell(f"{subject.destination}:", "bold"), Cell(f" {shown}"))

    def trial(self, trial: "Trial") -> None:
        screen = self._screen
        mark, plain, style = OUTCOMES[trial.outcome]
        screen.line(
            Cell(f"  {f'event {trial.event}':<10}"),
            Cell(f"{screen.mark(mark, plain)}{trial.outcome:<11}", style),
            Cell(f"{trial.path:<8}{trial.microseconds:>10.1f} µs", DIM),
        )
        if trial.line is not None:
            # By JSON's escapes it is the same JSON, and no terminal takes it for commands.
            screen.line(Cell(f"    {printable_json(trial.line)}"))
        if trial.error is not None:
            screen.line(Cell(f"    {trial.error}", "red"))
        for line in (trial.place or "").splitlines():
            screen.line(Cell(f"    {line}", DIM))

    @contextlib.contextmanager
    def asking(self, settings: "Settings") -> Iterator[None]:
        with Screen(sys.stderr).busy(f"asking S3 about {_count(settings)}"):
            yield

    def destinations(
        self, settings: "Settings", expressions: "Sequence[Expression]", checks: _Checks
    ) -> None:
        if self._has_trials:
            return  # They are what was asked for.
        screen = self._screen
        rows = []
        for index, destination in enumerate(settings.destinations):
            writable = None if checks is None else not checks[index].problems
            mark, plain, text, style = RIGHTS[writable]
            pipeline = destination.pipeline
            cells = [
                Cell(destination.id, "bold"),
                Cell("(every)", DIM) if pipeline is None else Cell(printable(pipeline)),
                Cell(path_of(expressions[index])),
                Cell(f"{screen.mark(mark, plain)}{text}", style),
                Cell(printable(f"s3://{destination.bucket}/{destination.prefix}")),
            ]
            rows.append((writable is not False, cells))
        left_out = len(rows) - SHOWN_MAX if screen.is_terminal else 0
        if left_out > 0:
            rows = sorted(rows, key=lambda row: row[0])[:SHOWN_MAX]
        screen.table(COLUMNS, [cells for _, cells in rows])
        if left_out > 0:
            screen.line(Cell(f"and {left_out} more", DIM))

    def summary(self, config: str, settings: "Settings", checks: _Checks) -> int:
        # One and the same for several destinations is said once: it names them.
        problems = dict.fromkeys(problem for it in checks or () for problem in it.problems)
        for problem in problems:
            complain(f"stream-app: {problem}")
        if problems:
            return STATUS_FAILED
        can = "" if checks is None else ", all can be written"
        self._done(f"{config}: no mistakes; {_count(settings)}{can}")
        return STATUS_DONE

    def no_mistakes(self, name: str) -> None:
        if not self._has_trials:
            self._done(f"{name}: no mistakes")

    def _done(self, text: str) -> None:
        self._screen.line(Cell(self._screen.mark("✓", "+"), "green"), Cell(text))


class _Documents:
    """For machines: a JSON document on each line, each of a `kind`."""

    def mistakes(self, mistakes: Sequence[str]) -> None:
        for mistake in mistakes:
            message, *excerpt = mistake.split("\n")
            print_document({"kind": "mistake", "message": message, "excerpt": excerpt})
        _print_summary(STATUS_WRONG, mistakes=len(mistakes))

    def subject(self, subject: "Subject") -> None:
        pass  # Each trial names its own.

    def trial(self, trial: "Trial") -> None:
        print_document({"kind": "trial", **trial.document()})

    def asking(self, settings: "Settings") -> AbstractContextManager[None]:
        del settings
        return contextlib.nullcontext()

    def destinations(
        self, settings: "Settings", expressions: "Sequence[Expression]", checks: _Checks
    ) -> None:
        for index, destination in enumerate(settings.destinations):
            problems = None if checks is None else checks[index].problems
            print_document(
                {
                    "kind": "destination",
                    "destination": destination.id,
                    "pipeline": destination.pipeline,
                    "bucket": destination.bucket,
                    "prefix": destination.prefix,
                    "path": path_of(expressions[index]),
                    "writable": None if problems is None else not problems,
                    "problems": problems or (),
                }
            )

    def summary(self, config: str, settings: "Settings", checks: _Checks) -> int:
        del config
        count = len(settings.destinations)
        writable = None if checks is None else sum(not it.problems for it in checks)
        status = STATUS_DONE if writable in {None, count} else STATUS_FAILED
        _print_summary(status, destinations=count, writable=writable)
        return status

    def no_mistakes(self, name: str) -> None:
        del name
        _print_summary(STATUS_DONE)


def path_of(expression: "Expression") -> str:
    """Return the way an expression takes: `fast` where every path finds a value, or `engine`."""
    return "engine" if expression.uses_engine else "fast"


def _count(settings: "Settings") -> str:
    count = len(settings.destinations)
    return f"{count} destination{'' if count == 1 else 's'}"


def _print_summary(
    status: int, *, mistakes: int = 0, destinations: int | None = None, writable: int | None = None
) -> None:
    print_document(
        {
            "kind": "summary",
            "mistakes": mistakes,
            "destinations": destinations,
            "writable": writable,
            "status": status,
        }
    )
