"""Parser of the expressions that need no engine: paths, literals, and operators over both.

    $event.method === "POST" && $event.status < 500  ?  { id: $event.body.id }  :  undefined

Pure.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from stream_app.expressions import nodes, values
from stream_app.expressions.nodes import BLANKS, Compute, Node
from stream_app.expressions.shape import PATH_LENGTH_MAX, Shape, Step
from stream_app.expressions.values import UndecidedError, Value

TOKENS_MAX: Final = 4_096
"""Longer expressions are left to the engine."""
DEPTH_MAX: Final = 32
"""Expressions with more parts in one another are left to the engine."""

# Strings with a backslash are left to the engine, and so are comments and white space beyond ASCII.
# White space is matched possessively (`*+`): backtracking never helps, and costs quadratic time.
_S: Final = r"[ \t\r\n]*+"
_STRING: Final = r"""(?:"[^"\\\r\n]*"|'[^'\\\r\n]*')"""
_NAME: Final = r"[A-Za-z_$][A-Za-z0-9_$]*+"
_STEP: Final = rf"{_S}(?:\?\.|\.){_S}{_NAME}|{_S}(?:\?\.{_S})?\[{_S}{_STRING}{_S}\]"
PATH: Final = rf"(?:\$event|event)(?![A-Za-z0-9_$])(?:{_STEP})*+"
_STEP_PARTS: Final = re.compile(rf"{_S}(\?\.)?{_S}(?:\[{_S}({_STRING}){_S}\]|\.?{_S}({_NAME}))")
_TOKEN: Final = re.compile(
    rf"{_S}(?:(?P<path>{PATH})|(?P<string>{_STRING})"
    r"|(?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?![\w.$]))"
    r"|(?P<word>(?:undefined|null|true|false|typeof)(?![\w$]))"
    rf"|(?P<name>{_NAME})"
    r"|(?P<sign>===|!==|&&|\|\||\?\?|\?\.(?![0-9])|[<>]=|[<>](?![<>=])|!(?!=)|[(){}\[\],:?.`]))"
)
_CHUNK: Final = re.compile(r"(?:[^`$\\\r]|\$(?!\{))*+")
_INTEGER_KEY: Final = re.compile(r"[0-9]+")
_REFUSED: Final = re.compile(
    rf"(?P<comment>//|/\*)|(?P<name>(?:\?\.|\.)?{_S}{_NAME}(?:{_S}\.{_S}{_NAME})*)(?P<call>{_S}\()?"
    r"|[\w$]+(?:\.[0-9]\w*)?|[\"'`(){}\[\],:;]|[^\w\s\"'`(){}\[\],:;]{1,3}"
)
"""What the parser has found where it stops."""
UNUSABLE_KEY: Final = re.compile(r'["\x00-\x1f]')
"""msgspec refuses such keys."""
_WORDS: Final = {
    "undefined": None,
    "null": values.NULL,
    "true": values.TRUE,
    "false": values.FALSE,
}
_EQUALITIES: Final = frozenset(["===", "!=="])
_COMPARISONS: Final = _EQUALITIES | values.RELATIONS
_TEXT_METHODS: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "endsWith": values.ends_with,
    "includes": values.includes,
    "startsWith": values.starts_with,
}
_CASE_METHODS: Final[dict[str, Callable[[Value], Value]]] = {
    "toLowerCase": values.lower_case,
    "toUpperCase": values.upper_case,
}
_METHODS: Final = frozenset([*_TEXT_METHODS, *_CASE_METHODS])
SHOWN_LENGTH_MAX: Final = 40
"""Characters of an expression that a reason repeats."""


