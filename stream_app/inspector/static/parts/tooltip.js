/** One box of words for whatever is pointed at or has the focus. */

import { fill } from "./dom.js";

const SHOW_AFTER_MILLISECONDS = 120;
const HIDE_AFTER_MILLISECONDS = 150;

let timer = 0;
let shownFor = null;

const box = () => document.getElementById("tip");

/** Within `container`, what `selector` finds has a tip: `make(target)` gives `{at, content}` or null. */
export function tipFor(container, selector, make) {
  const over = (event) => {
    const target = event.target.closest(selector);
    if (target === null || !container.contains(target)) return;
    if (event.type === "pointerover" && target.matches(".row-link")) return;
    later(() => show(target, make(target)), event.type === "focusin" ? 0 : SHOW_AFTER_MILLISECONDS);
  };
  const out = (event) => {
    if (event.target.closest(selector) !== null) later(hide, HIDE_AFTER_MILLISECONDS);
  };
  container.addEventListener("pointerover", over);
  container.addEventListener("pointerout", out);
  container.addEventListener("focusin", (event) => {
    if (event.target.matches(":focus-visible")) over(event);
  });
  container.addEventListener("focusout", out);
}

function later(act, milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(act, milliseconds);
}

function show(target, tip) {
  if (tip === null || !target.isConnected) return;
  const node = box();
  fill(node, tip.content);
  node.hidden = false;
  shownFor = target;
  const anchor = tip.at.getBoundingClientRect();
  const { width, height } = node.getBoundingClientRect();
  const left = Math.max(8, Math.min(anchor.left, document.documentElement.clientWidth - width - 8));
  const below = anchor.bottom + 6;
  node.style.left = `${left}px`;
  node.style.top = `${below + height < innerHeight ? below : Math.max(8, anchor.top - height - 6)}px`;
}

/** Take the tip away; true when there was one. */
export function hide() {
  clearTimeout(timer);
  const was = shownFor !== null;
  shownFor = null;
  box().hidden = true;
  return was;
}

/** What is in the tip may be pointed at and read without its going away. */
export function keepWhilePointedAt() {
  box().addEventListener("pointerenter", () => clearTimeout(timer));
  box().addEventListener("pointerleave", () => later(hide, HIDE_AFTER_MILLISECONDS));
  addEventListener("scroll", hide, { passive: true });
}
