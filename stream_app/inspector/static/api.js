/** The Inspector's HTTP interface, asked. */

/** How long an answer may take before the page says so. */
const ANSWER_SECONDS_MAX = 30;

const listeners = new EventTarget();

/** Hear of every answer: `unauthorized`, `trouble` (its detail is the words) and `well`. */
export const onAnswer = (type, listener) =>
  listeners.addEventListener(type, (event) => listener(event.detail));

/** Status 0: no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** Read: `get("/api/events", {limit: 100, search: null})`; null and "" leave a parameter out. */
export function get(path, query = {}, options = {}) {
  return ask(path + queryText(query), { method: "GET" }, options);
}

/** Ask with a body. */
export function post(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) }, options);
}

/** `?a=1&b=2`, or nothing. */
export function queryText(query) {
  const kept = Object.entries(query).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return kept.length === 0 ? "" : `?${new URLSearchParams(kept)}`;
}

async function ask(path, request, { signal, quiet = false } = {}) {
  const signals = [AbortSignal.timeout(ANSWER_SECONDS_MAX * 1000), signal].filter(Boolean);
  let answer;
  let text;
  try {
    answer = await fetch(path, { ...request, cache: "no-store", signal: AbortSignal.any(signals) });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const why =
      error.name === "TimeoutError" ? `no answer within ${ANSWER_SECONDS_MAX} s` : "no answer";
    throw trouble(new ApiError(0, `The Inspector at ${location.host}: ${why}. Is it running?`));
  }
  if (answer.ok) {
    if (!quiet) listeners.dispatchEvent(new CustomEvent("well"));
    return text === "" ? null : JSON.parse(text);
  }
  const error = new ApiError(
    answer.status,
    wordsOf(text) ?? `${request.method} ${path}: ${answer.status}`,
  );
  if (answer.status === 401 && path !== "/api/login")
    listeners.dispatchEvent(new CustomEvent("unauthorized"));
  throw answer.status >= 500 ? trouble(error) : error;
}

function trouble(error) {
  listeners.dispatchEvent(new CustomEvent("trouble", { detail: error.message }));
  return error;
}

function wordsOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : null;
  } catch {
    // A proxy's page, perhaps: the status says more than its markup.
    return null;
  }
}
