// The latest record of each source, renewed every few seconds, with a small picture of what a field was before.

import { encoded } from './api.js';
import { h, inNextFrame, replace, setAttribute, setText } from './dom.js';
import { count, plural, relative, setTime } from './format.js';
import { empty, failure } from './parts.js';
import { measuredField, numericFields, recordFields, showRecordFields, valueAt, textOf } from './record_text.js';
import { Resource } from './resource.js';
import { drawSparkline, sparkline } from './sparkline.js';
import { Trends } from './trends.js';
import { setOutside, visible } from './visible.js';
import { VirtualList } from './virtual_list.js';

const RENEW = 5000;
const PAGES_MAX = 10;

/** @param {{app: object, client: string, view: import('./data.js').ViewItem}} what */
export function latestTab(root, { app, client, view }, signal) {
  const { router, settings } = app;
  const base = `/api/clients/${encoded(client)}`;
  const filter = h('input', { id: 'latest-filter', type: 'search', placeholder: 'Part of the source', 'aria-label': 'Part of the source', value: router.route.query.source ?? '', on: { input: () => router.change({ source: filter.value }) } });
  const trend = h('select', { id: 'latest-trend', 'aria-label': 'Trend of' });
  trend.addEventListener('change', () => router.change({ trend: trend.value }));
  const age = h('p', { class: 'faint small', role: 'none' });
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const without = [view.time, view.source];
  const trends = new Trends(app.api, `${base}/records`, view.name, () => show(), signal);
  const list = new VirtualList({
    label: 'Latest values',
    name: 'latest-list',
    rowHeight: 44,
    columns: [{ title: 'Source' }, { title: 'When' }, { title: 'Trend' }, { title: 'Values' }],
    key: (record) => textOf(valueAt(record, view.source)),
    create: () => [h('a', { class: 'row-link ellipsis' }, h('bdi')), h('time', { class: 'relative' }), sparkline(), recordFields()],
    update: ([source, at, picture, fields], record) => {
      const name = textOf(valueAt(record, view.source));
      setOutside(source.firstChild, name);
      setAttribute(source, 'href', router.href(['data', client, view.name, 'records'], { source: name }));
      setTime(at, timeOf(record, view), relative);
      drawSparkline(picture, settings.hidesPayloads ? [] : trends.of(name, trend.value, timeOf(record, view)));
      showRecordFields(fields, record, without, settings);
    },
  }, signal);
  const none = h('div');
  const latest = new Resource((stop) => readAll(app.api, `${base}/latest`, view.name, stop), { every: RENEW }).start(signal);

  const show = inNextFrame(() => {
    const { records, hasMore } = latest.current ?? { records: [], hasMore: false };
    failure(failed, latest.error);
    showTrendChoice(trend, records.slice(0, 200), without, router.route.query.trend);
    const part = (router.route.query.source ?? '').toLowerCase();
    const wanted = part ? records.filter((record) => textOf(valueAt(record, view.source)).toLowerCase().includes(part)) : records;
    list.refresh();
    list.set(wanted, { total: hasMore ? -1 : wanted.length });
    list.setFoot(latest.current ? `${plural(wanted.length, 'source')}${part ? ` of ${count(records.length)}` : ''}${hasMore ? '; there are more' : ''}` : 'Reading…');
    const isEmpty = latest.current !== null && records.length === 0;
    list.element.hidden = isEmpty;
    replace(none, isEmpty && empty('No records yet', h('p', {}, 'The latest record of each source appears here as soon as one is stored.')));
  }, signal);
  const showAge = () => setText(age, latest.readAt ? `Read ${relative(latest.readAt)}, again every few seconds` : '');
  const timer = setInterval(showAge, 1000);
  signal.addEventListener('abort', () => clearInterval(timer));
  latest.onChange(show, signal);
  settings.onChange(show, signal);
  router.addEventListener('change', show, { signal });
  root.append(h('div', { class: 'filters' }, filter, h('label', { class: 'row' }, 'Trend of', trend), age), failed, h('section', { class: 'panel fill', 'aria-label': 'Latest values' }, list.element, none));
  show();
}

async function readAll(api, path, view, signal) {
  const records = [];
  let pages = 0;
  for await (const page of api.pages(path, { view, limit: 1000 }, { signal })) {
    records.push(...page.items);
    pages += 1;
    if (pages === PAGES_MAX && page.next) return { records, hasMore: true };
  }
  return { records, hasMore: false };
}

/** The time of a record as RFC 3339, whatever it is stored as. */
export function timeOf(record, view) {
  const value = valueAt(record, view.time);
  if (view.time_type === 'seconds') return new Date(value * 1000).toISOString();
  if (view.time_type === 'milliseconds') return new Date(value).toISOString();
  return String(value ?? '');
}

function showTrendChoice(select, records, without, chosen) {
  const fields = numericFields(records, without);
  const key = fields.join('\n');
  if (select.dataset.fields !== key) {
    select.dataset.fields = key;
    replace(select, fields.map((name) => h('option', { value: name }, visible(name))));
    select.value = measuredField(records, without) ?? '';
  }
  select.disabled = fields.length === 0;
  if (chosen && fields.includes(chosen)) select.value = chosen;
}
