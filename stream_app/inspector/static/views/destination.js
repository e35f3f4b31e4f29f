/** Page of one destination: last hour, failed windows, expression, bucket policy, windows. */

import { get } from "../lib/api.js";
import { breadcrumbs, copyButton, el, fill, terms, visible } from "../lib/dom.js";
import { ago, bytes, clock, count, duration, number, time, utc } from "../lib/format.js";
import { SERIES, chart, minutesTable } from "../parts/charts.js";
import { policySection } from "../parts/policy.js";
import { previewForm } from "../parts/preview.js";
import { folded, status, windowPath } from "../parts/receipt.js";
import { cell, table } from "../parts/rows.js";
import { stateOf } from "./destinations.js";

const REFRESH_SECONDS = 10;

/** The page `/destinations/ID`. */
export class DestinationView {
  section = "destinations";
  #left = new AbortController();
  #timer = 0;
  /** `partition@offset` of the event to preview the expression on, or "". */
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
      el("p", { class: "loading" }, "Loading the destination…"),
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
      // A banner shows the error; the content stays.
    }
    this.#timer = setTimeout(() => this.#refresh(), REFRESH_SECONDS * 1000);
  }

  #refresh() {
    // Content that is hovered or focused is not replaced: the refresh waits.
    const isBusy =
      document.hidden ||
      this.#parts.charts.matches(":hover") ||
      [this.#parts.alarm, this.#parts.live, this.#parts.windows].some((part) =>
        part.contains(document.activeElement),
      );
    if (isBusy) this.#timer = setTimeout(() => this.#refresh(), 2000);
    else this.#load();
  }

  /** Build the permanent parts; a refresh must not replace what is typed into the preview. */
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
      breadcrumbs([["/destinations", "Destinations"]], this.id),
      el(
        "header",
        { class: "page-head" },
        el("h1", { tabindex: "-1" }, visible(this.id)),
        this.#parts.state,
      ),
      this.#parts.alarm,
      el("section", { "aria-label": "Last hour" }, el("h2", {}, "Last hour"), this.#parts.charts),
      this.#parts.live,
      this.#parts.fixed,
      this.#parts.windows,
    );
    fill(
      this.#parts.fixed,
      el(
        "section",
        { class: "panel", id: "preview", "aria-label": "Expression" },
        el("h2", {}, "Expression"),
        previewForm({ payload: it.payload, event: this.#event, signal: this.#left.signal }),
      ),
      it.configured ? policySection(this.id, { signal: this.#left.signal }) : null,
    );
    this.context.showTitle(this);
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
          ["Configured", it.configured ? null : "no: known from receipts only"],
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
        : el("p", { class: "note" }, "No receipt in memory."),
    );
  }

  #numbers(minutes) {
    return this.#remembered("numbers", "Numbers as a table", () => minutesTable(minutes));
  }

  /** Panel of failed windows, with the command to redeliver them. */
  #failed(it) {
    const total = it.failed_windows;
    return el(
      "section",
      { class: "panel alarm", "aria-label": "Failed windows" },
      el(
        "h2",
        {},
        `${count(total, "failed window")} ${total === 1 ? "waits" : "wait"} for redelivery`,
      ),
      el("p", { class: "error-text" }, visible(it.failed[0].error ?? "")),
      el(
        "p",
        {},
        "The events are still in Kafka. After the cause is fixed, this command delivers each of them once, under the original keys:",
      ),
      el(
        "div",
        { class: "command" },
        el("code", {}, visible(it.redeliver)),
        copyButton("Copy", it.redeliver, { noun: "the command", small: true }),
      ),
      this.#remembered(
        "failed",
        `Show ${total > it.failed.length ? `the newest ${number(it.failed.length)}` : "them"}`,
        () => windows(it.id, it.failed, "Failed windows"),
      ),
    );
  }

  /** Fold that stays open or closed over refreshes. */
  #remembered(name, summary, build) {
    const node = folded(summary, build, { open: this.#opened.has(name) });
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
  ["Freshness", "From the end of the window until its object was stored", "number"],
  ["Offsets"],
];

function windows(id, rows, label) {
  const { node, body } = table(label, COLUMNS, "windows");
  body.append(...rows.map((it) => windowRow(id, it)));
  return node;
}

function windowRow(id, it) {
  const { counts } = it;
  const named = (index, ...content) =>
    cell(
      "number",
      el("span", { class: "cell-name", "aria-hidden": "true" }, COLUMNS[index][0]),
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
    named(
      2,
      `${number(counts.delivered)}/${number(counts.matched)}`,
      counts.undelivered > 0
        ? el("span", { class: "under" }, `${number(counts.undelivered)} not delivered`)
        : null,
    ),
    named(3, number(counts.skipped)),
    named(4, number(counts.failed)),
    named(5, bytes(it.size)),
    named(6, duration(it.freshness_seconds)),
    cell("position", offsetsOf(it)),
  );
}

const offsetsOf = (it) => `${it.partition}@${it.first_offset} … ${it.end_offset - 1}`;
