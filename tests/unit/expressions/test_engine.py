"""The engine contains every expression: a result for one event, within limits, and no trace."""

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import quickjs

from stream_app.expressions.engine import (
    FUNCTIONS_MAX,
    NOT_FROZEN,
    PRELUDE,
    REALMS_IDLE_MAX,
    WRAPPER_LINES,
    CompiledExpression,
    Engine,
    Evaluation,
    EvaluationResult,
    Event,
    Limits,
    ScriptError,
    SourcePosition,
)
from tests.hostile import HOSTILE, MEMORY, STACK, TIME

LIMITS = Limits(seconds_max=0.02, retry_seconds_max=0.05)
"""For tests of the time limit: what never ends is interrupted soon."""
UNHURRIED = Limits(seconds_max=0.02, retry_seconds_max=20)
"""For all other tests: what ends has time for it, however busy the machine is."""
TIMESTAMP = 1_500_000_000_000.0
NODE = shutil.which("node")
PRELUDE_FILE = Path(__file__).parents[3] / "stream_app" / "expressions" / "prelude.js"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(UNHURRIED)


@pytest.fixture(scope="module")
def limited() -> Engine:
    return Engine(LIMITS)


def made(event: object, name: str = "events/1@2") -> Event:
    return Event(json.dumps(event), TIMESTAMP, name)


def evaluate(
    engine: Engine, text: str, *events: Event, context: str | None = None
) -> list[EvaluationResult]:
    evaluations = [Evaluation(CompiledExpression(text), context)]
    with engine.session() as session:
        return [session.evaluate(event, evaluations)[0] for event in events]


def results(engine: Engine, text: str, *events: object) -> list[EvaluationResult]:
    assert engine.check(text) is None
    return evaluate(engine, text, *map(made, events))


def result(engine: Engine, text: str, event: object = None) -> EvaluationResult:
    return results(engine, text, event)[0]


# --- Hostile expressions -------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_event_fails_alone_and_the_next_is_right(text: str, message: str) -> None:
    engine = Engine(LIMITS if message == TIME else UNHURRIED)
    started = time.process_time()
    hostile, innocent = results(
        engine, f"$event.n === undefined ? ({text}) : [`${{$event}}`, $event.n]", {}, {"n": 1}
    )
    assert isinstance(hostile, ScriptError)
    assert hostile.message.startswith(message)
    assert innocent == '["[object Object]",1]'
    assert time.process_time() - started < 10  # Two limits, and some slow natives.


CLAIMED = "[].values.call({ length: 2 ** 53 - 1 })"
FOUND = "'x'.repeat(1e6 - 1) + 'y'"
UNBOUNDED = [
    # Iterators of a claimed length, which natives count to the end.
    ("[].entries.call({ length: 2 ** 53 - 1 }).drop(2 ** 50).next()", TIME),
    (f"Iterator.from({CLAIMED}).drop(2 ** 50).next()", TIME),
    (f"Iterator.concat({CLAIMED}).drop(2 ** 50).next()", TIME),
    (f"(it => {{ for (;;) it.drop(1e6).next(); }})({CLAIMED})", TIME),
    (f"new Set({CLAIMED})", TIME),
    ("(function () { arguments.length = 2 ** 53 - 1; return new Set(arguments); })()", TIME),
    *[
        (
            f"new Set([{element}]).{method}({{ size: {size}, has() {{}}, keys: () => {CLAIMED} }})",
            TIME,
        )
        for method, size, element in (
            ("union", 1, 1),
            ("symmetricDifference", 1, 1),
            ("intersection", 0, 1),
            ("difference", 0, 1),
            ("isDisjointFrom", 0, 1),
            ("isSupersetOf", 0, "undefined"),
        )
    ],
    (
        f"new Set().union(Object.defineProperty(new Set(), 'keys', {{ value: () => {CLAIMED} }}))",
        TIME,
    ),
    (f"new Set([1]).union(new (class extends Set {{ keys() {{ return {CLAIMED}; }} }})())", TIME),
    (f"{CLAIMED}.join('')", "TypeError: not a function"),
    (f"{CLAIMED}.includes(7)", "TypeError: not a function"),
    ("Math.sumPrecise([].keys.call({ length: 2 ** 53 - 1 }))", "TypeError: not a function"),
    ("[].fill.call(Object.setPrototypeOf(Array(2 ** 32 - 1), new Uint8Array(0)), 0)", TIME),
    # Work that grows with the square, or with the product of two lengths.
    ("JSON.stringify(1, Array(4294967295))", "RangeError: JSON.stringify: the list"),
    (
        """JSON.stringify(1, new Proxy([], (n => ({ get: (o, k) => k !== 'length' ? `${k}` :
        n++ ? 2 ** 53 - 1 : 1 }))(0)))""",
        TIME,
    ),
    (f"Array(1e6).fill('x'.repeat(1e6)).indexOf({FOUND})", "RangeError: Array.prototype.indexOf: "),
    (
        f"Array(1e6).fill('x'.repeat(1e6)).lastIndexOf({FOUND})",
        "RangeError: Array.prototype.lastIndexOf: ",
    ),
    (f"(a => {{ for (;;) a.includes({FOUND}); }})(Array(900).fill('x'.repeat(1e6)))", TIME),
    # Natives whose every call is short of a second.
    ("new Map(Array(1e5).fill(['x'.repeat(1e6), 1]))", TIME),
    ("Array(1e5).fill('x'.repeat(1e6)).sort()", TIME),
    ("[].toSorted.call({ ...Array(5e4).fill('x'.repeat(1e6)), length: 5e4 })", TIME),
    ("Array(1e5).fill('1'.repeat(1e6)).map(parseFloat)", TIME),
    ("Array(1e5).fill('1'.repeat(1e6)).map(t => parseInt(t))", TIME),
    ("Array(1e5).fill('1'.repeat(1e6)).map(isNaN)", TIME),
    ("Array(1e5).fill('1'.repeat(1e6)).map(isFinite)", TIME),
    ("Array(1e5).fill('1'.repeat(1e6)).forEach(t => new Number(t))", TIME),
    ("Array(1e5).fill('x'.repeat(1e6)).forEach(encodeURIComponent)", TIME),
    ("Array(1e5).fill('x'.repeat(1e6)).forEach(btoa)", TIME),
    ("Array(1e3).fill('9'.repeat(1e3)).forEach(t => { for (;;) BigInt(t); })", TIME),
    ("Array(1e3).fill('9'.repeat(1e5)).map(BigInt)", "RangeError: BigInt: the text has more than"),
    ("Array(1e5).fill('[' + '1,'.repeat(1e5) + '1]').forEach(JSON.parse)", TIME),
]


