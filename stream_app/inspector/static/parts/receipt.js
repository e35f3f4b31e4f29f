/** Receipt as a description list, and in full. */

import { copyButton, el, terms, visible } from "../lib/dom.js";
import { bytes, clock, count, number, time, utc } from "../lib/format.js";
import { outcome } from "./outcomes.js";
import { treeOrText } from "./tree.js";

/** Monospaced text with a copy button. */
export function copyable(text, noun) {
  return el(
    "span",
    { class: "copyable" },
    el("code", {}, visible(text)),
    copyButton("Copy", text, { noun, small: true }),
  );
}

export const windowPath = (destination, { partition, first_offset: first }) =>
  `/windows/${encodeURIComponent(destination)}/${Number(partition)}/${Number(first)}`;

export const destinationPath = (id) => `/destinations/${encodeURIComponent(id)}`;

/** Time range "12:30:00 – 12:31:00", with UTC on hover. */
export function span(start, end) {
  return el(
    "span",
    { title: `${utc(start)} – ${utc(end)}` },
    `${clock(start, { milliseconds: false })} – ${clock(end, { milliseconds: false, date: "never" })}`,
  );
}

/** The outcome of a window's events, by status of its receipt. */
const STATUS_OUTCOME = {
  delivered: "delivered",
  redelivered: "delivered",
  empty: "skipped",
  retrying: "retrying",
  failed: "failed",
};

/** Status with the mark of its outcome. */
export function status(name) {
  const mark = outcome(STATUS_OUTCOME[name] ?? "unknown");
  mark.lastChild.textContent = name;
  return mark;
}

/** Counts of a receipt: "45 matched: 0 delivered, 41 not delivered, 2 skipped, 2 failed". */
function countsText({ matched, delivered, undelivered, skipped, failed }) {
  const waiting = undelivered > 0 ? [`${number(undelivered)} not delivered`] : [];
  return `${number(matched)} matched: ${[
    `${number(delivered)} delivered`,
    ...waiting,
    `${number(skipped)} skipped`,
    `${number(failed)} failed`,
  ].join(", ")}`;
}

/** Description list of a message `{id, time, partition, offset, counts, receipt}`; `line` is of one event. */
export function receiptTerms(message, { line = null, withWindow = true } = {}) {
  const { receipt } = message;
  const { object } = receipt;
  const { counts } = message;
  const closedAt = receipt.source?.closed_at ?? receipt.uploaded_at;
  return terms([
    ["Status", status(receipt.status)],
    [
      "Error",
      receipt.error &&
        el(
          "span",
          { class: "is-failed" },
          visible(`${receipt.error.code}: ${receipt.error.message}`),
        ),
    ],
    [
      "Retryable",
      receipt.error &&
        (receipt.error.retryable
          ? "yes: the cause may be temporary"
          : "no: fails until the bucket or the configuration is changed"),
    ],
    ["Bucket", object && copyable(object.bucket, "the bucket")],
    [
      receipt.status === "failed" || receipt.status === "retrying" ? "Planned key" : "Key",
      object && copyable(object.key, "the key"),
    ],
    ["Line", line !== null && object && `${number(line)} of ${number(object.lines)}`],
    ["ETag", object?.etag && el("code", {}, visible(object.etag))],
    ["Version", object?.version_id && el("code", {}, visible(object.version_id))],
    [
      "Checksum",
      object?.checksum &&
        el("code", {}, visible(`${object.checksum.algorithm} ${object.checksum.value}`)),
    ],
    [
      "Size",
      object &&
        typeof object.size === "number" &&
        `${bytes(object.size)}, ${count(object.lines, "line")}, ${bytes(object.uncompressed_size)} uncompressed`,
    ],
    ["Attempts", receipt.attempts !== undefined && number(receipt.attempts)],
    [
      "Already existed",
      receipt.already_existed && "an earlier attempt had stored the object; S3 responded 412",
    ],
    ["Closed", closedAt && time(closedAt)],
    ["Stored", receipt.stored_at && time(receipt.stored_at)],
    ["Published", message.time && time(message.time, { milliseconds: false })],
    ["Redelivers", receipt.answers && `${count(receipt.answers.length, "event")} that had failed`],
    ["Counts", countsText(counts)],
    [
      "Window",
      withWindow &&
        receipt.window &&
        el(
          "a",
          { href: windowPath(receipt.destination, receipt.source) },
          span(receipt.window.start, receipt.window.end),
          ` of partition ${receipt.source.partition}`,
        ),
    ],
    [
      "Receipt position",
      copyable(`${message.partition}@${message.offset}`, "the position of the receipt"),
    ],
  ]);
}

/** Fold with the full receipt. */
export function fullReceipt({ receipt }) {
  return folded("Full receipt", () => {
    const text = JSON.stringify(receipt);
    return [
      el(
        "div",
        { class: "fold-tools" },
        copyButton("Copy JSON", () => JSON.stringify(receipt, null, 2), { noun: "the receipt" }),
      ),
      treeOrText(text, { rootPath: "receipt", label: "Receipt" }),
    ];
  });
}

/** Fold with the other receipts of the same events, newest first. */
export function otherReceipts(messages, shown) {
  const others = messages.filter(({ id }) => id !== shown?.id);
  if (others.length === 0) return null;
  return folded(count(others.length, "other receipt"), () =>
    others.map((message) =>
      el(
        "div",
        { class: "other-receipt" },
        receiptTerms(message, { withWindow: false }),
        fullReceipt(message),
      ),
    ),
  );
}

/** Details element whose content is built when it is first opened. */
export function folded(summary, build, { open = false, className = "fold" } = {}) {
  const body = el("div", { class: "fold-body" });
  const node = el("details", { class: className }, el("summary", {}, summary), body);
  let isBuilt = false;
  const unfold = () => {
    if (!node.open || isBuilt) return;
    isBuilt = true;
    body.append(...[build()].flat(2).filter(Boolean));
  };
  node.addEventListener("toggle", unfold);
  if (open) {
    node.open = true;
    unfold();
  }
  return node;
}