class RefusedError(Exception):
    """The engine evaluates this expression over every event.

    Args:
        reason: What the parser does not know: `calls .map at column 12`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Parsed(NamedTuple):
    """Expression that needs no engine, or of which only the condition does."""

    node: Node
    otherwise: Node | None
    """What the expression is if its condition, which is the engine's, is false."""
    shape: Shape
    leaves: Sequence[Sequence[Step]]
    """The paths that traced texts have marked, by the number of the mark."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Parsed:
    """Return the parsed expression.

    Raises:
        RefusedError: It needs the engine.
    """
    parser = _Parser(text, 0)
    node = parser.result()
    parser.require_end()
    return Parsed(node, None, parser.shape, parser.leaves)


def parse_branches(text: str, start: int) -> Parsed:
    """Return what follows the question mark of a condition that is the engine's.

    Raises:
        RefusedError: This needs the engine, too.
    """
    parser = _Parser(text, start)
    node = parser.result()
    parser.require(":")
    otherwise = parser.result()
    parser.require_end()
    return Parsed(node, otherwise, parser.shape, parser.leaves)


def place(text: str, at: int) -> str:
    """Return the name of a position in an expression."""
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return f"line {line}, column {column}" if "\n" in text.strip() else f"column {column}"


def steps_of(path: str) -> list[Step]:
    """Return the steps of a path that matches `PATH`."""
    start = len("$event") if path.startswith("$") else len("event")
    return [
        Step(match[2][1:-1] if match[2] else match[3], match[1] is not None)
        for match in _STEP_PARTS.finditer(path, start)
    ]


class _Parser:
    """Parser of one expression; collects the paths that it reads."""

    def __init__(self, text: str, start: int) -> None:
        self.shape = Shape()
        self.leaves: list[Sequence[Step]] = []
        self._text = text
        self._count = 0
        self._depth = 0
        self._done = start
        """Where the last token that was taken ends."""
        self._last = ""
        self._token = self._read(start)

    def result(self) -> Node:
        """Return the node of an expression that is delivered."""
        node = self.expression()
        if node.parenthesis is not None:
            raise self._refused(node.parenthesis)
        return node

    def require_end(self) -> None:
        if self._token.kind != "end":
            raise self._refused()

    def _read(self, at: int) -> _Token:
        match = _TOKEN.match(self._text, at)
        if match is None:
            start = len(self._text) - len(self._text[at:].lstrip(" \t\r\n"))
            return _Token("end" if start == len(self._text) else "other", "", start, start)
        self._count += 1
        if self._count > TOKENS_MAX:
            raise RefusedError(f"has more than {TOKENS_MAX} names, literals and signs")
        kind = match.lastgroup or ""
        return _Token(kind, match[kind], match.start(kind), match.end())

    def _advance(self) -> _Token:
        token = self._token
        self._done, self._last = token.end, token.text
        self._token = self._read(token.end)
        return token

    def _take(self, texts: "frozenset[str]") -> str | None:
        """Return the present sign and go on, if it is one of these."""
        if self._token.kind != "sign" or self._token.text not in texts:
            return None
        return self._advance().text

    def require(self, text: str) -> None:
        """Go on behind this sign."""
        if self._take(frozenset([text])) is None:
            raise self._refused()

    def _refused(self, at: int | None = None) -> RefusedError:
        """Return the error that names what stands at a position, or at the present token."""
        text, at = self._text, self._token.start if at is None else at
        at = len(text) - len(text[at:].lstrip(" \t\r\n"))
        match = _REFUSED.match(text, at)
        if match is None:
            what = "has a character beyond ASCII"
        elif match[0] in {'"', "'"}:
            what = "has a text with a backslash"
        elif match["comment"]:
            what = "has a comment"
        else:
            shown = "".join((match["name"] or match[0]).split())
            shown = shown if len(shown) <= SHOWN_LENGTH_MAX else shown[:SHOWN_LENGTH_MAX] + "…"
            what = f"{'calls' if match['call'] else 'uses'} {shown}"
        return RefusedError(f"{what} at {place(text, at)}")

    def _nested(self, parse: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise RefusedError(f"has more than {DEPTH_MAX} parts in one another")
        inner = parse()
        self._depth -= 1
        return inner

    def _since(self, start: int) -> str:
        return self._text[start : self._done]

    # --- Operators, from those that bind least ----------------------------------------------------

    def expression(self) -> Node:
        """Return the node of a whole expression, up to what cannot belong to it."""
        start = self._token.start
        condition = self._either()
        if self._take(frozenset("?")) is None:
            return condition
        one = self._nested(self.expression)
        self.require(":")
        other = self._nested(self.expression)
        is_true, one_value, other_value = condition.truth, one.value, other.value
        return nodes.computed(
            lambda event, whole: (one_value if is_true(event, whole) else other_value)(
                event, whole
            ),
            self._since(start),
            f"({condition.text}?{one.traced}:{other.traced})",
            one,
            other,
        )

    def _either(self) -> Node:
        start = self._token.start
        left = self._both()
        while sign := self._take(frozenset(["||", "??"])):
            right = self._both()
            combine = nodes.either if sign == "||" else nodes.either_given
            left = combine(left, right, self._since(start))
        return left

    def _both(self) -> Node:
        start = self._token.start
        left = self._equality()
        while self._take(frozenset(["&&"])):
            left = nodes.both(left, self._equality(), self._since(start))
        return left

    def _equality(self) -> Node:
        start = self._token.start
        left = self._relation()
        while sign := self._take(_EQUALITIES):
            right = self._relation()
            equal = nodes.equal(left, right)
            left = nodes.tested(
                equal if sign == "===" else nodes.negated(equal), self._since(start)
            )
        return left

    def _relation(self) -> Node:
        start = self._token.start
        left = self._unary()
        while sign := self._take(values.RELATIONS):
            left = nodes.tested(nodes.related(left, sign, self._unary()), self._since(start))
        return left

    def _unary(self) -> Node:
        start = self._token.start
        if self._take(frozenset("!")):
            return nodes.tested(nodes.negated(self._nested(self._unary).truth), self._since(start))
        if self._token.kind == "word" and self._token.text == "typeof":
            self._advance()
            value = self._nested(self._unary).value
            return nodes.computed(
                lambda event, whole: b'"%b"' % values.type_of(value(event, whole)).encode(),
                self._since(start),
            )
        return self._member(start)

    # --- Members and calls ------------------------------------------------------------------------

    def _member(self, start: int) -> Node:
        node = self._path() if self._token.kind == "path" else self._primary()
        while sign := self._take(frozenset([".", "?."])):
            at = self._done - len(sign)
            if self._token.kind != "name":
                raise self._refused()
            name = self._advance().text
            node = self._called(node, Step(name, sign == "?."), start, at)
        return node

    def _path(self) -> Node:
        """Return the node of a path, or of the call or length that it ends in."""
        token = self._advance()
        steps = steps_of(token.text)
        if len(steps) > PATH_LENGTH_MAX:
            raise RefusedError(f"has a path of more than {PATH_LENGTH_MAX} names")
        if any(UNUSABLE_KEY.search(step.key) for step in steps):
            raise RefusedError(f"has an unusual name at {place(self._text, token.start)}")
        if not steps or (self._token.text != "(" and steps[-1].key != "length"):
            return self._plain(steps, token.text)
        # The last step begins where the path without it ends.
        match = [*_STEP_PARTS.finditer(token.text)][-1]
        at = token.start + match.start()
        if match[2] is not None and self._token.text == "(":
            raise self._refused(at)
        node = self._plain(steps[:-1], self._text[token.start : at])
        if self._token.text == "(":
            return self._called(node, steps[-1], token.start, at)
        length = self._length(node, steps[-1].is_optional, token.start)
        length.traced = f"s({length.text},{len(self.leaves)})"
        length.path = tuple(step.key for step in steps)
        self.leaves.append(steps)
        return length

    def _plain(self, steps: Sequence[Step], text: str) -> Node:
        keys = tuple(step.key for step in steps)
        traced = f"s({text},{len(self.leaves)})"
        self.leaves.append(steps)
        if not keys:
            node = nodes.computed(lambda _, whole: whole.strip(BLANKS), text, traced)
        else:
            node = nodes.computed(nodes.value_at(self.shape.add(keys), steps), text, traced)
        node.path = keys
        return node

    def _called(self, node: Node, step: Step, start: int, at: int) -> Node:
        name, is_optional = step
        if name == "length" and self._token.text != "(":
            return self._length(node, is_optional, start)
        if name not in _METHODS or self._token.text != "(":
            raise self._refused(at)
        self._advance()
        receiver = node.value
        if name in _CASE_METHODS:
            change = _CASE_METHODS[name]
            self.require(")")
            return nodes.computed(
                nodes.unless_nullish(
                    receiver, lambda it, _, __: change(it), is_optional=is_optional
                ),
                self._since(start),
            )
        part = self._nested(self.expression).value
        self.require(")")
        test = _TEXT_METHODS[name]
        return nodes.computed(
            nodes.unless_nullish(
                receiver,
                lambda it, event, whole: test(it, part(event, whole)),
                is_optional=is_optional,
            ),
            self._since(start),
        )

    def _length(self, node: Node, is_optional: bool, start: int) -> Node:  # noqa: FBT001
        return nodes.computed(
            nodes.unless_nullish(
                node.value, lambda it, _, __: values.length(it), is_optional=is_optional
            ),
            self._since(start),
        )

    # --- Literals ---------------------------------------------------------------------------------

    def _primary(self) -> Node:
        kind, text, start, _ = self._token
        if kind in {"string", "word"} and text != "typeof":
            self._advance()
            return nodes.literal(
                values.encoded(text[1:-1]) if kind == "string" else _WORDS[text], text
            )
        if kind == "number":
            return self._number()
        if text == "`":
            return self._nested(self._template)
        if self._take(frozenset("(")):
            inner = self._nested(self.expression)
            self.require(")")
            if inner.path is not None or inner.members is not None:
                inner.parenthesis = start
            inner.text = self._since(start)
            inner.path = inner.members = None
            return inner
        if self._take(frozenset("{")):
            return self._nested(lambda: self._object(start))
        if self._take(frozenset("[")):
            return self._list(start)
        raise self._refused()

    def _number(self) -> Node:
        is_compared = self._last in _COMPARISONS
        token = self._advance()
        number = token.text.encode()
        if is_compared or self._token.text in _COMPARISONS:
            return nodes.literal(number, token.text)
        try:
            return nodes.literal(values.number_literal(token.text), token.text)
        except UndecidedError:
            raise self._refused(token.start) from None

    def _template(self) -> Node:
        start = self._token.start
        parts: list[str | Compute] = []
        at = self._token.end
        while True:
            match = _CHUNK.match(self._text, at)
            parts.append(match[0] if match else "")
            at += len(parts[-1])  # type: ignore[arg-type]
            if self._text.startswith("`", at):
                self._done, self._last = at + 1, "`"
                self._token = self._read(at + 1)
                return nodes.computed(nodes.template_text(parts), self._since(start))
            if not self._text.startswith("${", at):
                raise self._refused(at)
            self._token = self._read(at + 2)
            parts.append(self.expression().value)
            if self._token.text != "}":
                raise self._refused()
            at = self._token.end

    def _object(self, start: int) -> Node:
        members: list[tuple[str, Node]] = []
        while self._take(frozenset("}")) is None:
            token = self._token
            if token.kind not in {"string", "name", "word", "path"}:
                raise self._refused()
            self._advance()
            name = token.text[1:-1] if token.kind == "string" else token.text
            if self._token.text != ":":
                raise self._refused(token.start)
            if (
                name == "__proto__"  # This sets the prototype instead.
                or _INTEGER_KEY.fullmatch(name)  # JavaScript moves these ahead.
                or name in {it for it, _ in members}  # The last wins, at the first position.
            ):
                raise RefusedError(f"has the name {name} at {place(self._text, token.start)}")
            self._advance()
            members.append((name, self.expression()))
            if self._token.text != "}":
                self.require(",")
        traced = ",".join(f"{nodes.quoted(name)}:{node.traced}" for name, node in members)
        node = nodes.computed(
            nodes.object_value(members),
            self._since(start),
            f"({{{traced}}})",
            *(member for _, member in members),
        )
        node.members = members
        return node

    def _list(self, start: int) -> Node:
        """Return the node of a list of literals, which only `includes` may follow."""
        items: list[bytes] = []
        while self._take(frozenset("]")) is None:
            self._last = "==="
            at = self._token.start
            if self._token.kind not in {"string", "number", "word"}:
                raise self._refused(start)
            constant = self._primary().constant
            if constant is None or constant.value is None:
                raise self._refused(at)
            items.append(constant.value)
            if self._token.text != "]":
                self.require(",")
        if not re.compile(rf"{_S}\.{_S}includes{_S}\(").match(self._text, self._done):
            raise self._refused(start)
        found = b"[%b]" % b",".join(items)
        return nodes.computed(lambda _, __: found, self._since(start))
