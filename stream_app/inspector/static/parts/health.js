/** Health strip of every page: whether anything is wrong, and the figures that say so. */

import { get } from "../lib/api.js";
import { el, fill, visible } from "../lib/dom.js";
import { ago, clock, count, number } from "../lib/format.js";
import { mark } from "./outcomes.js";
import { destinationPath } from "./receipt.js";

const REFRESH_SECONDS = 5;

/** Strip that refreshes itself; `onHealth(health)` gets every response. */
export class HealthStrip {
  #timer = 0;
  #isRunning = false;
  #verdict = el("a", { class: "verdict", href: "/destinations" });
  #vitals = el("ul", { class: "vitals" });
  #text = "";
  /** The latest response, or null. */
  latest = null;

  constructor(node, { onHealth, isWanted }) {
    this.node = node;
    this.onHealth = onHealth;
    this.isWanted = isWanted;
    fill(node, this.#verdict, this.#vitals);
  }

  /** Load now and from then on. */
  start() {
    if (!this.#isRunning) this.#load();
  }

  /** Show the times again, in another zone. */
  show() {
    if (this.latest === null) return;
    this.#text = "";
    this.#show(this.latest);
  }

  async #load() {
    clearTimeout(this.#timer);
    this.#isRunning = true;
    try {
      if (this.isWanted() && (!document.hidden || this.latest === null)) {
        this.latest = await get("/api/health");
        this.#show(this.latest);
        this.onHealth(this.latest);
      }
    } catch (error) {
      // A banner shows the error.
      if (error.status === undefined) throw error;
    } finally {
      this.#timer = setTimeout(() => this.#load(), REFRESH_SECONDS * 1000);
    }
  }

  #show(health) {
    const { state, text, href, cause } = verdictOf(health);
    const vitals = vitalsOf(health);
    const shown = JSON.stringify([state, text, href, cause, vitals]);
    // Content that is the same stays: it may have the focus.
    if (shown === this.#text) return;
    this.#text = shown;
    this.node.hidden = false;
    this.node.className = `health is-${state}`;
    this.#verdict.setAttribute("href", href);
    fill(
      this.#verdict,
      mark(MARKS[state]),
      el("strong", {}, visible(text)),
      cause === null ? null : el("span", { class: "verdict-cause" }, visible(cause)),
    );
    const focused = [...this.#vitals.children].findIndex((it) =>
      it.contains(document.activeElement),
    );
    fill(this.#vitals, vitals.map(vital));
    this.#vitals.children[focused]?.firstElementChild.focus({ preventScroll: true });
  }
}

const MARKS = { failing: "failed", warning: "retrying", well: "delivered", quiet: "quiet" };

/** Number of destinations whose events are not delivered. */
const failingCount = ({ failed = 0, retrying = 0, degraded = 0 }) => failed + retrying + degraded;

/** What is the worst, in one line. */
function verdictOf({ states, failing, destinations, unmatched, totals, ...health }) {
  const bad = failingCount(states);
  if (health.kafka !== null && health.kafka !== undefined)
    return { state: "failing", text: "Kafka cannot be read", href: "/", cause: health.kafka };
  if (bad > 0) {
    const [first] = failing;
    return {
      state: "failing",
      text: `${number(bad)} of ${count(destinations, "destination")} ${bad === 1 ? "fails" : "fail"}`,
      href: bad === 1 ? destinationPath(first.id) : "/destinations?state=failing",
      cause: first.cause === null ? first.id : `${first.id}: ${first.cause}`,
    };
  }
  const [mistake] = health.configuration_mistakes;
  if (mistake !== undefined)
    return {
      state: "failing",
      text: "The changed configuration is not taken",
      href: "/destinations",
      cause: mistake,
    };
  if (unmatched !== null && unmatched.events > 0)
    return {
      state: "warning",
      text: `${count(unmatched.events, "event")} without a destination`,
      href: "/?outcome=unmatched",
      cause: unmatched.note,
    };
  const hasTraffic = totals.events + totals.skipped > 0;
  return {
    state: hasTraffic ? "well" : "quiet",
    text: hasTraffic ? "All is delivered" : "Nothing was delivered in the last hour",
    href: "/destinations",
    cause: null,
  };
}

/** The figures: `{name, value, href, title, kind}`. */
function vitalsOf(health) {
  const { states, totals, unmatched, oldest_undelivered: oldest, refused } = health;
  const bad = failingCount(states);
  const mistakes = health.configuration_mistakes;
  return [
    {
      name: "Delivered/min",
      value: number(health.delivered_a_minute),
      title: "Events delivered in the newest minute with receipts",
      href: "/?outcome=delivered",
    },
    {
      name: "Failing",
      value: bad === 0 ? "none" : `${number(bad)} of ${number(health.destinations)}`,
      title: "Destinations whose events are not delivered",
      href: "/destinations?state=failing",
      kind: bad > 0 ? "failed" : null,
    },
    {
      name: "Failed/hour",
      value: totals.failed === 0 ? "none" : number(totals.failed),
      title: "Events that failed in the last hour",
      href: "/?outcome=failed",
      kind: totals.failed > 0 ? "failed" : null,
    },
    {
      name: "Oldest waiting",
      value: oldest === null ? "none" : ago(oldest.start, Date.parse(health.now)),
      title:
        oldest === null
          ? ""
          : `window of ${clock(oldest.start, { milliseconds: false })}, ${oldest.destination}`,
      href: oldest === null ? "/destinations" : destinationPath(oldest.destination),
      kind: oldest === null ? null : "retrying",
    },
    {
      name: "Unmatched",
      value:
        unmatched === null
          ? "unknown"
          : unmatched.events === 0
            ? "none"
            : `${number(unmatched.events)} of ${number(unmatched.examined)}`,
      title: unmatched?.note ?? "Events of the newest that no destination takes",
      href: "/?outcome=unmatched",
      kind: unmatched !== null && unmatched.events > 0 ? "retrying" : null,
    },
    {
      name: "Configuration",
      value:
        mistakes.length > 0
          ? "not taken"
          : `of ${clock(health.configuration_taken, { milliseconds: false })}`,
      title: mistakes[0] ?? `${count(health.destinations, "destination")}, taken at this time`,
      href: "/destinations",
      kind: mistakes.length > 0 ? "failed" : null,
    },
    {
      name: "Kafka",
      value: health.kafka ? "cannot be read" : "read",
      title: health.kafka ?? "",
      href: "/",
      kind: health.kafka ? "failed" : null,
    },
    {
      name: "S3",
      value: refused === 0 ? "takes all" : `fails for ${number(refused)}`,
      title: refused === 0 ? "No destination waits for S3" : count(refused, "destination"),
      href: refused === 0 ? "/destinations" : "/destinations?state=failing",
      kind: refused === 0 ? null : "failed",
    },
  ];
}

function vital({ name, value, href, title, kind }) {
  return el(
    "li",
    {},
    el(
      "a",
      { href, class: `vital${kind ? ` is-${kind}` : ""}`, title: title ? visible(title) : null },
      el("span", { class: "vital-name" }, name),
      " ",
      el("span", { class: "vital-value" }, visible(value)),
    ),
  );
}
