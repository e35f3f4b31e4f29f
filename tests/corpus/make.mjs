/* Corpus: results of some 390 JavaScript expressions, computed by an engine that is not ours.

   Node.js evaluates every pair of an expression and an event below as a payload, as documented in
   docs/expressions.md, and this script writes the results to `corpus.json` beside it. The test
   tests/unit/expressions/test_corpus.py requires the same lines of our engine, without Node.

   To generate it again, after a change of the pairs or with another version of Node (20 or newer,
   no packages needed):

       node tests/corpus/make.mjs && git diff tests/corpus

   Each pair should be able to fail for a reason of its own. None depends on what the language
   leaves open (words of messages, time zones, locales, `Math.random()`), on the differences that
   docs/expressions.md lists (frozen built-in objects, the spelling that plain paths keep), or on
   features that are newer than ECMAScript 2023. Two differences are added to the lines of Node.js:
   integers of the event keep their digits, and half a surrogate pair becomes U+FFFD. */

import { writeFileSync } from "node:fs";
import vm from "node:vm";

process.env.TZ = "UTC";
const DATE = "Wed Jul 01 2026 00:00:00 GMT+0000 (Coordinated Universal Time)";
if (String(new Date(2026, 6, 1)) !== DATE)   // Its last words are the locale's.
  throw new Error("dates are not UTC in English: TZ=UTC LC_ALL=C node tests/corpus/make.mjs");

const RECORD = {
  topic: "events", partition: 3, offset: 4242, timestamp: 1795537867250, key: "orders",
  headers: [["trace", "7f"], ["tenant", "\u00e9"], ["trace", "80"]], destination: "orders-archive",
};

// --- How a pair is written -----------------------------------------------------------------------
// group`name`, on`event`, then js`expression` for each expression over this event; a reason may
// follow in parentheses. Backslashes stand for themselves, except in \` and \${. Invisible characters
// are written in an ordinary string, as in on("\t1").

const cases = [];
let groupNow, eventNow;

function textOf(text, ...values) {
  if (typeof text === "string") return text;
  if (values.length > 0) throw new Error(`write \\\${ instead of \${ in ${text.raw.join("…")}`);
  return text.raw[0].replaceAll("\\`", "`").replaceAll("\\${", "${");
}
function group(...text) { groupNow = textOf(...text); }
function on(...text) { eventNow = textOf(...text); }
function js(...text) {
  const pair = { group: groupNow, event: eventNow, expression: textOf(...text) };
  cases.push(pair);
  return reason => { pair.reason = reason; };
}

// --- The pairs -----------------------------------------------------------------------------------

group`operators/arithmetic`;
on`{"a":7,"b":-2,"s":"3","z":0}`;
js`[$event.a + $event.b, $event.a - $event.b, $event.a * $event.b, $event.a / $event.b]`;
js`[$event.a % $event.b, $event.b % $event.a, -5.5 % 2, 1 / (-4 % 2)]`(
  "the sign is the dividend's, so the last is -Infinity, written as null");
js`[$event.a / $event.z, $event.b / $event.z, $event.z / $event.z, $event.a % $event.z].map(String)`;
js`[2 ** 3 ** 2, (-2) ** 2, 2 ** -1, 0 ** 0, NaN ** 0, 1 ** Infinity, (-8) ** (1 / 3)]`;
js`[+$event.s, -$event.s, +"", +" 12 ", +"1e3", +"0x1f", +"0b101", +"1_000", +"12px", +"-0x1"]`;
js`(n => [n++, n, ++n, n--, --n])($event.a)`;
js`(s => [s++, s])($event.s)`("a text becomes a number first");
js`($event.a += 3, $event.b -= 3, $event.a *= 2, $event.b /= 2, $event.z **= 2, $event)`;
js`[1 + 2 + "3" + 4 + 5, 1 + +"2", "6" / "2", "5" * [2], "b" + "a" + +"a" + "a"]`;
js`[0.1 + 0.2, 0.1 * 3, 1.1 * 1.1, 4.35 * 100, 1.005 * 1000, 9.95 - 9.9, 1 / 3, 2 / 3]`;

group`operators/bitwise`;
on`{"a":5,"b":-6,"big":4294967297.9}`;
js`[$event.a & $event.b, $event.a | $event.b, $event.a ^ $event.b, ~$event.a, ~~-7.9]`;
js`[$event.b << 1, $event.b >> 1, $event.b >>> 1, $event.b >>> 0]`;
js`[1 << 31, 1 << 32, 1 << 33, 1 << -1, 2147483648 >> 0, 4294967295 >>> 31]`("counts are modulo 32");
js`[$event.big | 0, 1e21 | 0, NaN | 0, Infinity >>> 0, -1e10 >>> 0]`("numbers are modulo 2 ** 32");
js`["7" & "3", null | 5, undefined ^ 1, [6] & 3, {} | 2, true << 3]`;
js`($event.a <<= 4, $event.b >>>= 28, $event.big &= 255, $event.a |= 1, $event.a ^= 3, $event)`;

group`operators/comparison`;
on`{"n":10,"s":"9","list":[2],"none":null}`;
js`[$event.n < $event.s, $event.n > $event.s, "10" < "9", "10" < 9, "b" > "a", "B" < "a"]`;
js`[null >= 0, null > 0, null == 0, undefined >= 0, undefined == 0, $event.none < 1]`;
js`[NaN < 1, NaN >= 1, NaN <= NaN, 0 <= -0, Infinity > 1e308, 1 < "x", 1 >= "x"]`;
js`[$event.list > 1, [1, 2] > 1, "a" < [], {} >= {}, [2] >= [2], 3 > 2 > 1]`;
js`["\uffff" < "\u{10000}", "é" > "z", "a" < "ab", "" < "\0"]`("texts compare by UTF-16 unit");

group`operators/equality`;
on`{"zero":0,"empty":"","no":false,"none":null,"list":[]}`;
js`[$event.zero == $event.empty, $event.zero == $event.no, $event.empty == $event.no]`;
js`[$event.none == undefined, $event.none == 0, $event.none == "", $event.none == false]`;
js`[$event.list == "", $event.list == 0, [] == [], ({}) == "[object Object]", Object(1) == 1]`;
js`[$event.list == ![], [0] == false, [1] == true, [[]] == 0, [1, 2] == "1,2", [null] == ""]`;
js`["1" == 1, " \n1 " == 1, "0x10" == 16, "1" === 1, "true" == true, "01" == 1]`;
js`[NaN == NaN, NaN === NaN, NaN != NaN, 0 === -0, Object.is(0, -0), Object.is(NaN, NaN)]`;
js`[1n == 1, 1n === 1, "1" == 1n, 1n == 1.5, 0n == "", 2n == [2], 1n === 1n, 2n > 1, 2n >= "2"]`;

group`operators/logical`;
on`{"zero":0,"empty":"","none":null,"name":"ada","deep":{"f":[1]}}`;
js`[$event.zero || 5, $event.zero && 5, $event.zero ?? 5, $event.none ?? 5, $event.missing ?? 5]`;
js`[!$event.zero, !!$event.name, !"0", !!"false", !![], !!{}, !NaN, !!-0, !!0n, !!Symbol()]`;
js`(() => {
  const seen = [], log = value => (seen.push(value), value);
  log(1) && log(0) && log(2);
  log(0) || log(3) || log(4);
  log(null) ?? log(5) ?? log(6);
  return seen;
})()`("what is decided already is not evaluated");
js`($event.zero ||= 1, $event.name &&= "eve", $event.none ??= [], $event.empty ??= "no", $event)`;
js`(o => (o.a ||= 2, o.a))({ get a() { return 1; } })`("no assignment, so no TypeError");
js`[$event.none?.a.b.c, $event.deep?.f?.[0], $event.deep.g?.(), $event.x?.[$event.zero++], $event.zero]`;
js`($event.none?.a).b`("parentheses end the chain");
js`$event.name?.()`("it is there, and no function");
js`[delete $event.none?.a, delete $event?.deep.f, $event]`;

group`operators/assignment`;
on`{"n":1,"list":[1,2,3]}`;
js`(() => { let i = 0; const a = []; a[i++] = i++; a[i] = i; return a; })()`("left before right");
js`(() => { let x = 1; x += (x = 5, 10); return x; })()`("the old value is read first");
js`($event.n = 5, $event.list.length = 1, $event.fresh = { deep: [$event.n] }, $event)`;
js`($event.list[5] = 6, $event.list)`("holes are written as null");
js`(() => { const c = 1; c = 2; return c; })()`;
js`(() => { x = 1; let x; return x; })()`("before its declaration");
js`undeclared = $event.n`;
js`(o => { o.a = 2; return o; })(Object.freeze({ a: 1 }))`("strict code throws");
js`((o, s = "") => (o.toString = () => "mine", o.constructor = 2, o.name = 3, [o + s, o]))({})`;
js`[(1, 2, $event.n + 2), ($event.list.at)(0),
  (at => { try { return (0, at)(0); } catch { return "lost"; } })([].at)]`;

