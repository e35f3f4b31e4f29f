"""Values of JavaScript as slices of JSON, and what operators and methods make of them.

A value is the bytes of its JSON, as an event or `JSON.stringify` spells it, or None for
`undefined`. What JavaScript would convert, inherit or throw is *undecided*: the engine's.

Pure.
"""

import re
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, Final

import msgspec

Value = bytes | None

UNDEFINED: Final = "undefined"
TRUE, FALSE, NULL = b"true", b"false", b"null"
_TYPES: Final = {
    b'"': "string",
    b"t": "boolean",
    b"f": "boolean",
    b"n": "object",
    b"{": "object",
    b"[": "object",
}
_COMPOUND: Final = (b"{", b"[")
_NUMERIC: Final = b"-0123456789"
_RELATIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
RELATIONS: Final = frozenset(_RELATIONS)
_SAME_CASES: Final = re.compile("[\u0180-\U0010ffff]")
"""Characters whose case depends on the version of Unicode, or on their neighbors."""
_SAFE_DIGITS_MAX: Final = 15
"""Integers with so few digits are below 2^53."""
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class UndecidedError(Exception):
    """The engine is to decide about this event."""


def is_true(value: Value) -> bool:
    """Return whether a value is true in a condition."""
    if value is None or value in (FALSE, NULL, b'""'):  # A set would hash a long value.
        return False
    return not is_number(value) or float(value) != 0


def is_number(value: Value) -> bool:
    """Return whether a value is a number."""
    return value is not None and value[0] in _NUMERIC


def is_nullish(value: Value) -> bool:
    """Return whether a value is `undefined` or `null`."""
    return value is None or value == NULL


def type_of(value: Value) -> str:
    """Return what `typeof` says of a value."""
    return UNDEFINED if value is None else _TYPES.get(value[:1], "number")


def text_of(value: Value) -> str:
    """Return the text of a string; everything else is undecided."""
    if value is None or value[:1] != b'"':
        raise UndecidedError
    return _decoded(value)


def _decoded(value: bytes) -> str:
    if b"\\" not in value:
        return value[1:-1].decode()
    text: str = msgspec.json.decode(value)
    return text


def encoded(text: str) -> bytes:
    """Return a string as `JSON.stringify` spells it."""
    return msgspec.json.encode(text)


def equality(constant: Value) -> Callable[[Value], bool]:
    """Return the comparison `===` with a constant that is no object."""
    if constant is not None and constant[:1] == b'"':
        text = _decoded(constant)

        def equals(value: Value) -> bool:
            if value == constant:
                return True
            # An escape may spell the same.
            return (
                value is not None
                and value[:1] == b'"'
                and (b"\\" in value or b"\\" in constant)
                and _decoded(value) == text
            )

        return equals
    if constant is not None and is_number(constant):
        number = float(constant)
        return lambda value: is_number(value) and float(value) == number  # type: ignore[arg-type]
    return lambda value: value == constant


def equal(left: Value, right: Value) -> bool:
    """Return what `===` says of two values; of two objects it is undecided."""
    if left is not None and left[:1] in _COMPOUND:
        if right is not None and right[:1] in _COMPOUND:
            raise UndecidedError
        return False
    return equality(left)(right)


def relation(sign: str) -> Callable[[Value, Value], bool]:
    """Return a comparison by order: of numbers, or of strings."""
    compare = _RELATIONS[sign]

    def compared(left: Value, right: Value) -> bool:
        if is_number(left) and is_number(right):
            return compare(float(left), float(right))  # type: ignore[arg-type]
        # By code units, as JavaScript does.
        return compare(text_of(left).encode("utf-16-be"), text_of(right).encode("utf-16-be"))

    return compared


def relation_to_number(sign: str, number: float) -> Callable[[Value], bool]:
    """Return a comparison by order with a number on the right."""
    compare = _RELATIONS[sign]

    def compared(value: Value) -> bool:
        if not is_number(value):
            raise UndecidedError  # JavaScript converts it.
        return compare(float(value), number)  # type: ignore[arg-type]

    return compared


def starts_with(value: Value, part: Value) -> Value:
    """Return what `startsWith` does."""
    return TRUE if text_of(value).startswith(text_of(part)) else FALSE


def ends_with(value: Value, part: Value) -> Value:
    """Return what `endsWith` does."""
    return TRUE if text_of(value).endswith(text_of(part)) else FALSE


def includes(value: Value, part: Value) -> Value:
    """Return what `includes` of a string or of an array does."""
    if value is not None and value[:1] == b"[":
        # No array has NaN here, for which alone `includes` differs from `===`.
        found = any(equal(part, bytes(it)) for it in _ITEMS.decode(value))
    else:
        found = text_of(part) in text_of(value)
    return TRUE if found else FALSE


def lower_case(value: Value) -> Value:
    """Return what `toLowerCase` does."""
    if value is not None and value[:1] == b'"' and value.isascii() and b"\\" not in value:
        return value.lower()
    return encoded(_with_known_cases(text_of(value)).lower())


def upper_case(value: Value) -> Value:
    """Return what `toUpperCase` does."""
    return encoded(_with_known_cases(text_of(value)).upper())


def _with_known_cases(text: str) -> str:
    if _SAME_CASES.search(text):
        raise UndecidedError
    return text


def length(value: bytes) -> Value:
    """Return the member `length` of a string, an array or an object."""
    first = value[:1]
    if first == b'"':
        text = _decoded(value)
        count = len(text) if text.isascii() else len(text.encode("utf-16-be")) // 2
    elif first == b"[":
        count = len(_ITEMS.decode(value))
    elif first == b"{":
        own = _MEMBERS.decode(value).get("length")
        return None if own is None else bytes(own)
    else:
        raise UndecidedError
    return b"%d" % count


def as_text(value: Value) -> str:
    """Return the text of a value in a template."""
    if value is None:
        return UNDEFINED
    if value[:1] == b'"':
        return _decoded(value)
    if value[:1] in _COMPOUND:
        raise UndecidedError
    return value.decode() if value in {TRUE, FALSE, NULL} else _spelling(value)


def _spelling(token: bytes) -> str:
    """Return JavaScript's spelling of a number; that of unusual ones is undecided."""
    digits = token.removeprefix(b"-")
    if digits.isdigit() and len(digits) <= _SAFE_DIGITS_MAX:
        return "0" if digits == b"0" else token.decode()
    number = float(token)
    text = repr(number)
    if "e" in text or abs(number) >= 2**53 or number == 0:
        raise UndecidedError
    return text.removesuffix(".0")


def number_literal(token: str) -> Value:
    """Return the value of a number in an expression."""
    return _spelling(token.encode()).encode()
