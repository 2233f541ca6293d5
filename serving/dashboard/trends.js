// What a field of a source was before: the last records of the sources that can be seen, a few requests at a time.

import { isAbort } from './api.js';
import { valueAt } from './record_text.js';

const RECORDS = 40;
const AT_ONCE = 3;
/** A picture is as old as this at most, if there are newer records. */
const AGE_MAX = 15_000;
/** Sources that are remembered. */
const KEPT = 2000;

export class Trends {
  #api;
  #path;
  #view;
  #onRead;
  #signal;
  /** @type {Map<string, {numbers: number[], at: string, readAt: number}>} */
  #known = new Map();
  /** What was asked for last, the latest last: what has been scrolled away is asked for last of all. */
  #wanted = new Map();
  #running = 0;

  constructor(api, path, view, onRead, signal) {
    this.#api = api;
    this.#path = path;
    this.#view = view;
    this.#onRead = onRead;
    this.#signal = signal;
  }

  /** The last numbers of a field, as far as they are known; they are read if there are newer ones. */
  of(source, field, latestAt) {
    if (!field) return [];
    const key = `${field}\n${source}`;
    const known = this.#known.get(key);
    if (!known || (known.at !== latestAt && Date.now() - known.readAt > AGE_MAX)) {
      this.#wanted.delete(key);
      this.#wanted.set(key, { source, field, at: latestAt });
      this.#next();
    }
    return known?.numbers ?? [];
  }

  #next() {
    while (this.#running < AT_ONCE && this.#wanted.size > 0 && !this.#signal.aborted) {
      const [key, wanted] = [...this.#wanted].at(-1);
      this.#wanted.delete(key);
      this.#running += 1;
      this.#read(key, wanted).finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
    // A list that was scrolled through does not have to be read as a whole.
    while (this.#wanted.size > 100) this.#wanted.delete(this.#wanted.keys().next().value);
  }

  async #read(key, { source, field, at }) {
    let numbers = [];
    try {
      const query = { view: this.#view, source, fields: field, order: 'desc', limit: RECORDS };
      const { items } = await this.#api.get(this.#path, query, { signal: this.#signal });
      numbers = items.map((record) => valueAt(record, field)).filter((value) => typeof value === 'number').reverse();
    } catch (error) {
      if (isAbort(error)) return;
      numbers = this.#known.get(key)?.numbers ?? [];
    }
    this.#known.delete(key);
    this.#known.set(key, { numbers, at, readAt: Date.now() });
    if (this.#known.size > KEPT) this.#known.delete(this.#known.keys().next().value);
    this.#onRead();
  }
}
