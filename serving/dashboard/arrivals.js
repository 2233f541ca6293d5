// Contracts of arrival: which file is due when, whether it came, and how it was the last times.

import { h, inNextFrame, keyed, setAttribute } from './dom.js';
import { count, duration, plural, relative, relativeElement, setTime, time } from './format.js';
import { icon } from './icons.js';
import { empty, failure, setState, stateBadge } from './parts.js';
import { setOutside } from './visible.js';

const SHOWN = 14;

export function arrivalsView(root, app, signal) {
  const list = h('ul', { class: 'contracts' });
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const none = empty('No arrival contracts',
    h('p', {}, 'A contract says when which file of a client is due, such as every weekday at 06:15 in New York with at least 100 records. The platform then tells what is late, missing or too small before somebody asks.'));
  none.hidden = true;
  root.append(h('h1', { class: 'view-title' }, 'Arrivals'), failed, list, none);
  const show = inNextFrame(() => {
    const items = app.arrivals.current ?? [];
    failure(failed, app.arrivals.error);
    none.hidden = app.arrivals.current === null || items.length > 0;
    keyed(list, items, { key: (item) => `${item.client}/${item.contract}`, create: contractCard, update: (card, item) => updateCard(card, item, app) });
  }, signal);
  app.arrivals.onChange(show, signal);
  show();
}

function contractCard() {
  return h('li', { class: 'panel contract' },
    h('div', { class: 'panel-head' }, stateBadge('expected'), h('h2', {}, h('bdi'))),
    h('p', { class: 'contract-rule soft' }, h('bdi')),
    h('dl', { class: 'figures' }),
    strip());
}

function updateCard(card, item, app) {
  const [head, rule, figures, recent] = card.children;
  setState(head.children[0], item.state);
  setOutside(head.children[1].firstChild, item.contract);
  setOutside(rule.firstChild, ruleOf(item));
  const pairs = [
    ['Client', item.client],
    [Date.parse(item.due) > Date.now() ? 'Due' : 'Was due', time(item.due), relative(item.due)],
    ['Next due', item.next_due !== item.due && time(item.next_due), relative(item.next_due)],
    ['Received', item.received_at && time(item.received_at), item.received_at && earliness(item)],
    ['Records', item.records === undefined ? '' : count(item.records)],
    ['Discarded', item.discarded?.file, item.discarded && `${time(item.discarded.received_at)}: ${item.discarded.reasons.join('; ')}`],
    ['File', item.file],
  ].filter(([, value]) => value);
  keyed(figures, pairs, {
    key: ([name]) => name,
    create: ([name]) => h('div', {}, h('dt', {}, name), h('dd', {}, h(name === 'File' ? 'a' : 'span', {}, h('bdi')), h('bdi', { class: 'figure-note' }))),
    update: (element, [name, value, note]) => {
      const holder = element.lastChild.firstChild;
      setOutside(holder.firstChild, value);
      setOutside(holder.nextSibling, note ?? '');
      if (name === 'File') setAttribute(holder, 'href', item.ingestion ? app.router.href(['files'], { file: item.ingestion }) : null);
    },
  });
  showStrip(recent, item, app);
}

function ruleOf({ files, app, every, by, zone, records_min: least }) {
  return `${files} for ${app}, every ${every} by ${by} (${zone})${least ? `, at least ${plural(least, 'record')}` : ''}`;
}

/** How much before or after its time a file came. */
function earliness({ due, received_at: at }) {
  const seconds = (Date.parse(at) - Date.parse(due)) / 1000;
  return Math.abs(seconds) < 1 ? 'in time' : `${duration(Math.abs(seconds))} ${seconds < 0 ? 'early' : 'late'}`;
}

function strip() {
  return h('ol', { class: 'strip', 'aria-label': 'The last times, the latest first' });
}

/** The last times as marks, which are links to what was received unless `app` is null: each has a shape, a word for screen readers, and what was received as its title. */
function showStrip(list, { recent }, app) {
  keyed(list, recent.slice(0, SHOWN), {
    key: ({ due }) => due,
    create: () => h('li', {}, h('a', { class: 'strip-mark' })),
    update: (item, one) => {
      const mark = item.firstChild;
      if (mark.dataset.state !== one.state) mark.replaceChildren(icon(one.state));
      setAttribute(mark, 'data-state', one.state);
      const words = `${one.state.replaceAll('_', ' ')}, due ${time(one.due)}${one.received_at ? `, ${earliness(one)}` : ''}${one.records === undefined ? '' : `, ${plural(one.records, 'record')}`}`;
      setAttribute(mark, 'aria-label', words);
      setAttribute(mark, 'role', app && one.ingestion ? null : 'img');
      mark.title = words;
      setAttribute(mark, 'href', app && one.ingestion ? app.router.href(['files'], { file: one.ingestion }) : null);
    },
  });
}

/** One line for a contract. */
export function arrivalRow() {
  return h('li', { class: 'arrival-line' }, stateBadge('expected'), h('a', { class: 'ellipsis' }, h('bdi')), strip(), h('span', { class: 'faint small arrival-next' }, 'next due ', relativeElement('')));
}

export function updateArrivalRow(row, item, app) {
  const [badge, link, recent, next] = row.children;
  setState(badge, item.state);
  setAttribute(link, 'href', app.router.href(['arrivals']));
  setOutside(link.firstChild, `${item.client}: ${item.contract}`);
  // Too small for fingers: there they only show.
  showStrip(recent, item, null);
  setTime(next.lastChild, item.state === 'expected' ? item.due : item.next_due, relative);
}
