/** Outcomes as marks, told apart by shape and colour, and as words. */

import { el, icon, unseen } from "./dom.js";
import { number } from "./format.js";

/** Every outcome, worst last: [name, words for a destination that has it]. */
const OUTCOMES = [
  ["delivered", "its payload is a line of an object"],
  ["skipped", "the expression gave undefined"],
  ["pending", "no receipt yet"],
  ["retrying", "late because of its destination; tried again"],
  ["unknown", "the receipts that would tell are older than those held"],
  ["failed", "not delivered"],
];

const NAMES = OUTCOMES.map(([name]) => name);

/** The mark of one outcome or state, with its name beside it. */
export function outcome(name) {
  return el("span", { class: `outcome is-${known(name)}` }, mark(name), name);
}

/** Only the mark: words must stand beside it. */
export function mark(name) {
  return icon(`mark-${known(name)}`, `mark is-${known(name)}`);
}

const STATES = new Set([...NAMES, "quiet"]);
const known = (name) => (STATES.has(name) ? name : "unknown");

/** "1 of 3 delivered, 2 pending" */
export function destWords(dest) {
  if (dest.matched === 0) return "no destination matches it";
  const rest = NAMES.filter((name) => name !== "delivered" && dest[name] > 0).map(
    (name) => `${number(dest[name])} ${name}`,
  );
  return [`${number(dest.delivered)} of ${number(dest.matched)} delivered`, ...rest].join(", ");
}

/** The worst that stands, for the colour of the numbers. */
function worst(dest) {
  if (dest.matched === 0) return "quiet";
  return ["failed", "retrying", "unknown", "pending"].find((name) => dest[name] > 0) ?? "delivered";
}

/** The content of a Dest. cell: `1/3` and a mark for every outcome that there is. */
export function destContent(dest) {
  if (dest.matched === 0)
    return [
      el("span", { class: "dest-none", "aria-hidden": "true" }, "–"),
      unseen(destWords(dest)),
    ];
  const state = worst(dest);
  const marks = NAMES.filter(
    (name) => dest[name] > 0 && (name !== "delivered" || state === "delivered"),
  ).map((name) => [
    mark(name),
    name !== "delivered" && dest[name] > 1
      ? el("span", { class: `mark-count is-${name}` }, number(dest[name]))
      : null,
  ]);
  return [
    el(
      "span",
      { class: "dest-count", "aria-hidden": "true" },
      `${number(dest.delivered)}/${number(dest.matched)}`,
    ),
    el("span", { class: "dest-marks", "aria-hidden": "true" }, marks),
    unseen(destWords(dest)),
  ];
}

/** What hovering a Dest. cell shows: a line for every outcome. */
export function destTip(dest) {
  if (dest.matched === 0) return [el("p", {}, "No destination matches it.")];
  return [
    el(
      "p",
      { class: "tip-title" },
      `${number(dest.delivered)} of ${number(dest.matched)} delivered`,
    ),
    ...OUTCOMES.filter(([name]) => dest[name] > 0).map(([name, words]) =>
      el(
        "p",
        { class: "tip-line" },
        mark(name),
        el("strong", {}, `${number(dest[name])} ${name}`),
        `: ${words}`,
      ),
    ),
  ];
}

/** Whether a receipt may still change it soon. */
export const isOpen = (dest) => dest.pending > 0 || dest.retrying > 0;

/** Whether a receipt may still change it at all: what failed can be delivered again. */
export const canChange = (dest) => isOpen(dest) || dest.failed > 0 || dest.unknown > 0;

/** Whether two Dest are the same. */
export const isSame = (one, other) =>
  one.matched === other.matched && NAMES.every((name) => one[name] === other[name]);
