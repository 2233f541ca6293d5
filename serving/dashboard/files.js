// The list of files: filtered by the server, read page by page as one scrolls, and kept up to date by events.

import { h, inNextFrame, keyed, replace, setAttribute, setText } from './dom.js';
import { openFile } from './file_detail.js';
import { STATES, keyOf, withFiles } from './file_identity.js';
import { fileFlow } from './flow.js';
import { bytes, compact, count, duration, plural, setTime, timeElement } from './format.js';
import { isAbort } from './api.js';
import { empty, failure, panel, progressBar, setProgress, setState, stateBadge } from './parts.js';
import { FILE_EVENTS } from './present_files.js';
import { setOutside, visible } from './visible.js';
import { VirtualList } from './virtual_list.js';
import { icon } from './icons.js';

/** The first page is there at once, the others bring more. */
const PAGE_FIRST = 100;
const PAGE = 1000;
/** The list changes at most this often, in milliseconds. */
const EVENTS_PAUSE = 150;
const SHOWN_STATES = STATES.filter((state) => state !== 'purged');
const SINCE = [['', 'at any time'], ['15m', 'in the last 15 minutes'], ['1h', 'in the last hour'], ['24h', 'in the last 24 hours'], ['7d', 'in the last 7 days']];
/** How long after a key the list is read for what was typed. */
const TYPING_PAUSE = 250;

export function filesView(root, app, signal) {
  const files = new FileList(app, signal);
  root.append(
    h('h1', { class: 'visually-hidden' }, 'Files'),
    h('details', { class: 'panel flow-panel', open: innerWidth > 900 && innerHeight > 1000 }, h('summary', {}, 'The way of files'), fileFlow(app, signal)),
    panel('Files', { id: 'files', className: 'fill' }, filters(app, signal), files.failure, files.list.element, files.none));
  openNamedFile(app, signal);
}

/** What the address asks for. */
function filterOf(app) {
  const { state = '', name = '', since = '' } = app.router.route.query;
  return { states: new Set(state.split(',').filter(Boolean)), client: app.client, name, since: sinceTime(since) };
}

/** Returns the time that `15m`, `1h`, `7d` or a time of its own means. */
export function sinceTime(since, now = Date.now()) {
  const match = /^(\d+)([mhd])$/.exec(since);
  if (!match) return since;
  const size = { m: 60, h: 3600, d: 86400 }[match[2]];
  return new Date(now - match[1] * size * 1000).toISOString();
}

function filters(app, signal) {
  const { router } = app;
  const chips = h('div', { class: 'chips', role: 'group', 'aria-label': 'States' });
  const toggle = (state) => {
    const { states } = filterOf(app);
    if (!states.delete(state)) states.add(state);
    router.change({ state: STATES.filter((one) => states.has(one)).join(',') });
  };
  const name = h('input', { id: 'file-name', type: 'search', placeholder: 'Part of the name', 'aria-label': 'Part of the name', value: router.route.query.name ?? '' });
  let timer = 0;
  name.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => router.change({ name: name.value }), TYPING_PAUSE);
  });
  const since = h('select', { id: 'file-since', 'aria-label': 'Received' }, SINCE.map(([value, text]) => h('option', { value }, text)));
  since.addEventListener('change', () => router.change({ since: since.value }));
  const show = inNextFrame(() => {
    const { states } = filterOf(app);
    keyed(chips, SHOWN_STATES, {
      key: (state) => state,
      create: (state) => h('button', { type: 'button', class: 'chip', 'data-state': state, on: { click: () => toggle(state) } }, icon(state), h('span', {}, state), h('span', { class: 'chip-count' })),
      update: (chip, state) => {
        setAttribute(chip, 'aria-pressed', String(states.has(state)));
        const more = state === 'ingested' ? '' : app.files.hasMore.present ? '+' : '';
        setText(chip.lastChild, state === 'ingested' || !app.files.isRead ? '' : `${count(app.files.in(state).length)}${more}`);
      },
    });
    since.value = router.route.query.since ?? '';
    if (document.activeElement !== name) name.value = router.route.query.name ?? '';
  }, signal);
  router.addEventListener('change', show, { signal });
  app.files.onChange(show, signal);
  show();
  return h('div', { class: 'filters' }, chips, name, since);
}

