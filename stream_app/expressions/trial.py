"""Trials of payload expressions on events from a file: outcome, line, path and time.

Each event becomes a record as a worker would fetch it: of the present, in partition 0 of the events
topic, with the destination's pipeline as its key and the event's number as its offset.

Pure: the caller provides the time and the timer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from stream_app.expressions.excerpt import excerpt
from stream_app.expressions.expression import Expression, Failure
from stream_app.records import TopicPartition

COPIES: Final = 20
"""Records of one timing: a worker evaluates hundreds at once; so few take no noticeable time."""
SLOW_SECONDS: Final = 0.05
"""Slower evaluations are timed by the first one, which may include making a realm."""
EXPRESSION_NAME: Final = "expression"
"""Stands for the destination of an expression that is not in a configuration."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Record that is made here, not fetched."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Subject(NamedTuple):
    """Destination and expression of a trial."""

    destination: str
    pipeline: str | None
    expression: Expression


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of one expression for one event."""

    destination: str
    event: int
    """The event's number in the file, from 0."""
    outcome: str
    """`delivered`, `skipped` or `failed`."""
    line: str | None
    """Exactly the line of the object, without its line end."""
    path: str
    """`fast` or `engine`."""
    error: str | None
    microseconds: float
    excerpt: str | None
    """Two lines that show where the expression threw."""

    def document(self) -> dict[str, object]:
        """Return the trial as JSON types."""
        return {
            "destination": self.destination,
            "event": self.event,
            "outcome": self.outcome,
            "line": self.line,
            "path": self.path,
            "error": self.error,
            "microseconds": self.microseconds,
        }


def try_events(
    subject: Subject,
    events: Sequence[bytes],
    *,
    topic: str,
    now: float,
    timer: Callable[[], float],
) -> Iterator[Trial]:
    """Evaluate one expression over each event.

    Args:
        subject: The expression and its destination.
        events: The records' values.
        topic: The records' topic.
        now: The records' timestamp, in seconds since 1970.
        timer: Monotonic clock, in seconds.
    """
    key = None if subject.pipeline is None else subject.pipeline.encode()
    expression, source = subject.expression, TopicPartition(topic, 0)
    for number, event in enumerate(events):
        record = Sample(number, int(now * 1000), key, event)
        started = timer()
        (outcome,) = expression.evaluate([record], subject.destination, source)
        seconds = timer() - started
        if seconds < SLOW_SECONDS:
            seconds = _seconds_in_batch(subject, record, source, timer)
        line = error = shown = None
        if isinstance(outcome, bytes):
            line = outcome.decode()
        elif isinstance(outcome, Failure):
            error = outcome.error
            shown = outcome.position and excerpt(expression.text, *outcome.position)
        yield Trial(
            destination=subject.destination,
            event=number,
            outcome="delivered" if line is not None else "failed" if error else "skipped",
            line=line,
            path="fast" if expression.takes_fast_path(record, source) else "engine",
            error=error,
            microseconds=round(seconds * 1e6, 2),
            excerpt=shown,
        )


def _seconds_in_batch(
    subject: Subject, record: Sample, source: TopicPartition, timer: Callable[[], float]
) -> float:
    """Return the time of one evaluation in a batch, as in a worker."""
    copies = [replace(record) for _ in range(COPIES)]
    started = timer()
    subject.expression.evaluate(copies, subject.destination, source)
    return (timer() - started) / COPIES
