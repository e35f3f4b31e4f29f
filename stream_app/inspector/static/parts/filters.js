/** The form above the events: search, pipeline, and where to jump to. */

import { el, fill, icon } from "./dom.js";
import { clock, jumpTarget } from "./format.js";

const SEARCH_AFTER_MILLISECONDS = 400;

const MISTAKEN = "A time (12:30, 2026-11-25 12:30, 15m) or partition@offset (0@42)";

/** `onChange({search, pipeline, at})` is told what a reader wants; `beside` stands to its right. */
export class Filters {
  #timer = 0;
  #at = "";

  constructor(onChange, beside) {
    this.onChange = onChange;
    this.search = el("input", {
      type: "search",
      placeholder: "Search names and values",
      "aria-label": "Search names and values",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => this.#soon() },
    });
    this.pipeline = el("input", {
      type: "text",
      list: "pipelines",
      placeholder: "All pipelines",
      "aria-label": "Pipeline",
      autocomplete: "off",
      spellcheck: "false",
      on: { change: () => this.#tell() },
    });
    this.pipelines = el("datalist", { id: "pipelines" });
    this.place = el("input", {
      type: "text",
      placeholder: "12:30, 15m, 0@42",
      "aria-label": "Jump to a time or to partition@offset",
      title: "A time of today (12:30), a date and time, 15m ago, or partition@offset",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => this.place.setCustomValidity("") },
    });
    this.node = el(
      "form",
      { class: "filters", role: "search", on: { submit: (event) => this.#submitted(event) } },
      el(
        "span",
        { class: "field search" },
        icon("icon-search"),
        this.search,
        el("kbd", { "aria-hidden": "true" }, "/"),
      ),
      el("span", { class: "field pipeline" }, this.pipeline, this.pipelines),
      el(
        "span",
        { class: "field at" },
        this.place,
        el("button", { type: "submit", class: "quiet" }, "Jump"),
      ),
      beside,
    );
  }

  /** Show what is looked for; what somebody is typing stays. */
  show({ search, pipeline, at }) {
    this.#at = at;
    if (document.activeElement !== this.search) this.search.value = search;
    this.pipeline.value = pipeline;
    this.place.value = at === "" || at.includes("@") ? at : clock(at, { date: "always" });
  }

  /** Offer the pipelines that there are. */
  offer(names) {
    fill(
      this.pipelines,
      names.map((name) => el("option", { value: name })),
    );
  }

  focus() {
    this.search.focus();
    this.search.select();
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell(), SEARCH_AFTER_MILLISECONDS);
  }

  #tell(at = this.#at) {
    clearTimeout(this.#timer);
    this.onChange({ search: this.search.value, pipeline: this.pipeline.value.trim(), at });
  }

  #submitted(event) {
    event.preventDefault();
    const typed = this.place.value.trim();
    const shown = this.#at !== "" && typed === clock(this.#at, { date: "always" });
    const at = typed === "" ? "" : shown ? this.#at : jumpTarget(typed);
    if (at === null) {
      this.place.setCustomValidity(MISTAKEN);
      this.place.reportValidity();
      return;
    }
    this.#tell(at);
  }
}