group`operators/unary`;
on`{"n":1,"s":"","none":null,"list":[],"o":{"a":1}}`;
js`[$event, $event.n, $event.s, $event.none, $event.x, $event.list, true].map(it => typeof it)`;
js`[typeof 1n, typeof Symbol(), typeof class {}, typeof (() => 1), typeof nobody, typeof typeof 1]`;
js`[delete $event.n, delete $event.n, delete $event["o"].a, $event]`;
js`delete [].length`("not configurable: strict code throws");
js`(a => [delete a[1], a.length, 1 in a, a])([1, 2, 3])`;
js`["a" in $event.o, "b" in $event.o, "toString" in $event.o, 0 in ["x"], "length" in []]`;
js`[[] instanceof Array, [] instanceof Object, "s" instanceof String, Object("s") instanceof String]`;
js`[- -1, + +"1", !-1, -"", +[], +{}, +[5], +null, +undefined, +true, -[[7]]]`;

group`operators/spread and destructuring`;
on`{"a":1,"list":[1,[2,3]],"s":"h\u00e9\ud83d\ude00","o":{"x":1,"y":null}}`;
js`[...$event.list, ..."ab", ...$event.s, ...new Set([1, 1, 2])]`("texts go by code point");
js`{ ...$event.o, ...null, ...undefined, ...5, ...true, ...[7], y: 2, ...Object("hi") }`;
js`[...$event.o]`("objects are not iterable");
js`(({ a, o: { x, y = 5, z = 6 }, ...rest }) => ({ a, x, y, z, rest }))($event)`("null needs no default");
js`(([first, [, second], third = "none", ...others]) => [first, second, third, others])($event.list)`;
js`(({ [\`\${"l"}ist\`]: renamed = 0, length = -1 }) => [renamed, length])($event)`;
js`(({ a }) => a)($event.missing)`;
js`(() => { let n = 0; const [a = ++n, b = ++n, c = ++n] = [1, undefined, null]; return [a, b, c, n]; })()`;
js`(o => { [o.a, o["b"], ...o.c] = $event.s; ({ x: o.d, z: o.e = 9 } = $event.o); return o; })({})`;
js`((a, b = a, { c = b, ...rest } = {}, ...more) => [a, b, c, rest, more])(1, undefined, { d: 4 }, 5)`;
js`(seen => {
  for (const [key, { length: n } = ""] of Object.entries({ a: "xyz", b: undefined })) seen.push(key, n);
  return seen;
})([])`;

group`templates`;
on`{"name":"ada","n":1.50,"none":null,"list":[1,[2]],"o":{}}`;
js`\`\${$event.name}: \${$event.n} \${$event.none} \${$event.x} \${$event.list} \${$event.o}\``;
js`\`a
b\${\`c\${"d"}\`}\n\t\``("a line break is kept, and templates nest");
js`((strings, ...values) => [strings, strings.raw, values])\`a\${1}\n\${$event.name}\u0041\``;
js`(strings => [strings[0] === undefined, strings.raw])\`\unicode and \xerxes\``("no escapes");
js`(tag => [(f => f() === f())(() => tag\`x\`), tag\`x\` === tag\`x\`])(strings => strings)`(
  "one object a place");
js`[String.raw\`\u{41}\${$event.n}\n\`, String.raw({ raw: "abc" }, 1, 2, 3), String.raw({ raw: [] })]`;
js`(o => [\`\${o}\`, o + ""])({ toString: () => "text", valueOf: () => "value" })`;

group`coercion`;
on`{"s":"12","n":0,"none":null,"list":[3]}`;
js`[[] + [], [] + {}, [1, [2, 3]] + "", {} + 1, null + 1, undefined + 1, true + true, [] * 1]`;
js`["", " ", "0", "1e2", "-", "Infinity", "infinity", "0o17", ".5", "5.", "+1", "1n", "1 2", "１",
  null, undefined, true, [], ["8"], [1, 2], {}, new Date(5)].map(Number).map(String)`;
js`[null, undefined, true, -0, 1e21, 1e-7, [], [null], [undefined, 1], {}, 10n, Symbol("a")].map(String)`;
js`[String([1, [2, [3]]]), String([{}, null]), [,].toString(), [1, , 3].join(), [[], [[]]].join("-")]`;
js`$event.n + Symbol.iterator`;
js`[{ valueOf: () => 41 } + 1, { toString: () => "41" } + 1,
  { valueOf: () => ({}), toString: () => "4" } * 2]`;
js`({ valueOf: () => ({}), toString: () => ({}) }) + ""`("neither gives a primitive");
js`(o => [\`\${o}\`, +o, o + "", o * 2, o == "default", { string: 1 }[o], o < "o"])(
  { [Symbol.toPrimitive]: hint => hint })`("the hint of each place");
js`+{ [Symbol.toPrimitive]: () => ({}) }`;
js`(o => (o[1] = "a", o["1"] += "b", o[1.0] += "c", o[true] = 2, o[null] = 3, o[[4, 5]] = 6, o))({})`(
  "keys are texts");
js`[parseInt("12px"), parseInt("0x1f"), parseInt("1e3"), parseInt(""), parseInt(0.0000005),
  parseInt("z", 36), parseInt("12", 2), parseInt(null, 36), ["1", "2", "3"].map(parseInt)]`;
js`[parseFloat("3.14abc"), parseFloat(".5."), parseFloat("-.5e-2x"), parseFloat("1e1000"),
  parseFloat("- 1"), parseFloat("Infinityx")].map(String)`;
js`[Object("ab"), Object(1), Object(true), new String("x"), new Number(-0), new Boolean(false)]`(
  "wrappers are written as what they wrap");
js`[[10, 9, 1].sort(), [3, undefined, "b", null, "a", -1].sort(), ["😀", "é", "z", "\uffff", "a"].sort()]`(
  "sorts by text, undefined last");

group`functions`;
on`{"n":5,"list":[1,2,3]}`;
js`(fs => { for (let i = 0; i < 3; i++) fs.push(() => i); return fs.map(f => f()); })([])`(
  "each turn has its own variable");
js`(function (a) { arguments[0] = 9; return [this === undefined, a, [...arguments]]; })(1, 2)`;
js`[this, typeof this, function () { return this; }.call(5), (() => typeof this).call(5)]`;
js`[((a, b = 1, c) => 0).length, ((...a) => 0).length, ((a, b) => 0).bind(null, 1).length]`;
js`((f, o = { m() {}, get g() { return 1; }, ["c" + 1]: () => 0, [Symbol("s")]() {} }) =>
  [f.name, o.m.name, o.c1.name, class K {}.name, (() => 0).name, f.bind().name, new Function().name,
    o[Object.getOwnPropertySymbols(o)[0]].name, Object.getOwnPropertyDescriptor(o, "g").get.name])(
  function named() {})`;
js`String(function  f ( a,b ) { /* as
  written */ return a }) + (x=>x*2) + class  A { }`("the text is the source");
js`(() => { { function f() { return 1; } } return [typeof f, g()]; function g() { return 2; } })()`(
  "strict: a block's function stays in it");
js`[Math.max.apply(null, $event.list), ((a, b) => [b, a]).call(null, 1, 2), ((a, b) => a + b).bind(0, 1)(5)]`;
js`[new (function () { this.a = 1; return 5; })(), new (function () { return [new.target.length]; })()]`;
js`((a, b = () => a) => { var a = 2; return [a, b()]; })(1)`("parameters have a scope of their own");
js`[new Function("a", "b = 2", "return a + b")(1), (0, eval)("typeof $event"), eval("var q = 1; q"), typeof q]`(
  "an eval in strict code keeps its variables");

group`getters`;
on`{"first":"Ada","last":"Lovelace"}`;
js`{ get name() { return \`\${this.first} \${this.last}\`; }, ...$event }`;
js`(o => [(o.f = 212, o.c), o])(
  { c: 0, get f() { return this.c * 9 / 5 + 32; }, set f(f) { this.c = (f - 32) * 5 / 9; } })`;
js`(o => { o.a = 1; })({ get a() { return 2; } })`("no setter: strict code throws");
js`Object.defineProperty({ ...$event }, "hidden", { get: () => 1 })`("not enumerable, not written");
js`{ get a() { throw new RangeError("while it is written"); } }`;
js`(n => { const o = { get a() { return ++n; } }; return [{ ...o }, o, o.a]; })(0)`(
  "a spread reads at once, the writing at the end");
js`(o => [o.lazy, o.lazy, o])({ n: 0, get lazy() {
  return Object.defineProperty(this, "lazy", { value: ++this.n, enumerable: true }).lazy; } })`;
