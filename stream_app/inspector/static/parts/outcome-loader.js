/** Loader of outcomes: requests them for rows that receipts cover, and updates the rows. */

import { post } from "../lib/api.js";

/** Limit of /api/outcomes. */
const EVENTS_PER_REQUEST_MAX = 500;

/** Pause between two requests. */
const PAUSE_MILLISECONDS = 250;

/** Loads outcomes of rows of `list`, one request at a time, while `isWanted()`. */
export class OutcomeLoader {
  #ids = new Set();
  #isLoading = false;

  constructor(list, isWanted) {
    this.list = list;
    this.isWanted = isWanted;
  }

  /** Queue the rows with these ids. */
  load(ids) {
    for (const id of ids) this.#ids.add(id);
    if (this.#ids.size > 0 && !this.#isLoading) this.#run();
  }

  clear() {
    this.#ids.clear();
  }

  async #run() {
    this.#isLoading = true;
    try {
      while (this.#ids.size > 0 && this.isWanted()) {
        const ids = [...this.#ids].slice(0, EVENTS_PER_REQUEST_MAX);
        for (const id of ids) this.#ids.delete(id);
        const rows = this.list.rowsOf(ids);
        if (rows.length === 0) continue;
        const response = await post("/api/outcomes", { events: rows.map(keyOf) });
        for (const { partition, offset, dest } of response.outcomes) {
          this.list.update(`${partition}@${offset}`, dest);
        }
        await new Promise((done) => setTimeout(done, PAUSE_MILLISECONDS));
      }
    } catch (error) {
      if (error.status === undefined) throw error;
      // A banner shows the error; all rows that can change are loaded again after reconnection.
    } finally {
      this.#isLoading = false;
    }
  }
}

/** The fields of a row that /api/outcomes takes. */
export function keyOf({ partition, offset, pipeline, key_base64, time }) {
  return { partition, offset, pipeline, key_base64, time };
}