@pytest.mark.parametrize(("text", "message"), UNBOUNDED)
def test_native_that_would_run_for_minutes_fails_soon(text: str, message: str) -> None:
    started = time.process_time()
    failed = result(Engine(LIMITS if message == TIME else UNHURRIED), text)
    assert isinstance(failed, ScriptError), failed
    assert failed.message.startswith(message)
    assert time.process_time() - started < 10  # A shared core may be far slower, but not minutes.


UNUSUAL = {
    "promise": ("Promise.resolve(1)", "{}"),
    "async function": ("(async () => { await 1; globalThis.n = 1; })()", "{}"),
    "dynamic import": ("import('fs')", "{}"),
    "caught recursion": (
        "(() => { try { (function f() { f(); })(); } catch (e) { return e.name; } })()",
        '"RangeError"',
    ),
    "proxy": ("new Proxy({ a: 1 }, { get: (o, k) => o[k] })", '{"a":1}'),
    "regular search of long texts": ("'a'.repeat(1e6).includes('ab')", "false"),
    "BigInt of digits": ("[BigInt('12') + 1n === 13n, BigInt.asIntN(3, 9n) === 1n]", "[true,true]"),
    "kind of BigInt": (
        "[typeof BigInt, BigInt.name, BigInt.length, Object(1n).constructor === BigInt]",
        '["function","BigInt",1,true]',
    ),
    "marks in a row": ("('a' + '\\u0301'.repeat(99)).normalize('NFC').length", "99"),
    "return of globals": ("Function('return this')() === globalThis", "true"),
    "global of sloppy code": ("(Function('n = 1')(), typeof n)", '"undefined"'),
    "indirect eval of let": ("((0, eval)('let n = 1'), typeof n)", '"undefined"'),
}


