"""Fast path of filters: `CONDITION ? RESULT : undefined`, decided from the record's own bytes.

    $event.method === "POST" && $event.status < 500   ?   $event   :   undefined
    condition: a walk over slices                         result: a fast path of its own

A condition compares plain paths with literals, and joins comparisons by `&&`, `||` and `!`. It has
JavaScript's order and truth values; where JavaScript would convert a value, read an inherited
property or throw, the engine decides about the event. So there is one semantics. The line has one
spelling, too: the result is sliced, no matter what has decided that the event passes.

Pure; safe to call from several threads at once.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter, ge, gt, le, lt
from typing import Any, Final, NamedTuple

import msgspec

from stream_app.expressions.fast_path import (
    FALLBACK_ERRORS,
    INHERITED,
    PATH,
    STRING,
    FastPath,
    Shape,
    compile_fast_path,
    path_keys,
)

TOKENS_MAX: Final = 256
"""Longer conditions are left to the engine."""
DEPTH_MAX: Final = 32
"""Conditions with more parentheses and negations in one another are left to the engine."""

_Truth = Callable[[Any], bool]
"""Function from a decoded event to a truth value; raises `_UndecidedError` or AttributeError."""
_Slice = Callable[[Any], bytes | None]
"""Function from a decoded event to the value at the end of a path; None for `undefined`."""
_Test = Callable[[bytes | None], bool]
"""Function from a path's value to a truth value; raises `_UndecidedError`."""

_TOKEN: Final = re.compile(
    rf"[ \t\r\n]*+(?:(?P<path>{PATH})|(?P<string>{STRING})"
    r"|(?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?![\w.$]))"
    r"|(?P<word>(?:undefined|null|true|false|typeof)(?![\w$]))"
    r"|(?P<sign>===|!==|&&|\|\||[<>]=|[<>](?![<>=])|!(?!=)|[()]|\?(?![?.])))"
)
_METHODS: Final[dict[str, Callable[[bytes, bytes], bool]]] = {
    "startsWith": lambda text, part: text.startswith(part),
    "endsWith": lambda text, part: text.endswith(part),
    "includes": lambda text, part: part in text,
}
_METHOD: Final = re.compile(rf"(?<!\?)\.[ \t\r\n]*+({'|'.join(_METHODS)})\Z")
_WORDS: Final = {"undefined": None, "null": b"null", "true": b"true", "false": b"false"}
_TYPES: Final = {
    b'"': "string",
    b"t": "boolean",
    b"f": "boolean",
    b"n": "object",
    b"{": "object",
    b"[": "object",
}
_RELATIONS: Final = {"<": lt, "<=": le, ">": gt, ">=": ge}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "===": "===", "!==": "!=="}
_UNDEFINED: Final = "undefined"
_BLANKS: Final = " \t\r\n"


class _UndecidedError(Exception):
    """The engine is to decide about this event."""


class _RefusedError(Exception):
    """The text is no filter of this kind: every event is for the engine."""


class _Token(NamedTuple):
    kind: str
    text: str


_END: Final = _Token("end", "")


def compile_filter(text: str) -> FastPath | None:
    """Return the fast path of a filter that the engine accepts, or None if it has none."""
    parser = _Parser(text)
    try:
        condition, rest = parser.condition()
        result, passes = _result(rest.strip(_BLANKS))
        fast_path = compile_fast_path(result)
        decode: Callable[[Any], Any] = msgspec.json.Decoder(
            parser.shape.type(is_lenient=True)
        ).decode
    except (_RefusedError, ValueError):  # ValueError: msgspec refuses a key.
        return None
    if fast_path is None:
        return None

    def decide(value: Any) -> bool | None:  # noqa: ANN401 - bytes, or None without a value
        try:
            if not value.isascii():
                value.decode()  # msgspec does not check the UTF-8 of what it passes over.
            return condition(decode(value)) is passes
        except (_UndecidedError, AttributeError, *FALLBACK_ERRORS):
            return None

    return replace(fast_path, decide=decide)


def _result(text: str) -> tuple[str, bool]:
    """Return the text of the result, and the truth value for which an event has it."""
    head = text.removesuffix(_UNDEFINED).rstrip(_BLANKS)
    if head.endswith(":") and text.endswith(_UNDEFINED):
        return head[:-1], True
    tail = text.removeprefix(_UNDEFINED).lstrip(_BLANKS)
    if tail.startswith(":") and text.startswith(_UNDEFINED):
        return tail[1:], False
    raise _RefusedError


