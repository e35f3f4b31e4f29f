/** One destination: its hour, what failed, its windows, its expression, its policy. */

import { get } from "./api.js";
import { SERIES, chart, minutesTable } from "./charts.js";
import { copyButton, el, fill, terms, visible } from "./dom.js";
import { ago, bytes, clock, count, duration, number, time, utc } from "./format.js";
import { stateOf } from "./destinations.js";
import { folded, status, windowPath } from "./receipt.js";
import { cell, table } from "./rows.js";
import { tryBox } from "./try.js";

const REFRESH_SECONDS = 10;

/** The page `/destinations/ID`. */
export class DestinationView {
  place = "destinations";
  #left = new AbortController();
  #timer = 0;
  /** The event to try the expression on, `partition@offset`. */
  #event = "";
  #parts = null;
  #opened = new Set();

  constructor(context, { id }) {
    this.context = context;
    this.id = id;
    this.title = id;
    this.node = el(
      "div",
      { class: "view destination-view" },
      el("p", { class: "loading" }, "Reading the destination…"),
    );
  }

  async enter(query) {
    this.#event = query.get("event") ?? "";
    await this.#load();
  }

  leave() {
    this.#left.abort();
    clearTimeout(this.#timer);
  }

  async #load() {
    try {
      const it = await get(
        `/api/destinations/${encodeURIComponent(this.id)}`,
        {},
        { signal: this.#left.signal },
      );
      if (this.#parts === null) this.#build(it);
      this.#show(it);
    } catch (error) {
      if (this.#left.signal.aborted || error.status === 401) return;
      if (error.status === undefined) throw error;
      if (this.#parts === null) {
        this.context.showError(this.node, this.id, error);
        return;
      }
      // The banner says it; what is on the page stays.
    }
    this.#timer = setTimeout(() => this.#again(), REFRESH_SECONDS * 1000);
  }

  #again() {
    // Nothing is replaced under a reader's hands: what is hidden or pointed at waits.
    const isBusy =
      document.hidden ||
      this.#parts.charts.matches(":hover") ||
      [this.#parts.alarm, this.#parts.live, this.#parts.windows].some((part) =>
        part.contains(document.activeElement),
      );
    if (isBusy) this.#timer = setTimeout(() => this.#again(), 2000);
    else this.#load();
  }

  /** What stays; what is typed into the box must not be replaced. */
  #build(it) {
    const box = (className) => el("div", { class: className });
    this.#parts = {
      state: box("state-box"),
      charts: box("charts"),
      alarm: box("alarm-part"),
      live: box("live-part"),
      fixed: box("fixed-part columns"),
      windows: box("windows-part"),
    };
    fill(
      this.node,
      el(
        "nav",
        { class: "crumbs", "aria-label": "Where this is" },
        el("a", { href: "/destinations" }, "Destinations"),
        el("span", { "aria-hidden": "true" }, "/"),
        el("span", {}, visible(this.id)),
      ),
      el(
        "header",
        { class: "page-head" },
        el("h1", { tabindex: "-1" }, visible(this.id)),
        this.#parts.state,
      ),
      this.#parts.alarm,
      el(
        "section",
        { "aria-label": "The last hour" },
        el("h2", {}, "The last hour"),
        this.#parts.charts,
      ),
      this.#parts.live,
      this.#parts.fixed,
      this.#parts.windows,
    );
    fill(
      this.#parts.fixed,
      el(
        "section",
        { class: "panel", id: "try", "aria-label": "Expression" },
        el("h2", {}, "Expression"),
        tryBox({ payload: it.payload, event: this.#event, signal: this.#left.signal }),
      ),
      it.policy === null || it.policy === undefined
        ? null
        : el(
            "section",
            { class: "panel", "aria-label": "Bucket policy" },
            el(
              "div",
              { class: "panel-head" },
              el("h2", {}, "Bucket policy"),
              copyButton("Copy", it.policy, { what: "the bucket policy", small: true }),
            ),
            el(
              "p",
              { class: "note" },
              `What the owner of ${visible(it.bucket)} attaches to it, so that this job may write there and do nothing else.`,
            ),
            el(
              "pre",
              { class: "raw", tabindex: "0", role: "region", "aria-label": "The policy as JSON" },
              it.policy,
            ),
          ),
    );
    this.context.titled(this);
    if (this.#event !== "")
      requestAnimationFrame(() => this.#parts.fixed.querySelector("textarea").focus());
  }

  #show(it) {
    fill(this.#parts.state, stateOf(it));
    fill(
      this.#parts.charts,
      el(
        "div",
        { class: "chart-grid" },
        SERIES.map((series) => chart(it.minutes, series)),
      ),
      this.#numbers(it.minutes),
    );
    fill(
      this.#parts.live,
      terms(
        [
          [
            "Pipeline",
            it.pipeline === null ? "every pipeline" : el("code", {}, visible(it.pipeline)),
          ],
          ["Bucket", el("code", {}, visible(it.bucket ?? "?"))],
          ["Prefix", it.prefix ? el("code", {}, visible(it.prefix)) : "none"],
          [
            "Retrying since",
            it.retrying_since &&
              el(
                "span",
                {},
                time(it.retrying_since, { milliseconds: false }),
                `, ${ago(it.retrying_since)}`,
              ),
          ],
          [
            "Last object",
            it.last_object &&
              el(
                "span",
                {},
                time(it.last_object, { milliseconds: false }),
                `, ${ago(it.last_object)}`,
              ),
          ],
          ["Configured", it.configured ? null : "no: it is only in the receipts held"],
        ],
        "terms across",
      ),
    );
    fill(this.#parts.alarm, it.failed.length > 0 ? this.#failed(it) : null);
    fill(
      this.#parts.windows,
      el("h2", {}, "Windows"),
      it.windows.length > 0
        ? windows(it.id, it.windows, "Windows, newest first")
        : el("p", { class: "note" }, "No receipt of it is held."),
    );
  }

  #numbers(minutes) {
    return this.#remembered("numbers", "The numbers as a table", () => minutesTable(minutes));
  }

  /** What is alarming, with the way out. */
  #failed(it) {
    const many = it.failed_windows;
    return el(
      "section",
      { class: "panel alarm", "aria-label": "Failed windows" },
      el(
        "h2",
        {},
        `${count(many, "failed window")} ${many === 1 ? "waits" : "wait"} for redelivery`,
      ),
      el("p", { class: "error-text" }, visible(it.failed[0].error ?? "")),
      el(
        "p",
        {},
        "The events are in Kafka still. When the reason is gone, this delivers each of them once, under the keys that they would have had:",
      ),
      el(
        "div",
        { class: "command" },
        el("code", {}, visible(it.redeliver)),
        copyButton("Copy", it.redeliver, { what: "the command", small: true }),
      ),
      this.#remembered(
        "failed",
        `Show ${many > it.failed.length ? `the newest ${number(it.failed.length)}` : "them"}`,
        () => windows(it.id, it.failed, "Failed windows"),
      ),
    );
  }

  /** A part that stays open or closed when its numbers are replaced. */
  #remembered(name, words, make) {
    const node = folded(words, make, { open: this.#opened.has(name) });
    node.addEventListener("toggle", () => {
      if (node.open) this.#opened.add(name);
      else this.#opened.delete(name);
    });
    return node;
  }
}

const COLUMNS = [
  ["Window"],
  ["Status"],
  ["Events", "delivered / matched", "number"],
  ["Skipped", null, "number"],
  ["Failed", null, "number"],
  ["Size", "compressed", "number"],
  ["Freshness", "From the end of the window to its receipt", "number"],
  ["Offsets"],
];

function windows(id, rows, label) {
  const { node, body } = table(label, COLUMNS, "windows");
  body.append(...rows.map((it) => windowRow(id, it)));
  return node;
}

function windowRow(id, it) {
  const { counts } = it;
  const named = (at, ...content) =>
    cell(
      "number",
      el("span", { class: "cell-name", "aria-hidden": "true" }, COLUMNS[at][0]),
      ...content,
    );
  return el(
    "tr",
    { role: "row", class: "window" },
    cell(
      "span",
      el(
        "a",
        { class: "row-link", href: windowPath(id, it), title: `${utc(it.start)} – ${utc(it.end)}` },
        clock(it.start, { milliseconds: false }),
      ),
      el(
        "span",
        { class: "under" },
        ` to ${clock(it.end, { milliseconds: false, date: "never" })}`,
      ),
    ),
    cell(
      "status",
      status(it.status),
      it.error ? el("span", { class: "under error-text" }, visible(it.error)) : null,
    ),
    named(2, `${number(counts.delivered)}/${number(counts.matched)}`),
    named(3, number(counts.skipped)),
    named(4, number(counts.failed)),
    named(5, bytes(it.size)),
    named(6, duration(it.freshness_seconds)),
    cell("where", offsetsOf(it)),
  );
}

const offsetsOf = (it) => `${it.partition}@${it.first_offset} … ${it.end_offset - 1}`;
