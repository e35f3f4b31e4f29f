/** Live stream of /api/live, reconnected with exponential back-off. */

import { queryText } from "./api.js";

const BACKOFF_SECONDS_FIRST = 1;
const BACKOFF_SECONDS_MAX = 30;

/** The server pings every 15 s: a silence of this length means a dead connection. */
const SILENCE_SECONDS_MAX = 40;

/**
 * Server-sent events of /api/live.
 *
 * `on.rows`, `on.receipts`, `on.behind` and `on.kafka` take the data of a message;
 * `on.open(isAgain)` follows each connection, `on.disconnected(seconds)` each loss, with the seconds
 * until the next attempt.
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

  /** Close the stream permanently. */
  close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
    this.on = {};
  }

  /** Reconnect now. */
  retry() {
    if (this.#source === null) {
      clearTimeout(this.#timer);
      this.#connect();
    }
  }

  #connect() {
    const source = new EventSource(`/api/live${queryText(this.query)}`);
    this.#source = source;
    this.#watchSilence();
    source.addEventListener("open", () => {
      this.#failures = 0;
      this.#watchSilence();
      this.on.open?.(this.#opened);
      this.#opened = true;
    });
    source.addEventListener("error", () => this.#disconnect(source));
    source.addEventListener("ping", () => this.#watchSilence());
    for (const type of ["rows", "receipts", "behind", "kafka"]) {
      source.addEventListener(type, (event) => {
        this.#watchSilence();
        this.on[type]?.(JSON.parse(event.data));
      });
    }
  }

  #watchSilence() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#disconnect(this.#source), SILENCE_SECONDS_MAX * 1000);
  }

  #disconnect(source) {
    if (source === null || source !== this.#source) return;
    // EventSource's own reconnection has no back-off and no event.
    source.close();
    clearTimeout(this.#silence);
    this.#source = null;
    const secondsMax = Math.min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2 ** this.#failures);
    const seconds = secondsMax * (0.75 + Math.random() / 4);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), seconds * 1000);
    this.on.disconnected?.(seconds);
  }
}
