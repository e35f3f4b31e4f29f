// Prelude of a realm: turns a fresh QuickJS-ng context into one in which events are isolated.
//
// `engine.py` evaluates this script once in each new context, before any expression. The intrinsics
// that it uses are taken at the top, while no expression can have changed them. Its value is the
// function that `engine.py` calls:
//
//   (expression) -> (text, context, timestamp, name, clashes) -> JSON text, or false for undefined;
//                   a null text stands for the shared event
//   (null)       -> (text, timestamp, name, clashes), which parses, freezes and keeps the event to
//                   share
//
// `integers.py` describes the clashes; they are null for an event without.
//
// Exceptions that the prelude throws are strings: a message, then a last line with the position,
// `LINE:COLUMN` as the engine counts them, or nothing; and `not shared`. Any other exception means
// that a limit of the engine was hit.
(function () {
"use strict";
const {apply, construct, defineProperty, deleteProperty, get, getOwnPropertyDescriptor,
       getPrototypeOf, has, ownKeys, set} = Reflect;
const {freeze, keys: namesOf, values} = Object, {isArray} = Array, {bind} = Function.prototype;
const {map, push, slice: sliceArray} = Array.prototype;
const {imul, trunc} = Math;
const PlainError = Error, Internal = InternalError, Range = RangeError, Syntax = SyntaxError;
const Type = TypeError;
const {parse, rawJSON, stringify} = JSON, {exec} = RegExp.prototype;
const {charCodeAt, replace: replaceText, slice, toWellFormed} = String.prototype;
const {get: stackOf} = getOwnPropertyDescriptor(PlainError.prototype, "stack");
const call = (f, self, ...args) => apply(f, self, args);
const isObject = o => typeof o === "object" ? o !== null : typeof o === "function";

let now, name, random;   // Of the current event: timestamp, topic/partition@offset, random state.
let shared, sharedName;   // The frozen event and its name; undefined when there is none.
let clashing, sharedClashing;   // Integers of the current and the frozen event, or undefined.
let mayDiffer;   // Whether the result may differ from that for an event that is not frozen.

const put = (holder, key, value) =>
  defineProperty(holder, key, {value, writable: true, enumerable: false, configurable: true});
// make(native, key) returns an object whose method `key` (not a constructor) replaces the native.
function replaceMethods(holder, keys, make) {
  for (const key of keys) {
    const native = holder[key], method = make(native, key)[key];
    defineProperty(method, "length", {value: native.length});
    put(holder, key, method);
  }
}
function replaceConstructor(native, made) {   // Copies all properties of `native` to `made`.
  for (const key of ownKeys(native))
    defineProperty(made, key, getOwnPropertyDescriptor(native, key));
  put(native.prototype, "constructor", made);
  put(globalThis, native.name, made);
}

// 1. No clock, no randomness, no shared memory, no view of the garbage collector; dates are UTC.
for (const key of ["performance", "queueMicrotask", "Atomics", "SharedArrayBuffer", "WeakRef",
                   "FinalizationRegistry", "InternalError"]) delete globalThis[key];
delete JSON.rawJSON;   // Could put half a surrogate pair into a line.
delete Math.sumPrecise;   // This and the next four: not in ECMAScript 2025, and not interruptible.
for (const key of ["chunks", "includes", "join", "windows"]) delete Iterator.prototype[key];
for (const key of ["prepareStackTrace", "stackTraceLimit"])
  delete Error[key];   // The engine keeps their state where freezing does not reach.

function random32() {   // mulberry32, seeded with FNV-1a of the record's name
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
replaceMethods(Math, ["random"], () => ({
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
function RecordDate(...parts) {
  if (new.target === undefined) return call(day.toString, new D(now));
  if (parts.length === 0) parts = [now];
  else if (parts.length > 1) parts = [apply(D.UTC, D, parts)];
  else if (typeof parts[0] === "string") parts = [parseDate(parts[0])];
  return construct(D, parts, new.target);
}
replaceConstructor(Date, RecordDate);
put(RecordDate, "now", {now: () => now}.now);
put(RecordDate, "parse", {parse: text => parseDate(`${text}`)}.parse);
// ECMAScript: a part that is not a number makes the date invalid. The engine keeps the old date.
const setters = ownKeys(day).filter(key => typeof key === "string" && key.startsWith("setUTC"));
replaceMethods(day, setters, (native, key) => ({[key](...parts) {
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
replaceMethods(day, ["getTimezoneOffset"], () => ({
  getTimezoneOffset() { return call(getTime, this) * 0; }}));
for (const key of ["getYear", "setYear"]) delete day[key];   // Annex B, and in local time.
const dateOf = text => `${call(slice, text, 0, 3)} ${call(slice, text, 8, 11)} ` +
  `${call(slice, text, 5, 7)} ${call(slice, text, 12, -13)}`;
const timeOf = text => `${call(slice, text, -12)}+0000 (Coordinated Universal Time)`;
for (const [key, format] of [["toString", text => `${dateOf(text)} ${timeOf(text)}`],
                             ["toDateString", dateOf], ["toTimeString", timeOf]])
  replaceMethods(day, [key], () => ({[key]() {
    const text = call(toUTCString, this);   // Thu, 01 Jan 1970 00:00:00 GMT
    return text === "Invalid Date" ? text : format(text);
  }}));
const localized = ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"];
replaceMethods(day, localized, (native, key) => ({
  [key]() {   // The engine's format of the instant whose local time reads like this one's UTC.
    const time = call(getTime, this);
    return call(native, new D(time + call(getTimezoneOffset, new D(time)) * 60000));
  }}));

// 2. Time limits. The engine checks its clock once in some 10,000 interpreted steps, never inside a
// native function. Natives that could run for minutes first spend steps, run as script, or throw.
const LENGTH_MAX = 1e6, LONG = 16384, WORK_MAX = 1e9, KEYS_MAX = 500;
// An empty loop, as long as the native's work: so the engine checks its clock before that work.
const spendSteps = length => { for (let i = 0; i < length && i < 40000; i += 4); };
function spend(text) {
  if (typeof text === "string" && text.length > LONG) spendSteps(text.length);
}
const proxies = new WeakSet(), isProxy = proxies.has, RealProxy = Proxy;
const traps = {   // In script, so that each call is a step.
  get: (o, k) => get(o, k), has: (o, k) => has(o, k), set: (o, k, v) => set(o, k, v),
  deleteProperty: (o, k) => deleteProperty(o, k), __proto__: null};
// A native loop over `length`, real or claimed, never checks the clock. Through a proxy, each
// element costs a step. A real, short array needs no proxy.
function stepped(o) {
  if (!isObject(o)) return o;
  if (isArray(o) && !call(isProxy, proxies, o) && o.length <= LENGTH_MAX) {
    if (o.length > LONG) spendSteps(o.length);
    return o;
  }
  return new RealProxy(o, traps);
}
const {isConcatSpreadable} = Symbol;
const spreads = o => isObject(o) && (o[isConcatSpreadable] ?? isArray(o));
replaceMethods(Array.prototype, ["concat", "copyWithin", "join", "reverse", "shift", "slice",
    "splice", "toLocaleString", "unshift"], (native, key) => ({[key](...args) {
  if (key === "concat") for (let i = 0; i < args.length; i++)
    if (spreads(args[i])) args[i] = stepped(args[i]);
  // A receiver that does not spread becomes an element of the result, so it is passed unwrapped.
  const self = key === "concat" && !spreads(this) ? this : stepped(this);
  const result = apply(native, self, args);
  return result === self ? this : result;
}}));
// An object that inherits from a typed array accepts any index without using memory.
replaceMethods(Array.prototype, ["fill"], native => ({fill(...args) {
  const isPlain = isArray(this) && getPrototypeOf(this) === Array.prototype &&
    !call(isProxy, proxies, this);
  const self = isPlain ? this : stepped(this), result = apply(native, self, args);
  if (isPlain && this.length > LONG) spendSteps(this.length);
  return result === self ? this : result;
}}));
function spendOnSearch(list, text, key) {
  const length = isArray(list) ? list.length : 0;
  const work = typeof text === "string" ? text.length * length : 0;
  if (work > WORK_MAX)
    throw new Range(`Array.prototype.${key}: the text is too long for so many elements`);
  if (length > LONG || work > LONG) spendSteps(length + work / 1e4);
}
replaceMethods(Array.prototype, ["includes", "indexOf"], (native, key) => ({[key](text, from) {
  spendOnSearch(this, text, key);
  return native.call(this, text, from);   // Called often: no array of arguments.
}}));
replaceMethods(Array.prototype, ["lastIndexOf"], native => ({lastIndexOf(...args) {
  spendOnSearch(this, args[0], "lastIndexOf");
  return apply(native, this, args);
}}));
function byText(x, y) {   // The default comparison of sort(), in steps.
  x = `${x}`; y = `${y}`;
  spend(x.length < y.length ? x : y);
  return x < y ? -1 : x > y ? 1 : 0;
}
function isLight(list) {   // Short texts only, and no object whose toString() could be script.
  let total = 0;
  for (let i = 0, n = list.length, it; i < n; i++) {
    if (typeof (it = list[i]) === "string") total += it.length;
    else if (typeof it === "bigint" || isObject(it)) return false;
  }
  return total < 1e7;
}
replaceMethods(Array.prototype, ["sort", "toSorted"], (native, key) => ({[key](compare) {
  const self = stepped(this);
  if (compare === undefined && isObject(self) && !(self === this && isLight(self)))
    compare = byText;
  const result = native.call(self, compare);
  return result === self ? this : result;
}}));
// Natives that only count an iterator's values never check the clock, and an iterator may claim any
// length. Wrapped in script, each value costs a step.
const walked = it => ({
  get next() { const {next} = it; return () => call(next, it); },
  get return() {
    const f = it.return;
    return f === undefined || f === null ? f : () => call(f, it);
  }});
replaceMethods(Iterator.prototype, ["drop"], native => ({drop(limit) {
  return call(native, isObject(this) ? walked(this) : this, limit);
}}));
const {add: addTo} = Set.prototype, {set: setIn} = Map.prototype, RealSet = Set, RealMap = Map;
const {get: sizeOf} = getOwnPropertyDescriptor(Set.prototype, "size");
const like = o => ({   // A set-like argument, read through script.
  get size() { return o.size; },
  get has() { const f = o.has; return typeof f === "function" ? it => call(f, o, it) : f; },
  get keys() { const f = o.keys; return typeof f === "function" ? () => walked(call(f, o)) : f; }});
replaceMethods(Set.prototype, ["difference", "intersection", "isDisjointFrom", "isSubsetOf",
    "isSupersetOf", "symmetricDifference", "union"], (native, key) => ({[key](other) {
  const size = call(sizeOf, this);
  if (size > LONG) spendSteps(size);
  const isTrue = !isObject(other) || getPrototypeOf(other) === RealSet.prototype &&
    !call(isProxy, proxies, other) && ownKeys(other).length === 0;
  if (isTrue && isObject(other) && other.size > LONG) spendSteps(other.size);
  return native.call(this, isTrue ? other : like(other));
}}));
function SteppedSet(items) {   // Hashing a long text takes long.
  if (new.target === undefined) throw new Type("Constructor Set requires 'new'");
  const made = construct(RealSet, [], new.target);
  if (items === undefined || items === null) return made;
  const {add} = made, isOurs = add === addTo;
  if (typeof add !== "function") throw new Type("not a function");
  for (const item of items) {
    if (typeof item === "string") spend(item);
    if (isOurs) made.add(item);
    else apply(add, made, [item]);
  }
  return made;
}
replaceConstructor(Set, SteppedSet);
function SteppedMap(items) {
  if (new.target === undefined) throw new Type("Constructor Map requires 'new'");
  const made = construct(RealMap, [], new.target);
  if (items === undefined || items === null) return made;
  const {set} = made, isOurs = set === setIn;
  if (typeof set !== "function") throw new Type("not a function");
  for (const item of items) {
    if (!isObject(item)) throw new Type("not an object");
    const key = item[0], value = item[1];
    if (typeof key === "string") spend(key);
    if (isOurs) made.set(key, value);
    else apply(set, made, [key, value]);
  }
  return made;
}
replaceConstructor(Map, SteppedMap);
function flatten(source, depth, result) {
  source = Object(source);
  const length = source.length;
  for (let i = 0; i < length; i++) if (i in source) {
    if (depth > 0 && isArray(source[i])) flatten(source[i], depth - 1, result);
    else call(push, result, source[i]);
  }
  return result;
}
const species = o => call(sliceArray, isArray(o) ? o : [], 0, 0);   // Empty, of its species.
replaceMethods(Array.prototype, ["flat", "flatMap"], () => ({
  flat(depth = 1) { return flatten(this, trunc(depth) || 0, species(this)); },
  flatMap(f, self) { return flatten(call(map, this, f, self), 1, species(this)); }}));
replaceMethods(String, ["raw"], () => ({raw({raw}, ...values) {
  let text = "";
  for (let i = 0, last = trunc(raw.length) - 1; i <= last; i++)
    text += i < last && i < values.length ? `${raw[i]}${values[i]}` : `${raw[i]}`;
  return text;
}}));
// Normalization sorts runs of combining marks in quadratic time; real text has a few in a row.
const MARKS = /\p{M}{256}/u, isMarked = text => typeof text === "string" && matches(MARKS, text);
replaceMethods(String.prototype, ["localeCompare", "normalize"], (native, key) => ({[key](...args) {
  if (isMarked(this) || key === "localeCompare" && isMarked(args[0]))
    throw new Range(`String.prototype.${key}: the text has too many combining marks in a row`);
  return apply(native, this, args);
}}));
const Big = BigInt, DIGITS_MAX = 65536;   // Parsing digits takes quadratic time.
const BoundedBigInt = {BigInt(value) {
  if (typeof value === "string" && value.length > 512) {
    if (value.length > DIGITS_MAX)
      throw new Range(`BigInt: the text has more than ${DIGITS_MAX} characters`);
    spendSteps(value.length * value.length / 64);
  }
  return Big(value);
}}.BigInt;
replaceConstructor(Big, BoundedBigInt);
replaceMethods(globalThis, ["atob", "btoa", "decodeURI", "decodeURIComponent", "encodeURI",
    "encodeURIComponent", "escape", "isFinite", "isNaN", "parseFloat", "parseInt", "unescape"],
  (native, key) => ({[key](text, radix) { spend(text); return native(text, radix); }}));
const Real = Number;
for (const key of ["parseFloat", "parseInt"]) put(Real, key, globalThis[key]);
function SteppedNumber(value) {
  spend(value);
  if (new.target === undefined) return arguments.length === 0 ? 0 : Real(value);
  return construct(Real, arguments, new.target);
}
replaceConstructor(Real, SteppedNumber);
replaceMethods(String.prototype, ["includes", "indexOf", "lastIndexOf", "normalize", "replace",
    "replaceAll", "split", "toLowerCase", "toUpperCase"], (native, key) => ({[key](...args) {
  const {length} = typeof this === "string" ? this : "";
  if (length > LONG) {
    if (typeof args[0] === "string" && length * args[0].length > WORK_MAX)
      throw new Range(`String.prototype.${key}: both texts are too long`);
    spendSteps(length);
  }
  return apply(native, this, args);
}}));
replaceMethods(JSON, ["parse"], native => ({parse(text, ...reviver) {
  if (typeof text === "string" && text.length > LONG) spendSteps(text.length);
  if (reviver.length > 0) mayDiffer = true;   // It may fail silently to change a frozen event.
  return apply(native, this, [text, ...reviver]);
}}));
replaceMethods(JSON, ["stringify"], () => ({stringify(value, replacer, space) {
  if (isArray(replacer)) {
    if (replacer.length > KEYS_MAX)   // Each key is compared with all before it.
      throw new Range(`JSON.stringify: the list has more than ${KEYS_MAX} keys`);
    replacer = stepped(replacer);
  }
  const text = stringify(value, replacer, space);
  if (text !== undefined && text.length > LONG) spendSteps(text.length);
  return text;
}}));
// A bound function has no `prototype` property, as Proxy has none.
const TrackedProxy = call(bind, function (target, handler) {
  if (new.target === undefined) throw new Type("Constructor Proxy requires 'new'");
  const proxy = new RealProxy(target, handler);
  call(proxies.add, proxies, proxy);
  return proxy;
});
defineProperty(TrackedProxy, "name", {value: "Proxy"});
put(TrackedProxy, "revocable", {revocable(target, handler) {
  const pair = RealProxy.revocable(target, handler);
  call(proxies.add, proxies, pair.proxy);
  return pair;
}}.revocable);
put(globalThis, "Proxy", TrackedProxy);

// Natives that reveal whether an object is frozen, or fail to change it without throwing.
for (const [holder, keys] of [
    [Array, ["fromAsync"]],
    [PlainError, ["captureStackTrace"]],
    [Object, ["getOwnPropertyDescriptor", "getOwnPropertyDescriptors", "isExtensible", "isFrozen",
              "isSealed"]],
    [Reflect, ["defineProperty", "deleteProperty", "getOwnPropertyDescriptor", "isExtensible",
               "preventExtensions", "set", "setPrototypeOf"]]])
  replaceMethods(holder, keys, (native, key) => ({[key](...args) {
    mayDiffer = true;
    return apply(native, this, args);
  }}));

// 3. Freezing of everything that two events could both reach. `own.toString = ...` must still work
// although the inherited property is frozen, so names that expressions assign become accessors.
const assigned = ["constructor", "message", "name", "toJSON", "toLocaleString", "toString",
                  "valueOf"];
function makeAssignable(holder, key) {
  const {value, writable, enumerable} = getOwnPropertyDescriptor(holder, key);
  // Function constructors compile sloppy code, which fails silently to change a frozen event.
  const makesSloppyCode = key === "constructor" && isObject(value) &&
    (value === Function || getPrototypeOf(value) === Function);
  const get = makesSloppyCode ? () => { mayDiffer = true; return value; } : () => value;
  if (!writable && !makesSloppyCode) return;
  defineProperty(holder, key, {enumerable, configurable: false, get, set(own) {
    if (!writable || !isObject(this) || this === holder) throw new Type(`${key} is read-only`);
    const done = defineProperty(this, key,
      {value: own, writable: true, enumerable: true, configurable: true});
    if (!done) throw new Type(`${key} cannot be set: the object is not extensible`);
  }});
}
const hidden = [   // Reachable only through syntax, or through the result of a native.
  function () { return arguments; }(), async function () {}, function* () {}, async function* () {},
  [][Symbol.iterator](), ""[Symbol.iterator](), new Map()[Symbol.iterator](),
  new Set()[Symbol.iterator](), "".matchAll(/a/g), [].values().map(x => x),
  Iterator.from({next() {}}), Iterator.concat([]), Iterator.zip([]), new Error(),
  Internal];
const seen = new Set();
function walk() {
  const open = [globalThis, ...hidden, ...seen];
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
    if (Object.hasOwn(o, key)) makeAssignable(o, key);
}
walk();   // Again, from all that was seen: accessors are new, and hide the values behind them.
for (const o of seen) freeze(o);

// 4. Entry points for Python. A limit is thrown on as a string of ours: an object of the expression
// could run code when the binding reads it, where no limit applies. An interrupt cannot be caught.
function limitOf(e) {   // Out of memory, the engine may throw null instead of an error.
  if (e === null) return "memory";
  if (!isObject(e) || call(stackOf, e) === undefined) return "";   // Not made by the engine.
  const kind = getPrototypeOf(e);
  if (kind === Internal.prototype) return "memory";
  const message = kind === Range.prototype && getOwnPropertyDescriptor(e, "message");
  return message && message.value === "Maximum call stack size exceeded" ? "stack" : "";
}
function isA(e, kind) {
  try { return e instanceof kind; }
  catch { return false; }   // A proxy whose trap throws.
}
// The binding truncates strings at a NUL.
const clean = text => call(toWellFormed, call(replaceText, text, /\0/g, "\ufffd"));
function describe(e) {
  try { return clean(typeof e === "symbol" ? e.toString() : `${e}`); }
  catch { return "an exception without a text"; }
}
function positionOf(e) {   // The topmost frame in the expression: lines of four digits and more.
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
function freezeAll(o) {   // Sharing spends its time in this loop: no calls for plain values.
  const members = isArray(o) ? o : values(o);
  for (let i = 0, n = members.length, member; i < n; i++)
    if (typeof (member = members[i]) === "object" && member !== null) freezeAll(member);
  return freeze(o);
}
// Integers that are one number in JavaScript. A number of the result that equals them has their
// digits only as a member of a frozen object of the event. An object that the expression can change
// proves nothing: it may have swapped equal numbers.
function clashesOf(event, clashes, isFrozen) {   // Without recursion: no depth is too deep.
  const {event: twin, clashes: list} = parse(clashes), errors = new RealMap();
  for (let i = 0; i < list.length; i++) errors.set(+list[i][0], list[i][1]);
  const owners = new RealMap(), open = [{"": event}, {"": twin}];
  while (isFrozen && open.length > 0) {
    const twinOf = open.pop(), o = open.pop(), names = namesOf(o);
    for (let i = 0, n = names.length; i < n; i++) {
      const key = names[i], member = o[key];
      if (typeof member === "object" && member !== null) open.push(member, twinOf[key]);
      if (typeof member !== "number" || !errors.has(member)) continue;
      if (!owners.has(o)) owners.set(o, new RealMap());
      owners.get(o).set(key, typeof twinOf[key] === "string" ? rawJSON(twinOf[key]) : member);
    }
    freeze(o);
  }
  return {errors, owners};
}
function withDigits(key, value) {   // The replacer of JSON.stringify, whose `this` is the holder.
  if (typeof value !== "number" || !clashing.errors.has(value)) return value;
  const digits = clashing.owners.get(this)?.get(key);
  if (digits === undefined) throw clashing.errors.get(value);
  return digits;
}
function share(text, timestamp, record, clashes) {
  now = timestamp; name = record; shared = sharedName = sharedClashing = undefined;
  const event = parsed(text);
  if (typeof clashes === "string") sharedClashing = clashesOf(event, clashes, true);
  else if (isObject(event)) freezeAll(event);
  shared = event;
  sharedName = record;
}
return expression => expression === null ? share : (text, context, timestamp, record, clashes) => {
  const isShared = text === null;
  if (isShared && sharedName !== record) throw "not shared";
  now = timestamp; name = record; random = undefined; mayDiffer = false;
  const event = isShared ? shared : parsed(text);
  clashing = isShared ? sharedClashing :
    typeof clashes === "string" ? clashesOf(event, clashes, false) : undefined;
  let line;
  try {
    const $context = context === null ? undefined : contextOf(context);
    const result = expression(event, event, $context);
    line = clashing === undefined ? stringify(result) : stringify(result, withDigits);
  } catch (e) {
    const limit = limitOf(e);
    if (limit) throw limit;
    if (!isShared) throw `${describe(e)}\n${positionOf(e)}`;
    mayDiffer = true;   // The cause may be that the event is frozen.
  }
  if (isShared && mayDiffer) throw "not shared";
  return line === undefined ? false : line;   // The binding returns None if memory runs out.
};
})()
