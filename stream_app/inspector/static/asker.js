/** Asks what became of rows that receipts spoke of, and shows it in their place. */

import { post } from "./api.js";

/** The bound of /api/outcomes. */
const EVENTS_AT_ONCE = 500;

/** Between two questions. */
const REST_MILLISECONDS = 250;

/** Asks about rows of `list`, one question at a time, while `isWanted()`. */
export class Asker {
  #ids = new Set();
  #isAsking = false;

  constructor(list, isWanted) {
    this.list = list;
    this.isWanted = isWanted;
  }

  /** Ask about the rows with these ids, soon. */
  about(ids) {
    for (const id of ids) this.#ids.add(id);
    if (this.#ids.size > 0 && !this.#isAsking) this.#ask();
  }

  clear() {
    this.#ids.clear();
  }

  async #ask() {
    this.#isAsking = true;
    try {
      while (this.#ids.size > 0 && this.isWanted()) {
        const ids = [...this.#ids].slice(0, EVENTS_AT_ONCE);
        for (const id of ids) this.#ids.delete(id);
        const rows = this.list.rowsOf(ids);
        if (rows.length === 0) continue;
        const answer = await post("/api/outcomes", { events: rows.map(named) });
        for (const { partition, offset, dest } of answer.outcomes) {
          this.list.update(`${partition}@${offset}`, dest);
        }
        await new Promise((done) => setTimeout(done, REST_MILLISECONDS));
      }
    } catch (error) {
      if (error.status === undefined) throw error;
      // The banner says it; all that can change is asked about when the stream is back.
    } finally {
      this.#isAsking = false;
    }
  }
}

/** What /api/outcomes wants to know of a row. */
export function named({ partition, offset, pipeline, key_base64, time }) {
  return { partition, offset, pipeline, key_base64, time };
}
