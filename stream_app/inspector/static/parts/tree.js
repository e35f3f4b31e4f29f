/**
 * Collapsible tree of a JSON text, whose nodes copy their path.
 *
 * The rows are one flat list with `aria-level`: ten thousand levels nest no elements. Members
 * become rows when their container is opened, 200 at a time.
 */

import {
  announce,
  copy,
  copyButton,
  el,
  fill,
  icon,
  visible,
  visibleBlock,
  visuallyHidden,
} from "../lib/dom.js";
import { bytes, count, cut, number } from "../lib/format.js";
import { membersOf, pathOf, rootOf } from "../lib/json.js";

const ROWS_AT_A_TIME = 200;

/** Levels are open at first as long as they fit into this number of rows. */
const ROWS_INITIAL_MAX = 60;

/** "Expand all" stops at this number of rows. */
const ROWS_EXPANDED_MAX = 2_000;

/** Deeper rows are not indented further: they would leave the page. */
const INDENT_LEVELS_MAX = 24;

const STRING_SHOWN_CHARACTERS_MAX = 300;
const STRING_OPENED_CHARACTERS_MAX = 20_000;

/** Tree of `text`; paths begin with `rootPath`. */
export class Tree {
  #text;
  #rows = new Map(); // element -> {value, path, level, open, parent, from}
  #list;
  #current = null;
  #pathText = el("code", { class: "path-text" });

