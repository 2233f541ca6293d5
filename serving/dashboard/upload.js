// One file that is sent to the platform, and what becomes of it.

import { address, encoded } from './api.js';
import { bytes, count, duration, plural } from './format.js';

/** What has become of it is asked soon at first, and less often if it takes long. */
const ASK_FIRST = 400;
const ASK_MAX = 5000;
let created = 0;

/**
 * @typedef {'queued' | 'sending' | 'failed' | 'waiting' | 'staged' | 'held' | 'discarded' | 'ingested'} UploadState
 */

/** Dispatches `change` whenever there is something new about it. */
export class Upload extends EventTarget {
  /** @type {UploadState} */
  state = 'queued';
  number = created++;
  ingestion = '';
  /** From 0 to 1: sent at first, then ingested. */
  progress = 0;
  wasAnnounced = false;
  #api;
  #client;
  #lane;
  #request = null;
  #status = null;
  #message = '';
  #hasRetried = false;

  constructor(api, file, client, lane) {
    super();
    this.#api = api;
    this.file = file;
    this.#client = client;
    this.#lane = lane;
  }

  get isSending() {
    return this.state === 'sending';
  }

  get hasEnded() {
    return ['failed', 'held', 'discarded', 'ingested'].includes(this.state);
  }

  /** The state as a badge shows it. */
  get badge() {
    return { queued: 'waiting', sending: 'sending', failed: 'refused' }[this.state] ?? this.state;
  }

  /** What is to be known about it, as a sentence. */
  get summary() {
    switch (this.state) {
      case 'queued': return `for ${this.#client}, ${bytes(this.file.size)}`;
      case 'sending': return `${bytes(this.file.size * this.progress)} of ${bytes(this.file.size)} sent to ${this.#client}`;
      case 'failed': return this.#message;
      case 'waiting': return 'received; waits until it is taken';
      case 'staged': return this.#status.reasons[0] ?? `${this.#status.micro_batches_done ?? 0} of ${this.#status.micro_batches ?? '?'} micro-batches ingested`;
      case 'ingested': return `${counts(this.#status)} in ${duration(this.#status.seconds)}`;
      default: return this.#status.reasons.join('; ') || this.#message;
    }
  }

  /** Sends it. `fetch` would not tell how much has been sent. */
  start() {
    this.state = 'sending';
    const request = new XMLHttpRequest();
    this.#request = request;
    const path = `/api/clients/${encoded(this.#client)}/files/${encoded(this.file.name)}`;
    request.open('PUT', address(path, { lane: this.#lane === 'backfill' ? 'backfill' : '' }));
    for (const [name, value] of Object.entries(this.#api.headers())) request.setRequestHeader(name, value);
    request.setRequestHeader('Accept', 'application/json');
    const token = this.#api.token;
    request.upload.addEventListener('progress', (event) => {
      this.progress = event.total ? event.loaded / event.total : 0;
      this.#changed();
    });
    request.addEventListener('load', () => this.#answered(request, token));
    request.addEventListener('error', () => this.#fail('the server did not take the whole file; what has been sent is gone'));
    request.addEventListener('abort', () => this.#fail('stopped; what has been sent is gone'));
    request.send(this.file);
    this.#changed();
  }

  abort() {
    this.#request?.abort();
  }

  async #answered(request, token) {
    if (request.status === 401 && !this.#hasRetried) {
      this.#hasRetried = true;
      await this.#api.renewToken(token);
      this.start();
      return;
    }
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      // What is not JSON tells nothing more than the status.
    }
    if (request.status !== 202) {
      this.#fail(answer.detail ?? `the server has refused it: ${request.status}`);
      return;
    }
    this.ingestion = answer.ingestion;
    this.state = 'waiting';
    this.progress = 0;
    this.#changed();
    this.#follow(answer.status);
  }

  /** Asks what has become of it until it has ended. */
  async #follow(path) {
    for (let wait = ASK_FIRST; !this.hasEnded; wait = Math.min(wait * 1.2, ASK_MAX)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      try {
        this.#status = await this.#api.get(path);
        this.state = this.#status.state;
        this.progress = (this.#status.micro_batches_done ?? 0) / (this.#status.micro_batches || 1);
      } catch (error) {
        if (error.isTemporary) continue;
        this.#fail(error.message);
        return;
      }
      this.#changed();
    }
  }

  #fail(message) {
    this.state = 'failed';
    this.#message = message;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}

/** How many records were received, and what became of them. */
function counts({ received, stored, duplicates, rejected }) {
  const parts = [`${count(stored)} of ${plural(received, 'record')} stored`];
  if (duplicates) parts.push(`${plural(duplicates, 'duplicate')}`);
  if (rejected) parts.push(`${count(rejected)} rejected`);
  return parts.join(', ');
}
