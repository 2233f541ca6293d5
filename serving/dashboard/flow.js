// The way of files as a picture: places with what is in them, and the ways between them on which files are seen to move.

import { h, inNextFrame, keyed, setAttribute, setText } from './dom.js';
import { draw, traveller } from './flow_ways.js';
import { compact, count, duration, plural } from './format.js';
import { icon } from './icons.js';
import { progressBar, setProgress } from './parts.js';
import { setOutside } from './visible.js';

const LANES = ['live', 'backfill', 'retry'];
/** Files whose progress is shown. */
const PROGRESS_SHOWN = 4;

/**
 * Sums up what is where. Pure.
 *
 * @returns {Record<string, {number: number, note: string, detail?: string}> & {progressing: object[]}}
 */
export function flowState({ waiting, staged, held, discardedLately, discarded, ingested, queues, hasMore }) {
  const progressing = staged.filter((file) => file.micro_batches_done > 0);
  const begun = Math.min(staged.length, queues.reduce((sum, queue) => sum + queue.begun, 0));
  const waits = staged.filter((file) => !(file.micro_batches_done > 0));
  // A file of one micro-batch has no progress to be seen; the queue tells how many have begun.
  const silent = waits.slice(0, Math.max(0, begun - progressing.length));
  const isSilent = new Set(silent);
  const places = {};
  for (const lane of LANES) {
    const inLane = waits.filter((file) => (file.lane ?? 'live') === lane && !isSilent.has(file)).length;
    const queue = queues.filter((item) => item.lane === lane);
    places[lane] = { number: inLane, note: laneNote(inLane, queue), detail: queue.find((item) => item.head_waits_for)?.head_waits_for };
  }
  const more = hasMore.present ? '+' : '';
  return {
    ...places,
    drop: { number: waiting.length, note: waiting.length ? 'settling, or about to be taken' : 'nothing waits' },
    validation: { number: null, note: discardedLately.length ? `${plural(discardedLately.length, 'file')} refused within the hour` : 'nothing refused within the hour' },
    ingesting: { number: progressing.length + silent.length, note: '' },
    ingested: { number: ingested.length, more: hasMore.ingested ? '+' : '', note: `within the hour${recordsNote(ingested)}` },
    discarded: { number: discarded.length, more, note: discardedLately.length ? `${count(discardedLately.length)} within the hour` : 'all reasons are kept with each' },
    held: { number: held.length, more, note: held.length ? 'waits for a person' : 'no app gave up' },
    progressing: [...progressing, ...silent],
  };
}

function laneNote(number, queues) {
  const oldest = Math.max(0, ...queues.map((queue) => queue.oldest_seconds ?? 0));
  if (number && oldest) return `the oldest for ${duration(oldest)}`;
  const waits = queues.map((queue) => queue.wait_p50_seconds).filter(Number.isFinite);
  return waits.length ? `half took at most ${duration(Math.max(...waits))}` : '';
}

function recordsNote(ingested) {
  const records = ingested.reduce((sum, file) => sum + (file.stored ?? 0), 0);
  return records ? `, ${compact(records)} records` : '';
}

/** The picture, kept up to date until `signal`. */
export function fileFlow(app, signal) {
  const places = Object.fromEntries([
    place(app, 'drop', 'Drop directory', 'waiting', 'upload'),
    place(app, 'validation', 'Validation', null, 'calm'),
    place(app, 'live', 'Live lane', 'staged', 'staged'),
    place(app, 'backfill', 'Backfill lane', 'staged', 'staged'),
    place(app, 'retry', 'Retry lane', 'staged', 'retry'),
    place(app, 'ingesting', 'Ingesting', 'staged', 'streams'),
    place(app, 'ingested', 'Ingested', 'ingested', 'ingested'),
    place(app, 'discarded', 'Discarded', 'discarded', 'discarded'),
    place(app, 'held', 'Held', 'held', 'held'),
  ].map((one) => [one.dataset.place, one]));
  const progress = h('ul', { class: 'flow-progress', 'aria-label': 'Files that are being ingested' });
  const more = h('p', { class: 'faint tiny' });
  places.ingesting.append(progress, more);
  const picture = h('div', { class: 'flow' }, Object.values(places));
  draw(picture, places, signal);
  const travel = traveller(picture);

  const show = inNextFrame(() => {
    const state = flowState(present(app));
    for (const [name, element] of Object.entries(places)) showPlace(element, state[name], app.files.isRead);
    showProgress(progress, state.progressing, app);
    const rest = state.progressing.length - PROGRESS_SHOWN;
    setText(more, rest > 0 ? `and ${count(rest)} more` : '');
  }, signal);
  app.files.onChange(show, signal);
  app.queues.onChange(show, signal);
  show();

  app.live.on(['staged'], (file) => travel(['drop', 'validation', file.lane ?? 'live'], 'staged'), signal);
  app.live.on(['discarded'], () => travel(['drop', 'validation', 'discarded'], 'discarded'), signal);
  app.live.on(['ingested'], (file) => travel([file.lane ?? 'live', 'ingesting', 'ingested'], 'ingested'), signal);
  app.live.on(['held'], (file) => travel([file.lane ?? 'live', 'ingesting', 'held'], 'held'), signal);
  return picture;
}

function present(app) {
  const { files } = app;
  return {
    waiting: files.in('waiting'), staged: files.in('staged'), held: files.in('held'), discarded: files.in('discarded'),
    discardedLately: files.discardedLately(), ingested: files.in('ingested'), queues: app.queues.current ?? [], hasMore: files.hasMore,
  };
}

function place(app, name, title, state, iconName) {
  const heading = state
    ? h('a', { class: 'place-title', href: app.router.href(['files'], { state }) }, title)
    : h('span', { class: 'place-title' }, title);
  return h('div', { class: `place place-${name}`, 'data-place': name },
    h('div', { class: 'place-head' }, icon(iconName), heading),
    h('div', { class: 'place-number' }),
    h('div', { class: 'place-note' }),
    h('bdi', { class: 'place-detail' }));
}

function showPlace(element, { number, more = '', note, detail }, isRead) {
  const [, figure, remark, waitsFor] = element.children;
  figure.hidden = number === null;
  setText(figure, isRead ? `${count(number)}${more}` : '–');
  setText(remark, note);
  setOutside(waitsFor, detail ?? '');
  setAttribute(element, 'data-empty', number === 0 ? 'true' : null);
}

function showProgress(list, files, app) {
  keyed(list, files.slice(0, PROGRESS_SHOWN), {
    key: (file) => `${file.client}/${file.ingestion ?? file.id}`,
    create: () => h('li', {}, h('a', { class: 'ellipsis' }, h('bdi')), h('span', { class: 'tiny faint' }), progressBar('Micro-batches ingested')),
    update: (row, file) => {
      const [link, done, bar] = row.children;
      setAttribute(link, 'href', app.router.href(['files'], { state: 'staged', file: file.ingestion ?? file.id }));
      setOutside(link.firstChild, file.name);
      setText(done, `${file.micro_batches_done ?? 0}/${file.micro_batches ?? '?'}`);
      setProgress(bar, (file.micro_batches_done ?? 0) / (file.micro_batches || 1));
    },
  });
}
