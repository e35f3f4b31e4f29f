"""Fast path: expressions over paths and literals, computed from the record's own bytes.

`$event.body`, `{ id: $event.id, "user": $event.body.user }` and
`$event.method === "POST" ? $event : undefined` need no engine: msgspec looks for the keys that they
name, and what they deliver is sliced, some 1 us a kilobyte. Plain paths and objects of them are
taken by the chunk, nearly all of it in C; others, and events that lack a key, one by one.

What an event leaves undecided is for the engine, which evaluates the expression with *marks*: each
value that a path delivers comes with its number, and the slice of that path replaces it. So the
bytes of a value depend neither on the event's other fields nor on who has decided.

Where only the condition needs the engine, it decides, and the rest is computed here.

Pure; safe to call from several threads at once.
"""

import re
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import contains
from typing import Any, Final

import msgspec

from stream_app.expressions.nodes import BLANKS, Node
from stream_app.expressions.parser import Parsed, parse, parse_branches
from stream_app.expressions.shape import Path, Shape, walk
from stream_app.expressions.values import UndecidedError, Value, encoded

LINE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one line; a larger payload fails its event."""


class TooLargeError(Exception):
    """A line has more than LINE_BYTES_MAX bytes."""


UNDECIDED_ERRORS: Final = (
    UndecidedError,
    AttributeError,  # A path leads through a value that is missing, or null.
    msgspec.MsgspecError,  # Not JSON, or no object where a path has a key.
    UnicodeDecodeError,
    RecursionError,
)
"""Exceptions for values that are for the engine to decide."""
CHUNK_ERRORS: Final = (*UNDECIDED_ERRORS, TypeError, TooLargeError)
"""Exceptions for values of which one has no line, or an unusual one: all are then taken alone."""

_NEWLINE, _RETURN = b"\n\r"
"""As numbers: to find bytes in bytes, Python first tries them as a number, and drops the error."""
_MEMBERS_MAX: Final = 256
"""Larger objects are taken one by one."""
_MARKED: Final = "(s=>{})((v,i)=>v===undefined||v===null||typeof v==='function'?v:[i,v])"
"""Text around a traced one. Its marks are the only arrays of a line."""
_WHOLE: Final = msgspec.json.Decoder(msgspec.Raw)
_MARK: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]]')


class FastPath:
    """Fast path of an expression, compiled at its first use: most of many are rarely used.

    Args:
        text: The expression; the engine accepts it.
        condition_end: Where the question mark stands behind a condition that the engine decides.

    Raises:
        RefusedError: The expression has no fast path.
    """

    __slots__ = ("_compiled", "_condition_end", "_text")

    def __init__(self, text: str, condition_end: int | None = None) -> None:
        self._text = text
        self._condition_end = condition_end
        self._compiled: _Compiled | None = None
        self._parse()

    def _parse(self) -> Parsed:
        if self._condition_end is None:
            return parse(self._text)
        return parse_branches(self._text, self._condition_end + 1)

    @property
    def condition(self) -> str | None:
        """The text of the condition that the engine decides, if one does."""
        return None if self._condition_end is None else self._text[: self._condition_end]

    @property
    def lines_of(self) -> Callable[[Sequence[Any]], list[bytes]] | None:
        """Function from values to their lines; raises one of `CHUNK_ERRORS` unless each has one.

        None: each value is taken alone.
        """
        return self._get().lines_of

    def _get(self) -> "_Compiled":
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = _Compiled(self._parse(), is_whole=self.condition is None)
        return compiled

    @property
    def traced(self) -> str:
        """The text of the expression whose line `with_slices` takes."""
        node, otherwise, *_ = self._get().parsed
        if otherwise is None:
            return _MARKED.format(node.traced)
        return _MARKED.format(f"(({self.condition})?{node.traced}:{otherwise.traced})")

    def line(self, value: bytes, *, is_true: bool = True) -> Value:
        """Return the line of one value, or None for `undefined`.

        Args:
            value: The record's.
            is_true: What the condition of the engine is.

        Raises:
            Exception: One of `UNDECIDED_ERRORS`.
        """
        compiled = self._get()
        if not value.isascii():
            value.decode()  # msgspec does not check the UTF-8 of what it passes over.
        event = compiled.decode(value)
        line = compiled.value(event, value) if is_true else compiled.otherwise(event, value)
        return None if line is None else _on_one_line(line)

    def can_slice(self, value: bytes) -> bool:
        """Return whether slices can be cut out of a value, in which the engine decides.

        If not, it is not JSON, or too deep, or has half a surrogate pair: the engine's alone.
        """
        try:
            _WHOLE.decode(value)
        except (msgspec.MsgspecError, RecursionError):
            return False
        return True

    def with_slices(self, value: bytes, line: bytes) -> bytes:
        """Return the engine's line of the traced text with the slices of the value."""
        value = value.strip(BLANKS)
        parts: list[bytes] = []
        depth = done = start = 0
        for match in _MARK.finditer(line):
            if match[0] == b"[":
                start = start if depth else match.start()
                depth += 1
            elif match[0] == b"]":
                depth -= 1
                if depth == 0:
                    number, _, own = line[start + 1 : match.start()].partition(b",")
                    parts += (line[done:start], self._slice(value, int(number), own))
                    done = match.end()
        return _on_one_line(b"".join([*parts, line[done:]]))

    def _slice(self, value: bytes, number: int, own: bytes) -> bytes:
        """Return the slice of a marked path, or the engine's own value if it is inherited."""
        try:
            return walk(value, self._get().parsed.leaves[number]) or own
        except UndecidedError:
            return own


