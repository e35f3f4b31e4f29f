"""JavaScript engine (QuickJS-ng) for payload expressions, in which events are isolated.

A *realm* is an engine context whose built-in objects are all frozen before the first event: no
global, prototype or function is left that an expression could change for another event. A realm can
therefore be reused by any expression of any destination, which saves the 3 ms of making one.

    session ── acquire an idle realm ── one call per event and expression ── release the realm
                     │
                     └── a limit was hit: drop the realm; evaluate once more in a new realm that
                         holds nothing else and has the longer time limit of a retry

Why evaluate again: the engine's time limit counts the CPU of the *whole process*, so a busy
neighbor thread can use it up, and memory that earlier events left behind counts too. An evaluation
has failed only if it fails alone, so the result for an event does not depend on its batch.

An event that several expressions need is parsed once and *shared*: deeply frozen, so that none can
change it for the next. An expression that throws over a shared event, or that has called anything
that could reveal the freezing, is evaluated again with an event of its own. So the result is the
same as without sharing; only the cost differs.

A realm has no clock and no randomness: `Date.now()` is the record's timestamp, every date is UTC,
and `Math.random()` is seeded with the record's name. What freezing would break is restored: one's
own `o.toString = ...` works although `Object.prototype` is frozen.

What the limits cannot do: the engine checks its clock once in some 10,000 steps, and one step may
be a native operation on megabytes. Natives that could take minutes are replaced (`prelude.js`,
part 2); the rest, such as printing a BigInt of 300,000 digits, can overrun by seconds. So the
author of an expression is trusted not to aim for that.

Pure: no clock, no I/O; the prelude is loaded with this module. One thread at a time uses a realm;
the engine releases the GIL.
"""

import enum
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Self, cast

import quickjs

PRELUDE: Final = cast("bytes", pkgutil.get_data("stream_app.expressions", "prelude.js")).decode()
"""Script that makes a context a realm. `pkgutil` imports in 1 ms, `importlib.resources` in 9 ms."""
REALMS_IDLE_MAX: Final = 4
"""Realms kept for later, 0.5 MB each; more exist while more threads evaluate at once."""
FUNCTIONS_MAX: Final = 1_024
"""Compiled expressions in one realm, about 1 KB each; at the bound all are compiled again."""

WRAPPER_LINES: Final = 1_000
"""Lines of the wrapper above the expression's first. The prelude has fewer, and a stack names both
`<input>`, so the line number distinguishes them."""
WRAPPER: Final = (
    "\n" * (WRAPPER_LINES - 1)
    + '(function () {{ "use strict"; return ($event, event, $context) => {}\n{}\n{}; }})'
)
"""An arrow in a function: no `this`, no usable `arguments`. The newlines end a `//` comment."""
NO_STACK: Final = "\nundefined"
"""The binding appends the stack to a message; a thrown string, such as the prelude's, has none."""
NOT_SHARED: Final = "not shared"
"""Thrown by the prelude if the expression needs an event of its own; its other messages have a
line for the position."""
_NOT_SHAREABLE: Final = re.compile(
    r"\b(?:async|AsyncDisposableStack|eval|Function|globalThis|import|Promise|try)\b|\\u"
)
"""Syntax that could catch the exception of a frozen event, or run code that throws none; `\\u` can
spell names and keywords. Whatever is reachable without these is watched by the prelude."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one evaluation; CPU time is that of the whole process."""

    memory_bytes_max: int = 32 * 1024 * 1024
    stack_bytes_max: int = 256 * 1024
    seconds_max: float = 0.25
    retry_seconds_max: float = 1.0
    """Time limit of the second evaluation, alone in a new realm."""


class Event(NamedTuple):
    """Event over which expressions are evaluated."""

    text: str
    """JSON; no lone surrogates, which the binding cannot pass."""
    timestamp: float
    """Milliseconds; a float, because the binding truncates integers to 32 bits."""
    name: str
    """`topic/partition@offset`: seeds `Math.random()`."""
    clashes: str | None = None
    """Integers that are one number in JavaScript, as `integers.Integers` has them; None if there
    are none, or if their digits do not matter."""


