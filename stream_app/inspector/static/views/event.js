/** One event: what is in it, and what became of it at every destination. */

import { get, post } from "./api.js";
import { named } from "./asker.js";
import { announce, copyButton, el, fill, tabs, terms, visible, visibleBlock } from "./dom.js";
import { bytes, count, number, time } from "./format.js";
import { canChange, destContent, destWords, isOpen, isSame, outcome } from "./outcomes.js";
import {
  copyable,
  destinationPath,
  folded,
  otherReceipts,
  receiptTerms,
  span,
  wholeReceipt,
  windowPath,
} from "./receipt.js";
import { titleOf } from "./rows.js";
import { rawText, treeOrWords } from "./tree.js";

/** While a receipt is awaited, it is asked for so often. */
const ASK_SECONDS = 1.5;
/** The same while only a redelivery would change something. */
const ASK_SECONDS_FAILED = 5;

/** So many destinations are open at first; their lines are read at once. */
const OPEN_FIRST_MAX = 3;

const DESTINATIONS_AT_ONCE = 50;

/** The page `/events/P/O`. */
export class EventView {
  place = "events";
  #left = new AbortController();
  #timer = 0;
  #dest;
  #destinations;

  constructor(context, { partition, offset }) {
    this.context = context;
    this.at = `${partition}@${offset}`;
    this.path = `/api/events/${partition}/${offset}`;
    this.title = `Event ${this.at}`;
    this.node = el(
      "div",
      { class: "view event-view" },
      el("p", { class: "loading" }, "Reading the event…"),
    );
  }

  async enter() {
    await this.#load();
  }

