"""Payload expressions: from the records of one destination to the lines that it is sent.

An expression is any JavaScript expression over `$event`, the record's JSON. Two ways evaluate it:

- the *fast path*, for plain paths (`$event.body`, `$event.a["x-y"]`) and object literals of plain
  paths: it slices the record's own bytes, some 1 us an event;
- the *engine*, for everything else, and for every record where the fast path finds no value.

There is one semantics, the engine's. The fast path only counts when each of its paths leads to a
value, so that `undefined`, a `TypeError` or `.length` of a string are the engine's to decide. What
remains different is spelling: a slice keeps the record's numbers, key order and duplicate keys as
they are, where JavaScript writes its own (`docs/expressions.md` lists them).

Pure: no clock, no I/O; safe to call from several threads at once.
"""

import enum
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, cast

import msgspec

from stream_app.engine import Answer, Engine, Event, Place, Program, Question, Thrown
from stream_app.errors import ExpressionError
from stream_app.slices import (
    NOT_EACH_LINE,
    PAYLOAD_BYTES_MAX,
    Cut,
    TooLargeError,
    compile_slices,
)

TEXT_LENGTH_MAX: Final = 65_536
"""Characters of one expression."""
ERROR_LENGTH_MAX: Final = 200
"""Characters of a failure's text: it is copied into a receipt for every failed event."""

_ENGINE: Final = Engine()


class TP(NamedTuple):
    """A partition of a topic; equal to the tuples that Faust and aiokafka use."""

    topic: str
    partition: int


class Record(Protocol):
    """What is read of a Kafka record; all records that aiokafka makes are such."""

    @property
    def offset(self) -> int:
        """Number within the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970; -1 if the record has none."""

    @property
    def key(self) -> bytes | None:
        """The pipeline."""

    @property
    def value(self) -> bytes | None:
        """The event as JSON; None for a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Names may repeat."""


class Skip(enum.Enum):
    """The outcome of an event that the destination is not sent."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an event that has no payload."""

    record: str
    """The record's name, `topic/partition@offset`."""
    error: str
    """One line for the receipt; it ends with the place, where there is one."""
    place: Place | None = None
    """Where in the expression it was thrown."""


Outcome = bytes | Literal[Skip.SKIP] | Failure
"""A line (JSON, UTF-8, no line break inside or at its end), skipped, or failed."""


def compile_expression(text: str, *, engine: Engine = _ENGINE) -> "Expression":
    """Check and compile; raises ExpressionError with the engine's message and the place."""
    if len(text) > TEXT_LENGTH_MAX:
        raise ExpressionError(
            f"the expression has {len(text)} characters; use at most {TEXT_LENGTH_MAX}"
        )
    if not text.strip():
        raise ExpressionError("the expression is empty; use $event to deliver the whole event")
    if _UNUSABLE.search(text):
        raise ExpressionError("the expression holds a NUL or half a surrogate pair; remove it")
    problem = engine.check(text)
    if problem is not None:
        place = f"at {problem.place or 'its end'}"
        hint = _STATEMENT_HINT if _STATEMENT.search(text) else ""
        message = f"{problem.message}, {place}{hint}"
        raise ExpressionError(message, problem.place or _end(text))
    return Expression(text, Program(text), _compile_fast_path(text), engine)


def _end(text: str) -> Place:
    lines = text.split("\n")
    return Place(len(lines), len(lines[-1]) + 1)


_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")
_STATEMENT: Final = re.compile(
    r"\A\s*(?:break|const|continue|debugger|do|for|if|let|return|switch|throw|try|var|while|with)\b"
    r"|;\s*\Z"
)
_STATEMENT_HINT: Final = (
    "; write an expression, not a statement: no `return`, no `;` at the end, "
    "`a ? b : undefined` for an `if`"
)


class Expression:
    """A compiled payload expression; made by `compile_expression`."""

    def __init__(
        self, text: str, program: Program, fast_path: "_FastPath | None", engine: Engine
    ) -> None:
        self.text = text
        self.program = program
        self.fast_path = fast_path
        self.engine = engine
        # An escape could spell it, and so could a text given to `eval`.
        self.needs_context = re.search(r"\$context|\\u|\beval\b", text) is not None

    @property
    def uses_engine(self) -> bool:
        """False when records in which every path finds a value never enter the engine."""
        return self.fast_path is None

    def evaluate(self, records: Sequence[Record], destination: str, source: TP) -> list[Outcome]:
        """Return the outcome of each record, in order; bad data is an outcome, never raised."""
        return evaluate([Route(self, destination, records)], source)[0]

    def takes_fast_path(self, record: Record, source: TP) -> bool:
        """Say whether the engine is not asked about this record."""
        return self.fast_path is not None and not self.fast_path([record], source)[1]


class Route(NamedTuple):
    """The records that one destination matches."""

    expression: Expression
    destination: str
    """Its id."""
    records: Sequence[Record]