@pytest.mark.parametrize(("text", "expected"), UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_expression_has_a_result(engine: Engine, text: str, expected: str) -> None:
    assert results(engine, text, 1, 2) == [expected, expected]


def test_deep_event_fails_alone(engine: Engine) -> None:
    deep = Event("[" * 100_000 + "]" * 100_000, TIMESTAMP, "events/1@2")
    failed, right = evaluate(engine, "$event", deep, made(1))
    assert (failed, right) == (ScriptError(STACK), "1")


SHAPES = r"""[...["Array", "BigInt", "Iterator", "Map", "Number", "Set"]
    .flatMap(name => [name, `${name}.prototype`]), "globalThis"].flatMap(path => {
  const holder = path.split(".").reduce((o, key) => o[key], globalThis);
  return Object.getOwnPropertyNames(holder)
    .map(key => [key, (({ value, get }) => value ?? (key === "size" ? get : get?.call({})))(
      Object.getOwnPropertyDescriptor(holder, key))])
    .filter(([, it]) => typeof it === "function")
    .map(([key, it]) => [`${path}.${key}`, it.name, it.length,
      Reflect.ownKeys(it).map(String).sort().join()]);
})"""
"""Name, length and keys of every function of these objects."""
MISSING = ["chunks", "includes", "join", "windows"]


def test_replaced_natives_look_as_before(engine: Engine) -> None:
    plain = json.loads(quickjs.Context().eval(f"JSON.stringify({SHAPES})"))
    ours = json.loads(str(result(engine, SHAPES)))
    known = {path: shape for path, *shape in plain}
    replaced = {path: shape for path, *shape in ours}
    assert len(replaced) > 150
    changed = {path for path, shape in replaced.items() if known[path] != shape}
    assert changed == {"globalThis.Error"}  # It lacks what configures its stacks.
    gone = {path for path in known.keys() - replaced.keys() if "globalThis" not in path}
    assert gone == {f"Iterator.prototype.{key}" for key in MISSING}


NAMES = [
    *("require", "process", "fetch", "setTimeout", "console", "std", "os", "WebAssembly"),
    *("performance", "WeakRef", "FinalizationRegistry", "Atomics", "SharedArrayBuffer"),
    *("queueMicrotask", "InternalError"),
]


@pytest.mark.parametrize("name", NAMES)
def test_realm_offers_no(engine: Engine, name: str) -> None:
    assert result(engine, f"typeof {name}") == '"undefined"'


WALK = r"""(() => {
  function walk() {   // Everything that fresh objects of each kind of syntax lead to.
    const open = [globalThis, $context, function () {}, async function () {}, () => 1,
      function* () {}, async function* () {}, (function* () {})(), (async function* () {})(),
      (function () { return arguments; })(1), class {}, new (class { #x = 1 })(), (x => x)`tag`,
      [], {}, /x/, 1n, "", 1, true, Symbol(), [].values(), [].values().map(x => x), import("x"),
      "".matchAll(/a/g), ""[Symbol.iterator](), new Map().entries(), new Set().values(),
      new Error(), new Date(), new Map(), new Set(), new WeakMap(), new WeakSet(),
      new Proxy({}, {}), Promise.resolve(), Iterator.from({ next() {} }), Iterator.concat([]),
      Iterator.zip([]), Proxy.revocable({}, {}).revoke, (function () {}).bind(), new Uint8Array(1),
      new ArrayBuffer(1), new DataView(new ArrayBuffer(1)), new DisposableStack(),
      (() => { try { Array(1e9).fill(0); } catch (e) { return e; } })()]
      .map((o, i) => [`fresh ${i}`, o]);
    const seen = new Map();
    while (open.length) {
      let [path, o] = open.pop();
      if (o === null || o === undefined || seen.has(o = Object(o))) continue;
      seen.set(o, path);
      open.push([`${path}.__proto__`, Object.getPrototypeOf(o)]);
      for (const key of Reflect.ownKeys(o)) {
        const { value, get, set } = Object.getOwnPropertyDescriptor(o, key);
        let got;   // The values of some accessors are shared too.
        try { got = get?.call(o); } catch {}
        for (const part of [value, get, set, got])
          if (Object(part) === part) open.push([`${path}.${String(key)}`, part]);
      }
    }
    return seen;
  }
  const one = walk(), two = walk(), shared = [...one.keys()].filter(o => two.has(o));
  return [shared.length, shared.filter(o => !Object.isFrozen(o)).map(o => one.get(o))];
})()"""


def test_everything_that_two_events_can_reach_is_frozen() -> None:
    context = '{"topic":"events","headers":{"a":"b"}}'
    (report,) = evaluate(Engine(), WALK, made(1), context=context)
    assert isinstance(report, str), report
    size, loose = json.loads(report)
    assert size > 700
    assert loose == []


@pytest.mark.parametrize(
    "path",
    [
        "Object.prototype.hasOwnProperty",
        "Object.prototype.toString",
        "Function.prototype.toString",
        "Error.prototype.toString",
        "[].toString",
        "new Date().valueOf",
        "(function* () {}).constructor",
    ],
)
def test_function_behind_an_accessor_keeps_nothing_for_another_event(
    engine: Engine, path: str
) -> None:
    left, found = results(engine, f"$event ? {path}.left = 1 : typeof {path}.left", 1, 0)
    assert isinstance(left, ScriptError)
    assert left.message == "TypeError: object is not extensible"
    assert found == '"undefined"'


# --- Own objects behave as in any JavaScript ------------------------------------------------------


NO_NEW_SET = "\"TypeError: Constructor Set requires 'new'\""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(o => { o.toString = () => 'mine'; return `${o}`; })({})", '"mine"'),
        ("(o => { o.constructor = 1; return o; })({})", '{"constructor":1}'),
        ("(f => { f.toString = () => 'mine'; return `${f}`; })(() => 1)", '"mine"'),
        (
            "$event.reduce((o, w) => (o[w] = (Object.hasOwn(o, w) ? o[w] : 0) + 1, o), {})",
            '{"toString":2,"valueOf":1}',
        ),
        (
            "`${new class extends Error { constructor() { super('m'); this.name = 'E'; } }}`",
            '"E: m"',
        ),
        (
            "(() => { const o = Object.create(Date.prototype); o.toJSON = () => 1; return o; })()",
            "1",
        ),
        ("[1, [2, [3, , 4]]].flat(Infinity)", "[1,2,3,4]"),
        ("[[1, [2]], 3].flat()", "[1,[2],3]"),
        ("[[1]].flat('x')", "[[1]]"),
        ("[1, 2].flatMap((x, i) => [x, [i]])", "[1,[0],2,[1]]"),
        ("[3, 1, 2].sort()", "[1,2,3]"),
        ("[3, 1, 2].sort((a, b) => b - a)", "[3,2,1]"),
        ("(a => a.sort() === a)([2, 1])", "true"),
        ("(p => p.sort() === p)(new Proxy([2, 1], {}))", "true"),
        ("[1].concat(2, [3], [[4]], { length: 1 })", '[1,2,3,[4],{"length":1}]'),
        ("[].concat({ length: 1, 0: 'a', [Symbol.isConcatSpreadable]: true })", '["a"]'),
        ("[1, 2, 3, 4].splice(1)", "[2,3,4]"),
        ("[].join.call('abc', '-')", '"a-b-c"'),
        ("[].slice.call({ length: 2, 0: 'a', 1: 'b' })", '["a","b"]'),
        ("String.raw`a${1}\\n${2}`", '"a1\\\\n2"'),
        ("'a-b'.split('-')", '["a","b"]'),
        ("JSON.stringify({ a: 1, b: 2 }, ['b'])", '"{\\"b\\":2}"'),
        ("JSON.stringify(undefined) === undefined", "true"),
        ("[].map.name + [].slice.name + [].slice.length", '"mapslice2"'),
        ("[typeof Proxy, Proxy.name, Proxy.length]", '["function","Proxy",2]'),
        ("(() => { try { return Proxy({}, {}); } catch (e) { return e.name; } })()", '"TypeError"'),
        ("'prototype' in Proxy", "false"),
        ("[typeof this, typeof arguments]", '["undefined","object"]'),
        ("(S => S.of([1]).flat() instanceof S)(class S extends Array {})", "true"),
        ("(S => S.of(1).flatMap(x => [x]) instanceof S)(class S extends Array {})", "true"),
        ("[].flat.call('abc')", '["a","b","c"]'),
        ("(o => [].concat.call(o, 2)[0] === o)({ a: 1 })", "true"),
        ("`${[].concat.call(new Date(NaN), 1)[0]}`", '"Invalid Date"'),
        (
            "(o => { try { o.toString = 1; } catch (e) { return e.name; } })(Object.freeze({}))",
            '"TypeError"',
        ),
        ("(d => (d.setHours(NaN), d))(new Date(5))", "null"),
        ("(d => (d.setFullYear(), d))(new Date(5))", "null"),
        ("(d => [d.setMinutes(1, Infinity), d.setDate(1)])(new Date(5))", "[null,null]"),
        ("(d => (d.setUTCMonth('1', true), d))(new Date(5))", '"1970-02-01T00:00:00.005Z"'),
        ("(d => d.setFullYear(1970))(new Date(NaN))", "0"),
        (
            "(() => { try { new Date().setHours.call({}, 1); } catch (e) { return e.name; } })()",
            '"TypeError"',
        ),
        ("[new Set([1, 2, 1]), new Map([[1, 2]])].map(o => [o.size, ...o])", "[[2,1,2],[1,[1,2]]]"),
        ("[new Set().size, new Set(null).size, new Map(undefined).size]", "[0,0,0]"),
        ("[...new Set('abca'), ...new Set(new Set([1]))]", '["a","b","c",1]'),
        ("(() => { try { Set([1]); } catch (e) { return `${e}`; } })()", NO_NEW_SET),
        ("(() => { try { Map([1]); } catch (e) { return e.name; } })()", '"TypeError"'),
        ("(() => { try { new Map([1]); } catch (e) { return e.name; } })()", '"TypeError"'),
        (
            "[...new (class extends Set { add(it) { return super.add(it * 2); } })([1, 2])]",
            "[2,4]",
        ),
        (
            "[...new (class extends Map { set(k, v) { return super.set(v, k); } })([[1, 2]])]",
            "[[2,1]]",
        ),
        (
            """(S => [new S([1]) instanceof S, new S() instanceof Set, S[Symbol.species] === S,
            new S([1]).union(new S()).constructor === Set])(class S extends Set {})""",
            "[true,true,true,true]",
        ),
        (
            """(closed => { try { new (class extends Set { add() { throw 1; } })({
            [Symbol.iterator]: () => ({ next: () => ({ value: 1 }),
            return() { closed.push(1); return {}; } }) }); } catch (e) { closed.push(e + 1); }
            return closed; })([])""",
            "[1,2]",
        ),
        (
            """(closed => { try { new Map({ [Symbol.iterator]: () => ({ next: () => ({ value: 1 }),
            return() { closed.push(1); return {}; } }) }); } catch (e) { closed.push(e.name); }
            return closed; })([])""",
            '[1,"TypeError"]',
        ),
        ("[...Map.groupBy([1, 2, 3], n => n % 2)]", "[[1,[1,3]],[0,[2]]]"),
        ("[...new Set([1, 2]).union(new Set([3]))]", "[1,2,3]"),
        ("[...new Set([1, 2]).intersection(new Map([[2, 0]]))]", "[2]"),
        ("new Set([1]).isSubsetOf({ size: 2, has: n => n === 1, keys() {} })", "true"),
        (
            "[...new Set([1, 2, 3]).difference({ size: 9, has: n => n < 2, keys() {} })]",
            "[2,3]",
        ),
        (
            """(closed => [new Set([1]).isSupersetOf({ size: 0, has() {}, keys: () => ({
            next: () => ({ value: 2 }), return() { closed.push(1); return {}; } }) }), closed])(
            [])""",
            "[false,[1]]",
        ),
        (
            "(() => { try { new Set().union([]); } catch (e) { return e.name; } })()",
            '"TypeError"',
        ),
        ("[1, 2, 3].values().drop(1).toArray()", "[2,3]"),
        ("[...[1, 2, 3].values().drop(Infinity)]", "[]"),
        (
            """(it => { try { it.drop(-1); } catch (e) { return e.name; } })([].values())""",
            '"RangeError"',
        ),
        (
            """(closed => { Iterator.prototype.drop.call({ next: () => ({ value: 1 }),
            return() { closed.push(1); return {}; } }, 1).return(); return closed; })([])""",
            "[1]",
        ),
        (
            """[[1, 2].includes(2), [1, 2].indexOf(2, -1), [1, 2, 1].lastIndexOf(1),
            [1, 2, 1].lastIndexOf(1, undefined), [NaN].includes(NaN)]""",
            "[true,1,2,0,true]",
        ),
        ("['b', undefined, , 10, 9, 'a', null].sort()", '[10,9,"a","b",null,null,null]'),
        ("[{ toString: () => 'b' }, 'a', 3n].toSorted().map(String)", '["3","a","b"]'),
        ("['b'.repeat(6e6), 'a'.repeat(6e6)].toSorted().map(t => t[0])", '["a","b"]'),
        ("[].toSorted.call({ length: 2, 0: 'b', 1: 'a' })", '["a","b"]'),
        ("(a => a.fill(7, 1) === a && a)([1, 2])", "[1,7]"),
        ("[].fill.call({ length: 2 }, 7)", '{"0":7,"1":7,"length":2}'),
        (
            "[Number(), Number('12'), Number(undefined), Number(5n), +new Number('3')]",
            "[0,12,null,5,3]",
        ),
        (
            """[typeof new Number(1), Object(1).constructor === Number, Number.MAX_SAFE_INTEGER,
            Number.parseFloat === parseFloat, new (class extends Number {})(2) + 1]""",
            '["object",true,9007199254740991,true,3]',
        ),
        (
            "[parseInt('12px'), parseInt('ff', 16), isNaN('x'), isFinite('1'), parseFloat('1.5x')]",
            "[12,255,true,true,1.5]",
        ),
        ("['1', '2', '3'].map(Number)", "[1,2,3]"),
    ],
)
def test_language_is_whole(engine: Engine, text: str, expected: str) -> None:
    event = ["toString", "valueOf", "toString"]
    assert result(engine, text, event) == expected


