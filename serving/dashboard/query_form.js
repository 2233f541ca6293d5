// A form whose fields are parameters of the address, so that a query can be shared as a link.

import { h } from './dom.js';
import { field } from './parts.js';

/**
 * @param {object} router
 * @param {{name: string, label: string, type?: 'text' | 'time' | 'select', options?: [string, string][], value?: string, placeholder?: string,
 *   hint?: string, list?: string[]}[]} fields `value`: what is asked for if the address says nothing
 * @param {(values: Record<string, string>) => void} onQuery
 */
export function queryForm(router, fields, onQuery, signal) {
  const controls = new Map(fields.map((one) => [one.name, control(one)]));
  const form = h('form', { class: 'query-form panel' },
    fields.map((one) => field(one.label, controls.get(one.name), one.hint)),
    h('div', { class: 'query-actions' }, h('button', { type: 'submit', class: 'primary' }, 'Show')));
  const fill = () => fields.forEach(({ name, type, value = '' }) => {
    const asked = router.route.query[name] ?? value;
    controls.get(name).value = type === 'time' ? localTime(asked) : asked;
  });
  const values = () => Object.fromEntries(fields.map(({ name, type }) => {
    const text = controls.get(name).value.trim();
    return [name, type === 'time' && text ? new Date(text).toISOString() : text];
  }));
  const address = () => JSON.stringify(fields.map(({ name }) => router.route.query[name] ?? ''));
  let asked = address();
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const before = asked;
    router.change(values());
    // The same query again.
    if (asked === before) onQuery(values());
  });
  router.addEventListener('change', () => {
    if (address() === asked) return;
    asked = address();
    fill();
    onQuery(values());
  }, { signal });
  fill();
  return { element: form, values, controls };
}

function control({ name, type = 'text', options = [], placeholder = '' }) {
  if (type === 'select') return h('select', { id: `query-${name}` }, options.map(([value, text]) => h('option', { value }, text)));
  if (type === 'time') return h('input', { id: `query-${name}`, type: 'datetime-local', step: 1 });
  return h('input', { id: `query-${name}`, type: 'text', placeholder, autocomplete: 'off', spellcheck: false });
}

/** A time as the control for times wants it: in the zone of the browser. */
function localTime(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return '';
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
