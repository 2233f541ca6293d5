// Windows over a view: the numbers of fields over time, as a plot and a table, and live as windows are closed.

import { encoded, isAbort } from './api.js';
import { Chart } from './chart.js';
import { h, inNextFrame, replace, setText } from './dom.js';
import { exportLinks } from './export_links.js';
import { count, decimal, plural, setTime } from './format.js';
import { timeOf } from './latest.js';
import { empty, failure, setState, stateBadge } from './parts.js';
import { groupBy } from './groups.js';
import { queryForm } from './query_form.js';
import { measuredField, textOf } from './record_text.js';
import { setOutside } from './visible.js';
import { VirtualList } from './virtual_list.js';

const LIMIT = 1000;
/** Windows that are shown before the newest record if no time is asked for. */
const WINDOWS_SHOWN = 120;
const SOURCES_PLOTTED = 8;
const EXPORT_MAX = 1_000_000;
const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3600_000, d: 86_400_000 };

/** The milliseconds of a size such as `10s`; NaN for anything else. */
export function sizeOf(text) {
  const match = /^(\d+)(ms|s|m|h|d)$/.exec(text);
  return match ? Number(match[1]) * UNITS[match[2]] : NaN;
}

/** Puts a window where it belongs; one that is there already is replaced. Items are in the order of time. */
export function withWindow(items, item) {
  const isSame = (one) => one.start === item.start && one.source === item.source && one.field === item.field;
  const at = items.findLastIndex(isSame);
  if (at >= 0) return items.with(at, { ...items[at], ...item });
  const place = items.findLastIndex((one) => one.start <= item.start) + 1;
  return items.toSpliced(place, 0, item);
}

export function windowsTab(root, { app, client, view }, signal) {
  const path = `/api/clients/${encoded(client)}/windows`;
  let query = null;
  let items = [];
  let next;
  let chart = null;
  let isReading = false;

  const form = queryForm(app.router, [
    { name: 'size', label: 'Size', value: '', placeholder: '1m', hint: 'such as 10s, 1m, 1h, 1d' },
    { name: 'fields', label: 'Fields', placeholder: 'such as temp', hint: 'numbers, with commas between' },
    ...(view.source ? [{ name: 'source', label: 'Source', placeholder: 'all' }] : []),
    { name: 'from', label: 'From', type: 'time', hint: 'without: the latest windows' },
    { name: 'until', label: 'Until', type: 'time' },
  ], () => read(), signal);
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const plot = h('div', { class: 'window-plot' });
  const live = h('span', { class: 'faint tiny', role: 'none' });
  const none = h('div');
  const list = new VirtualList({
    label: 'Windows',
    name: 'window-list',
    rowHeight: 40,
    columns: [{ title: 'Start' }, { title: 'Source' }, { title: 'Field' }, { title: 'Count', class: 'number' }, { title: 'Min', class: 'number' }, { title: 'Mean', class: 'number' }, { title: 'Max', class: 'number' }, { title: 'Deviation', class: 'number' }, { title: 'State' }],
    key: (item) => `${item.start} ${item.field} ${textOf(item.source)}`,
    create: () => [h('time'), h('bdi', { class: 'ellipsis' }), h('bdi', { class: 'ellipsis' }), h('span'), h('span'), h('span'), h('span'), h('span'), stateBadge('open')],
    update: ([start, source, field, number, least, mean, most, deviation, state], item) => {
      setTime(start, item.start, (value) => value.replace('T', ' ').replace('Z', ''));
      setOutside(source, textOf(item.source ?? ''));
      setOutside(field, item.field);
      setText(number, count(item.count));
      const shown = (value) => (app.settings.hidesPayloads ? '•••' : value === null || value === undefined ? '–' : decimal(value, 5));
      [[least, item.min], [mean, item.mean], [most, item.max], [deviation, item.stddev]].forEach(([cell, value]) => setText(cell, shown(value)));
      setState(state, item.revision > 1 ? `revision_${item.revision}` : item.state);
    },
    onEnd: () => next && !isReading && page(),
  }, signal);

  const show = inNextFrame(() => {
    // The latest first, as one looks at what happens now.
    list.set(items.toReversed(), { total: next ? -1 : items.length });
    list.setFoot(isReading && !items.length ? 'Reading…' : `${plural(items.length, 'window')}${next ? ' read so far.' : '.'}`);
    const isEmpty = !isReading && items.length === 0;
    list.element.hidden = isEmpty;
    replace(none, isEmpty && empty('No windows', h('p', {}, 'No number was found: no record has such a field in this time, or it has text there.')));
    showPlot();
  }, signal);

  async function showPlot() {
    if (app.settings.hidesPayloads || items.length === 0) {
      plot.hidden = true;
      return;
    }
    plot.hidden = false;
    if (!chart) {
      const { default: uPlot } = await import('./vendor/uPlot.esm.js');
      if (signal.aborted || chart) return;
      chart = new Chart(uPlot, { title: 'Windows', format: (value) => decimal(value, 4), height: 220, fromZero: false }, signal);
      plot.append(chart.element);
    }
    const { times, lines, left } = linesOfWindows(items);
    setOutside(chart.title.firstChild, `${query.fields} in windows of ${query.size}${query.source ? `, ${query.source}` : ', mean of each source'}`);
    chart.set(times, lines, left > 0 ? `${SOURCES_PLOTTED} of ${SOURCES_PLOTTED + left} sources; choose a source to see its least and greatest values.` : '');
  }

  async function page() {
    isReading = true;
    const isFirst = next === undefined;
    try {
      const answer = await app.api.get(path, { view: view.name, ...query, limit: LIMIT, cursor: next }, { signal });
      items = isFirst ? answer.items : [...items, ...answer.items];
      next = answer.next;
      failure(failed, null);
    } catch (error) {
      if (isAbort(error)) return;
      failure(failed, error);
      next = undefined;
    }
    isReading = false;
    show();
  }

  async function read() {
    next = undefined;
    items = [];
    try {
      query = await completed(app, client, view, form, signal);
    } catch (error) {
      if (!isAbort(error)) failure(failed, error);
      return;
    }
    if (query) await page();
  }

  app.live.on(['window'], (event) => {
    const isShown = query && event.client === client && event.view === view.name && event.size === query.size
      && (!query.source || event.source === query.source) && !form.values().until;
    if (!isShown) return;
    const wanted = query.fields.split(',');
    for (const [field, numbers] of Object.entries(event.fields)) {
      if (wanted.includes(field)) items = withWindow(items, { start: event.start, end: event.end, source: event.source, field, ...numbers, state: 'closed', revision: event.revision });
    }
    setText(live, 'live: closed windows appear as they are published');
    show();
  }, signal);
  app.settings.onChange(() => {
    list.refresh();
    show();
  }, signal);
  const exported = () => ({ path, query: { view: view.name, ...query, limit: EXPORT_MAX } });
  root.append(form.element, failed, h('section', { class: 'panel fill', 'aria-label': 'Windows' },
    h('div', { class: 'panel-head' }, h('h2', {}, 'Windows'), live, exportLinks(app, exported, `${client}-${view.name}-windows`)), plot, list.element, none));
  read();
}

