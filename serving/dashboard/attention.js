// What needs a person, in sentences, each with a link to its place.

import { h, inNextFrame, keyed, replace, setAttribute } from './dom.js';
import { count, duration, percent, plural, relative } from './format.js';
import { icon } from './icons.js';
import { setOutside } from './visible.js';
import { loadOf } from './stream_load.js';

/**
 * @typedef {object} Matter
 * @property {string} key
 * @property {'alert' | 'notice'} level `alert`: a person is needed; `notice`: it may pass
 * @property {string} text
 * @property {string} [detail] from outside
 * @property {string[]} path
 * @property {Record<string, string>} [query]
 */

/** What needs a person is told soon, not at once, in milliseconds. */
const RENDER_PAUSE = 1000;
/** A stream at its maximum with this load needs more than it may have. */
const LOAD_HIGH = 0.8;

/**
 * Returns what needs a person, the worst first.
 *
 * @returns {Matter[]}
 */
export function matters({ held, discarded, streams, arrivals, parts, now }) {
  const all = [...ofParts(parts), ...ofHeld(held), ...ofArrivals(arrivals, now), ...ofStreams(streams), ...ofDiscarded(discarded)];
  return all.sort((a, b) => (a.level === 'notice') - (b.level === 'notice'));
}

function ofParts(parts) {
  return parts.filter(({ kind, condition }) => kind !== 'stream' && (condition === 'missing' || condition === 'waits')).map((part) => ({
    key: `part ${part.kind} ${part.name}`,
    level: part.condition === 'missing' ? 'alert' : 'notice',
    text: `${part.name} ${part.condition === 'missing' ? 'is unavailable' : 'waits'}`,
    detail: part.text,
    path: [],
  }));
}

function ofHeld(held) {
  return byClient(held).map(([client, { number, last }]) => ({
    key: `held ${client}`,
    level: 'alert',
    text: number === 1 ? `1 file of ${client} is held:` : `${count(number)} files of ${client} are held, the last one:`,
    detail: `${last.name}: ${last.reasons[0] ?? 'no reason'}`,
    path: ['files'],
    query: { state: 'held' },
  }));
}

function ofDiscarded(discarded) {
  return byClient(discarded).map(([client, { number, last }]) => ({
    key: `discarded ${client}`,
    level: 'notice',
    text: number === 1 ? `1 file of ${client} was discarded within the hour:` : `${count(number)} files of ${client} were discarded within the hour, the last one:`,
    detail: `${last.name}: ${last.reasons[0] ?? 'no reason'}`,
    path: ['files'],
    query: { state: 'discarded', since: '1h' },
  }));
}

/** How many files each client has, and the last one that ended. */
function byClient(files) {
  const clients = new Map();
  for (const file of files) {
    const client = file.client ?? 'no client';
    const known = clients.get(client) ?? { number: 0, last: file };
    clients.set(client, { number: known.number + 1, last: (file.ended_at ?? '') > (known.last.ended_at ?? '') ? file : known.last });
  }
  return [...clients];
}

function ofArrivals(arrivals, now) {
  const words = { missing: 'is missing', late: 'came late', too_small: 'is too small' };
  return arrivals.filter(({ state }) => state in words).map((item) => ({
    key: `arrival ${item.client} ${item.contract}`,
    level: item.state === 'missing' ? 'alert' : 'notice',
    text: `${item.contract} of ${item.client} ${words[item.state]}:`,
    detail: item.state === 'too_small'
      ? `${plural(item.records, 'record')}${item.records_min ? `, at least ${count(item.records_min)} expected` : ''}`
      : `it was due ${relative(item.due, now)}`,
    path: ['arrivals'],
  }));
}

