"""Spelling of lines: what a slice of an event and the engine's line of the same have in common."""

import json
import math
import re

from stream_app.expressions.expression import Failure, Outcome


class Digits(str):
    """A number as it is written."""

    __slots__ = ()


def exact(text: str | bytes) -> object:
    return json.loads(text, parse_int=Digits, parse_float=Digits)


def as_engine(value: object) -> object:
    """Return what the engine writes for a decoded event that it passes on, decoded."""
    if isinstance(value, Digits):
        number = float(value)
        if abs(number) >= 2**53 and value.removeprefix("-").isdigit():
            return int(value) if math.isfinite(number) else value
        return number if math.isfinite(number) else None
    if isinstance(value, list):
        return [as_engine(it) for it in value]
    if isinstance(value, dict):
        return {key: as_engine(it) for key, it in value.items()}
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)  # Decoding has joined the pairs.
    return value


def is_clash(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and "are one number in JavaScript" in outcome.error


def has_clash(value: bytes) -> bool:
    """Return whether two integers beyond 2^53, or one and another number, are one double."""
    numbers: dict[float, set[str]] = {}
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|-?[0-9][-+.0-9eE]*', value.decode()):
        if token[0] != '"' and abs(float(token)) >= 2**53:
            numbers.setdefault(float(token), set()).add(token)
    return any(
        (len(tokens) > 1 or math.isinf(number))
        and any(it.removeprefix("-").isdigit() for it in tokens)
        for number, tokens in numbers.items()
    )


def is_same(value: bytes | None, fast: Outcome, by_engine: Outcome) -> bool:
    """Return whether the outcome for a value is the engine's, but for the spelling of a slice."""
    if not isinstance(fast, bytes):
        return fast == by_engine
    if isinstance(by_engine, bytes):
        return fast == by_engine or as_engine(exact(fast)) == as_engine(exact(by_engine))
    return is_clash(by_engine) and value is not None and has_clash(value)