js`(o => [o.a, Object.keys(o), o])(Object.create({ get a() { return this.b; } }, { b: { value: 3 } }))`;
js`Object.assign({}, { get a() { return "value"; } }, null, "xy")`;
js`{ get [$event.first]() { return 1; }, get get() { return 2; }, set: 3, async: 4, get 7() { return 8; } }`;
js`{ a: 1, b: 2, get a() { return 3; }, ["b"]: 4 }`("the last counts, in the first one's place");

group`classes`;
on`{"n":2}`;
js`new class { constructor(x) { this.x = x; } y = 1; #z = 2; static s = 3; get z() { return this.#z; } }(
  $event.n)`;
js`(C => [new C().count(), new C().count(), C.made])(
  class C { static made = 0; #n = 1; constructor() { C.made++; } count() { return ++this.#n; } })`;
js`(C => [C.has(new C()), C.has({})])(class { #a; static has(o) { return #a in o; } })`;
js`(C => C.read({}))(class { #a = 1; static read(o) { return o.#a; } })`;
js`(C => [new C(), C.b])(class C { static #p = 5; #q() { return 6; } get #r() { return this.#q() + 1; }
  a = this.#r; static { this.b = C.#p; } })`;
js`(() => {
  class A { kind = new.target === undefined; hi() { return "A"; } static make() { return new this(); } }
  class B extends A { hi() { return super.hi() + "B"; } get [Symbol.toStringTag]() { return "Bee"; } }
  return [B.make(), B.make().hi(), String(new B()), new B() instanceof A, B.name];
})()`;
js`new class extends Object { constructor() { this.a = 1; } }()`("this before super()");
js`(log => {
  const f = k => (log.push(k), k);
  new class { [f("a")] = f("1"); static [f("b")] = f("2"); [f("c")]() {} static { f("block"); } }();
  return log;
})([])`("keys first, then static parts, then the object's");
js`(S => [S.of(1, 2, 3).map(n => n * 2).sum(), S.from("123"), new S(3).length, S.of(1).concat([2]).sum()])(
  class extends Array { sum() { return this.reduce((a, b) => a + b, 0); } })`;
js`((S, s = S.of(3, 1, 2)) => [s.slice(1), s.filter(n => n > 1), s.map(n => n), s.toSorted(), s.with(0, 1),
  [...s], s.concat(4), s.splice(0, 1)].map(it => it instanceof S))(class extends Array {})`(
  "which results are of the class");
js`(o => o.m())({ __proto__: { m() { return "proto"; } }, m() { return super.m() + "!"; } })`;
js`(E => { try { throw new E("m"); } catch (e) { return [e instanceof Error, \`\${e}\`, Object.keys(e)]; } })(
  class extends Error { constructor(m) { super(m); this.name = "NotFound"; this.code = 404; } })`;
js`new (class { "quoted key" = 1; 5 = 2; static = 3; get; async; #x; ["a" + 1] = () => 1; })()`;

group`iterators and generators`;
on`{"n":3,"list":["a","b"]}`;
js`[...(function* (n) { while (n > 0) yield n--; })($event.n)]`;
js`(g => [g.next("lost"), g.next("kept"), g.next()])((function* () { const x = yield 1; return x; })())`;
js`(g => [g.next(), g.return(7), g.next()])((function* () { try { yield 1; } finally { yield 2; } })())`;
js`(g => [g.next(), g.throw("up"), g.next()])(
  (function* () { try { yield 1; } catch (e) { yield e + "!"; } })())`;
js`[...(function* () { yield* $event.list; yield (yield* (function* () { return 5; })()) + 1; })()]`;
js`(seen => {
  const it = { [Symbol.iterator]: () => ({
    next: () => ({ value: seen.push("next"), done: false }), return: () => (seen.push("return"), {}) }) };
  for (const x of it) if (x > 1) break;
  const [a] = it;
  try { for (const x of it) throw 1; } catch {}
  return seen;
})([])`("an iterator left early is closed");
js`Object.fromEntries(Object.entries($event).map(([k, v]) => [k.toUpperCase(), v]))`;
js`[...{ [Symbol.iterator]: () => ({ next: () => 5 }) }]`("a result must be an object");
js`(() => { let g = (function* () { g.next(); })(); g.next(); })()`("it runs already");
js`[(function* () {})(), [].values(), new Map().keys()].map(String)`;

group`promises and async`;
on`{"n":1}`;
js`(async () => $event.n)()`("the promise is not awaited");
js`async () => $event.n`;
js`[Promise.resolve(1), (async () => { throw 1; })().catch(() => 0), (async function* () {})(), async () => 1]`;
js`(seen => {
  (async () => { seen.push("in"); await 0; seen.push("after"); })();
  new Promise(resolve => resolve(seen.push("executor"))).then(() => seen.push("then"));
  return seen;
})([])`("up to the first await");
js`Promise()`;

group`BigInt`;
on`{"id":"12345678901234567890","n":10}`;
js`String(BigInt($event.id) * 10n + 1n)`;
js`{ id: BigInt($event.id) }`("JSON has none");
js`1n + $event.n`("no mixing");
js`[7n / 2n, -7n / 2n, -7n % 2n, 2n ** 64n, -(-5n), 5n - 8n, -0n].map(String)`;
js`[5n & -2n, 5n | 8n, 5n ^ 1n, ~5n, 1n << 70n, -9n >> 1n, 1n << -1n].map(String)`;
js`[BigInt("0xff"), BigInt(" 12 "), BigInt(""), BigInt(true), BigInt(2 ** 53), BigInt(1e21)].map(String)`;
js`[BigInt.asIntN(8, 255n), BigInt.asUintN(8, -1n), BigInt.asUintN(64, -1n)].map(n => n.toString(16))`;
js`[Number(2n ** 53n + 1n), Number(2n ** 1024n), parseInt("12n"), Number("12n"), 0n ? 1 : 2].map(String)`;
js`[(255n).toString(2), (2n ** 100n).toString(36), \`\${1_000n}\`, 1n < 1.5, 2n ** 53n + 1n > 2 ** 53]`;
js`JSON.stringify({ id: BigInt($event.id) }, (k, v) => typeof v === "bigint" ? v.toString() : v)`;

group`regular expressions`;
on`{"s":"2026-11-24, 2025-01-02","mail":"ada@example.com","u":"caf\u00e9 \ud83d\ude00"}`;
js`$event.s.match(/(?<y>\d{4})-(?<m>\d\d)/).groups`;
js`[$event.s.match(/\d{4}/g), $event.s.match(/x/), "".match(/(?:)/g), "aXbX".match(/(?=X)/g)]`;
js`[...$event.s.matchAll(/(?<y>\d{4})-(\d\d)/g)].map(m => [m[0], m[2], m.index, m.groups.y])`;
js`$event.s.replace(/(\d+)-(\d+)-(\d+)/g, "$3/$2/$1 $& $$ $9 $<x>")`;
js`$event.s.replace(/(?<y>\d+)-(?<m>\d+)/, "$<m>.$<y>.$<none>|$\`|$'|$<")`;
js`$event.s.replace(/(\d+)-(?<m>\d+)/g, (all, y, m, at, text, groups) => \`\${[all, y, m, at]} \${groups.m}\`)`;
js`["a.b.c".replace(".", "$&$&"), "a.b.c".replaceAll(".", () => "$&"), "abc".replaceAll("", "-")]`;
js`[/a.c/.test("a\nc"), /a.c/s.test("a\nc"), /^b/.test("a\nb"), /^b/m.test("a\nb"), /B/i.test("ab")]`;
js`["😀".match(/./)[0].length, "😀".match(/./u)[0].length, /^[😀]$/u.test("😀"), /\u{1f600}/u.test($event.u),
  "😀".match(/\ud83d/u), "😀".match(/\ud83d/).index]`("a pair is one character under u");
js`(r => [r.test("aab"), r.lastIndex, r.test("aab"), r.test("aab"), r.lastIndex])(/a/y)`;
js`(r => [r.exec("abab").index, r.lastIndex, r.exec("abab").index, r.exec("abab"), r.lastIndex])(/b/g)`;
js`[/(?<=\$)\d+/.exec("EUR5 $42")[0], /(?<!\$)\b\d+/.exec("$42 7")[0],
  "1234567".replace(/\B(?=(\d{3})+$)/g, ","), /(?<=(\d)(\d+))x/.exec("1234x")]`;
js`[/(z)((a+)?(b+)?(c))*/.exec("zaacbbbcac"), /(a*)*/.exec("b"), /(?=(a))\1/.exec("a")]`(
  "a group forgets with each turn");
