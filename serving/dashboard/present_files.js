// The files that are on their way or need a person, and what has ended within the hour. Kept by events, and read again in case one
// was missed.

import { STATES, earlierKeys, keyOf } from './file_identity.js';

const HOUR = 3600_000;
const READ_EVERY = 60_000;
/** After a reading that failed. */
const READ_AGAIN_AFTER = 5000;
/** More than these are counted as "more than". */
const PAGES_MAX = 10;
const ENDED_PAGES_MAX = 3;
export const FILE_EVENTS = ['waiting', 'staged', 'progress', 'held', 'discarded', 'ingested', 'purged'];

/** Hundreds of events may come in a second; nobody reads faster than this, in milliseconds. */
const TELL_EVERY = 200;

export class PresentFiles extends EventTarget {
  /** @type {Map<string, import('./file_identity.js').FileItem>} */
  #files = new Map();
  /** The files of each state, made when they are asked for. */
  #byState = new Map();
  #api;
  #client;
  #timer = 0;
  #told = 0;
  #reading = null;
  /** What has happened while everything is being read. */
  #meanwhile = [];
  /** Whether there are more than are known here. */
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
    live.on(FILE_EVENTS, (file) => {
      if (this.#reading) this.#meanwhile.push(file);
      apply(this.#files, file);
      this.#changed();
    });
    live.on(['resync'], () => this.read());
    document.addEventListener('visibilitychange', () => !document.hidden && this.read());
    this.read();
  }

  /** Forgets all files, as those of another client are to be shown. */
  clear() {
    this.#files = new Map();
    this.isRead = false;
    this.error = null;
    this.#changed();
  }

  /** Reads everything again. */
  async read() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    this.#meanwhile = [];
    const began = Date.now();
    try {
      await this.#read(reading.signal);
    } catch (error) {
      if (!reading.signal.aborted) this.error = error;
    }
    if (reading.signal.aborted) return;
    this.#reading = null;
    // A server that is busy is asked less often.
    const wait = Math.max(this.error ? READ_AGAIN_AFTER : READ_EVERY, (Date.now() - began) * 5);
    this.#timer = setTimeout(() => !document.hidden && this.read(), wait);
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
    for (const file of this.#meanwhile) apply(files, file);
    this.#files = files;
    this.hasMore = { present, ingested };
    this.error = null;
    this.isRead = true;
  }

  onChange(listener, signal) {
    this.addEventListener('change', listener, { signal });
  }

  #changed() {
    this.#byState.clear();
    if (this.#told) return;
    this.#told = setTimeout(() => {
      this.#told = 0;
      this.dispatchEvent(new Event('change'));
    }, TELL_EVERY);
  }

  /** The files in a state; of ingested ones those that have ended within the hour. */
  in(state) {
    if (this.#byState.size === 0) this.#sort();
    return this.#byState.get(state) ?? [];
  }

  /** The discarded files that were discarded within the hour. */
  discardedLately() {
    return this.in('discarded').filter(endedAfter(Date.now() - HOUR));
  }

  #sort() {
    for (const state of STATES) this.#byState.set(state, []);
    const isRecent = endedAfter(Date.now() - HOUR);
    for (const [key, file] of this.#files) {
      if (file.state === 'ingested' && !isRecent(file)) this.#files.delete(key);
      else this.#byState.get(file.state)?.push(file);
    }
  }
}

function apply(files, file) {
  for (const key of earlierKeys(file)) files.delete(key);
  if (file.state !== 'purged') files.set(keyOf(file), file);
}

function endedAfter(time) {
  const after = new Date(time).toISOString();
  return (file) => (file.ended_at ?? '') >= after;
}
