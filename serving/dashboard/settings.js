// What the person has chosen on this device: theme and whether payloads are hidden. Kept in localStorage, if the browser allows it.

const PREFIX = 'mysimbdp.';
const THEMES = ['system', 'light', 'dark'];

export class Settings extends EventTarget {
  #theme = THEMES.includes(stored('theme')) ? stored('theme') : 'system';
  #hidesPayloads = stored('hide-payloads') === 'true';

  /** @returns {'system' | 'light' | 'dark'} */
  get theme() {
    return this.#theme;
  }

  set theme(theme) {
    this.#theme = theme;
    this.#changed('theme', theme);
  }

  /** Whether records and values are masked, for a shared screen. */
  get hidesPayloads() {
    return this.#hidesPayloads;
  }

  set hidesPayloads(hides) {
    this.#hidesPayloads = hides;
    this.#changed('hide-payloads', hides);
  }

  /** Calls `listener` after each change. */
  onChange(listener, signal) {
    this.addEventListener('change', listener, { signal });
  }

  #changed(name, value) {
    store(name, value);
    this.dispatchEvent(new Event('change'));
  }
}

/** The next theme of the button that changes it. */
export function nextTheme(theme) {
  return THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
}

function stored(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // It lasts as long as the page.
  }
}
