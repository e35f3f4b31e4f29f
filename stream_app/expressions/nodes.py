"""Nodes of an expression that needs no engine: how its parts are computed from an event.

A *node* computes the value of a part from a decoded event, with JavaScript's order and truth
values. It also has the part's *traced* text, for events that only the engine can decide: the same
expression, in which each value that a path delivers is marked, so that its slice can replace it.

Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from stream_app.expressions import values
from stream_app.expressions.shape import INHERITED, Path, Shape, Step, walk
from stream_app.expressions.values import UndecidedError, Value

BLANKS: Final = b" \t\r\n"
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

Compute = Callable[[Any, bytes], Value]
"""Function from a decoded event, and its bytes, to a value; raises `UndecidedError`,
AttributeError or what msgspec raises where the engine is to decide."""
Test = Callable[[Any, bytes], bool]
"""Function from the same to a truth value."""


class Constant(NamedTuple):
    """Value that an expression has by itself."""

    value: Value


@dataclass(slots=True)
class Node:
    """Part of an expression."""

    value: Compute
    truth: Test
    text: str
    traced: str
    """The text, with a mark on each value of a path that may be delivered."""
    constant: Constant | None = None
    path: Path | None = None
    """The keys of a plain path."""
    members: Sequence[tuple[str, "Node"]] | None = None
    """Names and values of an object."""
    parenthesis: int | None = None
    """Position of a parenthesis around a slice that is delivered: it asks for JavaScript's own
    spelling."""


def computed(value: Compute, text: str, traced: str | None = None, *delivered: Node) -> Node:
    """Return the node of a value; `delivered` are parts whose slices may be its own."""

    def truth(event: Any, whole: bytes) -> bool:  # noqa: ANN401 - a decoded event
        return values.is_true(value(event, whole))

    node = Node(value, truth, text, traced or f"({text})")
    node.parenthesis = first_parenthesis(delivered)
    return node


def first_parenthesis(nodes: Sequence[Node]) -> int | None:
    """Return the parenthesis of the first node that has one."""
    return next((it.parenthesis for it in nodes if it.parenthesis is not None), None)


def tested(truth: Test, text: str) -> Node:
    """Return the node of a truth value."""

    def value(event: Any, whole: bytes) -> Value:  # noqa: ANN401 - a decoded event
        return values.TRUE if truth(event, whole) else values.FALSE

    return Node(value, truth, text, f"({text})")


def quoted(name: str) -> str:
    """Return a name as JSON."""
    return values.encoded(name).decode()


def literal(value: Value, text: str) -> Node:
    """Return the node of a literal."""
    is_true = values.is_true(value)
    return Node(
        lambda _, __: value, lambda _, __: is_true, text, f"({text})", constant=Constant(value)
    )


def value_at(leaf: Shape, steps: Sequence[Step]) -> Compute:
    """Return the value where a path ends."""
    is_inherited = steps[-1].key in INHERITED

    def value(event: Any, _: bytes) -> Value:  # noqa: ANN401 - a decoded event
        raw = leaf.get(event)
        if raw is None:
            if is_inherited:
                raise UndecidedError
            return None
        return bytes(raw)

    def optional_value(event: Any, whole: bytes) -> Value:  # noqa: ANN401 - a decoded event
        try:
            return value(event, whole)
        except AttributeError:
            return walk(whole.strip(BLANKS), steps)

    return optional_value if any(step.is_optional for step in steps) else value


def unless_nullish(
    receiver: Compute, member: Callable[[bytes, Any, bytes], Value], *, is_optional: bool
) -> Compute:
    """Return the member of a value, or `undefined` where `?.` finds no value."""

    def value(event: Any, whole: bytes) -> Value:  # noqa: ANN401 - a decoded event
        found = receiver(event, whole)
        if found is None or found == values.NULL:
            if is_optional:
                return None
            raise UndecidedError
        return member(found, event, whole)

    return value


def negated(test: Test) -> Test:
    """Return the opposite of a truth value."""
    return lambda event, whole: not test(event, whole)


def both(left: Node, right: Node, text: str) -> Node:
    """Return the node of `&&`."""
    is_true, also = left.truth, right.truth
    one, other = left.value, right.value
    return Node(
        lambda event, whole: (other if is_true(event, whole) else one)(event, whole),
        lambda event, whole: is_true(event, whole) and also(event, whole),
        text,
        f"({left.text}?{right.traced}:{left.traced})",
        parenthesis=first_parenthesis((left, right)),
    )


def either(left: Node, right: Node, text: str) -> Node:
    """Return the node of `||`."""
    is_true, also = left.truth, right.truth
    one, other = left.value, right.value
    return Node(
        lambda event, whole: (one if is_true(event, whole) else other)(event, whole),
        lambda event, whole: is_true(event, whole) or also(event, whole),
        text,
        f"({left.text}?{left.traced}:{right.traced})",
        parenthesis=first_parenthesis((left, right)),
    )


def either_given(left: Node, right: Node, text: str) -> Node:
    """Return the node of `??`."""
    one, other = left.value, right.value

    def value(event: Any, whole: bytes) -> Value:  # noqa: ANN401 - a decoded event
        found = one(event, whole)
        return other(event, whole) if found is None or found == values.NULL else found

    return computed(value, text, f"({left.traced}??{right.traced})", left, right)


def equal(left: Node, right: Node) -> Test:
    """Return the comparison `===`."""
    if left.constant is not None:
        left, right = right, left
    one, other, constant = left.value, right.value, right.constant
    if constant is None:
        return lambda event, whole: values.equal(one(event, whole), other(event, whole))
    equals = values.equality(constant.value)
    return lambda event, whole: equals(one(event, whole))


def related(left: Node, sign: str, right: Node) -> Test:
    """Return a comparison by order."""
    if left.constant is not None:
        left, right, sign = right, left, _MIRRORED[sign]
    one, other, constant = left.value, right.value, right.constant
    if constant is not None and values.is_number(constant.value):
        compare = values.relation_to_number(sign, float(constant.value or b""))
        return lambda event, whole: compare(one(event, whole))
    compares = values.relation(sign)
    return lambda event, whole: compares(one(event, whole), other(event, whole))


def template_text(parts: Sequence[str | Compute]) -> Compute:
    """Return the text of a template's parts: its own texts, and values."""

    def value(event: Any, whole: bytes) -> Value:  # noqa: ANN401 - a decoded event
        return values.encoded(
            "".join(
                [it if isinstance(it, str) else values.as_text(it(event, whole)) for it in parts]
            )
        )

    return value


def object_value(members: Sequence[tuple[str, Node]]) -> Compute:
    """Return the JSON of an object, without members that are `undefined`."""
    named = [(values.encoded(name) + b":", node.value) for name, node in members]

    def value(event: Any, whole: bytes) -> Value:  # noqa: ANN401 - a decoded event
        parts = []
        for name, compute in named:
            member = compute(event, whole)
            if member is not None:
                parts.append(name + member)
        return b"{%b}" % b",".join(parts)

    return value