  constructor(text, { rootPath = "$event", label = "Event", opensAt = null } = {}) {
    this.#text = text;
    this.opensAt = opensAt;
    this.label = label;
    this.#list = el("div", { role: "tree", class: "tree", "aria-label": label });
    this.#list.addEventListener("click", (event) => this.#onClick(event));
    this.#list.addEventListener("keydown", (event) => this.#onKeydown(event));
    this.#list.addEventListener("focusin", (event) =>
      this.#select(event.target.closest("[role=treeitem]")),
    );
    const root = this.#row({
      value: rootOf(text),
      path: rootPath,
      level: 1,
      parent: null,
      index: 0,
      total: 1,
    });
    this.#list.append(root);
    this.#openInitial(root);
    this.#select(root);
    this.node = el("div", { class: "tree-box" }, this.#bar(rootPath), this.#list);
  }

  #bar(rootPath) {
    const path = () => this.#rows.get(this.#current).path;
    return el(
      "div",
      { class: "path-bar" },
      this.#pathText,
      el(
        "span",
        { class: "path-tools" },
        copyButton("Path", path, { noun: "the path of the selected node", small: true }),
        copyButton("Value", () => this.#source(this.#rows.get(this.#current).value), {
          noun: "the value of the selected node",
          small: true,
        }),
        el(
          "button",
          { type: "button", class: "copy small", on: { click: () => this.#expandAll() } },
          "Expand all",
        ),
        el(
          "button",
          { type: "button", class: "copy small", on: { click: () => this.#collapseAll() } },
          "Collapse",
        ),
        visuallyHidden(
          `Arrow keys move in the tree, Enter opens, c copies the path below ${rootPath}.`,
        ),
      ),
    );
  }

  #source(value) {
    return this.#text.slice(value.start, value.end);
  }

  #row({ value, path, level, parent, index, total }) {
    const isContainer = value.count > 0;
    const row = el(
      "div",
      {
        role: "treeitem",
        class: "node",
        tabindex: "-1",
        "aria-level": level,
        "aria-setsize": total,
        "aria-posinset": index + 1,
        "aria-expanded": isContainer ? "false" : null,
        "aria-selected": "false",
      },
      isContainer ? icon("icon-twist", "twist") : el("span", { class: "twist" }),
      value.key === null
        ? el("span", { class: "key root" }, path)
        : el(
            "span",
            { class: typeof value.key === "number" ? "key index" : "key" },
            visible(cut(String(value.key), 300)),
          ),
      el("span", { class: "colon" }, value.key === null ? " " : ": "),
      this.#valueOf(value),
      value.overridden
        ? el("span", { class: "note" }, "overridden by a later member with this name")
        : null,
      el(
        "button",
        {
          type: "button",
          class: "node-copy",
          tabindex: "-1",
          "aria-hidden": "true",
          title: "Copy the path (c)",
        },
        icon("icon-copy"),
      ),
    );
    indent(row, level);
    this.#rows.set(row, { value, path, level, parent, open: false, members: null, shown: 0 });
    return row;
  }

  #valueOf(value) {
    if (value.kind === "object" || value.kind === "array") {
      const size =
        value.kind === "object" ? count(value.count, "member") : count(value.count, "item");
      const brackets = value.kind === "object" ? "{}" : "[]";
      if (value.count === 0) return el("span", { class: "value empty" }, brackets);
      return el("span", { class: "value container" }, `${brackets[0]} ${size} ${brackets[1]}`);
    }
    if (value.kind !== "string") {
      const isKeyword = ["true", "false", "null"].includes(value.kind);
      // The source text: a double would round it.
      return el(
        "span",
        { class: `value ${isKeyword ? "word" : "number"}` },
        cut(this.#source(value), STRING_SHOWN_CHARACTERS_MAX),
      );
    }
    return this.#string(value);
  }

  #string(value) {
    const characters = value.end - value.start - 2;
    const source = this.#text.slice(
      value.start,
      Math.min(value.end, value.start + 6 * STRING_SHOWN_CHARACTERS_MAX),
    );
    if (characters <= STRING_SHOWN_CHARACTERS_MAX) {
      return el(
        "span",
        { class: "value string" },
        visible(JSON.stringify(JSON.parse(this.#source(value)))),
      );
    }
    return el(
      "span",
      { class: "value string" },
      visible(cut(source, STRING_SHOWN_CHARACTERS_MAX)),
      el("span", { class: "note" }, `… ${number(characters)} characters `),
      el("button", { type: "button", class: "link node-full", tabindex: "-1" }, "show more"),
    );
  }

  #openInitial(root) {
    let level = [root];
    let rows = 1;
    while (level.length > 0) {
      const containers = level.filter((row) => this.#rows.get(row).value.count > 0);
      const more = containers.reduce(
        (sum, row) => sum + Math.min(ROWS_AT_A_TIME, this.#rows.get(row).value.count),
        0,
      );
      // The first level is always open: a single closed row would show nothing.
      if (containers.length === 0 || (rows > 1 && rows + more > ROWS_INITIAL_MAX)) return;
      rows += more;
      level = this.#differing(containers.flatMap((row) => this.#open(row)));
    }
  }

  /** Of the members of the root only the one that differs between events is opened, if it is there. */
  #differing(rows) {
    const found = rows.filter((row) => {
      const { level, value } = this.#rows.get(row);
      return level === 2 && value.key === this.opensAt && value.count > 0;
    });
    return found.length > 0 ? found : rows;
  }

  /** Open a container; return the new rows. */
  #open(row) {
    const state = this.#rows.get(row);
    if (state.open || state.value.count === 0) return [];
    state.open = true;
    state.members ??= membersOf(this.#text, state.value);
    state.shown = 0;
    row.setAttribute("aria-expanded", "true");
    return this.#showMore(row, row);
  }

  #showMore(row, after) {
    const state = this.#rows.get(row);
    const from = state.shown;
    const chunk = state.members.slice(from, from + ROWS_AT_A_TIME);
    const added = chunk.map((value, index) =>
      this.#row({
        value,
        path: pathOf(state.path, value.key),
        level: state.level + 1,
        parent: row,
        index: from + index,
        total: state.members.length,
      }),
    );
    state.shown = from + chunk.length;
    const left = state.members.length - state.shown;
    const rows = left > 0 ? [...added, this.#moreRow(row, left)] : added;
    after.after(...rows);
    return added;
  }

  #moreRow(parent, left) {
    const { level, path, value } = this.#rows.get(parent);
    const row = el(
      "div",
      {
        role: "treeitem",
        class: "node more",
        tabindex: "-1",
        "aria-level": level + 1,
        "aria-selected": "false",
      },
      el("span", { class: "twist" }),
      `Show ${number(Math.min(left, ROWS_AT_A_TIME))} more of ${number(left)} left`,
    );
    indent(row, level + 1);
    this.#rows.set(row, { value, path, level: level + 1, parent, open: false, more: true });
    return row;
  }

  #close(row) {
    const state = this.#rows.get(row);
    if (!state.open) return;
    let next = row.nextElementSibling;
    while (next !== null && this.#rows.get(next).level > state.level) {
      const following = next.nextElementSibling;
      this.#rows.delete(next);
      if (next === this.#current) this.#select(row);
      next.remove();
      next = following;
    }
    state.open = false;
    row.setAttribute("aria-expanded", "false");
  }

  #toggle(row) {
    const state = this.#rows.get(row);
    if (state.more) {
      const before = row.previousElementSibling;
      const [first] = this.#replaceMore(row, state.parent, before);
      this.#focus(first ?? before);
    } else if (state.open) this.#close(row);
    else this.#open(row);
  }

  #replaceMore(row, parent, before) {
    this.#rows.delete(row);
    row.remove();
    return this.#showMore(parent, before);
  }

  #expandAll() {
    const waiting = [...this.#list.children];
    while (waiting.length > 0 && this.#rows.size < ROWS_EXPANDED_MAX) {
      const row = waiting.shift();
      if (this.#rows.has(row) && !this.#rows.get(row).more) waiting.unshift(...this.#open(row));
    }
    announce(
      this.#rows.size >= ROWS_EXPANDED_MAX
        ? `Expanded to ${number(this.#rows.size)} rows; expand deeper levels one by one`
        : "Expanded",
    );
  }

  #collapseAll() {
    const root = this.#list.firstElementChild;
    this.#close(root);
    this.#open(root);
    announce("Collapsed");
  }

  #select(row) {
    if (row === null || row === this.#current) return;
    if (this.#current !== null) {
      this.#current.tabIndex = -1;
      this.#current.setAttribute("aria-selected", "false");
    }
    this.#current = row;
    row.tabIndex = 0;
    row.setAttribute("aria-selected", "true");
    fill(this.#pathText, visible(cut(this.#rows.get(row).path, 2_000)));
  }

  #focus(row) {
    if (row === null || row === undefined) return;
    this.#select(row);
    row.focus();
  }

  async #copyPath(row) {
    const { path } = this.#rows.get(row);
    const copied = await copy(path);
    announce(copied ? `Copied ${cut(path, 200)}` : "The browser denied access to the clipboard");
    if (!copied) return;
    row.classList.add("copied");
    setTimeout(() => row.classList.remove("copied"), 1200);
  }

  #onClick(event) {
    const row = event.target.closest("[role=treeitem]");
    if (row === null) return;
    this.#focus(row);
    if (event.target.closest(".node-copy")) this.#copyPath(row);
    else if (event.target.closest(".node-full"))
      this.#showFull(row, event.target.closest(".node-full"));
    else if (getSelection().isCollapsed) this.#toggle(row);
  }

  #showFull(row, button) {
    const { value } = this.#rows.get(row);
    const full = JSON.parse(this.#source(value));
    const shown = cut(full, STRING_OPENED_CHARACTERS_MAX);
    const rest = full.length - shown.length;
    button.replaceWith(
      el(
        "span",
        { class: "full" },
        visibleBlock(shown),
        rest > 0
          ? el("span", { class: "note" }, `… and ${bytes(rest)} more: “Value” copies the full text`)
          : null,
      ),
    );
  }

  #onKeydown(event) {
    const row = event.target.closest("[role=treeitem]");
    if (row === null || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.#handleKey(event.key, row)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  #handleKey(key, row) {
    const state = this.#rows.get(row);
    switch (key) {
      case "ArrowDown":
        this.#focus(row.nextElementSibling);
        return true;
      case "ArrowUp":
        this.#focus(row.previousElementSibling);
        return true;
      case "ArrowRight":
        if (state.open) this.#focus(row.nextElementSibling);
        else if (!state.more) this.#open(row);
        return true;
      case "ArrowLeft":
        if (state.open) this.#close(row);
        else this.#focus(state.parent);
        return true;
      case "Home":
        this.#focus(this.#list.firstElementChild);
        return true;
      case "End":
        this.#focus(this.#list.lastElementChild);
        return true;
      case "Enter":
      case " ":
        if (state.value.kind === "string" && row.querySelector(".node-full"))
          this.#showFull(row, row.querySelector(".node-full"));
        else this.#toggle(row);
        return true;
      case "*":
        for (const sibling of this.#siblings(row)) this.#open(sibling);
        return true;
      case "c":
        this.#copyPath(row);
        return true;
      default:
        return false;
    }
  }

  #siblings(row) {
    const { parent, level } = this.#rows.get(row);
    return [...this.#rows]
      .filter(([, state]) => state.parent === parent && state.level === level && !state.more)
      .map(([sibling]) => sibling);
  }
}

