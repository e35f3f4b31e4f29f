/** Page of one event: content, and outcome at each destination. */

import { get, post } from "../lib/api.js";
import {
  announce,
  breadcrumbs,
  copyButton,
  el,
  fill,
  tabs,
  terms,
  visible,
  visibleBlock,
} from "../lib/dom.js";
import { bytes, count, number, time } from "../lib/format.js";
import { keyOf } from "../parts/outcome-loader.js";
import { canChange, destContent, destText, isOpen, isSame, outcome } from "../parts/outcomes.js";
import {
  copyable,
  destinationPath,
  folded,
  otherReceipts,
  receiptTerms,
  span,
  fullReceipt,
  windowPath,
} from "../parts/receipt.js";
import { titleOf } from "../parts/rows.js";
import { rawText, treeOrText } from "../parts/tree.js";

/** Poll interval while a receipt is expected. */
const POLL_SECONDS = 1.5;
/** Poll interval while only a redelivery can change outcomes. */
const POLL_SECONDS_FAILED = 5;

/** Most destinations open at first; their lines are loaded at once. */
const OPEN_INITIAL_MAX = 3;

/** Worst first; those after `GOOD_FROM` are closed at first, unless there is nothing else. */
const ORDER = ["failed", "retrying", "unknown", "pending", "skipped", "delivered"];
const GOOD_FROM = ORDER.indexOf("skipped");

const rankOf = (it) => ORDER.indexOf(it.outcome);

const byUrgency = (one, other) =>
  rankOf(one) - rankOf(other) || (one.id < other.id ? -1 : 1);

/** Destinations named beside an error. */
const ERROR_DESTINATIONS_MAX = 5;

/** Destinations added by one click. */
const DESTINATIONS_PER_CLICK = 50;

/** The page `/events/P/O`. */
export class EventView {
  section = "events";
  #left = new AbortController();
  #timer = 0;
  #dest;
  #errors;
  #destinations;

  constructor(context, { partition, offset }) {
    this.context = context;
    this.position = `${partition}@${offset}`;
    this.path = `/api/events/${partition}/${offset}`;
    this.title = `Event ${this.position}`;
    this.node = el(
      "div",
      { class: "view event-view" },
      el("p", { class: "loading" }, "Loading the event…"),
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
      this.context.showError(this.node, `Event ${this.position}`, error);
      return;
    }
    this.#show(event);
    this.#poll(event.row);
  }

