// What has just happened: the events since the page was opened, the latest first.

import { h, inNextFrame, replace, setAttribute, setText } from './dom.js';
import { count, plural, time } from './format.js';
import { icon } from './icons.js';
import { choice, empty, setState, stateBadge } from './parts.js';
import { setOutside } from './visible.js';
import { VirtualList } from './virtual_list.js';

/** Older ones are forgotten. */
const KEPT = 5000;
const KINDS = [['', 'All'], ['files', 'Files'], ['trouble', 'Held and discarded'], ['scaled', 'Scaling'], ['window', 'Windows'], ['arrival', 'Arrivals']];
/** The list changes at most this often, in milliseconds. */
const RENDER_PAUSE = 250;
const NOT_LOGGED = new Set(['resync']);

/**
 * @typedef {object} Entry
 * @property {number} number
 * @property {string} kind
 * @property {number} at when it was received here
 * @property {object} data
 */

export class EventLog extends EventTarget {
  /** @type {Entry[]} the oldest first */
  #entries = [];
  #count = 0;

  start(live) {
    live.on(['any'], ({ kind, at, data }) => {
      if (NOT_LOGGED.has(kind)) return;
      this.#entries.push({ number: this.#count++, kind, at, data });
      if (this.#entries.length > KEPT * 1.2) this.#entries = this.#entries.slice(-KEPT);
      this.dispatchEvent(new Event('change'));
    });
  }

  onChange(listener, signal) {
    this.addEventListener('change', listener, { signal });
  }

  /** The latest entries that are wanted, the latest first. */
  latest(max, isWanted = () => true) {
    const found = [];
    for (let index = this.#entries.length - 1; index >= 0 && found.length < max; index -= 1) {
      if (isWanted(this.#entries[index])) found.push(this.#entries[index]);
    }
    return found;
  }
}

/** Whether an entry is of a kind of the filter, and contains a text. Pure. */
export function isWanted(entry, kind, text) {
  const isFile = 'name' in entry.data && 'state' in entry.data;
  const isKind = {
    '': true, files: isFile, trouble: entry.kind === 'held' || entry.kind === 'discarded',
  }[kind] ?? entry.kind === kind;
  return isKind && (!text || sentenceOf(entry).toLowerCase().includes(text.toLowerCase()));
}

/** What has happened, in words. */
export function sentenceOf({ kind, data }) {
  switch (kind) {
    case 'waiting': return `${data.name} of ${data.client ?? 'no client'} was dropped`;
    case 'staged': return `${data.name} of ${data.client} is staged in the ${data.lane} lane: ${plural(data.records, 'record')} in ${plural(data.micro_batches, 'micro-batch', 'micro-batches')}`;
    case 'progress': return `${data.name} of ${data.client}: ${data.micro_batches_done} of ${plural(data.micro_batches, 'micro-batch', 'micro-batches')} ingested`;
    case 'ingested': return `${data.name} of ${data.client} is ingested: ${count(data.stored)} stored${data.duplicates ? `, ${count(data.duplicates)} duplicates` : ''}${data.rejected ? `, ${count(data.rejected)} rejected` : ''}`;
    case 'held': case 'discarded': return `${data.name} of ${data.client ?? 'no client'} ${kind === 'held' ? 'is held' : 'was discarded'}: ${data.reasons.join('; ')}`;
    case 'purged': return `${data.name} of ${data.client ?? 'no client'} was purged`;
    case 'scaled': {
      // The last decision may have kept the number since.
      const reason = data.decisions?.find(({ before, desired }) => before !== desired)?.reason;
      return `${data.client}/${data.stream}: ${data.before} → ${plural(data.desired, 'instance')}, by ${data.is_manual ? 'a person' : 'the policy'}${reason ? `: ${reason}` : ''}`;
    }
    case 'window': return `${data.view} of ${data.client}: window of ${data.size} from ${time(data.start)} of ${data.source ?? 'all'} is closed${data.revision > 1 ? `, revision ${data.revision}` : ''}`;
    case 'arrival': return `${data.contract} of ${data.client}: ${data.state.replaceAll('_', ' ')}`;
    default: return JSON.stringify(data);
  }
}

export function eventsView(root, app, signal) {
  const { router, log } = app;
  let paused = null;
  const kinds = choice('Kinds', KINDS, router.route.query.kind ?? '', (kind) => router.change({ kind }));
  const text = h('input', { id: 'event-text', type: 'search', placeholder: 'Contains', 'aria-label': 'Contains', value: router.route.query.text ?? '', on: { input: () => router.change({ text: text.value }) } });
  const pause = h('button', { id: 'event-pause', type: 'button' });
  const list = new VirtualList({
    label: 'Events',
    name: 'event-list',
    rowHeight: 40,
    columns: [{ title: 'Time' }, { title: 'Kind' }, { title: 'What has happened' }],
    key: (entry) => String(entry.number),
    create: () => [h('time'), stateBadge('waiting'), h('a', { class: 'ellipsis' }, h('bdi'))],
    update: ([at, badge, link], entry) => {
      at.dateTime = new Date(entry.at).toISOString();
      setText(at, time(entry.at));
      setState(badge, entry.kind);
      setOutside(link.firstChild, sentenceOf(entry));
      setAttribute(link, 'href', linkOf(entry, app));
    },
  }, signal);
  const none = empty('Nothing has happened yet', h('p', {}, 'Events appear here as they happen, from the moment this page was opened. Drop a file to see some.'));
  const show = inNextFrame(() => {
    const { kind = '', text: part = '' } = router.route.query;
    const entries = (paused ?? log.latest(KEPT)).filter((entry) => isWanted(entry, kind, part));
    kinds.show(kind);
    none.hidden = entries.length > 0;
    list.element.hidden = entries.length === 0;
    list.set(entries, { total: entries.length });
    list.setFoot(entries.length ? `${plural(entries.length, 'event')}${paused ? '; paused, new ones are not shown' : ''}` : '');
  }, signal, RENDER_PAUSE);
  const showPause = () => {
    replace(pause, icon(paused ? 'play' : 'pause'), paused ? 'Continue' : 'Pause');
    setAttribute(pause, 'aria-pressed', String(paused !== null));
  };
  pause.addEventListener('click', () => {
    paused = paused ? null : log.latest(KEPT);
    showPause();
    show();
  });
  root.append(h('h1', { class: 'view-title' }, 'Events'), h('div', { class: 'filters' }, kinds, text, pause), h('section', { class: 'panel fill', 'aria-label': 'Events' }, list.element, none));
  log.onChange(() => !paused && show(), signal);
  router.addEventListener('change', show, { signal });
  showPause();
  show();
}

function linkOf({ kind, data }, app) {
  if (kind === 'scaled') return app.router.href(['streams']);
  if (kind === 'arrival') return app.router.href(['arrivals']);
  if (kind === 'window') return app.router.href(['data', data.client, data.view, 'windows'], { size: data.size, source: data.source });
  if (kind === 'discarded' || kind === 'waiting') return app.router.href(['files'], { file: data.id, at: kind });
  return data.ingestion ? app.router.href(['files'], { file: data.ingestion }) : null;
}

/** One line for an event. */
export function shortLogRow() {
  return h('li', { class: 'log-line' }, h('time', { class: 'faint small' }), stateBadge('waiting'), h('a', { class: 'ellipsis' }, h('bdi')));
}

export function updateLogRow(row, entry, app) {
  const [at, badge, link] = row.children;
  setText(at, time(entry.at));
  setState(badge, entry.kind);
  setOutside(link.firstChild, sentenceOf(entry));
  setAttribute(link, 'href', linkOf(entry, app));
}
