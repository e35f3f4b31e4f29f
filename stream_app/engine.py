"""Runs JavaScript expressions in QuickJS-ng so that no event can touch another.

A *realm* is one engine context whose built-in objects are all frozen before the first event, so
nothing shared is left that an expression could change: no global, no prototype, no function. It
can therefore be kept and used again by any expression of any destination, which saves its 3 ms.

    session ── take an idle realm ── one call per event and expression ── give the realm back
                     │
                     └── a limit was hit: drop the realm, ask once more in a new one that
                         holds nothing else and has the longer, quiet time limit

Why the second asking: the engine's time limit counts the CPU of the *whole process*, so a busy
neighbour thread can use it up, and what earlier events left in memory counts too. Only what fails
alone has failed, so the answer for an event does not depend on its batch.

An event that several expressions need is parsed once and *shared*: frozen to its depths, so that
none can change it for the next. An expression that trips over that, or that has looked for it, is
asked again with an event of its own (`ask_shared` gives None). So the answer is the same as if it
had been alone, and what it costs is the one thing that sharing decides.

A realm has no clock and no chance: `Date.now()` is the record's timestamp, every date is UTC, and
`Math.random()` is seeded by the record's name. What freezing would break is mended: one's own
`o.toString = ...` works although `Object.prototype` is frozen.

What the limits cannot do: the engine looks at its clock once in some 10,000 steps, and one step
may be a native operation on megabytes. Those that could take minutes are made to take steps
(`prelude_natives`); the rest, such as printing a BigInt of 300,000 digits, can overrun by
seconds. So the writer of an expression is trusted not to aim for that.

Pure: no clock, no I/O. One thread at a time uses a realm; the engine releases the GIL.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Self, cast

import quickjs

from stream_app.prelude import PRELUDE

REALMS_IDLE_MAX: Final = 4
"""Realms kept for later, 0.5 MB each; more exist while more threads evaluate at once."""
PROGRAMS_MAX: Final = 1_024
"""Compiled expressions that one realm holds, about 1 KB each; at the bound it starts over."""

WRAPPER_LINES: Final = 1_000
"""Lines of the wrapper above the expression's first. The prelude has fewer, and both are called
`<input>` in a stack, so the number of a line tells whose it is."""
WRAPPER: Final = (
    "\n" * (WRAPPER_LINES - 1)
    + '(function () {{ "use strict"; return ($event, event, $context) => {}\n{}\n{}; }})'
)
"""An arrow in a function: no `this`, no `arguments` of use. The newlines end a `//` comment."""
THROWN_ENDING: Final = "\nundefined"
"""The binding writes the stack after a message; a thrown string, as the prelude's, has none."""
NOT_SHARED: Final = "not shared"
"""What the prelude throws where a shared event will not do; all else that it throws has lines."""
_LEAVES_NO_SHARING: Final = re.compile(
    r"\b(?:async|AsyncDisposableStack|eval|Function|globalThis|import|Promise|try)\b|\\u"
)
"""What could catch the exception that a frozen event throws, or run code that throws none; names
and keywords may be spelled with escapes. What can be reached without these, the prelude watches."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may use; CPU time is that of the whole process."""

    memory_bytes_max: int = 32 * 1024 * 1024
    stack_bytes_max: int = 256 * 1024
    seconds_max: float = 0.25
    quiet_seconds_max: float = 1.0


class Event(NamedTuple):
    """The event that expressions are asked about."""

    text: str
    """JSON; no lone surrogates, which the binding cannot pass."""
    timestamp: float
    """Milliseconds; a float, because the binding cuts integers to 32 bits."""
    name: str
    """`topic/partition@offset`: seeds `Math.random()`."""


