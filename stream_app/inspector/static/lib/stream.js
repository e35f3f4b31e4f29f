/** The live stream, opened again with growing patience when it breaks. */

import { queryText } from "./api.js";

const BACKOFF_SECONDS_FIRST = 1;
const BACKOFF_SECONDS_MAX = 30;

/** A ping comes every 15 s; without anything for so long the connection is dead, whatever TCP says. */
const SILENCE_SECONDS_MAX = 40;

/**
 * Server-sent events of /api/live.
 *
 * `on.rows`, `on.receipts`, `on.behind` and `on.kafka` are handed a message's content, `on.open(again)` is called
 * at each connection, `on.broken(seconds)` when the next try is so far away.
 */
export class Stream {
  #source = null;
  #timer = 0;
  #silence = 0;
  #failures = 0;
  #opened = false;

  constructor(query, on) {
    this.query = query;
    this.on = on;
    this.#connect();
  }

  /** For good. */
  close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
    this.on = {};
  }

  /** Try now instead of later. */
  retry() {
    if (this.#source === null) {
      clearTimeout(this.#timer);
      this.#connect();
    }
  }

  #connect() {
    const source = new EventSource(`/api/live${queryText(this.query)}`);
    this.#source = source;
    this.#listen();
    source.addEventListener("open", () => {
      this.#failures = 0;
      this.#listen();
      this.on.open?.(this.#opened);
      this.#opened = true;
    });
    source.addEventListener("error", () => this.#broken(source));
    source.addEventListener("ping", () => this.#listen());
    for (const type of ["rows", "receipts", "behind", "kafka"]) {
      source.addEventListener(type, (event) => {
        this.#listen();
        this.on[type]?.(JSON.parse(event.data));
      });
    }
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#broken(this.#source), SILENCE_SECONDS_MAX * 1000);
  }

  #broken(source) {
    if (source === null || source !== this.#source) return;
    // The browser's own second try has no back-off and tells nobody.
    source.close();
    clearTimeout(this.#silence);
    this.#source = null;
    const most = Math.min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2 ** this.#failures);
    const seconds = most * (0.75 + Math.random() / 4);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), seconds * 1000);
    this.on.broken?.(seconds);
  }
}
