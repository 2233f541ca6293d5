// The micro-batches of a file: a cell for each, and a table with what is known about it.

import { h, setAttribute, setText } from './dom.js';
import { bytes, count, duration, plural } from './format.js';
import { outside, setOutside, visible } from './visible.js';
import { setState, stateBadge } from './parts.js';
import { VirtualList } from './virtual_list.js';

/** A cell for each of more micro-batches than this would not be seen. */
const CELLS_MAX = 2000;

/** What a micro-batch is in, as a state of the platform. */
export function stateOf(batch) {
  if (batch.is_done) return batch.rejected > 0 ? 'partly' : 'ingested';
  if (batch.failures > 0) return 'failed';
  return batch.attempts > 0 ? 'staged' : 'waiting';
}

const WORDS = { ingested: 'ingested', partly: 'ingested, some rejected', failed: 'failed, tried again', staged: 'in progress', waiting: 'waiting' };

export function microBatches(batches, signal) {
  const done = batches.filter((batch) => batch.is_done).length;
  const cells = batches.length > 1 && batches.length <= CELLS_MAX && h('div', { class: 'cells', role: 'img', 'aria-label': `${count(done)} of ${count(batches.length)} ingested` },
    batches.map((batch) => h('span', { class: 'cell', 'data-state': stateOf(batch), title: `${batch.index}: ${WORDS[stateOf(batch)]}` })));
  const list = new VirtualList({
    label: 'Micro-batches',
    name: 'micro-batch-list',
    rowHeight: 40,
    columns: [{ title: 'No.', class: 'number' }, { title: 'State' }, { title: 'Records', class: 'number' }, { title: 'Size', class: 'number' }, { title: 'Attempts', class: 'number' }, { title: 'Took', class: 'number' }],
    key: (batch) => String(batch.index),
    create: () => [h('span'), h('span', {}, stateBadge('waiting'), outside('', { class: 'ellipsis tiny faint' })), h('span'), h('span'), h('span'), h('span')],
    update: ([number, state, records, size, attempts, took], batch) => {
      setText(number, batch.index);
      setState(state.firstChild, stateOf(batch));
      setText(state.firstChild.lastChild, WORDS[stateOf(batch)]);
      setOutside(state.lastChild, batch.reason ?? '');
      setAttribute(state.lastChild, 'title', batch.reason && visible(batch.reason));
      setText(records, batch.is_done && batch.rejected ? `${count(batch.records)} (${count(batch.rejected)} rejected)` : count(batch.records));
      setText(size, bytes(batch.bytes));
      setText(attempts, batch.failures ? `${batch.attempts} (${batch.failures} failed)` : batch.attempts);
      setText(took, batch.seconds == null ? '' : duration(batch.seconds));
    },
  }, signal);
  list.set(batches, { total: batches.length });
  list.scroller.style.height = `${Math.min(8, batches.length) * 40 + 33}px`;
  return h('section', {}, h('h3', {}, `${plural(batches.length, 'micro-batch', 'micro-batches')}, ${count(done)} ingested`), cells, list.element);
}
