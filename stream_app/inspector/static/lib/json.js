/**
 * JSON text as ranges of itself, level by level.
 *
 * JSON.parse would round 9007199254740993, sort the key "7" before "a", drop a key that comes twice
 * and lose itself in ten thousand levels. Here a value is the range of its own text; what is inside
 * is looked for when somebody opens it, without recursion.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN = new Set([0x5b, 0x7b]);
const CLOSE = new Set([0x5d, 0x7d]);
const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d]);

/**
 * A value: `kind` (object, array, string, number, true, false, null), its range in the text, how
 * many members it has, and its `key`: a text in an object, a number in an array, null for the root.
 * `overridden`: a later member of its object has the same key, and JavaScript keeps that one.
 */
function value(text, at, key) {
  const first = text.charCodeAt(at);
  if (first === QUOTE)
    return {
      kind: "string",
      key,
      start: at,
      end: stringEnd(text, at),
      count: 0,
      overridden: false,
    };
  if (OPEN.has(first)) {
    const { end, count } = containerEnd(text, at);
    return {
      kind: first === 0x7b ? "object" : "array",
      key,
      start: at,
      end,
      count,
      overridden: false,
    };
  }
  let end = at;
  while (end < text.length && !isBoundary(text.charCodeAt(end))) end += 1;
  const word = text.slice(at, end);
  if (end === at) throw new SyntaxError(`no JSON value at character ${at}`);
  const kind = word === "true" || word === "false" || word === "null" ? word : "number";
  return { kind, key, start: at, end, count: 0, overridden: false };
}

/** The whole text as a value. */
export const rootOf = (text) => value(text, skipSpace(text, 0), null);

/** The members of an object or an array, in the order of the text. */
export function membersOf(text, container) {
  const members = [];
  const isObject = container.kind === "object";
  const last = container.end - 1;
  let at = skipSpace(text, container.start + 1);
  while (at < last) {
    let key = members.length;
    if (isObject) {
      const end = stringEnd(text, at);
      key = JSON.parse(text.slice(at, end));
      at = skipSpace(text, end);
      if (text.charCodeAt(at) !== COLON) throw new SyntaxError(`no colon at character ${at}`);
      at = skipSpace(text, at + 1);
    }
    const member = value(text, at, key);
    members.push(member);
    at = skipSpace(text, member.end);
    if (text.charCodeAt(at) === COMMA) at = skipSpace(text, at + 1);
  }
  if (isObject) markOverridden(members);
  return members;
}

function markOverridden(members) {
  const seen = new Set();
  for (let at = members.length - 1; at >= 0; at -= 1) {
    members[at].overridden = seen.has(members[at].key);
    seen.add(members[at].key);
  }
}

function skipSpace(text, from) {
  let at = from;
  while (SPACE.has(text.charCodeAt(at))) at += 1;
  return at;
}

function isBoundary(code) {
  return code === COMMA || CLOSE.has(code) || SPACE.has(code);
}

function stringEnd(text, start) {
  let at = start + 1;
  for (;;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) throw new SyntaxError(`the string at character ${start} has no end`);
    let before = quote - 1;
    while (text.charCodeAt(before) === BACKSLASH) before -= 1;
    if ((quote - before) % 2 === 1) return quote + 1;
    at = quote + 1;
  }
}

function containerEnd(text, start) {
  let depth = 0;
  let commas = 0;
  let hasMember = false;
  let at = start;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      hasMember = true;
      at = stringEnd(text, at);
      continue;
    }
    if (OPEN.has(code)) {
      hasMember ||= depth > 0;
      depth += 1;
    } else if (CLOSE.has(code)) {
      depth -= 1;
      if (depth === 0) return { end: at + 1, count: hasMember ? commas + 1 : 0 };
    } else if (code === COMMA) {
      if (depth === 1) commas += 1;
    } else if (!SPACE.has(code)) hasMember = true;
    at += 1;
  }
  throw new SyntaxError(`the container at character ${start} has no end`);
}

const NAME = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

/** The path of a member as an expression: `$event.body`, `$event.items[0]`, `$event["odd key"]`. */
export function pathOf(parentPath, key) {
  if (key === null) return parentPath;
  if (typeof key === "number") return `${parentPath}[${key}]`;
  return NAME.test(key) ? `${parentPath}.${key}` : `${parentPath}[${JSON.stringify(key)}]`;
}
