/** Rows that came and are not shown: while paused, scrolled down, or pointed at. */

import { ROWS_MAX, idOf } from "./rows.js";

/** Newest first and bounded; `count` is of all that came, also those that were let go. */
export class Held {
  #items = [];
  #ids = new Set();
  #rows = 0;
  count = 0;

  /** Take a message of the stream; `more` came beside its rows, or may have, if it is not known. */
  add(rows, more, { isKnown = true } = {}) {
    // After a break the same may be read and be told.
    const fresh = rows.filter((row) => !this.#ids.has(idOf(row)));
    const items = fresh.map((row) => ({ row }));
    for (const row of fresh) this.#ids.add(idOf(row));
    if (more > 0) items.push({ gap: { count: isKnown ? more : null } });
    this.#items = [...items, ...this.#items];
    this.#rows += fresh.length;
    this.count += fresh.length + (isKnown ? more : 0);
    if (this.#rows > ROWS_MAX) this.#letGo();
  }

  /** Where events may be missing, and nobody knows how many. */
  addBreak() {
    this.#items.unshift({ gap: { count: null } });
  }

  /** Hand out all, newest first. */
  take() {
    const items = this.#items;
    this.clear();
    return items;
  }

  clear() {
    this.#items = [];
    this.#ids.clear();
    this.#rows = 0;
    this.count = 0;
  }

  get isEmpty() {
    return this.#items.length === 0;
  }

  /** The oldest become part of a gap, which says how many they are. */
  #letGo() {
    let gone = 0;
    let unknown = false;
    while (this.#rows > ROWS_MAX || this.#items.at(-1)?.gap !== undefined) {
      const item = this.#items.pop();
      if (item.row !== undefined) {
        this.#rows -= 1;
        this.#ids.delete(idOf(item.row));
        gone += 1;
      } else if (item.gap.count === null) unknown = true;
      else gone += item.gap.count;
    }
    this.#items.push({ gap: { count: unknown ? null : gone } });
  }
}
