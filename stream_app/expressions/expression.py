"""Payload expressions: from the records that a destination matches to the lines of its objects.

An expression is any JavaScript expression over `$event`, the record's JSON. Two paths evaluate it:

- the *fast path*, for plain paths (`$event.body`, `$event.a["x-y"]`), object literals of plain
  paths, and filters of both: it slices the record's own bytes, some 1 us an event;
- the *engine*, for everything else, and for every record where the fast path cannot decide.

There is one semantics, the engine's. A path that is more than a walk through own properties, such
as `.length` of a string, or that leads to a `TypeError`, is for the engine to decide; the other
paths' slices are then put into the engine's line. So the bytes of a value depend on the expression,
never on the event's other fields. A slice keeps the record's numbers, key order and duplicate keys
as they are; other expressions get JavaScript's own spelling, except for the digits of integers
beyond 2^53 (`docs/expressions.md` lists the differences).

Every line is well-formed Unicode. msgspec rejects an event with half a surrogate pair, so such an
event is the engine's, and U+FFFD replaces the half in its line.

Pure: no clock, no I/O; safe to call from several threads at once.
"""

import contextlib
import enum
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, cast

import msgspec

from stream_app.errors import ExpressionError
from stream_app.expressions.engine import (
    CompiledExpression,
    Engine,
    Evaluation,
    EvaluationResult,
    Event,
    NotFrozen,
    ScriptError,
    Session,
    SourcePosition,
)
from stream_app.expressions.fast_path import (
    CHUNK_ERRORS,
    LINE_BYTES_MAX,
    UNDECIDED_ERRORS,
    FastPath,
)
from stream_app.expressions.integers import integers_of, may_show
from stream_app.expressions.parser import RefusedError
from stream_app.expressions.scanner import Reader, changes_nothing, condition_end, read_paths
from stream_app.records import Record, TopicPartition

EXPRESSION_LENGTH_MAX: Final = 65_536
"""Characters of one expression."""
ERROR_LENGTH_MAX: Final = 200
"""Characters of a failure's text: it is copied into a receipt for every failed event."""

_PROCESS_ENGINE: Final = Engine()
"""Engine of all expressions of a process: routers before and after a reload share its idle realms,
and expressions that are evaluated together must be of one engine."""


class Skip(enum.Enum):
    """Outcome of an event whose payload is `undefined`."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP


@dataclass(frozen=True, slots=True)
class Failure:
    """Outcome of an event whose expression threw, or whose payload is too large."""

    record: str
    """The record's name, `topic/partition@offset`."""
    error: str
    """One line for the receipt; ends with the position, if there is one."""
    position: SourcePosition | None = None
    """Where in the expression it was thrown."""


Outcome = bytes | Literal[Skip.SKIP] | Failure
"""A line (JSON, UTF-8, no line break inside or at the end), a skip, or a failure."""


def compile_expression(text: str, *, engine: Engine = _PROCESS_ENGINE) -> "Expression":
    """Check and compile an expression.

    Raises:
        ExpressionError: It does not compile; with the engine's message and the position.
    """
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise ExpressionError(
            f"the expression has {len(text)} characters; use at most {EXPRESSION_LENGTH_MAX}"
        )
    if not text.strip():
        raise ExpressionError("the expression is empty; use $event to deliver the whole event")
    if _UNUSABLE.search(text):
        raise ExpressionError(
            "the expression holds a NUL, half a surrogate pair, or bytes that are no text in this "
            "locale; remove it, or write it in UTF-8 under a UTF-8 locale"
        )
    problem = engine.check(text)
    if problem is not None:
        position = f"at {problem.position or 'its end'}"
        hint = _STATEMENT_HINT if _STATEMENT.search(text) else ""
        message = f"{problem.message}, {position}{hint}"
        raise ExpressionError(message, problem.position or _end(text))
    return _compiled(text, engine)


def _compiled(text: str, engine: Engine) -> "Expression":
    compiled = CompiledExpression(text)
    try:
        return Expression(text, compiled, FastPath(text), engine)
    except RefusedError as error:
        reason = error.reason
    end = condition_end(text) if compiled.can_freeze else None
    if end is not None and engine.check(text[:end]) is None:
        with contextlib.suppress(RefusedError):  # The reason is in the condition already.
            return Expression(
                text, compiled, FastPath(text, end), engine, f"its condition {reason}"
            )
    return Expression(text, compiled, None, engine, reason)


