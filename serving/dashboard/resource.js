// Something that is read from the server, and read again: after events that concern it, and now and then in any case.

import { isAbort } from './api.js';

/** Events that follow each other closely cause one reading. */
const PAUSE_MIN = 400;

/**
 * @template T
 */
export class Resource extends EventTarget {
  /** @type {T | null} what was last read */
  current = null;
  /** @type {Error | null} why the last reading failed; `current` is then older */
  error = null;
  /** When `current` was read. */
  readAt = 0;
  #load;
  #every;
  #pause;
  #timer = 0;
  #isReading = false;
  #isWanted = false;
  #controller = new AbortController();

  /**
   * @param {(signal: AbortSignal) => Promise<T>} load
   * @param {{every: number, pause?: number}} times in milliseconds: it is read that often in any case; and after this pause at least
   */
  constructor(load, { every, pause = PAUSE_MIN }) {
    super();
    this.#load = load;
    this.#every = every;
    this.#pause = pause;
  }

  /** Begins to read. Ends with `signal`. */
  start(signal) {
    signal?.addEventListener('abort', () => this.stop());
    const wake = () => !document.hidden && this.refresh();
    document.addEventListener('visibilitychange', wake, { signal });
    this.refresh();
    return this;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }

  /** Reads soon. May be called for each of many events. */
  refresh() {
    this.#isWanted = true;
    if (!this.#isReading) this.#schedule(Math.max(0, this.readAt + this.#pause - Date.now()));
  }

  /** Forgets what was read, as it is about something else, and reads at once. */
  restart() {
    this.#controller.abort();
    this.#controller = new AbortController();
    this.#isReading = false;
    this.current = null;
    this.error = null;
    this.readAt = 0;
    this.dispatchEvent(new Event('change'));
    this.refresh();
  }

  /** Calls `listener` after each reading. */
  onChange(listener, signal) {
    this.addEventListener('change', listener, { signal });
  }

  /** Changes what is known without reading. */
  update(change) {
    if (this.current === null) return;
    change(this.current);
    this.dispatchEvent(new Event('change'));
  }

  #schedule(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#read(), wait);
  }

  async #read() {
    if (document.hidden && this.current !== null) return;
    const { signal } = this.#controller;
    const began = Date.now();
    this.#isReading = true;
    this.#isWanted = false;
    try {
      const read = await this.#load(signal);
      if (signal.aborted) return;
      this.current = read;
      this.error = null;
      this.readAt = Date.now();
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      this.error = error;
    }
    this.#isReading = false;
    this.dispatchEvent(new Event('change'));
    // A server that is busy is asked less often.
    const took = Date.now() - began;
    this.#schedule(Math.max(this.#isWanted ? this.#pause : this.#every, took * 3));
  }
}
