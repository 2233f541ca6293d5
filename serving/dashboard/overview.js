// Everything at a glance: a file's way, streams, arrivals, throughput, and what has just happened.

import { h, inNextFrame, keyed, setAttribute, setText } from './dom.js';
import { shortLogRow, updateLogRow } from './event_log.js';
import { fileFlow } from './flow.js';
import { compact, percent } from './format.js';
import { empty, panel } from './parts.js';
import { historyPlots } from './plots.js';
import { backlogOf, loadOf, throughputOf } from './stream_load.js';
import { slots } from './streams.js';
import { arrivalRow, updateArrivalRow } from './arrivals.js';
import { setOutside } from './visible.js';

const EVENTS_SHOWN = 8;
/** They change at most this often, in milliseconds. */
const EVENTS_PAUSE = 250;

export function overviewView(root, app, signal) {
  root.append(
    h('h1', { class: 'visually-hidden' }, 'Overview'),
    panel('The way of files', { id: 'flow', actions: [h('a', { href: app.router.href(['files']) }, 'All files')] }, fileFlow(app, signal)),
    h('div', { class: 'columns' }, streamsPanel(app, signal), arrivalsPanel(app, signal)),
    panel('Throughput', { id: 'throughput', actions: [h('a', { href: app.router.href(['plots']) }, 'All plots')] },
      historyPlots(app, { names: ['batch_records', 'stream_messages'], range: () => 900, isTrimmed: true, signal })),
    eventsPanel(app, signal),
  );
}

function streamsPanel(app, signal) {
  const list = h('ul', { class: 'rows' });
  const none = empty('No streams', h('p', {}, 'A client has streams if its section of config.json lists them: messages that it publishes are then stored as they arrive.'));
  const show = inNextFrame(() => {
    const streams = app.streams.current ?? [];
    none.hidden = streams.length > 0 || app.streams.current === null;
    keyed(list, streams, {
      key: (stream) => `${stream.client}/${stream.stream}`,
      create: () => h('li', { class: 'stream-line' }, h('a', { class: 'stream-name' }, h('bdi')), h('span', { class: 'stream-slots' }), h('span', { class: 'number' }), h('span', { class: 'faint small' })),
      update: (row, stream) => {
        const [link, boxes, rate, note] = row.children;
        setAttribute(link, 'href', app.router.href(['streams']));
        setOutside(link.firstChild, `${stream.client}/${stream.stream}`);
        slots(boxes, stream);
        setText(rate, `${compact(throughputOf(stream))} msg/s`);
        setText(note, `${percent(loadOf(stream))} busy, ${compact(backlogOf(stream))} waiting`);
      },
    });
  }, signal);
  app.streams.onChange(show, signal);
  show();
  return panel('Streams', { id: 'overview-streams', actions: [h('a', { href: app.router.href(['streams']) }, 'All streams')] }, list, none);
}

function arrivalsPanel(app, signal) {
  const list = h('ul', { class: 'rows' });
  const none = empty('No arrival contracts', h('p', {}, 'A contract says when which file of a client is due; here you see what is late or missing.'));
  const show = inNextFrame(() => {
    const arrivals = app.arrivals.current ?? [];
    none.hidden = arrivals.length > 0 || app.arrivals.current === null;
    keyed(list, arrivals, {
      key: (item) => `${item.client}/${item.contract}`,
      create: () => arrivalRow(),
      update: (row, item) => updateArrivalRow(row, item, app),
    });
  }, signal);
  app.arrivals.onChange(show, signal);
  show();
  return panel('Arrivals', { id: 'overview-arrivals', actions: [h('a', { href: app.router.href(['arrivals']) }, 'All contracts')] }, list, none);
}

function eventsPanel(app, signal) {
  const list = h('ul', { class: 'rows log-short' });
  const none = h('p', { class: 'faint' }, 'Nothing has happened since this page was opened.');
  const show = inNextFrame(() => {
    const events = app.log.latest(EVENTS_SHOWN, (entry) => entry.kind !== 'window' && entry.kind !== 'progress');
    none.hidden = events.length > 0;
    keyed(list, events, { key: (entry) => String(entry.number), create: () => shortLogRow(), update: (row, entry) => updateLogRow(row, entry, app) });
  }, signal, EVENTS_PAUSE);
  app.log.onChange(show, signal);
  show();
  return panel('Just now', { id: 'overview-events', actions: [h('a', { href: app.router.href(['events']) }, 'All events')] }, list, none);
}
