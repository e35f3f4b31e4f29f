/** The page: which view stands on it, and what stands around every view. */

import { get, onAnswer, post } from "./api.js";
import { announce, el, fill, icon, visible } from "./dom.js";
import { DestinationView } from "./destination.js";
import { DestinationsView } from "./destinations.js";
import { EventView } from "./event.js";
import { EventsView } from "./events.js";
import { bytes, clock, count, number } from "./format.js";
import { keysAreOn, keysBox } from "./keys.js";
import { loginForm } from "./login.js";
import { remember, remembered } from "./storage.js";
import * as tip from "./tip.js";
import { WindowView } from "./window.js";

const ABOUT_SECONDS = 15;
const PIPELINES_OFFERED_MAX = 500;

const byId = (id) => document.getElementById(id);

// -------------------------------------------------------------------- banners

/** Lines above the view, one for each thing that is wrong. */
const banners = {
  shown: new Map(),
  set(name, words, action = null) {
    const now = this.shown.get(name);
    if (now?.dataset.words === words) return;
    const node = el(
      "div",
      { class: `banner ${name}`, role: "alert" },
      el("span", {}, visible(words)),
      action,
    );
    node.dataset.words = words;
    if (now === undefined) byId("banners").append(node);
    else now.replaceWith(node);
    this.shown.set(name, node);
  },
  clear(name) {
    this.shown.get(name)?.remove();
    this.shown.delete(name);
  },
};

// -------------------------------------------------------------------- views

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
let wantsToken = false;

const context = {
  banners,
  navigate(path, { replace = false } = {}) {
    history[replace ? "replaceState" : "pushState"]({}, "", path);
    show({ isReturn: false, keepsFocus: replace });
  },
  titled,
  streamBroken(seconds, retry) {
    const button = el("button", { type: "button", class: "link", on: { click: retry } }, "Try now");
    banners.set(
      "stream",
      `The live stream is broken; tried again in ${Math.ceil(seconds)} s. What is on the page may be old.`,
      button,
    );
    askAbout();
  },
  kafkaIs(error) {
    if (error === null || error === undefined) banners.clear("kafka");
    else banners.set("kafka", `${error} What is on the page may be old; it goes on by itself.`);
  },
  showError(node, title, error) {
    fill(
      node,
      el("header", { class: "page-head" }, el("h1", { tabindex: "-1" }, visible(title))),
      el("p", { class: "error-text" }, visible(error.message)),
      el("p", {}, el("a", { href: "/" }, "To the events")),
    );
    titled({ title: error.status === 404 ? "Not found" : "Not read" });
  },
};

const events = new EventsView(context);

function titled({ title }) {
  document.title = `${visible(title).slice(0, 120)} · Inspector`;
}

function made(path) {
  for (const [pattern, make] of ROUTES) {
    const found = pattern.exec(path);
    if (found === null) continue;
    try {
      return make(found);
    } catch (error) {
      // A name that is no UTF-8 in percent signs names nothing.
      if (!(error instanceof URIError)) throw error;
    }
  }
  return simpleView(
    "Not found",
    el("h1", { tabindex: "-1" }, "Not found"),
    el("p", {}, "There is no such page. ", el("a", { href: "/" }, "To the events")),
  );
}

function simpleView(title, ...children) {
  return { title, place: "", node: el("div", { class: "view" }, children), enter() {}, leave() {} };
}

function loginView() {
  const form = loginForm(() => {
    wantsToken = false;
    remember("stream-app-token", "given");
    byId("logout-button").hidden = false;
    banners.clear("api");
    askAbout();
    if (location.pathname === "/login") context.navigate("/", { replace: true });
    else show({ isReturn: false });
  });
  return {
    title: "Log in",
    place: "",
    node: form,
    enter: () => form.querySelector("input").focus(),
    leave() {},
  };
}

