// Records as text. Pure, except for the elements at the end.

import { h, keyed } from './dom.js';
import { setPayload, showDialog } from './parts.js';
import { setOutside } from './visible.js';

/** Fields in a row of a list. */
const FIELDS_SHOWN = 8;

/** The value at a path such as `meta.at`; a record that was asked for with fields has it under the whole name. */
export function valueAt(record, path) {
  if (path in record) return record[path];
  return path.split('.').reduce((value, name) => (value && typeof value === 'object' ? value[name] : undefined), record);
}

/** A value as it is in JSON, but a text without quotes. */
export function textOf(value) {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The fields that records have, besides those that the platform adds and those that are shown elsewhere. */
export function fieldsOf(records, without = []) {
  const names = new Set();
  for (const record of records) for (const name of Object.keys(record)) names.add(name);
  for (const name of ['_id', '_origin', '_cursor', ...without]) names.delete(name);
  return [...names];
}

/** The fields whose values are numbers. */
export function numericFields(records, without) {
  return fieldsOf(records, without).filter((name) => records.some((record) => typeof record[name] === 'number'));
}

/** The field that was most likely measured: one with fractions, else one that varies, else the first one; undefined if none is a number. */
export function measuredField(records, without) {
  const fields = numericFields(records, without);
  const numbers = (name) => records.map((record) => record[name]).filter((value) => typeof value === 'number');
  return fields.find((name) => numbers(name).some((number) => !Number.isInteger(number)))
    ?? fields.find((name) => new Set(numbers(name)).size > 1)
    ?? fields[0];
}

/** A place for the fields of a record, beside each other. */
export function recordFields() {
  return h('span', { class: 'record-fields' });
}

/** Shows a record's fields in their place. */
export function showRecordFields(element, record, without, settings) {
  const names = fieldsOf([record], without).slice(0, FIELDS_SHOWN);
  keyed(element, names, {
    key: (name) => name,
    create: () => h('span', { class: 'record-field' }, h('bdi', { class: 'record-name' }), h('bdi', { class: 'record-value' })),
    update: (field, name) => {
      setOutside(field.firstChild, name);
      setPayload(field.lastChild, textOf(record[name]), settings);
    },
  });
}

/** Opens a record as a whole. */
export function openRecord(record, settings) {
  const text = h('pre', { class: 'record-json', tabIndex: 0 }, h('bdi'));
  const close = h('button', { type: 'submit' }, 'Close');
  const dialog = h('dialog', { class: 'dialog wide', 'aria-labelledby': 'record-title' }, h('form', { method: 'dialog', class: 'stack' }, h('h2', { id: 'record-title' }, 'Record'), text, h('div', { class: 'row end' }, close)));
  // Line by line, so that the line ends of the JSON stay what they are.
  const lines = settings.hidesPayloads ? ['••••••'] : JSON.stringify(record, null, 2).split('\n');
  text.replaceChildren(...lines.map((line) => {
    const element = h('bdi', { class: 'record-line' });
    setOutside(element, line);
    return element;
  }));
  showDialog(dialog);
}