# --- Clock and randomness ------------------------------------------------------------------------


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("new_york")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Date.now()", 1_500_000_000_000),
        ("new Date()", "2017-07-14T02:40:00.000Z"),
        ("Date()", "Fri Jul 14 2017 02:40:00 GMT+0000 (Coordinated Universal Time)"),
        ("new Date(2017, 6, 14, 2, 40) - 0", 1_500_000_000_000),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("new Date(new Date(0))", "1970-01-01T00:00:00.000Z"),
        ("new Date('2017-07-14')", "2017-07-14T00:00:00.000Z"),
        ("new Date('2017-07-14T02:40')", "2017-07-14T02:40:00.000Z"),
        ("new Date('2017-07-14T02:40:00-04:00')", "2017-07-14T06:40:00.000Z"),
        ("new Date('Jul 14 2017 02:40')", "2017-07-14T02:40:00.000Z"),
        ("Date.parse('Fri, 14 Jul 2017 02:40:00 GMT')", 1_500_000_000_000),
        ("new Date('no date')", None),
        ("`${new Date('no date')}`", "Invalid Date"),
        ("[new Date().getHours(), new Date().getTimezoneOffset()]", [2, 0]),
        ("new Date(new Date(0).setHours(5))", "1970-01-01T05:00:00.000Z"),
        ("new Date().toDateString()", "Fri Jul 14 2017"),
        ("new Date().toTimeString()", "02:40:00 GMT+0000 (Coordinated Universal Time)"),
        ("new Date().toLocaleString()", "07/14/2017, 02:40:00 AM"),
        ("new Date() instanceof Date && new Date().constructor === Date", True),
        ("(class extends Date {}).prototype instanceof Date", True),
        ("new (class extends Date { year() { return this.getFullYear(); } })().year()", 2017),
        ("[Date.name, Date.length, Date.UTC(1970, 0)]", ["Date", 7, 0]),
    ],
)
def test_date_is_the_records_and_in_utc(engine: Engine, text: str, expected: object) -> None:
    line = result(engine, text)
    assert isinstance(line, str), line
    assert json.loads(line) == expected


