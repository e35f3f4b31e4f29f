"""Generator of the fuzzer's inputs: expressions that mostly compile, and records of any bytes.

An expression is made in one of five ways:

- *grown* from a grammar, `javascript.txt`, whose `@native` is any function that the engine itself
  lists: so the natives of a new engine are fuzzed from the first day;
- *known*: a text from tests or documents, here next to any other;
- *mutated*: one of both with some tokens dropped, doubled, swapped or replaced;
- *crossed*: the tokens of two known texts, cut and joined;
- *soup*: tokens in any order, for the parser.

All randomness comes from the `random.Random` argument: one seed, one case.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEPTH_MAX: Final = 6
"""Nesting of symbols; below, only alternatives without symbols are chosen."""
SYMBOLS_MAX: Final = 120
"""Symbols of one expression; then too, only alternatives without symbols are chosen."""
MUTATIONS_MAX: Final = 5
SOUP_TOKENS_MAX: Final = 14
TEXT_LENGTH_MAX: Final = 20_000
"""Characters of one expression; longer ones are truncated, which is a mutation too."""

LIST_NATIVES: Final = r"""(() => {
  const open = Object.getOwnPropertyNames(globalThis).filter(name => name !== "globalThis")
    .map(name => [name, globalThis[name]]);
  const generator = (function* () {})(), seen = new Set(), list = [];
  for (const [name, o] of [
      ["Generator", generator], ["Generator", (async function* () {})()], ["Array", [].values()],
      ["Map", new Map().keys()], ["RegExp", "".matchAll(/a/g)], ["String", ""[Symbol.iterator]()],
      ["Iterator", generator.map(x => x)], ["Iterator", Iterator.from({ next() {} })],
      ["TypedArray", Int8Array]])
    open.push([`${name} `, Object.getPrototypeOf(o)]);
  while (open.length > 0) {
    const [path, o] = open.pop();
    if (Object(o) !== o || seen.has(o)) continue;
    seen.add(o);
    for (const key of Reflect.ownKeys(o)) {
      const { value, get } = Object.getOwnPropertyDescriptor(o, key);
      const step = typeof key === "symbol" ? `[${key.description}]` : `.${key}`;
      let got = value;   // Some methods are behind accessors, so that one's own can be assigned.
      try { got ??= get.call(o); } catch {}
      if (typeof got === "function") list.push(path + step);
      else if (get) list.push(`${path}${step}?`);
      open.push([path + step, got]);
    }
  }
  for (const key of Object.getOwnPropertyNames(globalThis))
    if (typeof globalThis[key] === "function") list.push(key);
  return list.sort();
})()"""
"""Expression that lists the names of all natives: `Array.prototype.map`; `Map.prototype.size?` is a
getter. Natives without a global path have the class and a space: `Generator .next`."""

_RECEIVERS: Final = {
    "Array": "@array",
    "ArrayBuffer": "new ArrayBuffer(@small, { maxByteLength: @size })",
    "BigInt": "@bigint",
    "DataView": "new DataView(new ArrayBuffer(@small, { maxByteLength: 64 }))",
    "Date": "@date",
    "DisposableStack": "new DisposableStack()",
    "Error": "@error",
    "Function": "@function",
    "Generator": "@generator",
    "Iterator": "@generator",
    "Map": "b",
    "Number": "@number",
    "Promise": "@promise",
    "RegExp": "@regexp",
    "Set": "new Set(@array)",
    "String": "@string",
    "Symbol": "@symbol",
    "TypedArray": "@buffer",
    "Uint8Array": "new Uint8Array(@small)",
    "WeakMap": "new WeakMap()",
}
"""Usual receivers of the methods of each class."""

_VALUES: Final = {"array", "evil", "object", "operation"}
_WEIGHTED: Final = re.compile(r"(\d)x (.*)")
_SYMBOL: Final = re.compile(r"@([a-z]+)")
_METHOD: Final = re.compile(r"(\.\w+|\[[\w.]+\])\??$")
_TOKEN: Final = re.compile(
    r"\s+|[A-Za-z_$#][\w$]*|\d[\w.]*|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`"
    r"|=>|\.\.\.|[-+*/%&|^<>=!?]+|.",
    re.DOTALL,
)


def _read_rules() -> dict[str, list[str]]:
    """Return the alternatives of each symbol, repeated by their weight."""
    rules: dict[str, list[str]] = {}
    symbol = ""
    for line in (Path(__file__).parent / "javascript.txt").read_text("utf-8").splitlines():
        if not line.startswith(" "):
            symbol = line
            continue
        for part in line.strip().split("   "):
            weighted = _WEIGHTED.match(part)
            weight, text = weighted.groups() if weighted else ("1", part)
            rules.setdefault(symbol, []).extend([text.replace("@empty", "")] * int(weight))
    return rules


RULES: Final = _read_rules()
_SOUP: Final = [*RULES["token"], *"\n\r\0\u2028\u00a0\ufeff\ud800\U0001f600"]


class Expressions:
    """Generator of expressions; `natives` is the result of `LIST_NATIVES`, `known` is mutated."""

    def __init__(self, natives: Sequence[str], known: Sequence[str]) -> None:
        self._natives = natives
        self._known = known
        self._last = {
            symbol: [text for text in texts if "@" not in text] or ["1"]
            for symbol, texts in RULES.items()
        }

    def draw(self, chance: random.Random) -> str:
        """Return one expression; most compile."""
        draw = chance.random()
        if draw < 0.58:
            text = self.grow(chance)
        elif draw < 0.66:
            text = _mutated(self.grow(chance), chance)
        elif draw < 0.74:
            text = chance.choice(self._known)
        elif draw < 0.88:
            text = _mutated(chance.choice(self._known), chance)
        elif draw < 0.95:
            one, two = (_TOKEN.findall(chance.choice(self._known)) for _ in range(2))
            text = "".join(one[: chance.randint(0, len(one))] + two[chance.randint(0, len(two)) :])
        else:
            tokens = (chance.choice(_SOUP) for _ in range(chance.randint(1, SOUP_TOKENS_MAX)))
            text = chance.choice(["", " "]).join(tokens)
        return text[:TEXT_LENGTH_MAX]

    def grow(self, chance: random.Random) -> str:
        """Return an expression of the grammar."""
        symbols = 0

        def expand(symbol: str, depth: int) -> str:
            nonlocal symbols
            symbols += 1
            if symbol == "native":
                text = self._native(chance)
            else:
                is_last = depth > DEPTH_MAX or symbols > SYMBOLS_MAX
                text = chance.choice((self._last if is_last else RULES)[symbol])
                if text.startswith("{") and symbol in _VALUES:
                    text = f"({text})"  # Or it would be a block behind an arrow.
            return _SYMBOL.sub(lambda match: expand(match[1], depth + 1), text)

        return expand("top", 0)

    def _native(self, chance: random.Random) -> str:
        """Return a call of any native, with symbols in it."""
        path = chance.choice(self._natives)
        owner = re.split("[ .]", path, maxsplit=1)[0]
        method = _METHOD.search(path)
        if method is None or not (".prototype" in path or " " in path):
            return chance.choice([f"{path}(@arguments)"] * 4 + [f"new {path}(@arguments)"])
        receiver = chance.choice(
            [_RECEIVERS.get(owner, "@object")] * 12 + ["a", "b", "c", "@expr", "@expr"]
        )
        if path.endswith("?"):
            return f"({receiver}){method[1]}"
        if " " not in path and chance.random() < 0.3:
            return f"{path}.call({receiver}, @arguments)"
        return f"({receiver}){method[1]}(@arguments)"


def _mutated(text: str, chance: random.Random) -> str:
    tokens = _TOKEN.findall(text)
    for _ in range(chance.randint(1, MUTATIONS_MAX)):
        if not tokens:
            break
        at = chance.randrange(len(tokens))
        to = at + chance.randint(1, 4)
        kind = chance.randrange(7)
        if kind == 0:
            del tokens[at:to]
        elif kind == 1:
            tokens[at:at] = tokens[at:to]
        elif kind == 2:
            tokens[at:to] = tokens[at:to][::-1]
        elif kind == 3:
            tokens.insert(at, chance.choice(_SOUP))
        elif kind == 4:
            tokens[at] = chance.choice(tokens)
        else:
            tokens[at] = _other(tokens[at], chance)
    return "".join(tokens)


def _other(token: str, chance: random.Random) -> str:
    if token[0].isdigit():
        return chance.choice(RULES["number"])
    if token[0].isalpha() and chance.random() < 0.7:
        return chance.choice(RULES["name"] + RULES["method"])
    return chance.choice(_SOUP)


# --- Records -------------------------------------------------------------------------------------

USUAL: Final = [
    b'{"a":[3,1,2],"b":{"x":1},"a b":"c"}',
    b'{"a":{"b":[1.5,null,"\\ud83d\\ude00"]},"b":true,"length":2}',
    b"[1,[2,3],{}]",
]
"""Values in which most expressions find something."""
_NUMBERS: Final = [
    *["0", "-0", "1", "17", "-1", "1.0", "0.5", "1e5", "1E-7", "1e999", "-1e999", "5e-324"],
    *["1e-400", "9007199254740993", "12345678901234567890123", "4294967295", "-2147483649"],
    *["9007199254740992", "12345678901234567890123.0"],
    "1" * 400,
]
_STRINGS: Final = [
    *['""', '"a"', '"abc"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\n"', '"\\/"', '"é"'],
    *['"\u2028\u2029"', '"\U0001f600"', '"\ufffe"', '"__proto__"', '"\x7f\x85"', f'"{"€" * 300}"'],
]
_KEYS: Final = [
    *["a", "a", "a", "b", "b", "x", "0", "1", "4294967295", "length", "constructor", "__proto__"],
    *["toString", "toJSON", "valueOf", "then", "a b", "", "é", "\U0001f600", "\ud800", "\n"],
]
_BROKEN: Final = [
    *[b"", b" ", b"{", b"[1,]", b"{a:1}", b"NaN", b"-", b"'a'", b"1 2", b"\xef\xbb\xbf1", b"nul"],
    *[
        b"undefined",
        b"01",
        b"/**/1",
        b"\xff",
        b'"\xed\xa0\x80"',
        b'{"a":"\xc3"}',
        b'"\x00"',
        b"\x00",
    ],
    *[b'"\n"', b"[" * 200_000, b"[" * 3_000 + b"]" * 3_000, b"1" * 100_000],
    *[b'{"a":' * 1_000 + b"1" + b"}" * 1_000, b'{"a":[' + b"1," * 30_000 + b"1]}"],
    b'{"a":"' + b"x" * 300_000 + b'"}',
]
"""Values that are not JSON, or large or deep JSON."""


@dataclass(frozen=True)
class Made:
    """A record without Kafka."""

    value: bytes | None
    topic: str = "events"
    partition: int = 1
    offset: int = 2
    timestamp: int = 1_500_000_000_000
    key: bytes | None = b"orders"
    headers: tuple[tuple[str, bytes], ...] = (("trace", b"7f"),)


def record(chance: random.Random) -> Made:
    """Return a record; one in three has a broken or unusual value, one in five unusual parts."""
    draw = chance.random()
    value: bytes | None = None
    if draw < 0.4:
        value = chance.choice(USUAL)
    elif draw < 0.5:
        value = chance.choice(_BROKEN)
    elif draw < 0.98:
        value = _json(chance, 4).encode("utf-8", "surrogatepass")
        if draw < 0.6:
            at = chance.randint(0, len(value))
            value = value[:at] + chance.choice([b"", b"\xff", b"\x00", b",", b"\\", b"\n"])
    if chance.random() < 0.8:
        return Made(value, offset=chance.randrange(1_000))
    return Made(
        value,
        topic=chance.choice(["events", "t" * 249]),
        partition=chance.choice([0, 2**31 - 1]),
        offset=chance.choice([0, 2**63 - 1]),
        timestamp=chance.choice([-1, 0, 8_640_000_000_000_000, 2**63 - 1, -(2**63)]),
        key=chance.choice([None, b"", b"\xff\x00", "é".encode()]),
        headers=chance.choice(
            [(), (("a", b"\xff"), ("a", b"2")), (("__proto__", b"x"),), (("", b"\n\x00"),)]
        ),
    )


def _json(chance: random.Random, depth: int) -> str:
    """Return unusual JSON text: repeated keys, numbers and strings at the limits of their types."""
    kind = chance.randrange(9 if depth > 0 else 5)
    if kind < 1:
        return chance.choice(["null", "true", "false"])
    if kind < 3:
        return chance.choice(_NUMBERS)
    if kind < 5:
        return chance.choice(_STRINGS)
    space = chance.choice(["", "", "", " ", "\n", "\r\n\t"])
    parts = [_json(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    if kind < 7:
        return f"[{space}{f'{space},{space}'.join(parts)}{space}]"
    keys = (json.dumps(chance.choice(_KEYS), ensure_ascii=chance.random() < 0.5) for _ in parts)
    members = (f"{key}{space}:{part}" for key, part in zip(keys, parts, strict=True))
    return f"{{{f',{space}'.join(members)}{space}}}"