js`[/(a)\1/.test("aa"), /\k<q>(?<q>x)/.test("x"), /[^]/.test("\n"), /[]/.test("a"), /[\d-x]/.test("-"),
  /a{,2}/.test("a{,2}"), /\0/.test("\0"), /\cJ/.test("\n")]`;
js`[/^\w+@[\w.]+$/.test($event.mail), /\p{L}/u.test("é"), /^\p{Lu}/u.test("é"), /\P{ASCII}/u.test("a"),
  /\p{Script=Greek}/u.test("α")]`;
js`["aBc".match(/[\p{L}--[a-z]]/v)[0], /^[\w&&\d]+$/v.test("12"), /[\q{abc|d}]/v.exec("xabc")[0],
  /^\p{Emoji_Keycap_Sequence}$/v.test("1\ufe0f\u20e3")]`;
js`(m => [m.indices[0], m.indices[1], m.indices.groups.b])(/a(?<b>b)?/d.exec("xab"))`;
js`[String(/[/]\//gi), new RegExp("/").source, new RegExp("").source, RegExp("\n").source, /a/misguyd.flags,
  new RegExp(/a/gi, "m").flags]`;
js`["a1b22c".split(/\d/), "a1b22c".split(/(\d)+/), "".split(/x/), "".split(/(?:)/), "a,b,c".split(/,/, 2)]`;
js`["İ", "ſ", "K"].map(c => [/\w/iu.test(c), /[a-z]/i.test(c), /[^\W]/iu.test(c)])`(
  "cases fold otherwise under u");

group`arrays`;
on`{"list":[5,1,4,10],"items":[{"k":"b","v":1},{"k":"a","v":2},{"k":"b","v":3}],"deep":[1,[2,[3,[4]]]]}`;
js`[$event.list.toSorted(), $event.list.toSorted((a, b) => a - b), $event.list.toReversed(), $event.list]`;
js`[$event.list.with(-1, "y"), $event.list.toSpliced(1, 2, "a", "b", "c"), $event.list.toSpliced(-2)]`;
js`[$event.list.findLast(n => n > 4), $event.list.findLastIndex(n => n < 5), $event.list.find(n => n > 99),
  $event.list.findIndex(n => n > 99)]`;
js`$event.items.sort((a, b) => a.k < b.k ? -1 : a.k > b.k).map(i => i.v)`("stable, and true counts as 1");
js`$event.items.reduce((groups, { k, v }) => ({ ...groups, [k]: [...(groups[k] ?? []), v] }), {})`;
js`[[1, 2, 3].reduceRight((a, b) => a + "-" + b), [5].reduce(() => 0), [, 5, , 6].reduce((a, b) => a + b)]`;
js`[$event.deep.flat(), $event.deep.flat(2), $event.deep.flat(Infinity), $event.deep.flat(-1),
  [1, , [2, , 3]].flat()]`;
js`[[1, 2].flatMap(n => [n, [n * 2]]), ["a b", "c"].flatMap(s => s.split(" ")),
  [1, 2].flatMap(n => n > 1 ? [] : n)]`;
js`(a => [a.splice(1, 2, "x", "y", "z"), [...a], a.splice(-1), a.splice(1, undefined), a.splice(1), a])(
  [1, 2, 3, 4])`;
js`(a => [a.push(5, 6), a.pop(), a.unshift(0, "a"), a.shift(), a.reverse(), a.fill("f", 1, -1), a])([1, 2])`(
  "one and the same array, written at the end");
js`[[1, 2, 3, 4, 5].copyWithin(0, 3), [1, 2, 3, 4, 5].copyWithin(1, 0, 3), Array(3).fill().map((_, i) => i)]`;
js`[[1, [2]].concat(4, [5], [[6]]), [].concat("ab", { length: 1, 0: "x" }),
  [1].concat({ length: 1, 0: "x", [Symbol.isConcatSpreadable]: true })]`;
js`[[NaN].includes(NaN), [NaN].indexOf(NaN), [, 1].includes(undefined), [, 1].indexOf(undefined),
  [1, 2, 1].lastIndexOf(1), ["1"].includes(1), [0].includes(-0)]`;
js`[1 in [1, , 3], [1, , 3].map(n => n * 2), [...[1, , 3]], Object.keys([1, , 3]), [, ,].length]`("holes");
js`[Array(3), Array("3"), Array.of(3), Array.from("hé😀"), Array.from({ length: 2, 0: "a" }, (v, i) => [v, i]),
  Array.from(5)]`;
js`(a => (a.length = 1, a[3] = "d", a["4"] = "e", a.name = "not written", a[-1] = "nor this", [a.length, a]))(
  [1, 2, 3])`;
js`[[].map.call("abc", c => c + c), [].slice.call({ length: 2, 0: "a" }), [].push.call({ length: 1 }, 5),
  [].join.call({ length: "2", 0: 1, 1: 2 }, "+")]`("methods take what looks like an array");
js`[[3, 1, 2].sort(() => 0), [2, 1].sort(undefined), [1, 2, 3].sort((a, b) => b - a), [, 3, undefined, 1].sort()]`;
js`[[null, undefined, [1, [2]]].join("-"), [1, 2].join(undefined), [1, 2].join(null)]`;
js`(seen => { [1, 2, 3].forEach((n, i, a) => { seen.push(n); if (i === 0) { a.pop(); a.push("new", "late"); } });
  return seen; })([])`("what comes while one walks");

group`typed arrays`;
on`{"bytes":[1,255,256,-1,1.7]}`;
js`[Uint8Array, Int8Array, Uint8ClampedArray, Int16Array, Float32Array].map(A => [...new A($event.bytes)])`;
js`new Uint8Array($event.bytes)`("written as an object");
js`(v => [v.setInt16(0, -2), v.getUint16(0), v.getUint16(0, true), v.setFloat32(4, 0.1), v.getFloat32(4)])(
  new DataView(new ArrayBuffer(8)))`;
js`(a => (a[5] = 1, a["-0"] = 1, [a.length, 5 in a, a.subarray(1), a.slice(-1), a.join()]))(Int8Array.of(1, 2))`;
js`[Uint8Array.from([3, 1, 20]).sort(), Float64Array.of(NaN, 0, -1).sort()].map(a => a.join())`(
  "sorts by number");

group`strings`;
on`{"s":"Hello, World","pad":"7","u":"stra\u00dfe \u0130\u03a3 \ufb01","sp":" \t\u00a0\ufeffx\u2003 "}`;
js`[$event.s.at(-1), $event.s[0], $event.s[99], $event.s.charAt(99), $event.s.charCodeAt(99),
  "😀".codePointAt(0), "😀".codePointAt(1)]`;
js`[$event.pad.padStart(3, "0"), $event.pad.padEnd(3), $event.pad.padStart(6, "abc"), $event.pad.padStart(3, ""),
  "x".padEnd(4, "😀")]`;
js`[$event.s.slice(-5, -1), $event.s.substring(5, 2), $event.s.substring(-3, NaN), $event.s.substr(-5, 3)]`;
js`[$event.s.indexOf("o", 5), $event.s.lastIndexOf("o", 5), $event.s.indexOf("", 99), $event.s.lastIndexOf(""),
  "undefined".indexOf()]`;
js`[$event.s.includes("World", 7), $event.s.startsWith("World", 7), $event.s.endsWith("Hello", 5),
  "null".includes(null)]`;
js`[$event.u.toUpperCase(), $event.u.toLowerCase(), "ὀδυσσεύς".toUpperCase(),
  "ΑΣ".toLowerCase(), "Ǆ".toLowerCase()]`;
js`[$event.sp.trim(), $event.sp.trimStart().length, $event.sp.trimEnd().length, "\u200bx\u180e".trim().length]`;
js`["a,b,,c,".split(","), "abc".split(""), "".split(""), "".split(","), "abc".split(), "a-b-c".split("-", 2)]`;
js`["é".normalize("NFD").length, "e\u0301".normalize(), "ﬁ①Å".normalize("NFKC"), "가".normalize("NFD").length]`;
js`[String.fromCharCode(72, 0x10041, 0xd83d, 0xde00), String.fromCodePoint(0x1f600, 65), "\x41\u{41}\u0041\
\0\b\v\'"]`("an escaped line break is nothing");
js`[encodeURIComponent("a b&ü/😀'"), encodeURI("a b&ü/#[]"), decodeURIComponent("%F0%9F%98%80+%41"),
  decodeURI("%2f%41"), escape("ü 😀"), unescape("%u0041%zz%41")]`;

group`numbers`;
on`{"a":1.005,"b":123.456,"n":5}`;
js`[$event.a.toFixed(2), (2.5).toFixed(0), (-1.5).toFixed(0), (1e21).toFixed(2), (0.000001).toFixed(7),
  (-0).toFixed(2), (1.45).toFixed(1), (8.345).toFixed(2)]`;