def test_random_number_is_a_function_of_the_records_name(engine: Engine) -> None:
    def numbers(name: str) -> list[float]:
        (line,) = evaluate(engine, "[Math.random(), Math.random()]", made(1, name))
        assert isinstance(line, str)
        return list(json.loads(line))

    seen = [numbers(f"events/1@{offset}") for offset in range(400)]
    assert seen == [numbers(f"events/1@{offset}") for offset in range(400)]
    flat = [number for pair in seen for number in pair]
    assert len(set(flat)) == 800
    assert all(0 <= number < 1 for number in flat)
    # A sampling of one in ten takes about one in ten, also from neighbouring offsets.
    assert 50 < sum(number < 0.1 for number in flat) < 110


# --- Events that several expressions share -------------------------------------------------------


def alone(engine: Engine, text: str, event: Event) -> EvaluationResult:
    with engine.session() as session:
        return session.evaluate(event, [Evaluation(CompiledExpression(text), None)])[0]


def together(engine: Engine, event: Event, *texts: str) -> list[EvaluationResult]:
    with engine.session() as session:
        return session.evaluate(event, [Evaluation(CompiledExpression(it), None) for it in texts])


CHANGES = [
    "($event.a = 1, $event)",
    "(delete $event.list, $event)",
    "$event.list.sort()",
    "$event.list.push(4)",
    "Object.assign($event, { x: 1 })",
    "Object.defineProperty($event, 'a', { get: () => 7 })",
    "(Object.setPrototypeOf($event, { toJSON: () => 1 }), $event)",
    "($event.__proto__ = null, $event.list)",
    "Reflect.set($event, 'a', 1)",
    "Reflect['delete' + 'Property']($event, 'list')",
    "[Object.isFrozen($event), Object.isExtensible($event.list)]",
    "Object['is' + 'Sealed']($event)",
    "Object.getOwnPropertyDescriptor($event, 'list')",
    "Object.getOwnPropertyDescriptors($event)",
    "(Object.freeze($event), Object.isFrozen($event))",
    "(() => { try { $event.a = 1; } catch { return 'caught'; } return $event; })()",
    "(() => { try { $event.a = 1; } finally { return $event; } })()",
    "(Function('e', 'e.a = 1')($event), $event)",
    "((() => 1)['con' + 'structor']('e', 'e.a = 1')($event), $event)",
    "((function* () {})['con' + 'structor']('e', 'e.a = 1')($event).next(), $event)",
    "((async () => { $event.a = 1; })(), $event)",
    "(new Promise(() => { $event.a = 1; }), $event)",
    "(Array['from' + 'Async']({ get length() { $event.a = 1; return 0; } }), $event)",
    "(eval('$event.a = 1'), $event)",
    "(globalThis['ev' + 'al']('(e) => e.a = 1')($event), $event)",
    "(\\u0065val('$event.a = 1'), $event)",
    "Array.from.call(function () { return $event; }, [1])",
    "(Error.captureStackTrace($event), 'stack' in $event)",
    """(JSON.parse('{"p":1,"q":2}', function (k) { if (k === 'p') this.q = $event; return 7; }),
    $event)""",
    "(() => { using x = { [Symbol.dispose]() { $event.a = 1; } }; throw 5; })()",
    "(RegExp.prototype[Symbol.search].call($event, 'x'), $event)",
    "(() => { for ($event.a of [1]); return $event; })()",
    "(new (class extends (function (o) { return o; }) { a; })($event), $event)",
    "(new (class extends (function (o) { return o; }) { #a = 1; })($event), $event)",
]


