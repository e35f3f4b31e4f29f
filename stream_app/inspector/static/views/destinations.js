/** Page of all destinations: those that fail first, each with the cause in one line. */

import { get } from "../lib/api.js";
import { el, fill, icon, measured, visible } from "../lib/dom.js";
import { ago, count, duration, number } from "../lib/format.js";
import { sparkline } from "../parts/charts.js";
import { mark } from "../parts/outcomes.js";
import { destinationPath } from "../parts/receipt.js";
import { cell, table } from "../parts/rows.js";

/** Most rows on the page; filters find the others. */
const SHOWN_MAX = 1_000;

const REFRESH_SECONDS = 5;
/** The numbers of ten thousand destinations are megabytes. */
const REFRESH_SECONDS_OF_MANY = 60;
const MANY = 500;

const SEARCH_AFTER_MILLISECONDS = 300;

/** Worst first. */
const STATES = ["failed", "retrying", "degraded", "delivering", "quiet"];
const FAILING = STATES.slice(0, 3);

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
    failed: `${count(it.failed_windows, "window")} given up`,
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

/** Events of a destination with an outcome. */
export const eventsPath = (id, outcome) =>
  `/?${new URLSearchParams({ outcome, destination: id })}`;

const COLUMNS = [
  ["Destination"],
  ["Pipeline"],
  ["State"],
  ["Cause"],
  ["Last hour", "Events by minute: delivered, skipped, failed", "chart-cell"],
  ["Delivered", "Events in the last hour", "number"],
  ["Failed", "Events in the last hour", "number"],
  ["Skipped", "Events in the last hour", "number"],
  ["Freshness", "From the end of the latest window until its object was stored", "number"],
];

/** The page `/destinations`. */
export class DestinationsView {
  title = "Destinations";
  section = "destinations";
  #left = new AbortController();
  #timer = 0;
  #typing = 0;
  #all = [];
  #rows = new Map(); // id -> {text, node}
  #search;
  #state;
  #body;
  #foot;

