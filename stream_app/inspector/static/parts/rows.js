/** Bounded list of events: rows and gaps, newest first. */

import { el, fill, visible } from "../lib/dom.js";
import { clock, count, utc, zoneName } from "../lib/format.js";
import { canChange, destContent, destTooltip, isSame } from "./outcomes.js";
import { tooltipFor } from "./tooltip.js";

/** Most rows on the page; the oldest are dropped, or the newest when older ones are loaded. */
export const ROWS_MAX = 2_000;

/** Class of a method: those that read, those that write, and the one that deletes. */
const METHODS = { GET: "reads", HEAD: "reads", OPTIONS: "reads", DELETE: "deletes" };

export const idOf = (row) => `${row.partition}@${row.offset}`;

/** Title of a row: method and path of an HTTP event, else the summary. */
export function titleOf(row) {
  if (row.method !== null && row.method !== undefined)
    return `${row.method} ${row.path ?? ""}`.trim();
  return row.summary || "(empty value)";
}

/** Content of the Event cell: method, path and summary. */
export function eventContent(row) {
  if (row.method !== null && row.method !== undefined) {
    return [
      el(
        "span",
        { class: `method ${METHODS[row.method] ?? "writes"}` },
        visible(row.method),
      ),
      el("span", { class: "path", title: visible(row.path ?? "") }, visible(row.path ?? "")),
      el("span", { class: "summary after" }, visible(row.summary)),
    ];
  }
  return [el("span", { class: "summary" }, visible(row.summary || "(no value)"))];
}

/** Table with explicit roles, which stay when narrow screens show its rows as cards. */
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

/** Table cell with its role. */
export const cell = (className, ...children) =>
  el("td", { role: "cell", class: className }, ...children);

const template = el(
  "tr",
  { role: "row", class: "event" },
  cell("time", el("a", { class: "row-link", href: "/", tabindex: "-1" }, el("time", {}))),
  cell("dest"),
  cell("pipeline"),
  cell("content"),
  cell("position"),
);

const COLUMNS = [
  ["Time", "In the zone of the page; UTC on hover"],
  ["Outcome", "At the destinations that the event matches", "dest"],
  ["Pipeline"],
  ["Event"],
  ["Position", "partition@offset", "position"],
];

/** Rows and gaps as a table body. */
export class RowList {
  #entries = new Map(); // id -> {row, node}
  #gaps = new WeakMap(); // node -> {count, cursor}
  #body;
  #timeHead;

  /** Whether old rows were dropped since the caller last reset it. */
  trimmed = false;

