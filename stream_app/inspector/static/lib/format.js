/** Times, sizes and numbers for display. */

import { el } from "./dom.js";

const two = (number) => String(number).padStart(2, "0");
const whole = new Intl.NumberFormat("en");

/** 1,234 */
export const number = (value) => whole.format(value);

/** "1 event", "2 events" */
export const count = (value, one, many = `${one}s`) =>
  `${number(value)} ${value === 1 ? one : many}`;

/** Local time, with milliseconds if `iso` has any, and the date unless it is today. */
export function clock(iso, { milliseconds = true, date = "unless today" } = {}) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso);
  const time =
    `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}` +
    (milliseconds && /\.\d/.test(iso) ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "");
  const today = new Date();
  const isToday = at.toDateString() === today.toDateString();
  if (date === "never" || (isToday && date !== "always")) return time;
  const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return at.getFullYear() === today.getFullYear()
    ? `${day} ${time}`
    : `${at.getFullYear()}-${day} ${time}`;
}

/** Time element: local time, UTC on hover. */
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
  if (seconds < 100) return `${Number(seconds.toFixed(1))} s`;
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
 * Parse the target of a jump: `partition@offset`, a time of today, a date and time (local unless it
 * names a zone) or `15m` ago. Return the `at` parameter of /api/events, or null.
 */
export function jumpTarget(typed, now = new Date()) {
  const text = typed.trim();
  if (/^\d+@\d+$/.test(text)) return text;
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
    return iso(
      new Date(
        now.getFullYear(),
        now.getMonth(),
        now.getDate(),
        hours,
        minutes,
        seconds,
        milliseconds,
      ),
    );
  }
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return null;
  const shape = text.replace(" ", "T").replace(/\s+/g, "");
  // JavaScript parses a date alone as UTC; the page shows local time.
  return iso(new Date(shape.length === 10 ? `${shape}T00:00` : shape));
}

const iso = (at) => (Number.isNaN(at.getTime()) ? null : at.toISOString());
