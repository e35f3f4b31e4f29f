/** Page of all destinations, each with its last hour. */

import { get } from "../lib/api.js";
import { el, fill, visible } from "../lib/dom.js";
import { ago, bytes, count, duration, number } from "../lib/format.js";
import { SERIES, sparkline } from "../parts/charts.js";
import { mark } from "../parts/outcomes.js";
import { destinationPath } from "../parts/receipt.js";
import { cell, table } from "../parts/rows.js";

/** Most rows on the page; search finds the others. */
const SHOWN_MAX = 200;

const REFRESH_SECONDS = 10;
/** The numbers of ten thousand destinations are megabytes. */
const REFRESH_SECONDS_OF_MANY = 60;

/** Worst first. */
const STATES = ["failed", "retrying", "degraded", "delivering", "quiet"];

const STATE_MARK = {
  failed: "failed",
  retrying: "retrying",
  degraded: "failed",
  delivering: "delivered",
  quiet: "quiet",
};

/** State of a destination as mark and text. */
export function stateOf(it) {
  const text = {
    failed: count(it.failed_windows, "failed window"),
    retrying: it.retrying_since
      ? `retrying for ${ago(it.retrying_since).replace(" ago", "")}`
      : "retrying",
    degraded: `degraded (${it.failing} failing)`,
    delivering: "delivering",
    quiet: "quiet",
  }[it.state];
  const kind = STATE_MARK[it.state] ?? "unknown";
  return el("span", { class: `outcome is-${kind}` }, mark(kind), text ?? visible(String(it.state)));
}

const COLUMNS = [
  ["Destination"],
  ["State"],
  ["Events", "Delivered in the last hour, by minute", "chart-cell"],
  ["Bytes", "Compressed", "chart-cell"],
  ["Objects", null, "chart-cell"],
  ["Skipped", null, "chart-cell"],
  ["Failed", null, "chart-cell"],
  ["Freshness", "From the end of a window until its object was stored", "chart-cell"],
];

/** The page `/destinations`. */
export class DestinationsView {
  title = "Destinations";
  section = "destinations";
  #left = new AbortController();
  #timer = 0;
  #all = [];
  #search;
  #body;
  #table;
  #foot;
  #counts;

  constructor(context) {
    this.context = context;
    this.#search = el("input", {
      type: "search",
      placeholder: "Search destinations, pipelines, buckets",
      "aria-label": "Search destinations, pipelines, buckets",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => this.#show() },
    });
    const { node, body } = table("Destinations in the last hour", COLUMNS, "destinations");
    this.#body = body;
    this.#table = node;
    this.#foot = el("p", { class: "list-foot" }, "Loading…");
    this.#counts = el("p", { class: "states" });
    this.node = el(
      "div",
      { class: "view destinations-view" },
      el(
        "header",
        { class: "page-head" },
        el("h1", { tabindex: "-1" }, "Destinations"),
        this.#counts,
      ),
      el("div", { class: "filters" }, el("span", { class: "field search" }, this.#search)),
      this.#table,
      this.#foot,
    );
  }

  async enter() {
    await this.#load();
  }

  leave() {
    this.#left.abort();
    clearTimeout(this.#timer);
  }

  focusSearch() {
    this.#search.focus();
  }

  async #load() {
    if (!document.hidden || this.#all.length === 0) {
      try {
        const response = await get("/api/destinations", {}, { signal: this.#left.signal });
        this.#all = response.destinations.toSorted(byStateAndId);
        this.#show();
      } catch (error) {
        if (this.#left.signal.aborted || error.status === 401) return;
        if (error.status === undefined) throw error;
        fill(this.#foot, el("span", { class: "is-failed" }, visible(error.message)));
      }
    }
    const seconds = this.#all.length > SHOWN_MAX ? REFRESH_SECONDS_OF_MANY : REFRESH_SECONDS;
    this.#timer = setTimeout(() => this.#load(), seconds * 1000);
  }

  #show() {
    const text = this.#search.value.trim().toLowerCase();
    const found = this.#all.filter((it) =>
      [it.id, it.pipeline, it.bucket].some((part) => part?.toLowerCase().includes(text)),
    );
    const shown = found.slice(0, SHOWN_MAX);
    const focused = this.#body.contains(document.activeElement)
      ? document.activeElement.getAttribute("href")
      : null;
    fill(this.#body, shown.map(row));
    if (focused !== null)
      [...this.#body.querySelectorAll("a")]
        .find((link) => link.getAttribute("href") === focused)
        ?.focus();
    fill(
      this.#counts,
      STATES.map((state) => [state, this.#all.filter((it) => it.state === state).length])
        .filter(([, total]) => total > 0)
        .map(([state, total]) =>
          el(
            "span",
            { class: `outcome is-${STATE_MARK[state]}` },
            mark(STATE_MARK[state]),
            `${number(total)} ${state}`,
          ),
        ),
    );
    if (this.#all.length === 0)
      fill(this.#foot, "No destinations: none is configured, and no receipt in memory names one.");
    else if (found.length > shown.length)
      fill(
        this.#foot,
        `${number(shown.length)} of ${number(found.length)}: search to find the others.`,
      );
    else
      fill(
        this.#foot,
        found.length === this.#all.length
          ? count(found.length, "destination")
          : `${number(found.length)} of ${count(this.#all.length, "destination")}`,
      );
  }
}

function byStateAndId(one, other) {
  return STATES.indexOf(one.state) - STATES.indexOf(other.state) || (one.id < other.id ? -1 : 1);
}

function row(it) {
  const { totals, minutes } = it;
  const numbers = [
    number(totals.events),
    bytes(totals.bytes),
    number(totals.objects),
    number(totals.skipped),
    number(totals.failed),
    latestFreshness(minutes),
  ];
  return el(
    "tr",
    { role: "row", class: "destination" },
    cell(
      "id",
      el("a", { class: "row-link", href: destinationPath(it.id) }, visible(it.id)),
      el(
        "span",
        { class: "under" },
        it.pipeline === null ? "every pipeline" : visible(it.pipeline),
        " → ",
        visible(it.bucket ?? "?"),
        it.configured ? null : " · not configured",
      ),
    ),
    cell("state", stateOf(it)),
    SERIES.map((series, index) =>
      cell(
        "chart-cell",
        el("span", { class: "cell-name", "aria-hidden": "true" }, COLUMNS[index + 2][0]),
        el("span", { class: "cell-number" }, numbers[index]),
        sparkline(minutes, series),
      ),
    ),
  );
}

/** Freshness of the latest minute that has one. */
function latestFreshness(minutes) {
  return duration(minutes.freshness_seconds.findLast((value) => value !== null) ?? null);
}
