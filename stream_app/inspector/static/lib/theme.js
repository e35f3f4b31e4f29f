// Applies the chosen theme before the first paint, so that the other one does not flash.
(() => {
  "use strict";
  try {
    const chosen = localStorage.getItem("stream-app-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden: the theme of the system applies.
  }
})();