class SourcePosition(NamedTuple):
    """Position in the text of an expression; both count from 1, the column in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class ScriptError:
    """Exception of an expression, or a limit that was hit.

    The message has any length and is the engine's. The position is where the exception was thrown,
    as precisely as the engine knows. A limit has none, since where it is hit is chance; nor has a
    thrown value that is not an Error.
    """

    message: str
    position: SourcePosition | None = None


EvaluationResult = str | ScriptError | None
"""JSON text as `JSON.stringify` returned it, an error, or None for `undefined`."""


class SyntaxProblem(NamedTuple):
    """Reason why a text is not an expression; `position` is None for the end of the text."""

    message: str
    position: SourcePosition | None


_Function = Callable[[str | None, str | None, float, str, str | None], str | Literal[False] | None]
"""Compiled expression of a realm: (text, context, timestamp, name, clashes) to JSON text, or False
for `undefined`, or None if memory ran out while the binding passed the text. A text of None stands
for the shared event, if that is the one of this name."""


@dataclass(slots=True)
class Engine:
    """Syntax check of expressions, and pool of realms: each realm has one user at a time."""

    limits: Limits = field(default_factory=Limits)
    evaluations: int = 0
    """Evaluations that were begun. Threads count them without a lock, and may lose some: the number
    only shows that evaluations come to an end."""
    _idle: "list[Realm]" = field(default_factory=list)
    _checking: list[quickjs.Context] = field(default_factory=list)
    """The context of the next check, if it is there: nothing has run in it."""

    def check(self, text: str) -> SyntaxProblem | None:
        """Return why `text` is not exactly one expression, or None; runs nothing.

        The text must compile in parentheses, which make `{...}` an object, and in brackets: a text
        that closes the surrounding bracket fits at most one of the two. No NUL, no lone surrogates.
        """
        try:
            context = self._checking.pop()  # A new one takes four times as long as the check.
        except IndexError:
            context = quickjs.Context()
            context.set_memory_limit(self.limits.memory_bytes_max)
            context.set_max_stack_size(self.limits.stack_bytes_max)
        for opening, closing in ("()", "[]"):
            try:
                context.eval(WRAPPER.format(opening, text, closing))
            except quickjs.JSException as error:
                message, _, trace = str(error).partition("\n")
                # The trace ends in `<input>:LINE:COLUMN`, and is missing if the stack ran out.
                line, _, column = trace.strip().removeprefix("at <input>:").partition(":")
                position = _position(text, line, column)
                if position is None and message.endswith(f"'{closing}'"):
                    message = "SyntaxError: the expression is not complete"
                return SyntaxProblem(message, position)  # The text may have run: drop the context.
        self._checking[:] = [context]
        return None

    def session(self) -> "Session":
        """Return a session for one thread."""
        return Session(self)

    def acquire(self) -> "Realm":
        """Return a realm for exclusive use."""
        try:
            return self._idle.pop()  # Atomic: two threads never get the same one.
        except IndexError:
            return Realm(self.limits, self.limits.seconds_max)

    def release(self, realm: "Realm") -> None:
        """Keep a realm that hit no limit for the next caller."""
        if len(self._idle) < REALMS_IDLE_MAX:
            self._idle.append(realm)


class CompiledExpression:
    """Expression that `Engine.check` accepted, ready for any number of events and threads."""

    __slots__ = ("can_freeze", "can_share", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.can_freeze = _NOT_SHAREABLE.search(text) is None
        """Whether the prelude notices that the expression needs an event that is not frozen."""
        self.can_share = self.can_freeze
        """Whether to try a shared event first. A session clears the flag once the expression has
        needed an event of its own, since every further try would cost twice. Threads share it
        without a lock: it only ever changes to False, and both values give the same result."""


class NotFrozen(enum.Enum):
    """Result of an evaluation over a frozen event that needs an event of its own."""

    NOT_FROZEN = "not frozen"


NOT_FROZEN: Final = NotFrozen.NOT_FROZEN


class Evaluation(NamedTuple):
    """One expression to evaluate over an event."""

    compiled: CompiledExpression
    context: str | None
    """`$context`, a JSON object without its `timestamp`; None if the expression does not use it."""


class Session:
    """Evaluation of expressions over one event after the other; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._realm: Realm | None = None
        self._sharing: Realm | None = None
        """The realm that last got an event to share; it may have been dropped since."""
        self._shared: Event | None = None
        """That event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        realm = self._realm
        if realm is None:
            return
        if realm is self._sharing:
            try:
                realm.share("null", 0.0, "", None)  # Frees the last event.
            except quickjs.JSException:
                return  # Its memory is full of what an expression has left: drop it.
        self._engine.release(realm)

    def evaluate(self, event: Event, evaluations: Sequence[Evaluation]) -> list[EvaluationResult]:
        """Return the result of each evaluation; none leaves a trace for another."""
        if len(evaluations) > 1 and sum(it.compiled.can_share for it in evaluations) > 1:
            is_shared = self._has(event) or self._share(event)
            return [
                self._evaluate_shared(event, *evaluation)
                if is_shared and evaluation.compiled.can_share
                else self.evaluate_one(event, *evaluation)
                for evaluation in evaluations
            ]
        return [self.evaluate_one(event, *evaluation) for evaluation in evaluations]

    def evaluate_one(
        self, event: Event, compiled: CompiledExpression, context: str | None
    ) -> EvaluationResult:
        """Return the result over an event that is parsed for this expression alone."""
        self._engine.evaluations += 1
        text, timestamp, name, clashes = event
        try:
            function = self._acquired().bind(compiled.text)
            result = function(text, context, timestamp, name, clashes)
            if result is not None:
                return result or None
            thrown = None
        except quickjs.JSException as error:
            thrown = _script_error(error, compiled.text)
        if thrown is None:
            self._realm = None  # A limit was hit; what the realm still holds is unknown.
            return self._retry_alone(event, compiled, context)
        return thrown

    def evaluate_clashing(
        self, event: Event, compiled: CompiledExpression, context: str | None
    ) -> EvaluationResult:
        """Return the result over an event with clashes, which is frozen if the expression allows.

        Only a frozen object keeps integers apart that are one number in JavaScript. So whether the
        event is frozen depends neither on earlier events nor on a limit that was hit by chance.
        """
        if not compiled.can_freeze:
            return self.evaluate_one(event, compiled, context)
        if self._share(event):
            return self._evaluate_shared(event, compiled, context)
        return self._retry_alone(event, compiled, context)

    def evaluate_frozen(
        self, event: Event, compiled: CompiledExpression, context: str | None
    ) -> EvaluationResult | NotFrozen:
        """Return the result over a frozen event, so that the expression has not changed it.

        NOT_FROZEN: It threw, or tried to change the event, or the event is not JSON. An expression
        that is not `can_freeze` must not come here. An event is frozen once for all that follow.
        """
        if not self._has(event) and not self._share(event):
            if self._realm is not None:
                return NOT_FROZEN
            return self._retry_frozen(event, compiled, context)
        self._engine.evaluations += 1
        try:
            result = _evaluate_frozen(self._acquired(), event, compiled, context)
        except quickjs.JSException as error:
            if _is_not_shared(error):
                return NOT_FROZEN
            result = None
        if result is not None:
            return result or None
        self._realm = None  # A limit was hit.
        return self._retry_frozen(event, compiled, context)

    def _retry_frozen(
        self, event: Event, compiled: CompiledExpression, context: str | None
    ) -> EvaluationResult | NotFrozen:
        limits = self._engine.limits
        realm = Realm(limits, limits.retry_seconds_max)
        try:
            realm.share(*event)
            result = _evaluate_frozen(realm, event, compiled, context)
        except quickjs.JSException as error:
            if _is_not_shared(error):
                return NOT_FROZEN
            return ScriptError(_limit_message(str(error), limits))
        return ScriptError(_limit_message("", limits)) if result is None else result or None

    def _retry_alone(
        self, event: Event, compiled: CompiledExpression, context: str | None
    ) -> EvaluationResult:
        limits = self._engine.limits
        realm = Realm(limits, limits.retry_seconds_max)
        try:
            result = _evaluate_alone(realm, event, compiled, context)
        except quickjs.JSException as error:
            return _script_error(error, compiled.text) or ScriptError(
                _limit_message(str(error), limits)
            )
        return ScriptError(_limit_message("", limits)) if result is None else result or None

    def _has(self, event: Event) -> bool:
        """Return whether the realm still has this event to share."""
        return self._realm is not None and self._realm is self._sharing and self._shared is event

    def _share(self, event: Event) -> bool:
        """Parse and freeze the event; False if that fails, as each evaluation will then find."""
        self._sharing = self._acquired()
        self._shared = event
        try:
            self._sharing.share(*event)
        except quickjs.JSException as error:
            if _script_error(error, "") is None:
                self._realm = None
            return False
        return True

    def _evaluate_shared(
        self, event: Event, compiled: CompiledExpression, context: str | None
    ) -> EvaluationResult:
        if self._realm is None or self._realm is not self._sharing:
            return self.evaluate_one(event, compiled, context)  # The realm was dropped since.
        self._engine.evaluations += 1
        needs_own = False
        try:
            function = self._realm.bind(compiled.text)
            result = function(None, context, event.timestamp, event.name, None)
            if result is not None:
                return result or None
        except quickjs.JSException as error:
            # The prelude throws nothing else over a shared event; the rest are limits.
            needs_own = _is_not_shared(error)
        if not needs_own:
            self._realm = None
            return self._retry_alone(event, compiled, context)
        own = self.evaluate_one(event, compiled, context)
        if not isinstance(own, ScriptError):
            compiled.can_share = False
        return own

    def _acquired(self) -> "Realm":
        if self._realm is None:
            self._realm = self._engine.acquire()
        return self._realm


class Realm:
    """Frozen engine context, with the expressions compiled into it so far."""

    def __init__(self, limits: Limits, seconds_max: float) -> None:
        self._context = quickjs.Context()
        self._bind = self._context.eval(PRELUDE)
        self.share: Callable[[str, float, str, str | None], None] = self._bind(None)
        """Parse and freeze the event for functions that are called without a text."""
        # After the prelude, which is ours and need not fit into the limits.
        self._context.set_memory_limit(limits.memory_bytes_max)
        self._context.set_max_stack_size(limits.stack_bytes_max)
        self._context.set_time_limit(seconds_max)
        self._functions: dict[str, _Function] = {}

    def bind(self, text: str) -> _Function:
        """Return the function of a checked expression, compiled at its first use."""
        function = self._functions.get(text)
        if function is None:
            if len(self._functions) >= FUNCTIONS_MAX:
                self._functions.clear()
            source = WRAPPER.format("(", text, ")") + "()"
            function = cast("_Function", self._bind(self._context.eval(source)))
            self._functions[text] = function
        return function


def _evaluate_frozen(
    realm: Realm, event: Event, compiled: CompiledExpression, context: str | None
) -> str | Literal[False] | None:
    """Return what the function returns over the event that the realm shares."""
    function = realm.bind(compiled.text)
    return function(None, context, event.timestamp, event.name, None)


def _evaluate_alone(
    realm: Realm, event: Event, compiled: CompiledExpression, context: str | None
) -> str | Literal[False] | None:
    """Return what the function returns over the event, frozen first if integers clash."""
    text, timestamp, name, clashes = event
    function = realm.bind(compiled.text)
    if clashes is not None and compiled.can_freeze:
        realm.share(*event)
        try:
            return _evaluate_frozen(realm, event, compiled, context)
        except quickjs.JSException as error:
            if not _is_not_shared(error):
                raise
    return function(text, context, timestamp, name, clashes)


def _is_not_shared(error: quickjs.JSException) -> bool:
    return str(error) == NOT_SHARED + NO_STACK


def _script_error(error: quickjs.JSException, text: str) -> ScriptError | None:
    """Return what the expression threw, as the prelude formats it; None if a limit was hit."""
    thrown = str(error)
    if not thrown.endswith(NO_STACK):
        return None
    message, separator, position = thrown[: -len(NO_STACK)].rpartition("\n")
    if not separator:
        return None  # Out of memory, the engine's own exception may lack its stack.
    line, _, column = position.partition(":")
    return ScriptError(message, _position(text, line, column) if position else None)


def _position(text: str, line: str, column: str) -> SourcePosition | None:
    """Convert the engine's position into one of `text`; None if it is behind the end.

    The engine counts a column in bytes of UTF-8, and names the line above for the very beginning.
    """
    number = int(line or 0) - WRAPPER_LINES
    lines = text.split("\n")
    if number > len(lines) or not column:
        return None
    if number < 1:
        return SourcePosition(1, 1)
    before = lines[number - 1].encode()[: int(column) - 1].decode(errors="ignore")
    return SourcePosition(number, len(before) + 1)


def _limit_message(thrown: str, limits: Limits) -> str:
    if thrown.startswith(("stack", "RangeError: Maximum call stack")):
        return (
            "RangeError: Maximum call stack size exceeded: recursion or JSON too deep for "
            f"{limits.stack_bytes_max} bytes of stack"
        )
    if thrown.startswith("InternalError: interrupted"):
        return f"InternalError: interrupted: ran longer than {limits.retry_seconds_max} s"
    # Out of memory the engine often cannot even make its error, and throws null or worse.
    return (
        "InternalError: out of memory (or null was thrown): the limit is "
        f"{limits.memory_bytes_max} bytes"
    )
