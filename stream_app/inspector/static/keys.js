/** Keys for the whole page, and the box that tells of them. */

import { el } from "./dom.js";
import { remember, remembered } from "./storage.js";

const KEYS = [
  ["/", "Search"],
  ["p", "Pause, resume"],
  ["e", "Events"],
  ["d", "Destinations"],
  ["t", "Light, dark, or as the system"],
  ["↑ ↓ Home End", "Move among rows, and in a tree"],
  ["Enter", "Open a row or a node"],
  ["→ ← *", "In a tree: open, close, open all beside it"],
  ["c", "In a tree: copy the path"],
  ["?", "This box"],
  ["Esc", "Close, leave a box"],
];

const STORED = "stream-app-keys";

/** Single keys can be in the way of speech input: who needs it switches them off. */
export const keysAreOn = () => remembered(STORED) !== "off";

/** The box, made once. */
export function keysBox() {
  const box = el("input", {
    type: "checkbox",
    checked: keysAreOn(),
    on: { change: () => remember(STORED, box.checked ? "on" : "off") },
  });
  const dialog = el(
    "dialog",
    { class: "keys", "aria-labelledby": "keys-title" },
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: "keys-title" }, "Keys"),
      el(
        "dl",
        {},
        KEYS.map(([key, words]) =>
          el(
            "div",
            {},
            el(
              "dt",
              {},
              key.split(" ").map((it) => el("kbd", {}, it)),
            ),
            el("dd", {}, words),
          ),
        ),
      ),
      el("label", { class: "choice" }, box, "Single keys are on"),
      el("button", { type: "submit", class: "primary" }, "Close"),
    ),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
