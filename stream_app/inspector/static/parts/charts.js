/** The last hour by minute, as bars; what they show is said in words and stands in a table too. */

import { el, svg } from "./dom.js";
import { bytes, clock, duration, number } from "./format.js";

/** [name in Minutes, title, how a value reads, how the hour reads, class of the bars] */
export const SERIES = [
  ["events", "Events", number, "sum", "is-accent"],
  ["bytes", "Bytes, compressed", bytes, "sum", "is-accent"],
  ["objects", "Objects", number, "sum", "is-accent"],
  ["skipped", "Skipped", number, "sum", "is-skipped"],
  ["failed", "Failed", number, "sum", "is-failed"],
  ["freshness_seconds", "Freshness", duration, "max", "is-accent"],
];

const WIDTH = 240;

/** A small chart: bars only, and one sentence for those who do not see them. */
export function sparkline(minutes, [name, title, format, total, kind], { height = 28 } = {}) {
  const values = minutes[name];
  return svg(
    "svg",
    {
      class: `spark ${kind}`,
      viewBox: `0 0 ${WIDTH} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": words(minutes, name, title, format, total),
    },
    svg("path", { class: "base", d: `M0 ${height - 0.5}H${WIDTH}` }),
    svg("path", { class: "bars", d: bars(values, height - 1) }),
  );
}

/** The same, large: with its greatest value, its hours, what is pointed at, and its numbers as a table. */
export function chart(minutes, series) {
  const [name, title, format, total] = series;
  const values = minutes[name];
  const readout = el("span", { class: "chart-readout" }, hour(values, format, total));
  const picture = sparkline(minutes, series, { height: 72 });
  const start = new Date(minutes.start).getTime();
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const at = Math.max(
      0,
      Math.min(
        values.length - 1,
        Math.floor(((event.clientX - box.left) / box.width) * values.length),
      ),
    );
    readout.textContent = `${clock(new Date(start + at * 60000).toISOString(), { milliseconds: false, date: "never" })}  ${values[at] === null ? "–" : format(values[at])}`;
  });
  picture.addEventListener("pointerleave", () => {
    readout.textContent = hour(values, format, total);
  });
  const most = greatest(values);
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("span", { class: "chart-title" }, title), readout),
    el(
      "div",
      { class: "chart-area" },
      picture,
      most > 0 ? el("span", { class: "chart-most", "aria-hidden": "true" }, format(most)) : null,
    ),
    el(
      "div",
      { class: "chart-ends", "aria-hidden": "true" },
      el("span", {}, short(start)),
      el("span", {}, short(start + values.length * 60000)),
    ),
  );
}

/** All numbers of the hour, newest first. */
export function minutesTable(minutes) {
  const start = new Date(minutes.start).getTime();
  const at = minutes.events.map((_, index) => index).reverse();
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
        at.map((index) =>
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

const greatest = (values) =>
  values.reduce((most, value) => (value !== null && value > most ? value : most), 0);

function hour(values, format, total) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return "none";
  if (total === "max") return `at most ${format(greatest(known))}`;
  return `${format(known.reduce((sum, value) => sum + value, 0))} in the hour`;
}

function words(minutes, name, title, format, total) {
  const values = minutes[name];
  const most = greatest(values);
  if (most === 0) return `${title} in the last hour: none`;
  const at = new Date(
    new Date(minutes.start).getTime() + values.indexOf(most) * 60000,
  ).toISOString();
  const when = clock(at, { milliseconds: false, date: "never" }).slice(0, 5);
  return `${title} by minute in the last hour: ${hour(values, format, total)}, most ${format(most)} at ${when}`;
}

/** One path for all bars: a page of destinations has thousands of them. */
function bars(values, height) {
  const most = greatest(values);
  if (most === 0) return "";
  const step = WIDTH / values.length;
  const width = step * 0.72;
  return values
    .map((value, at) => {
      if (value === null || value <= 0) return "";
      const tall = Math.max(1.5, (value / most) * height);
      return `M${(at * step).toFixed(2)} ${height.toFixed(1)}v${(-tall).toFixed(2)}h${width.toFixed(2)}v${tall.toFixed(2)}z`;
    })
    .join("");
}
