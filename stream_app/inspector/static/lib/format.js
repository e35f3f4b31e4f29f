/** Times, sizes and numbers for display. */

import { el } from "./dom.js";
import { remember, remembered } from "./storage.js";

const two = (number) => String(number).padStart(2, "0");
const whole = new Intl.NumberFormat("en");

/** 1,234 */
export const number = (value) => whole.format(value);

/** "1 event", "2 events" */
export const count = (value, one, many = `${one}s`) =>
  `${number(value)} ${value === 1 ? one : many}`;

const ZONE = "stream-app-zone";
let usesUtc = remembered(ZONE) === "utc";

/** Whether the page shows times in UTC; else in the browser's zone. */
export const isUtc = () => usesUtc;

/** Show times in UTC, or in the browser's zone, on every page from now on. */
export function setUtc(wanted) {
  usesUtc = wanted;
  remember(ZONE, wanted ? "utc" : "local");
}

/** Zone of the times on the page: "UTC", "UTC−5", "UTC+5:30". */
export function zoneName() {
  const offset = usesUtc ? 0 : -new Date().getTimezoneOffset();
  if (offset === 0) return "UTC";
  const minutes = Math.abs(offset) % 60;
  const hours = `${offset < 0 ? "−" : "+"}${Math.floor(Math.abs(offset) / 60)}`;
  return `UTC${hours}${minutes === 0 ? "" : `:${two(minutes)}`}`;
}

/** Name of the browser's zone: "Europe/Berlin". */
export const browserZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Parts of a time in the zone of the page. */
function parts(at) {
  const shift = usesUtc ? 0 : at.getTimezoneOffset() * 60_000;
  const shifted = new Date(at.getTime() - shift);
  return [
    shifted.getUTCFullYear(),
    shifted.getUTCMonth(),
    shifted.getUTCDate(),
    shifted.getUTCHours(),
    shifted.getUTCMinutes(),
    shifted.getUTCSeconds(),
  ];
}

/** Time in the zone of the page, with the milliseconds of `iso`, and the date unless it is today. */
export function clock(iso, { milliseconds = true, date = "unless today" } = {}) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso);
  const [year, month, day, ...timeParts] = parts(at);
  const time =
    timeParts.map(two).join(":") +
    (milliseconds && /\.\d/.test(iso) ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "");
  const [thisYear, thisMonth, thisDay] = parts(new Date());
  const isToday = year === thisYear && month === thisMonth && day === thisDay;
  if (date === "never" || (isToday && date !== "always")) return time;
  const monthAndDay = `${two(month + 1)}-${two(day)}`;
  return year === thisYear && date !== "always"
    ? `${monthAndDay} ${time}`
    : `${year}-${monthAndDay} ${time}`;
}

/** Time element: in the zone of the page, UTC on hover. */
export function time(iso, options) {
  if (iso === null || iso === undefined) return "–";
  return el("time", { datetime: iso, title: utc(iso) }, clock(iso, options));
}

/** 2026-11-25 12:00:00.123 UTC */
export const utc = (iso) => `${String(iso).replace("T", " ").replace("Z", "")} UTC`;

/** 1.2 KiB */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let amount = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (amount < 1024)
      return unit === "B"
        ? `${number(amount)} B`
        : `${amount.toFixed(amount < 10 ? 1 : 0)} ${unit}`;
    amount /= 1024;
  }
  return `${number(Math.round(amount))} TiB`;
}

/** 2.3 s, 4 min, 3 h */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.0015) return `${number(Math.round(seconds * 1e6))} µs`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Time since `iso`: "3 min ago". */
export function ago(iso, now = Date.now()) {
  return `${duration(Math.max(0, (now - new Date(iso).getTime()) / 1000))} ago`;
}

/** Text of at most `lengthMax` UTF-16 units, cut between characters. */
export function cut(text, lengthMax) {
  if (text.length <= lengthMax) return text;
  const end = /[\ud800-\udbff]/.test(text[lengthMax - 1]) ? lengthMax - 1 : lengthMax;
  return text.slice(0, end);
}

/**
 * Parse a time: `12:30` of today, a date and time, or `15m` ago; without a zone in that of the page.
 * Return it in ISO 8601, or null.
 */
export function parseTime(typed, now = new Date()) {
  const text = typed.trim();
  const ago = /^-?(\d+)\s*([smhd])(\s+ago)?$/.exec(text);
  if (ago) {
    const seconds = Number(ago[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[ago[2]];
    return iso(new Date(now.getTime() - seconds * 1000));
  }
  const today = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?$/.exec(text);
  if (today) {
    const [hours, minutes, seconds] = [today[1], today[2], today[3] ?? "0"].map(Number);
    const milliseconds = Number((today[4] ?? "0").padEnd(3, "0"));
    if (hours > 23 || minutes > 59 || seconds > 59) return null;
    const at = [...parts(now).slice(0, 3), hours, minutes, seconds, milliseconds];
    return iso(usesUtc ? new Date(Date.UTC(...at)) : new Date(...at));
  }
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return null;
  const shape = text.replace(" ", "T").replace(/\s+/g, "");
  const whole = shape.length === 10 ? `${shape}T00:00` : shape;
  // A date and time without a zone is local to JavaScript.
  const hasZone = /(Z|[+-]\d{2}:?\d{2})$/.test(whole.slice(10));
  return iso(new Date(usesUtc && !hasZone ? `${whole}Z` : whole));
}

/** Parse an end of a range: a time, or `partition@offset`. */
export const parseEnd = (typed) =>
  /^\d+@\d+$/.test(typed.trim()) ? typed.trim() : parseTime(typed);

const iso = (at) => (Number.isNaN(at.getTime()) ? null : at.toISOString());
