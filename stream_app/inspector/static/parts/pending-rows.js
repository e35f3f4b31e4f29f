/** Rows received but not shown yet: while paused, scrolled down, or hovered. */

import { ROWS_MAX, idOf } from "./rows.js";

/** Queue of rows, newest first and bounded; `count` includes dropped rows. */
export class PendingRows {
  #items = [];
  #ids = new Set();
  #rows = 0;
  count = 0;

  /** Add the rows of a message; `more` counts further events, if `isKnown`. */
  add(rows, more, { isKnown = true } = {}) {
    // After a reconnection a row can come both by a request and by the stream.
    const fresh = rows.filter((row) => !this.#ids.has(idOf(row)));
    const items = fresh.map((row) => ({ row }));
    for (const row of fresh) this.#ids.add(idOf(row));
    if (more > 0) items.push({ gap: { count: isKnown ? more : null } });
    this.#items = [...items, ...this.#items];
    this.#rows += fresh.length;
    this.count += fresh.length + (isKnown ? more : 0);
    if (this.#rows > ROWS_MAX) this.#drop();
  }

  /** Add a gap: an unknown number of events may be missing. */
  addGap() {
    this.#items.unshift({ gap: { count: null } });
  }

  /** Remove and return all items, newest first. */
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

  /** Replace the oldest rows by a gap with their count. */
  #drop() {
    let dropped = 0;
    let isUnknown = false;
    while (this.#rows > ROWS_MAX || this.#items.at(-1)?.gap !== undefined) {
      const item = this.#items.pop();
      if (item.row !== undefined) {
        this.#rows -= 1;
        this.#ids.delete(idOf(item.row));
        dropped += 1;
      } else if (item.gap.count === null) isUnknown = true;
      else dropped += item.gap.count;
    }
    this.#items.push({ gap: { count: isUnknown ? null : dropped } });
  }
}
