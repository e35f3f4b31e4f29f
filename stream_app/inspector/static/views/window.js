/** Page of one window of a destination: object, receipts, events. */

import { get } from "../lib/api.js";
import { breadcrumbs, copyButton, el, fill, visible } from "../lib/dom.js";
import { bytes, clock, count, number, utc } from "../lib/format.js";
import { outcome } from "../parts/outcomes.js";
import {
  destinationPath,
  otherReceipts,
  receiptTerms,
  span,
  status,
  fullReceipt,
} from "../parts/receipt.js";
import { cell, idOf, table, titleOf, eventContent } from "../parts/rows.js";

/** Most events on the page; the event list has the others. */
const ROWS_MAX = 2_000;

const COLUMNS = [
  ["Line", "Line of the object", "number"],
  ["Outcome"],
  ["Time", "In the zone of the page; UTC on hover"],
  ["Event"],
  ["Position", "partition@offset", "position"],
];

/** The page `/windows/ID/P/FIRST`. */
export class WindowView {
  section = "destinations";
  #left = new AbortController();
  #rows = 0;

  constructor(context, { id, partition, first }) {
    this.context = context;
    this.id = id;
    this.position = `${partition}@${first}`;
    this.path = `/api/windows/${encodeURIComponent(id)}/${partition}/${first}`;
    this.title = `Window ${this.position} of ${id}`;
    this.node = el(
      "div",
      { class: "view window-view" },
      el("p", { class: "loading" }, "Loading the window…"),
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
    const isStored =
      object !== null &&
      typeof object.size === "number" &&
      !["failed", "retrying"].includes(receipt.status);
    fill(
      this.node,
      breadcrumbs(
        [
          ["/destinations", "Destinations"],
          [destinationPath(this.id), this.id],
        ],
        this.position,
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
          el("h2", {}, isStored ? "Object" : object === null ? "No object" : "Planned object"),
          object === null
            ? el(
                "p",
                { class: "note" },
                "All matching events were skipped or failed: there is nothing to write.",
              )
            : el(
                "div",
                {},
                el(
                  "p",
                  { class: "object-name" },
                  el("code", {}, visible(`s3://${object.bucket}/${object.key}`)),
                  copyButton("Copy", `s3://${object.bucket}/${object.key}`, {
                    noun: "the URI of the object",
                    small: true,
                  }),
                ),
                el(
                  "p",
                  { class: "note" },
                  isStored
                    ? `${count(object.lines, "line")}, ${bytes(object.size)} compressed, ${bytes(object.uncompressed_size)} uncompressed.`
                    : `${count(object.lines, "line")}.`,
                ),
              ),
        ),
        el(
          "section",
          { class: "panel", "aria-label": "Delivery report" },
          el("h2", {}, "Delivery report (receipt)"),
          receiptTerms(it.receipt, { withWindow: false }),
          fullReceipt(it.receipt),
          otherReceipts(it.receipts, it.receipt),
        ),
      ),
      el("section", { "aria-label": "Events" }, el("h2", {}, "Events"), node, foot),
    );
    this.context.showTitle(this);
    this.#append(body, foot, it);
  }

  #append(body, foot, it) {
    body.append(...it.rows.map(row));
    this.#rows += it.rows.length;
    const text = `${count(this.#rows, "event")} shown`;
    if (it.cursor === null || this.#rows >= ROWS_MAX) {
      fill(
        foot,
        it.cursor === null
          ? `${count(this.#rows, "event")}.`
          : `${text}; the others are in the event list.`,
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
    fill(foot, `${text}. `, more);
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
    cell("time", link),
    cell("content", eventContent(it)),
    cell("position", idOf(it)),
  );
}
