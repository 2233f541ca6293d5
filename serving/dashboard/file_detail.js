// All about one file, in a drawer: where it is and why, what it was split into, where the time went, what was rejected.

import { encoded, isAbort } from './api.js';
import { h, replace, setText } from './dom.js';
import { downloadButton } from './download.js';
import { bytes, count, duration, plural, relativeElement, timeElement } from './format.js';
import { icon } from './icons.js';
import { microBatches } from './micro_batches.js';
import { actionButton, confirmed, copyButton, failure, notify, setState, stateBadge } from './parts.js';
import { FILE_EVENTS } from './present_files.js';
import { rejectedRecords } from './rejected.js';
import { outside, setOutside } from './visible.js';

/** The details are read again after an event of the file, at most this often. */
const PAUSE = 500;

/**
 * @param {{id: string, state?: string}} named an ingestion, or with a state the id of a file in that state
 * @param {() => void} onClose called when the person closes it, and not when it is closed by what this returns
 * @returns {() => void} closes it
 */
export function openFile(app, named, onClose) {
  const ended = new AbortController();
  const detail = new FileDetail(app, named, ended.signal);
  const dialog = h('dialog', { id: 'file-detail', class: 'drawer', 'aria-labelledby': 'file-detail-title' }, detail.element);
  detail.closeButton.addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  // The event comes later: by then the address may name another file.
  let isPerson = true;
  dialog.addEventListener('close', () => {
    ended.abort();
    dialog.remove();
    if (isPerson) onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return () => {
    isPerson = false;
    if (dialog.open) dialog.close();
  };
}

class FileDetail {
  #app;
  #named;
  #signal;
  #timer = 0;
  #shown = '';

  constructor(app, named, signal) {
    this.#app = app;
    this.#named = named;
    this.#signal = signal;
    this.closeButton = h('button', { type: 'button', class: 'quiet icon-only', 'aria-label': 'Close' }, icon('close'));
    this.badge = stateBadge('waiting');
    this.badge.hidden = true;
    this.title = h('h2', { id: 'file-detail-title', tabIndex: -1, autofocus: true }, h('bdi', {}, 'File'));
    this.failure = h('p', { class: 'failure', role: 'alert', hidden: true });
    this.body = h('div', { class: 'drawer-body stack' }, h('p', { class: 'faint' }, 'Reading…'));
    this.element = h('div', { class: 'drawer-frame' }, h('div', { class: 'drawer-head' }, this.badge, this.title, this.closeButton), this.failure, this.body);
    app.live.on(FILE_EVENTS, (file) => this.#concerns(file) && this.#readSoon(), signal);
    app.live.on(['resync'], () => this.#readSoon(), signal);
    this.#read();
  }

  #concerns(file) {
    return file.ingestion === this.#named.id || file.id === this.#named.id;
  }

  #readSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#read(), PAUSE);
  }

  async #read() {
    const { id, state } = this.#named;
    try {
      const found = state ? await this.#listed(id, state) : await this.#app.api.get(`/api/ingestions/${encoded(id)}`, {}, { signal: this.#signal });
      failure(this.failure, null);
      const text = JSON.stringify(found);
      if (text === this.#shown) return;
      this.#shown = text;
      if (state) this.#showListed(found);
      else this.#showIngestion(found);
    } catch (error) {
      if (isAbort(error)) return;
      failure(this.failure, error);
      if (!this.#shown) replace(this.body);
    }
  }

  /** A file that is known only from the list. */
  async #listed(id, state) {
    const known = this.#app.files.in(state).find((file) => file.id === id);
    if (known) return known;
    for await (const page of this.#app.api.pages('/api/files', { state, client: this.#app.client, limit: 1000 }, { signal: this.#signal })) {
      const file = page.items.find((item) => item.id === id);
      if (file) return file;
    }
    throw new Error('This file is not here any more: it has moved on, or was removed.');
  }

  #head(state, name) {
    this.badge.hidden = false;
    setState(this.badge, state);
    setOutside(this.title.firstChild, name);
  }

  #showListed(file) {
    this.#head(file.state, file.name);
    replace(this.body,
      this.#actions({ id: file.id, client: file.client, state: file.state, name: file.name }),
      reasons(file.state, file.reasons, file.codes),
      facts([
        ['Client', outside(file.client ?? 'no client claims it')],
        ['Size', bytes(file.bytes)],
        ['Received', file.received_at && [timeElement(file.received_at), ', ', relativeElement(file.received_at)]],
        ['Ended', file.ended_at && [timeElement(file.ended_at), ', ', relativeElement(file.ended_at)]],
        ['Id', outside(file.id, { class: 'outside mono small' })],
      ]));
  }

  #showIngestion(ingestion) {
    const { manifest, runs, state } = ingestion;
    const [run] = runs;
    const file = manifest ?? run ?? {};
    this.#head(state, file.file ?? ingestion.ingestion);
    replace(this.body,
      this.#actions({ id: ingestion.ingestion, ingestion: ingestion.ingestion, client: ingestion.client, state, name: file.file, run }),
      ingestion.damage && reasons('held', [ingestion.damage], ['damaged']),
      reasons(state, ingestion.reasons, ingestion.codes),
      balance(run),
      facts([
        ['Client', outside(ingestion.client)],
        ['App', file.app && outside(file.app)],
        ['Lane', file.lane],
        ['Format', manifest?.format],
        ['Size', bytes(file.bytes)],
        ['Records', count(manifest?.records ?? run?.received)],
        ['Received', file.received_at && [timeElement(file.received_at), ', ', relativeElement(file.received_at)]],
        ['Collection', run?.collection && outside(run.collection)],
        ['Replaces', file.replace ? 'what earlier runs of this content have stored' : null],
        ['Ingestion', [h('span', { class: 'mono small' }, ingestion.ingestion), copyButton(ingestion.ingestion, 'Copy the ingestion')]],
        ['BLAKE3', manifest && h('span', { class: 'mono small outside' }, manifest.blake3)],
      ]),
      run && timings(run),
      manifest && microBatches(manifest.micro_batches, this.#signal),
      run?.rejected > 0 && rejectedRecords(this.#app, ingestion.ingestion, run.rejected, this.#signal),
      runs.length > 0 && allRuns(runs));
  }

  #actions({ id, ingestion, client, state, name, run }) {
    const canRetry = (state === 'held' || state === 'discarded') && this.#app.access.may('operate', client);
    const retry = canRetry && actionButton('Retry', () => this.#retry(id, state, name), { iconName: 'retry', className: 'primary' });
    const object = ingestion && state === 'ingested' && this.#isObject(client, run) && downloadButton(this.#app, {
      label: 'Stored object', path: `/api/clients/${encoded(client)}/objects/${ingestion}`, accept: '*/*', fileName: name,
    });
    const rejected = run?.rejected > 0 && downloadButton(this.#app, {
      label: 'Rejected records', path: `/api/ingestions/${ingestion}/rejected/content`, accept: '*/*', fileName: `rejected-${name}`,
    });
    const note = !canRetry && (state === 'held' || state === 'discarded') && h('span', { class: 'faint' }, icon('lock'), ' Read only: retry needs the right operate.');
    return h('div', { class: 'row wrap' }, retry, rejected, object, note);
  }

  /** Whether the app has stored the file as a whole. */
  #isObject(client, run) {
    const apps = this.#app.clients.find(({ id }) => id === client)?.object_apps;
    return Boolean(apps?.includes(run?.app));
  }

  async #retry(id, state, name) {
    const what = state === 'held'
      ? 'It goes back to the queue, and its app is run again on what is not yet ingested. Nothing is stored twice.'
      : 'It goes back to the drop directory, and is validated again. If nothing has changed, it is discarded again.';
    if (!await confirmed('Retry this file?', h('span', {}, outside(name), h('br'), what), 'Retry')) return;
    const answer = await this.#app.api.post(`/api/ingestions/${encoded(id)}/retry`);
    notify(answer.ingestion ? 'It is in the queue again' : 'It is in the drop directory again');
    if (state === 'discarded') this.closeButton.click();
    else this.#readSoon();
  }
}