  constructor(context) {
    this.context = context;
    this.#search = el("input", {
      type: "search",
      id: "destinations-search",
      placeholder: "Name, pipeline, bucket, cause",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
      on: {
        input: () => {
          clearTimeout(this.#typing);
          this.#typing = setTimeout(() => this.#filter(), SEARCH_AFTER_MILLISECONDS);
        },
      },
    });
    this.#state = el("select", {
      id: "destinations-state",
      on: { change: () => this.#filter() },
    });
    const { node, body } = table("Destinations in the last hour", COLUMNS, "destinations");
    this.#body = body;
    this.#foot = el("p", { class: "list-foot" }, "Loading…");
    this.node = el(
      "div",
      { class: "view destinations-view" },
      el("h1", { class: "visually-hidden", tabindex: "-1" }, "Destinations"),
      measured(
        el(
          "div",
          { class: "filters is-open" },
          el(
            "span",
            { class: "field search" },
            el("label", { for: this.#search.id }, "Search"),
            this.#search,
            icon("icon-search"),
            el("kbd", { "aria-hidden": "true" }, "/"),
          ),
          el(
            "span",
            { class: "field" },
            el("label", { for: this.#state.id }, "State"),
            this.#state,
          ),
        ),
        "--filters",
      ),
      node,
      this.#foot,
    );
  }

  async enter(query) {
    this.#showStates(query.get("state") ?? "");
    this.#search.value = query.get("search") ?? "";
    await this.#load();
  }

  leave() {
    this.#left.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#typing);
  }

  focusSearch() {
    this.#search.focus();
  }

  async #load() {
    if (!document.hidden || this.#all.length === 0) {
      try {
        const response = await get("/api/destinations", {}, { signal: this.#left.signal });
        this.#all = response.destinations.toSorted(byUrgency);
        this.#showStates(this.#state.value);
        this.#show();
      } catch (error) {
        if (this.#left.signal.aborted || error.status === 401) return;
        if (error.status === undefined) throw error;
        fill(this.#foot, el("span", { class: "is-failed" }, visible(error.message)));
      }
    }
    const seconds = this.#all.length > MANY ? REFRESH_SECONDS_OF_MANY : REFRESH_SECONDS;
    this.#timer = setTimeout(() => this.#load(), seconds * 1000);
  }

  /** Put the filter into the address, and show it. */
  #filter() {
    const query = { search: this.#search.value.trim(), state: this.#state.value };
    const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
    history.replaceState({}, "", kept.size === 0 ? "/destinations" : `/destinations?${kept}`);
    this.#show();
  }

  /** Options of the state, with the number of destinations of each. */
  #showStates(chosen) {
    const total = (states) => this.#all.filter((it) => states.includes(it.state)).length;
    const option = (value, name, states) =>
      el("option", { value }, this.#all.length === 0 ? name : `${name} (${number(total(states))})`);
    fill(
      this.#state,
      option("", "Any", STATES),
      option("failing", "Failing", FAILING),
      STATES.map((state) => option(state, state[0].toUpperCase() + state.slice(1), [state])),
    );
    this.#state.value = chosen;
  }

  #show() {
    const text = this.#search.value.trim().toLowerCase();
    const state = this.#state.value;
    const states = state === "failing" ? FAILING : [state];
    const found = this.#all.filter(
      (it) =>
        (state === "" || states.includes(it.state)) &&
        [it.id, it.pipeline, it.bucket, it.cause].some((part) =>
          part?.toLowerCase().includes(text),
        ),
    );
    const shown = found.slice(0, SHOWN_MAX);
    const focused = this.#body.contains(document.activeElement) ? document.activeElement : null;
    const rows = new Map();
    // Rows that are the same stay in place.
    for (const it of shown) {
      const content = JSON.stringify(it);
      const known = this.#rows.get(it.id);
      rows.set(it.id, known?.text === content ? known : { text: content, node: row(it) });
    }
    this.#rows = rows;
    fill(this.#body, [...rows.values()].map(({ node }) => node));
    if (focused !== null)
      [...this.#body.querySelectorAll("a")]
        .find((link) => link.getAttribute("href") === focused.getAttribute("href"))
        ?.focus({ preventScroll: true });
    fill(this.#foot, this.#footText(found.length, shown.length));
  }

  #footText(found, shown) {
    if (this.#all.length === 0)
      return "No destinations: none is configured, and no receipt in memory names one.";
    if (found > shown)
      return `${number(shown)} of ${number(found)}: search to find the others.`;
    return found === this.#all.length
      ? count(found, "destination")
      : `${number(found)} of ${count(this.#all.length, "destination")}`;
  }
}

function byUrgency(one, other) {
  return (
    STATES.indexOf(one.state) - STATES.indexOf(other.state) ||
    (one.oldest_undelivered?.start ?? "~").localeCompare(other.oldest_undelivered?.start ?? "~") ||
    other.totals.failed - one.totals.failed ||
    (one.id < other.id ? -1 : 1)
  );
}

function row(it) {
  const { totals, minutes } = it;
  const named = (index, className, ...content) =>
    cell(
      `number ${className}`,
      el("span", { class: "cell-name", "aria-hidden": "true" }, COLUMNS[index][0]),
      ...content,
    );
  return el(
    "tr",
    { role: "row", class: "destination" },
    cell(
      "id",
      el(
        "a",
        { class: "row-link", href: destinationPath(it.id), title: visible(it.id) },
        visible(it.id),
      ),
      it.configured ? null : el("span", { class: "under" }, " not configured"),
    ),
    cell("pipeline", it.pipeline === null ? "every" : visible(it.pipeline)),
    cell("state", stateOf(it)),
    cell(
      "cause",
      it.cause === null
        ? null
        : el("span", { class: "error-text", title: visible(it.cause) }, visible(it.cause)),
    ),
    cell("chart-cell", sparkline(minutes)),
    named(5, "", number(totals.events)),
    named(
      6,
      "failed",
      totals.failed === 0
        ? "0"
        : el(
            "a",
            { class: "is-failed", href: eventsPath(it.id, "failed"), title: "Show these events" },
            number(totals.failed),
          ),
    ),
    named(7, "", number(totals.skipped)),
    named(8, "", latestFreshness(minutes)),
  );
}

/** Freshness of the latest minute that has one. */
function latestFreshness(minutes) {
  return duration(minutes.freshness_seconds.findLast((value) => value !== null) ?? null);
}
