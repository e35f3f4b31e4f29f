/** An event beside the list, on screens that have room for both. */

import { el, fill } from "../lib/dom.js";
import { EventView } from "./event.js";

const ROOM = "(min-width: 1400px)";

/** Panel with the page of one event; `onClose(id)` is called when the reader closes it. */
export class SidePanel {
  #view = null;
  /** `partition@offset` of the event, or null. */
  id = null;
  node = el("aside", { class: "side", "aria-label": "Event", tabindex: "-1", hidden: true });

  constructor(context, { onClose }) {
    // The page is still that of the list.
    this.context = { ...context, showTitle() {} };
    this.onClose = onClose;
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.node.hidden || event.defaultPrevented) return;
      if (event.target.matches("input, select, textarea")) return;
      event.preventDefault();
      this.#close();
    });
  }

  /** Whether the screen has room for the panel. */
  static get hasRoom() {
    return matchMedia(ROOM).matches;
  }

  /** Show an event. */
  open(id) {
    const [partition, offset] = id.split("@").map(Number);
    if (!Number.isSafeInteger(partition) || !Number.isSafeInteger(offset)) return;
    this.#view?.leave();
    this.id = id;
    this.#view = new EventView(this.context, { partition, offset });
    fill(
      this.node,
      el(
        "div",
        { class: "side-tools" },
        el("a", { href: `/events/${partition}/${offset}` }, "Open the page"),
        el(
          "button",
          { type: "button", class: "quiet", on: { click: () => this.#close() } },
          "Close",
        ),
      ),
      this.#view.node,
    );
    this.node.hidden = false;
    this.node.scrollTop = 0;
    this.#view.enter();
  }

  /** Stop loading; the panel is shown again by `open`. */
  leave() {
    this.#view?.leave();
    this.#view = null;
    this.id = null;
    this.node.hidden = true;
  }

  #close() {
    const { id } = this;
    this.leave();
    this.onClose(id);
  }
}