def _end(text: str) -> SourcePosition:
    lines = text.split("\n")
    return SourcePosition(len(lines), len(lines[-1]) + 1)


_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")
_HALF_A_PAIR: Final = re.compile(r"(?<!\\)((?:\\\\)*+)\\ud[89a-f][0-9a-f]{2}")
"""Its escape by `JSON.stringify`, which writes whole pairs as they are; a backslash that is escaped
itself begins none."""
_STATEMENT: Final = re.compile(
    r"\A\s*(?:break|const|continue|debugger|do|for|if|let|return|switch|throw|try|var|while|with)\b"
    r"|;\s*\Z"
)
_STATEMENT_HINT: Final = (
    "; write an expression, not a statement: no `return`, no `;` at the end, "
    "`a ? b : undefined` for an `if`"
)


class Expression:
    """Compiled payload expression; made by `compile_expression`."""

    __slots__ = (
        *("_questions", "compiled", "engine", "fast_path", "needs_context", "reason", "text"),
    )

    def __init__(
        self,
        text: str,
        compiled: CompiledExpression,
        fast_path: FastPath | None,
        engine: Engine,
        reason: str | None = None,
    ) -> None:
        self.text = text
        self.compiled = compiled
        self.fast_path = fast_path
        """What needs no engine: the whole of the expression, unless it has a `condition`."""
        self.engine = engine
        self._questions: Questions | None = None
        self.reason = reason
        """Why every record enters the engine; None: none does, but those it has to decide."""
        # An escape could spell it, and so could a text passed to `eval`.
        self.needs_context = re.search(r"\$context|\\u|\beval\b", text) is not None

    @property
    def uses_engine(self) -> bool:
        """Whether every record enters the engine: there is no fast path to try first."""
        return self.fast_path is None or self.fast_path.condition is not None

    @property
    def questions(self) -> "Questions":
        """What the engine is asked, made at the first record that enters it."""
        if self._questions is None:
            self._questions = Questions(self.text, self.fast_path)
        return self._questions

    def evaluate(
        self, records: Sequence[Record], destination: str, source: TopicPartition
    ) -> list[Outcome]:
        """Return the outcome of each record, in order; bad data is an outcome, never raised."""
        return evaluate([Route(self, destination, records)], source)[0]

    def takes_fast_path(self, record: Record, source: TopicPartition) -> bool:
        """Return whether the fast path alone gives the outcome of this record."""
        if self.fast_path is None or self.uses_engine:
            return False
        _, missing = _run_fast_path(self.fast_path, [record], source)
        return not missing


class Questions:
    """What the engine is asked about an expression, other than the expression itself."""

    __slots__ = ("condition", "is_frozen", "reader", "traced")

    def __init__(self, text: str, fast_path: FastPath | None) -> None:
        self.condition: CompiledExpression | None = None
        """The condition that the engine decides, while the rest needs none."""
        self.is_frozen = False
        """Whether the condition needs a frozen event: it might change its own."""
        self.traced: CompiledExpression | None = None
        """The expression for events that the fast path leaves to the engine."""
        asked: str | None = text
        if fast_path is not None:
            self.traced = CompiledExpression(fast_path.traced)
            asked = fast_path.condition
            if asked is not None:
                self.condition = CompiledExpression(f"!(!({asked}\n))")
                self.is_frozen = not changes_nothing(asked)
        paths = None if asked is None else read_paths(asked)
        self.reader = None if paths is None else Reader(paths)
        """Cutter of the part that the engine parses of an event; None: the whole."""


def evaluations() -> int:
    """Return how many evaluations the engine of this process has begun, about."""
    return _PROCESS_ENGINE.evaluations


class Route(NamedTuple):
    """Records that one destination matches."""

    expression: Expression
    destination: str
    """Its id."""
    records: Sequence[Record]


