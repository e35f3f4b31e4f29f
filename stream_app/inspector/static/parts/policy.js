/** Policy of a destination's bucket. Nothing can be copied while the principal is unknown. */

import { get } from "../lib/api.js";
import { announce, copyButton, el, fill, visible } from "../lib/dom.js";

/** Section that loads the policy; `id` is the destination's. */
export function policySection(id, { signal }) {
  const section = el("section", { class: "panel", "aria-label": "Bucket policy" });
  const path = `/api/destinations/${encodeURIComponent(id)}/policy`;
  const show = (it) =>
    it.policy === null
      ? fill(section, head(), principalForm(it, { path, signal, show }), note(it.note))
      : fill(
          section,
          head(copyButton("Copy", it.policy, { noun: "the bucket policy", small: true })),
          note(
            `For the owner of ${it.bucket}: the least that its destinations need, below their prefixes, and no other right. A bucket has one policy: if it has one already, add these statements to it.`,
          ),
          note(it.note),
          el(
            "pre",
            { class: "raw", tabindex: "0", role: "region", "aria-label": "The policy as JSON" },
            it.policy,
          ),
        );
  fill(section, head(), el("p", { class: "loading" }, "Loading the policy…"));
  get(path, {}, { signal })
    .then(show)
    .catch((error) => {
      if (signal.aborted) return;
      fill(section, head(), el("p", { class: "error-text" }, visible(error.message)));
      if (error.status === undefined) throw error;
    });
  return section;
}

const head = (button) => el("div", { class: "panel-head" }, el("h2", {}, "Bucket policy"), button);
const note = (text) => (text === null ? null : el("p", { class: "note" }, visible(text)));

/** Form for the principal, which the configuration does not say; the server checks it. */
function principalForm(it, { path, signal, show }) {
  const principal = el("input", {
    type: "text",
    id: "policy-principal",
    placeholder: it.principal_form,
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "policy-error",
  });
  const error = el("p", { class: "error-text", id: "policy-error", role: "alert" });
  const button = el("button", { type: "submit", class: "primary" }, "Show the policy");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(error);
    try {
      show(await get(path, { principal: principal.value.trim() }, { signal }));
      announce("The bucket policy");
    } catch (failure) {
      if (signal.aborted) return;
      if (failure.status === undefined) throw failure;
      fill(error, visible(failure.message));
      principal.select();
    } finally {
      button.disabled = false;
    }
  };
  return el(
    "form",
    { class: "principal", on: { submit } },
    el(
      "p",
      { class: "note" },
      "A policy names who may write. The configuration does not say who runs the workers, since a destination of this bucket has no role of AWS (",
      el("code", {}, "role_arn"),
      "): enter the role, user or account.",
    ),
    el("label", { for: "policy-principal" }, "ARN of the role, user or account"),
    principal,
    error,
    el("div", {}, button),
  );
}