class Place(NamedTuple):
    """A place in the text of an expression; both count from 1, the column in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Thrown:
    """The expression threw, or hit a limit; `message` is of any length, in the engine's words.

    The place is where it threw, as near as the engine knows. Limits have none: where they are hit
    is chance. Nor has what is thrown that is no Error.
    """

    message: str
    place: Place | None = None


Answer = str | Thrown | None
"""JSON text as `JSON.stringify` returned it, an exception, or None for `undefined`."""


class SyntaxProblem(NamedTuple):
    """Why a text is no expression, and where; `place` is None for the end of the text."""

    message: str
    place: Place | None


_Function = Callable[[str | None, str | None, float, str], str | Literal[False] | None]
"""A program in its realm: (text, context, timestamp, name) to JSON text, False for `undefined`, or
None where memory was short of what the binding needs to hand the text over. The text is None
for the event that is shared, which is the one of that name, or refused."""


@dataclass(slots=True)
class Engine:
    """Checks expressions, and hands out realms: one caller at a time has a realm."""

    limits: Limits = field(default_factory=Limits)
    _idle: "list[_Realm]" = field(default_factory=list)

    def check(self, text: str) -> SyntaxProblem | None:
        """Return what keeps `text` from being exactly one expression; runs nothing.

        It must compile in parentheses, which make `{...}` an object, and in brackets: a text that
        closes a bracket of ours fits one of the two at most. No NUL, no lone surrogates.
        """
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
                place = _place(text, line, column)
                if place is None and message.endswith(f"'{closing}'"):
                    message = "SyntaxError: the expression is not complete"
                return SyntaxProblem(message, place)
        return None

    def session(self) -> "Session":
        """Return what asks expressions about events, for one thread."""
        return Session(self)

    def take(self) -> "_Realm":
        """Return a realm that nobody else uses."""
        try:
            return self._idle.pop()  # Atomic: two threads never get the same one.
        except IndexError:
            return _Realm(self.limits, self.limits.seconds_max)

    def give_back(self, realm: "_Realm") -> None:
        """Keep a realm that hit no limit for the next caller."""
        if len(self._idle) < REALMS_IDLE_MAX:
            self._idle.append(realm)


class Program:
    """An expression that `Engine.check` accepted, ready for any number of events."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.source = WRAPPER.format("(", text, ")") + "()"
        self.shares = _LEAVES_NO_SHARING.search(text) is None
        """Whether it may be asked about a shared event. Once it has changed one of its own it no
        longer is: that would be to ask it twice each time."""


class Question(NamedTuple):
    """What is asked about an event."""

    program: Program
    context: str | None
    """A JSON object, `$context` but for its `timestamp`; None if the expression has no use."""


class Session:
    """Asks expressions about one event after the other; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._realm: _Realm | None = None
        self._sharing: _Realm | None = None
        """The realm that was last given an event to share; it may have been dropped since."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        realm = self._realm
        if realm is None:
            return
        if realm is self._sharing:
            try:
                realm.share("null", 0.0, "")  # Or it would keep the last event.
            except quickjs.JSException:
                return  # Its memory is full of what an expression has left: drop it.
        self._engine.give_back(realm)

    def ask(self, event: Event, questions: Sequence[Question]) -> list[Answer]:
        """Answer each question; no event and no question leaves a trace for another."""
        if len(questions) > 1 and sum(it.program.shares for it in questions) > 1:
            is_shared = self._share(event)
            return [
                self._ask_shared(event, *question)
                if is_shared and question.program.shares
                else self.ask_one(event, *question)
                for question in questions
            ]
        return [self.ask_one(event, *question) for question in questions]

    def ask_one(self, event: Event, program: Program, context: str | None) -> Answer:
        """Answer a question about an event that is parsed for it alone."""
        text, timestamp, name = event
        try:
            answer = self._take().bind(program.source)(text, context, timestamp, name)
            if answer is not None:
                return answer or None
            thrown = None
        except quickjs.JSException as error:
            thrown = _thrown(error, program.text)
        if thrown is None:
            self._realm = None  # It ran out of something; what it still holds is unknown.
            return self._ask_in_quiet(event, program, context)
        return thrown

    def _ask_in_quiet(self, event: Event, program: Program, context: str | None) -> Answer:
        text, timestamp, name = event
        limits = self._engine.limits
        realm = _Realm(limits, limits.quiet_seconds_max)
        try:
            answer = realm.bind(program.source)(text, context, timestamp, name)
        except quickjs.JSException as error:
            return _thrown(error, program.text) or Thrown(_limit_message(str(error), limits))
        return Thrown(_limit_message("", limits)) if answer is None else answer or None

    def _share(self, event: Event) -> bool:
        """Parse and freeze; False if that fails, for reasons that each asking will find."""
        self._sharing = self._take()
        try:
            self._sharing.share(*event)
        except quickjs.JSException as error:
            if _thrown(error, "") is None:
                self._realm = None
            return False
        return True

    def _ask_shared(self, event: Event, program: Program, context: str | None) -> Answer:
        if self._realm is None or self._realm is not self._sharing:
            return self.ask_one(event, program, context)  # A limit was hit since the sharing.
        refused = False
        try:
            answer = self._realm.bind(program.source)(None, context, event.timestamp, event.name)
            if answer is not None:
                return answer or None
        except quickjs.JSException as error:
            # Whatever it throws, it is asked again: anything else is a limit.
            refused = str(error) == NOT_SHARED + THROWN_ENDING
        if not refused:
            self._realm = None
            return self._ask_in_quiet(event, program, context)
        own = self.ask_one(event, program, context)
        if not isinstance(own, Thrown):
            program.shares = False
        return own

    def _take(self) -> "_Realm":
        if self._realm is None:
            self._realm = self._engine.take()
        return self._realm


