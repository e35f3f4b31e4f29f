/** Client of the Inspector's HTTP API. */

/** Longest wait for a response. */
const RESPONSE_SECONDS_MAX = 30;

const listeners = new EventTarget();

/** Listen to responses: `unauthorized`, `available`, or `unavailable` with the error text. */
export const onResponse = (type, listener) =>
  listeners.addEventListener(type, (event) => listener(event.detail));

/** Error of a request; status 0 without a response. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** GET: `get("/api/events", {limit: 100, search: null})`; null and "" leave a parameter out. */
export function get(path, query = {}, options = {}) {
  return send(path + queryText(query), { method: "GET" }, options);
}

/** POST with a JSON body. */
export function post(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(body) }, options);
}

/** `?a=1&b=2`, or nothing. */
export function queryText(query) {
  const kept = Object.entries(query).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return kept.length === 0 ? "" : `?${new URLSearchParams(kept)}`;
}

async function send(path, request, { signal } = {}) {
  const signals = [AbortSignal.timeout(RESPONSE_SECONDS_MAX * 1000), signal].filter(Boolean);
  let response;
  let text;
  try {
    response = await fetch(path, {
      ...request,
      cache: "no-store",
      signal: AbortSignal.any(signals),
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const cause =
      error.name === "TimeoutError"
        ? `no response within ${RESPONSE_SECONDS_MAX} s`
        : "no response";
    throw unavailable(
      new ApiError(0, `The Inspector at ${location.host}: ${cause}. Is it running?`),
    );
  }
  if (response.ok) {
    listeners.dispatchEvent(new CustomEvent("available"));
    return text === "" ? null : JSON.parse(text);
  }
  const error = new ApiError(
    response.status,
    errorTextOf(text) ?? `${request.method} ${path}: ${response.status}`,
  );
  if (response.status === 401 && path !== "/api/login")
    listeners.dispatchEvent(new CustomEvent("unauthorized"));
  throw response.status >= 500 ? unavailable(error) : error;
}

function unavailable(error) {
  listeners.dispatchEvent(new CustomEvent("unavailable", { detail: error.message }));
  return error;
}

function errorTextOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : null;
  } catch {
    // The page of a proxy, perhaps: the status is more useful than its markup.
    return null;
  }
}
