/** Filters of the event list: search, pipeline, and the target of a jump. */

import { el, fill, icon } from "../lib/dom.js";
import { clock, jumpTarget } from "../lib/format.js";

const SEARCH_AFTER_MILLISECONDS = 400;

const JUMP_HINT = "Enter a time (12:30, 2026-11-25 12:30, 15m) or partition@offset (0@42)";

/** Form of the filters; `onChange({search, pipeline, at})` takes changes, `trailing` comes last. */
export class Filters {
  #timer = 0;
  #at = "";

  constructor(onChange, trailing) {
    this.onChange = onChange;
    this.search = el("input", {
      type: "search",
      placeholder: "Search names and values",
      "aria-label": "Search names and values",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => this.#changeSoon() },
    });
    this.pipeline = el("input", {
      type: "text",
      list: "pipelines",
      placeholder: "All pipelines",
      "aria-label": "Pipeline",
      autocomplete: "off",
      spellcheck: "false",
      on: { change: () => this.#change() },
    });
    this.pipelines = el("datalist", { id: "pipelines" });
    this.jump = el("input", {
      type: "text",
      placeholder: "12:30, 15m, 0@42",
      "aria-label": "Jump to a time or partition@offset",
      title: "A time today (12:30), a date and time, 15m ago, or partition@offset",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => this.jump.setCustomValidity("") },
    });
    this.node = el(
      "form",
      { class: "filters", role: "search", on: { submit: (event) => this.#onSubmit(event) } },
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
        { class: "field jump" },
        this.jump,
        el("button", { type: "submit", class: "quiet" }, "Jump"),
      ),
      trailing,
    );
  }

  /** Show a query; the text of a focused search stays. */
  show({ search, pipeline, at }) {
    this.#at = at;
    if (document.activeElement !== this.search) this.search.value = search;
    this.pipeline.value = pipeline;
    this.jump.value = at === "" || at.includes("@") ? at : clock(at, { date: "always" });
  }

  /** Suggest names of pipelines. */
  suggest(names) {
    fill(
      this.pipelines,
      names.map((name) => el("option", { value: name })),
    );
  }

  focus() {
    this.search.focus();
    this.search.select();
  }

  #changeSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#change(), SEARCH_AFTER_MILLISECONDS);
  }

  #change(at = this.#at) {
    clearTimeout(this.#timer);
    this.onChange({ search: this.search.value, pipeline: this.pipeline.value.trim(), at });
  }

  #onSubmit(event) {
    event.preventDefault();
    const typed = this.jump.value.trim();
    const isShown = this.#at !== "" && typed === clock(this.#at, { date: "always" });
    const at = typed === "" ? "" : isShown ? this.#at : jumpTarget(typed);
    if (at === null) {
      this.jump.setCustomValidity(JUMP_HINT);
      this.jump.reportValidity();
      return;
    }
    this.#change(at);
  }
}