function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(([, value]) => value).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}

function reasons(state, texts, codes = []) {
  if (!texts?.length) return null;
  const heading = { held: 'Why it is held', discarded: 'Why it was discarded' }[state] ?? 'What it waits for';
  return h('section', { class: `reasons reasons-${state}` }, h('h3', {}, heading),
    h('ul', {}, texts.map((text, index) => h('li', {}, outside(text), codes[index] && h('code', { class: 'code' }, codes[index])))));
}

/** What was received is what was stored, was there before, or was rejected. */
function balance(run) {
  if (!run || run.received === 0) return null;
  const parts = [['stored', run.stored, 'ingested'], ['duplicates', run.duplicates, 'waiting'], ['rejected', run.rejected, 'held']];
  return h('section', {}, h('h3', {}, `${plural(run.received, 'record')} received`),
    h('div', { class: 'share', 'aria-hidden': 'true' }, parts.map(([, number, tone]) => share(number / run.received, tone))),
    h('ul', { class: 'keys' }, parts.map(([name, number, tone]) => h('li', {}, h('span', { class: 'key-mark', 'data-tone': tone, 'aria-hidden': 'true' }), h('strong', {}, count(number)), ` ${name}`))));
}

function share(part, tone) {
  const element = h('span', { class: 'share-part', 'data-tone': tone });
  element.style.flexGrow = String(part);
  element.hidden = !(part > 0);
  return element;
}

