/** An expression tried on an event; nothing is sent anywhere. */

import { post } from "./api.js";
import { announce, copyButton, el, fill, visible } from "./dom.js";
import { duration } from "./format.js";
import { outcome } from "./outcomes.js";
import { folded } from "./receipt.js";
import { rawText, treeOrWords } from "./tree.js";

/** What /api/try takes. */
const EVENT_BYTES_MAX = 1024 * 1024;

let made = 0;

/** The box: `payload` is the destination's expression, `event` a `partition@offset` to begin with. */
export function tryBox({ payload, event = "", signal }) {
  const id = `try-${(made += 1)}`;
  const expression = el("textarea", {
    id: `${id}-expression`,
    class: "code",
    rows: Math.min(12, Math.max(3, (payload ?? "").trim().split("\n").length)),
    spellcheck: "false",
    autocapitalize: "off",
    value: payload?.trim() ?? "$event",
  });
  const position = el("input", {
    type: "text",
    id: `${id}-position`,
    placeholder: "0@42",
    value: event,
    autocomplete: "off",
    spellcheck: "false",
  });
  const pasted = el("textarea", {
    id: `${id}-json`,
    class: "code",
    rows: 5,
    spellcheck: "false",
    autocapitalize: "off",
    placeholder: '{"id": 7}',
  });
  const byPosition = radio(id, "An event of the topic", true);
  const byText = radio(id, "JSON", false);
  const positionField = el(
    "div",
    { class: "try-field" },
    el("label", { for: position.id }, "partition@offset"),
    position,
  );
  const textField = el(
    "div",
    { class: "try-field", hidden: true },
    el("label", { for: pasted.id }, "The event as JSON"),
    pasted,
  );
  const result = el("div", { class: "try-result", "aria-live": "polite" });
  const button = el("button", { type: "submit", class: "primary" }, "Try");
  const choose = () => {
    positionField.hidden = !byPosition.input.checked;
    textField.hidden = byPosition.input.checked;
  };
  byPosition.input.addEventListener("change", choose);
  byText.input.addEventListener("change", choose);
  const attempt = async (submitted) => {
    submitted.preventDefault();
    const asked = question({
      expression: expression.value,
      position: byPosition.input.checked ? position.value : null,
      text: pasted.value,
    });
    if (typeof asked === "string") {
      fill(result, el("p", { class: "error-text" }, asked));
      return;
    }
    button.disabled = true;
    try {
      const answer = await post("/api/try", asked, { signal });
      fill(result, resultContent(answer));
      announce(`The expression: ${answer.outcome}`);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === undefined) throw error;
      fill(result, el("p", { class: "error-text" }, visible(error.message)));
    } finally {
      button.disabled = false;
    }
  };
  const form = el(
    "form",
    {
      class: "try",
      on: {
        submit: attempt,
        keydown: (pressed) => {
          if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) form.requestSubmit();
        },
      },
    },
    el(
      "div",
      { class: "try-field" },
      el(
        "label",
        { for: expression.id },
        "JavaScript over ",
        el("code", {}, "$event"),
        "; ",
        el("code", {}, "undefined"),
        " skips",
      ),
      expression,
    ),
    el(
      "fieldset",
      { class: "choices" },
      el("legend", {}, "Try it on"),
      byPosition.node,
      byText.node,
    ),
    positionField,
    textField,
    el(
      "div",
      { class: "try-buttons" },
      button,
      el("span", { class: "note" }, "Ctrl + Enter. Nothing is sent or changed."),
    ),
    result,
  );
  return form;
}

function radio(name, words, checked) {
  const input = el("input", { type: "radio", name, checked });
  return { input, node: el("label", { class: "choice" }, input, words) };
}

/** What to ask, or the words why nothing can be asked. */
function question({ expression, position, text }) {
  if (expression.trim() === "") return "Write an expression, for example $event.body";
  if (position === null) {
    if (text.trim() === "") return "Paste an event as JSON";
    if (new Blob([text]).size > EVENT_BYTES_MAX)
      return "The event is longer than 1 MiB: try it by its partition@offset";
    return { expression, event: text };
  }
  const found = /^(\d+)@(\d+)$/.exec(position.trim());
  if (found === null) return "Name the event as partition@offset, for example 0@42";
  return { expression, partition: Number(found[1]), offset: Number(found[2]) };
}

const PATHS = {
  fast: "cut out of the event's own bytes",
  engine: "computed by the JavaScript engine",
};

function resultContent(answer) {
  const facts = [
    PATHS[answer.path] ?? answer.path,
    answer.microseconds === null || answer.microseconds === undefined
      ? null
      : duration(answer.microseconds / 1e6),
  ];
  return [
    el(
      "div",
      { class: "sent-head" },
      outcome(answer.outcome),
      el("span", { class: "note" }, facts.filter(Boolean).join(", ")),
      answer.line === null
        ? null
        : copyButton("Copy", answer.line, { what: "the line", small: true }),
    ),
    answer.error ? el("p", { class: "error-text" }, visible(answer.error)) : null,
    answer.place ? el("pre", { class: "raw place" }, answer.place) : null,
    answer.outcome === "skipped"
      ? el("p", { class: "note" }, "The expression gave undefined: the event is not sent there.")
      : null,
    answer.line === null ? null : rawText(answer.line, { label: "The line" }),
    answer.line === null
      ? null
      : folded("As a tree", () =>
          treeOrWords(answer.line, { rootPath: "line", label: "The line as a tree" }),
        ),
  ];
}
