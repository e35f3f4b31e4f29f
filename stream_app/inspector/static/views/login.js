/** Login form, shown in place of a page when the Inspector requires a token. */

import { post } from "../lib/api.js";
import { el, fill, visible } from "../lib/dom.js";

/** The form; `onLogin()` is called after a correct token. */
export function loginForm(onLogin) {
  const token = el("input", {
    type: "password",
    id: "token",
    name: "token",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    "aria-describedby": "login-hint login-error",
  });
  const error = el("p", { class: "error-text", id: "login-error", role: "alert" });
  const button = el("button", { type: "submit", class: "primary" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(error);
    try {
      await post("/api/login", { token: token.value.trim() });
      onLogin();
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
        { id: "login-hint" },
        "The token is in the file of the option ",
        el("code", {}, "--token-file"),
        " with which the Inspector was started.",
      ),
      el("label", { for: "token" }, "Token"),
      token,
      error,
      button,
    ),
  );
}
