// Runs before the first paint, so that a chosen theme does not flash the other one.
(() => {
  "use strict";
  try {
    const chosen = localStorage.getItem("stream-app-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden: the system's theme is right then.
  }
})();
