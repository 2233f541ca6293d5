// The connection on which the server tells what happens.
//
// It says honestly what it is: `live`, or since when it is not. After a gap it continues after the last event that was seen; if the
// server does not have those that were missed, it says `resync`, and whoever shows a list reads it again. Nothing is connected
// while the page is hidden.

import { Problem, address, isAbort, problem } from './api.js';
import { EventParser } from './sse.js';

/** The server sends something at least every 15 s. */
const SILENCE_MAX = 40_000;
const BACKOFF = [500, 1000, 2000, 4000, 8000];
/** A page that is hidden for a moment stays connected. */
const PAUSE_AFTER = 10_000;

/**
 * @typedef {'connecting' | 'live' | 'reconnecting' | 'paused' | 'refused'} ConnectionState
 */

/** Dispatches each event of the server as a `CustomEvent` with its data as `detail`; also `resync`, and `state` for its own state. */
export class Live extends EventTarget {
  #api;
  #client = '';
  #lastId = '';
  #connection = null;
  #attempts = 0;
  #timer = 0;
  /** @type {ConnectionState} */
  state = 'connecting';
  /** Since when it is in this state. */
  since = Date.now();
  /** When the server was last heard. */
  heardAt = 0;
  /** Why it is not live. */
  reason = '';

  constructor(api) {
    super();
    this.#api = api;
  }

  /** Listens to what concerns this client, or to everything. */
  start(client) {
    this.#client = client;
    document.addEventListener('visibilitychange', () => this.#visibilityChanged());
    window.addEventListener('online', () => this.#connectNow());
    setInterval(() => this.#checkSilence(), 5000);
    this.#connect();
  }

  /** Listens to another client. */
  setClient(client) {
    if (client === this.#client) return;
    this.#client = client;
    this.#lastId = '';
    this.#connectNow();
  }

  /**
   * Calls `listener` with the data of each event of these kinds.
   *
   * @param {string[]} kinds
   * @param {(data: object, kind: string) => void} listener
   * @param {AbortSignal} [signal] until when
   */
  on(kinds, listener, signal) {
    for (const kind of kinds) this.addEventListener(kind, (event) => listener(event.detail, kind), { signal });
  }

  #connectNow() {
    this.#attempts = 0;
    this.#connect();
  }

  async #connect() {
    clearTimeout(this.#timer);
    this.#connection?.abort();
    const connection = new AbortController();
    this.#connection = connection;
    try {
      await this.#listen(connection.signal);
      if (!connection.signal.aborted) this.#retry(new Problem(0, 'closed', 'the server has ended the connection'));
    } catch (error) {
      if (!connection.signal.aborted) this.#retry(error);
    }
  }

  async #listen(signal) {
    const token = this.#api.token;
    const headers = { Accept: 'text/event-stream', ...this.#api.headers() };
    if (this.#lastId) headers['Last-Event-ID'] = this.#lastId;
    const response = await fetch(address('/events', { client: this.#client }), { headers, signal, cache: 'no-store' });
    if (response.status === 401) {
      await this.#api.renewToken(token);
      if (!signal.aborted) this.#connectNow();
      throw new DOMException('a new connection has replaced this one', 'AbortError');
    }
    if (!response.ok) throw await problem(response);
    // Without an id there is nothing to go on from: what is shown may be from before.
    const mustResync = this.#lastId === '';
    this.#heard();
    this.#attempts = 0;
    this.#setState('live');
    if (mustResync) this.dispatchEvent(new CustomEvent('resync', { detail: {} }));
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      this.#heard();
      for (const event of parser.push(value)) this.#receive(event);
    }
  }

  #receive({ id, event, data }) {
    this.#lastId = id;
    let detail;
    try {
      detail = JSON.parse(data);
    } catch {
      return;
    }
    this.dispatchEvent(new CustomEvent(event, { detail }));
    this.dispatchEvent(new CustomEvent('any', { detail: { id, kind: event, at: Date.now(), data: detail } }));
  }

  #retry(error) {
    if (isAbort(error)) return;
    const isRefused = error.status === 403 || error.status === 404;
    this.reason = error.message;
    this.#setState(isRefused ? 'refused' : 'reconnecting');
    const wait = isRefused ? 30_000 : BACKOFF[Math.min(this.#attempts, BACKOFF.length - 1)];
    this.#attempts += 1;
    // Not all pages at the same moment, after a restart of the server.
    this.#timer = setTimeout(() => this.#connect(), wait * (0.75 + Math.random() / 2));
  }

  #heard() {
    this.heardAt = Date.now();
  }

  #checkSilence() {
    if (this.state === 'live' && Date.now() - this.heardAt > SILENCE_MAX) {
      this.#connection?.abort();
      this.#retry(new Problem(0, 'silent', 'the server has sent nothing for some time'));
    }
  }

  #visibilityChanged() {
    if (!document.hidden) {
      clearTimeout(this.#timer);
      if (this.state !== 'live') this.#connectNow();
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#connection?.abort();
      this.#setState('paused');
    }, PAUSE_AFTER);
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.since = Date.now();
    if (state === 'live') this.reason = '';
    this.dispatchEvent(new Event('state'));
  }
}
