/** Page of all events, newest first and live. */

import { get } from "../lib/api.js";
import { announce, el, fill, icon, visible } from "../lib/dom.js";
import { clock, count, isUtc, number, parseTime, setUtc } from "../lib/format.js";
import { Stream } from "../lib/stream.js";
import { Filters, NO_QUERY } from "../parts/filters.js";
import { ErrorGroups } from "../parts/error-groups.js";
import { legend } from "../parts/outcomes.js";
import { OutcomeLoader } from "../parts/outcome-loader.js";
import { PendingRows } from "../parts/pending-rows.js";
import { RowList, idOf, rowsText } from "../parts/rows.js";
import { SidePanel } from "./side-panel.js";

/** Rows of one request. */
const ROWS_PER_REQUEST = 100;

/** Rows kept while another page is shown, if the list was left at its top. */
const ROWS_KEPT_ON_LEAVE = 100;

/** Scrolled less than this, the list is at its top. */
const TOP_PIXELS = 24;

/** Rows do not move for this long after a pointer moved over them, so that they can be clicked. */
const POINTER_SECONDS = 1.5;

/** Shortest time between two insertions of rows. */
const UPDATE_MILLISECONDS = 250;

/** Longest wait for the stream before the first rows are loaded. */
const OPEN_SECONDS_MAX = 4;

/** Pause before a list by outcome is selected again after receipts. */
const SELECT_MILLISECONDS = 1_500;

/** Most runs of receipts kept for rows that are still pending. */
const RUNS_KEPT_MAX = 2_000;

/** The page `/`; one instance for the whole visit, so that going back restores the list. */
export class EventsView {
  title = "Events";
  section = "events";

  #query = NO_QUERY;
  #pending = new PendingRows();
  #list = new RowList({ onGap: (gap) => this.#readGap(gap) });
  #stream = null;
  #paused = false;
  #loaded = false;
  /** Whether the first request failed; a reconnection repeats it. */
  #hasFailed = false;
  #hasKafkaError = false;
  /** Whether the newest events are not in the list: after a jump, or dropped for older ones. */
  #detached = false;
  #cursor = null;
  #complete = false;
  #searched = null;
  #loading = null;
  #reading = null;
  #loader = new OutcomeLoader(this.#list, () => this.#stream !== null);
  #runs = [];
  /** Time of the oldest event, fixed when the list is loaded. */
  #since = "";
  #selectTimer = 0;
  #pointerMovedAt = 0;
  #flushTimer = 0;
  #scrollTop = 0;
  #observer;
  // Elements.
  #side;
  #filters;
  #errors;
  #pause;
  #state;
  #notice;
  #pill;
  #foot;
  #sentinel;

