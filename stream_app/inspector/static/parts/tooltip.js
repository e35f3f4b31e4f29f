/** The tooltip of the hovered or focused element; one on the page. */

import { fill } from "../lib/dom.js";

const SHOW_AFTER_MILLISECONDS = 120;
const HIDE_AFTER_MILLISECONDS = 150;

let timer = 0;
let shownFor = null;

const box = () => document.getElementById("tooltip");

/**
 * Add tooltips to the elements of `container` that match `selector`:
 * `build(target)` returns `{at, content}`, or null.
 */
export function tooltipFor(container, selector, build) {
  const over = (event) => {
    const target = event.target.closest(selector);
    if (target === null || !container.contains(target)) return;
    if (event.type === "pointerover" && target.matches(".row-link")) return;
    later(
      () => show(target, build(target)),
      event.type === "focusin" ? 0 : SHOW_AFTER_MILLISECONDS,
    );
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

function later(action, milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(action, milliseconds);
}

function show(target, tooltip) {
  if (tooltip === null || !target.isConnected) return;
  const node = box();
  fill(node, tooltip.content);
  node.hidden = false;
  shownFor = target;
  const anchor = tooltip.at.getBoundingClientRect();
  const { width, height } = node.getBoundingClientRect();
  const left = Math.max(8, Math.min(anchor.left, document.documentElement.clientWidth - width - 8));
  const below = anchor.bottom + 6;
  node.style.left = `${left}px`;
  node.style.top = `${below + height < innerHeight ? below : Math.max(8, anchor.top - height - 6)}px`;
}

/** Hide the tooltip; return whether one was shown. */
export function hide() {
  clearTimeout(timer);
  const wasShown = shownFor !== null;
  shownFor = null;
  box().hidden = true;
  return wasShown;
}

/** Keep the tooltip while the pointer is on it (WCAG 1.4.13). */
export function keepWhileHovered() {
  box().addEventListener("pointerenter", () => clearTimeout(timer));
  box().addEventListener("pointerleave", () => later(hide, HIDE_AFTER_MILLISECONDS));
  addEventListener("scroll", hide, { passive: true });
}
