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

/** How the page names an outcome, where that is not its name in the API. */
const TEXTS = { pending: "waiting", skipped: "skipped by filter" };

/** Name of an outcome for readers. */
export const textOf = (name) => TEXTS[name] ?? name;

/** Mark of an outcome or state, followed by its name. */
export function outcome(name) {
  return el("span", { class: `outcome is-${known(name)}` }, mark(name), textOf(name));
}

/** The mark alone; a text must accompany it. */
export function mark(name) {
  return icon(`mark-${known(name)}`, `mark is-${known(name)}`);
}

const STATES = new Set([...NAMES, "quiet"]);
const known = (name) => (STATES.has(name) ? name : "unknown");

/** Text of a Outcome cell: "1 of 3 delivered, 2 pending". */
export function destText(dest) {
  if (dest.matched === 0) return "no destination takes it";
  const rest = NAMES.filter((name) => name !== "delivered" && dest[name] > 0).map(
    (name) => `${number(dest[name])} ${textOf(name)}`,
  );
  return [`${number(dest.delivered)} of ${number(dest.matched)} delivered`, ...rest].join(", ");
}

/** Outcomes that are loud: the others are in order, or not known yet. */
const LOUD = ["failed", "retrying"];

/**
 * Content of a Outcome cell: what failed or is retried in words; what is pending as a mark; a plain
 * `3/3` where nothing is wrong.
 */
export function destContent(dest) {
  if (dest.matched === 0)
    return [
      el("span", { class: "dest-none is-retrying", "aria-hidden": "true" }, "no destination"),
      visuallyHidden(destText(dest)),
    ];
  const loud = LOUD.filter((name) => dest[name] > 0);
  const faint = ["pending", "unknown", "skipped"].filter((name) => dest[name] > 0);
  const isDelivered = loud.length === 0 && dest.pending === 0 && dest.unknown === 0;
  return [
    el(
      "span",
      { class: "dest-marks", "aria-hidden": "true" },
      loud.map((name) =>
        el("strong", { class: `is-${name}` }, mark(name), `${number(dest[name])} ${name}`),
      ),
      isDelivered && dest.delivered > 0
        ? [mark("delivered"), el("span", {}, `${number(dest.delivered)}/${number(dest.matched)}`)]
        : null,
      faint.map((name) => [
        mark(name),
        dest[name] > 1 ? el("span", { class: `mark-count is-${name}` }, number(dest[name])) : null,
      ]),
    ),
    visuallyHidden(destText(dest)),
  ];
}

/** Legend of the marks. */
export function legend() {
  return el(
    "details",
    { class: "legend", open: matchMedia("(min-width: 901px)").matches },
    el("summary", {}, "Legend"),
    el(
      "ul",
      {},
      OUTCOMES.map(([name, explanation]) =>
        el("li", { title: explanation }, mark(name), el("span", {}, textOf(name))),
      ),
      el("li", {}, "3/3: delivered to all 3 destinations"),
    ),
  );
}

/** Tooltip of a Outcome cell: a line for each outcome. */
export function destTooltip(dest) {
  if (dest.matched === 0) return [el("p", {}, "No destination takes it.")];
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
        el("strong", {}, `${number(dest[name])} ${textOf(name)}`),
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
