/** What a reader chose, kept in the browser where it may be kept, else until the page is left. */

const here = new Map();

/** Keep a text; null forgets it. */
export function remember(name, text) {
  here.set(name, text);
  try {
    if (text === null) localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    // Storage may be forbidden or full: `here` has it.
  }
}

/** The text kept under a name, or null. */
export function remembered(name) {
  if (here.has(name)) return here.get(name);
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
