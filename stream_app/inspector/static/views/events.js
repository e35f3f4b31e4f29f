/** The events, newest first and live. */

import { get } from "./api.js";
import { Asker } from "./asker.js";
import { announce, el, fill, icon, visible } from "./dom.js";
import { Filters } from "./filters.js";
import { clock, count, number } from "./format.js";
import { Held } from "./held.js";
import { RowList, idOf, rowsWords } from "./rows.js";
import { Stream } from "./stream.js";

const ROWS_READ_AT_ONCE = 100;

/** Of a list left at its top so many rows wait for the reader's return. */
const ROWS_KEPT_AWAY = 100;

/** Scrolled less than this, a reader is at the top. */
const TOP_PIXELS = 24;

/** Rows stand still while a pointer moves over them and so long after it, so that they can be hit. */
const POINTER_SECONDS = 1.5;

/** Rows are put in no oftener. */
const UPDATE_MILLISECONDS = 250;

/** Rows are read without waiting longer for the stream. */
const OPEN_SECONDS_MAX = 4;

/** What receipts spoke of while rows were on their way is remembered up to here. */
const RUNS_REMEMBERED_MAX = 2_000;

/** The page `/`; one for the whole visit, so that going back finds the list as it was. */
export class EventsView {
  title = "Events";
  place = "events";

  #query = { search: "", pipeline: "", at: "" };
  #held = new Held();
  #list = new RowList({ onGap: (gap) => this.#readGap(gap) });
  #stream = null;
  #paused = false;
  #loaded = false;
  /** The first rows could not be read; they are asked for when Kafka or the Inspector is back. */
  #hasFailed = false;
  /** The top of the list is not the newest event: after a jump, or when older ones pushed it out. */
  #detached = false;
  #cursor = null;
  #complete = false;
  #searched = null;
  #loading = null;
  #reading = null;
  #asker = new Asker(this.#list, () => this.#stream !== null);
  #runs = [];
  #pointedAt = 0;
  #flushTimer = 0;
  #scrollTop = 0;
  #observer;
  // Parts of the page.
  #filters;
  #pause;
  #state;
  #notice;
  #pill;
  #foot;
  #sentinel;

