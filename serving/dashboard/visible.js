// Text from outside (names, reasons, records) is shown as what it is: characters that would hide or reorder others become visible.

import { h } from './dom.js';

/**
 * Control characters (C0, C1), soft hyphens, marks and overrides of direction, characters without width, separators of lines,
 * annotation and tag characters, and halves of surrogate pairs.
 */
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|\p{Surrogate}/gu;

/** Returns the text with a visible escape such as `\u{202e}` for each of them. */
export function visible(text) {
  return String(text).replace(INVISIBLE, escape);
}

function escape(character) {
  return `\\u{${character.codePointAt(0).toString(16)}}`;
}

/** What elements show, so that rows that are used again are not laid out again without need. */
const shown = new WeakMap();

/** Makes `element` show text from outside, with escapes set apart from the text itself. */
export function setOutside(element, text) {
  const value = String(text ?? '');
  if (shown.get(element) === value) return;
  shown.set(element, value);
  const parts = [];
  let end = 0;
  for (const match of value.matchAll(INVISIBLE)) {
    if (match.index > end) parts.push(value.slice(end, match.index));
    parts.push(h('span', { class: 'escape' }, escape(match[0])));
    end = match.index + match[0].length;
  }
  parts.push(value.slice(end));
  element.replaceChildren(...parts);
}

/** An element with text from outside. */
export function outside(text, properties = {}) {
  const element = h('bdi', { class: 'outside', ...properties });
  setOutside(element, text);
  return element;
}
