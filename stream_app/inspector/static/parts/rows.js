/**
 * The list of events on the page: rows and gaps, newest first, and no more than so many.
 */

import { el, fill, visible } from "./dom.js";
import { clock, count, number, utc } from "./format.js";
import { canChange, destContent, destTip, isSame } from "./outcomes.js";
import { tipFor } from "./tip.js";

/** How many rows the page keeps; the oldest are let go, or the newest when older ones are read. */
export const ROWS_MAX = 2_000;

export const idOf = (row) => `${row.partition}@${row.offset}`;

/** What a row is about: method and path of an HTTP event, else its summary. */
export function titleOf(row) {
  if (row.method !== null && row.method !== undefined)
    return `${row.method} ${row.path ?? ""}`.trim();
  return row.summary || "an empty value";
}

/** The cells that tell what an event is. */
export function whatContent(row) {
  if (row.method !== null && row.method !== undefined) {
    return [
      el(
        "span",
        { class: `method ${row.method === "GET" || row.method === "HEAD" ? "reads" : "writes"}` },
        visible(row.method),
      ),
      el("span", { class: "path" }, visible(row.path ?? "")),
      el("span", { class: "summary after" }, visible(row.summary)),
    ];
  }
  return [el("span", { class: "summary" }, visible(row.summary || "(no value)"))];
}

/** A table whose roles stay when narrow screens lay its rows out as cards. */
export function table(label, columns, className) {
  const head = el(
    "thead",
    { role: "rowgroup" },
    el(
      "tr",
      { role: "row" },
      columns.map(([name, title, kind]) =>
        el(
          "th",
          { role: "columnheader", scope: "col", class: kind ?? null, title: title ?? null },
          name,
        ),
      ),
    ),
  );
  const body = el("tbody", { role: "rowgroup" });
  return {
    node: el(
      "table",
      { role: "table", "aria-label": label, class: `rows ${className}` },
      head,
      body,
    ),
    body,
  };
}

/** A cell with its role. */
export const cell = (className, ...children) =>
  el("td", { role: "cell", class: className }, ...children);

const pattern = el(
  "tr",
  { role: "row", class: "event" },
  cell("at", el("a", { class: "row-link", href: "/", tabindex: "-1" }, el("time", {}))),
  cell("pipeline"),
  cell("what"),
  cell("dest"),
  cell("where"),
);

const COLUMNS = [
  ["Time", "Your clock; UTC on hover"],
  ["Pipeline"],
  ["Event"],
  ["Dest.", "Destinations: delivered / matched", "dest"],
  ["Position", "partition@offset", "where"],
];

/** Rows and gaps as a table body. */
export class RowList {
  #entries = new Map(); // id -> {row, node}
  #gaps = new WeakMap(); // node -> {count, cursor}
  #body;

  /** Whether the oldest rows were let go since somebody last asked. */
  trimmed = false;