js`[$event.b.toPrecision(4), $event.b.toPrecision(2), (0.00001).toPrecision(1), (1e21).toPrecision(3),
  (1.25).toPrecision(2), (0).toPrecision(3)]`;
js`[$event.b.toExponential(), $event.b.toExponential(1), (1e-7).toExponential(), (12345).toExponential(2)]`;
js`[(255).toString(16), (-255).toString(36), (0.5).toString(2), (2 ** 53).toString(36), (-0).toString()]`;
js`[1e21, 1e20, 123456789012345680000, 1e-6, 1e-7, 0.00000123, 1.5e300, -1e-7]`("where exponents begin");
js`[-0, [-0], 0 * -1, JSON.stringify({ z: -0 }), String(-0), \`\${-0}\`, 1 / -0 < 0, Object.is(-0, 0)]`;
js`[NaN, Infinity, -Infinity, { a: NaN }]`("written as null");
js`[0b101, 0o17, 0xFf, 1_000_000, .5, 5., 1e3, 0.1e-2, 0B1, 0XA, 5..toFixed(1), 5 .toFixed(1)]`;
js`[Math.round(-0.5), Math.round(2.5), Math.round(-2.5), Math.trunc(-0.9), Math.ceil(-0.5),
  Math.round(0.49999999999999994)].map(n => Object.is(n, -0) ? "-0" : n)`;
js`[Math.max(), Math.min(), Math.max(1, NaN), Math.max(1, "3", [2]), Math.sign(-3), Math.abs("-7"),
  Math.sqrt(2), Math.fround(5.05), Math.imul(0xffffffff, 5), Math.clz32(5)].map(String)`;
js`[0.1, 1 / 3, 100 / 3, 5e-324, 1.7976931348623157e308, 4.35, 0.000001, 123456.789e3, 0.3 - 0.1]`(
  "the shortest text that reads back");

group`big numbers`;
on`{"id":9007199254740993,"long":12345678901234567890,"huge":1e999,"tiny":1e-400,"zero":-0}`;
js`($event)`("what doubles make of them");
js`[$event.id + 1, $event.id + 2, $event.id === 9007199254740992, Number.isSafeInteger($event.id)]`;
js`[String($event.long), $event.long.toString(16), BigInt($event.long).toString(), $event.long.toFixed(0)]`;
js`[$event.huge === Infinity, -$event.huge, $event.huge - $event.huge, $event.tiny, 1 / $event.zero].map(String)`;
js`[1e308 * 10, 1e308 * 10 / 1e308, 5e-324 / 2, 2 ** 1024, 2 ** -1074, 2 ** -1075, -(2 ** 53) - 1].map(String)`;
js`[2 ** 53, 2 ** 53 + 1, 2 ** 53 + 2, 2 ** 63, 2 ** 64, 9007199254740991 + 2, 0xffffffffffffffff]`;
js`[99999999999999990000, 999999999999999900000, 9999999999999999999999, 4.9e-324, 2.2250738585072014e-308]`;
js`[2147483647 + 1, -2147483648 - 1, 2147483647 * 2147483647, 65536 * 65536,
  -2147483648 / -1, 1 / (-2147483648 % -1)]`(
  "beyond 32 bits");
on`[1.0,1E3,1e+2,-0.0,0e10,1.10,100000000000000000000,1000000000000000000000,0.1e-6,0.1234567890123456789]`;
js`$event.map(n => [n, String(n)])`("other spellings of numbers");

on`{"id":12345678901234567890,"ids":[98765432109876543,-98765432109876543],"float":1.5e300,"text":"\"98765432109876543"}`;
js`{ ...$event, ids: undefined }`("integers of the event keep their digits");
js`$event.ids.map((id, index) => ({ id, index }))`;
js`(({ ids: [first, ...rest], ...others }) => [rest, first, others])($event)`;
js`[$event.ids.toReversed(), Math.min(...$event.ids), Object.entries($event)[0], new Set([$event.id]).values().next()]`;
js`[-$event.id, $event.id * 2, $event.id - 5000, $event.ids[0] + $event.ids[1], -$event.ids[0], 2 ** 60]`(
  "what is computed is JavaScript's, but for numbers that equal one of the event");
js`[\`\${$event.id}\`, JSON.stringify($event.ids), { [$event.id]: 1 }, $event.text, "98765432109876540"]`(
  "texts are JavaScript's");
js`[typeof $event.id, $event.id === 12345678901234567891, $event.id > 5, Number.isInteger($event.id), $event.id % 16]`;
js`($event.ids.sort((a, b) => a - b), $event.id = $event.ids[0], $event)`;

group`JSON`;
on`{"a":[1,{"b":null}],"text":"{\"x\":[1,2,{\"y\":3}]}"}`;
js`JSON.stringify($event)`;
js`{ a: undefined, b: null, c: [undefined, () => 1, Symbol()], d: () => 1, e: Symbol(), f: NaN, g: "" }`;
js`JSON.stringify($event.a, (key, value) => typeof value === "number" ? value + 1 : value)`;
js`JSON.stringify({ b: 1, a: { b: 2, c: 3 }, 1: 4 }, ["a", "b", 1, "b", Object("x")])`(
  "a list chooses and orders");
js`[JSON.stringify({ a: [1, {}], b: [] }, null, 2), JSON.stringify([1], null, "--"), JSON.stringify([1], null, 20),
  JSON.stringify({ a: 1 }, null, "12345678901")]`;
js`(seen => (JSON.stringify({ a: [1, new Date(0)] }, function (key, value) {
  seen.push([key, typeof value, Array.isArray(this)]); return value; }), seen))([])`;
js`JSON.parse($event.text, (key, value) => Array.isArray(value) ? value.length : value)`;
js`(seen => (JSON.parse($event.text, (key, value) => { seen.push(key); return key === "0" ? undefined : value; }),
  seen))([])`("from the inside out");
js`JSON.parse("[1,2,3]", (key, value) => key === "1" ? undefined : value)`("a hole");
js`["[1,]", "{'a':1}", "{a:1}", "01", "+1", ".5", "1.", "NaN", "\"\t\"", "\"\\x41\"", "1 2", "", "[1]\u00a0",
  "\ufeff1", "{\"a\":1,}", "tru", "\"\\u12\"", "-", "// 1", "1e"]
  .map(text => { try { return JSON.parse(text); } catch (e) { return e.name; } })`("what is no JSON");
js`[JSON.parse(" \t\r\n[ 1 , 2 ] "), JSON.parse("1E+2"), JSON.parse('"\\/\\b\\u00e9"'), JSON.parse(true)]`;
js`JSON.parse('{"__proto__":[1],"a":1,"b":2,"a":3}')`;
js`{ toJSON(key) { return [key, "top"]; } }`;
js`{ a: { toJSON: key => key + "!" }, b: [{ toJSON: key => typeof key + key }], c: { toJSON: 1 },
  d: { toJSON: () => undefined } }`;
js`{ when: { toJSON: () => new Date(0) } }`("the result of toJSON is not converted again");
js`(o => { o.self = o; return o; })({})`;
js`(o => [o, o, { o }])({ a: 1 })`("twice is no cycle");
js`[new Map([[1, 2]]), new Set([1]), new WeakMap(), /x/, new Error("x"), Promise.resolve(), Math, function () {}]`;
js`[undefined, () => 1, Symbol(), null, "x", NaN, [undefined]].map(it => typeof JSON.stringify(it))`;
js`Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true }, hidden: { value: 3 } })`;

group`symbols`;
on`{"a":1}`;
js`Symbol("skipped")`;
js`{ [Symbol("key")]: 1, value: Symbol("value"), a: $event.a }`;
js`[Symbol("d").description, Symbol("d").toString(), String(Symbol.iterator), Symbol.keyFor(Symbol.for("k"))]`;
js`[Symbol("a") === Symbol("a"), Symbol.for("a") === Symbol.for("a"), Object(Symbol.iterator) == Symbol.iterator]`;
js`[Reflect.ownKeys({ b: 1, [Symbol("s")]: 2, 1: 3, a: 4 }).map(String), Object.keys({ [Symbol()]: 1 })]`;
js`[{ [Symbol.toStringTag]: "Mine" }, Math, new Map(), Symbol.prototype].map(String).concat(
  [null, [], new Date(), () => 1, arguments, 1].map(it => Object.prototype.toString.call(it)))`;
js`[1 instanceof { [Symbol.hasInstance]: n => n === 1 },
  [] instanceof class { static [Symbol.hasInstance]() { return "x"; } }]`;
js`[].concat(Object.assign([1, 2], { [Symbol.isConcatSpreadable]: false }))`;
js`((s, o = { [s]: 2 }) => [Object.assign({}, o)[s], { ...o }[s], s in o])(Symbol())`("copied with the rest");
js`["aXb".replace({ [Symbol.replace]: (s, r) => [s, r] }, "Y"), "x".split({ [Symbol.split]: s => s + "!" }),
  "ab".includes({ toString: () => "b", [Symbol.match]: false })]`;

