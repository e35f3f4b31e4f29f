/** Outcomes as marks, which differ in shape and color, and as text. */

import { el, icon, visuallyHidden } from "../lib/dom.js";
import { number } from "../lib/format.js";

/** Every outcome, worst last: [name, explanation]. */
const OUTCOMES = [
  ["delivered", "the payload is a line of an object"],
  ["skipped", "the expression returned undefined, or the record has no value"],
  ["pending", "no receipt yet: the window is open, or waits for the destination"],
  ["retrying", "the destination is failing; the upload is retried"],
  ["unknown", "no receipt in memory covers the event"],
  ["failed", "not delivered"],
];

const NAMES = OUTCOMES.map(([name]) => name);

/** Mark of an outcome or state, followed by its name. */
export function outcome(name) {
  return el("span", { class: `outcome is-${known(name)}` }, mark(name), name);
}

/** The mark alone; a text must accompany it. */
export function mark(name) {
  return icon(`mark-${known(name)}`, `mark is-${known(name)}`);
}

const STATES = new Set([...NAMES, "quiet"]);
const known = (name) => (STATES.has(name) ? name : "unknown");

/** Text of a Dest. cell: "1 of 3 delivered, 2 pending". */
export function destText(dest) {
  if (dest.matched === 0) return "no matching destination";
  const rest = NAMES.filter((name) => name !== "delivered" && dest[name] > 0).map(
    (name) => `${number(dest[name])} ${name}`,
  );
  return [`${number(dest.delivered)} of ${number(dest.matched)} delivered`, ...rest].join(", ");
}

/** The worst outcome, for the color of the count. */
function worst(dest) {
  if (dest.matched === 0) return "quiet";
  return ["failed", "retrying", "unknown", "pending"].find((name) => dest[name] > 0) ?? "delivered";
}

/** Content of a Dest. cell: `1/3` and a mark for each outcome present. */
export function destContent(dest) {
  if (dest.matched === 0)
    return [
      el("span", { class: "dest-none", "aria-hidden": "true" }, "–"),
      visuallyHidden(destText(dest)),
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
    visuallyHidden(destText(dest)),
  ];
}

/** Tooltip of a Dest. cell: a line for each outcome. */
export function destTooltip(dest) {
  if (dest.matched === 0) return [el("p", {}, "No matching destination.")];
  return [
    el(
      "p",
      { class: "tooltip-title" },
      `${number(dest.delivered)} of ${number(dest.matched)} delivered`,
    ),
    ...OUTCOMES.filter(([name]) => dest[name] > 0).map(([name, explanation]) =>
      el(
        "p",
        { class: "tooltip-line" },
        mark(name),
        el("strong", {}, `${number(dest[name])} ${name}`),
        `: ${explanation}`,
      ),
    ),
  ];
}

/** Whether a receipt is expected soon. */
export const isOpen = (dest) => dest.pending > 0 || dest.retrying > 0;

/** Whether a receipt may change it: failed events can be redelivered. */
export const canChange = (dest) => isOpen(dest) || dest.failed > 0 || dest.unknown > 0;

/** Whether two counts of outcomes are equal. */
export const isSame = (one, other) =>
  one.matched === other.matched && NAMES.every((name) => one[name] === other[name]);