function ofStreams(streams) {
  return streams.flatMap((stream) => {
    const name = `${stream.client}/${stream.stream}`;
    const at = { path: ['streams'] };
    const found = stream.instances.flatMap((instance) => {
      const key = `stream ${name} ${instance.slot}`;
      if (instance.state === 'given-up') {
        return [{ key, level: 'alert', text: `Instance ${instance.slot} of ${name} was given up after ${plural(instance.restarts, 'restart')}`, ...at }];
      }
      if (instance.silent_seconds != null) {
        return [{ key, level: 'alert', text: `Instance ${instance.slot} of ${name} has reported nothing for ${duration(instance.silent_seconds)}`, ...at }];
      }
      if (instance.state === 'backing-off') {
        return [{ key, level: 'notice', text: `Instance ${instance.slot} of ${name} has crashed and is started again`, ...at }];
      }
      return [];
    });
    if (stream.waits_for || !stream.is_ready) {
      found.push({ key: `stream ${name} waits`, level: 'alert', text: `${name} can start no instance:`, detail: stream.waits_for ?? 'broker or store is unavailable', ...at });
    }
    const load = loadOf(stream) ?? 0;
    if (stream.desired >= stream.max && load > LOAD_HIGH) {
      found.push({ key: `stream ${name} max`, level: 'notice', text: `${name} has all of its ${plural(stream.max, 'instance')}, and they are ${percent(load)} busy`, ...at });
    }
    return found;
  });
}

/** Keeps the strip above the views up to date. */
export function startAttention(app) {
  const section = document.getElementById('attention');
  const mark = h('span', { class: 'attention-mark' });
  const title = h('span', { class: 'attention-title' });
  const list = h('ul', { class: 'attention-list' });
  const details = h('details', {}, h('summary', {}, mark, title), list);
  replace(section, details);
  let shown = '';

  const render = inNextFrame(() => {
    const found = present(app);
    const alerts = found.filter(({ level }) => level === 'alert').length;
    const gap = found.length ? null : unknown(app);
    const level = alerts ? 'alert' : found.length || gap ? 'notice' : 'calm';
    setAttribute(section, 'data-level', level);
    if (shown !== level) replace(mark, icon(level));
    shown = level;
    setOutside(title, gap ?? sentence(alerts, found.length - alerts));
    // A tab in the background tells too.
    document.title = document.title.replace(/^(\(\d+\) )?/, alerts ? `(${alerts}) ` : '');
    setAttribute(section, 'data-empty', found.length === 0 ? 'true' : null);
    keyed(list, found, { key: (matter) => matter.key, create: () => row(), update: (element, matter) => update(element, matter, app) });
  }, undefined, RENDER_PAUSE);
  const open = () => {
    details.open = app.router.route.path.length === 0;
    render();
  };
  app.router.addEventListener('change', open);
  for (const source of [app.files, app.streams, app.arrivals, app.readiness]) source.onChange(render);
  setInterval(render, 30_000);
  open();
}

function present(app) {
  return matters({
    held: app.files.in('held'),
    discarded: app.files.discardedLately(),
    streams: app.streams.current ?? [],
    arrivals: app.arrivals.current ?? [],
    // Who may not know the parts is told that something is wrong.
    parts: app.readiness.current?.parts ?? (app.readiness.current?.ready === false ? [{ kind: 'platform', name: 'The platform', condition: 'missing', text: 'not everything runs; its operators see what' }] : []),
    now: Date.now(),
  });
}

/** Why it is not known whether all is well: something could not be read, or is not read yet. Null if everything is known. */
function unknown({ files, streams, arrivals, readiness }) {
  const resources = [streams, arrivals, readiness];
  const failed = [files, ...resources].find(({ error }) => error);
  if (failed) return `Not known, as not everything can be read: ${failed.error.message}`;
  return files.isRead && resources.every(({ current }) => current !== null) ? null : 'Reading what there is …';
}

function sentence(alerts, notices) {
  if (alerts) return `${plural(alerts, 'thing')} ${alerts === 1 ? 'needs' : 'need'} a person${notices ? `, ${count(notices)} more to know about` : ''}`;
  return notices ? `Nothing needs a person; ${plural(notices, 'thing')} to know about` : 'All is well';
}

function row() {
  return h('li', {}, h('a', { class: 'attention-item' }, h('span', { class: 'attention-level' }), h('span', { class: 'attention-text' }, h('span'), ' ', h('bdi', { class: 'attention-detail' }))));
}

function update(element, matter, app) {
  const link = element.firstChild;
  const [level, text] = link.children;
  if (link.dataset.level !== matter.level) {
    link.dataset.level = matter.level;
    replace(level, icon(matter.level), h('span', { class: 'visually-hidden' }, matter.level === 'alert' ? 'Needs a person: ' : 'To know: '));
  }
  setAttribute(link, 'href', app.router.href(matter.path, matter.query));
  setOutside(text.children[0], matter.text);
  setOutside(text.children[1], matter.detail ?? '');
}
