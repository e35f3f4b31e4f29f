/** Keyboard shortcuts: the dialog that lists them, and the switch for single-key ones. */

import { el } from "../lib/dom.js";
import { remember, remembered } from "../lib/storage.js";

const SHORTCUTS = [
  ["/", "Search"],
  ["p", "Pause, resume"],
  ["e", "Events"],
  ["d", "Destinations"],
  ["z", "Switch the zone of times: UTC, local"],
  ["t", "Switch the theme: system, light, dark"],
  ["↑ ↓ Home End", "Move in a list or tree"],
  ["Enter", "Open a row or node"],
  ["→ ← *", "In a tree: expand, collapse, expand all siblings"],
  ["c", "In a tree: copy the path"],
  ["?", "Show this dialog"],
  ["Esc", "Close; leave an input"],
];

const STORED = "stream-app-shortcuts";

/** Whether single-key shortcuts are on; they can conflict with speech input (WCAG 2.1.4). */
export const shortcutsEnabled = () => remembered(STORED) !== "off";

/** The dialog; built once. */
export function shortcutsDialog() {
  const checkbox = el("input", {
    type: "checkbox",
    checked: shortcutsEnabled(),
    on: { change: () => remember(STORED, checkbox.checked ? "on" : "off") },
  });
  const dialog = el(
    "dialog",
    { class: "shortcuts", "aria-labelledby": "shortcuts-title" },
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: "shortcuts-title" }, "Keyboard shortcuts"),
      el(
        "dl",
        {},
        SHORTCUTS.map(([keys, action]) =>
          el(
            "div",
            {},
            el(
              "dt",
              {},
              keys.split(" ").map((key) => el("kbd", {}, key)),
            ),
            el("dd", {}, action),
          ),
        ),
      ),
      el("label", { class: "choice" }, checkbox, "Single-key shortcuts"),
      el("button", { type: "submit", class: "primary" }, "Close"),
    ),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
