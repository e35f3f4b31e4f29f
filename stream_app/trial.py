"""Trying payload expressions on events from a file: what a worker would write, and how fast.

An event is tried as a worker would meet it: as the value of a record, here one that came just now,
to partition 0 of the events topic, with the destination's pipeline as its key and the event's
number as its offset.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from stream_app.errors import ConfigurationError
from stream_app.events import event_mistake
from stream_app.excerpt import excerpt
from stream_app.expressions import TP, Expression, Failure

EVENTS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of the file: it is read whole, to see whether it is one event or many."""
COPIES: Final = 20
"""Records of one timing: a worker asks about hundreds at once, and so few cost no patience."""
SLOW_SECONDS: Final = 0.05
"""What takes longer is timed by its first evaluation, which may make a realm."""
STANDARD_INPUT: Final = "-"
EXPRESSION_NAME: Final = "expression"
"""Stands for the destination of an expression that no configuration names."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A record as `expressions.Record` wants it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Subject(NamedTuple):
    """A destination's expression, to be tried."""

    destination: str
    pipeline: str | None
    expression: Expression


@dataclass(frozen=True, slots=True)
class Trial:
    """What one expression gives for one event."""

    destination: str
    event: int
    """Its number in the file, from 0."""
    outcome: str
    """`delivered`, `skipped` or `failed`."""
    line: str | None
    """Exactly what would be written, but for the line end."""
    path: str
    """`fast` or `engine`."""
    error: str | None
    microseconds: float
    place: str | None
    """Two lines that show where it threw."""

    def document(self) -> dict[str, object]:
        """Return it as JSON types."""
        return {
            "destination": self.destination,
            "event": self.event,
            "outcome": self.outcome,
            "line": self.line,
            "path": self.path,
            "error": self.error,
            "microseconds": self.microseconds,
        }


def read_events(name: str) -> list[bytes]:
    """Return the events of a file (`-`: standard input): one JSON value, or one on each line.

    A line that is not JSON is an event too, and will fail as it would in a worker.

    Raises:
        ConfigurationError: The file cannot be read, is too long, or has no JSON at all.
    """
    shown = "standard input" if name == STANDARD_INPUT else name
    try:
        if name == STANDARD_INPUT:
            content = sys.stdin.buffer.read(EVENTS_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(EVENTS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError([f"{shown}: it cannot be read: {error.strerror}"]) from error
    if len(content) > EVENTS_BYTES_MAX:
        raise ConfigurationError(
            [f"{shown}: it is longer than {EVENTS_BYTES_MAX} bytes; try some of its events"]
        )
    content = content.strip()
    if not content:
        raise ConfigurationError([f"{shown}: it holds no event; write one JSON value, or NDJSON"])
    mistake = event_mistake(content)
    if mistake is None:
        return [content]
    events = [line for part in content.split(b"\n") if (line := part.strip())]
    if len(events) > 1 and all(map(event_mistake, events)):
        raise ConfigurationError([f"{shown}: {mistake}"])
    return events


def try_events(
    subject: Subject, events: Sequence[bytes], *, topic: str, now: float
) -> Iterator[Trial]:
    """Evaluate one expression over each event.

    Args:
        subject: What is tried.
        events: The records' values.
        topic: Of the records.
        now: Their time, in seconds since 1970.
    """
    key = None if subject.pipeline is None else subject.pipeline.encode()
    expression, source = subject.expression, TP(topic, 0)
    for number, event in enumerate(events):
        record = Sample(number, int(now * 1000), key, event)
        started = time.perf_counter()
        (outcome,) = expression.evaluate([record], subject.destination, source)
        seconds = time.perf_counter() - started
        if seconds < SLOW_SECONDS:
            seconds = _seconds_among_many(subject, record, source)
        line = error = place = None
        if isinstance(outcome, bytes):
            line = outcome.decode()
        elif isinstance(outcome, Failure):
            error = outcome.error
            place = outcome.place and excerpt(expression.text, *outcome.place)
        yield Trial(
            destination=subject.destination,
            event=number,
            outcome="delivered" if line is not None else "failed" if error else "skipped",
            line=line,
            path="fast" if expression.takes_fast_path(record, source) else "engine",
            error=error,
            microseconds=round(seconds * 1e6, 2),
            place=place,
        )


def _seconds_among_many(subject: Subject, record: Sample, source: TP) -> float:
    """Return the time of one evaluation among many, as in a worker."""
    copies = [replace(record) for _ in range(COPIES)]
    started = time.perf_counter()
    subject.expression.evaluate(copies, subject.destination, source)
    return (time.perf_counter() - started) / COPIES
