/** The last hour by minute: events stacked by outcome, freshness as a line, and the numbers. */

import { el, svg } from "../lib/dom.js";
import { bytes, clock, duration, number, zoneName } from "../lib/format.js";

/** [field of `minutes`, title, format of a value] */
const SERIES = [
  ["events", "Delivered", number],
  ["skipped", "Skipped", number],
  ["failed", "Failed", number],
  ["bytes", "Bytes, compressed", bytes],
  ["objects", "Objects", number],
  ["freshness_seconds", "Freshness", duration],
];

/** What is stacked, from the bottom up: [field, class, name]. */
const STACK = [
  ["events", "is-accent", "delivered"],
  ["skipped", "is-skipped", "skipped"],
  ["failed", "is-failed", "failed"],
];

const WIDTH = 240;

/** Small chart: stacked bars, and one sentence for screen readers. */
export function sparkline(minutes, { height = 20, more = [] } = {}) {
  return svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": description(minutes),
    },
    svg("path", { class: "base", d: `M0 ${height - 0.5}H${WIDTH}` }),
    stacks(minutes, height - 1).map(([kind, path]) =>
      svg("path", { class: `bars ${kind}`, d: path }),
    ),
    more,
  );
}

/** Large chart with a freshness line, its maxima, its hour, and the minute under the pointer. */
export function hourChart(minutes) {
  const height = 96;
  const readout = el("span", { class: "chart-readout" }, hourText(minutes));
  const maximum = maximumOf(totals(minutes));
  const slowest = maximumOf(minutes.freshness_seconds);
  const picture = sparkline(minutes, {
    height,
    more: [svg("path", { class: "line", d: line(minutes.freshness_seconds, slowest, height) })],
  });
  const start = new Date(minutes.start).getTime();
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * minutes.events.length);
    const index = Math.max(0, Math.min(minutes.events.length - 1, at));
    readout.textContent = `${short(start + index * 60000)}  ${minuteText(minutes, index)}`;
  });
  picture.addEventListener("pointerleave", () => {
    readout.textContent = hourText(minutes);
  });
  return el(
    "figure",
    { class: "chart" },
    el(
      "figcaption",
      {},
      el(
        "span",
        { class: "chart-keys" },
        STACK.map(([, kind, name]) => el("span", { class: `chart-key ${kind}` }, name)),
        el("span", { class: "chart-key is-line" }, "freshness"),
      ),
      readout,
    ),
    el(
      "div",
      { class: "chart-area" },
      picture,
      maximum > 0
        ? el(
            "span",
            { class: "chart-maximum", "aria-hidden": "true" },
            `${number(maximum)} events${slowest > 0 ? `, ${duration(slowest)}` : ""}`,
          )
        : null,
    ),
    el(
      "div",
      { class: "chart-ends", "aria-hidden": "true" },
      el("span", {}, short(start)),
      el("span", {}, `${short(start + minutes.events.length * 60000)} ${zoneName()}`),
    ),
  );
}

/** Table of all numbers of the hour, newest first. */
export function minutesTable(minutes) {
  const start = new Date(minutes.start).getTime();
  const indexes = minutes.events.map((_, index) => index).reverse();
  return el(
    "div",
    {
      class: "scroll",
      tabindex: "0",
      role: "region",
      "aria-label": "The last hour by minute, as a table",
    },
    el(
      "table",
      { class: "plain" },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, `Minute, ${zoneName()}`),
          SERIES.map(([, title]) => el("th", { scope: "col" }, title)),
        ),
      ),
      el(
        "tbody",
        {},
        indexes.map((index) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, short(start + index * 60000)),
            SERIES.map(([name, , format]) =>
              el("td", {}, minutes[name][index] === null ? "–" : format(minutes[name][index])),
            ),
          ),
        ),
      ),
    ),
  );
}

const short = (milliseconds) =>
  clock(new Date(milliseconds).toISOString(), { milliseconds: false, date: "never" }).slice(0, 5);

const maximumOf = (values) =>
  values.reduce((maximum, value) => (value !== null && value > maximum ? value : maximum), 0);

const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

/** Events of each minute, of every outcome. */
const totals = (minutes) =>
  minutes.events.map((_, index) => sumOf(STACK.map(([name]) => minutes[name][index])));

/** "47 delivered, 19 skipped, 10 failed" */
const countsText = (minutes) =>
  STACK.map(([name, , label]) => `${number(sumOf(minutes[name]))} ${label}`).join(", ");

const hourText = (minutes) => `In the hour: ${countsText(minutes)}`;

function minuteText(minutes, index) {
  const counts = STACK.map(([name, , label]) => `${number(minutes[name][index])} ${label}`);
  const seconds = minutes.freshness_seconds[index];
  return [...counts, ...(seconds === null ? [] : [`after ${duration(seconds)}`])].join(", ");
}

function description(minutes) {
  const all = totals(minutes);
  const maximum = maximumOf(all);
  if (maximum === 0) return "Events by minute in the last hour: none";
  const when = short(new Date(minutes.start).getTime() + all.indexOf(maximum) * 60000);
  const slowest = maximumOf(minutes.freshness_seconds);
  const freshness = slowest > 0 ? `; freshness at most ${duration(slowest)}` : "";
  const most = `at most ${number(maximum)} a minute at ${when}`;
  return `Events by minute in the last hour: ${countsText(minutes)}, ${most}${freshness}`;
}

/** One path for all bars of an outcome: a page of destinations has thousands of them. */
function stacks(minutes, height) {
  const maximum = maximumOf(totals(minutes));
  if (maximum === 0) return [];
  const step = WIDTH / minutes.events.length;
  const width = (step * 0.76).toFixed(2);
  const below = minutes.events.map(() => 0);
  return STACK.map(([name, kind]) => {
    const path = minutes[name].map((value, index) => {
      if (value <= 0) return "";
      const bottom = height - below[index];
      const barHeight = Math.max(1.5, (value / maximum) * height);
      below[index] += barHeight;
      return `M${(index * step).toFixed(2)} ${bottom.toFixed(1)}v${(-barHeight).toFixed(2)}h${width}v${barHeight.toFixed(2)}z`;
    });
    return [kind, path.join("")];
  }).filter(([, path]) => path !== "");
}

/** Line through the minutes that have a value. */
function line(values, maximum, height) {
  if (maximum === 0) return "";
  const step = WIDTH / values.length;
  let isOpen = false;
  return values
    .map((value, index) => {
      if (value === null) {
        isOpen = false;
        return "";
      }
      const command = isOpen ? "L" : "M";
      isOpen = true;
      const x = ((index + 0.5) * step).toFixed(2);
      const y = (height - 2 - (value / maximum) * (height - 6)).toFixed(1);
      return `${command}${x} ${y}h0.01`;
    })
    .join("");
}
