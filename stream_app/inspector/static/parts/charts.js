/** Bar charts of the last hour by minute, with a text alternative and a table of the numbers. */

import { el, svg } from "../lib/dom.js";
import { bytes, clock, duration, number } from "../lib/format.js";

/** [field of `minutes`, title, format of a value, aggregate of the hour, class of the bars] */
export const SERIES = [
  ["events", "Events", number, "sum", "is-accent"],
  ["bytes", "Bytes, compressed", bytes, "sum", "is-accent"],
  ["objects", "Objects", number, "sum", "is-accent"],
  ["skipped", "Skipped", number, "sum", "is-skipped"],
  ["failed", "Failed", number, "sum", "is-failed"],
  ["freshness_seconds", "Freshness", duration, "max", "is-accent"],
];

const WIDTH = 240;

/** Small chart: bars, and one sentence for screen readers. */
export function sparkline(minutes, [name, title, format, total, kind], { height = 28 } = {}) {
  const values = minutes[name];
  return svg(
    "svg",
    {
      class: `spark ${kind}`,
      viewBox: `0 0 ${WIDTH} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": description(minutes, name, title, format, total),
    },
    svg("path", { class: "base", d: `M0 ${height - 0.5}H${WIDTH}` }),
    svg("path", { class: "bars", d: bars(values, height - 1) }),
  );
}

/** Large chart: with its maximum, its start and end, and the value under the pointer. */
export function chart(minutes, series) {
  const [name, title, format, total] = series;
  const values = minutes[name];
  const readout = el("span", { class: "chart-readout" }, hour(values, format, total));
  const picture = sparkline(minutes, series, { height: 72 });
  const start = new Date(minutes.start).getTime();
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const index = Math.max(
      0,
      Math.min(
        values.length - 1,
        Math.floor(((event.clientX - box.left) / box.width) * values.length),
      ),
    );
    const minute = new Date(start + index * 60000).toISOString();
    const value = values[index];
    readout.textContent = `${clock(minute, { milliseconds: false, date: "never" })}  ${value === null ? "–" : format(value)}`;
  });
  picture.addEventListener("pointerleave", () => {
    readout.textContent = hour(values, format, total);
  });
  const maximum = maximumOf(values);
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("span", { class: "chart-title" }, title), readout),
    el(
      "div",
      { class: "chart-area" },
      picture,
      maximum > 0
        ? el("span", { class: "chart-maximum", "aria-hidden": "true" }, format(maximum))
        : null,
    ),
    el(
      "div",
      { class: "chart-ends", "aria-hidden": "true" },
      el("span", {}, short(start)),
      el("span", {}, short(start + values.length * 60000)),
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
          el("th", { scope: "col" }, "Minute"),
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

function hour(values, format, total) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return "none";
  if (total === "max") return `at most ${format(maximumOf(known))}`;
  return `${format(known.reduce((sum, value) => sum + value, 0))} in the hour`;
}

function description(minutes, name, title, format, total) {
  const values = minutes[name];
  const maximum = maximumOf(values);
  if (maximum === 0) return `${title} in the last hour: none`;
  const when = short(new Date(minutes.start).getTime() + values.indexOf(maximum) * 60000);
  return `${title} by minute in the last hour: ${hour(values, format, total)}, maximum ${format(maximum)} at ${when}`;
}

/** One path for all bars: a page of destinations has thousands of them. */
function bars(values, height) {
  const maximum = maximumOf(values);
  if (maximum === 0) return "";
  const step = WIDTH / values.length;
  const width = step * 0.72;
  return values
    .map((value, index) => {
      if (value === null || value <= 0) return "";
      const barHeight = Math.max(1.5, (value / maximum) * height);
      return `M${(index * step).toFixed(2)} ${height.toFixed(1)}v${(-barHeight).toFixed(2)}h${width.toFixed(2)}v${barHeight.toFixed(2)}z`;
    })
    .join("");
}
