"""Runs JavaScript expressions in QuickJS-ng so that no event can touch another.

A *realm* is one engine context whose built-in objects are all frozen before the first event, so
nothing shared is left that an expression could change: no global, no prototype, no function. It
can therefore be kept and used again by any expression of any destination, which saves its 3 ms.

    Program.run ── take an idle realm ── one call per event ── give the realm back
                          │
                          └── a limit was hit: drop the realm, ask once more in a new one that
                              holds nothing else and has the longer, quiet time limit

Why the second asking: the engine's time limit counts the CPU of the *whole process*, so a busy
neighbour thread can use it up, and what earlier events left in memory counts too. Only what fails
alone has failed, so the answer for an event does not depend on its batch.

A realm has no clock and no chance: `Date.now()` is the record's timestamp, every date is UTC, and
`Math.random()` is seeded by the record's name. What freezing would break is mended: one's own
`o.toString = ...` works although `Object.prototype` is frozen.

What the limits cannot do: the engine looks at its clock once in some 10,000 steps, and one step
may be a native operation on megabytes. Those that could take minutes are made to take steps
(part 2 of the prelude); the rest, such as printing a BigInt of 300,000 digits, can overrun by
seconds. So the writer of an expression is trusted not to aim for that; the events are not.

Pure: no clock, no I/O. One thread at a time uses a realm; the engine releases the GIL.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

import quickjs

REALMS_IDLE_MAX: Final = 4
"""Realms kept for later, 0.5 MB each; more exist while more threads evaluate at once."""
PROGRAMS_MAX: Final = 1_024
"""Compiled expressions that one realm holds, about 1 KB each; at the bound it starts over."""

WRAPPER: Final = '(function () {{ "use strict"; return ($event, event, $context) => {}\n{}\n{}; }})'
"""An arrow in a function: no `this`, no `arguments` of use. The newlines end a `//` comment."""
WRAPPER_LINES: Final = 1
"""Lines of the wrapper above the expression's first."""
THROWN_ENDING: Final = "\nundefined"
"""The binding writes the stack after a message; a thrown string, as the prelude's, has none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may use; CPU time is that of the whole process."""

    memory_bytes_max: int = 32 * 1024 * 1024
    stack_bytes_max: int = 256 * 1024
    seconds_max: float = 0.25
    quiet_seconds_max: float = 1.0


class Call(NamedTuple):
    """One event to evaluate."""

    event: str
    """JSON text; no lone surrogates, which the binding cannot pass."""
    context: str | None
    """A JSON object, `$context` but for its `timestamp`; None if the expression has no use."""
    timestamp: float
    """Milliseconds; a float, because the binding cuts integers to 32 bits."""
    name: str
    """`topic/partition@offset`: seeds `Math.random()`."""


@dataclass(frozen=True, slots=True)
class Thrown:
    """The expression threw, or hit a limit; `message` is of any length, in the engine's words."""

    message: str


Answer = str | Thrown | None
"""JSON text as `JSON.stringify` returned it, an exception, or None for `undefined`."""


class SyntaxProblem(NamedTuple):
    """Why a text is no expression, and where; `line` is None for the end of the text."""

    message: str
    line: int | None
    column: int


_Function = Callable[[str, str | None, float, str], str | None]
"""A program in its realm: the members of a Call, to JSON text or None."""