class _Realm:
    """One engine context, frozen, with the programs compiled into it so far."""

    def __init__(self, limits: Limits, seconds_max: float) -> None:
        self._context = quickjs.Context()
        self._bind = self._context.eval(PRELUDE)
        self.share: Callable[[str, float, str], None] = self._bind(None)
        """Parse and freeze the event that functions called without a text are asked about."""
        # Not earlier: the prelude is ours and need not fit into them.
        self._context.set_memory_limit(limits.memory_bytes_max)
        self._context.set_max_stack_size(limits.stack_bytes_max)
        self._context.set_time_limit(seconds_max)
        self._functions: dict[str, _Function] = {}

    def bind(self, source: str) -> _Function:
        """Return the function of a checked program, compiled once as a rule."""
        function = self._functions.get(source)
        if function is None:
            if len(self._functions) >= PROGRAMS_MAX:
                self._functions.clear()
            function = cast("_Function", self._bind(self._context.eval(source)))
            self._functions[source] = function
        return function


def _thrown(error: quickjs.JSException, text: str) -> Thrown | None:
    """Return what the expression threw, as the prelude worded it; None: a limit was hit."""
    worded = str(error)
    if not worded.endswith(THROWN_ENDING):
        return None
    message, separator, place = worded[: -len(THROWN_ENDING)].rpartition("\n")
    if not separator:
        return None  # Out of memory, the engine's own exception may lack its stack.
    line, _, column = place.partition(":")
    return Thrown(message, _place(text, line, column) if place else None)


def _place(text: str, line: str, column: str) -> Place | None:
    """Return the place in `text` that the engine calls so; None if it is behind the end.

    The engine counts a column in bytes of UTF-8, and says the line above for the very beginning.
    """
    number = int(line or 0) - WRAPPER_LINES
    lines = text.split("\n")
    if number > len(lines) or not column:
        return None
    if number < 1:
        return Place(1, 1)
    before = lines[number - 1].encode()[: int(column) - 1].decode(errors="ignore")
    return Place(number, len(before) + 1)


def _limit_message(worded: str, limits: Limits) -> str:
    if worded.startswith(("stack", "RangeError: Maximum call stack")):
        return (
            "RangeError: Maximum call stack size exceeded: recursion or JSON too deep for "
            f"{limits.stack_bytes_max} bytes of stack"
        )
    if worded.startswith("InternalError: interrupted"):
        return f"InternalError: interrupted: it ran longer than {limits.quiet_seconds_max} s"
    # Out of memory the engine often cannot even make its error, and throws null or worse.
    return (
        "InternalError: out of memory (or null was thrown): it may use "
        f"{limits.memory_bytes_max} bytes"
    )