function show({ isReturn, isFirst = false, keepsFocus = false }) {
  tip.hide();
  const next = wantsToken ? loginView() : made(location.pathname);
  const isSame = next === view;
  view?.leave();
  view = next;
  if (!isSame) fill(byId("main"), view.node);
  titled(view);
  for (const link of document.querySelectorAll("[data-place]")) {
    if (link.dataset.place === view.place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!isReturn && !keepsFocus) scrollTo(0, 0);
  if (!isFirst && !keepsFocus && !isSame) focusMain();
  view.enter(new URLSearchParams(location.search), { isReturn });
}

/** Screen readers begin at the new page's content, not at its top. */
function focusMain() {
  byId("main").focus({ preventScroll: true });
}

// -------------------------------------------------------------------- around the view

async function askAbout() {
  let about;
  try {
    about = await get("/api/about");
  } catch (error) {
    if (error.status === undefined) throw error;
    return;
  }
  context.kafkaIs(about.kafka);
  const { receipts } = about;
  const back =
    receipts.oldest === null ? "" : `, back to ${clock(receipts.oldest, { milliseconds: false })}`;
  fill(
    byId("about"),
    el(
      "span",
      {},
      `${number(receipts.held)} of at most ${count(receipts.held_max, "receipt")} held (${bytes(receipts.bytes)} of ${bytes(receipts.bytes_max)})${back}`,
    ),
    receipts.loaded === false
      ? el("span", { class: "is-retrying" }, "receipts are still being read")
      : null,
    receipts.not_receipts > 0
      ? el(
          "span",
          { class: "is-retrying" },
          `${count(receipts.not_receipts, "message")} of ${visible(about.receipts_topic)} were no receipts`,
        )
      : null,
    el(
      "span",
      {},
      `${visible(about.events_topic)}: ${count(about.events_partitions, "partition")}, windows of ${about.window_seconds} s`,
    ),
    about.can_read_objects
      ? null
      : el("span", {}, "objects are not read: lines are computed again"),
    el("span", {}, `group ${visible(about.group)}`),
    el("span", {}, `stream-app ${visible(about.version)}`),
  );
}

async function askPipelines() {
  try {
    const { destinations } = await get("/api/destinations");
    const names = new Set(destinations.map((it) => it.pipeline).filter((name) => name !== null));
    events.offerPipelines([...names].sort().slice(0, PIPELINES_OFFERED_MAX));
  } catch (error) {
    // Without them the box takes any name all the same.
    if (error.status === undefined) throw error;
  }
}

const THEMES = ["system", "light", "dark"];

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme() {
  const words = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[
    theme()
  ];
  const button = byId("theme-button");
  fill(button, icon(`icon-${theme()}`));
  button.setAttribute("aria-label", words);
  button.title = `${words} (t)`;
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  remember("stream-app-theme", next);
  showTheme();
  announce(byId("theme-button").getAttribute("aria-label"));
}

// -------------------------------------------------------------------- what a reader does

function clicked(event) {
  const link = event.target.closest("a[href]");
  if (link === null || event.defaultPrevented || event.button !== 0) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const href = link.getAttribute("href");
  if (href.startsWith("#")) {
    // The address stays a page's own; the skip link only moves the focus.
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

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (!tip.hide() && (isTyping(event.target) || event.target.closest("table")))
      event.target.blur();
    return;
  }
  if (isTyping(event.target) || keysDialog.open || !keysAreOn()) return;
  const act = {
    "/": () => focusSearch(),
    p: () => view === events && events.togglePause(),
    e: () => document.querySelector("[data-place=events]").click(),
    d: () => document.querySelector("[data-place=destinations]").click(),
    t: nextTheme,
    "?": () => keysDialog.showModal(),
  }[event.key];
  if (act === undefined) return;
  event.preventDefault();
  act();
}

function focusSearch() {
  if (view.focusSearch === undefined) context.navigate("/");
  view.focusSearch?.();
}

const keysDialog = keysBox();

function start() {
  history.scrollRestoration = "manual";
  document.body.append(keysDialog);
  document.addEventListener("click", clicked);
  document.addEventListener("keydown", pressed);
  addEventListener("popstate", () => show({ isReturn: true }));
  byId("keys-button").addEventListener("click", () => keysDialog.showModal());
  byId("theme-button").addEventListener("click", nextTheme);
  byId("logout-button").addEventListener("click", async () => {
    await post("/api/logout", {});
    remember("stream-app-token", null);
    location.assign("/login");
  });
  onAnswer("unauthorized", () => {
    if (wantsToken) return;
    wantsToken = true;
    show({ isReturn: false });
  });
  onAnswer("trouble", (words) => banners.set("api", words));
  onAnswer("well", () => banners.clear("api"));
  tip.keepWhilePointedAt();
  byId("logout-button").hidden = remembered("stream-app-token") === null;
  showTheme();
  show({ isReturn: false, isFirst: true });
  askAbout().then(askPipelines);
  setInterval(() => {
    if (!document.hidden && !wantsToken) askAbout();
  }, ABOUT_SECONDS * 1000);
}

start();
