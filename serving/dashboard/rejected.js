// The rejected records of a file: the first of them, each with its reason.

import { isAbort } from './api.js';
import { h, keyed, setText } from './dom.js';
import { count, plural } from './format.js';
import { failure, setPayload } from './parts.js';
import { setOutside } from './visible.js';

/** The rest is in the download. */
const SHOWN = 25;

export function rejectedRecords(app, ingestion, total, signal) {
  const list = h('ol', { class: 'rejected' });
  const note = h('p', { class: 'faint small' });
  const failed = h('p', { class: 'failure', hidden: true });
  let records = [];
  const show = () => {
    keyed(list, records, {
      key: (record) => String(record.record),
      create: () => h('li', {}, h('div', { class: 'rejected-head' }, h('span', { class: 'mono tiny faint' }), h('bdi')), h('pre', { class: 'rejected-content' }, h('bdi'))),
      update: (row, record) => {
        const [head, content] = row.children;
        setText(head.firstChild, `record ${record.record}`);
        setOutside(head.lastChild, record.reason);
        setPayload(content.firstChild, record.content ?? `Base64: ${record.content_base64}`, app.settings);
      },
    });
    setText(note, records.length < total && records.length ? `The first ${count(records.length)}; download the rejected records to get all of them.` : '');
  };
  app.settings.onChange(show, signal);
  readFirst(app, ingestion, signal).then((read) => {
    records = read;
    show();
  }).catch((error) => !isAbort(error) && failure(failed, error));
  return h('section', {}, h('h3', {}, `${plural(total, 'rejected record')}`), failed, list, note);
}

/** Reads the first records, and does not wait for the others. */
async function readFirst(app, ingestion, signal) {
  const enough = new AbortController();
  const stop = AbortSignal.any([signal, enough.signal]);
  const response = await app.api.request(`/api/ingestions/${ingestion}/rejected`, { accept: 'application/x-ndjson', signal: stop });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    text += value ?? '';
    const lines = text.split('\n').filter(Boolean);
    if (!done && lines.length <= SHOWN) continue;
    enough.abort();
    const whole = done ? lines : lines.slice(0, -1);
    return whole.slice(0, SHOWN).map((line) => JSON.parse(line));
  }
}