@dataclass(slots=True)
class Engine:
    """Checks expressions, and hands out realms: one caller at a time has a realm."""

    limits: Limits = field(default_factory=Limits)
    _idle: "list[_Realm]" = field(default_factory=list)

    def check(self, text: str) -> SyntaxProblem | None:
        """Return what keeps `text` from being exactly one expression; runs nothing.

        It must compile in parentheses, which make `{...}` an object, and in brackets: a text that
        closes a bracket of ours fits one of the two at most. No NUL, no lone surrogates.
        """
        context = quickjs.Context()
        context.set_memory_limit(self.limits.memory_bytes_max)
        context.set_max_stack_size(self.limits.stack_bytes_max)
        for opening, closing in ("()", "[]"):
            try:
                context.eval(WRAPPER.format(opening, text, closing))
            except quickjs.JSException as error:
                message, _, trace = str(error).partition("\n")
                # The trace ends in `<input>:LINE:COLUMN`, and is missing if the stack ran out.
                numbers = [int(part) for part in trace.strip().split(":")[1:]]
                line, column = numbers or (0, 0)
                line -= WRAPPER_LINES
                inside = 0 < line <= text.count("\n") + 1
                return SyntaxProblem(message, line if inside else None, column)
        return None

    def take(self) -> "_Realm":
        """Return a realm that nobody else uses."""
        try:
            return self._idle.pop()  # Atomic: two threads never get the same one.
        except IndexError:
            return _Realm(self.limits, self.limits.seconds_max)

    def give_back(self, realm: "_Realm") -> None:
        """Keep a realm that hit no limit for the next caller."""
        if len(self._idle) < REALMS_IDLE_MAX:
            self._idle.append(realm)


class Program:
    """An expression that `Engine.check` accepted, ready for any number of events."""

    def __init__(self, text: str, engine: Engine) -> None:
        self._source = WRAPPER.format("(", text, ")") + "()"
        self._engine = engine

    def run(self, calls: Iterable[Call]) -> Iterator[Answer]:
        """Answer each call before the next is asked for. No event leaves a trace for another."""
        realm: _Realm | None = None
        for call in calls:
            try:
                if realm is None:
                    realm = self._engine.take()
                    function = realm.bind(self._source)
                answer: Answer = function(*call)
            except quickjs.JSException as error:
                message = _thrown_message(error)
                if message is None:
                    realm = None  # It ran out of something; what it still holds is unknown.
                    answer = self._run_alone(call)
                else:
                    answer = Thrown(message)
            yield answer
        if realm is not None:
            self._engine.give_back(realm)

    def _run_alone(self, call: Call) -> Answer:
        limits = self._engine.limits
        try:
            return _Realm(limits, limits.quiet_seconds_max).bind(self._source)(*call)
        except quickjs.JSException as error:
            return Thrown(_thrown_message(error) or _limit_message(error, limits))


class _Realm:
    """One engine context, frozen, with the programs compiled into it so far."""

    def __init__(self, limits: Limits, seconds_max: float) -> None:
        self._context = quickjs.Context()
        self._bind = self._context.eval(PRELUDE)
        # Not earlier: the prelude is ours and need not fit into them.
        self._context.set_memory_limit(limits.memory_bytes_max)
        self._context.set_max_stack_size(limits.stack_bytes_max)
        self._context.set_time_limit(seconds_max)
        self._functions: dict[str, _Function] = {}

    def bind(self, source: str) -> _Function:
        """Return the function of a checked program, compiled once as a rule."""
        function = self._functions.get(source)
        if function is None:
            if len(self._functions) >= PROGRAMS_MAX:
                self._functions.clear()
            function = cast("_Function", self._bind(self._context.eval(source)))
            self._functions[source] = function
        return function


def _thrown_message(error: quickjs.JSException) -> str | None:
    """Return what the expression threw, as the prelude worded it; None: a limit was hit."""
    text = str(error)
    return text[: -len(THROWN_ENDING)] if text.endswith(THROWN_ENDING) else None


def _limit_message(error: quickjs.JSException, limits: Limits) -> str:
    if isinstance(error, quickjs.StackOverflow):
        return (
            "RangeError: Maximum call stack size exceeded: recursion or JSON too deep for "
            f"{limits.stack_bytes_max} bytes of stack"
        )
    if str(error).startswith("InternalError: interrupted"):
        return f"InternalError: interrupted: it ran longer than {limits.quiet_seconds_max} s"
    # Out of memory the engine often cannot even make its error, and throws null or worse.
    return (
        "InternalError: out of memory (or null was thrown): it may use "
        f"{limits.memory_bytes_max} bytes"
    )