/** The query of the form; what is not asked for is what the view has: its numbers, and its newest windows. */
async function completed(app, client, view, form, signal) {
  const query = form.values();
  const { items } = await app.api.get(`/api/clients/${encoded(client)}/records`, { view: view.name, source: query.source, order: 'desc', limit: 50 }, { signal });
  if (items.length === 0) return { ...query, size: query.size || '1m', fields: query.fields || '_' };
  query.fields ||= measuredField(items, [view.time, view.source]) ?? '_';
  const newest = Date.parse(timeOf(items[0], view));
  query.size ||= guessSize(newest - Date.parse(timeOf(items.at(-1), view)));
  for (const name of ['size', 'fields']) form.controls.get(name).value ||= query[name];
  if (!query.from && !query.until && Number.isFinite(newest)) {
    query.from = new Date(newest - WINDOWS_SHOWN * sizeOf(query.size)).toISOString();
  }
  return query;
}

/** A size for which the windows have some records each. */
function guessSize(span) {
  if (!(span > 0) || span < 60_000) return '10s';
  return span < 3600_000 ? '1m' : span < 86_400_000 ? '1h' : '1d';
}

/** Of one source its least, mean and greatest values; of several the mean of each. Pure. */
export function linesOfWindows(items) {
  const starts = [...new Set(items.map(({ start }) => start))].sort();
  const index = new Map(starts.map((start, at) => [start, at]));
  const groups = groupBy(items, ({ source, field }) => JSON.stringify([source, field]));
  const column = (group, name) => {
    const values = new Array(starts.length).fill(null);
    for (const item of group) values[index.get(item.start)] = item[name];
    return values;
  };
  const times = starts.map((start) => Date.parse(start) / 1000);
  if (groups.size === 1) {
    const [group] = groups.values();
    return { times, left: 0, lines: [['mean', 0, false], ['min', 5, true], ['max', 1, true]].map(([label, colour, dashed]) => ({ label, colour, dashed, values: column(group, label) })) };
  }
  const shown = [...groups].slice(0, SOURCES_PLOTTED);
  const hasFields = new Set(items.map(({ field }) => field)).size > 1;
  const lines = shown.map(([key, group], colour) => {
    const [source, field] = JSON.parse(key);
    return { label: hasFields ? `${textOf(source)} ${field}` : textOf(source), colour, values: column(group, 'mean') };
  });
  return { times, lines, left: groups.size - shown.length };
}
