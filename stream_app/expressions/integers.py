"""Integers beyond 2^53 of an event, which JavaScript's numbers round, and their digits in its line.

An expression sees plain numbers, as in JavaScript, so a number of its result has no origin. If it
is equal, in JavaScript, to an integer of the event, it is written with the digits of that one.
Integers that are one number in JavaScript *clash*: then only the engine can decide (`prelude.js`,
part 4).

Most events have no large integer, which costs 1 us a kilobyte to find out.

Pure.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

EXACT_END: Final = 2**53
"""Below it each integer is a number of its own; it has 16 digits."""
SHOWN_DIGITS_MAX: Final = 24

_ZEROS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_RUN: Final = b"0" * 16
_EXPONENT: Final = b"0e"
_NUMERIC: Final = b"0e.+-"
"""All that numbers consist of, when translated."""
_NINE: Final = 0x39
_INFINITE: Final = (float("inf"), float("-inf"))
_NUMBER: Final = re.compile(rb"-?[0-9][-+.eE0-9]*+")
"""The rest of the grammar is not needed where there is JSON."""
_ESCAPES: Final = ((b"\\\\", b"\2\2"), (b'\\"', b"\2\3"))
"""Sequences with what no JSON has instead of them; then each quote begins or ends a string."""


@dataclass(frozen=True, slots=True)
class Integers:
    """Integers beyond 2^53 of one event."""

    digits: dict[bytes, bytes]
    """The event's digits, by the spelling that JavaScript has for the number."""
    clashes: str | None
    """For the engine, if integers clash: JSON with the members `event`, in which each of them is a
    string, and `clashes`, a list of each number, as one of them, with the text of an error."""

    def restored(self, line: bytes) -> bytes:
        """Return a line of `JSON.stringify` with the event's digits."""
        for part in (_RUN, _EXPONENT):
            if any((b"e" in it) == (part is _EXPONENT) for it in self.digits):
                line = _replaced(line, part, lambda it: self.digits.get(it, it))
        return line


def may_show(value: bytes, line: bytes) -> bool:
    """Return whether an integer beyond 2^53 of an event may be in its line; False is certain."""
    # A long line takes longer to search than the event. JSON.stringify writes large exponents, and
    # null for infinity.
    is_long = len(line) * 4 > len(value)
    may_have = is_long or _has_large(line) or b"e+" in line or b"null" in line
    return may_have and _has_large(value)


def integers_of(value: bytes) -> Integers | None:
    """Return the integers beyond 2^53 of an event, or None if it has none.

    If the value is not JSON, the result has no meaning.
    """
    first: dict[float, bytes] = {}
    clashing: dict[float, set[bytes]] = {}
    for start, end in _numbers(value, _RUN, _EXPONENT):
        token = value[start:end]
        number = _double(token)
        if abs(number) >= EXACT_END:
            other = first.setdefault(number, token)
            if other != token or number in _INFINITE:
                clashing.setdefault(number, {other}).add(token)
    # A number with a fraction or an exponent is a double for its producer too.
    clashing = {number: it for number, it in clashing.items() if any(map(_is_integer, it))}
    digits = {
        _spelling(number): token
        for number, token in first.items()
        if number not in clashing and _is_integer(token)
    }
    if clashing:
        return Integers(digits, _clashes(value, clashing))
    return Integers(digits, None) if digits else None


def _has_large(text: bytes) -> bool:
    """Return whether JSON may have integers beyond 2^53, without exponents; False is certain."""
    zeros = text.translate(_ZEROS)
    at = zeros.find(_RUN)
    while at >= 0 and text[at] != _NINE and zeros[at + 16 : at + 17] != b"0":
        at = zeros.find(_RUN, at + 17)
    return at >= 0


def _clashes(value: bytes, clashing: Mapping[float, set[bytes]]) -> str:
    def quoted(token: bytes) -> bytes:
        return b'"%b"' % token if _is_integer(token) and float(token) in clashing else token

    event = _replaced(value, _RUN, quoted).decode()
    errors = [[min(tokens).decode(), _error(tokens)] for tokens in clashing.values()]
    return f'{{"event":{event},"clashes":{json.dumps(errors)}}}'


def _numbers(text: bytes, *parts: bytes) -> Iterator[tuple[int, int]]:
    """Yield the span of each number outside of strings in which a part is, for each part."""
    if b"\\" in text:
        for escape, mask in _ESCAPES:
            text = text.replace(escape, mask)
    zeros = text.translate(_ZEROS)
    for part in parts:
        end = quotes = counted = 0
        while (at := zeros.find(part, end)) >= 0:
            quotes += text.count(b'"', counted, at)
            counted = at
            if quotes % 2 == 1:  # In a string.
                end = max(at, text.find(b'"', at)) + 1
                quotes, counted = quotes + 1, end
                continue
            start = at
            while start > end and zeros[start - 1] in _NUMERIC:
                start -= 1
            match = _NUMBER.match(text, start)
            if match is None:
                break  # It is not JSON.
            end = match.end()
            yield start, end


def _replaced(text: bytes, part: bytes, new: Callable[[bytes], bytes]) -> bytes:
    pieces: list[bytes] = []
    done = 0
    for start, end in _numbers(text, part):
        pieces += (text[done:start], new(text[start:end]))
        done = end
    return b"".join([*pieces, text[done:]])


def _double(token: bytes) -> float:
    try:
        return float(token)
    except ValueError:
        return 0.0  # The value is not JSON.


def _is_integer(token: bytes) -> bool:
    return token.removeprefix(b"-").isdigit()


def _spelling(number: float) -> bytes:
    """Return JavaScript's spelling of a large number."""
    # Both languages choose the fewest digits; JavaScript writes the exponent from 1e21 on.
    text = repr(number)
    if abs(number) < 1e21:  # noqa: PLR2004
        digits, _, exponent = text.removesuffix(".0").partition("e+")
        if exponent:
            sign = number < 0
            digits = digits.replace(".", "").ljust(int(exponent) + 1 + sign, "0")
        text = digits
    return text.encode()


def _error(tokens: set[bytes]) -> str:
    shown = [
        it if len(it) <= SHOWN_DIGITS_MAX else f"{it[:16]}… ({len(it)} digits)"
        for it in sorted(token.decode() for token in tokens)
    ]
    both = f"{shown[0]} and {shown[1] if len(shown) > 1 else 'infinity'}"
    return (
        f"RangeError: the event's {both} are one number in JavaScript: deliver them by plain paths "
        "or in an object of the event, or send strings"
    )