def evaluate(routes: Sequence[Route], source: TP) -> list[list[Outcome]]:
    """Return the outcomes of each route, in the order of its records, all of one partition.

    Bad data is an outcome, never raised. All expressions are of one engine. A record's event is
    parsed once for all routes that hold that very record and need it whole.
    """
    outcomes: list[list[Outcome | None]] = []
    # By record: the routes that ask about it, each with its index there and where to answer.
    asked: defaultdict[int, list[tuple[Route, int, list[Outcome | None]]]] = defaultdict(list)
    for route in routes:
        slices = route.expression.fast_path
        answers: list[Outcome | None] = [None] * len(route.records)
        missed: Sequence[int] = range(len(answers))
        if slices is not None:
            answers, missed = slices(route.records, source)
        outcomes.append(answers)
        for index in missed:
            asked[id(route.records[index])].append((route, index, answers))
    if asked:
        with routes[0].expression.engine.session() as session:
            for askers in asked.values():
                route, index, answers = askers[0]
                record = route.records[index]
                event = _event(record, source)
                if isinstance(event, Event) and len(askers) == 1:  # The usual case, so a quick one.
                    answer = session.ask_one(event, *_question(route, record, source))
                    answers[index] = _outcome(event.name, answer)
                    continue
                decided: Sequence[Outcome]
                if isinstance(event, Event):
                    questions = [Question(*_question(it, record, source)) for it, _, _ in askers]
                    decided = [_outcome(event.name, it) for it in session.ask(event, questions)]
                else:
                    decided = [event] * len(askers)
                for (_, index, answers), outcome in zip(askers, decided, strict=True):
                    answers[index] = outcome
    return cast("list[list[Outcome]]", outcomes)


def _event(record: Record, source: TP) -> Event | Literal[Skip.SKIP] | Failure:
    """Return the event, or the outcome of a record that has none."""
    if record.value is None:
        return SKIP
    name = _name(record, source)
    try:
        return Event(record.value.decode(), float(record.timestamp), name)
    except UnicodeDecodeError as error:
        # The engine words everything else that is not JSON, after the same beginning.
        return _failure(name, f"the record's value is not JSON: not UTF-8 at byte {error.start}")


def _question(route: Route, record: Record, source: TP) -> tuple[Program, str | None]:
    expression = route.expression
    context = _context(record, source, route.destination) if expression.needs_context else None
    return expression.program, context


def _name(record: Record, source: TP) -> str:
    return f"{source.topic}/{source.partition}@{record.offset}"


def _outcome(name: str, answer: Answer) -> Outcome:
    if answer is None:
        return SKIP
    if isinstance(answer, Thrown):
        return _failure(name, answer.message, answer.place)
    line = answer.encode()
    return line if len(line) <= PAYLOAD_BYTES_MAX else _too_large(name, line)


def _too_large(name: str, line: bytes) -> Failure:
    return _failure(
        name,
        f"the payload has {len(line)} bytes; at most {PAYLOAD_BYTES_MAX} are delivered: "
        "choose fewer fields",
    )


def _failure(name: str, message: str, place: Place | None = None) -> Failure:
    """Return a failure whose text is one line of at most ERROR_LENGTH_MAX characters."""
    ending = "" if place is None else f", at {place}"
    room = ERROR_LENGTH_MAX - len(ending)
    message = message if message.strip() else "an exception without a text"
    shown = (it if it.isprintable() else " " for it in message[: 2 * ERROR_LENGTH_MAX])
    text = " ".join("".join(shown).split())
    return Failure(name, (text if len(text) <= room else text[: room - 1] + "…") + ending, place)


def _context(record: Record, source: TP, destination: str) -> str:
    """Return `$context` as JSON text, but for the timestamp, which the engine writes."""
    return msgspec.json.encode(
        {
            "topic": source.topic,
            "partition": source.partition,
            "offset": record.offset,
            "pipeline": _text(record.key),
            "headers": {name: _text(value) for name, value in record.headers},
            "destination": destination,
        }
    ).decode()


def _text(value: bytes | None) -> str | None:
    # Keys and headers are bytes of any kind; what is no UTF-8 shows as U+FFFD.
    return None if value is None else value.decode(errors="replace")


_FastPath = Callable[[Sequence[Record], TP], "tuple[list[Outcome | None], list[int]]"]
"""Outcomes in order, and the indexes of those that are missing (None): where a path finds no value,
or the value is not plain JSON."""
_RUN: Final = 64
"""Values that are cut in one go: if one of them has no line, so many are cut one by one."""


def _compile_fast_path(text: str) -> _FastPath | None:
    """Return the fast path of an expression that the engine accepts, or None if it has none."""
    cut = compile_slices(text)
    if cut is None:
        return None

    def evaluate(records: Sequence[Record], source: TP) -> tuple[list[Outcome | None], list[int]]:
        outcomes: list[Outcome | None] = []
        missed: list[int] = []
        for start in range(0, len(records), _RUN):
            run = records[start : start + _RUN]
            values = [record.value for record in run]
            try:
                outcomes += cut(values)
            except NOT_EACH_LINE:
                for place, value in enumerate(values, start):
                    outcomes.append(_cut_one(cut, value, records[place], source))
                    if outcomes[-1] is None:
                        missed.append(place)
        return outcomes, missed

    return evaluate


def _cut_one(cut: Cut, value: bytes | None, record: Record, source: TP) -> Outcome | None:
    """Return the line of a value, or what else comes of it; None if the engine is to say."""
    if value is None:
        return SKIP
    try:
        (line,) = cut([value])
    except TooLargeError as error:
        return _too_large(_name(record, source), error.line)
    except NOT_EACH_LINE:
        return None
    return line