class _Compiled:
    """What a fast path has once it is used."""

    __slots__ = ("decode", "lines_of", "otherwise", "parsed", "value")

    def __init__(self, parsed: Parsed, *, is_whole: bool) -> None:
        self.parsed = parsed
        self.lines_of = _chunk_slicer(parsed.node) if is_whole else None
        self.decode = parsed.shape.compile()
        self.value = parsed.node.value
        self.otherwise = (parsed.otherwise or parsed.node).value


def _chunk_slicer(node: Node) -> Callable[[Sequence[Any]], list[bytes]] | None:
    """Return the slicer of a plain path, or of an object of plain paths."""
    members = node.members
    nodes = [node] if members is None else [part for _, part in members]
    paths: list[Path] = [part.path for part in nodes if part.path is not None]
    shape = Shape()
    leaves = [shape.add(path) for path in paths]
    if not 0 < len(paths) == len(nodes) <= _MEMBERS_MAX or any(it.children for it in leaves):
        return None  # One path goes through another's end, for example.
    template = None
    if members is not None:
        names = [encoded(name).replace(b"%", b"%%") + b":%b" for name, _ in members]
        template = b"{%b}" % b",".join(names)
    slice_all = _slicer(shape, paths, template)

    def lines_of(values: Sequence[Any]) -> list[bytes]:
        lines = slice_all(values)
        if not all(map(bytes.isascii, values)):
            for value in values:
                value.decode()  # msgspec does not check the UTF-8 of what it slices.
        if any(any(map(contains, lines, repeat(it))) for it in (_NEWLINE, _RETURN)):
            lines = list(map(_on_one_line, lines))
        if max(map(len, lines)) > LINE_BYTES_MAX:
            raise TooLargeError
        return lines

    return lines_of


def _slicer(
    shape: Shape, paths: Sequence[Path], template: bytes | None
) -> Callable[[Sequence[Any]], list[bytes]]:
    """Return a function that runs in C nearly all of its time.

    A few steps of Python for each value would cost as much as decoding it.
    """
    decode = shape.strict_decoder()
    pick = shape.picker(paths)
    if template is not None:
        return lambda values: list(map(template.__mod__, map(pick, map(decode, values))))
    if paths[0]:
        return lambda values: list(map(bytes, map(pick, map(decode, values))))

    def whole(values: Sequence[Any]) -> list[bytes]:
        found = list(map(decode, values))
        has_no_blanks = list(map(len, found)) == list(map(len, values))
        return list(values) if has_no_blanks else list(map(bytes, found))

    return whole


def _on_one_line(line: bytes) -> bytes:
    return msgspec.json.format(line, indent=-1) if _NEWLINE in line or _RETURN in line else line
