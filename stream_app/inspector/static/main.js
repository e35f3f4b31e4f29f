/** Page frame: routes to views, banners, footer, theme, keyboard shortcuts. */

import { get, onResponse, post } from "./lib/api.js";
import { announce, el, fill, icon, visible } from "./lib/dom.js";
import {
  browserZone,
  bytes,
  clock,
  count,
  isUtc,
  number,
  setUtc,
  zoneName,
} from "./lib/format.js";
import { remember, remembered } from "./lib/storage.js";
import { HealthStrip } from "./parts/health.js";
import { shortcutsDialog, shortcutsEnabled } from "./parts/shortcuts.js";
import * as tooltip from "./parts/tooltip.js";
import { DestinationView } from "./views/destination.js";
import { DestinationsView } from "./views/destinations.js";
import { EventView } from "./views/event.js";
import { EventsView } from "./views/events.js";
import { loginForm } from "./views/login.js";
import { WindowView } from "./views/window.js";

const ABOUT_SECONDS = 15;
const CHOICES_SECONDS = 60;

const byId = (id) => document.getElementById(id);

// -------------------------------------------------------------------- banners

/** Banners above the view, one for each problem. */
const banners = {
  shown: new Map(),
  set(name, text, action = null) {
    const current = this.shown.get(name);
    if (current?.dataset.text === text) return;
    const node = el(
      "div",
      { class: `banner ${name}`, role: "alert" },
      el("span", {}, visible(text)),
      action,
    );
    node.dataset.text = text;
    if (current === undefined) byId("banners").append(node);
    else current.replaceWith(node);
    this.shown.set(name, node);
  },
  clear(name) {
    this.shown.get(name)?.remove();
    this.shown.delete(name);
  },
};

// -------------------------------------------------------------------- routes

const ROUTES = [
  [/^\/$/, () => events],
  [
    /^\/events\/(\d+)\/(\d+)$/,
    ([, partition, offset]) => new EventView(context, { partition, offset }),
  ],
  [/^\/destinations\/?$/, () => new DestinationsView(context)],
  [
    /^\/destinations\/([^/]+)$/,
    ([, id]) => new DestinationView(context, { id: decodeURIComponent(id) }),
  ],
  [
    /^\/windows\/([^/]+)\/(\d+)\/(\d+)$/,
    ([, id, partition, first]) =>
      new WindowView(context, { id: decodeURIComponent(id), partition, first }),
  ],
  [/^\/login$/, () => loginView()],
];

let view = null;
let needsToken = false;

const context = {
  banners,
  navigate(path, { replace = false } = {}) {
    history[replace ? "replaceState" : "pushState"]({}, "", path);
    show({ isReturn: false, keepsFocus: replace });
  },
  showTitle,
  showZone,
  streamDisconnected(seconds, retry) {
    const button = el(
      "button",
      { type: "button", class: "link", on: { click: retry } },
      "Reconnect now",
    );
    banners.set(
      "stream",
      `The live stream is disconnected; next attempt in ${Math.ceil(seconds)} s. The page may be out of date.`,
      button,
    );
    loadAbout();
  },
  showKafka(error) {
    if (error === null || error === undefined) banners.clear("kafka");
    else
      banners.set(
        "kafka",
        `${sentence(error)} The page may be out of date; it updates when Kafka is available.`,
      );
  },
  showError(node, title, error) {
    fill(
      node,
      el("header", { class: "page-head" }, el("h1", { tabindex: "-1" }, visible(title))),
      el("p", { class: "error-text" }, visible(error.message)),
      el("p", {}, el("a", { href: "/" }, "Go to events")),
    );
    showTitle({ title: error.status === 404 ? "Not found" : "Error" });
  },
};

const events = new EventsView(context);

const strip = new HealthStrip(byId("health"), {
  onHealth: (health) => events.showCounts(health),
  isWanted: () => !needsToken,
});

/** The text with a full stop. */
function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function showTitle({ title }) {
  document.title = `${visible(title).slice(0, 120)} · Inspector`;
}