  constructor(context) {
    this.context = context;
    this.#build();
    this.#observer = new IntersectionObserver((entries) => this.#onSentinel(entries), {
      rootMargin: "600px",
    });
  }

  // ------------------------------------------------------------------ life cycle

  /** Show the list of a query; a return to the same query continues where it was left. */
  enter(query, { isReturn }) {
    const wanted = Object.fromEntries(
      Object.keys(NO_QUERY).map((name) => [name, query.get(name) ?? ""]),
    );
    if (query.has("zone")) setUtc(query.get("zone") === "utc");
    this.context.showZone();
    const side = query.get("event");
    if (side !== null && SidePanel.hasRoom) this.#side.open(side);
    const isSame = this.#loaded && isSameQuery(wanted, this.#query);
    addEventListener("scroll", this.#onScroll, { passive: true });
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#observer.observe(this.#sentinel);
    if (isSame && isReturn) {
      requestAnimationFrame(() => scrollTo(0, this.#scrollTop));
      this.#connect().then(() => this.#catchUp());
      return;
    }
    this.#query = wanted;
    this.#load();
  }

  get #isFiltered() {
    return this.#byOutcome || this.#query.search !== "" || this.#query.pipeline !== "";
  }

  /** Whether receipts decide which events are in the list. */
  get #byOutcome() {
    return this.#query.outcome !== "" || this.#query.destination !== "";
  }

  /** The filter as parameters of the API; `since` as it was when the list was loaded. */
  get #parameters() {
    const { search, pipeline, outcome, destination } = this.#query;
    return { search, pipeline, outcome, destination };
  }

  /** The address of the list, with its query. */
  get address() {
    return addressOf(this.#query, this.#side.id);
  }

  leave() {
    this.#loading = null;
    this.#side.leave();
    this.#scrollTop = scrollY;
    if (scrollY <= TOP_PIXELS) {
      this.#list.keepNewest(ROWS_KEPT_ON_LEAVE);
      if (this.#list.trimmed) this.#complete = false;
    }
    this.context.banners.clear("stream");
    removeEventListener("scroll", this.#onScroll);
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.#observer.disconnect();
    this.#reading?.abort();
    this.#reading = null;
    this.#stream?.close();
    this.#stream = null;
    clearTimeout(this.#flushTimer);
    this.#flushTimer = 0;
    clearTimeout(this.#selectTimer);
    this.#selectTimer = 0;
  }

  // ------------------------------------------------------------------ elements

  #build() {
    this.#pause = el("button", {
      type: "button",
      class: "pause",
      "aria-keyshortcuts": "p",
      on: { click: () => this.togglePause() },
    });
    this.#state = el("span", { class: "live-state" });
    this.#filters = new Filters(
      (wanted) => this.#go(wanted),
      el("span", { class: "live" }, this.#state, this.#pause),
    );
    this.#errors = new ErrorGroups();
    this.#side = new SidePanel(this.context, { onClose: (id) => this.#onSideClosed(id) });
    this.#list.node.addEventListener("click", (event) => this.#onRowClick(event));
    this.#notice = el("div", { class: "list-notice", hidden: true });
    this.#pill = el("button", {
      type: "button",
      class: "pill",
      hidden: true,
      on: { click: () => this.#toNewest() },
    });
    this.#foot = el("p", { class: "list-foot" });
    this.#sentinel = el("div", { class: "sentinel" });
    const onPointer = (event) => {
      if (event.pointerType !== "touch") this.#pointerMovedAt = performance.now();
    };
    this.#list.node.addEventListener("pointermove", onPointer);
    this.#list.node.addEventListener("pointerdown", onPointer);
    this.#list.node.addEventListener("focusout", () => this.#flushSoon());
    this.node = el(
      "div",
      { class: "view events-view" },
      el("h1", { class: "visually-hidden", tabindex: "-1" }, "Events"),
      this.#filters.node,
      this.#errors.node,
      this.#notice,
      legend(),
      el("div", { class: "pill-place" }, this.#pill),
      el(
        "div",
        { class: "split" },
        el("div", { class: "split-list" }, this.#list.node, this.#foot, this.#sentinel),
        this.#side.node,
      ),
    );
    this.#showState("connecting");
    this.#showPause();
  }

  /** Open a row at the side where there is room: the list stays. */
  #onRowClick(event) {
    const link = event.target.closest(".row-link");
    const isPlain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    if (link === null || !isPlain || !SidePanel.hasRoom) return;
    event.preventDefault();
    this.#openSide(link.closest("tr").dataset.id);
  }

  #openSide(id) {
    this.#list.nodeOf(this.#side.id)?.classList.remove("is-open");
    this.#list.nodeOf(id)?.classList.add("is-open");
    this.#side.open(id);
    this.#showAddress();
  }

  #onSideClosed(id) {
    const node = this.#list.nodeOf(id);
    node?.classList.remove("is-open");
    node?.querySelector(".row-link").focus({ preventScroll: true });
    this.#showAddress();
  }

  #showAddress() {
    history.replaceState({}, "", this.address);
  }

  focusSearch() {
    this.#filters.focus();
  }

  togglePause() {
    this.#paused = !this.#paused;
    announce(
      this.#paused
        ? "Paused: new events are collected"
        : `Resumed, ${count(this.#pending.count, "new event")}`,
    );
    if (!this.#paused) this.#toNewest({ move: scrollY <= TOP_PIXELS || this.#pending.count > 0 });
    this.#showPause();
    this.#showPill();
  }

  /** Suggest names in the filters. */
  suggest(names) {
    this.#filters.suggest(names);
  }

  /** Show the number of events of each outcome in the filter. */
  showCounts({ totals, unmatched }) {
    this.#filters.count({ ...totals, unmatched: unmatched?.events });
  }

  /** Show all times again, in another zone. */
  reload() {
    this.context.navigate(this.address, { replace: true });
    this.#load();
  }

  #showPause() {
    const pending = this.#pending.count;
    const label = this.#paused
      ? pending > 0
        ? `Resume (${number(pending)} new)`
        : "Resume"
      : "Pause";
    if (this.#pause.textContent !== label) {
      fill(this.#pause, icon(this.#paused ? "icon-resume" : "icon-pause"), el("span", {}, label));
    }
    this.#pause.classList.toggle("is-paused", this.#paused);
    if (this.#stream !== null && this.#state.dataset.state !== "disconnected")
      this.#showState(this.#liveState);
  }

  /** Whether new events are shown, as the reader knows it. */
  get #liveState() {
    if (this.#hasKafkaError) return "kafka";
    if (this.#paused) return "paused";
    return this.#detached ? "detached" : "live";
  }

  #showState(state) {
    const label = {
      live: "Live",
      paused: "Paused",
      disconnected: "Reconnecting",
      detached: "Not the newest",
      kafka: "Kafka is away",
      connecting: "Connecting",
    }[state];
    if (this.#state.dataset.state === state) return;
    this.#state.dataset.state = state;
    this.#state.textContent = label;
  }

  /** Show or hide the button for pending rows, offered while the reader is not at the top. */
  #showPill() {
    const pending = this.#pending.count;
    const isElsewhere = scrollY > TOP_PIXELS || this.#detached || this.#list.hasFocus;
    this.#pill.hidden = this.#paused || !isElsewhere || pending === 0;
    if (!this.#pill.hidden) this.#pill.textContent = `${number(pending)} new ↑`;
  }

  #showNotice() {
    const { at } = this.#query;
    this.#notice.hidden = !this.#detached;
    if (["live", "detached"].includes(this.#state.dataset.state)) this.#showState(this.#liveState);
    if (!this.#detached) return;
    const text =
      at === ""
        ? "The newest events were removed to make room for older ones."
        : at.includes("@")
          ? `Events up to ${at}.`
          : `Events before ${clock(at)}.`;
    fill(
      this.#notice,
      el("span", {}, text),
      el(
        "button",
        { type: "button", class: "link", on: { click: () => this.#toNewest() } },
        "Go to newest",
      ),
    );
  }

  #showFoot() {
    const isFiltered = this.#isFiltered;
    const sentences = [];
    if (this.#reading !== null) sentences.push(isFiltered ? "Searching…" : "Loading…");
    else if (this.#list.size === 0 && this.#complete)
      sentences.push(isFiltered ? "No matching events." : this.#emptyText);
    else sentences.push(`${rowsText(this.#list)} shown.`);
    if (isFiltered && this.#searched !== null) {
      const range = this.#searched.to === null ? "" : ` back to ${clock(this.#searched.to)}`;
      sentences.push(`Searched ${count(this.#searched.count, "event")}${range}.`);
    }
    if (this.#complete && this.#list.size > 0 && this.#reading === null)
      sentences.push(
        this.#since === "" ? "Kafka retains no older ones." : `None before ${clock(this.#since)}.`,
      );
    const canContinue = this.#loaded && !this.#complete && this.#reading === null;
    fill(
      this.#foot,
      sentences.join(" "),
      canContinue ? " " : null,
      canContinue
        ? el(
            "button",
            { type: "button", class: "quiet", on: { click: () => this.#readOlder() } },
            isFiltered ? "Search older events" : "Load older events",
          )
        : null,
    );
  }

  get #emptyText() {
    if (this.#query.since !== "") return "No events in this time range.";
    return this.#query.at === ""
      ? "No events yet. New events appear here."
      : "No events up to this time.";
  }

  // ------------------------------------------------------------------ loading

  /** Apply a change of the query, through the address. */
  #go(change) {
    const wanted = { ...this.#query, ...change };
    if (isSameQuery(wanted, this.#query)) return;
    // Typing makes no history; every other choice can be taken back.
    const isTyped = ["search", "pipeline", "destination"].some(
      (name) => wanted[name] !== this.#query[name],
    );
    this.context.navigate(addressOf(wanted), { replace: isTyped });
  }

  async #load() {
    this.#reading?.abort();
    this.#reading = null;
    const { at, since } = this.#query;
    this.#since = parseTime(since) ?? since;
    this.#filters.show(this.#query);
    this.#errors.show(this.#query);
    this.#loaded = false;
    this.#hasFailed = false;
    this.#detached = at !== "";
    this.#complete = false;
    this.#cursor = null;
    this.#searched = null;
    this.#list.clear();
    this.#pending.clear();
    this.#loader.clear();
    this.#runs = [];
    scrollTo(0, 0);
    this.#showNotice();
    this.#showPause();
    this.#showState("connecting");
    const loading = {};
    this.#loading = loading;
    // First the stream, then the rows: events in between come twice rather than never.
    await this.#connect();
    if (this.#loading === loading) await this.#read({ at });
  }

  /** Load rows from `where`: a cursor or a position. */
  async #read(where) {
    const reading = new AbortController();
    this.#reading = reading;
    this.#showFoot();
    try {
      const response = await get(
        "/api/events",
        { limit: ROWS_PER_REQUEST, ...this.#parameters, since: this.#since, ...where },
        { signal: reading.signal },
      );
      if (this.#reading !== reading) return;
      this.#reading = null;
      this.#showOlder(response);
    } catch (error) {
      if (reading.signal.aborted) return;
      this.#reading = null;
      this.#showFoot();
      if (error.status === undefined) throw error;
      if (error.status !== 401) this.#showFailure(error, where);
    }
  }

  #showFailure(error, where) {
    this.#hasFailed = !this.#loaded;
    const retry = () => (this.#hasFailed ? this.#load() : this.#read(where));
    fill(
      this.#foot,
      el("span", { class: "is-failed" }, visible(error.message)),
      el("button", { type: "button", class: "quiet", on: { click: retry } }, "Try again"),
    );
  }

  #showOlder(response) {
    const anchor = this.#anchor();
    if (this.#list.append(response.rows) && !this.#detached) {
      this.#detached = true;
      this.#showNotice();
    }
    this.#restore(anchor);
    this.#list.trimmed = false;
    this.#cursor = response.cursor;
    this.#complete = response.cursor === null;
    this.#searched = {
      count: (this.#searched?.count ?? 0) + (response.searched ?? 0),
      to: response.searched_to ?? this.#list.oldest?.time ?? null,
    };
    const isFirst = !this.#loaded;
    this.#loaded = true;
    this.#list.nodeOf(this.#side.id)?.classList.add("is-open");
    this.#loader.load(this.#list.within(this.#runs));
    this.#runs = [];
    this.#showFoot();
    this.#flushSoon();
    if (isFirst && this.#isFiltered) announce(`${rowsText(this.#list)} found`);
    this.#readOnIfShort(response);
  }

  /** Load more while the end of the list is on the screen, where no scrolling would load it. */
  #readOnIfShort(response) {
    if (this.#complete || response.rows.length === 0 || response.complete === false) return;
    const { top } = this.#sentinel.getBoundingClientRect();
    if (top < innerHeight) this.#readOlder();
  }

  #readOlder() {
    if (this.#reading !== null || this.#complete || !this.#loaded) return;
    const oldest = this.#list.oldest;
    const where =
      this.#cursor !== null && !this.#list.trimmed
        ? { cursor: this.#cursor }
        : { at: oldest === null ? "" : idOf(oldest) };
    this.#read(where);
  }

  #onSentinel(entries) {
    if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
    // A search with few matches would read the whole log unasked.
    const isSparse =
      this.#isFiltered &&
      this.#searched !== null &&
      this.#searched.count > 50 * Math.max(1, this.#list.size);
    if (!isSparse && this.#list.size > 0) this.#readOlder();
  }

  async #readGap(gap) {
    const { cursor } = this.#list.gapOf(gap);
    const above = this.#list.above(gap);
    const button = gap.querySelector("button");
    button.disabled = true;
    const where = cursor === null ? { at: above === null ? "" : idOf(above) } : { cursor };
    try {
      const response = await get("/api/events", {
        limit: ROWS_PER_REQUEST,
        ...this.#parameters,
        since: this.#since,
        ...where,
      });
      if (!gap.isConnected) return;
      this.#list.fillGap(gap, response.rows, response.cursor);
      this.#loader.load(response.rows.map(idOf));
    } catch (error) {
      if (error.status === undefined) throw error;
      button.disabled = false;
      button.textContent = visible(`${error.message} Try again`);
    }
  }

  /** A row and its place on the screen, for `#restore`. */
  #anchor() {
    if (scrollY <= TOP_PIXELS) return null;
    const oldest = this.#list.oldest;
    const node = oldest === null ? null : this.#list.nodeOf(idOf(oldest));
    return node === null ? null : { node, top: node.getBoundingClientRect().top };
  }

  #restore(anchor) {
    if (anchor === null || !anchor.node.isConnected) return;
    scrollBy(0, anchor.node.getBoundingClientRect().top - anchor.top);
  }

  // ------------------------------------------------------------------ live

  /** Open the stream; resolves when it is open, has failed, or is late. */
  #connect() {
    this.#stream?.close();
    return new Promise((done) => {
      setTimeout(done, OPEN_SECONDS_MAX * 1000);
      this.#stream = new Stream(this.#parameters, this.#handlers(done));
    });
  }

  /** Handlers of the stream's messages. */
  #handlers(done) {
    return {
      open: (isAgain) => {
        this.context.banners.clear("stream");
        this.#showState(this.#liveState);
        done();
        if (isAgain) this.#catchUp();
      },
      disconnected: (seconds) => {
        this.#showState("disconnected");
        this.context.streamDisconnected(seconds, () => this.#stream?.retry());
        done();
      },
      rows: ({ rows, more }) => this.#onRows(rows, more),
      receipts: ({ runs }) => this.#onReceipts(runs),
      behind: () => this.#catchUp(),
      kafka: ({ error }) => {
        this.#hasKafkaError = error !== null;
        this.#showState(this.#liveState);
        this.context.showKafka(error);
        if (error === null) this.#catchUp();
      },
    };
  }

  #onRows(rows, more) {
    // With a filter, the number of further matches is unknown: the server has not searched them.
    const fresh = rows.filter((row) => !this.#list.has(idOf(row)));
    this.#pending.add(fresh, more ?? 0, { isKnown: !this.#isFiltered });
    this.#flushSoon();
    if (this.#paused) this.#showPause();
    else this.#showPill();
  }

  #flushSoon() {
    if (this.#flushTimer === 0)
      this.#flushTimer = setTimeout(() => this.#flush(), UPDATE_MILLISECONDS);
  }

  #flush() {
    this.#flushTimer = 0;
    if (this.#stream === null || this.#pending.isEmpty) return;
    const isPointed = performance.now() - this.#pointerMovedAt < POINTER_SECONDS * 1000;
    if (isPointed && !this.#paused && !this.#detached) {
      this.#flushSoon();
      return;
    }
    const isElsewhere = scrollY > TOP_PIXELS || this.#list.hasFocus || document.hidden;
    if (this.#paused || this.#detached || isElsewhere || !this.#loaded) return;
    const wasEmpty = this.#list.size === 0;
    this.#list.prepend(this.#pending.take());
    // Rows dropped for them can be loaded again by scrolling.
    if (this.#list.trimmed) this.#complete = false;
    this.#loadMissedOutcomes();
    this.#showPill();
    if (wasEmpty || this.#foot.firstElementChild === null) this.#showFoot();
  }

  /** Load outcomes of rows whose receipts came while they were pending. */
  #loadMissedOutcomes() {
    this.#loader.load(this.#list.within(this.#runs));
    this.#runs = [];
  }

  #toNewest({ move = true } = {}) {
    this.#paused = false;
    this.#showPause();
    if (this.#detached) {
      if (this.#query.at !== "") this.#go({ at: "" });
      else this.#load();
      return;
    }
    if (move) scrollTo(0, 0);
    if (this.#list.hasFocus) document.activeElement.blur();
    this.#pointerMovedAt = 0;
    this.#flush();
  }

  /** Load the newest rows after a reconnection, with a gap where they do not join the list. */
  async #catchUp() {
    if (this.#hasFailed) {
      this.#load();
      return;
    }
    if (!this.#loaded) return;
    this.#loader.load(this.#list.changeable());
    // A detached list does not show the newest rows.
    if (this.#detached) return;
    let response;
    try {
      response = await get("/api/events", {
        limit: ROWS_PER_REQUEST,
        ...this.#parameters,
        since: this.#since,
      });
    } catch (error) {
      if (error.status === undefined) throw error;
      // A banner shows the error; the next connection catches up.
      return;
    }
    const fresh = response.rows.filter((row) => !this.#list.has(idOf(row)));
    if (fresh.length === response.rows.length && this.#list.size > 0 && response.cursor !== null)
      this.#pending.addGap();
    if (fresh.length > 0) this.#onRows(fresh, 0);
  }

  // ------------------------------------------------------------------ outcomes

  #onReceipts(runs) {
    if (!this.#pending.isEmpty || !this.#loaded)
      this.#runs = [...this.#runs, ...runs].slice(-RUNS_KEPT_MAX);
    this.#loader.load(this.#list.within(runs));
    if (this.#byOutcome && this.#selectTimer === 0)
      this.#selectTimer = setTimeout(() => this.#selectAgain(), SELECT_MILLISECONDS);
  }

  /** Load the first rows again: receipts have changed which events are in the list. */
  async #selectAgain() {
    this.#selectTimer = 0;
    const isElsewhere = scrollY > TOP_PIXELS || this.#list.hasFocus || document.hidden;
    if (this.#stream === null || !this.#loaded || this.#paused || this.#detached || isElsewhere)
      return;
    const loading = this.#loading;
    try {
      const response = await get("/api/events", {
        limit: ROWS_PER_REQUEST,
        ...this.#parameters,
        since: this.#since,
      });
      const ids = response.rows.map(idOf);
      if (this.#loading !== loading || this.#list.size > ROWS_PER_REQUEST) return;
      if (ids.length === this.#list.size && ids.every((id) => this.#list.has(id))) return;
      this.#list.clear();
      this.#pending.clear();
      this.#searched = null;
      this.#showOlder(response);
    } catch (error) {
      if (error.status === undefined) throw error;
      // A banner shows the error; the next receipts try again.
    }
  }

  // ------------------------------------------------------------------ scrolling and visibility

  #onScroll = () => {
    this.#showPill();
    if (scrollY <= TOP_PIXELS) this.#flushSoon();
  };

  #onVisible = () => {
    if (!document.hidden) this.#flushSoon();
  };
}

const isSameQuery = (one, other) => Object.keys(one).every((name) => one[name] === other[name]);

function addressOf(query, event = null) {
  const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
  if (query.since !== "" || query.at !== "") kept.set("zone", isUtc() ? "utc" : "local");
  if (event !== null) kept.set("event", event);
  return kept.size === 0 ? "/" : `/?${kept}`;
}
