/** One window of a destination: its object, its receipt, its events. */

import { get } from "./api.js";
import { copyButton, el, fill, visible } from "./dom.js";
import { bytes, clock, count, number, utc } from "./format.js";
import { outcome } from "./outcomes.js";
import {
  destinationPath,
  otherReceipts,
  receiptTerms,
  span,
  status,
  wholeReceipt,
} from "./receipt.js";
import { cell, idOf, table, titleOf, whatContent } from "./rows.js";

/** So many events are on the page; the list of events has the others. */
const ROWS_MAX = 2_000;

const COLUMNS = [
  ["Line", "Of the object", "number"],
  ["Outcome"],
  ["Time", "Your clock; UTC on hover"],
  ["Event"],
  ["Position", "partition@offset", "where"],
];

/** The page `/windows/ID/P/FIRST`. */
export class WindowView {
  place = "destinations";
  #left = new AbortController();
  #rows = 0;

  constructor(context, { id, partition, first }) {
    this.context = context;
    this.id = id;
    this.at = `${partition}@${first}`;
    this.path = `/api/windows/${encodeURIComponent(id)}/${partition}/${first}`;
    this.title = `Window ${this.at} of ${id}`;
    this.node = el(
      "div",
      { class: "view window-view" },
      el("p", { class: "loading" }, "Reading the window…"),
    );
  }

  async enter() {
    let it;
    try {
      it = await get(this.path, {}, { signal: this.#left.signal });
    } catch (error) {
      if (this.#left.signal.aborted || error.status === 401) return;
      if (error.status === undefined) throw error;
      this.context.showError(this.node, this.title, error);
      return;
    }
    this.#show(it);
  }

  leave() {
    this.#left.abort();
  }

  #show(it) {
    const { receipt } = it.receipt;
    const { node, body } = table("Events of the window, in offset order", COLUMNS, "window-events");
    const foot = el("p", { class: "list-foot" });
    const object = receipt.object;
    const isThere =
      object !== null &&
      typeof object.size === "number" &&
      !["failed", "retrying"].includes(receipt.status);
    fill(
      this.node,
      el(
        "nav",
        { class: "crumbs", "aria-label": "Where this is" },
        el("a", { href: "/destinations" }, "Destinations"),
        el("span", { "aria-hidden": "true" }, "/"),
        el("a", { href: destinationPath(this.id) }, visible(this.id)),
        el("span", { "aria-hidden": "true" }, "/"),
        el("span", {}, this.at),
      ),
      el(
        "header",
        { class: "page-head" },
        el("h1", { tabindex: "-1" }, "Window ", span(receipt.window.start, receipt.window.end)),
        status(receipt.status),
      ),
      el(
        "div",
        { class: "columns window-columns" },
        el(
          "section",
          { class: "panel", "aria-label": "Object" },
          el("h2", {}, isThere ? "Object" : object === null ? "No object" : "Object that would be"),
          object === null
            ? el(
                "p",
                { class: "note" },
                "Every event that matched was skipped or failed: there is nothing to write.",
              )
            : el(
                "div",
                {},
                el(
                  "p",
                  { class: "object-name" },
                  el("code", {}, visible(`s3://${object.bucket}/${object.key}`)),
                  copyButton("Copy", `s3://${object.bucket}/${object.key}`, {
                    what: "the object's address",
                    small: true,
                  }),
                ),
                el(
                  "p",
                  { class: "note" },
                  isThere
                    ? `${count(object.lines, "line")}, ${bytes(object.size)} compressed, ${bytes(object.uncompressed_size)} uncompressed.`
                    : `${count(object.lines, "line")}.`,
                ),
              ),
        ),
        el(
          "section",
          { class: "panel", "aria-label": "Receipt" },
          el("h2", {}, "Receipt"),
          receiptTerms(it.receipt, { withWindow: false }),
          wholeReceipt(it.receipt),
          otherReceipts(it.receipts, it.receipt),
        ),
      ),
      el("section", { "aria-label": "Events" }, el("h2", {}, "Events"), node, foot),
    );
    this.context.titled(this);
    this.#append(body, foot, it);
  }

  #append(body, foot, it) {
    body.append(...it.rows.map(row));
    this.#rows += it.rows.length;
    const words = `${count(this.#rows, "event")} shown`;
    if (it.cursor === null || this.#rows >= ROWS_MAX) {
      fill(
        foot,
        it.cursor === null
          ? `${count(this.#rows, "event")}.`
          : `${words}; the others are in the list of events.`,
      );
      return;
    }
    const more = el("button", { type: "button", class: "quiet" }, "Show more");
    more.addEventListener("click", async () => {
      more.disabled = true;
      try {
        this.#append(
          body,
          foot,
          await get(this.path, { cursor: it.cursor }, { signal: this.#left.signal }),
        );
      } catch (error) {
        if (this.#left.signal.aborted) return;
        if (error.status === undefined) throw error;
        more.disabled = false;
        foot.append(el("span", { class: "is-failed" }, visible(` ${error.message}`)));
      }
    });
    fill(foot, `${words}. `, more);
  }
}

function row(it) {
  const link = el(
    "a",
    {
      class: "row-link",
      href: `/events/${Number(it.partition)}/${Number(it.offset)}`,
      "aria-label": `${clock(it.time)}, ${visible(titleOf(it))}`,
    },
    el("time", { datetime: it.time, title: utc(it.time) }, clock(it.time)),
  );
  return el(
    "tr",
    { role: "row", class: "event" },
    cell("line number", it.line === null ? "–" : number(it.line)),
    cell("outcome-cell", outcome(it.outcome)),
    cell("at", link),
    cell("what", whatContent(it)),
    cell("where", idOf(it)),
  );
}