function viewOf(path) {
  for (const [pattern, build] of ROUTES) {
    const match = pattern.exec(path);
    if (match === null) continue;
    try {
      return build(match);
    } catch (error) {
      // Percent-encoded bytes that are not UTF-8 name nothing.
      if (!(error instanceof URIError)) throw error;
    }
  }
  return simpleView(
    "Not found",
    el("h1", { tabindex: "-1" }, "Not found"),
    el("p", {}, "This page does not exist. ", el("a", { href: "/" }, "Go to events")),
  );
}

function simpleView(title, ...children) {
  return {
    title,
    section: "",
    node: el("div", { class: "view" }, children),
    enter() {},
    leave() {},
  };
}

function loginView() {
  const form = loginForm(() => {
    needsToken = false;
    remember("stream-app-token", "given");
    byId("logout-button").hidden = false;
    banners.clear("api");
    loadAbout();
    loadChoices();
    if (location.pathname === "/login") context.navigate("/", { replace: true });
    else show({ isReturn: false });
  });
  return {
    title: "Log in",
    section: "",
    node: form,
    enter: () => form.querySelector("input").focus(),
    leave() {},
  };
}

function show({ isReturn, isFirst = false, keepsFocus = false }) {
  tooltip.hide();
  const next = needsToken ? loginView() : viewOf(location.pathname);
  const isSame = next === view;
  view?.leave();
  view = next;
  if (!isSame) fill(byId("main"), view.node);
  showTitle(view);
  for (const link of document.querySelectorAll("[data-section]")) {
    if (link.dataset.section === view.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!isReturn && !keepsFocus) scrollTo(0, 0);
  if (!isFirst && !keepsFocus && !isSame) focusMain();
  view.enter(new URLSearchParams(location.search), { isReturn });
}

/** Move the focus to the content: screen readers then start there, not at the header. */
function focusMain() {
  byId("main").focus({ preventScroll: true });
}

// -------------------------------------------------------------------- footer and theme

async function loadAbout() {
  let about;
  try {
    about = await get("/api/about");
  } catch (error) {
    if (error.status === undefined) throw error;
    return;
  }
  context.showKafka(about.kafka);
  showConfiguration(about.configuration_mistakes);
  const { receipts } = about;
  const range =
    receipts.oldest === null ? "" : `, back to ${clock(receipts.oldest, { milliseconds: false })}`;
  fill(
    byId("about"),
    el(
      "span",
      {},
      `${number(receipts.held)} of at most ${count(receipts.held_max, "receipt")} in memory (${bytes(receipts.bytes)} of ${bytes(receipts.bytes_max)})${range}`,
    ),
    receipts.loaded === false
      ? el("span", { class: "is-retrying" }, "receipts are still loading")
      : null,
    receipts.not_receipts > 0
      ? el(
          "span",
          { class: "is-retrying" },
          `${count(receipts.not_receipts, "message")} of ${visible(about.receipts_topic)} ${receipts.not_receipts === 1 ? "is not a receipt" : "are not receipts"}`,
        )
      : null,
    el(
      "span",
      {},
      `${visible(about.events_topic)}: ${count(about.events_partitions, "partition")}, windows of ${about.window_seconds} s`,
    ),
    about.can_read_objects ? null : el("span", {}, "objects cannot be read: lines are recomputed"),
    el("span", {}, `times in ${zoneName()}; keys, logs and receipts in UTC`),
    el("span", {}, `group ${visible(about.group)}`),
    el("span", {}, `stream-app ${visible(about.version)}`),
  );
}

/** Banner of a configuration file that neither the workers nor the Inspector take. */
function showConfiguration(mistakes) {
  if (mistakes.length === 0) banners.clear("configuration");
  else
    banners.set(
      "configuration",
      `The changed configuration is not taken; workers and Inspector keep the destinations of the former one. ${mistakes.map(sentence).join(" ")}`,
    );
}

async function loadChoices() {
  try {
    events.suggest(await get("/api/choices"));
  } catch (error) {
    // The inputs take any name without suggestions, too.
    if (error.status === undefined) throw error;
  }
}

/** Show the zone of the times; the button switches it. */
function showZone() {
  const button = byId("zone-button");
  const other = isUtc() ? `those of ${browserZone()}` : "UTC";
  button.textContent = zoneName();
  button.setAttribute("aria-label", `Times in ${zoneName()}; show ${other}`);
  button.title = `Times in ${zoneName()}; show ${other} (z)`;
}

function switchZone() {
  setUtc(!isUtc());
  showZone();
  announce(`Times in ${zoneName()}`);
  strip.show();
  loadAbout();
  if (view === events) events.reload();
  else show({ isReturn: true, keepsFocus: true });
}

const THEMES = ["system", "light", "dark"];

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme() {
  const label = `Theme: ${theme()}`;
  const button = byId("theme-button");
  fill(button, icon(`icon-${theme()}`));
  button.setAttribute("aria-label", label);
  button.title = `${label} (t)`;
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  remember("stream-app-theme", next);
  showTheme();
  announce(byId("theme-button").getAttribute("aria-label"));
}

// -------------------------------------------------------------------- clicks and keys

function onClick(event) {
  const link = event.target.closest("a[href]");
  if (link === null || event.defaultPrevented || event.button !== 0) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const href = link.getAttribute("href");
  if (href.startsWith("#")) {
    // The skip link only moves the focus: an anchor in the address would be a route.
    event.preventDefault();
    byId(href.slice(1))?.focus();
    return;
  }
  event.preventDefault();
  const isBack = href === "/" && view !== events && location.pathname !== "/";
  if (isBack) history.pushState({}, "", events.address ?? "/");
  else history.pushState({}, "", href);
  show({ isReturn: isBack });
}

const isTyping = (target) =>
  target.matches("input:not([type=radio]):not([type=checkbox]), textarea, select");

function onKeydown(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (!tooltip.hide() && (isTyping(event.target) || event.target.closest("table")))
      event.target.blur();
    return;
  }
  if (isTyping(event.target) || shortcuts.open || !shortcutsEnabled()) return;
  const action = {
    "/": () => focusSearch(),
    p: () => view === events && events.togglePause(),
    e: () => document.querySelector("[data-section=events]").click(),
    d: () => document.querySelector("[data-section=destinations]").click(),
    t: nextTheme,
    z: switchZone,
    "?": () => shortcuts.showModal(),
  }[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
}

function focusSearch() {
  if (view.focusSearch === undefined) context.navigate("/");
  view.focusSearch?.();
}

const shortcuts = shortcutsDialog();

function start() {
  history.scrollRestoration = "manual";
  document.body.append(shortcuts);
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKeydown);
  addEventListener("popstate", () => show({ isReturn: true }));
  byId("shortcuts-button").addEventListener("click", () => shortcuts.showModal());
  byId("theme-button").addEventListener("click", nextTheme);
  byId("zone-button").addEventListener("click", switchZone);
  byId("logout-button").addEventListener("click", async () => {
    await post("/api/logout", {});
    remember("stream-app-token", null);
    location.assign("/login");
  });
  onResponse("unauthorized", () => {
    if (needsToken) return;
    needsToken = true;
    show({ isReturn: false });
  });
  onResponse("unavailable", (text) => banners.set("api", text));
  onResponse("available", () => banners.clear("api"));
  tooltip.keepWhileHovered();
  byId("logout-button").hidden = remembered("stream-app-token") === null;
  showTheme();
  showZone();
  show({ isReturn: false, isFirst: true });
  strip.start();
  loadAbout().then(loadChoices);
  setInterval(() => {
    if (!document.hidden && !needsToken && view === events) loadChoices();
  }, CHOICES_SECONDS * 1000);
  setInterval(() => {
    if (!document.hidden && !needsToken) loadAbout();
  }, ABOUT_SECONDS * 1000);
}

start();
