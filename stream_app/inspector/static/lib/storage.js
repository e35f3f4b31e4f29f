/** Preferences of the reader, in localStorage where allowed, else in memory. */

const memory = new Map();

/** Store a text under a name; null removes it. */
export function remember(name, text) {
  memory.set(name, text);
  try {
    if (text === null) localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    // Storage may be forbidden or full: `memory` has the text.
  }
}

/** The text stored under a name, or null. */
export function remembered(name) {
  if (memory.has(name)) return memory.get(name);
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