  /** `onGap(gapNode)` is called when a reader asks what is in a gap. */
  constructor({ onGap }) {
    const { node, body } = table("Events, newest first", COLUMNS, "events");
    this.node = node;
    this.#body = body;
    this.onGap = onGap;
    body.addEventListener("focusin", (event) => this.#rove(event.target));
    body.addEventListener("keydown", (event) => this.#pressed(event));
    body.addEventListener("click", (event) => {
      const gap = event.target.closest("tr.gap");
      // It lies above the row's link, so that it can be pointed at.
      if (event.target.closest(".dest") !== null)
        event.target.closest("tr").querySelector("a").click();
      if (gap !== null && event.target.closest("button") !== null) this.onGap(gap);
    });
    tipFor(body, ".dest, .row-link", (target) => {
      const entry = this.#entries.get(target.closest("tr").dataset.id);
      return entry === undefined
        ? null
        : { at: entry.node.querySelector(".dest"), content: destTip(entry.row.dest) };
    });
  }

  get size() {
    return this.#entries.size;
  }

  get newest() {
    return this.#row(this.#body.querySelector("tr.event"));
  }

  get oldest() {
    return eventAbove(this.#body.lastElementChild, (node) => this.#row(node));
  }

  get hasFocus() {
    return this.#body.contains(document.activeElement);
  }

  has(id) {
    return this.#entries.has(id);
  }

  clear() {
    this.#entries.clear();
    this.#body.replaceChildren();
  }

  /** Put items (`{row}` or `{gap}`, newest first) above all others. */
  prepend(items) {
    const nodes = this.#nodes(items);
    this.#body.prepend(...nodes);
    this.#tabStop();
    this.#trimOldest();
    return nodes.length;
  }

  /** Put older rows below all others. True when the newest had to go for them. */
  append(rows) {
    this.#body.append(...this.#nodes(rows.map((row) => ({ row }))));
    this.#tabStop();
    return this.#trimNewest();
  }

  gapOf(node) {
    return this.#gaps.get(node);
  }

  /** The row above a gap: where reading it begins. */
  above(gap) {
    return eventAbove(gap, (node) => this.#row(node));
  }

  /** Put what was read of a gap in its place; what is left of it stays a gap. */
  fillGap(gap, rows, cursor) {
    const joins = rows.some((row) => {
      const entry = this.#entries.get(idOf(row));
      return (
        entry !== undefined &&
        gap.compareDocumentPosition(entry.node) & Node.DOCUMENT_POSITION_FOLLOWING
      );
    });
    const nodes = this.#nodes(rows.map((row) => ({ row })));
    const known = this.#gaps.get(gap).count;
    const left = known === null ? null : known - nodes.length;
    gap.before(...nodes);
    if (joins || cursor === null || (left !== null && left <= 0)) gap.remove();
    else gap.replaceWith(this.#gapNode({ count: left, cursor }));
    nodes[0]?.querySelector("a").focus({ preventScroll: true });
    this.#trimOldest();
  }

  /** Ids of rows that lie in any of `runs` ({partition, first_offset, end_offset}). */
  within(runs) {
    const byPartition = new Map();
    for (const run of runs) {
      if (!byPartition.has(run.partition)) byPartition.set(run.partition, new Map());
      byPartition.get(run.partition).set(`${run.first_offset}-${run.end_offset}`, run);
    }
    const found = [];
    for (const [id, { row }] of this.#entries) {
      const near = byPartition.get(row.partition);
      if (near === undefined) continue;
      for (const run of near.values()) {
        if (run.first_offset <= row.offset && row.offset < run.end_offset) {
          found.push(id);
          break;
        }
      }
    }
    return found;
  }

  /** Ids of rows that a receipt may still change. */
  changeable() {
    return [...this.#entries].filter(([, { row }]) => canChange(row.dest)).map(([id]) => id);
  }

  /** The rows with these ids that are still on the page. */
  rowsOf(ids) {
    return ids.map((id) => this.#entries.get(id)?.row).filter((row) => row !== undefined);
  }

  /** Change a row's Dest. in its place. */
  update(id, dest) {
    const entry = this.#entries.get(id);
    if (entry === undefined || isSame(entry.row.dest, dest)) return;
    entry.row.dest = dest;
    fill(entry.node.querySelector(".dest"), destContent(dest));
    entry.node.classList.remove("changed");
    // Starting the animation again needs a style flush in between.
    requestAnimationFrame(() => entry.node.classList.add("changed"));
  }

  /** The element of a row, to look where it is on the screen. */
  nodeOf(id) {
    return this.#entries.get(id)?.node ?? null;
  }

  #row(node) {
    return node === null || node === undefined
      ? null
      : (this.#entries.get(node.dataset.id)?.row ?? null);
  }

  #nodes(items) {
    const nodes = [];
    for (const item of items) {
      if (item.gap !== undefined) nodes.push(this.#gapNode(item.gap));
      else if (!this.#entries.has(idOf(item.row))) nodes.push(this.#eventNode(item.row));
    }
    return nodes;
  }

  #eventNode(row) {
    const id = idOf(row);
    const node = pattern.cloneNode(true);
    node.dataset.id = id;
    const [at, pipeline, what, dest, where] = node.children;
    const link = at.firstChild;
    link.setAttribute("href", `/events/${Number(row.partition)}/${Number(row.offset)}`);
    link.setAttribute("aria-label", `${clock(row.time)}, ${visible(titleOf(row))}`);
    link.firstChild.dateTime = row.time;
    link.firstChild.title = utc(row.time);
    link.firstChild.textContent = clock(row.time);
    pipeline.textContent = row.pipeline === null ? "–" : visible(row.pipeline);
    if (row.pipeline !== null) pipeline.title = visible(row.pipeline);
    fill(what, whatContent(row));
    fill(dest, destContent(row.dest));
    where.textContent = id;
    this.#entries.set(id, { row, node });
    return node;
  }

  #gapNode(gap) {
    const words =
      gap.count === null
        ? "Events came in between"
        : `${count(gap.count, "more event")} came in between`;
    const node = el(
      "tr",
      { role: "row", class: "gap" },
      el(
        "td",
        { role: "cell", colspan: COLUMNS.length },
        el("button", { type: "button", class: "link" }, `${words}: show`),
      ),
    );
    this.#gaps.set(node, { cursor: null, ...gap });
    return node;
  }

  /** Let the oldest go, so that a list nobody looks at is quick to show again. */
  keepNewest(rows) {
    this.#trimOldest(rows);
  }

  #trimOldest(rowsMax = ROWS_MAX) {
    while (this.#entries.size > rowsMax) {
      const last = this.#body.lastElementChild;
      this.#entries.delete(last.dataset.id);
      last.remove();
      this.trimmed = true;
    }
    // A gap below the last row leads nowhere that scrolling does not.
    while (this.#body.lastElementChild?.classList.contains("gap") && this.#entries.size > 0)
      this.#body.lastElementChild.remove();
  }

  #trimNewest() {
    let trimmed = false;
    while (this.#entries.size > ROWS_MAX) {
      const first = this.#body.firstElementChild;
      this.#entries.delete(first.dataset.id);
      first.remove();
      trimmed = true;
    }
    if (trimmed) this.#tabStop();
    return trimmed;
  }

  /** One row is in the tab order: the one that has or had the focus, else the first. */
  #tabStop() {
    const stop = this.#body.querySelector('.row-link[tabindex="0"]');
    const first = this.#body.querySelector(".row-link");
    if (first === null || first === stop || (stop !== null && stop === document.activeElement))
      return;
    if (stop !== null) stop.tabIndex = -1;
    first.tabIndex = 0;
  }

  #rove(target) {
    if (!target.classList.contains("row-link")) return;
    for (const other of this.#body.querySelectorAll('.row-link[tabindex="0"]')) other.tabIndex = -1;
    target.tabIndex = 0;
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest("tr");
    const next = {
      ArrowDown: () => row.nextElementSibling,
      ArrowUp: () => row.previousElementSibling,
      Home: () => this.#body.firstElementChild,
      End: () => this.#body.lastElementChild,
    }[event.key]?.();
    if (next === undefined) return;
    event.preventDefault();
    next?.querySelector("a, button").focus();
  }
}

/** The nearest row at or above `node`. */
function eventAbove(node, rowOf) {
  let at = node;
  while (at !== null && !at.classList.contains("event")) at = at.previousElementSibling;
  return rowOf(at);
}

/** "2,000 events" for the words under the list. */
export const rowsWords = (list) => `${number(list.size)} ${list.size === 1 ? "event" : "events"}`;