/** Where the time of a run went. */
function timings(run) {
  const stage = run.seconds.stage ?? 0;
  const ingest = run.seconds.ingest ?? Math.max(0, run.seconds.total - stage);
  const all = stage + ingest || 1;
  const parts = [['settling, validation, splitting', stage, 'waiting'], ['waiting for the app, ingestion, audit', ingest, 'staged']];
  return h('section', {}, h('h3', {}, `It took ${duration(stage + ingest)}`),
    h('div', { class: 'share', 'aria-hidden': 'true' }, parts.map(([, seconds, tone]) => share(seconds / all, tone))),
    h('ul', { class: 'keys' }, parts.map(([name, seconds, tone]) => h('li', {}, h('span', { class: 'key-mark', 'data-tone': tone, 'aria-hidden': 'true' }), h('strong', {}, duration(seconds)), ` ${name}`))));
}

/** Whether what the last run has stored was counted in the store itself. */
function auditOf({ audited, state }) {
  if (audited) return 'The stored records of the last run were counted in the store itself.';
  return state === 'held' ? 'The last run is held: what it has stored was not counted as a whole.' : 'The last run was not audited: its app gives the records ids of its own.';
}

function allRuns(runs) {
  const columns = ['Ended', 'State', 'Stored', 'Duplicates', 'Rejected', 'Took'];
  const body = runs.map((run) => h('tr', {},
    h('td', {}, run.finished_at ? timeElement(run.finished_at) : '–'),
    h('td', {}, stateBadge(run.state)),
    h('td', { class: 'number' }, count(run.stored)),
    h('td', { class: 'number' }, count(run.duplicates)),
    h('td', { class: 'number' }, count(run.rejected)),
    h('td', { class: 'number' }, duration(run.seconds.total))));
  const title = h('h3', {}, plural(runs.length, 'run'));
  const audit = h('p', { class: 'faint small' });
  setText(audit, auditOf(runs[0]));
  return h('section', {}, title, h('div', { class: 'scroll-x', tabIndex: 0, role: 'group', 'aria-label': 'Runs' }, h('table', {},
    h('thead', {}, h('tr', {}, columns.map((name, index) => h('th', { scope: 'col', class: index > 1 ? 'number' : '' }, name)))), h('tbody', {}, body))), audit);
}