def evaluate(routes: Sequence[Route], source: TopicPartition) -> list[list[Outcome]]:
    """Return the outcomes of each route, in the order of its records, all of one partition.

    Bad data is an outcome, never raised. All expressions are of one engine. A record's event is
    parsed once for all routes that hold that very record and need it whole.
    """
    outcomes: list[list[Outcome | None]] = []
    pending: defaultdict[int, list[_Entry]] = defaultdict(list)  # By record.
    for route in routes:
        decided: list[Outcome | None] = [None] * len(route.records)
        undecided: Sequence[int] = range(len(decided))
        expression = route.expression
        if not expression.uses_engine:
            fast_path = cast("FastPath", expression.fast_path)
            decided, undecided = _run_fast_path(fast_path, route.records, source)
        outcomes.append(decided)
        for index in undecided:
            pending[id(route.records[index])].append((route, index, decided))
    if pending:
        with routes[0].expression.engine.session() as session:
            for entries in pending.values():
                _evaluate_record(session, entries, source)
    return cast("list[list[Outcome]]", outcomes)


_Entry = tuple[Route, int, list[Outcome | None]]
"""Record of a route for the engine, as its index, and the list for the outcome at this index."""


def _evaluate_record(session: Session, entries: Sequence[_Entry], source: TopicPartition) -> None:
    """Add the outcome of each entry, all of one record."""
    route, at, outcomes = entries[0]
    record = route.records[at]
    event = _event(record, source)
    if not isinstance(event, Event):
        for _, at, outcomes in entries:
            outcomes[at] = event
        return
    if len(entries) == 1:  # The usual case: a fast one.
        asked = _Asked(session, event, route, at, source)
        outcomes[at] = _outcome(event.name, asked.line(is_alone=True))
        return
    shared: list[tuple[_Asked, list[Outcome | None], int]] = []
    for route, at, outcomes in entries:
        asked = _Asked(session, event, route, at, source)
        if route.expression.fast_path is None:
            shared.append((asked, outcomes, at))
        else:
            outcomes[at] = _outcome(event.name, asked.line(is_alone=False))
    results = session.evaluate(event, [Evaluation(*it.evaluation) for it, _, _ in shared])
    for (asked, outcomes, at), result in zip(shared, results, strict=True):
        outcomes[at] = _outcome(event.name, asked.with_digits(result))


class _Asked:
    """Question to the engine about one record of a route."""

    __slots__ = ("_event", "_expression", "_session", "_value", "evaluation")

    def __init__(
        self, session: Session, event: Event, route: Route, at: int, source: TopicPartition
    ) -> None:
        self._session = session
        self._event = event
        self._expression = expression = route.expression
        record = route.records[at]
        self._value = cast("bytes", record.value)
        context = _context(record, source, route.destination) if expression.needs_context else None
        self.evaluation = (expression.compiled, context)

    def line(self, *, is_alone: bool) -> ScriptError | bytes | None:
        """Return the line, or None for `undefined`, or the error.

        Args:
            is_alone: Whether no other expression needs this event, so that parts of it will do.
        """
        fast_path, questions = self._expression.fast_path, self._expression.questions
        part = self._part(questions.reader) if is_alone else self._event
        if fast_path is None:
            return self.with_digits(self._session.evaluate_one(part, *self.evaluation))
        if questions.condition is None:
            return self._traced_line(fast_path)
        asked = (part, questions.condition, self.evaluation[1])
        decision: EvaluationResult | NotFrozen
        if questions.is_frozen or not is_alone:
            decision = self._session.evaluate_frozen(*asked)
        else:
            decision = self._session.evaluate_one(*asked)
        if isinstance(decision, ScriptError) and decision.position is None:
            return decision  # A limit, for example.
        if not isinstance(decision, str):
            return self._own_line()
        try:
            return fast_path.line(self._value, is_true=decision == "true")
        except UNDECIDED_ERRORS:
            return self._traced_line(fast_path)

    def _traced_line(self, fast_path: FastPath) -> ScriptError | bytes | None:
        """Return the engine's line, with slices of what the paths deliver."""
        traced = self._expression.questions.traced
        if traced is not None and fast_path.can_slice(self._value):
            result = self._session.evaluate_one(self._event, traced, self.evaluation[1])
            if isinstance(result, str):
                return fast_path.with_slices(self._value, _encoded(result))
            if result is None:
                return None
        return self._own_line()  # With the place of the error.

    def _own_line(self) -> ScriptError | bytes | None:
        """Return what the engine alone makes of the expression."""
        return self.with_digits(self._session.evaluate_one(self._event, *self.evaluation))

    def _part(self, reader: Reader | None) -> Event:
        part = None if reader is None else reader.part(self._value)
        return self._event if part is None else Event(part, self._event.timestamp, self._event.name)

    def with_digits(self, result: EvaluationResult) -> ScriptError | bytes | None:
        """Return a result as a line, with the digits that the integers of the event have."""
        if not isinstance(result, str):
            return result
        line = _encoded(result)
        value = self._value
        if not may_show(value, line):
            return line
        integers = integers_of(value)
        if integers is None:
            return line
        if integers.clashes is not None:
            event = self._event._replace(clashes=integers.clashes)
            again = self._session.evaluate_clashing(event, *self.evaluation)
            if not isinstance(again, str):
                return again
            line = _encoded(again)
        return integers.restored(line)