@pytest.mark.parametrize("text", CHANGES)
def test_expression_that_changes_its_event_gives_what_it_gives_alone_and_changes_no_other(
    engine: Engine, text: str
) -> None:
    event = made({"list": [3, 1, 2], "list2": {"deep": []}})
    seen = together(engine, event, "[$event]", text, "[$event, 1]", text, "[event]")
    own = alone(engine, text, event)
    assert seen == [f"[{event.text}]".replace(" ", ""), own, f"[{event.text},1]".replace(" ", ""),
                    own, f"[{event.text}]".replace(" ", "")]  # fmt: skip


def test_exception_over_a_shared_event_is_the_expressions_own(engine: Engine) -> None:
    texts = ["$event.a.b", "(() => { throw new TypeError('m'); })()", "(() => { throw 5; })()"]
    for text, seen in zip(texts, together(engine, made({}), *texts), strict=True):
        assert seen == alone(engine, text, made({}))
        assert isinstance(seen, ScriptError)


def test_expression_that_changes_events_gets_its_own_from_then_on(engine: Engine) -> None:
    reads, throws, changes = (
        CompiledExpression("[$event]"),
        CompiledExpression("$event.a.b"),
        CompiledExpression("$event.push(1)"),
    )
    with engine.session() as session:
        session.evaluate(made([]), [Evaluation(it, None) for it in (reads, throws, changes)])
    assert [it.can_share for it in (reads, throws, changes)] == [True, True, False]


def test_each_expression_over_a_shared_event_has_its_own_random_numbers(engine: Engine) -> None:
    one, two = together(engine, made(1), "Math.random()", "[Math.random()][0]")
    assert one == two == alone(engine, "Math.random()", made(1))


def test_shared_event_that_is_not_json_fails_every_expression(engine: Engine) -> None:
    one, two = together(engine, Event("{", TIMESTAMP, "events/1@2"), "[$event]", "$event.a + 1")
    assert one == two
    assert isinstance(one, ScriptError)
    assert one.message.startswith("the record's value is not JSON: ")


def test_limit_hit_over_a_shared_event_fails_one_expression(limited: Engine) -> None:
    seen = together(limited, made([1]), "[$event]", "(() => { for (;;); })()", "[$event, 1]")
    assert seen[::2] == ["[[1]]", "[[1],1]"]
    assert isinstance(seen[1], ScriptError)
    assert seen[1].message.startswith(TIME)


def test_limit_takes_the_shared_event_from_no_other_expression(limited: Engine) -> None:
    texts = ("[$event]", "(() => { for (;;); })()", "[typeof globalThis]", "[$event[0]]")
    _, _, alone_, shared = together(limited, made([1]), *texts)
    assert (alone_, shared) == ('["object"]', "[1]")


@pytest.mark.parametrize("room", range(0, 4000, 100))
def test_memory_left_full_fails_no_other_expression(room: int) -> None:
    # What it has caught, and what a promise's job holds, is left in the realm.
    fill = f"""(() => {{
      const held = [];
      Promise.resolve(held).then(it => it);
      let room = "x".repeat({room}) + held.length;
      try {{ for (;;) held.push("x".repeat(10000) + held.length); }} catch {{}}
      let last = held[0] = {{}};
      try {{ for (;;) last = last.next = {{}}; }} catch {{}}
      room = undefined;
      return 1;
    }})()"""
    texts = ("[$event]", fill, "[typeof globalThis]", "[$event, 'right']", "[event, 'right']")
    _, _, *others = together(Engine(), made(1), *texts)
    assert others == ['["object"]', '[1,"right"]', '[1,"right"]']


def test_result_that_does_not_fit_into_memory_is_no_skip() -> None:
    too_large = result(Engine(), 'Array(7000).fill("é".repeat(2000))')
    assert too_large == ScriptError(MEMORY)
    # What earlier events have left takes the room: each is evaluated once more, alone.
    left = '(Promise.resolve("x".repeat(1.3e6)).then(x => x), Array(250).fill("é".repeat(2000)))'
    seen = results(Engine(), left, *range(60))
    assert all(isinstance(it, str) for it in seen)
    assert together(Engine(), made(1), "[$event]", 'Array(7000).fill("é".repeat(2000))')[1] == (
        ScriptError(MEMORY)
    )


@pytest.mark.parametrize(
    "text",
    [
        """(e => { throw { __proto__: RangeError(), get message() { throw e; } }; })({
          get stack() { for (;;); } })""",
        """(() => { throw Object.defineProperty(new RangeError('Maximum call stack size exceeded'),
          'stack', { get() { for (;;); } }); })()""",
        "(() => { throw new Proxy(new Error('p'), { getPrototypeOf() { for (;;); } }); })()",
    ],
)
def test_exception_runs_no_code_outside_the_limits(text: str) -> None:
    thrown = result(Engine(LIMITS), text)
    assert isinstance(thrown, ScriptError)


