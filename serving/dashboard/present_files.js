// The files that are on their way or need a person, and what has ended within the hour. Kept by events, and read again in case one
// was missed.

import { earlierKeys, keyOf } from './file_identity.js';

const HOUR = 3600_000;
const READ_EVERY = 60_000;
/** More than these are counted as "more than". */
const PAGES_MAX = 10;
const ENDED_PAGES_MAX = 3;
export const FILE_EVENTS = ['waiting', 'staged', 'progress', 'held', 'discarded', 'ingested', 'purged'];

export class PresentFiles extends EventTarget {
  /** @type {Map<string, import('./file_identity.js').FileItem>} */
  #files = new Map();
  #api;
  #client = () => '';
  #timer = 0;
  #reading = null;
  /** Whether there are more than are known here, by state. */
  hasMore = { present: false, ingested: false };
  isRead = false;
  error = null;

  /** @param {() => string} client the one that is shown, or '' */
  constructor(api, client) {
    super();
    this.#api = api;
    this.#client = client;
  }

  start(live) {
    live.on(FILE_EVENTS, (file) => this.#apply(file));
    live.on(['resync'], () => this.read());
    document.addEventListener('visibilitychange', () => !document.hidden && this.read());
    this.read();
  }

  /** Forgets all files, as those of another client are to be shown. */
  clear() {
    this.#files = new Map();
    this.isRead = false;
    this.#changed();
  }

  /** Reads everything again. */
  async read() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    try {
      await this.#read(reading.signal);
    } catch (error) {
      if (!reading.signal.aborted) this.error = error;
    }
    if (reading.signal.aborted) return;
    this.#timer = setTimeout(() => !document.hidden && this.read(), READ_EVERY);
    this.#changed();
  }

  async #read(signal) {
    const client = this.#client();
    const since = new Date(Date.now() - HOUR).toISOString();
    const files = new Map();
    const read = async (query, pagesMax) => {
      let pages = 0;
      for await (const page of this.#api.pages('/api/files', { ...query, client, limit: 1000 }, { signal })) {
        for (const file of page.items) files.set(keyOf(file), file);
        pages += 1;
        if (pages === pagesMax && page.next) return true;
      }
      return false;
    };
    const present = await read({ state: 'waiting,staged,held,discarded' }, PAGES_MAX);
    const ingested = await read({ state: 'ingested', since }, ENDED_PAGES_MAX);
    this.#files = files;
    this.hasMore = { present, ingested };
    this.error = null;
    this.isRead = true;
  }

  #apply(file) {
    for (const key of earlierKeys(file)) this.#files.delete(key);
    if (file.state !== 'purged') this.#files.set(keyOf(file), file);
    this.#changed();
  }

  onChange(listener, signal) {
    this.addEventListener('change', listener, { signal });
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** The files in a state; of ingested ones those that have ended within the hour. */
  in(state) {
    const after = new Date(Date.now() - HOUR).toISOString();
    return [...this.#files.values()].filter((file) => file.state === state && (state !== 'ingested' || (file.ended_at ?? '') >= after));
  }

  /** The discarded files that were discarded within the hour. */
  discardedLately() {
    const after = new Date(Date.now() - HOUR).toISOString();
    return this.in('discarded').filter((file) => (file.ended_at ?? '') >= after);
  }
}
