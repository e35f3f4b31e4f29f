/** The form that stands instead of a page when the Inspector wants a token. */

import { post } from "./api.js";
import { el, fill, visible } from "./dom.js";

/** The form; `onIn()` is called when the token was right. */
export function loginForm(onIn) {
  const token = el("input", {
    type: "password",
    id: "token",
    name: "token",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    "aria-describedby": "login-words login-error",
  });
  const error = el("p", { class: "error-text", id: "login-error", role: "alert" });
  const button = el("button", { type: "submit", class: "primary" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(error);
    try {
      await post("/api/login", { token: token.value.trim() });
      onIn();
    } catch (failure) {
      if (failure.status === undefined) throw failure;
      fill(error, visible(failure.message));
      token.select();
    } finally {
      button.disabled = false;
    }
  };
  return el(
    "div",
    { class: "view login-view" },
    el(
      "form",
      { class: "panel login", on: { submit } },
      el("h1", { tabindex: "-1" }, "Log in"),
      el(
        "p",
        { id: "login-words" },
        "The token is in the file that ",
        el("code", {}, "--token-file"),
        " names where the Inspector was started.",
      ),
      el("label", { for: "token" }, "Token"),
      token,
      error,
      button,
    ),
  );
}