def test_nul_in_an_exception_is_shown_as_a_replacement(engine: Engine) -> None:
    assert result(engine, "(() => { throw 'a\\0b'; })()") == ScriptError("a\ufffdb")


def test_position_of_many_digits_is_ignored(engine: Engine) -> None:
    text = "(k => ({ [k]() { throw new Error('x'); } })[k]())('<input>:' + '9'.repeat(5000) + ':1')"
    thrown = result(engine, text)
    assert isinstance(thrown, ScriptError)
    assert thrown.message == "Error: x"


def test_realm_without_room_is_not_kept() -> None:
    engine = Engine()
    with engine.session() as session:
        session.evaluate(
            made([1]), [Evaluation(CompiledExpression(it), None) for it in ("[$event]", "[event]")]
        )
        assert session._realm is not None
        session._realm._context.set_memory_limit(1)
    assert engine._idle == []


def test_checks_share_a_context_until_a_text_may_have_run() -> None:
    engine = Engine()
    assert engine.check("$event.a") is None
    (context,) = engine._checking
    assert engine.check("$event.b") is None
    assert engine._checking == [context]
    closing = "1); }); globalThis.Object = null; (() => { (1"  # In parentheses it runs.
    assert engine.check(closing) is not None
    assert engine._checking == []
    assert engine.check("$event.b") is None


def test_several_threads_can_check_at_once_and_leave_one_context() -> None:
    engine = Engine()
    problems: list[object] = []
    check = lambda: problems.extend(engine.check(f"$event.a{it}") for it in range(200))  # noqa: E731
    threads = [threading.Thread(target=check) for _ in range(REALMS_IDLE_MAX)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [None] * 200 * len(threads)
    assert len(engine._checking) == 1


def test_shared_event_of_another_record_is_refused() -> None:
    realm = Engine().acquire()
    realm.share("[1]", TIMESTAMP, "events/1@2", None)
    function = realm.bind("$event")
    assert function(None, None, TIMESTAMP, "events/1@2", None) == "[1]"
    for text, name in (("[1]", "events/1@3"), ("{", "events/1@2")):
        with contextlib.suppress(quickjs.JSException):
            realm.share(text, TIMESTAMP, "events/1@2", None)
        with pytest.raises(quickjs.JSException, match="not shared"):
            function(None, None, TIMESTAMP, name, None)


def test_shared_event_too_deep_to_freeze_is_parsed_by_each(engine: Engine) -> None:
    for depth in (500, 1_000, 2_000, 4_000, 100_000):
        deep = Event("[" * depth + "]" * depth, TIMESTAMP, "events/1@2")
        own = alone(engine, "$event.length", deep)
        assert together(engine, deep, "$event.length", "[$event][0].length") == [own, own]


def test_shared_event_is_dropped_with_its_session() -> None:
    engine = Engine()
    together(engine, made("x" * 1_000_000), "$event.length", "$event[0]")
    (realm,) = engine._idle
    assert realm._context.memory()["memory_used_size"] < 900_000


# --- Limits, realms, threads ---------------------------------------------------------------------

BUSY = "(() => { let n = 0; for (let i = 0; i < 300000; i++) n += i % 7; return n; })()"


def test_time_limit_counts_only_when_it_is_hit_again_alone() -> None:
    hasty = 1e-6
    patient = Engine(Limits(seconds_max=hasty, retry_seconds_max=30))
    impatient = Engine(Limits(seconds_max=hasty, retry_seconds_max=hasty))
    assert result(patient, BUSY) == "899997"
    assert isinstance(result(impatient, BUSY), ScriptError)


def test_memory_that_earlier_events_left_fails_no_other_event(engine: Engine) -> None:
    # A promise's job is never run, and holds its megabyte until the realm goes.
    left = "(Promise.resolve('x'.repeat(1e6)).then(x => x), 1)"
    assert results(engine, left, *range(100)) == ["1"] * 100


def test_realm_is_used_again() -> None:
    engine = Engine()
    realm = engine.acquire()
    engine.release(realm)
    assert results(engine, "$event", 1) == ["1"]
    assert engine.acquire() is realm


def test_realm_that_hit_a_limit_is_not_used_again() -> None:
    engine = Engine(LIMITS)
    realm = engine.acquire()
    engine.release(realm)
    assert isinstance(result(engine, "(() => { for (;;); })()"), ScriptError)
    assert engine._idle == []


def test_idle_realms_are_bounded() -> None:
    engine = Engine()
    for realm in [engine.acquire() for _ in range(REALMS_IDLE_MAX + 1)]:
        engine.release(realm)
    assert len(engine._idle) == REALMS_IDLE_MAX


def test_functions_of_a_realm_are_bounded() -> None:
    engine = Engine()
    for number in range(FUNCTIONS_MAX + 1):
        assert result(engine, f"$event + {number}", 1) == str(number + 1)
    (realm,) = engine._idle
    assert len(realm._functions) == 1


def test_threads_evaluate_side_by_side(engine: Engine) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(30):
            seen = results(engine, f"$event.map(x => x + {number})", [1, 2], [3])
            if seen != [f"[{1 + number},{2 + number}]", f"[{3 + number}]"]:
                wrong.append(seen)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_events_take_no_realm() -> None:
    engine = Engine()
    assert evaluate(engine, "$event") == []
    assert engine._idle == []


def test_timestamp_beyond_any_date_leaves_the_context_without_one(engine: Engine) -> None:
    beyond = Event("1", 1e18, "events/1@2")
    assert evaluate(engine, "$context.timestamp", beyond, context='{"headers":{}}') == ["null"]


# --- Syntax --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["]); ([", "]); globalThis.n = 1; ([", "); (", "}); (function () { return [", "1 }, () => { 1",
     "/*", "`", "1 //\n) + (", "// comment only", "1;", "return 1", "...$event", "1,", "}", "("],
)  # fmt: skip
def test_text_that_is_not_one_expression_is_refused(engine: Engine, text: str) -> None:
    assert engine.check(text) is not None


