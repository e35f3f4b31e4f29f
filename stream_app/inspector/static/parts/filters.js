/** Filters of the event list, each with a label: text, outcome, destination, pipeline, time. */

import { el, fill, icon, measured } from "../lib/dom.js";
import { clock, number, parseEnd, parseTime, zoneName } from "../lib/format.js";

const SEARCH_AFTER_MILLISECONDS = 400;

/** Time ranges: `since` of the query, and its name. */
const RANGES = [
  ["", "Newest"],
  ["15m", "Last 15 minutes"],
  ["1h", "Last hour"],
  ["6h", "Last 6 hours"],
  ["24h", "Last 24 hours"],
];
const CUSTOM = "custom";

/** Outcomes that can be chosen: [value, name, field of the counts]. */
const OUTCOMES = [
  ["", "Any", null],
  ["failed", "Failed", "failed"],
  ["retrying", "Retrying", "retrying"],
  ["unmatched", "No destination", "unmatched"],
  ["pending", "Waiting", null],
  ["skipped", "Skipped by filter", "skipped"],
  ["delivered", "Delivered", "events"],
  ["unknown", "Unknown", null],
];

const TIME_HINT = "Enter a time (12:30, 2026-11-25 12:30) or 15m ago";
const END_HINT = `${TIME_HINT}, or partition@offset (0@42)`;

/** The query of a list that nothing filters. */
export const NO_QUERY = {
  search: "",
  outcome: "",
  destination: "",
  pipeline: "",
  since: "",
  at: "",
};

let fieldsCount = 0;

/** Field with its label above it. */
function labeled(label, input, className, ...more) {
  input.id = `filter-${(fieldsCount += 1)}`;
  return el(
    "span",
    { class: `field ${className}` },
    el("label", { for: input.id }, label),
    input,
    more,
  );
}

function textInput(list, on) {
  return el("input", {
    type: "text",
    list,
    placeholder: "Any",
    autocomplete: "off",
    spellcheck: "false",
    on,
  });
}

/** Form of the filters; `onChange(query)` takes changes, `trailing` comes last. */
export class Filters {
  #timer = 0;
  #query = NO_QUERY;
  #totals = {};

