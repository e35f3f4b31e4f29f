"""Scanner of JavaScript: the condition of an expression, and what an expression reads of its event.

Both are for expressions that need the engine. What the scanner does not know for certain has no
condition, and reads the whole event.

Pure; safe to call from several threads at once.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import msgspec

from stream_app.expressions.parser import PATH, UNUSABLE_KEY, steps_of
from stream_app.expressions.shape import PATH_LENGTH_MAX, Path, Shape
from stream_app.expressions.values import UndecidedError

_TOKEN: Final = re.compile(
    r"(?P<blank>\s++)|(?P<comment>//|/\*|<!--|-->)"
    r"""|(?P<string>"(?:[^"\\\r\n]|\\.)*+"|'(?:[^'\\\r\n]|\\.)*+')"""
    r"|(?P<word>[\w$#]+(?:\.[0-9][\w$]*)?)|(?P<template>`)"
    r"|(?P<sign>=>|>>>=|[<>=!]==?|(?:\*\*|<<|>>|&&|\|\||\?\?)=?|[-+*/%&|^]=|\+\+|--|\?\.(?![0-9])"
    r"|[-+*/%&|^~!<>=?:;,.(){}\[\]])",
    re.DOTALL,
)
_TEMPLATE_TEXT: Final = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*+", re.DOTALL)
_REGULAR: Final = re.compile(
    r"(?P<regular>/(?:[^/\\\[\r\n]|\\.|\[(?:[^\[\]\\\r\n]|\\.)*+\])++/[\w$]*+)"
)
_OPERATOR_WORDS: Final = frozenset(
    [
        *("case", "delete", "do", "else", "in", "instanceof", "new", "return", "throw", "typeof"),
        *("void", "yield"),
    ]
)
"""Words behind which a slash begins a regular expression."""
_AMBIGUOUS: Final = frozenset(["}", "++", "--"])
"""Signs behind which a slash may be either."""
MEMBER_SIGNS: Final = frozenset([".", "?."])
"""Signs behind which each word is a name."""
_WEAKER: Final = frozenset(["=>", ",", ";"])
"""Signs that bind less than a condition; assignments do, too."""
_EQUALITIES: Final = frozenset(["==", "===", "!=", "!==", "<=", ">="])
_STATEMENT: Final = re.compile(r"\b(?:for|if|while|with)\b")
"""Statements: a slash behind their parenthesis does not divide."""
_CLOSING: Final = {")": "(", "]": "[", "}": "{"}
_OPENING: Final = frozenset(_CLOSING.values())
_CHANGING: Final = frozenset(["++", "--", "{", "}"])
"""Signs of assignments, objects, patterns and blocks."""
_PARAMETERS: Final = re.compile(r"(?:[\w$]+|\([\w$\s,]*\))(?=\s*=>)")
_HARMLESS: Final = frozenset(
    [
        *("$event", "event", "undefined", "null", "true", "false", "NaN", "Infinity"),
        *("typeof", "void", "Math", "Number", "String", "Boolean"),
    ]
)
"""Names and words by which nothing changes."""
_EVERYTHING: Final = frozenset(["eval", "globalThis"])
"""Names of the realm, in small letters, that lead to all others."""
_INDEX: Final = re.compile(r"\[\s*[0-9]+\s*\]")
_REACHING: Final = frozenset(
    [
        *("copyWithin", "fill", "pop", "push", "reverse", "shift", "sort", "splice", "unshift"),
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
        *("__proto__", "constructor", "prototype"),
        *("apply", "bind", "call"),
    ]
)
"""Members of JSON's values, and of functions, that can change an array or object, or lead there."""
_NAME: Final = re.compile(r"(?<![\w$])(?<!(?<!\.)\.)(?:\$event|event)(?![\w$])")
"""The event's name, and no member's: no point before it, or the three of a spread."""
_PATH: Final = re.compile(PATH)
_CALL: Final = re.compile(r"\s*(?:[(`/]|\?\.\s*\()")
"""What calls the last member of a path, with the one before as `this`; or a comment before it."""
_HIDING: Final = re.compile(r"\beval\b|\\u")
"""Syntax that can spell the event's name in another way."""
READ_PATHS_MAX: Final = 64
"""Expressions with more paths read the whole event."""
PART_PAYS: Final = 3
"""So many times the part has to be in the event: to cut costs a fifth of what parsing does."""
SKIPPED_EVENTS: Final = 63
"""Events that are taken whole after one whose part was too large."""


class _UncertainError(Exception):
    """The text cannot be divided into tokens for certain."""


def condition_end(text: str) -> int | None:
    """Return where the question mark of an expression `CONDITION ? ... : ...` stands, or None.

    Args:
        text: An expression that the engine accepts.
    """
    try:
        for token in _tokens(text):
            if token.kind != "sign" or token.depth:
                continue
            if token.text == "?":
                return token.start
            if token.text in _WEAKER or _is_assignment(token.text):
                return None
    except _UncertainError:
        pass  # A condition is only used where there is one for certain.
    return None