  /** `onGap(gapNode)` is called to load a gap. */
  constructor({ onGap }) {
    const { node, body } = table("Events, newest first", COLUMNS, "events");
    this.node = node;
    this.#body = body;
    this.#timeHead = node.querySelector("th");
    this.onGap = onGap;
    body.addEventListener("focusin", (event) => this.#moveTabStop(event.target));
    body.addEventListener("keydown", (event) => this.#onKeydown(event));
    body.addEventListener("click", (event) => {
      const gap = event.target.closest("tr.gap");
      // The cell lies above the link of the row, for its tooltip.
      if (event.target.closest(".dest") !== null)
        event.target.closest("tr").querySelector("a").click();
      if (gap !== null && event.target.closest("button") !== null) this.onGap(gap);
    });
    tooltipFor(body, ".dest, .row-link", (target) => {
      const entry = this.#entries.get(target.closest("tr").dataset.id);
      return entry === undefined
        ? null
        : { at: entry.node.querySelector(".dest"), content: destTooltip(entry.row.dest) };
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
    this.#timeHead.textContent = `Time, ${zoneName()}`;
    this.#entries.clear();
    this.#body.replaceChildren();
  }

  /** Insert items (`{row}` or `{gap}`, newest first) at the top. */
  prepend(items) {
    const nodes = this.#nodes(items);
    this.#body.prepend(...nodes);
    this.#tabStop();
    this.#trimOldest();
    return nodes.length;
  }

  /** Append older rows; return whether newest rows were dropped to make room. */
  append(rows) {
    this.#body.append(...this.#nodes(rows.map((row) => ({ row }))));
    this.#tabStop();
    return this.#trimNewest();
  }

  gapOf(node) {
    return this.#gaps.get(node);
  }

  /** The row above a gap, from which the gap is loaded. */
  above(gap) {
    return eventAbove(gap, (node) => this.#row(node));
  }

  /** Insert loaded rows into a gap; the rest stays a gap. */
  fillGap(gap, rows, cursor) {
    const joins = rows.some((row) => {
      const entry = this.#entries.get(idOf(row));
      return (
        entry !== undefined &&
        gap.compareDocumentPosition(entry.node) & Node.DOCUMENT_POSITION_FOLLOWING
      );
    });
    const nodes = this.#nodes(rows.map((row) => ({ row })));
    const { count: total } = this.#gaps.get(gap);
    const left = total === null ? null : total - nodes.length;
    gap.before(...nodes);
    if (joins || cursor === null || (left !== null && left <= 0)) gap.remove();
    else gap.replaceWith(this.#gapNode({ count: left, cursor }));
    nodes[0]?.querySelector("a").focus({ preventScroll: true });
    this.#trimOldest();
  }

  /** Ids of rows in any of `runs` ({partition, first_offset, end_offset}). */
  within(runs) {
    const byPartition = new Map();
    for (const run of runs) {
      if (!byPartition.has(run.partition)) byPartition.set(run.partition, new Map());
      byPartition.get(run.partition).set(`${run.first_offset}-${run.end_offset}`, run);
    }
    const found = [];
    for (const [id, { row }] of this.#entries) {
      const runsOfPartition = byPartition.get(row.partition);
      if (runsOfPartition === undefined) continue;
      for (const run of runsOfPartition.values()) {
        if (run.first_offset <= row.offset && row.offset < run.end_offset) {
          found.push(id);
          break;
        }
      }
    }
    return found;
  }

  /** Ids of rows that a receipt may change. */
  changeable() {
    return [...this.#entries].filter(([, { row }]) => canChange(row.dest)).map(([id]) => id);
  }

  /** The rows with these ids, as far as they are on the page. */
  rowsOf(ids) {
    return ids.map((id) => this.#entries.get(id)?.row).filter((row) => row !== undefined);
  }

  /** Update the Outcome cell of a row. */
  update(id, dest) {
    const entry = this.#entries.get(id);
    if (entry === undefined || isSame(entry.row.dest, dest)) return;
    entry.row.dest = dest;
    fill(entry.node.querySelector(".dest"), destContent(dest));
    entry.node.classList.remove("changed");
    // Restarting the animation needs a style flush in between.
    requestAnimationFrame(() => entry.node.classList.add("changed"));
  }

  /** The element of a row, or null. */
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
    const node = template.cloneNode(true);
    node.dataset.id = id;
    const [time, dest, pipeline, content, position] = node.children;
    const link = time.firstChild;
    link.setAttribute("href", `/events/${Number(row.partition)}/${Number(row.offset)}`);
    link.setAttribute("aria-label", `${clock(row.time)}, ${visible(titleOf(row))}`);
    link.firstChild.dateTime = row.time;
    link.firstChild.title = utc(row.time);
    link.firstChild.textContent = clock(row.time);
    pipeline.textContent = row.pipeline === null ? "–" : visible(row.pipeline);
    if (row.pipeline !== null) pipeline.title = visible(row.pipeline);
    fill(content, eventContent(row));
    fill(dest, destContent(row.dest));
    position.textContent = id;
    this.#entries.set(id, { row, node });
    return node;
  }

  #gapNode(gap) {
    const text =
      gap.count === null
        ? "More events in between"
        : `${count(gap.count, "more event")} in between`;
    const node = el(
      "tr",
      { role: "row", class: "gap" },
      el(
        "td",
        { role: "cell", colspan: COLUMNS.length },
        el("button", { type: "button", class: "link" }, `${text}: load`),
      ),
    );
    this.#gaps.set(node, { cursor: null, ...gap });
    return node;
  }

  /** Drop the oldest rows, so that a list left behind is quick to show again. */
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
    // Scrolling loads what a gap below the last row stands for.
    while (this.#body.lastElementChild?.classList.contains("gap") && this.#entries.size > 0)
      this.#body.lastElementChild.remove();
  }

  #trimNewest() {
    let isTrimmed = false;
    while (this.#entries.size > ROWS_MAX) {
      const first = this.#body.firstElementChild;
      this.#entries.delete(first.dataset.id);
      first.remove();
      isTrimmed = true;
    }
    if (isTrimmed) this.#tabStop();
    return isTrimmed;
  }

  /** Keep one row in the tab order: the last focused one, else the first. */
  #tabStop() {
    const stop = this.#body.querySelector('.row-link[tabindex="0"]');
    const first = this.#body.querySelector(".row-link");
    if (first === null || first === stop || (stop !== null && stop === document.activeElement))
      return;
    if (stop !== null) stop.tabIndex = -1;
    first.tabIndex = 0;
  }

  #moveTabStop(target) {
    if (!target.classList.contains("row-link")) return;
    for (const other of this.#body.querySelectorAll('.row-link[tabindex="0"]')) other.tabIndex = -1;
    target.tabIndex = 0;
  }

  #onKeydown(event) {
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
  let above = node;
  while (above !== null && !above.classList.contains("event")) above = above.previousElementSibling;
  return rowOf(above);
}

/** Count of rows: "2,000 events". */
export const rowsText = (list) => count(list.size, "event");
