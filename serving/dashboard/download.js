// Saves an answer of the server as a file. A plain link could not send the token, nor say which form is wanted.

import { isAbort } from './api.js';
import { h, setText } from './dom.js';
import { bytes } from './format.js';
import { icon } from './icons.js';
import { notify } from './parts.js';

/** What one may save here; an answer is in memory until it is whole. */
const BYTES_MAX = 1_000_000_000;

/**
 * A button that saves an answer. Pressed again, it stops.
 *
 * @param {{label: string, path: string | (() => string), accept: string, fileName: string}} what
 */
export function downloadButton(app, { label, path, accept, fileName, className = '' }) {
  const text = h('span', {}, label);
  const button = h('button', { type: 'button', class: className }, icon('download'), text);
  let running = null;
  button.addEventListener('click', async () => {
    if (running) {
      running.abort();
      return;
    }
    running = new AbortController();
    try {
      const address = typeof path === 'function' ? path() : path;
      const response = await app.api.request(address, { accept, signal: running.signal });
      save(await whole(response, (count) => setText(text, `${bytes(count)}, stop`)), fileName);
    } catch (error) {
      if (!isAbort(error)) notify(error.message, 'failure');
    }
    setText(text, label);
    running = null;
  });
  return button;
}

/** Reads an answer; one that breaks off is an error. */
async function whole(response, onProgress) {
  const pieces = [];
  let count = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    count += value.length;
    if (count > BYTES_MAX) throw new Error('This is more than can be saved from here: use curl, or a client of the HTTP API.');
    onProgress(count);
  }
  return new Blob(pieces, { type: response.headers.get('content-type') ?? 'application/octet-stream' });
}

function save(blob, fileName) {
  const link = h('a', { href: URL.createObjectURL(blob), download: fileName });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
