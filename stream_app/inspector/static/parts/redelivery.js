/** Redelivery of one destination: the command to copy, and, where it is allowed, a button to run it. */

import { get, post } from "../lib/api.js";
import { announce, copyButton, el, fill, visible } from "../lib/dom.js";
import { time } from "../lib/format.js";

const POLL_MILLISECONDS = 1_000;

/** Commands and the latest run of a destination; `onEnd()` is called after a run. */
export class RedeliveryPart {
  #timer = 0;
  #isAllowed = false;
  #asked = "";
  node = el("section", { class: "panel run", "aria-label": "Redelivery", hidden: true });

  constructor(id, { signal, onEnd }) {
    this.id = id;
    this.signal = signal;
    this.onEnd = onEnd;
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  /** Load whether runs are allowed, and the latest one. */
  async load() {
    this.#show(await get("/api/redelivery", {}, { signal: this.signal }));
  }

  /** The command as text, with its buttons. */
  command(text, { failedEvents }) {
    const run = () => this.#run(failedEvents);
    return el(
      "div",
      { class: "command" },
      el("code", {}, visible(text)),
      el(
        "span",
        { class: "command-tools" },
        copyButton("Copy", text, { noun: "the command", small: true }),
        this.#isAllowed ? this.#button(String(failedEvents), run) : null,
      ),
    );
  }

  /** Button that runs the command when it is pressed a second time. */
  #button(name, run) {
    const label = () => (this.#asked === name ? "Press again to run it" : "Run it here");
    const button = el("button", { type: "button", class: "quiet" }, label());
    button.addEventListener("click", () => {
      if (this.#asked === name) {
        this.#asked = "";
        run();
      } else this.#asked = name;
      button.textContent = label();
    });
    return button;
  }

  async #run(failedEvents) {
    const path = `/api/destinations/${encodeURIComponent(this.id)}/redeliver`;
    try {
      this.#show(await post(path, { failed_events: failedEvents }, { signal: this.signal }));
      announce("The redelivery has started");
    } catch (error) {
      if (this.signal.aborted) return;
      if (error.status === undefined) throw error;
      this.node.hidden = false;
      fill(this.node, el("p", { class: "error-text" }, visible(error.message)));
    }
  }

  #show({ allowed, run }) {
    this.#isAllowed = allowed;
    if (run === null || run.destination !== this.id) return;
    this.node.hidden = false;
    const isRunning = run.ended_at === null;
    fill(
      this.node,
      el(
        "h2",
        {},
        isRunning
          ? "Redelivery runs"
          : run.status === 0
            ? "Redelivery is done"
            : `Redelivery has ended with status ${Number(run.status)}`,
      ),
      el("p", { class: "note" }, "Started ", time(run.started_at)),
      el(
        "pre",
        { class: "raw", tabindex: "0", role: "region", "aria-label": "Output of the command" },
        linesText(run.lines),
      ),
    );
    clearTimeout(this.#timer);
    if (isRunning) this.#timer = setTimeout(() => this.#poll(), POLL_MILLISECONDS);
  }

  async #poll() {
    try {
      const found = await get("/api/redelivery", {}, { signal: this.signal });
      this.#show(found);
      if (found.run?.ended_at) {
        announce("The redelivery has ended");
        this.onEnd();
      }
    } catch (error) {
      if (this.signal.aborted) return;
      if (error.status === undefined) throw error;
      // A banner shows the error.
      this.#timer = setTimeout(() => this.#poll(), POLL_MILLISECONDS);
    }
  }
}

const linesText = (lines) => (lines.length === 0 ? "…" : lines.map(visible).join("\n"));
