"""The JavaScript that makes an engine context a realm: part of `engine`, which says what it is for.

Evaluated once in each new context, before any expression. Names that it needs are taken at the top,
while nobody can have changed them. Its value is the function that `engine` calls:

    (expression) -> (text, context, timestamp, name) -> JSON text or undefined; null for the shared
    (null)       -> (text, timestamp, name), which shares an event

What it throws of its own is a text of two lines or more, whose last one is the place, `LINE:COLUMN`
as the engine counts them, or nothing; and `not shared`. All else that comes out is a limit.
"""

from typing import Final

from stream_app.prelude_natives import NATIVES

PRELUDE: Final = (
    r"""
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
function supplant(native, made) {   // A constructor; what it holds, `made` then holds.
  for (const key of ownKeys(native))
    defineProperty(made, key, getOwnPropertyDescriptor(native, key));
  put(native.prototype, "constructor", made);
  put(globalThis, native.name, made);
}

// 1. No clock, no chance, no shared memory, no sight of the collector; every date is UTC.
for (const key of ["performance", "queueMicrotask", "Atomics", "SharedArrayBuffer", "WeakRef",
                   "FinalizationRegistry", "InternalError"]) delete globalThis[key];
delete JSON.rawJSON;   // It could put half a surrogate pair into a line.
delete Math.sumPrecise;   // Beyond ECMAScript 2025 are also natives that no step interrupts.
for (const key of ["chunks", "includes", "join", "windows"]) delete Iterator.prototype[key];
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
supplant(Date, Pinned);
put(Pinned, "now", {now: () => now}.now);
put(Pinned, "parse", {parse: text => parseDate(`${text}`)}.parse);
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

"""
    + NATIVES
    + r"""
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
)
