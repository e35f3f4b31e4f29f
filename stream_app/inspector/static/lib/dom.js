/**
 * Elements, out of text and nothing else.
 *
 * What an event holds reaches the page only through here: as text nodes and attribute values, never
 * as markup, script, style or the target of a link.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Attributes through which a text could become more than a text. */
const FORBIDDEN = /^(on|style$|srcdoc$|innerhtml$|outerhtml$|formaction$)/i;

/** Where a link may lead: a page of the Inspector, or a place on this one. `/\` would be another host. */
const TARGET = /^(#|\/(?![/\\]))/;

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "selected"]);

/**
 * Make an element: `el("a", {class: "row", href: "/", on: {click: f}}, "text", other)`.
 *
 * `null`, `undefined` and `false` leave an attribute or a child out.
 */
export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) set(node, name, value);
  node.append(...kept(children));
  return node;
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) set(node, name, value);
  node.append(...kept(children));
  return node;
}

/** A mark or an icon of index.html's sprite; decoration, since words always stand beside it. */
export function icon(name, className = "icon") {
  return svg(
    "svg",
    { class: className, "aria-hidden": "true", focusable: "false" },
    svg("use", { href: `#${name}` }),
  );
}

function kept(children) {
  return children
    .flat(2)
    .filter((child) => child !== null && child !== undefined && child !== false);
}

function set(node, name, value) {
  if (name === "on") {
    for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
    return;
  }
  if (value === null || value === undefined || value === false) return;
  if (FORBIDDEN.test(name)) throw new TypeError(`attribute ${name} is not for the page to set`);
  if (name === "href" && !TARGET.test(value)) throw new TypeError(`no link may lead to ${value}`);
  if (PROPERTIES.has(name)) node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Replace what a node holds. */
export function fill(node, ...children) {
  node.replaceChildren(...kept(children));
  return node;
}

/** Text for screen readers only. */
export function unseen(text) {
  return el("span", { class: "unseen" }, text);
}

/**
 * Characters that would not be seen, or would turn what is seen around: control and format
 * characters, halves of surrogate pairs, line and paragraph separators. Joiners within an emoji stay.
 */
const HIDDEN =
  /(?!(?<=[\p{Extended_Pictographic}\ufe0f])\u200d(?=\p{Extended_Pictographic}))[\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]|[\x00-\x08\x0b-\x1f\x7f-\x9f]/gu;
const LINES = /[\n\t]/g;

/** `text` with every hidden character written as `\u202e`; newlines and tabs stay. */
export function visibleBlock(text) {
  return text.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** The same for one line: newlines and tabs are written out too. */
export function visible(text) {
  return visibleBlock(text).replace(LINES, (character) => (character === "\n" ? "\\n" : "\\t"));
}

let statusTimer = 0;

/** Say something once to screen readers, politely. */
export function announce(text) {
  const status = document.getElementById("status");
  status.textContent = "";
  clearTimeout(statusTimer);
  // A text that is set at once after another may be swallowed, and the same text said twice is no change.
  statusTimer = setTimeout(() => {
    status.textContent = text;
  }, 60);
}

/** Put exactly `text` on the clipboard. */
export async function copy(text) {
  try {
    // Only there on https and on loopback.
    if (!navigator.clipboard) throw new Error("no clipboard here");
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const area = el("textarea", {
    class: "offscreen",
    "aria-hidden": "true",
    tabindex: "-1",
    value: text,
  });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus?.({ preventScroll: true });
  return copied;
}

/** A button that copies what `text()` gives; it says so on itself and to screen readers. */
export function copyButton(label, text, { what = "", small = false } = {}) {
  const words = el("span", {}, label);
  const button = el(
    "button",
    {
      type: "button",
      class: small ? "copy small" : "copy",
      "aria-label": what === "" ? null : `${label} ${what}`,
      on: {
        click: async (event) => {
          event.stopPropagation();
          const copied = await copy(typeof text === "function" ? text() : text);
          words.textContent = copied ? "Copied" : "Not copied";
          announce(copied ? `Copied ${what}`.trim() : "The browser does not let the page copy");
          setTimeout(() => {
            words.textContent = label;
          }, 1500);
        },
      },
    },
    icon("icon-copy"),
    words,
  );
  return button;
}

/** Terms and what they are; pairs whose second is null are left out. */
export function terms(pairs, className = "terms") {
  return el(
    "dl",
    { class: className },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== false)
      .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
  );
}

let tabsMade = 0;

/** Tabs as WAI-ARIA has them; each panel is made when it is first shown: `[["Tree", () => node], …]`. */
export function tabs(label, entries, { extra = null } = {}) {
  const id = `tabs-${(tabsMade += 1)}`;
  const panels = entries.map(([, make], at) => ({ make, made: false, node: panel(id, at) }));
  const buttons = entries.map(([name], at) =>
    el(
      "button",
      {
        type: "button",
        role: "tab",
        id: `${id}-tab-${at}`,
        "aria-controls": `${id}-panel-${at}`,
        on: { click: () => choose(at) },
      },
      name,
    ),
  );
  function choose(chosen) {
    panels.forEach((it, at) => {
      it.node.hidden = at !== chosen;
      buttons[at].setAttribute("aria-selected", String(at === chosen));
      buttons[at].tabIndex = at === chosen ? 0 : -1;
      if (at === chosen && !it.made) {
        it.made = true;
        fill(it.node, it.make());
      }
    });
  }
  const list = el("div", { role: "tablist", class: "tabs", "aria-label": label }, buttons);
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const next = (at + step + buttons.length) % buttons.length;
    choose(next);
    buttons[next].focus();
  });
  choose(0);
  return el(
    "div",
    { class: "tabbed" },
    el("div", { class: "tabs-bar" }, list, extra),
    panels.map((it) => it.node),
  );
}

function panel(id, at) {
  return el("div", {
    role: "tabpanel",
    id: `${id}-panel-${at}`,
    "aria-labelledby": `${id}-tab-${at}`,
  });
}
