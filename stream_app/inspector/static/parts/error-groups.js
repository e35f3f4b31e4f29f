/** Errors grouped by their text: how many events have each, the first and the last of them. */

import { get } from "../lib/api.js";
import { el, fill, visible } from "../lib/dom.js";
import { clock, number, utc } from "../lib/format.js";
import { destinationPath, folded } from "./receipt.js";

/** Groups that are shown at first. */
const SHOWN_MAX = 5;

/** Table of groups as /api/errors has them. */
export function errorTable(groups, { destinations = false } = {}) {
  const shown = groups.slice(0, SHOWN_MAX);
  const rest = groups.slice(SHOWN_MAX);
  return [
    tableOf(shown, destinations),
    rest.length === 0
      ? null
      : folded(`${number(rest.length)} more`, () => tableOf(rest, destinations)),
  ];
}

function tableOf(groups, destinations) {
  return el(
    "ul",
    { class: "error-groups" },
    groups.map((it) =>
      el(
        "li",
        {},
        el("span", { class: "error-count" }, number(it.count)),
        el(
          "span",
          { class: "error-what" },
          el("span", { class: "error-text" }, visible(it.text)),
          destinations
            ? el(
                "span",
                { class: "under" },
                it.destinations.map((id, index) => [
                  index === 0 ? null : ", ",
                  el("a", { href: destinationPath(id) }, visible(id)),
                ]),
                it.more_destinations > 0 ? ` and ${number(it.more_destinations)} more` : null,
              )
            : null,
        ),
        el(
          "span",
          { class: "error-when" },
          eventLink("first", it.first),
          " ",
          eventLink("last", it.last),
        ),
      ),
    ),
  );
}

function eventLink(name, { window_start: start, partition, offset }) {
  return el(
    "a",
    {
      href: `/events/${Number(partition)}/${Number(offset)}`,
      title: `${name}: ${partition}@${offset}, window of ${utc(start)}`,
    },
    `${name} ${clock(start, { milliseconds: false })}`,
  );
}

/** Panel above the event list: the errors of the events that its filter is for. */
export class ErrorGroups {
  #shownFor = "";
  node = el("section", { class: "errors-part", "aria-label": "Errors", hidden: true });

  /** Show the errors of a query, if it asks for failed or retrying events. */
  async show({ outcome, destination }) {
    const wanted = ["failed", "retrying"].includes(outcome) ? `${outcome} ${destination}` : "";
    this.#shownFor = wanted;
    if (wanted === "") {
      this.node.hidden = true;
      return;
    }
    let errors;
    try {
      ({ errors } = await get("/api/errors", { outcome, destination }));
    } catch (error) {
      if (error.status === undefined) throw error;
      // A banner shows the error.
      return;
    }
    if (this.#shownFor !== wanted) return;
    this.node.hidden = errors.length === 0;
    fill(
      this.node,
      el("h2", {}, "Errors by text, in the receipts in memory"),
      errorTable(errors, { destinations: destination === "" }),
    );
  }
}