def _encoded(text: str) -> bytes:
    """Return text of `JSON.stringify` in UTF-8, with U+FFFD for each half of a surrogate pair.

    Strict readers, such as DuckDB, reject a whole object for one escape of a half.
    """
    if "\\" in text and "\\ud" in text:  # One character is found in a tenth of the time.
        text = _HALF_A_PAIR.sub("\\1\ufffd", text)
    return text.encode()


def _event(record: Record, source: TopicPartition) -> Event | Literal[Skip.SKIP] | Failure:
    """Return the record's event, or its outcome if it has none."""
    if record.value is None:
        return SKIP
    name = _name(record, source)
    try:
        text = record.value.decode()
    except UnicodeDecodeError as error:
        # For other values that are not JSON, the engine's message follows the same beginning.
        return _failure(name, f"the record's value is not JSON: not UTF-8 at byte {error.start}")
    return Event(text, float(record.timestamp), name)


def _name(record: Record, source: TopicPartition) -> str:
    return f"{source.topic}/{source.partition}@{record.offset}"


def _outcome(name: str, result: ScriptError | bytes | None) -> Outcome:
    if result is None:
        return SKIP
    if isinstance(result, ScriptError):
        return _failure(name, result.message, result.position)
    return result if len(result) <= LINE_BYTES_MAX else _too_large(name, result)


def _too_large(name: str, line: bytes) -> Failure:
    return _failure(
        name,
        f"the payload has {len(line)} bytes; at most {LINE_BYTES_MAX} are delivered: "
        "choose fewer fields",
    )


def _failure(name: str, message: str, position: SourcePosition | None = None) -> Failure:
    """Return a failure whose text is one line of at most ERROR_LENGTH_MAX characters."""
    ending = "" if position is None else f", at {position}"
    room = ERROR_LENGTH_MAX - len(ending)
    message = message if message.strip() else "an exception without a text"
    shown = (it if it.isprintable() else " " for it in message[: 2 * ERROR_LENGTH_MAX])
    text = " ".join("".join(shown).split())
    return Failure(name, (text if len(text) <= room else text[: room - 1] + "…") + ending, position)


def _context(record: Record, source: TopicPartition, destination: str) -> str:
    """Return `$context` as JSON text without the timestamp, which the engine adds."""
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
    # Keys and headers may be any bytes; those that are not UTF-8 become U+FFFD.
    return None if value is None else value.decode(errors="replace")


_CHUNK_RECORDS: Final = 64
"""Values that the fast path takes at once. If one of them has no line, all take it one by one."""


def _run_fast_path(
    fast_path: FastPath, records: Sequence[Record], source: TopicPartition
) -> tuple[list[Outcome | None], list[int]]:
    """Return outcomes in order, and the indexes of those that are missing, as None.

    An outcome is missing where the engine is to decide, or the value is not JSON.
    """
    outcomes: list[Outcome | None] = []
    missing: list[int] = []
    lines_of = fast_path.lines_of
    for start in range(0, len(records), _CHUNK_RECORDS):
        chunk = records[start : start + _CHUNK_RECORDS]
        if lines_of is not None:
            try:
                outcomes += lines_of([record.value for record in chunk])
            except CHUNK_ERRORS:
                pass
            else:
                continue
        for index, record in enumerate(chunk, start):
            value = record.value
            try:
                line = SKIP if value is None else fast_path.line(value)
            except UNDECIDED_ERRORS:
                missing.append(index)
                outcomes.append(None)
                continue
            if line is None:
                outcomes.append(SKIP)
            elif line is SKIP or len(line) <= LINE_BYTES_MAX:
                outcomes.append(line)
            else:
                outcomes.append(_too_large(_name(record, source), line))
    return outcomes, missing
