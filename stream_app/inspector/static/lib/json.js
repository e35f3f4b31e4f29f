/**
 * Lossless JSON parser: values as ranges of the source text, one level at a time.
 *
 * JSON.parse rounds 9007199254740993, sorts the key "7" before "a", drops repeated keys and
 * overflows the stack at ten thousand levels. Here a value is a range of the text; its members are
 * parsed when it is opened, without recursion.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN = new Set([0x5b, 0x7b]);
const CLOSE = new Set([0x5d, 0x7d]);
const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d]);

/**
 * A value: `kind` (object, array, string, number, true, false, null), range in the text, `count` of
 * members, and `key`: a string in an object, a number in an array, null for the root.
 * `overridden`: a later member of the object has the same key, which JavaScript keeps instead.
 */
function value(text, index, key) {
  const first = text.charCodeAt(index);
  if (first === QUOTE)
    return {
      kind: "string",
      key,
      start: index,
      end: stringEnd(text, index),
      count: 0,
      overridden: false,
    };
  if (OPEN.has(first)) {
    const { end, count } = containerEnd(text, index);
    return {
      kind: first === 0x7b ? "object" : "array",
      key,
      start: index,
      end,
      count,
      overridden: false,
    };
  }
  let end = index;
  while (end < text.length && !isBoundary(text.charCodeAt(end))) end += 1;
  const word = text.slice(index, end);
  if (end === index) throw new SyntaxError(`no JSON value at character ${index}`);
  const kind = word === "true" || word === "false" || word === "null" ? word : "number";
  return { kind, key, start: index, end, count: 0, overridden: false };
}

/** The root value of a text. */
export const rootOf = (text) => value(text, skipSpace(text, 0), null);

/** The members of an object or array, in source order. */
export function membersOf(text, container) {
  const members = [];
  const isObject = container.kind === "object";
  const last = container.end - 1;
  let index = skipSpace(text, container.start + 1);
  while (index < last) {
    let key = members.length;
    if (isObject) {
      const end = stringEnd(text, index);
      key = JSON.parse(text.slice(index, end));
      index = skipSpace(text, end);
      if (text.charCodeAt(index) !== COLON) throw new SyntaxError(`no colon at character ${index}`);
      index = skipSpace(text, index + 1);
    }
    const member = value(text, index, key);
    members.push(member);
    index = skipSpace(text, member.end);
    if (text.charCodeAt(index) === COMMA) index = skipSpace(text, index + 1);
  }
  if (isObject) markOverridden(members);
  return members;
}

function markOverridden(members) {
  const seen = new Set();
  for (let index = members.length - 1; index >= 0; index -= 1) {
    members[index].overridden = seen.has(members[index].key);
    seen.add(members[index].key);
  }
}

function skipSpace(text, from) {
  let index = from;
  while (SPACE.has(text.charCodeAt(index))) index += 1;
  return index;
}

function isBoundary(code) {
  return code === COMMA || CLOSE.has(code) || SPACE.has(code);
}

function stringEnd(text, start) {
  let index = start + 1;
  for (;;) {
    const quote = text.indexOf('"', index);
    if (quote < 0) throw new SyntaxError(`the string at character ${start} is not terminated`);
    let before = quote - 1;
    while (text.charCodeAt(before) === BACKSLASH) before -= 1;
    if ((quote - before) % 2 === 1) return quote + 1;
    index = quote + 1;
  }
}

function containerEnd(text, start) {
  let depth = 0;
  let commas = 0;
  let hasMember = false;
  let index = start;
  while (index < text.length) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) {
      hasMember = true;
      index = stringEnd(text, index);
      continue;
    }
    if (OPEN.has(code)) {
      hasMember ||= depth > 0;
      depth += 1;
    } else if (CLOSE.has(code)) {
      depth -= 1;
      if (depth === 0) return { end: index + 1, count: hasMember ? commas + 1 : 0 };
    } else if (code === COMMA) {
      if (depth === 1) commas += 1;
    } else if (!SPACE.has(code)) hasMember = true;
    index += 1;
  }
  throw new SyntaxError(`the container at character ${start} is not terminated`);
}

const NAME = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

/** The path of a member as an expression: `$event.body`, `$event.items[0]`, `$event["odd key"]`. */
export function pathOf(parentPath, key) {
  if (key === null) return parentPath;
  if (typeof key === "number") return `${parentPath}[${key}]`;
  return NAME.test(key) ? `${parentPath}.${key}` : `${parentPath}[${JSON.stringify(key)}]`;
}