PRELUDE: Final = r"""
(function () {
"use strict";
const {apply, construct, defineProperty, deleteProperty, get, getOwnPropertyDescriptor,
       getPrototypeOf, has, ownKeys, set} = Reflect;
const {freeze} = Object, {isArray} = Array, {map, push} = Array.prototype, {imul, trunc} = Math;
const Internal = InternalError, Range = RangeError, Syntax = SyntaxError, Type = TypeError;
const {parse, stringify} = JSON, {exec} = RegExp.prototype;
const {charCodeAt, slice, toWellFormed} = String.prototype;
const call = (f, self, ...args) => apply(f, self, args);
const isObject = o => typeof o === "object" ? o !== null : typeof o === "function";

let now, name, random;   // Of the event that runs: timestamp, topic/partition@offset, generator.

const put = (holder, key, value) =>
  defineProperty(holder, key, {value, writable: true, enumerable: false, configurable: true});
// make(native) returns an object whose method `key` (so, no constructor) takes the native's place.
function replace(holder, keys, make) {
  for (const key of keys) {
    const native = holder[key], method = make(native, key)[key];
    defineProperty(method, "length", {value: native.length});
    put(holder, key, method);
  }
}

// 1. No clock, no chance, no shared memory, no sight of the collector; every date is UTC.
for (const key of ["performance", "queueMicrotask", "Atomics", "SharedArrayBuffer", "WeakRef",
                   "FinalizationRegistry", "InternalError"]) delete globalThis[key];
delete JSON.rawJSON;   // It could put half a surrogate pair into a line.
for (const key of ["prepareStackTrace", "stackTraceLimit"])
  delete Error[key];   // Kept inside the engine, where freezing does not reach.

function random32() {   // mulberry32, seeded by FNV-1a of the record's name
  if (random === undefined) {
    random = 0x811c9dc5;
    for (let i = 0; i < name.length; i++)
      random = imul(random ^ call(charCodeAt, name, i), 0x01000193);
  }
  random = (random + 0x6d2b79f5) | 0;
  let t = imul(random ^ (random >>> 15), 1 | random);
  t = (t + imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return (t ^ (t >>> 14)) >>> 0;
}
replace(Math, ["random"], () => ({
  random: () => (random32() * 0x200000 + (random32() >>> 11)) / 0x20000000000000}));

const D = Date, day = D.prototype;
const {getTime, getTimezoneOffset, toISOString, toUTCString} = day;
const isZoned = /(?:Z|GMT|UTC|[+-]\d\d:?\d\d)\s*(?:\([^)]*\))?\s*$/i;
const isDateOnly = /^[+-]?\d{4,6}(?:-\d\d){0,2}$/, isISO = /^[+-]?\d{4,6}(?:-\d\d){0,2}T[\d:.,]+$/;
const matches = (pattern, text) => call(exec, pattern, text) !== null;
function parseDate(text) {
  if (matches(isZoned, text) || matches(isDateOnly, text)) return D.parse(text);
  const time = D.parse(text + (matches(isISO, text) ? "Z" : " UTC"));
  return time === time ? time : D.parse(text);
}
function Pinned(...parts) {
  if (new.target === undefined) return call(day.toString, new D(now));
  if (parts.length === 0) parts = [now];
  else if (parts.length > 1) parts = [apply(D.UTC, D, parts)];
  else if (typeof parts[0] === "string") parts = [parseDate(parts[0])];
  return construct(D, parts, new.target);
}
defineProperty(Pinned, "name", {value: "Date"});
defineProperty(Pinned, "length", {value: 7});
defineProperty(Pinned, "prototype", {value: day, writable: false});
put(Pinned, "UTC", D.UTC);
put(Pinned, "now", {now: () => now}.now);
put(Pinned, "parse", {parse: text => parseDate(`${text}`)}.parse);
put(day, "constructor", Pinned);
put(globalThis, "Date", Pinned);
for (const key of ownKeys(day))
  if (typeof key === "string" && key.includes("UTC") && key !== "toUTCString")
    put(day, key.replace("UTC", ""), day[key]);   // getHours is getUTCHours, and so on.
replace(day, ["getTimezoneOffset"], () => ({
  getTimezoneOffset() { return call(getTime, this) * 0; }}));
for (const key of ["getYear", "setYear"]) delete day[key];   // Annex B, and local.
const dateOf = text => `${call(slice, text, 0, 3)} ${call(slice, text, 8, 11)} ` +
  `${call(slice, text, 5, 7)} ${call(slice, text, 12, -13)}`;
const timeOf = text => `${call(slice, text, -12)}+0000 (Coordinated Universal Time)`;
for (const [key, format] of [["toString", text => `${dateOf(text)} ${timeOf(text)}`],
                             ["toDateString", dateOf], ["toTimeString", timeOf]])
  replace(day, [key], () => ({[key]() {
    const text = call(toUTCString, this);   // Thu, 01 Jan 1970 00:00:00 GMT
    return text === "Invalid Date" ? text : format(text);
  }}));
replace(day, ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"], (native, key) => ({
  [key]() {   // The engine's own format, of the moment whose local time reads as this one's UTC.
    const time = call(getTime, this);
    return call(native, new D(time + call(getTimezoneOffset, new D(time)) * 60000));
  }}));

// 2. Natives that run for minutes between two looks at the clock take steps, or refuse.
const LENGTH_MAX = 1e6, LONG = 16384, WORK_MAX = 1e9;
const poll = length => { for (let i = 0; i < length && i < 40000; i += 4); };
const proxies = new WeakSet(), isProxy = proxies.has, RealProxy = Proxy;
const traps = {   // In script, so that each is a step.
  get: (o, k) => get(o, k), has: (o, k) => has(o, k), set: (o, k, v) => set(o, k, v),
  deleteProperty: (o, k) => deleteProperty(o, k), __proto__: null};
// Native loops over an array's length, or over whatever claims a length, look at no clock; through
// a proxy every element costs a step. A true and short array needs none.
function stepped(o) {
  if (!isObject(o)) return o;
  if (isArray(o) && !call(isProxy, proxies, o) && o.length <= LENGTH_MAX) {
    if (o.length > LONG) poll(o.length);
    return o;
  }
  return new RealProxy(o, traps);
}
const {isConcatSpreadable} = Symbol;
const spreads = o => isObject(o) && (o[isConcatSpreadable] ?? isArray(o));
replace(Array.prototype, ["concat", "copyWithin", "join", "reverse", "shift", "slice", "sort",
    "splice", "toLocaleString", "unshift"], (native, key) => ({[key](...args) {
  if (key === "concat") for (let i = 0; i < args.length; i++)
    if (spreads(args[i])) args[i] = stepped(args[i]);
  const self = stepped(this), result = apply(native, self, args);
  return result === self ? this : result;
}}));
function flatten(source, depth, result) {
  const length = source.length;
  for (let i = 0; i < length; i++) if (i in source) {
    if (depth > 0 && isArray(source[i])) flatten(source[i], depth - 1, result);
    else call(push, result, source[i]);
  }
  return result;
}
replace(Array.prototype, ["flat", "flatMap"], () => ({
  flat(depth = 1) { return flatten(this, trunc(depth) || 0, []); },
  flatMap(f, self) { return flatten(call(map, this, f, self), 1, []); }}));
replace(String, ["raw"], () => ({raw({raw}, ...values) {
  let text = "";
  for (let i = 0, last = trunc(raw.length) - 1; i <= last; i++)
    text += i < last && i < values.length ? `${raw[i]}${values[i]}` : `${raw[i]}`;
  return text;
}}));
replace(String.prototype, ["includes", "indexOf", "lastIndexOf", "normalize", "replace",
    "replaceAll", "split", "toLowerCase", "toUpperCase"], (native, key) => ({[key](...args) {
  const {length} = typeof this === "string" ? this : "";
  if (length > LONG) {
    if (typeof args[0] === "string" && length * args[0].length > WORK_MAX)
      throw new Range(`String.prototype.${key}: both texts are too long`);
    poll(length);
  }
  return apply(native, this, args);
}}));
replace(JSON, ["stringify"], () => ({stringify(value, replacer, space) {
  const text = stringify(value, isArray(replacer) ? stepped(replacer) : replacer, space);
  if (text !== undefined && text.length > LONG) poll(text.length);
  return text;
}}));
function Marked(target, handler) {
  if (new.target === undefined) throw new Type("Constructor Proxy requires 'new'");
  const proxy = new RealProxy(target, handler);
  call(proxies.add, proxies, proxy);
  return proxy;
}
defineProperty(Marked, "name", {value: "Proxy"});
defineProperty(Marked, "prototype", {value: undefined, writable: false});
put(Marked, "revocable", {revocable(target, handler) {
  const pair = RealProxy.revocable(target, handler);
  call(proxies.add, proxies, pair.proxy);
  return pair;
}}.revocable);
put(globalThis, "Proxy", Marked);

// 3. Freeze everything that two events could both reach. Assigning to a frozen prototype's name on
// one's own object must still work, so the names that people assign become accessors.
const assigned = ["constructor", "message", "name", "toJSON", "toLocaleString", "toString",
                  "valueOf"];
function mend(holder, key) {
  const {value, writable, enumerable} = getOwnPropertyDescriptor(holder, key);
  if (writable) defineProperty(holder, key, {enumerable, configurable: false, get: () => value,
    set(own) {
      if (!isObject(this) || this === holder) throw new Type(`${key} is read-only`);
      defineProperty(this, key, {value: own, writable: true, enumerable: true, configurable: true});
    }});
}
const hidden = [   // Reachable by syntax only, or through what a native returns.
  function () { return arguments; }(), async function () {}, function* () {}, async function* () {},
  [][Symbol.iterator](), ""[Symbol.iterator](), new Map()[Symbol.iterator](),
  new Set()[Symbol.iterator](), "".matchAll(/a/g), [].values().map(x => x),
  Iterator.from({next() {}}), Iterator.concat([]), Iterator.zip([]), new Error(),
  Internal];
const seen = new Set();
function walk() {
  const open = [globalThis, ...hidden];
  seen.clear();
  while (open.length > 0) {
    const o = open.pop();
    if (!isObject(o) || seen.has(o)) continue;
    seen.add(o);
    open.push(getPrototypeOf(o));
    for (const key of ownKeys(o)) {
      const {value, get, set} = getOwnPropertyDescriptor(o, key);
      open.push(value, get, set);
    }
  }
}
walk();
for (const o of seen) {
  const isPrototype = Object.hasOwn(o, "constructor");
  for (const key of o === Object.prototype ? ownKeys(o) : isPrototype ? assigned : [])
    if (Object.hasOwn(o, key)) mend(o, key);
}
walk();   // The accessors' functions are new.
for (const o of seen) freeze(o);

// 4. What Python calls. It tells a thrown text, which has no stack, from a limit, which is thrown
// on as it came. Out of memory, the engine may throw null for want of an error.
const isLimit = e => e === null || e instanceof Internal ||
  e instanceof Range && e.message === "Maximum call stack size exceeded";
function describe(e) {
  try { return call(toWellFormed, typeof e === "symbol" ? e.toString() : `${e}`); }
  catch { return "an exception without a text"; }
}
function contextOf(text) {
  const {topic, partition, offset, pipeline, headers, destination} = parse(text);
  const time = new D(now), timestamp = now === call(getTime, time) ? call(toISOString, time) : null;
  return freeze({topic, partition, offset, timestamp, pipeline, headers: freeze(headers),
                 destination});
}
return expression => (text, context, timestamp, record) => {
  now = timestamp; name = record; random = undefined;
  let event;
  try { event = parse(text); }
  catch (e) {
    if (!(e instanceof Syntax)) throw e;
    throw `the record's value is not JSON: ${call(toWellFormed, e.message)}`;
  }
  try {
    const $context = context === null ? undefined : contextOf(context);
    return stringify(expression(event, event, $context));
  } catch (e) { throw isLimit(e) ? e : describe(e); }
};
})()
"""