  leave() {
    this.#left.abort();
    clearTimeout(this.#timer);
  }

  async #load() {
    let event;
    try {
      event = await get(this.path, {}, { signal: this.#left.signal });
    } catch (error) {
      if (this.#left.signal.aborted || error.status === 401) return;
      if (error.status === undefined) throw error;
      this.context.showError(this.node, `Event ${this.at}`, error);
      return;
    }
    this.#show(event);
    this.#await(event.row);
  }

  #show(event) {
    const { row } = event;
    this.title = `${titleOf(row)} · ${this.at}`;
    this.context.titled(this);
    this.#dest = el("span", { class: "dest big" }, destContent(row.dest));
    this.#destinations = el("div", { class: "deliveries" });
    fill(
      this.node,
      el(
        "nav",
        { class: "crumbs", "aria-label": "Events around it" },
        el("a", { href: "/" }, "Events"),
        el("span", { "aria-hidden": "true" }, "/"),
        el("span", {}, this.at),
        el(
          "span",
          { class: "neighbours" },
          neighbour(event.older, "← Older"),
          neighbour(event.newer, "Newer →"),
        ),
      ),
      el(
        "header",
        { class: "page-head" },
        el("h1", { tabindex: "-1" }, visible(titleOf(row))),
        this.#dest,
      ),
      terms(
        [
          ["Time", time(row.time, { date: "always" })],
          ["Pipeline", row.pipeline === null ? "none" : el("code", {}, visible(row.pipeline))],
          ["Position", copyable(this.at, "the position")],
          ["Size", bytes(row.size)],
        ],
        "terms across",
      ),
      event.headers.length > 0 ? headers(event.headers) : null,
      el(
        "div",
        { class: "columns" },
        el(
          "section",
          { class: "panel event-body", "aria-label": "The event" },
          el("h2", {}, "Event"),
          body(event),
        ),
        el(
          "section",
          { class: "event-deliveries", "aria-label": "Destinations" },
          this.#heading(event),
          this.#destinations,
        ),
      ),
    );
    this.#showDestinations(event);
  }

  #heading(event) {
    const all = event.destinations.length + (event.more_destinations ?? 0);
    const shown = event.more_destinations > 0 ? `, ${number(event.destinations.length)} shown` : "";
    const words = all === 0 ? "No destination matches it" : `${count(all, "destination")}${shown}`;
    return el("h2", {}, words);
  }

  #showDestinations(event) {
    const open = new Set(
      [...this.#destinations.querySelectorAll("details.delivery[open]")].map(
        (node) => node.dataset.id,
      ),
    );
    const isFirst = this.#destinations.childElementCount === 0;
    const focused = this.#destinations.contains(document.activeElement)
      ? document.activeElement.closest("details.delivery")?.dataset.id
      : undefined;
    const waiting = event.destinations.map((it, at) => ({
      it,
      open: isFirst ? at < OPEN_FIRST_MAX : open.has(it.id),
    }));
    fill(this.#destinations);
    const showMore = () => {
      const chunk = waiting.splice(0, DESTINATIONS_AT_ONCE);
      this.#destinations.append(
        ...chunk.map(({ it, open: isOpened }) => this.#delivery(event, it, isOpened)),
      );
      if (waiting.length === 0) return;
      const more = el(
        "button",
        { type: "button", class: "quiet" },
        `${number(waiting.length)} more destinations`,
      );
      more.addEventListener("click", () => {
        more.remove();
        showMore();
      });
      this.#destinations.append(more);
    };
    showMore();
    if (focused === undefined) return;
    const again = [...this.#destinations.children].find((node) => node.dataset.id === focused);
    again?.querySelector("summary").focus({ preventScroll: true });
  }

  #delivery(event, it, open) {
    const summary = [
      outcome(it.outcome),
      el("span", { class: "delivery-id" }, visible(it.id)),
      it.line === null ? null : el("span", { class: "delivery-line" }, `line ${number(it.line)}`),
      it.configured ? null : el("span", { class: "badge" }, "not configured now"),
    ];
    const node = folded(
      summary,
      () => [
        it.reason ? el("p", { class: "reason" }, visible(it.reason)) : null,
        it.error ? el("p", { class: "error-text" }, visible(it.error)) : null,
        terms([
          ["Destination", el("a", { href: destinationPath(it.id) }, visible(it.id))],
          [
            "Expression",
            it.payload &&
              el(
                "span",
                { class: "copyable" },
                el(
                  "code",
                  { class: it.payload.trim().includes("\n") ? "expression long" : "expression" },
                  visibleBlock(it.payload.trim()),
                ),
                this.#tryLink(it),
              ),
          ],
          [
            "Window",
            it.window &&
              el(
                "a",
                { href: windowPath(it.id, it.window) },
                span(it.window.start, it.window.end),
                ` from ${it.window.partition}@${it.window.first_offset}`,
              ),
          ],
        ]),
        tabs(`${it.id}: sent and response`, [
          ["Sent", () => this.#sent(it)],
          ["Response", () => response(it)],
        ]),
      ],
      { open, className: `fold delivery is-${it.outcome}` },
    );
    node.dataset.id = it.id;
    return node;
  }

  #tryLink(it) {
    if (!it.configured) return null;
    return el(
      "a",
      { href: `${destinationPath(it.id)}?event=${encodeURIComponent(this.at)}#try` },
      "Try it",
    );
  }

  /** The line that was or would be sent. */
  #sent(it) {
    const node = el("div", { class: "sent" }, el("p", { class: "loading" }, "Reading the line…"));
    const path = `${this.path}/sent/${encodeURIComponent(it.id)}`;
    get(path, {}, { signal: this.#left.signal })
      .then((sent) => fill(node, sentContent(sent)))
      .catch((error) => {
        if (this.#left.signal.aborted) return;
        fill(node, el("p", { class: "error-text" }, visible(error.message)));
        if (error.status === undefined) throw error;
      });
    return node;
  }

  /** Ask whether something changed, as long as a receipt may still come. */
  #await(row) {
    if (!canChange(row.dest)) return;
    this.#timer = setTimeout(
      async () => {
        let dest = row.dest;
        try {
          const asked = named(row);
          const answer = document.hidden
            ? { outcomes: [] }
            : await post("/api/outcomes", { events: [asked] }, { signal: this.#left.signal });
          dest = answer.outcomes[0]?.dest ?? dest;
        } catch (error) {
          if (this.#left.signal.aborted || error.status === 401) return;
          if (error.status === undefined) throw error;
          // The banner says it; the next question may be answered.
        }
        if (isSame(dest, row.dest)) this.#await(row);
        else await this.#refresh(row);
      },
      (isOpen(row.dest) ? ASK_SECONDS : ASK_SECONDS_FAILED) * 1000,
    );
  }

  async #refresh(row) {
    let event;
    try {
      event = await get(this.path, {}, { signal: this.#left.signal });
    } catch (error) {
      if (this.#left.signal.aborted || error.status === 401) return;
      if (error.status === undefined) throw error;
      // Its Dest. is kept as it was, so that the next answer is a change again.
      this.#await(row);
      return;
    }
    fill(this.#dest, destContent(event.row.dest));
    announce(destWords(event.row.dest));
    this.#showDestinations(event);
    this.#await(event.row);
  }
}

function neighbour(at, words) {
  if (at === null || at === undefined)
    return el("span", { class: "none", "aria-hidden": "true" }, words);
  const [partition, offset] = at.split("@").map(Number);
  return el(
    "a",
    { href: `/events/${partition}/${offset}`, title: `${partition}@${offset}` },
    words,
  );
}

function headers(pairs) {
  return folded(count(pairs.length, "header"), () =>
    terms(
      pairs.map(([name, value]) => [
        visible(String(name)),
        value === null ? "–" : el("code", {}, visible(value)),
      ]),
      "terms headers",
    ),
  );
}

function body(event) {
  if (event.text === null)
    return el("p", { class: "note" }, visible(event.why ?? "It has no value."));
  const copyAll = copyButton("Copy", event.text, { what: "the whole event", small: true });
  const raw = ["Text", () => rawText(event.text, { label: "The event's text" })];
  if (!event.is_json) {
    return el(
      "div",
      {},
      event.why ? el("p", { class: "note" }, visible(event.why)) : null,
      tabs("How to show it", [raw], { extra: copyAll }),
    );
  }
  return tabs(
    "How to show it",
    [["Tree", () => treeOrWords(event.text, { rootPath: "$event", label: "The event" })], raw],
    { extra: copyAll },
  );
}

function sentContent(sent) {
  if (sent.line === null)
    return el("p", { class: "note" }, visible(sent.why ?? "Nothing was sent."));
  const isRead = sent.from === "object";
  const from = isRead
    ? `read from the object${sent.number ? `, line ${number(sent.number)}` : ""}`
    : "computed again";
  return [
    el(
      "div",
      { class: "sent-head" },
      el("span", { class: `badge ${isRead ? "from-object" : "from-computed"}` }, from),
      copyButton("Copy", sent.line, { what: "the line", small: true }),
    ),
    isRead || !sent.why ? null : el("p", { class: "note" }, visible(sent.why)),
    rawText(sent.line, { label: "The line" }),
    folded("As a tree", () =>
      treeOrWords(sent.line, { rootPath: "line", label: "The line as a tree" }),
    ),
  ];
}

function response(it) {
  if (it.receipt === null)
    return el(
      "p",
      { class: "note" },
      it.outcome === "unknown" ? "No receipt is held that tells." : "No receipt yet.",
    );
  return el(
    "div",
    { class: "response" },
    receiptTerms(it.receipt, { line: it.line }),
    wholeReceipt(it.receipt),
    otherReceipts(it.receipts, it.receipt),
  );
}