def _is_assignment(sign: str) -> bool:
    return sign.endswith("=") and sign not in _EQUALITIES


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    depth: int
    """Number of open brackets around it; of the first one of a pair, too."""


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens of an expression, without blanks and the texts of templates."""
    brackets: list[str] = []
    at, before = 0, ""
    while at < len(text):
        match = _next(text, at, before)
        kind, sign, at = match.lastgroup, match[0], match.end()
        if kind == "blank":
            continue
        if kind == "template" or (sign == "}" and brackets[-1:] == ["`"]):
            del brackets[len(brackets) - (sign == "}") :]
            at, is_open = _template_end(text, at)
            brackets += ["`"] * is_open
            before = "(" if is_open else "0"
            continue
        is_literal = kind not in {"sign", "word"} or (kind == "word" and before in MEMBER_SIGNS)
        before = "0" if is_literal else sign
        if sign in _OPENING:
            brackets.append(sign)
        elif sign in _CLOSING:
            if brackets[-1:] != [_CLOSING[sign]]:
                raise _UncertainError
            brackets.pop()
        yield _Token(kind or "", sign, match.start(), len(brackets))


def _next(text: str, at: int, before: str) -> re.Match[str]:
    """Return the next token, behind another: a slash divides, or begins a regular expression."""
    match = _TOKEN.match(text, at)
    if match is not None and match[0] == "/":
        if before in _AMBIGUOUS or _STATEMENT.search(text):
            raise _UncertainError
        match = match if _is_operand(before) else _REGULAR.match(text, at)
    if match is None or match.lastgroup == "comment":
        raise _UncertainError
    return match


def _is_operand(token: str) -> bool:
    """Return whether a slash behind this token divides."""
    return token in {")", "]"} or (
        re.match(r"[\w$#]", token) is not None and token not in _OPERATOR_WORDS
    )


def _template_end(text: str, at: int) -> tuple[int, bool]:
    """Return the end of a template's text, and whether an expression begins there."""
    match = _TEMPLATE_TEXT.match(text, at)
    at = at if match is None else match.end()
    return (at + 2, True) if text.startswith("${", at) else (at + 1, False)


def changes_nothing(text: str) -> bool:
    """Return whether an expression changes no part of its event, for certain.

    It assigns and makes nothing, and reaches no function that could: each of its names is a
    parameter, or a member that is not one of the few of JSON's values by which they can change.
    """
    parameters = {
        name for match in _PARAMETERS.finditer(text) for name in re.findall(r"[\w$]+", match[0])
    } - _EVERYTHING
    before = _Token("", "", 0, 0)
    try:
        for token in _tokens(text):
            if not _is_harmless(text, token, before, parameters):
                return False
            before = token
    except _UncertainError:
        return False
    return True


def _is_harmless(text: str, token: _Token, before: _Token, parameters: set[str]) -> bool:
    if token.kind == "sign":
        if token.text == "[" and _is_operand(before.text):
            return _INDEX.match(text, token.start) is not None
        is_spread = token.text == before.text == "."
        return not (is_spread or token.text in _CHANGING or _is_assignment(token.text))
    if token.kind != "word" or token.text[0].isdigit():
        return True
    if before.text in MEMBER_SIGNS:
        return token.text not in _REACHING
    return token.text in _HARMLESS or (token.text in parameters and token.text[0].islower())


def read_paths(text: str) -> list[Path] | None:
    """Return paths such that an expression reads nothing else of its event; None: there are none.

    Each mention of the event's name counts, also in a text or of a parameter with this name.
    """
    if _HIDING.search(text):
        return None
    paths: set[Path] = set()
    for name in _NAME.finditer(text):
        match = cast("re.Match[str]", _PATH.match(text, name.start()))
        keys = tuple(step.key for step in steps_of(match[0]))
        if keys and (keys[-1] == "length" or _CALL.match(text, match.end())):
            keys = keys[:-1]
        if not 0 < len(keys) <= PATH_LENGTH_MAX or len(paths) >= READ_PATHS_MAX:
            return None
        if any(map(UNUSABLE_KEY.search, keys)):
            return None
        paths.add(keys)
    return [
        path for path in sorted(paths) if not any(path[:end] in paths for end in range(len(path)))
    ]  # Sorted, they have the order of a tree's leaves.


class Reader:
    """Cutter of the part of an event that an expression reads.

    Args:
        paths: None of them within another.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._shape = shape = Shape()
        for path in paths:
            shape.add(path)
        self._decode = shape.compile()
        self._pick = shape.picker(paths)
        self._template = shape.template()
        self._skipped = 0

    def part(self, value: bytes) -> str | None:
        """Return JSON in which the paths lead to what they do in a value; None: take the value."""
        if self._skipped:
            self._skipped -= 1
            return None
        try:
            part = self._part(value)
        except (UndecidedError, msgspec.MsgspecError, RecursionError):
            return None
        if len(part) * PART_PAYS > len(value):
            self._skipped = SKIPPED_EVENTS
            return None
        return part.decode()

    def _part(self, value: bytes) -> bytes:
        decoded = self._decode(value)
        if not self._shape.children:
            return b"null"
        try:
            # A member that is None fails: nothing formats it.
            return bytes(self._template % self._pick(decoded))
        except (AttributeError, TypeError):
            return self._shape.skeleton(decoded)
