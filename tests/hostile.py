"""Expressions that attack their engine, and how the message of each failure begins.

Two suites run the same table: `unit/expressions/test_engine.py` on the engine alone, and
`integration/worker/test_hostile.py` in a real worker. Each text is an expression of its own; both
suites put it behind a condition, so that it attacks in one event and not in the next.
"""

from typing import Final

TIME: Final = "InternalError: interrupted: ran longer than "
"""The limit in seconds follows, which depends on the suite."""
MEMORY: Final = "InternalError: out of memory (or null was thrown): the limit is 33554432 bytes"
STACK: Final = (
    "RangeError: Maximum call stack size exceeded: recursion or JSON too deep for 262144 bytes of "
    "stack"
)
FROZEN: Final = "TypeError: object is not extensible"

HOSTILE: Final = {
    "endless loop": ("(() => { for (;;); })()", TIME),
    "endless loop that catches": ("(() => { for (;;) try { for (;;); } catch {} })()", TIME),
    "endless generator": ("[...(function* () { for (;;) yield 1; })()].length", MEMORY),
    "endless promise": ("(async () => { for (;;); })()", TIME),
    "endless getter": ("{ get a() { for (;;); } }", TIME),
    "endless toJSON": ("{ toJSON() { for (;;); } }", TIME),
    "endless proxy": ("new Proxy({}, { ownKeys() { for (;;); } })", TIME),
    "endless text of an exception": ("(() => { throw { toString() { for (;;); } } })()", TIME),
    "catastrophic regular expression": ("/(a+)+$/.test('a'.repeat(40) + 'b')", TIME),
    "string bomb": ("(() => { let s = 'x'; for (;;) s += s; })()", MEMORY),
    "array bomb": ("Array(1e9).fill(0)", MEMORY),
    "buffer bomb": ("new ArrayBuffer(1e9)", MEMORY),
    "BigInt bomb": ("(() => { let b = 3n; for (;;) b = b ** b; })()", "RangeError: BigInt is too"),
    "deep result": (
        "(() => { let o; for (let i = 0; i < 1e5; i++) o = [o]; return o; })()",
        STACK,
    ),
    "deep recursion": ("(function f() { return f() + 1; })()", STACK),
    "sort of a long sparse array": ("Array(4294967295).sort()", TIME),
    "join of a long sparse array": ("Array(4294967295).join('')", TIME),
    "text of a long sparse array": ("Array(4294967295).toLocaleString()", TIME),
    "concat of a long sparse array": ("[].concat(Array(4294967295))", TIME),
    "flat of a long sparse array": ("[Array(4294967295)].flat()", TIME),
    "flatMap to a long sparse array": ("[1].flatMap(() => Array(4294967295))", TIME),
    "stringify by a long list": (
        "JSON.stringify({}, Array(6e4).fill(0).map((_, i) => 'k' + i))",
        "RangeError: JSON.stringify: the list has more than 500 keys",
    ),
    "iterator over a claimed length": (
        "[].values.call({ length: 2 ** 53 - 1 }).drop(2 ** 50).next()",
        TIME,
    ),
    "union with a claimed length": (
        "new Set().union({ size: 1, has() {}, keys: () => [].values.call(Array(4294967295)) })",
        TIME,
    ),
    "fill of what takes no memory": (
        "[].fill.call({ __proto__: new Uint8Array(0), length: 2 ** 53 - 1 }, 0)",
        TIME,
    ),
    "set of long texts": ("new Set(Array(1e6).fill('x'.repeat(1e6)))", TIME),
    "sort of long texts": ("Array(1e5).fill('x'.repeat(1e6)).toSorted()", TIME),
    "numbers from long texts": ("Array(1e5).fill('1'.repeat(1e6)).map(Number)", TIME),
    "BigInts from long texts": ("Array(1e3).fill('9'.repeat(6e4)).forEach(BigInt)", TIME),
    "search for a long text in a long array": (
        "Array(1e6).fill('x'.repeat(1e6)).includes('x'.repeat(1e6 - 1) + 'y')",
        "RangeError: Array.prototype.includes: the text is too long for so many elements",
    ),
    "slice of a claimed length": ("[].slice.call({ length: 2 ** 53 - 1 }, 0, 4e9)", TIME),
    "shift of a claimed length": ("[].shift.call({ length: 2 ** 53 - 1 })", TIME),
    "reverse through a proxy": ("[].reverse.call(new Proxy(Array(4294967295), {}))", TIME),
    "reverse through a revocable proxy": (
        "[].reverse.call(Proxy.revocable(Array(4294967295), {}).proxy)",
        TIME,
    ),
    "raw text of a claimed length": ("String.raw({ raw: { length: 2 ** 53 - 1 } })", TIME),
    "quadratic search": (
        "'a'.repeat(1e6).includes('a'.repeat(4e5) + 'b')",
        "RangeError: String.prototype.includes: both texts are too long",
    ),
    "normalized marks": (
        "('\\u0316\\u0301'.repeat(1e5)).normalize()",
        "RangeError: String.prototype.normalize: the text has too many combining marks in a row",
    ),
    "compared marks": (
        "'b'.localeCompare('\\u0316\\u0301'.repeat(1e5))",
        "RangeError: String.prototype.localeCompare: the text has too many combining marks",
    ),
    "BigInt of many digits": (
        "BigInt('7'.repeat(3e5))",
        "RangeError: BigInt: the text has more than 65536 characters",
    ),
    "loop of slow natives": (
        "(() => { let s = 'a'.repeat(1e6); for (;;) s.toUpperCase(); })()",
        TIME,
    ),
    "loop of slow stringify": (
        "(() => { let s = 'a'.repeat(1e6); for (;;) JSON.stringify(s); })()",
        TIME,
    ),
    "loop of slow array natives": (
        "(() => { let a = Array(1e5).fill(1); for (;;) a.slice(); })()",
        TIME,
    ),
    "global counter": ("globalThis.n = (globalThis.n ?? 0) + 1", FROZEN),
    "undeclared variable": ("n = 1", "ReferenceError: n is not defined"),
    "global by eval": ("(0, eval)('var n = 1')", "TypeError: cannot define variable 'n'"),
    "prototype pollution": ("$event['__proto__']['polluted'] = 1", FROZEN),
    "polluted by constructor": ("$event.constructor.prototype.polluted = 1", FROZEN),
    "toJSON poisoning": ("Object.prototype.toJSON = () => 'poison'", FROZEN),
    "changed method": (
        "Array.prototype.map = () => 'poison'",
        "TypeError: 'map' is read-only",
    ),
    "changed restored method": (
        "Object.prototype.toString = () => 'poison'",
        "TypeError: toString is read-only",
    ),
    "pushed onto a prototype": ("Array.prototype.push(1)", "TypeError: "),
    "deleted method": ("delete Array.prototype.map", "TypeError: could not delete property"),
    "changed stringify": ("JSON.stringify = () => 'poison'", "TypeError: 'stringify' is read-only"),
    "changed iterator": ("[].values().__proto__.next = () => 'poison'", "TypeError: "),
    "stack formatter": ("Error.prepareStackTrace = () => 'poison'", FROZEN),
    "waiting": ("Atomics.wait(new Int32Array(8), 0, 0)", "ReferenceError: Atomics is not defined"),
    "exception without a text": (
        "(() => { throw { toString() { throw 1; } } })()",
        "an exception without a text",
    ),
    "exception that is a symbol": ("(() => { throw Symbol('s'); })()", "Symbol(s)"),
    "exception with half a pair": ("(() => { throw new Error('\\ud800'); })()", "Error: \ufffd"),
    "thrown null": ("(() => { throw null; })()", MEMORY),
}
