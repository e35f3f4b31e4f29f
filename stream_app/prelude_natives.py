"""The part of `prelude` that keeps natives from running for minutes: JavaScript, in its scope.

The engine looks at its clock once in some 10,000 steps of script, and a native that loops takes
none. Four ways make such natives take some, or refuse:

- `stepped` shows them an array through a proxy, so that each element costs a step;
- `walked` shows them an iterator whose `next` is script;
- `poll` takes as many steps as what they are about to do is worth: a step for four characters, but
  once around the clock at most;
- what is worth more than any clock could allow is a RangeError.

A true and short array, and a short text, cost none of it.
"""

from typing import Final

NATIVES: Final = r"""
// 2. Natives that run for minutes between two looks at the clock take steps, or refuse.
const LENGTH_MAX = 1e6, LONG = 16384, WORK_MAX = 1e9, KEYS_MAX = 500;
const poll = length => { for (let i = 0; i < length && i < 40000; i += 4); };
function weigh(text) { if (typeof text === "string" && text.length > LONG) poll(text.length); }
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
replace(Array.prototype, ["concat", "copyWithin", "join", "reverse", "shift", "slice",
    "splice", "toLocaleString", "unshift"], (native, key) => ({[key](...args) {
  if (key === "concat") for (let i = 0; i < args.length; i++)
    if (spreads(args[i])) args[i] = stepped(args[i]);
  // What does not spread is an element of the result, so it must stay what it is.
  const self = key === "concat" && !spreads(this) ? this : stepped(this);
  const result = apply(native, self, args);
  return result === self ? this : result;
}}));
// Of a typed array's heirs, any index can be set, without a use of memory.
replace(Array.prototype, ["fill"], native => ({fill(...args) {
  const isPlain = isArray(this) && getPrototypeOf(this) === Array.prototype &&
    !call(isProxy, proxies, this);
  const self = isPlain ? this : stepped(this), result = apply(native, self, args);
  if (isPlain && this.length > LONG) poll(this.length);
  return result === self ? this : result;
}}));
function weighSearch(list, text, key) {
  const length = isArray(list) ? list.length : 0;
  const work = typeof text === "string" ? text.length * length : 0;
  if (work > WORK_MAX)
    throw new Range(`Array.prototype.${key}: the text is too long for so many elements`);
  if (length > LONG || work > LONG) poll(length + work / 1e4);
}
replace(Array.prototype, ["includes", "indexOf"], (native, key) => ({[key](text, from) {
  weighSearch(this, text, key);
  return native.call(this, text, from);   // Called often, so without a list of arguments.
}}));
replace(Array.prototype, ["lastIndexOf"], native => ({lastIndexOf(...args) {
  weighSearch(this, args[0], "lastIndexOf");
  return apply(native, this, args);
}}));
function byText(x, y) {   // What sorts without a comparator, in steps.
  x = `${x}`; y = `${y}`;
  weigh(x.length < y.length ? x : y);
  return x < y ? -1 : x > y ? 1 : 0;
}
function isLight(list) {   // Short to compare, and no object whose text is made by anybody's code.
  let total = 0;
  for (let i = 0, n = list.length, it; i < n; i++) {
    if (typeof (it = list[i]) === "string") total += it.length;
    else if (typeof it === "bigint" || isObject(it)) return false;
  }
  return total < 1e7;
}
replace(Array.prototype, ["sort", "toSorted"], (native, key) => ({[key](compare) {
  const self = stepped(this);
  if (compare === undefined && isObject(self) && !(self === this && isLight(self)))
    compare = byText;
  const result = native.call(self, compare);
  return result === self ? this : result;
}}));
// An iterator over a claimed length may come from anywhere, so natives that only count what it
// gives get one in script.
const walked = it => ({
  get next() { const {next} = it; return () => call(next, it); },
  get return() {
    const f = it.return;
    return f === undefined || f === null ? f : () => call(f, it);
  }});
replace(Iterator.prototype, ["drop"], native => ({drop(limit) {
  return call(native, isObject(this) ? walked(this) : this, limit);
}}));
const {add: addTo} = Set.prototype, {set: setIn} = Map.prototype, RealSet = Set, RealMap = Map;
const {get: sizeOf} = getOwnPropertyDescriptor(Set.prototype, "size");
const like = o => ({   // A set as the natives below see it.
  get size() { return o.size; },
  get has() { const f = o.has; return typeof f === "function" ? it => call(f, o, it) : f; },
  get keys() { const f = o.keys; return typeof f === "function" ? () => walked(call(f, o)) : f; }});
replace(Set.prototype, ["difference", "intersection", "isDisjointFrom", "isSubsetOf",
    "isSupersetOf", "symmetricDifference", "union"], (native, key) => ({[key](other) {
  const size = call(sizeOf, this);
  if (size > LONG) poll(size);
  const isTrue = !isObject(other) || getPrototypeOf(other) === RealSet.prototype &&
    !call(isProxy, proxies, other) && ownKeys(other).length === 0;
  if (isTrue && isObject(other) && other.size > LONG) poll(other.size);
  return native.call(this, isTrue ? other : like(other));
}}));
function Uniques(items) {   // A long text takes long to hash.
  if (new.target === undefined) throw new Type("Constructor Set requires 'new'");
  const made = construct(RealSet, [], new.target);
  if (items === undefined || items === null) return made;
  const {add} = made, isOurs = add === addTo;
  if (typeof add !== "function") throw new Type("not a function");
  for (const item of items) {
    if (typeof item === "string") weigh(item);
    if (isOurs) made.add(item);
    else apply(add, made, [item]);
  }
  return made;
}
supplant(Set, Uniques);
function Pairs(items) {
  if (new.target === undefined) throw new Type("Constructor Map requires 'new'");
  const made = construct(RealMap, [], new.target);
  if (items === undefined || items === null) return made;
  const {set} = made, isOurs = set === setIn;
  if (typeof set !== "function") throw new Type("not a function");
  for (const item of items) {
    if (!isObject(item)) throw new Type("not an object");
    const key = item[0], value = item[1];
    if (typeof key === "string") weigh(key);
    if (isOurs) made.set(key, value);
    else apply(set, made, [key, value]);
  }
  return made;
}
supplant(Map, Pairs);
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
  if (typeof value === "string" && value.length > 512) {
    if (value.length > DIGITS_MAX)
      throw new Range(`BigInt: the text has more than ${DIGITS_MAX} characters`);
    poll(value.length * value.length / 64);
  }
  return Big(value);
}}.BigInt;
supplant(Big, Shortened);
replace(globalThis, ["atob", "btoa", "decodeURI", "decodeURIComponent", "encodeURI",
    "encodeURIComponent", "escape", "isFinite", "isNaN", "parseFloat", "parseInt", "unescape"],
  (native, key) => ({[key](text, radix) { weigh(text); return native(text, radix); }}));
const Real = Number;
for (const key of ["parseFloat", "parseInt"]) put(Real, key, globalThis[key]);
function Weighed(value) {
  weigh(value);
  if (new.target === undefined) return arguments.length === 0 ? 0 : Real(value);
  return construct(Real, arguments, new.target);
}
supplant(Real, Weighed);
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
  if (isArray(replacer)) {
    if (replacer.length > KEYS_MAX)   // Each is compared with those before.
      throw new Range(`JSON.stringify: the list has more than ${KEYS_MAX} keys`);
    replacer = stepped(replacer);
  }
  const text = stringify(value, replacer, space);
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
"""