  constructor(onChange, trailing) {
    this.onChange = onChange;
    const soon = { input: () => this.#changeSoon() };
    const now = { change: () => this.#change() };
    this.search = el("input", {
      type: "search",
      placeholder: "Names and values",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
      on: soon,
    });
    this.outcome = el("select", { on: now });
    this.destination = textInput("filter-destinations", soon);
    this.pipeline = textInput("filter-pipelines", soon);
    this.destinations = el("datalist", { id: "filter-destinations" });
    this.pipelines = el("datalist", { id: "filter-pipelines" });
    this.range = el("select", { on: { change: () => this.#onRange() } });
    this.since = this.#timeInput("12:30, 15m");
    this.at = this.#timeInput("12:30, 0@42");
    this.timeLabel = el("span", {});
    this.ends = el(
      "span",
      { class: "field ends", hidden: true },
      labeled("From", this.since, "end"),
      labeled("Up to", this.at, "end"),
      el("button", { type: "submit", class: "quiet" }, "Show"),
    );
    const range = labeled("Time", this.range, "range");
    range.querySelector("label").append(" ", this.timeLabel);
    this.toggle = el("button", {
      type: "button",
      class: "quiet filters-toggle",
      "aria-expanded": "false",
      on: { click: () => this.#toggle() },
    });
    this.node = el(
      "form",
      { class: "filters", role: "search", on: { submit: (event) => this.#onSubmit(event) } },
      labeled(
        "Search",
        this.search,
        "search",
        icon("icon-search"),
        el("kbd", { "aria-hidden": "true" }, "/"),
      ),
      this.toggle,
      labeled("Outcome", this.outcome, "outcome-field"),
      labeled("Destination", this.destination, "destination", this.destinations),
      labeled("Pipeline", this.pipeline, "pipeline", this.pipelines),
      range,
      this.ends,
      trailing,
    );
    measured(this.node, "--filters");
    this.#showOutcomes();
  }

  /** Show a query; the text of a focused field stays. */
  show(query) {
    this.#query = query;
    for (const name of ["search", "destination", "pipeline"]) {
      if (document.activeElement !== this[name]) this[name].value = query[name];
    }
    this.outcome.value = query.outcome;
    const isNamed = query.at === "" && RANGES.some(([since]) => since === query.since);
    this.#showRanges(isNamed ? query.since : CUSTOM);
    this.since.value = shownTime(query.since);
    this.at.value = shownTime(query.at);
    this.timeLabel.textContent = zoneName();
    const { search, ...others } = query;
    const active = Object.values(others).filter((value) => value !== "").length;
    this.toggle.textContent = active === 0 ? "Filters" : `Filters (${active})`;
  }

  /** Suggest names: `[name, text]` of each, the most wanted first. */
  suggest({ destinations, pipelines }) {
    for (const [list, entries] of [
      [this.destinations, destinations],
      [this.pipelines, pipelines],
    ])
      fill(
        list,
        entries.map(([value, label]) => el("option", { value, label })),
      );
  }

  /** Show the number of events of each outcome. */
  count(totals) {
    if (JSON.stringify(totals) === JSON.stringify(this.#totals)) return;
    this.#totals = totals;
    // An open list would close.
    if (document.activeElement !== this.outcome) this.#showOutcomes();
  }

  focus() {
    this.search.focus();
    this.search.select();
  }

  /** Show or hide the filters on a narrow screen. */
  #toggle() {
    const isOpen = this.node.classList.toggle("is-open");
    this.toggle.setAttribute("aria-expanded", String(isOpen));
  }

  #timeInput(placeholder) {
    const input = el("input", {
      type: "text",
      placeholder,
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => input.setCustomValidity("") },
    });
    return input;
  }

  #showOutcomes() {
    fill(
      this.outcome,
      OUTCOMES.map(([value, name, field]) => {
        const total = field === null ? undefined : this.#totals[field];
        return el("option", { value }, total === undefined ? name : `${name} (${number(total)})`);
      }),
    );
    this.outcome.value = this.#query.outcome;
  }

  #showRanges(chosen) {
    fill(
      this.range,
      [...RANGES, [CUSTOM, "From – to"]].map(([value, name]) => el("option", { value }, name)),
    );
    this.range.value = chosen;
    this.ends.hidden = chosen !== CUSTOM;
  }

  #onRange() {
    if (this.range.value === CUSTOM) {
      this.ends.hidden = false;
      this.since.focus();
      return;
    }
    this.#change({ since: this.range.value, at: "" });
  }

  #changeSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#change(), SEARCH_AFTER_MILLISECONDS);
  }

  #change(change = {}) {
    clearTimeout(this.#timer);
    this.onChange({
      search: this.search.value,
      outcome: this.outcome.value,
      destination: this.destination.value.trim(),
      pipeline: this.pipeline.value.trim(),
      ...change,
    });
  }

  #onSubmit(event) {
    event.preventDefault();
    if (this.ends.hidden) {
      this.#change();
      return;
    }
    const ends = {};
    for (const [name, parse, hint] of [
      ["since", parseTime, TIME_HINT],
      ["at", parseEnd, END_HINT],
    ]) {
      const typed = this[name].value.trim();
      const isShown = typed === shownTime(this.#query[name]);
      const end = typed === "" ? "" : isShown ? this.#query[name] : parse(typed);
      if (end === null) {
        this[name].setCustomValidity(hint);
        this[name].reportValidity();
        return;
      }
      ends[name] = end;
    }
    this.#change(ends);
  }
}

/** An end of a range as a reader types it. */
const shownTime = (end) =>
  end === "" || /^\d+@\d+$|^\d+[smhd]$/.test(end) ? end : clock(end, { date: "always" });
