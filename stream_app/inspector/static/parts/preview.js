/** Preview of an expression on an event; nothing is sent. */

import { post } from "../lib/api.js";
import { announce, copyButton, el, fill, visible } from "../lib/dom.js";
import { duration } from "../lib/format.js";
import { outcome } from "./outcomes.js";
import { folded } from "./receipt.js";
import { rawText, treeOrText } from "./tree.js";

/** Limit of /api/try. */
const EVENT_BYTES_MAX = 1024 * 1024;

let previewsCount = 0;

/** Form of the preview: `payload` is the first expression, `event` a `partition@offset` or "". */
export function previewForm({ payload, event = "", signal }) {
  const id = `preview-${(previewsCount += 1)}`;
  const expression = el("textarea", {
    id: `${id}-expression`,
    class: "code",
    rows: Math.min(24, Math.max(10, (payload ?? "").trim().split("\n").length)),
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
    { class: "preview-field" },
    el("label", { for: position.id }, "partition@offset"),
    position,
  );
  const textField = el(
    "div",
    { class: "preview-field", hidden: true },
    el("label", { for: pasted.id }, "The event as JSON"),
    pasted,
  );
  const result = el("div", { class: "preview-result", "aria-live": "polite", tabindex: "-1" });
  const button = el("button", { type: "submit", class: "primary" }, "Try");
  const showFields = () => {
    positionField.hidden = !byPosition.input.checked;
    textField.hidden = byPosition.input.checked;
  };
  byPosition.input.addEventListener("change", showFields);
  byText.input.addEventListener("change", showFields);
  const submit = async (submitted) => {
    submitted?.preventDefault();
    const request = requestOf({
      expression: expression.value,
      position: byPosition.input.checked ? position.value : null,
      text: pasted.value,
    });
    if (typeof request === "string") {
      fill(result, el("p", { class: "error-text" }, request));
      return;
    }
    button.disabled = true;
    try {
      const preview = await post("/api/try", request, { signal });
      fill(result, resultContent(preview));
      if (submitted !== null) result.scrollIntoView({ block: "nearest" });
      announce(`Preview: ${OUTCOME_TEXTS[preview.outcome] ?? preview.outcome}`);
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
      class: "preview",
      on: {
        submit,
        keydown: ({ key, ctrlKey, metaKey }) => {
          if (key === "Enter" && (ctrlKey || metaKey)) form.requestSubmit();
        },
      },
    },
    el(
      "div",
      { class: "preview-field editor" },
      el(
        "label",
        { for: expression.id },
        "JavaScript expression: ",
        el("code", {}, "$event"),
        " is the event; ",
        el("code", {}, "undefined"),
        " skips it",
      ),
      expression,
    ),
    el("h3", { class: "preview-title" }, "Preview"),
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
      { class: "preview-buttons" },
      button,
      el("span", { class: "note" }, "Ctrl + Enter. Nothing is sent or changed."),
    ),
    result,
  );
  if (event !== "") submit(null);
  return form;
}

function radio(name, label, checked) {
  const input = el("input", { type: "radio", name, checked });
  return { input, node: el("label", { class: "choice" }, input, label) };
}

/** The request body, or the text of a mistake. */
function requestOf({ expression, position, text }) {
  if (expression.trim() === "") return "Enter an expression, for example $event.body";
  if (position === null) {
    if (text.trim() === "") return "Paste an event as JSON";
    if (new Blob([text]).size > EVENT_BYTES_MAX)
      return "The event exceeds 1 MiB: enter its partition@offset instead";
    return { expression, event: text };
  }
  const match = /^(\d+)@(\d+)$/.exec(position.trim());
  if (match === null) return "Enter partition@offset of an event, for example 0@42";
  return { expression, partition: Number(match[1]), offset: Number(match[2]) };
}

const OUTCOME_TEXTS = {
  delivered: "would be delivered",
  skipped: "would be skipped",
  failed: "would fail",
};

const PATHS = {
  fast: "copied from the bytes of the event",
  engine: "evaluated by the JavaScript engine",
};

function previewOutcome(name) {
  const node = outcome(name);
  node.lastChild.textContent = OUTCOME_TEXTS[name] ?? name;
  return node;
}

function resultContent(preview) {
  const facts = [
    PATHS[preview.path] ?? preview.path,
    preview.microseconds === null || preview.microseconds === undefined
      ? null
      : duration(preview.microseconds / 1e6),
  ];
  return [
    el(
      "div",
      { class: "sent-head" },
      previewOutcome(preview.outcome),
      el("span", { class: "note" }, facts.filter(Boolean).join(", ")),
      preview.line === null
        ? null
        : copyButton("Copy", preview.line, { noun: "the line", small: true }),
    ),
    preview.error ? el("p", { class: "error-text" }, visible(preview.error)) : null,
    preview.place ? el("pre", { class: "raw place" }, preview.place) : null,
    preview.outcome === "skipped"
      ? el("p", { class: "note" }, "The expression returned undefined, or the record has no value: the event would be skipped.")
      : null,
    preview.line === null ? null : rawText(preview.line, { label: "The line" }),
    preview.line === null
      ? null
      : folded("As a tree", () =>
          treeOrText(preview.line, { rootPath: "line", label: "The line as a tree" }),
        ),
  ];
}