class _Parser:
    """Parser of one condition; collects the paths that it reads."""

    def __init__(self, text: str) -> None:
        self.shape = Shape()
        self._text = text
        self._end = 0
        self._count = 0
        self._depth = 0
        self._token = self._next()

    def condition(self) -> tuple[_Truth, str]:
        """Return the condition, and the text after its question mark."""
        found = self._any()
        if self._token.text != "?":
            raise _RefusedError
        return found, self._text[self._end :]

    def _next(self) -> _Token:
        match = _TOKEN.match(self._text, self._end)
        self._count += 1
        if match is None:
            return _END
        if self._count > TOKENS_MAX:
            raise _RefusedError
        self._end = match.end()
        kind = match.lastgroup or ""
        return _Token(kind, match[kind])

    def _take(self, *texts: str) -> str | None:
        """Return the present sign and go on, if it is one of these."""
        kind, text = self._token
        if kind != "sign" or text not in texts:
            return None
        self._token = self._next()
        return text

    def _require(self, kind: str) -> str:
        """Return the present token's text and go on; it must be of this kind."""
        if self._token.kind != kind:
            raise _RefusedError
        text = self._token.text
        self._token = self._next()
        return text

    def _any(self) -> _Truth:
        parts = [self._all()]
        while self._take("||"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda event: any(it(event) for it in parts)

    def _all(self) -> _Truth:
        parts = [self._one()]
        while self._take("&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda event: all(it(event) for it in parts)

    def _one(self) -> _Truth:
        if self._token in {_Token("sign", "!"), _Token("sign", "(")}:
            return self._operand()
        if self._token == _Token("word", "typeof"):
            self._token = self._next()
            return self._of(self._path(self._require("path")), self._type())
        if self._token.kind == "path":
            return self._with_path(self._require("path"))
        literal = self._literal()
        sign = self._take(*_MIRRORED)
        if sign is None:
            raise _RefusedError
        return self._of(self._path(self._require("path")), _test(_MIRRORED[sign], literal))

    def _nested(self, parse: Callable[[], _Truth]) -> _Truth:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _RefusedError
        inner = parse()
        self._depth -= 1
        return inner

    def _operand(self) -> _Truth:
        """Return what `!` can stand before: no comparison, which it would not reach over."""
        if self._take("!"):
            inner = self._nested(self._operand)
            return lambda event: not inner(event)
        if self._take("("):
            return self._nested(self._in_parentheses)
        text = self._require("path")
        return self._method(text) if self._take("(") else self._of(self._path(text), _is_true)

    def _in_parentheses(self) -> _Truth:
        inner = self._any()
        if not self._take(")"):
            raise _RefusedError
        return inner

    def _with_path(self, text: str) -> _Truth:
        if self._take("("):
            return self._method(text)
        path = self._path(text)
        sign = self._take(*_MIRRORED)
        return self._of(path, _is_true if sign is None else _test(sign, self._literal()))

    def _method(self, text: str) -> _Truth:
        """Return the call of a string's method, whose parenthesis was read."""
        match = _METHOD.search(text)
        if match is None:
            raise _RefusedError
        part = self._require("string")[1:-1].encode()
        if not self._take(")"):
            raise _RefusedError
        test = _method_test(match[1], part)
        return self._of(self._path(text[: match.start()]), test)

    def _type(self) -> _Test:
        sign = self._take("===", "!==")
        if sign is None:
            raise _RefusedError
        name = self._require("string")[1:-1]
        return lambda raw: (_type_of(raw) == name) is (sign == "===")

    def _literal(self) -> _Token:
        token = self._token
        if token.kind not in {"string", "number", "word"} or token.text == "typeof":
            raise _RefusedError
        self._token = self._next()
        return token

    def _path(self, text: str) -> _Slice:
        keys = path_keys(text)
        if not keys or not self.shape.add(keys):
            raise _RefusedError
        pick = attrgetter(self.shape.attribute(keys))
        is_inherited = keys[-1] in INHERITED

        def slice_of(event: Any) -> bytes | None:  # noqa: ANN401 - of the shape's type
            raw = pick(event)
            if raw is None:
                if is_inherited:
                    raise _UndecidedError
                return None
            return bytes(raw)

        return slice_of

    @staticmethod
    def _of(path: _Slice, test: _Test) -> _Truth:
        return lambda event: test(path(event))


def _is_true(raw: bytes | None) -> bool:
    """Return whether a value is true in a condition."""
    if raw is None or raw in {b"false", b"null", b'""'}:
        return False
    return not _is_number(raw) or float(raw) != 0


def _is_number(raw: bytes) -> bool:
    return raw[0] in b"-0123456789"


def _type_of(raw: bytes | None) -> str:
    """Return what `typeof` says of a value."""
    return _UNDEFINED if raw is None else _TYPES.get(raw[:1], "number")


def _test(sign: str, literal: _Token) -> _Test:
    """Return the comparison of a path's value, on the left, with a literal."""
    if sign in _RELATIONS:
        if literal.kind != "number":
            raise _RefusedError
        return _relation(sign, float(literal.text))
    equals = _equality(literal)
    return equals if sign == "===" else lambda raw: not equals(raw)


def _relation(sign: str, number: float) -> _Test:
    relation = _RELATIONS[sign]

    def test(raw: bytes | None) -> bool:
        if raw is None or not _is_number(raw):
            raise _UndecidedError  # JavaScript converts it.
        return bool(relation(float(raw), number))

    return test


def _equality(literal: _Token) -> _Test:
    if literal.kind == "word":
        word = _WORDS[literal.text]
        return lambda raw: raw == word
    if literal.kind == "number":
        number = float(literal.text)
        return lambda raw: raw is not None and _is_number(raw) and float(raw) == number
    text = literal.text[1:-1]
    usual = b'"%b"' % text.encode()

    def test(raw: bytes | None) -> bool:
        if raw == usual:
            return True
        # An escape may spell the same.
        return raw is not None and raw[:1] == b'"' and b"\\" in raw and _decoded(raw) == text

    return test


def _method_test(name: str, part: bytes) -> _Test:
    method = _METHODS[name]

    def test(raw: bytes | None) -> bool:
        if raw is None or raw[:1] != b'"':
            raise _UndecidedError  # An array has `includes`, too; others throw.
        text = _decoded(raw).encode() if b"\\" in raw else raw[1:-1]
        return method(text, part)

    return test


def _decoded(raw: bytes) -> str:
    text: str = msgspec.json.decode(raw)
    return text
