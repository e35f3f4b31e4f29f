"""The JavaScript that makes an engine context a realm: part of `engine`, which says what it is for.

Evaluated once in each new context, before any expression. Names that it needs are taken at the top,
while nobody can have changed them. Its value is the function that `engine` calls:

    (expression) -> (text, context, timestamp, name) -> JSON text or undefined; null for the shared
    (null)       -> (text, timestamp, name), which shares an event

What it throws of its own is a text of two lines or more, whose last one is the place, `LINE:COLUMN`
as the engine counts them, or nothing; and `not shared`. All else that comes out is a limit.
"""

from typing import Final

PRELUDE: Final = r"""
(function () {
"use strict";
const {apply, construct, defineProperty, deleteProperty, get, getOwnPropertyDescriptor,
       getPrototypeOf, has, ownKeys, set} = Reflect;
const {freeze, values} = Object, {isArray} = Array, {bind} = Function.prototype;
const {map, push, slice: sliceArray} = Array.prototype;
const {imul, trunc} = Math;
const Failed = Error, Internal = InternalError, Range = RangeError, Syntax = SyntaxError;
const Type = TypeError;
const {parse, stringify} = JSON, {exec} = RegExp.prototype;
const {charCodeAt, replace: replaceText, slice, toWellFormed} = String.prototype;
const {get: stackOf} = getOwnPropertyDescriptor(Failed.prototype, "stack");
const call = (f, self, ...args) => apply(f, self, args);
const isObject = o => typeof o === "object" ? o !== null : typeof o === "function";

let now, name, random;   // Of the event that runs: timestamp, topic/partition@offset, generator.
let shared, sharedName;   // The frozen event, and its name; undefined when there is none.
let noticed;   // Whether the expression could have seen that it is frozen.

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
const {getTime, getTimezoneOffset, setTime, toISOString, toUTCString} = day;
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
// A part that is no number makes the date invalid; the engine leaves the date as it was.
const setters = ownKeys(day).filter(key => typeof key === "string" && key.startsWith("setUTC"));
replace(day, setters, (native, key) => ({[key](...parts) {
  call(getTime, this);
  if (parts.length === 0) parts = [undefined];
  let isNumber = true;
  for (let i = 0; i < parts.length && i < native.length; i++)
    isNumber = isFinite(parts[i] = +parts[i]) && isNumber;
  return isNumber ? apply(native, this, parts) : call(setTime, this, NaN);
}}));
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
  // What does not spread is an element of the result, so it must stay what it is.
  const self = key === "concat" && !spreads(this) ? this : stepped(this);
  const result = apply(native, self, args);
  return result === self ? this : result;
}}));
function flatten(source, depth, result) {
  source = Object(source);
  const length = source.length;
  for (let i = 0; i < length; i++) if (i in source) {
    if (depth > 0 && isArray(source[i])) flatten(source[i], depth - 1, result);
    else call(push, result, source[i]);
  }
  return result;
}
const species = o => call(sliceArray, isArray(o) ? o : [], 0, 0);   // A new one, of its kind.
replace(Array.prototype, ["flat", "flatMap"], () => ({
  flat(depth = 1) { return flatten(this, trunc(depth) || 0, species(this)); },
  flatMap(f, self) { return flatten(call(map, this, f, self), 1, species(this)); }}));
replace(String, ["raw"], () => ({raw({raw}, ...values) {
  let text = "";
  for (let i = 0, last = trunc(raw.length) - 1; i <= last; i++)
    text += i < last && i < values.length ? `${raw[i]}${values[i]}` : `${raw[i]}`;
  return text;
}}));
// Putting marks in order is quadratic, and text has a few in a row.
const MARKS = /\p{M}{256}/u, isMarked = text => typeof text === "string" && matches(MARKS, text);
replace(String.prototype, ["localeCompare", "normalize"], (native, key) => ({[key](...args) {
  if (isMarked(this) || key === "localeCompare" && isMarked(args[0]))
    throw new Range(`String.prototype.${key}: the text has too many combining marks in a row`);
  return apply(native, this, args);
}}));
const Big = BigInt, DIGITS_MAX = 65536;   // Reading digits is quadratic too.
const Shortened = {BigInt(value) {
  if (typeof value === "string" && value.length > DIGITS_MAX)
    throw new Range(`BigInt: the text has more than ${DIGITS_MAX} characters`);
  return Big(value);
}}.BigInt;
defineProperty(Shortened, "length", {value: 1});
defineProperty(Shortened, "prototype", {value: Big.prototype, writable: false});
for (const key of ["asIntN", "asUintN"]) put(Shortened, key, Big[key]);
put(Big.prototype, "constructor", Shortened);
put(globalThis, "BigInt", Shortened);
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
replace(JSON, ["parse"], native => ({parse(text, ...reviver) {
  if (typeof text === "string" && text.length > LONG) poll(text.length);
  if (reviver.length > 0) noticed = true;   // It may put a frozen event in vain where it is.
  return apply(native, this, [text, ...reviver]);
}}));
replace(JSON, ["stringify"], () => ({stringify(value, replacer, space) {
  const text = stringify(value, isArray(replacer) ? stepped(replacer) : replacer, space);
  if (text !== undefined && text.length > LONG) poll(text.length);
  return text;
}}));
const Marked = call(bind, function (target, handler) {   // Bound, it has no prototype: as Proxy.
  if (new.target === undefined) throw new Type("Constructor Proxy requires 'new'");
  const proxy = new RealProxy(target, handler);
  call(proxies.add, proxies, proxy);
  return proxy;
});
defineProperty(Marked, "name", {value: "Proxy"});
put(Marked, "revocable", {revocable(target, handler) {
  const pair = RealProxy.revocable(target, handler);
  call(proxies.add, proxies, pair.proxy);
  return pair;
}}.revocable);
put(globalThis, "Proxy", Marked);

// What tells whether an object is frozen, or tries a change, without throwing.
for (const [holder, keys] of [
    [Array, ["fromAsync"]],
    [Failed, ["captureStackTrace"]],
    [Object, ["getOwnPropertyDescriptor", "getOwnPropertyDescriptors", "isExtensible", "isFrozen",
              "isSealed"]],
    [Reflect, ["defineProperty", "deleteProperty", "getOwnPropertyDescriptor", "isExtensible",
               "preventExtensions", "set", "setPrototypeOf"]]])
  replace(holder, keys, (native, key) => ({[key](...args) {
    noticed = true;
    return apply(native, this, args);
  }}));

// 3. Freeze everything that two events could both reach. Assigning to a frozen prototype's name on
// one's own object must still work, so the names that people assign become accessors.
const assigned = ["constructor", "message", "name", "toJSON", "toLocaleString", "toString",
                  "valueOf"];
function mend(holder, key) {
  const {value, writable, enumerable} = getOwnPropertyDescriptor(holder, key);
  // A function's constructor makes sloppy code, which may change a frozen event in vain.
  const tells = key === "constructor" && isObject(value) &&
    (value === Function || getPrototypeOf(value) === Function);
  const get = tells ? () => { noticed = true; return value; } : () => value;
  if (writable || tells) defineProperty(holder, key, {enumerable, configurable: false, get,
    set(own) {
      if (!writable || !isObject(this) || this === holder) throw new Type(`${key} is read-only`);
      const done = defineProperty(this, key,
        {value: own, writable: true, enumerable: true, configurable: true});
      if (!done) throw new Type(`${key} cannot be set: the object is not extensible`);
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

// 4. What Python calls. A limit is thrown on as a text of ours: an object of the expression's could
// run code when the binding looks at it, where no limit holds. What is interrupted is not caught.
function limitOf(e) {   // Out of memory, the engine may throw null for want of an error.
  if (e === null) return "memory";
  if (!isObject(e) || call(stackOf, e) === undefined) return "";   // No error that the engine made.
  const kind = getPrototypeOf(e);
  if (kind === Internal.prototype) return "memory";
  const message = kind === Range.prototype && getOwnPropertyDescriptor(e, "message");
  return message && message.value === "Maximum call stack size exceeded" ? "stack" : "";
}
function isA(e, kind) {
  try { return e instanceof kind; }
  catch { return false; }   // A proxy.
}
// The binding would cut the text at a NUL.
const clean = text => call(toWellFormed, call(replaceText, text, /\0/g, "\ufffd"));
function describe(e) {
  try { return clean(typeof e === "symbol" ? e.toString() : `${e}`); }
  catch { return "an exception without a text"; }
}
function placeOf(e) {   // The topmost frame with a line of the wrapper or below.
  const stack = isObject(e) ? call(stackOf, e) : undefined;
  const frame = stack === undefined ? null : call(exec, /<input>:(\d{4,7}:\d{1,7})\b/, stack);
  return frame ? frame[1] : "";
}
function parsed(text) {
  try { return parse(text); }
  catch (e) {
    if (!isA(e, Syntax)) throw e;
    throw `the record's value is not JSON: ${clean(e.message)}\n`;
  }
}
function contextOf(text) {
  const {topic, partition, offset, pipeline, headers, destination} = parse(text);
  const time = new D(now), timestamp = now === call(getTime, time) ? call(toISOString, time) : null;
  return freeze({topic, partition, offset, timestamp, pipeline, headers: freeze(headers),
                 destination});
}
function freezeAll(o) {   // The loop is where sharing spends its time: no calls for plain values.
  const members = isArray(o) ? o : values(o);
  for (let i = 0, n = members.length, member; i < n; i++)
    if (typeof (member = members[i]) === "object" && member !== null) freezeAll(member);
  return freeze(o);
}
function share(text, timestamp, record) {
  now = timestamp; name = record; shared = sharedName = undefined;
  const event = parsed(text);
  shared = isObject(event) ? freezeAll(event) : event;
  sharedName = record;
}
return expression => expression === null ? share : (text, context, timestamp, record) => {
  const isShared = text === null;
  if (isShared && sharedName !== record) throw "not shared";
  now = timestamp; name = record; random = undefined; noticed = false;
  const event = isShared ? shared : parsed(text);
  let line;
  try {
    const $context = context === null ? undefined : contextOf(context);
    line = stringify(expression(event, event, $context));
  } catch (e) {
    const limit = limitOf(e);
    if (limit) throw limit;
    if (!isShared) throw `${describe(e)}\n${placeOf(e)}`;
    noticed = true;   // It may be what changing a frozen event gives.
  }
  if (isShared && noticed) throw "not shared";
  return line === undefined ? false : line;   // undefined would be what a want of memory gives.
};
})()
"""
