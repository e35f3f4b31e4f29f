/**
 * DOM elements, built from text only.
 *
 * Data of events reaches the page through this module alone: as text nodes and attribute values,
 * never as markup, script, style or link target.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Attributes whose value the browser would execute or parse as markup. */
const FORBIDDEN = /^(on|style$|srcdoc$|innerhtml$|outerhtml$|formaction$)/i;

/** Allowed link targets: a page of the Inspector or an anchor. `/\` would be another host. */
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

/** Make an SVG element, with the arguments of `el`. */
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) set(node, name, value);
  node.append(...kept(children));
  return node;
}

/** Icon of the sprite in index.html; decoration, since a text always accompanies it. */
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
  if (FORBIDDEN.test(name)) throw new TypeError(`attribute ${name} must not be set`);
  if (name === "href" && !TARGET.test(value))
    throw new TypeError(`link target ${value} is not a page of the Inspector`);
  if (PROPERTIES.has(name)) node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Replace the children of a node. */
export function fill(node, ...children) {
  node.replaceChildren(...kept(children));
  return node;
}

/** Text for screen readers only. */
export function visuallyHidden(text) {
  return el("span", { class: "visually-hidden" }, text);
}

/**
 * Characters that are invisible or change the direction of text: control and format characters,
 * unpaired surrogates, line and paragraph separators. Joiners within an emoji stay.
 */
const HIDDEN =
  /(?!(?<=[\p{Extended_Pictographic}\ufe0f])\u200d(?=\p{Extended_Pictographic}))[\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]|[\x00-\x08\x0b-\x1f\x7f-\x9f]/gu;
const LINES = /[\n\t]/g;

/** Return `text` with every hidden character written as `\u202e`; newlines and tabs stay. */
export function visibleBlock(text) {
  return text.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** Return `text` as one line: hidden characters, newlines and tabs written as escapes. */
export function visible(text) {
  return visibleBlock(text).replace(LINES, (character) => (character === "\n" ? "\\n" : "\\t"));
}

let statusTimer = 0;

/** Announce a text to screen readers once, politely. */
export function announce(text) {
  const status = document.getElementById("status");
  status.textContent = "";
  clearTimeout(statusTimer);
  // Screen readers may drop a text set right after another, and ignore one equal to the last.
  statusTimer = setTimeout(() => {
    status.textContent = text;
  }, 60);
}

/** Copy exactly `text` to the clipboard; return whether it succeeded. */
export async function copy(text) {
  try {
    // Browsers offer it on https and loopback only.
    if (!navigator.clipboard) throw new Error("no clipboard");
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

/** Button that copies `text`, or the result of `text()`, and confirms it to all readers. */
export function copyButton(label, text, { noun = "", small = false } = {}) {
  const caption = el("span", {}, label);
  const button = el(
    "button",
    {
      type: "button",
      class: small ? "copy small" : "copy",
      "aria-label": noun === "" ? null : `${label} ${noun}`,
      on: {
        click: async (event) => {
          event.stopPropagation();
          const copied = await copy(typeof text === "function" ? text() : text);
          caption.textContent = copied ? "Copied" : "Not copied";
          announce(copied ? `Copied ${noun}`.trim() : "The browser denied access to the clipboard");
          setTimeout(() => {
            caption.textContent = label;
          }, 1500);
        },
      },
    },
    icon("icon-copy"),
    caption,
  );
  return button;
}

/** Description list of `[term, value]` pairs; those without a value are left out. */
export function terms(pairs, className = "terms") {
  return el(
    "dl",
    { class: className },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== false)
      .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
  );
}

/** Breadcrumb navigation: `[href, text]` of each page above, the current page, and more nodes. */
export function breadcrumbs(links, current, ...more) {
  return el(
    "nav",
    { class: "crumbs", "aria-label": "Breadcrumb" },
    links.map(([href, text]) => [
      el("a", { href }, visible(text)),
      el("span", { "aria-hidden": "true" }, "/"),
    ]),
    el("span", {}, visible(current)),
    more,
  );
}

/** Keep the height of a node in a property of the page's style; sticky heads lie below it. */
export function measured(node, property) {
  new ResizeObserver(() => {
    document.documentElement.style.setProperty(property, `${node.offsetHeight}px`);
  }).observe(node);
  return node;
}

let tabsCount = 0;

/** Tabs (WAI-ARIA pattern) of `[["Tree", () => node], …]`; a panel is built when first shown. */
export function tabs(label, entries, { extra = null } = {}) {
  const id = `tabs-${(tabsCount += 1)}`;
  const panels = entries.map(([, build], index) => ({
    build,
    isBuilt: false,
    node: panel(id, index),
  }));
  const buttons = entries.map(([name], index) =>
    el(
      "button",
      {
        type: "button",
        role: "tab",
        id: `${id}-tab-${index}`,
        "aria-controls": `${id}-panel-${index}`,
        on: { click: () => select(index) },
      },
      name,
    ),
  );
  function select(selected) {
    panels.forEach((each, index) => {
      each.node.hidden = index !== selected;
      buttons[index].setAttribute("aria-selected", String(index === selected));
      buttons[index].tabIndex = index === selected ? 0 : -1;
      if (index === selected && !each.isBuilt) {
        each.isBuilt = true;
        fill(each.node, each.build());
      }
    });
  }
  const list = el("div", { role: "tablist", class: "tabs", "aria-label": label }, buttons);
  list.addEventListener("keydown", (event) => {
    const index = buttons.indexOf(event.target);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (index < 0 || step === undefined) return;
    event.preventDefault();
    const next = (index + step + buttons.length) % buttons.length;
    select(next);
    buttons[next].focus();
  });
  select(0);
  return el(
    "div",
    { class: "tabbed" },
    el("div", { class: "tabs-bar" }, list, extra),
    panels.map(({ node }) => node),
  );
}

function panel(id, index) {
  return el("div", {
    role: "tabpanel",
    id: `${id}-panel-${index}`,
    "aria-labelledby": `${id}-tab-${index}`,
  });
}