def test_nesting_beyond_the_stack_is_refused(engine: Engine) -> None:
    problem = engine.check("(" * 60_000)
    assert problem is not None
    assert problem.message.startswith("RangeError")
    assert problem.position is None


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a b", SourcePosition(1, 3)),
        ("{\n  a: 1,\n  b c\n}", SourcePosition(3, 5)),
        ("'é中😀' b", SourcePosition(1, 7)),
        ("1 +", None),
    ],
)
def test_position_of_a_mistake_counts_the_texts_own_lines_and_characters(
    engine: Engine, text: str, position: SourcePosition | None
) -> None:
    problem = engine.check(text)
    assert problem is not None
    assert problem.position == position


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("$event.a.b", SourcePosition(1, 1)),
        ("1 + (\n  'é中😀' + $event.a.b)", SourcePosition(2, 11)),
        ("[1].map(x =>\n x.y.z)", SourcePosition(2, 2)),
        ("[3, 1].toSorted(5)", SourcePosition(1, 8)),
        ("{ get a() { return $event.q.r } }", SourcePosition(1, 20)),
        ("{ toJSON() { null.x } }", SourcePosition(1, 14)),
        ("new Function('return $x.y')()", SourcePosition(1, 5)),
        ("eval('\\n\\nnull.x')", SourcePosition(1, 1)),
        ("[...1]", SourcePosition(1, 1)),
        (
            "(() => { const e = new Error('q'); e.stack = '<input>:1009:9'; throw e })()",
            SourcePosition(1, 24),
        ),
        ("(() => { throw 'text' })()", None),
        ("(() => { throw { stack: '<input>:1009:9' } })()", None),
        ("(() => { throw Object.setPrototypeOf({}, Error.prototype) })()", None),
        ("(() => { throw new Proxy({}, { getPrototypeOf() { throw 1 } }) })()", None),
        ("({ ['<input>:99999:1']() { null.x } })['<input>:99999:1']()", None),
        ("(function f(n) { return n ? f(n - 1) : eval('null.x') })(20)", SourcePosition(1, 40)),
    ],
)
def test_position_of_an_exception_is_where_the_expression_threw(
    engine: Engine, text: str, position: SourcePosition | None
) -> None:
    thrown = result(engine, text, {})
    assert isinstance(thrown, ScriptError), thrown
    assert thrown.position == position


def test_prelude_has_fewer_lines_than_stand_above_an_expression() -> None:
    assert PRELUDE.count("\n") < WRAPPER_LINES


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_prelude_is_valid_javascript_by_node() -> None:
    checked = subprocess.run([str(NODE), "--check", PRELUDE_FILE], check=False, capture_output=True)
    assert checked.returncode == 0, checked.stderr.decode()


# --- A condition over a frozen event -------------------------------------------------------------

SLOW = "(() => { for (let i = 0; i < 1e5; i++); return %s })()"
FROZEN = Event('{"a":[1]}', 0.0, "events/0@1")


def frozen(text: str, limits: Limits, event: Event = FROZEN) -> object:
    with Engine(limits).session() as session:
        return session.evaluate_frozen(event, CompiledExpression(text), None)


def test_event_is_frozen_once_for_all_conditions_that_do_not_change_it() -> None:
    with Engine().session() as session:
        for text, result in [
            *(("$event.a[0]", "1"), ("$event.b", None), ("$event.a[0] = 2", NOT_FROZEN)),
            *(("$event.c.d", NOT_FROZEN), ("$event.a", "[1]")),
        ]:
            assert session.evaluate_frozen(FROZEN, CompiledExpression(text), None) == result
        other = FROZEN._replace(text="5")
        assert session.evaluate_frozen(other, CompiledExpression("$event"), None) == "5"


def test_event_that_is_no_json_cannot_be_frozen() -> None:
    assert frozen("1", Limits(), FROZEN._replace(text="[no")) is NOT_FROZEN


@pytest.mark.parametrize(
    ("text", "result"),
    [(SLOW % "1", "1"), (SLOW % "$event.b", None), (SLOW % "$event.a = 1", NOT_FROZEN)],
)
def test_limit_that_a_condition_hits_by_chance_changes_nothing(text: str, result: object) -> None:
    assert frozen(text, Limits(seconds_max=1e-9, retry_seconds_max=60.0)) == result


def test_condition_that_hits_a_limit_alone_has_failed() -> None:
    text = "(function f(n) { return f(n + 1) + 1 })(0)"
    result = frozen(text, Limits())
    assert isinstance(result, ScriptError)
    assert result.message.startswith("RangeError: Maximum call stack")


def test_event_that_is_too_large_to_freeze_has_failed() -> None:
    large = FROZEN._replace(text=f"[{'0,' * 500_000}0]")
    result = frozen("1", Limits(memory_bytes_max=2_000_000), large)
    assert isinstance(result, ScriptError)
    assert result.message.startswith("InternalError: out of memory")