group`proxies`;
on`{"a":1,"b":{"c":2}}`;
js`new Proxy($event, {})`;
js`new Proxy($event, { get: (o, key) => key === "toJSON" ? undefined : key + "?" })`;
js`new Proxy($event, { ownKeys: () => ["b", "a", "x"], getOwnPropertyDescriptor: (o, key) =>
  ({ value: key, enumerable: key !== "a", configurable: true }) })`;
js`(seen => {
  const traps = Object.fromEntries(Reflect.ownKeys(Reflect).filter(name => typeof name === "string").map(
    name => [name, (...args) => (seen.push(name + " " + String(args[1])), Reflect[name](...args))]));
  const p = new Proxy({ a: 1 }, traps);
  p.x = p.a;
  delete p.a;
  "y" in p;
  ({ ...p });
  p instanceof Array;
  Object.freeze(p);
  JSON.stringify(p);
  return seen;
})([])`("every trap, in its order");
js`new Proxy([1, [2]], {})`("an array still");
js`new Proxy([3, 1, 2], { get: (o, k) => k === "length" ? 2 : o[k] })`;
js`[new Proxy(function () {}, { apply: (f, self, args) => [typeof f, args] })(1, 2),
  new (new Proxy(class {}, { construct: (C, args) => ({ args }) }))(3), typeof new Proxy(class {}, {})]`;
js`new Proxy(() => 1, {})`("a function, so skipped");
js`new Proxy(Object.freeze({ a: 1 }), { get: () => 2 }).a`("a lie about a fixed property");
js`(p => { p.a = 1; })(new Proxy({}, { set: () => false }))`("strict code throws");
js`(({ proxy, revoke }) => { revoke(); return proxy; })(Proxy.revocable({}, {}))`;
js`Proxy({}, {})`;
js`((p, a = [...p]) => [a, p.map(n => n * 2), p.concat(4), [0].concat(p), p.slice(1), p.includes(2), p.join("+")])(
  new Proxy([1, 2, 3], {}))`;
js`(seen => [[].sort.call(new Proxy([3, 1, 2], { set: (o, k, v) => (seen.push(k + v), Reflect.set(o, k, v)) })),
  seen])([])`;
js`[Reflect.get({ get x() { return this.y; } }, "x", { y: 5 }), Reflect.set(Object.freeze({}), "a", 1),
  Reflect.deleteProperty($event, "a"), Reflect.ownKeys($event),
  Reflect.construct(function () { return { target: new.target === Array }; }, [], Array)]`;

group`collections`;
on`{"words":["b","a","b","c","a","b"],"pairs":[["x",1],["y",2]]}`;
js`[...$event.words.reduce((m, w) => m.set(w, (m.get(w) ?? 0) + 1), new Map())]`;
js`[[...new Set($event.words)], new Set([NaN, NaN, 0, -0, "0", {}, {}]).size, Object.is([...new Set([-0])][0], 0)]`;
js`((m, seen = []) => { for (const [k] of m) { seen.push(k); if (k < 3) m.set(k + 1, 0); m.delete(k); }
  return [seen, m.size]; })(new Map([[1, 0]]))`("what comes while one walks");
js`(m => [m.set(NaN, 1) === m, m.get(NaN), m.delete(NaN), m.delete(NaN), m.size, Object.fromEntries(m)])(
  new Map($event.pairs))`;
js`(m => [m.get($event.words), m.has([]), m.delete($event.words), m.has($event.words)])(
  new WeakMap([[$event.words, "kept"]]))`;

group`key order`;
on`{"b":1,"2":2,"a":3,"1":4,"-1":5,"01":6,"4294967295":7,"4294967294":8,"1.5":9,"":10}`;
js`($event)`("array indices first, then as they came");
js`{ ...$event, b: 0, c: 1, 0: 2 }`("a changed key keeps its place");
js`(o => { delete o.b; o.b = "again"; return o; })($event)`("a deleted one comes back at the end");
js`Object.fromEntries(Object.entries($event).sort(([a], [b]) => a < b ? -1 : 1))`;
js`Reflect.ownKeys({ [Symbol.iterator]: 1, b: 2, 10: 3, 9: 4, get a() { return 5; } }).map(String)`;
js`[Object.getOwnPropertyNames(Object.assign([1, 2], { x: 1 })),
  Object.entries(Object.assign("ab", { x: 1, 5: 2 }))]`;
js`(seen => { for (const k in { b: 1, 1: 3, __proto__: { c: 4, b: 5, 0: 6 } }) seen.push(k); return seen; })([])`;
js`new class { z = 1; 1 = 2; constructor() { this.a = 3; this[0] = 4; } }()`;
on`{"a":1,"b":2,"a":3,"c":{"x":1,"x":{"y":2}}}`;
js`({ ...$event })`("of equal keys the last counts, in the first one's place");
on`{"__proto__":{"polluted":true},"a":1,"constructor":{"prototype":1},"toString":"t","hasOwnProperty":2}`;
js`($event)`("an ordinary key in JSON");
js`[$event.polluted, Object.getPrototypeOf($event) === Object.prototype, $event["__proto__"].polluted,
  Object.hasOwn($event, "__proto__")]`;
js`[{ ...$event }, Object.assign({}, $event)]`("a spread defines it, an assignment sets the prototype");
js`[{ __proto__: { a: 1 } }, { __proto__: { a: 1 } }.a, { "__proto__": 5 }, { ["__proto__"]: 1 },
  (__proto__ => ({ __proto__ }))(7)]`;
js`\`\${$event}\``("toString is a text here");

group`control flow`;
on`{"rows":[[1,2],[3,-1],[5,6]],"kind":"b"}`;
js`(seen => {
  outer: for (const row of $event.rows) {
    for (const n of row) {
      if (n < 0) continue outer;
      if (n === 6) break outer;
      seen.push(n);
    }
    seen.push("|");
  }
  return seen;
})([])`;
js`((k, seen = []) => {
  switch (k) {
    case "a": seen.push(1);
    case "b": seen.push(2);
    case "c": seen.push(3); break;
    default: seen.push(4);
  }
  switch (NaN) {
    default: seen.push("default");
    case 1: seen.push("on"); break;
    case NaN: seen.push("never");
  }
  return seen;
})($event.kind)`("falls through");
js`(() => { block: { break block; } let i = 0; do { i++; if (i === 2) continue; } while (i < 3);
  while (true) if (i++ > 5) break; return i; })()`;
js`(() => { try { return "try"; } finally { return "finally"; } })()`("the last return counts");
js`(() => { for (;;) { try { continue; } finally { break; } } return "left"; })()`;
js`(() => { try { null.x; } catch ({ name, constructor: { name: also } }) { return [name, also]; } })()`;
js`(() => { try { try { throw "a"; } finally { throw "b"; } } catch (e) { return e; } })()`;
js`(() => { for (let i = 0, f = () => i; ; i++) if (i > 2) return [i, f()]; })()`(
  "the head's closure sees the first i");
js`(() => { return
  1; })()`("a line break ends a return");
js`(() => { let a = 1
  let b = a
  ++b
  return [a, b] })()`("no semicolons");

group`exceptions`;
on`{"id":17,"none":null}`;
js`$event.none.name`;
js`$event.customer.name`;
js`$event.id()`;
js`nobody`;
js`(() => { throw new RangeError(\`id \${$event.id} is too small\`); })()`;
js`(function f() { return f() + 1; })()`("recursion without an end");
js`new Function("return (")`;
js`eval("let a; let a;")`;
js`(() => { class OrderError extends Error { name = "OrderError"; } throw new OrderError("late"); })()`;
js`(() => { class OrderError extends TypeError {} throw new OrderError("late"); })()`("the name is inherited");
js`(() => { class OrderError extends Error { get name() { return "Own"; } } throw new OrderError("x"); })()`;
js`(() => { throw "a text"; })()`;
js`(() => { throw 42; })()`;
js`(() => { throw undefined; })()`;
js`(() => { throw { code: 1 }; })()`;
js`(() => { throw { toString: () => "own text" }; })()`;
js`(() => { throw [1, [2]]; })()`;
js`(() => { throw Symbol("s"); })()`;
js`(e => [e.name, e.message, e.cause, \`\${e}\`, Object.keys(e), e])(new Error("m", { cause: [1] }))`;
js`(e => [e instanceof Error, e.errors, e.message, String(e)])(new AggregateError([1, 2], "all"))`;
js`(e => (e.message = "changed", e.name = "Mine", [String(e), e, String(new Error()), "cause" in Error("x")]))(
  new Error("first"))`;
