/** Page of one destination: what is wrong and what to do, windows, errors, hour, expression. */

import { get } from "../lib/api.js";
import { breadcrumbs, el, fill, tabs, terms, visible, visibleBlock } from "../lib/dom.js";
import { ago, bytes, clock, count, duration, number, time, utc, zoneName } from "../lib/format.js";
import { hourChart, minutesTable } from "../parts/charts.js";
import { errorTable } from "../parts/error-groups.js";
import { policySection } from "../parts/policy.js";
import { previewForm } from "../parts/preview.js";
import { RedeliveryPart } from "../parts/redelivery.js";
import { folded, status, windowPath } from "../parts/receipt.js";
import { cell, table } from "../parts/rows.js";
import { eventsPath, stateOf } from "./destinations.js";

const REFRESH_SECONDS = 5;

/** Windows that are shown at first. */
const WINDOWS_FIRST = 8;

/** The page `/destinations/ID`. */
export class DestinationView {
  section = "destinations";
  #left = new AbortController();
  #timer = 0;
  /** `partition@offset` of the event to preview the expression on, or "". */
  #event = "";
  #parts = null;
  #opened = new Set();
  #redelivery;

  constructor(context, { id }) {
    this.context = context;
    this.id = id;
    this.title = id;
    this.#redelivery = new RedeliveryPart(id, {
      signal: this.#left.signal,
      onEnd: () => this.#load(),
    });
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
    clearTimeout(this.#timer);
    try {
      const it = await get(
        `/api/destinations/${encodeURIComponent(this.id)}`,
        {},
        { signal: this.#left.signal },
      );
      if (this.#parts === null) {
        await this.#redelivery.load();
        this.#build(it);
      }
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
    const { charts, alarm, errors, windows } = this.#parts;
    const isBusy =
      document.hidden ||
      charts.matches(":hover") ||
      [charts, alarm, errors, windows].some((part) => part.contains(document.activeElement));
    if (isBusy) this.#timer = setTimeout(() => this.#refresh(), 2000);
    else this.#load();
  }

  /** Build the permanent parts; a refresh must not replace what is typed into the preview. */
  #build(it) {
    const box = (className) => el("div", { class: className });
    this.#parts = {
      state: box("state-box"),
      alarm: box("alarm-part"),
      windows: box("windows-part"),
      errors: box("errors-part"),
      charts: box("charts"),
    };
    const event = this.#event === "" ? (it.last_failed ?? "") : this.#event;
    const preview = el(
      "section",
      { class: "panel", id: "preview", "aria-label": "Expression" },
      el("h2", {}, "Expression"),
      previewForm({ payload: it.payload, event, signal: this.#left.signal }),
    );
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
      this.#redelivery.node,
      this.#parts.windows,
      this.#parts.errors,
      el("section", { "aria-label": "Last hour" }, el("h2", {}, "Last hour"), this.#parts.charts),
      preview,
      it.configured
        ? el(
            "section",
            { class: "panel", "aria-label": "Policy and settings" },
            tabs("Policy and settings", [
              ["Settings", () => settings(it.settings)],
              ["Bucket policy", () => policySection(this.id, { signal: this.#left.signal })],
            ]),
          )
        : null,
    );
    this.context.showTitle(this);
    if (this.#event !== "")
      requestAnimationFrame(() => {
        preview.scrollIntoView({ block: "start" });
        preview.querySelector("textarea").focus({ preventScroll: true });
      });
  }

  #show(it) {
    fill(this.#parts.state, stateOf(it), facts(it));
    fill(this.#parts.alarm, this.#alarm(it));
    const more = it.windows.slice(WINDOWS_FIRST);
    fill(
      this.#parts.windows,
      el("h2", {}, "Windows"),
      it.windows.length > 0
        ? windows(it.id, it.windows.slice(0, WINDOWS_FIRST), "Windows, newest first")
        : el("p", { class: "note" }, "No receipt in memory."),
      more.length > 0
        ? this.#remembered("windows", `${number(more.length)} older`, () =>
            windows(it.id, more, "Older windows"),
          )
        : null,
    );
    fill(
      this.#parts.errors,
      it.errors.length > 0
        ? [el("h2", {}, "Errors by text, in the receipts in memory"), errorTable(it.errors)]
        : null,
    );
    fill(
      this.#parts.charts,
      hourChart(it.minutes),
      this.#remembered("numbers", "Numbers as a table", () => minutesTable(it.minutes)),
    );
  }

  /** Panel with the cause, since when, and the command that delivers what failed. */
  #alarm(it) {
    const { failed_windows: given, retrying_windows: late, totals } = it;
    const isDegraded = it.state === "degraded" || (given > 0 && it.last_failed !== null);
    if (given === 0 && late === 0 && !isDegraded) return null;
    return el(
      "section",
      { class: "panel alarm", "aria-label": "What is wrong" },
      el("h2", {}, visible(it.cause ?? "Events fail")),
      late > 0
        ? el(
            "p",
            {},
            "Retrying since ",
            time(it.retrying_since, { milliseconds: false }),
            `, for ${ago(it.retrying_since).replace(" ago", "")}: ${count(late, "window")} with ${count(it.retrying_events, "event")} ${late === 1 ? "waits" : "wait"}. The worker goes on by itself when the cause is fixed. `,
            el("a", { href: eventsPath(it.id, "retrying") }, "Show the events"),
          )
        : null,
      given > 0
        ? [
            el(
              "p",
              {},
              `${count(given, "window")} given up. The events are still in Kafka. After the cause is fixed, this command delivers each of them once, under the original keys: `,
            ),
            this.#redelivery.command(it.redeliver, { failedEvents: false }),
          ]
        : null,
      it.last_failed !== null
        ? [
            el(
              "p",
              {},
              `${number(totals.failed)} events failed in the last hour. `,
              el("a", { href: eventsPath(it.id, "failed") }, "Show the events"),
              ". After the expression is fixed, this command delivers those that it has a payload for:",
            ),
            this.#redelivery.command(it.redeliver_failed_events, { failedEvents: true }),
          ]
        : null,
      given > 0
        ? this.#remembered(
            "failed",
            given > it.failed.length
              ? `The newest ${number(it.failed.length)} windows given up`
              : "Windows given up",
            () => windows(it.id, it.failed, "Windows given up"),
          )
        : null,
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

/** Where its objects are, and when the last one was stored. */
function facts(it) {
  const place = `s3://${it.bucket ?? "?"}/${it.prefix ?? ""}`;
  return el(
    "span",
    { class: "facts" },
    it.pipeline === null
      ? "every pipeline"
      : ["pipeline ", el("code", {}, visible(it.pipeline))],
    " → ",
    el("code", {}, visible(place)),
    it.last_object === null
      ? null
      : el(
          "span",
          { title: utc(it.last_object) },
          ` · last object ${ago(it.last_object)}`,
        ),
    it.configured ? null : " · not configured: known from receipts only",
  );
}

/** Settings of the destination, as the configuration has them. */
function settings(pairs) {
  return terms(
    Object.entries(pairs).map(([name, value]) => [
      name,
      value === null
        ? null
        : el(
            "code",
            { class: "expression" },
            visibleBlock(typeof value === "string" ? value : JSON.stringify(value)),
          ),
    ]),
  );
}

const COLUMNS = [
  ["Window"],
  ["Status"],
  ["Delivered", "Of the events that matched", "number"],
  ["Failed", null, "number"],
  ["Skipped", null, "number"],
  ["Size", "Compressed", "number"],
  ["Freshness", "From the end of the window until its object was stored", "number"],
  ["Offsets"],
];

function windows(id, rows, label) {
  const columns = [[`Window, ${zoneName()}`], ...COLUMNS.slice(1)];
  const { node, body } = table(label, columns, "windows");
  body.append(...rows.map((it) => windowRow(id, it)));
  return node;
}

function windowRow(id, it) {
  const { counts } = it;
  // Of a window that was given up no event is delivered.
  const failed = counts.failed + (it.status === "failed" ? counts.undelivered : 0);
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
      el("span", { class: "to" }, ` to ${clock(it.end, { milliseconds: false, date: "never" })}`),
    ),
    cell(
      "status",
      isWaiting(it) ? waiting(it.waits_for) : windowStatus(it),
      it.error && !isWaiting(it)
        ? el("span", { class: "error-text", title: visible(it.error) }, visible(it.error))
        : null,
    ),
    named(2, `${number(counts.delivered)}/${number(counts.matched)}`),
    named(3, failed === 0 ? "0" : el("strong", { class: "is-failed" }, number(failed))),
    named(4, number(counts.skipped)),
    named(5, bytes(it.size)),
    named(6, duration(it.freshness_seconds)),
    cell("position", offsetsOf(it)),
  );
}

/** Status of a window; one with failed events is not plainly delivered. */
function windowStatus(it) {
  const node = status(it.status);
  if (it.objects > 1) node.append(`, ${count(it.objects, "object")}`);
  return node;
}

/** Whether it was not tried: another window of the destination fails first. */
const isWaiting = (it) => it.status === "retrying" && it.waits_for !== null;

/** "waiting behind the window of 16:24:40 UTC in partition 3" */
const waiting = (window) =>
  el("span", { class: "outcome is-pending" }, `waiting behind ${visible(window)}`);

const offsetsOf = (it) => `${it.partition}@${it.first_offset} … ${it.end_offset - 1}`;
