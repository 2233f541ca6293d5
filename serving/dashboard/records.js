// The records of a view: a query, its answer page by page, and the same as a file.

import { encoded, isAbort } from './api.js';
import { h, inNextFrame, replace, setText } from './dom.js';
import { exportLinks } from './export_links.js';
import { count, plural, setTime } from './format.js';
import { timeOf } from './latest.js';
import { empty, failure, setState, stateBadge } from './parts.js';
import { queryForm } from './query_form.js';
import { fieldsOf, openRecord, recordFields, showRecordFields, textOf, valueAt } from './record_text.js';
import { setOutside } from './visible.js';
import { VirtualList } from './virtual_list.js';

const PAGE = 200;
/** As many as an export may have. */
const EXPORT_MAX = 100_000;

export function recordsTab(root, { app, client, view }, signal) {
  const path = `/api/clients/${encoded(client)}/records`;
  const without = [view.time, view.source].filter(Boolean);
  let query = {};
  let records = [];
  let next;
  let reading = null;

  const form = queryForm(app.router, [
    { name: 'from', label: 'From', type: 'time' },
    { name: 'until', label: 'Until', type: 'time' },
    ...(view.source ? [{ name: 'source', label: 'Source', placeholder: 'all' }] : []),
    { name: 'order', label: 'Order', type: 'select', value: 'desc', options: [['desc', 'latest first'], ['asc', 'oldest first']] },
    { name: 'fields', label: 'Fields', placeholder: 'all, or such as temp,meta.x' },
  ], () => read(), signal);
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const none = h('div');
  const list = new VirtualList({
    label: 'Records',
    name: 'record-list',
    rowHeight: 44,
    columns: [{ title: 'Time' }, { title: 'Source' }, { title: 'Layer' }, { title: 'Fields' }],
    key: (record) => record._cursor ?? textOf(record._id),
    create: () => {
      const button = h('button', { type: 'button', class: 'quiet row-link', title: 'Open the record' }, h('time'));
      return [button, h('bdi', { class: 'ellipsis' }), stateBadge('waiting'), recordFields()];
    },
    update: ([button, source, layer, fields], record) => {
      setTime(button.firstChild, timeOf(record, view), (value) => value.replace('T', ' ').replace('Z', ''));
      button.onclick = () => openRecord(record, app.settings);
      setOutside(source, view.source ? textOf(valueAt(record, view.source)) : '');
      setState(layer, record._origin?.layer ?? 'unknown');
      showRecordFields(fields, shownPart(record, query.fields, [...without, '_origin', '_cursor', '_id']), without, app.settings);
    },
    onEnd: () => next && !reading && page(),
  }, signal);

  /** The fields that the rows need besides those that were asked for. */
  const asked = () => (query.fields ? [...new Set([...query.fields.split(','), ...without, '_id', '_origin'])].join(',') : undefined);
  const show = inNextFrame(() => {
    list.set(records, { total: next ? -1 : records.length });
    list.setFoot(reading && !records.length ? 'Reading…' : `${plural(records.length, 'record')}${next ? ' read so far. More as you scroll.' : '. That is all.'}`);
    const isEmpty = !reading && records.length === 0;
    list.element.hidden = isEmpty;
    replace(none, isEmpty && empty('No records', h('p', {}, 'No record of this view is like that. Without a source and times all are shown.')));
  }, signal);

  async function page() {
    const controller = new AbortController();
    reading?.abort();
    reading = controller;
    const isFirst = next === undefined;
    try {
      const answer = await app.api.get(path, { view: view.name, ...query, fields: asked(), limit: PAGE, cursor: next }, { signal: AbortSignal.any([signal, controller.signal]) });
      records = isFirst ? answer.items : [...records, ...answer.items];
      next = answer.next;
      failure(failed, null);
    } catch (error) {
      if (isAbort(error)) return;
      failure(failed, error);
      next = undefined;
    }
    reading = null;
    show();
  }

  function read() {
    query = form.values();
    next = undefined;
    records = [];
    list.scrollToTop();
    page();
    show();
  }

  const exported = (format) => ({
    path,
    query: {
      view: view.name, ...query, limit: EXPORT_MAX,
      // A table needs its columns; by default those that are shown.
      fields: query.fields || (format === 'csv' ? ['_id', ...without, ...fieldsOf(records, without)].join(',') : undefined),
    },
  });
  const note = h('span', { class: 'faint tiny' });
  setText(note, `up to ${count(EXPORT_MAX)} records`);
  root.append(form.element, failed, h('section', { class: 'panel fill', 'aria-label': 'Records' },
    h('div', { class: 'panel-head' }, h('h2', {}, 'Records'), h('div', { class: 'row wrap' }, note, exportLinks(app, exported, `${client}-${view.name}`))), list.element, none));
  app.settings.onChange(() => list.refresh(), signal);
  read();
}

/** The record without what was only asked for to show the rest. */
function shownPart(record, fields, without) {
  if (!fields) return record;
  const names = fields.split(',').map((name) => name.trim()).filter((name) => !without.includes(name));
  return Object.fromEntries(names.filter((name) => name in record).map((name) => [name, record[name]]));
}