js`[() => null.a, () => undefined(), () => nobody, () => "a" in "b", () => new (() => 1)(), () => new 5,
  () => Number(Symbol()), () => ({}).x.y, () => { const [a] = {}; }, () => { class A extends 5 {} },
  () => class A {}(), () => { "text".length = 1; }, () => { for (const x of 5); }, () => ({}) instanceof {},
  () => { null[Symbol.iterator]; }, () => { [].length = -1; }, () => (function () { return arguments.callee; })(),
  () => new (function* () {})()].map(f => { try { return f(); } catch (e) { return e.name; } })`("syntax");
js`[() => [].at.call(null), () => [].reduce((a, b) => a), () => [1].with(1, 0), () => [2, 1].sort(null),
  () => new Array(1.5), () => new Uint8Array(-1), () => new DataView(new ArrayBuffer(2)).getInt32(0),
  () => new Set(1), () => new WeakSet().add(1), () => Map(), () => new Map([1])].map(
  f => { try { return f(); } catch (e) { return e.name; } })`("collections");
js`[() => Object.defineProperty(1, "a", {}), () => Object.defineProperty({}, "a", { get() {}, value: 1 }),
  () => Object.setPrototypeOf(Object.preventExtensions({}), {}), () => Object.fromEntries([1]),
  () => { const a = {}, b = Object.create(a); Object.setPrototypeOf(a, b); }, () => Reflect.ownKeys(1),
  () => new Proxy(1, {}), () => Object.keys(new Proxy(Object.preventExtensions({ a: 1 }), { ownKeys: () => [] })),
  () => new Symbol(), () => Symbol.keyFor("a"), () => new Promise()].map(
  f => { try { return f(); } catch (e) { return e.name; } })`("objects");
js`[() => "x".repeat(-1), () => "x".repeat(Infinity), () => "a".normalize("b"), () => String.fromCodePoint(-1),
  () => decodeURI("%E0%A4%A"), () => encodeURI("\ud800"), () => JSON.parse("{"), () => "a".startsWith(/a/),
  () => "a".replaceAll(/a/, "b"), () => "a".matchAll(/a/), () => RegExp("["), () => RegExp("a", "gg"),
  () => /a/.exec.call({}, "a")].map(f => { try { return f(); } catch (e) { return e.name; } })`("texts");
js`[() => (1).toFixed(101), () => (1).toPrecision(0), () => (1).toString(37), () => Math.max(1n), () => 1n / 0n,
  () => BigInt("x"), () => BigInt(0.5), () => BigInt(undefined), () => -5n >>> 1n, () => +1n, () => 2n ** -1n,
  () => new BigInt(1), () => new Date(NaN).toISOString(), () => new Date(1n), () => new Date(Symbol()),
  () => Date.prototype.getTime.call({}), () => new Date(0)[Symbol.toPrimitive]("other")].map(
  f => { try { return f(); } catch (e) { return e.name; } })`("numbers and dates");

group`unicode`;
on`["\ude00\ud83d","\u0001\b\u001f","\u007f\u0080\u009f","\u2028\u2029","\ufeff\u00a0\u00ad\ufffe\uffff"]`;
js`($event)`("what is below U+0020 becomes an escape, half a pair U+FFFD, nothing else changes");
on`{"lone":"a\ud800b","low":"\udc00","pair":"\ud83d\ude00","nul":"a\u0000b","sep":"\u2028\u2029"}`;
js`($event)`;
js`[$event.lone.length, $event.lone.charCodeAt(1), $event.lone.isWellFormed(), $event.lone.toWellFormed()]`;
js`[$event.pair[0], $event.pair[0] + $event.pair[1], [...$event.pair].length,
  $event.pair.split("").reverse().join("")]`;
js`[$event.low + $event.pair[0], $event.pair[0] + $event.low, "\ud83d" + "\ude00" === $event.pair]`(
  "two halves join");
js`{ ["k\ud800"]: 1, [$event.nul]: 2, [$event.sep]: 3, [$event.pair]: 4, '"\\': 5 }`;
js`[$event.nul.length, $event.nul.split("\0"), "\0", "\x00" + 1, JSON.stringify("\0"), $event.nul === "a\0b"]`;
js`[JSON.stringify("\u2028"), eval("'\u2028'").length, "\u2028".trim() === "", /./.test("\u2028"),
  /^$/m.test("a\u2028")]`;
js`["\b\t\n\v\f\r\"\\/", "\x1b", "\u007f", "\u0080", "\u00ad", "\u200b", "\ufffe", "\uffff", "\u{10ffff}"]`;
js`["é" === "e\u0301", "é".normalize("NFD") === "e\u0301", [..."🇩🇪"].length, "🇩🇪".length, "🇩🇪".at(0)]`;
js`{ é: 1, "ключ": 2, 变量: 3, \u0061b: 4, "\u{1f600}": 5, ªº: 6 }`;
js`(ünïcode => ünïcode + \u{fc}nïcode)("x")`("a name may be spelt with escapes");
js`[..."a\ud800\udc00\ud800"].map(c => c.codePointAt(0).toString(16))`;
js`[JSON.parse('"\\ud83d\\ude00\\ud800"'), JSON.parse('{"\\u0000":"\\u2028"}')]`;
js`["😀".padStart(3, "ab"), "ab".padEnd(3, "😀"), "😀".substring(0, 1), "x😀".at(-1), "\ud800".repeat(2)]`(
  "cuts through a pair");
on`{"é":"ü","😀":"\u00e9","ключ":["значение"],"a b":"\/"}`;
js`($event)`("escapes of the event are not kept");
js`[$event.é, $event["😀"], $event.ключ[0].toUpperCase(), Object.keys($event).map(k => k.length)]`;

group`dates`;
on`{"at":"2026-11-24T16:31:07.250Z","day":"2026-11-24","bad":"2026-13-45","ms":1795537867250}`;
js`[new Date(), Date.now(), new Date(Date.now()), Date.now() === $event.ms]`("the record's own time");
js`[new Date($event.at), new Date($event.day), new Date($event.ms), new Date($event.bad)]`;
js`["2026", "2026-11", "2026-11-24T16:31Z", "2026-11-24T16:31:07.25Z", "2026-11-24T16:31:07+02:00",
  "2026-11-24T24:00:00Z", "+002026-11-24T00:00:00Z", "-000001-01-01T00:00:00Z"].map(text => new Date(text))`;
js`["2026-11-24T16:31", "2026-11-24T16:31:07"].map(text => Date.parse(text))`("without a zone: UTC");
js`["", "x", "2026-11-24T25:00:00Z", "-000000-01-01T00:00:00Z", "2026-11-24T16:31:60Z"].map(
  text => new Date(text))`;
js`["Tue, 24 Nov 2026 16:31:07 GMT", "Tue Nov 24 2026 16:31:07 GMT+0100 (CET)"].map(text => new Date(text))`(
  "what toUTCString and toString write can be read");
js`[Date.UTC(2026, 10, 24), Date.UTC(2026), Date.UTC(99, 0), Date.UTC(2026, 12, 32, 25, 61, 61, 1001), Date.UTC()]`;
js`[new Date(2026, 10, 24, 16, 31, 7, 250), new Date(2026, 0), new Date(0, 0), new Date(2026, 1, 29),
  new Date(2026, 10, 24.9)]`;
js`(d => ["FullYear", "Month", "Date", "Day", "Hours", "Minutes", "Seconds", "Milliseconds"].map(
  part => [d["get" + part](), d["getUTC" + part]()]).concat(d.getTimezoneOffset()))(new Date($event.at))`;
js`(d => [d.toISOString(), d.toJSON(), d.toUTCString(), d.toString(), d.toDateString(), d.toTimeString()])(
  new Date($event.at))`;
js`(d => [d.setMonth(0, 31), d.setMonth(1), d.setDate(0), d.setFullYear(2024, 1, 29), d.setHours(25, -1),
  d.setMinutes(90), d.setSeconds(0, 1e6), d.setMilliseconds(-1), d.setUTCDate(32), d])(new Date($event.at))`;
js`(d => [d, d.getTime(), \`\${d}\`, d.toJSON(), d.getDay(), d.setHours(1), d])(new Date(NaN))`;
js`[8.64e15, 8.64e15 + 1, -8.64e15, -1, 1.9, -1.9, null, undefined, true, new Date(5), { valueOf: () => 7 },
  Object("2026")].map(time => new Date(time))`;
js`[typeof Date(), Date() === new Date().toString(), Date(0) === Date(), Date.length, new Date() instanceof Date,
  new Date().constructor === Date, Object.prototype.toString.call(new Date()), Object.keys(new Date())]`;