/** Set the indentation through the CSSOM: the Content-Security-Policy forbids style attributes. */
function indent(row, level) {
  row.style.setProperty("--level", String(Math.min(level - 1, INDENT_LEVELS_MAX)));
  if (level - 1 > INDENT_LEVELS_MAX)
    row.prepend(el("span", { class: "deep" }, `level ${number(level)}`));
}

const RAW_SHOWN_CHARACTERS_MAX = 200_000;

/** Scrollable block of raw text; hidden characters are shown as escapes, with a note. */
export function rawText(text, { label = "Text", wrap = true } = {}) {
  const shown = cut(text, RAW_SHOWN_CHARACTERS_MAX);
  const escaped = visibleBlock(shown);
  return el(
    "div",
    { class: "raw-box" },
    el(
      "pre",
      { class: wrap ? "raw" : "raw one-line", tabindex: "0", role: "region", "aria-label": label },
      escaped,
    ),
    shown.length < text.length
      ? el(
          "p",
          { class: "note" },
          `The first ${number(shown.length)} of ${number(text.length)} characters; Copy copies all.`,
        )
      : null,
    escaped === shown
      ? null
      : el(
          "p",
          { class: "note" },
          "Invisible characters are shown as \\u…; Copy copies the exact text.",
        ),
  );
}

/** The tree, or the raw text with the reason. */
export function treeOrText(text, options) {
  try {
    return new Tree(text, options).node;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return el(
      "div",
      {},
      el("p", { class: "note" }, `Not shown as a tree: ${error.message}`),
      rawText(text, options),
    );
  }
}