  #show(event) {
    const { row } = event;
    this.title = `${titleOf(row)} · ${this.position}`;
    this.context.showTitle(this);
    this.#dest = el("span", { class: "dest big" }, destContent(row.dest));
    this.#errors = el("div", { class: "event-errors" });
    this.#destinations = el("div", { class: "deliveries" });
    fill(
      this.node,
      breadcrumbs(
        [["/", "Events"]],
        this.position,
        el(
          "span",
          { class: "neighbors" },
          neighbor(event.older, "← Older"),
          neighbor(event.newer, "Newer →"),
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
          ["Position", copyable(this.position, "the position")],
          ["Size", bytes(row.size)],
        ],
        "terms across",
      ),
      event.unmatched
        ? el(
            "p",
            { class: "panel alarm" },
            visible(`${event.unmatched}. `),
            el("a", { href: "/?outcome=unmatched" }, "Show all such events"),
          )
        : null,
      this.#errors,
      el(
        "div",
        { class: "columns event-columns" },
        el(
          "section",
          { class: "event-deliveries", "aria-label": "Destinations" },
          this.#heading(event),
          this.#destinations,
        ),
        el(
          "section",
          { class: "event-body", "aria-label": "The event" },
          el("h2", {}, "Event"),
          eventContent(event),
          event.headers.length > 0 ? headers(event.headers) : null,
        ),
      ),
    );
    this.#showDestinations(event);
  }

  #heading(event) {
    const all = event.destinations.length + (event.more_destinations ?? 0);
    const shown = event.more_destinations > 0 ? `, ${number(event.destinations.length)} shown` : "";
    return el(
      "h2",
      {},
      all === 0 ? "No destination" : `${count(all, "destination")}${shown}`,
    );
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
    const sorted = event.destinations.toSorted(byUrgency);
    const isOpenFirst = (it, index) =>
      index === 0 || (index < OPEN_INITIAL_MAX && rankOf(it) < GOOD_FROM);
    const waiting = sorted.map((it, index) => ({
      it,
      isOpen: isFirst ? isOpenFirst(it, index) : open.has(it.id),
    }));
    fill(this.#errors, errorsOf(sorted));
    fill(this.#destinations);
    const showMore = () => {
      const chunk = waiting.splice(0, DESTINATIONS_PER_CLICK);
      this.#destinations.append(...chunk.map((each) => this.#delivery(each.it, each.isOpen)));
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
    const replacement = [...this.#destinations.children].find(
      (node) => node.dataset.id === focused,
    );
    replacement?.querySelector("summary").focus({ preventScroll: true });
  }

  #delivery(it, open) {
    const summary = [
      outcome(it.outcome),
      el("span", { class: "delivery-id" }, visible(it.id)),
      it.line === null ? null : el("span", { class: "delivery-line" }, `line ${number(it.line)}`),
      it.configured ? null : el("span", { class: "badge" }, "not configured"),
    ];
    const node = folded(
      summary,
      () => [
        it.reason ? el("p", { class: "reason" }, visible(it.reason)) : null,
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
        tabs(`${it.id}: sent line and receipt`, [
          ["Sent", () => this.#sent(it)],
          ["Delivery report", () => responseContent(it)],
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
      { href: `${destinationPath(it.id)}?event=${encodeURIComponent(this.position)}#preview` },
      "Try it",
    );
  }

  /** The line that was sent, or would be. */
  #sent(it) {
    const node = el("div", { class: "sent" }, el("p", { class: "loading" }, "Loading the line…"));
    const path = `${this.path}/sent/${encodeURIComponent(it.id)}`;
    get(path, {}, { signal: this.#left.signal })
      .then((sent) => fill(node, sentContent(sent, it)))
      .catch((error) => {
        if (this.#left.signal.aborted) return;
        fill(node, el("p", { class: "error-text" }, visible(error.message)));
        if (error.status === undefined) throw error;
      });
    return node;
  }

  /** Poll for a change as long as a receipt can come. */
  #poll(row) {
    if (!canChange(row.dest)) return;
    this.#timer = setTimeout(
      async () => {
        let dest = row.dest;
        try {
          const request = { events: [keyOf(row)] };
          const response = document.hidden
            ? { outcomes: [] }
            : await post("/api/outcomes", request, { signal: this.#left.signal });
          dest = response.outcomes[0]?.dest ?? dest;
        } catch (error) {
          if (this.#left.signal.aborted || error.status === 401) return;
          if (error.status === undefined) throw error;
          // A banner shows the error; the next poll may succeed.
        }
        if (isSame(dest, row.dest)) this.#poll(row);
        else await this.#refresh(row);
      },
      (isOpen(row.dest) ? POLL_SECONDS : POLL_SECONDS_FAILED) * 1000,
    );
  }

  async #refresh(row) {
    let event;
    try {
      event = await get(this.path, {}, { signal: this.#left.signal });
    } catch (error) {
      if (this.#left.signal.aborted || error.status === 401) return;
      if (error.status === undefined) throw error;
      // The row keeps its old outcomes, so that the next poll sees a change again.
      this.#poll(row);
      return;
    }
    fill(this.#dest, destContent(event.row.dest));
    announce(destText(event.row.dest));
    this.#showDestinations(event);
    this.#poll(event.row);
  }
}

/** Each error once, with the destinations that have it. */
function errorsOf(destinations) {
  const errors = new Map();
  for (const { id, error } of destinations) {
    if (!error) continue;
    if (!errors.has(error)) errors.set(error, []);
    errors.get(error).push(id);
  }
  return [...errors].map(([error, ids]) =>
    el(
      "p",
      { class: "panel alarm event-error" },
      el("strong", { class: "error-text" }, visible(error)),
      " ",
      ids.slice(0, ERROR_DESTINATIONS_MAX).map((id, index) => [
        index === 0 ? "at " : ", ",
        el("a", { href: destinationPath(id) }, visible(id)),
      ]),
      ids.length > ERROR_DESTINATIONS_MAX
        ? ` and ${number(ids.length - ERROR_DESTINATIONS_MAX)} more`
        : null,
    ),
  );
}

function neighbor(position, label) {
  if (position === null || position === undefined)
    return el("span", { class: "none", "aria-hidden": "true" }, label);
  const [partition, offset] = position.split("@").map(Number);
  return el(
    "a",
    { href: `/events/${partition}/${offset}`, title: `${partition}@${offset}` },
    label,
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

function eventContent(event) {
  if (event.text === null)
    return el("p", { class: "note" }, visible(event.why ?? "The record has no value."));
  const copyEvent = copyButton("Copy", event.text, { noun: "the event", small: true });
  const raw = ["Text", () => rawText(event.text, { label: "The event's text" })];
  if (!event.is_json) {
    return el(
      "div",
      {},
      // The errors of the destinations say it.
      event.why && !event.destinations.some(({ error }) => error)
        ? el("p", { class: "note" }, visible(event.why))
        : null,
      tabs("View as", [raw], { extra: copyEvent }),
    );
  }
  return tabs(
    "View as",
    [["Tree", () => treeOrText(event.text, { rootPath: "$event", label: "The event", opensAt: "body" })], raw],
    { extra: copyEvent },
  );
}

function sentContent(sent, { error }) {
  // The error stands above all destinations.
  if (sent.line === null) {
    const why = error ? null : sent.why;
    return el("p", { class: "note" }, visible(why ?? "Nothing was sent."));
  }
  const isRead = sent.from === "object";
  const from = isRead
    ? `read from the object${sent.number ? `, line ${number(sent.number)}` : ""}`
    : "computed again";
  return [
    el(
      "div",
      { class: "sent-head" },
      el("span", { class: `badge ${isRead ? "from-object" : "from-computed"}` }, from),
      copyButton("Copy", sent.line, { noun: "the line", small: true }),
    ),
    isRead || !sent.why ? null : el("p", { class: "note" }, visible(sent.why)),
    rawText(sent.line, { label: "The line" }),
    folded("As a tree", () =>
      treeOrText(sent.line, { rootPath: "line", label: "The line as a tree" }),
    ),
  ];
}

function responseContent(it) {
  if (it.receipt === null)
    return el(
      "p",
      { class: "note" },
      it.outcome === "unknown" ? "No receipt in memory covers this event." : "No receipt yet.",
    );
  return el(
    "div",
    { class: "response" },
    el("p", { class: "note" }, "The delivery report (receipt) of the event's window covers all events of the window."),
    receiptTerms(it.receipt, { line: it.line }),
    fullReceipt(it.receipt),
    otherReceipts(it.receipts, it.receipt),
  );
}
