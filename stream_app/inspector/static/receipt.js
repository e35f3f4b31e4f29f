/** A receipt as terms, and whole. */

import { copyButton, el, terms, visible } from "./dom.js";
import { bytes, clock, count, number, time, utc } from "./format.js";
import { outcome } from "./outcomes.js";
import { treeOrWords } from "./tree.js";

/** A text in typewriter letters that may be copied. */
export function copyable(text, what) {
  return el(
    "span",
    { class: "copyable" },
    el("code", {}, visible(text)),
    copyButton("Copy", text, { what, small: true }),
  );
}

export const windowPath = (destination, { partition, first_offset: first }) =>
  `/windows/${encodeURIComponent(destination)}/${Number(partition)}/${Number(first)}`;

export const destinationPath = (id) => `/destinations/${encodeURIComponent(id)}`;

/** "12:30:00 – 12:31:00" with UTC on hover. */
export function span(start, end) {
  return el(
    "span",
    { title: `${utc(start)} – ${utc(end)}` },
    `${clock(start, { milliseconds: false })} – ${clock(end, { milliseconds: false, date: "never" })}`,
  );
}

/** What a receipt's status means for the events of its window. */
const STATUS_OUTCOME = {
  delivered: "delivered",
  redelivered: "delivered",
  empty: "skipped",
  retrying: "retrying",
  failed: "failed",
};

/** A status with the mark of what it means. */
export function status(name) {
  const mark = outcome(STATUS_OUTCOME[name] ?? "unknown");
  mark.lastChild.textContent = name;
  return mark;
}

/** The receipt `at` ({id, time, partition, offset, receipt}) as terms; `line` of one event, if it has one. */
export function receiptTerms(at, { line = null, withWindow = true } = {}) {
  const { receipt } = at;
  const it = receipt.object;
  const { counts } = receipt;
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
      "Tried again",
      receipt.error &&
        (receipt.error.retryable
          ? "yes, it may pass"
          : "the answer is final until somebody changes something"),
    ],
    ["Bucket", it && copyable(it.bucket, "the bucket")],
    [
      receipt.status === "failed" || receipt.status === "retrying"
        ? "Key that it would have"
        : "Key",
      it && copyable(it.key, "the key"),
    ],
    ["Line", line !== null && it && `${number(line)} of ${number(it.lines)}`],
    ["ETag", it?.etag && el("code", {}, visible(it.etag))],
    ["Version", it?.version_id && el("code", {}, visible(it.version_id))],
    [
      "Checksum",
      it?.checksum && el("code", {}, visible(`${it.checksum.algorithm} ${it.checksum.value}`)),
    ],
    [
      "Size",
      it &&
        typeof it.size === "number" &&
        `${bytes(it.size)}, ${count(it.lines, "line")}, ${bytes(it.uncompressed_size)} uncompressed`,
    ],
    ["Attempts", receipt.attempts !== undefined && number(receipt.attempts)],
    [
      "Already there",
      receipt.already_existed && "a predecessor had written the object; S3 answered 412",
    ],
    ["Uploaded", receipt.uploaded_at && time(receipt.uploaded_at)],
    ["Published", at.time && time(at.time)],
    ["Answers", receipt.answers && `${count(receipt.answers.length, "event")} that had failed`],
    [
      "Counts",
      counts &&
        `${number(counts.matched)} matched: ${number(counts.delivered)} delivered, ${number(counts.skipped)} skipped, ${number(counts.failed)} failed`,
    ],
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
    ["Receipt", copyable(`${at.partition}@${at.offset}`, "the receipt's position")],
  ]);
}

/** The whole document, opened on demand. */
export function wholeReceipt(at, words = "Whole receipt") {
  return folded(words, () => {
    const text = JSON.stringify(at.receipt);
    return [
      el(
        "div",
        { class: "fold-tools" },
        copyButton("Copy JSON", () => JSON.stringify(at.receipt, null, 2), { what: "the receipt" }),
      ),
      treeOrWords(text, { rootPath: "receipt", label: "Receipt" }),
    ];
  });
}

/** Other receipts about the same, newest first. */
export function otherReceipts(receipts, counting) {
  const others = receipts.filter((it) => it.id !== counting?.id);
  if (others.length === 0) return null;
  return folded(`${count(others.length, "other receipt")} about it`, () =>
    others.map((at) =>
      el(
        "div",
        { class: "other-receipt" },
        receiptTerms(at, { withWindow: false }),
        wholeReceipt(at),
      ),
    ),
  );
}

/** A details element that makes what it holds when it is first opened. */
export function folded(summary, make, { open = false, className = "fold" } = {}) {
  const body = el("div", { class: "fold-body" });
  const node = el("details", { class: className }, el("summary", {}, summary), body);
  let made = false;
  const unfold = () => {
    if (!node.open || made) return;
    made = true;
    body.append(...[make()].flat(2).filter(Boolean));
  };
  node.addEventListener("toggle", unfold);
  if (open) {
    node.open = true;
    unfold();
  }
  return node;
}