class FileList {
  #app;
  #signal;
  #filter;
  #items = [];
  #next;
  #isComplete = false;
  #reading = null;
  /** What has happened and is not in the list yet. */
  #events = [];
  #asked = '';

  constructor(app, signal) {
    this.#app = app;
    this.#signal = signal;
    this.failure = h('p', { class: 'failure', role: 'alert', hidden: true });
    this.none = h('div', {});
    this.list = new VirtualList({
      label: 'Files',
      name: 'file-list',
      rowHeight: 56,
      columns: [{ title: 'State' }, { title: 'Name' }, { title: 'Client' }, { title: 'Records', class: 'number' }, { title: 'Size', class: 'number' }, { title: 'Received' }, { title: 'Took', class: 'number' }],
      key: keyOf,
      create: () => createRow(),
      update: (cells, file) => updateRow(cells, file, app),
      onEnd: () => this.#more(),
    }, signal);
    const show = inNextFrame(() => this.#applyEvents(), signal, EVENTS_PAUSE);
    app.live.on(FILE_EVENTS, (file) => {
      this.#events.push(file);
      show();
    }, signal);
    app.live.on(['resync'], () => this.#read(), signal);
    app.router.addEventListener('change', () => this.#changed(), { signal });
    this.#changed();
  }

  /** Reads the list if the address asks for another one. */
  #changed() {
    const { state, name, since } = this.#app.router.route.query;
    const asked = JSON.stringify([state, name, since, this.#app.client]);
    if (asked === this.#asked) return;
    this.#asked = asked;
    // Links of rows keep the filters.
    this.list.refresh();
    this.list.scrollToTop();
    this.#read();
  }

  /** Reads it from its beginning; what is shown stays until the first page is there. */
  #read() {
    this.#filter = filterOf(this.#app);
    this.#next = undefined;
    this.#isComplete = false;
    this.#events = [];
    this.#page(true);
  }

  #applyEvents() {
    // The first page may be from before them, or from after; they are applied to it once it is there.
    if (this.#reading?.isFirst) return;
    this.#items = withFiles(this.#items, this.#events, this.#filter, this.#isComplete);
    this.#events = [];
    this.#show();
  }

  #more() {
    if (!this.#reading && this.#next) this.#page(false);
  }

  async #page(isFirst) {
    this.#reading?.controller.abort();
    const controller = new AbortController();
    const reading = { controller, isFirst };
    this.#reading = reading;
    const stop = () => controller.abort();
    this.#signal.addEventListener('abort', stop, { once: true });
    const { states, client, name, since } = this.#filter;
    const query = { state: [...states].join(','), client, name, since, limit: isFirst ? PAGE_FIRST : PAGE, cursor: this.#next };
    try {
      const page = await this.#app.api.get('/api/files', query, { signal: controller.signal });
      this.#items = isFirst ? page.items : [...this.#items, ...unseen(page.items, this.#items)];
      this.#next = page.next;
      this.#isComplete = !page.next;
      failure(this.failure, null);
    } catch (error) {
      if (isAbort(error)) return;
      failure(this.failure, error);
    } finally {
      this.#signal.removeEventListener('abort', stop);
      if (this.#reading === reading) this.#reading = null;
    }
    if (!this.#signal.aborted) this.#applyEvents();
  }

  #show() {
    this.list.set(this.#items, { total: this.#isComplete ? this.#items.length : -1 });
    const end = this.#isComplete ? 'That is all.' : 'More as you scroll.';
    this.list.setFoot(this.#items.length ? `${plural(this.#items.length, 'file')}${this.#isComplete ? '' : ' read so far'}. ${end}` : '');
    const isEmpty = this.#items.length === 0 && this.#isComplete;
    this.list.element.hidden = isEmpty;
    replace(this.none, isEmpty && teach(this.#app));
  }
}

/** A file that moved on while pages were read may be in two of them. */
function unseen(items, earlier) {
  const keys = new Set(earlier.map(keyOf));
  return items.filter((item) => !keys.has(keyOf(item)));
}

function teach(app) {
  const { state, name, since } = app.router.route.query;
  if (state || name || since) {
    return empty('No file is like this', h('p', {}, h('a', { href: app.router.href(['files']) }, 'Show all files')));
  }
  const client = app.clients.find(({ id }) => id === app.client) ?? app.clients.find(({ files }) => files.length) ?? app.clients[0];
  return empty('No files yet',
    h('p', {}, app.access.may('drop') ? 'Drop one onto this page, or on the host:' : 'They are dropped on the host:'),
    h('pre', {}, `cp samples/weather.csv client-input-directory/${client?.id ?? 'client1'}/`),
    h('p', {}, 'Every file ends as ingested, discarded with all reasons, or held until a person decides.'));
}

function createRow() {
  return [
    stateBadge('waiting'),
    h('div', { class: 'file-name' }, h('a', { class: 'row-link ellipsis' }, h('bdi')), h('span', { class: 'file-note ellipsis' }, h('bdi')), progressBar('Micro-batches ingested')),
    h('bdi', { class: 'ellipsis' }),
    h('div', { class: 'file-records' }, h('span'), h('span', { class: 'tiny faint' })),
    h('span', {}),
    timeElement(),
    h('span', {}),
  ];
}

function updateRow([badge, name, client, records, size, received, took], file, app) {
  setState(badge, file.state);
  const [link, note, bar] = name.children;
  setOutside(link.firstChild, file.name);
  setAttribute(link, 'href', linkTo(app, file));
  const isMoving = file.state === 'staged' && file.micro_batches > 0;
  setOutside(note.firstChild, file.reasons[0] ?? (isMoving ? `${file.lane}, ${file.micro_batches_done} of ${plural(file.micro_batches, 'micro-batch', 'micro-batches')}` : file.lane && file.lane !== 'live' ? file.lane : ''));
  setAttribute(note, 'title', visible(file.reasons.join('; ')) || null);
  bar.hidden = !isMoving;
  setProgress(bar, isMoving ? file.micro_batches_done / file.micro_batches : 0);
  setOutside(client, file.client ?? 'no client');
  setText(records.firstChild, file.records === undefined ? '' : count(file.records));
  setText(records.lastChild, recordsNote(file));
  setText(size, bytes(file.bytes));
  setTime(received, file.received_at);
  setText(took, file.ended_at && file.received_at ? duration((new Date(file.ended_at) - new Date(file.received_at)) / 1000) : '');
}

function recordsNote({ rejected, duplicates }) {
  const parts = [];
  if (rejected) parts.push(`${compact(rejected)} rejected`);
  if (duplicates) parts.push(`${compact(duplicates)} dup.`);
  return parts.join(', ');
}

function linkTo(app, file) {
  const { state, name, since } = app.router.route.query;
  const at = file.state === 'discarded' || !file.ingestion ? { file: file.id, at: file.state } : { file: file.ingestion };
  return app.router.href(['files'], { state, name, since, ...at });
}

/** Opens the file that the address names, and closes it when it names none. */
function openNamedFile(app, signal) {
  let open = null;
  const show = () => {
    const { file, at } = app.router.route.query;
    if (open?.file === file) return;
    open?.close();
    open = file ? { file, close: openFile(app, { id: file, state: at }, () => app.router.change({ file: '', at: '' }), signal) } : null;
  };
  app.router.addEventListener('change', show, { signal });
  signal.addEventListener('abort', () => open?.close());
  show();
}