  constructor(context) {
    this.context = context;
    this.#build();
    this.#observer = new IntersectionObserver((seen) => this.#reachedEnd(seen), {
      rootMargin: "600px",
    });
  }

  // ------------------------------------------------------------------ life

  /** Show it for the address's query; the same query again goes on where it was left. */
  enter(query, { isReturn }) {
    const wanted = {
      search: query.get("search") ?? "",
      pipeline: query.get("pipeline") ?? "",
      at: query.get("at") ?? "",
    };
    const same = this.#loaded && isSameQuery(wanted, this.#query);
    addEventListener("scroll", this.#onScroll, { passive: true });
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#observer.observe(this.#sentinel);
    if (same && isReturn) {
      requestAnimationFrame(() => scrollTo(0, this.#scrollTop));
      this.#listen().then(() => this.#catchUp());
      return;
    }
    this.#query = wanted;
    this.#load();
  }

  get #isFiltered() {
    return this.#query.search !== "" || this.#query.pipeline !== "";
  }

  /** Where going back to the events leads. */
  get address() {
    return addressOf(this.#query);
  }

  leave() {
    this.#loading = null;
    this.#scrollTop = scrollY;
    if (scrollY <= TOP_PIXELS) {
      this.#list.keepNewest(ROWS_KEPT_AWAY);
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
  }

  // ------------------------------------------------------------------ what is on the page

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
    this.#notice = el("div", { class: "list-notice", hidden: true });
    this.#pill = el("button", {
      type: "button",
      class: "pill",
      hidden: true,
      on: { click: () => this.#toNewest() },
    });
    this.#foot = el("p", { class: "list-foot" });
    this.#sentinel = el("div", { class: "sentinel" });
    const still = (event) => {
      if (event.pointerType !== "touch") this.#pointedAt = performance.now();
    };
    this.#list.node.addEventListener("pointermove", still);
    this.#list.node.addEventListener("pointerdown", still);
    this.#list.node.addEventListener("focusout", () => this.#flushSoon());
    this.node = el(
      "div",
      { class: "view events-view" },
      el("h1", { class: "unseen", tabindex: "-1" }, "Events"),
      this.#filters.node,
      this.#notice,
      el("div", { class: "pill-place" }, this.#pill),
      this.#list.node,
      this.#foot,
      this.#sentinel,
    );
    this.#showState("connecting");
    this.#showPause();
  }

  focusSearch() {
    this.#filters.focus();
  }

  togglePause() {
    this.#paused = !this.#paused;
    announce(
      this.#paused
        ? "Paused: new events are held back"
        : `Resumed, ${count(this.#held.count, "new event")}`,
    );
    if (!this.#paused) this.#toNewest({ move: scrollY <= TOP_PIXELS || this.#held.count > 0 });
    this.#showPause();
    this.#showPill();
  }

  /** Offer the pipelines that there are. */
  offerPipelines(names) {
    this.#filters.offer(names);
  }

  #showPause() {
    const held = this.#held.count;
    const words = this.#paused ? (held > 0 ? `Resume (${number(held)} new)` : "Resume") : "Pause";
    if (this.#pause.textContent !== words) {
      fill(this.#pause, icon(this.#paused ? "icon-resume" : "icon-pause"), el("span", {}, words));
    }
    this.#pause.classList.toggle("is-paused", this.#paused);
    if (this.#stream !== null && this.#state.dataset.state !== "broken")
      this.#showState(this.#paused ? "paused" : "live");
  }

  #showState(state) {
    const words = {
      live: "Live",
      paused: "Paused",
      broken: "Reconnecting",
      connecting: "Connecting",
    }[state];
    if (this.#state.dataset.state === state) return;
    this.#state.dataset.state = state;
    this.#state.textContent = words;
  }

  /** The button above the rows: new ones that wait because the reader is elsewhere. */
  #showPill() {
    const held = this.#held.count;
    const elsewhere = scrollY > TOP_PIXELS || this.#detached || this.#list.hasFocus;
    this.#pill.hidden = this.#paused || !elsewhere || held === 0;
    if (!this.#pill.hidden) this.#pill.textContent = `${number(held)} new ↑`;
  }

  #showNotice() {
    const { at } = this.#query;
    this.#notice.hidden = !this.#detached;
    if (!this.#detached) return;
    const words =
      at === ""
        ? "The newest events were let go to make room for older ones."
        : `From ${at.includes("@") ? at : clock(at)} back.`;
    fill(
      this.#notice,
      el("span", {}, words),
      el(
        "button",
        { type: "button", class: "link", on: { click: () => this.#toNewest() } },
        "Go to the newest",
      ),
    );
  }

  #showFoot() {
    const filtered = this.#isFiltered;
    const words = [];
    if (this.#reading !== null) words.push(filtered ? "Searching…" : "Reading…");
    else if (this.#list.size === 0 && this.#complete)
      words.push(
        filtered ? "Nothing found." : "No events yet. As soon as one is sent, it stands here.",
      );
    else words.push(`${rowsWords(this.#list)} on the page.`);
    if (filtered && this.#searched !== null) {
      const back = this.#searched.to === null ? "" : ` back to ${clock(this.#searched.to)}`;
      words.push(`Looked at ${count(this.#searched.count, "event")}${back}.`);
    }
    if (this.#complete && this.#list.size > 0 && this.#reading === null)
      words.push("That is the beginning of what Kafka keeps.");
    const goOn = this.#loaded && !this.#complete && this.#reading === null;
    fill(
      this.#foot,
      words.join(" "),
      goOn ? " " : null,
      goOn
        ? el(
            "button",
            { type: "button", class: "quiet", on: { click: () => this.#readOlder() } },
            filtered ? "Search older ones" : "Show older ones",
          )
        : null,
    );
  }

  // ------------------------------------------------------------------ reading

  /** Go where the rows are that a reader wants; the address has it. */
  #go(change) {
    const wanted = { ...this.#query, ...change };
    if (isSameQuery(wanted, this.#query)) return;
    this.context.navigate(addressOf(wanted), { replace: wanted.at === this.#query.at });
  }

  async #load() {
    this.#reading?.abort();
    this.#reading = null;
    const { at } = this.#query;
    this.#filters.show(this.#query);
    this.#loaded = false;
    this.#hasFailed = false;
    this.#detached = at !== "";
    this.#complete = false;
    this.#cursor = null;
    this.#searched = null;
    this.#list.clear();
    this.#held.clear();
    this.#asker.clear();
    this.#runs = [];
    scrollTo(0, 0);
    this.#showNotice();
    this.#showPause();
    const loading = {};
    this.#loading = loading;
    // First the stream, then the rows: what comes in between comes twice rather than never.
    await this.#listen();
    if (this.#loading === loading) await this.#read({ at });
  }

  /** Read on: from the cursor, from the last row when the list was cut, or from a place. */
  async #read(where) {
    const reading = new AbortController();
    this.#reading = reading;
    this.#showFoot();
    const { search, pipeline } = this.#query;
    try {
      const answer = await get(
        "/api/events",
        { limit: ROWS_READ_AT_ONCE, search, pipeline, ...where },
        { signal: reading.signal },
      );
      if (this.#reading !== reading) return;
      this.#reading = null;
      this.#took(answer);
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
    const again = () => (this.#hasFailed ? this.#load() : this.#read(where));
    fill(
      this.#foot,
      el("span", { class: "is-failed" }, visible(error.message)),
      el("button", { type: "button", class: "quiet", on: { click: again } }, "Try again"),
    );
  }

  #took(answer) {
    const anchor = this.#anchor();
    if (this.#list.append(answer.rows) && !this.#detached) {
      this.#detached = true;
      this.#showNotice();
    }
    this.#restore(anchor);
    this.#list.trimmed = false;
    this.#cursor = answer.cursor;
    this.#complete = answer.cursor === null;
    this.#searched = {
      count: (this.#searched?.count ?? 0) + (answer.searched ?? 0),
      to: answer.searched_to ?? this.#list.oldest?.time ?? null,
    };
    const first = !this.#loaded;
    this.#loaded = true;
    this.#asker.about(this.#list.within(this.#runs));
    this.#runs = [];
    this.#showFoot();
    this.#flushSoon();
    if (first && this.#isFiltered) announce(`${rowsWords(this.#list)} found`);
    this.#readOnIfShort(answer);
  }

  /** The end is on the screen still, and nobody will scroll to it. */
  #readOnIfShort(answer) {
    if (this.#complete || answer.rows.length === 0 || answer.complete === false) return;
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

  #reachedEnd(seen) {
    if (!seen.some((it) => it.isIntersecting)) return;
    // A search that finds little would go through the whole log unasked.
    const sparse =
      this.#query.search !== "" &&
      this.#searched !== null &&
      this.#searched.count > 50 * Math.max(1, this.#list.size);
    if (!sparse && this.#list.size > 0) this.#readOlder();
  }

  async #readGap(gap) {
    const { cursor } = this.#list.gapOf(gap);
    const above = this.#list.above(gap);
    const button = gap.querySelector("button");
    button.disabled = true;
    const { search, pipeline } = this.#query;
    const where = cursor === null ? { at: above === null ? "" : idOf(above) } : { cursor };
    try {
      const answer = await get("/api/events", {
        limit: ROWS_READ_AT_ONCE,
        search,
        pipeline,
        ...where,
      });
      if (!gap.isConnected) return;
      this.#list.fillGap(gap, answer.rows, answer.cursor);
      this.#asker.about(answer.rows.map(idOf));
    } catch (error) {
      if (error.status === undefined) throw error;
      button.disabled = false;
      button.textContent = visible(`${error.message} Try again`);
    }
  }

  /** The first row on the screen and where it stands, so that it can stand there again. */
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

  /** Open the stream; done when it is open, broken, or late. */
  #listen() {
    this.#stream?.close();
    const { search, pipeline } = this.#query;
    return new Promise((done) => {
      setTimeout(done, OPEN_SECONDS_MAX * 1000);
      this.#stream = new Stream({ search, pipeline }, this.#heard(done));
    });
  }

  /** What is done about all that the stream says. */
  #heard(done) {
    return {
      open: (again) => {
        this.context.banners.clear("stream");
        this.#showState(this.#paused ? "paused" : "live");
        done();
        if (again) this.#catchUp();
      },
      broken: (seconds) => {
        this.#showState("broken");
        this.context.streamBroken(seconds, () => this.#stream?.retry());
        done();
      },
      rows: ({ rows, more }) => this.#came(rows, more),
      receipts: ({ runs }) => this.#answered(runs),
      behind: () => this.#catchUp(),
      kafka: ({ error }) => {
        this.context.kafkaIs(error);
        if (error === null) this.#catchUp();
      },
    };
  }

  #came(rows, more) {
    // Of what is searched for, nobody knows how many more there are: they were not looked at.
    const fresh = rows.filter((row) => !this.#list.has(idOf(row)));
    this.#held.add(fresh, more ?? 0, { isKnown: !this.#isFiltered });
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
    if (this.#stream === null || this.#held.isEmpty) return;
    const pointed = performance.now() - this.#pointedAt < POINTER_SECONDS * 1000;
    if (pointed && !this.#paused && !this.#detached) {
      this.#flushSoon();
      return;
    }
    const elsewhere = scrollY > TOP_PIXELS || this.#list.hasFocus || document.hidden;
    if (this.#paused || this.#detached || elsewhere || !this.#loaded) return;
    const wasEmpty = this.#list.size === 0;
    this.#list.prepend(this.#held.take());
    // What was let go for them can be read again by scrolling.
    if (this.#list.trimmed) this.#complete = false;
    this.#refreshOpenSoon();
    this.#showPill();
    if (wasEmpty || this.#foot.firstElementChild === null) this.#showFoot();
  }

  /** Rows that were held back missed the receipts that came meanwhile. */
  #refreshOpenSoon() {
    this.#asker.about(this.#list.within(this.#runs));
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
    this.#pointedAt = 0;
    this.#flush();
  }

  /** After a break: the newest rows, and a gap where they do not join those that are here. */
  async #catchUp() {
    if (this.#hasFailed) {
      this.#load();
      return;
    }
    if (!this.#loaded) return;
    this.#asker.about(this.#list.changeable());
    // Far from the newest, nobody asked for them.
    if (this.#detached) return;
    const { search, pipeline } = this.#query;
    let answer;
    try {
      answer = await get("/api/events", { limit: ROWS_READ_AT_ONCE, search, pipeline });
    } catch (error) {
      if (error.status === undefined) throw error;
      // The banner says it; the next connection catches up.
      return;
    }
    const fresh = answer.rows.filter((row) => !this.#list.has(idOf(row)));
    if (fresh.length === answer.rows.length && this.#list.size > 0 && answer.cursor !== null)
      this.#held.addBreak();
    if (fresh.length > 0) this.#came(fresh, 0);
  }

  // ------------------------------------------------------------------ outcomes

  #answered(runs) {
    if (!this.#held.isEmpty || !this.#loaded)
      this.#runs = [...this.#runs, ...runs].slice(-RUNS_REMEMBERED_MAX);
    this.#asker.about(this.#list.within(runs));
  }

  // ------------------------------------------------------------------ the reader moves

  #onScroll = () => {
    this.#showPill();
    if (scrollY <= TOP_PIXELS) this.#flushSoon();
  };

  #onVisible = () => {
    if (!document.hidden) this.#flushSoon();
  };
}

const isSameQuery = (one, other) => Object.keys(one).every((name) => one[name] === other[name]);

function addressOf(query) {
  const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
  return kept.size === 0 ? "/" : `/?${kept}`;
}