js`[new Date(10) - new Date(4), new Date(5) < new Date(6), new Date(5) == new Date(5), new Date(5) + 1,
  Math.max(new Date(1), new Date(2)), new Date(0)[Symbol.toPrimitive]("number")]`("text for +, else a number");
js`(D => [new D(0).year(), new D().year(), D.now() === Date.now(), new D(0), D.UTC(1970, 0)])(
  class extends Date { year() { return this.getUTCFullYear(); } })`;
js`["0001-01-01T00:00:00Z", "+010000-01-01T00:00:00Z", "-271821-04-20T00:00:00Z"].map(text => new Date(text)).map(
  d => [d, d.toUTCString(), d.getDay()])`;

group`text of the expression`;
on`{"a":1,"b":{"c":2}}`;
js`{ "a": $event.a }`("braces are an object, without parentheses");
js`{}`;
js`[
  $event.a, // one
  /* two */ $event.b.c,
]`;
js`$event.a // a comment ends at its line`;
js`$event
  .b
  ?.c
  + 1`;
js("\t\u00a0\ufeff\u2003$event\u2028.a\u2029+\v\f1\r\n")("all white space of the language");
js("$event.a\u2028+ '\u2028'.length // to here\u2029+ 5")("U+2029 ends a comment; texts may hold both");
js`((async, of, get, from, as) => [async, of, get, from, as])(1, 2, 3, 4, 5)`("no keywords");
js`({ if: 1, class: 2, new: 3, null: 4, true: 5, typeof: 6 })`("keywords as keys");
js`$\u0065vent.a + \u{65}vent.b.c`("names may be spelt with escapes");
js`+{}.a || [/=/.test("="), 4 /2/ 1]`("division or regular expression");
js`event === $event && (event.a = 2, $event)`("one object, two names");
js`($event = [1], event)`("but two variables");
on(" \t\r\n{ \"a\" : [ 1 ,\r\n2 ] , \"b\" : \"x\\n y\" } \n");
js`($event)`("white space between, not in texts");
js`$event`("the same, from the record's own bytes");
js`{ list: $event.a, text: $event.b }`;

group`context`;
on`{"a":1}`;
js`$context`;
js`[$context.partition + 1, $context.offset % 100, $context.pipeline.toUpperCase(), $context.headers.tenant]`;
js`{ ...$event, ...$context, headers: undefined, at: new Date($context.timestamp) - Date.now() }`;
js`[Object.isFrozen($context), Object.isFrozen($context.headers), Object.keys($context)]`;
js`$context.offset = 1`;
js`delete $context.headers.trace`;

group`outcomes`;
on`{"a":1,"inSample":false}`;
js`null`;
js`undefined`;
js`$event.inSample === true ? $event : undefined`;
js`$event.missing`;
js`() => $event`;
js`{ toJSON() {} }`;
js`({ toJSON: () => () => 1 })`;
group`conditions`;
on`{"method":"POST","status":200,"path":"/Orders/7","tags":["a","B",3,null],"user":{"name":"Ada","plan":null},"empty":"","zero":0,"big":12345678901234567890,"é":"É😀","deep":{"er":{"list":[[],{}]}}}`;
js`$event.method === "POST" ? { path: $event.path, by: $event.user.name } : undefined`;
js`$event.method !== "POST" ? undefined : $event`;
js`$event.status >= 500 ? "error" : $event.status >= 400 ? "mistake" : $event.status`;
js`$event.user && $event.user.name ? $event.user : null`;
js`$event.user?.plan ?? $event.none ?? "free"`;
js`[$event.user.plan ?? 1, $event.zero ?? 2, $event.zero || 3, $event.empty || $event.none || null, $event.zero && 4]`;
js`$event.none && $event.none.x`;
js`$event.zero || $event.empty && 5`;
js`{ n: $event.path.length, tags: $event.tags.length, none: $event.none?.length, unicode: $event.é.length }`;
js`$event.path.toLowerCase().startsWith("/orders/") ? $event.path.toLowerCase() : undefined`;
js`$event.é.toLowerCase() + $event.é.toUpperCase().length`;
js`$event.é.toLowerCase()`;
js`\`\${$event.method} \${$event.path}: \${$event.status} \${$event.user.plan} \${$event.none} \${$event.big}\``;
js`\`\${$event.tags} \${$event.user}\``;
js`{ kind: \`\${$event.method}-\${$event.status}\`, "with blanks": $event.zero === -0, event: typeof $event.tags }`;
js`[$event.tags.includes("B"), $event.tags.includes(3), $event.tags.includes(null), ["GET", "POST"].includes($event.method)]`;
js`$event.method.includes("OS") && !$event.method.endsWith("x") ? $event.tags : undefined`;
js`$event.method < "PUT" && $event.status < 300.5 && "a" > $event.method ? { ok: true } : undefined`;
js`$event.method < 5 ? 1 : $event.big`;
js`$event.tags < 5 ? 1 : { list: $event.deep.er.list, first: $event.tags["1"], name: $event.constructor.name }`;
js`$event.deep.er === $event.deep.er ? $event.deep : undefined`;
js`$event.none.length > 0 ? $event : undefined`;
js`$event.status.toLowerCase()`;
js`!($event.zero === 0) ? 1 : !$event.empty ? undefined : 2`;
js`$event.tags.some(tag => tag === 3) ? $event : undefined`;
js`/^\/orders/i.test($event.path) ? { id: $event.path.length } : undefined`;
js`($event.user.name = "Eve") ? $event.user : undefined`;
js`$event.tags.pop() === null && $event.tags.reverse().length ? $event.tags : $event.path`;

group`outcomes`;
for (const event of ["null", "-1.5", '"\\u0000\\ud800"', "[]", "[null,[[]]]", "{}", '""']) {
  on(event);
  js`[$event, typeof $event, $event ? 1 : 2]`;
}

// --- The evaluation ------------------------------------------------------------------------------

// Runs in a realm of its own, which has the objects of the language and none of Node's. `source` is
// the wrapped expression, `now` the record's timestamp. Only an error's name is compared, since each
// engine has its own messages.
function realm(source, eventText, contextText, now) {
  "use strict";
  const Real = Date;
  globalThis.Date = new Proxy(Real, {
    apply: () => new Real(now).toString(),
    construct: (target, args, newTarget) => Reflect.construct(
      target, args.length === 0 ? [now] : args, newTarget === globalThis.Date ? target : newTarget),
  });
  Real.now = () => now;
  Real.prototype.constructor = globalThis.Date;

  const $context = JSON.parse(contextText);
  Object.freeze($context.headers);
  Object.freeze($context);
  const $event = JSON.parse(eventText);
  const evaluate = (0, eval)(source);
  try {
    const line = JSON.stringify(evaluate($event, $event, $context));
    return line === undefined ? { skipped: true } : { delivered: line };
  } catch (thrown) {
    return { failed: thrown instanceof Error ? thrown.name : String(thrown) };
  }
}

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
function withDigits(line, event) {
  const digits = new Map();
  for (const [token] of event.matchAll(TOKENS))
    if (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)))
      digits.set(Number(token), token);
  return line.replace(TOKENS, token => digits.get(token[0] === '"' ? null : Number(token)) ?? token);
}

const CONTEXT = JSON.stringify({
  topic: RECORD.topic, partition: RECORD.partition, offset: RECORD.offset,
  timestamp: new Date(RECORD.timestamp).toISOString(), pipeline: RECORD.key,
  headers: Object.fromEntries(RECORD.headers), destination: RECORD.destination,
});

function wellFormed(line) {   // Each text of it; JSON.stringify escapes half a surrogate pair.
  return line.replace(TOKENS, token =>
    token[0] === '"' ? JSON.stringify(JSON.parse(token).toWellFormed()) : token);
}

function outcome({ event, expression }) {
  const source =
    `(function () { "use strict"; return ($event, event, $context) => (\n${expression}\n); })()`;
  const evaluate = vm.runInContext(`(${realm})`, vm.createContext());
  try {
    const made = evaluate(source, event, CONTEXT, RECORD.timestamp);
    return made.delivered ? { delivered: wellFormed(withDigits(made.delivered, event)) } : made;
  } catch (error) {
    throw new Error(`${expression} is not an expression, or ${event} is not JSON`, { cause: error });
  }
}

function ascii(value) {   // Invisible and ambiguous characters become visible in a diff.
  return JSON.stringify(value)
    .replace(/[^\x20-\x7e]/g, unit => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));
}

const lines = cases.map(pair => ascii({ ...pair, ...outcome(pair) }));   // One pair, one line.
writeFileSync(
  new URL("corpus.json", import.meta.url),
  `{\n"node": ${ascii(process.version)},\n"record": ${ascii(RECORD)},\n` +
  `"pairs": [\n${lines.join(",\n")}\n]\n}\n`,
);
console.log(`${lines.length} pairs by Node.js ${process.version}`);
