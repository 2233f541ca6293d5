// Dropping files: onto the page or chosen in a dialog, then followed until each has ended.

import { h, inNextFrame, keyed, replace, setAttribute, setText } from './dom.js';
import { bytes, plural } from './format.js';
import { globMatches } from './glob.js';
import { icon } from './icons.js';
import { field, progressBar, setProgress, setState, showDialog, stateBadge } from './parts.js';
import { announce } from './shell.js';
import { Upload } from './upload.js';
import { outside, setOutside, visible } from './visible.js';

/** Files that are sent at the same time. */
const AT_ONCE = 3;

/** The clients whose rules take a file of this name; all of them if there are none. */
export function clientsFor(name, clients) {
  const own = clients.filter(({ files }) => files.some((glob) => globMatches(glob, name)));
  return own.length ? own : clients;
}

export class Drops {
  #app;
  /** @type {Upload[]} */
  #uploads = [];
  #root = document.getElementById('drops');
  #render;

  constructor(app) {
    this.#app = app;
    this.#render = inNextFrame(() => this.#show());
    if (app.access.may('drop')) this.#takeFromPage();
    window.addEventListener('beforeunload', (event) => this.#uploads.some((upload) => upload.isSending) && event.preventDefault());
  }

  /** Asks for files, and for whom they are. */
  choose(files = []) {
    const clients = this.#app.clients.filter(({ id, files: globs }) => globs.length && this.#app.access.may('drop', id));
    openDropDialog(files, clients, this.#app.client, (chosen) => this.#add(chosen));
  }

  #takeFromPage() {
    const overlay = h('div', { class: 'drop-overlay', hidden: true, 'aria-hidden': 'true' }, h('div', {}, icon('upload'), 'Drop files for the platform'));
    document.body.append(overlay);
    const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
    window.addEventListener('dragover', (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      overlay.hidden = false;
    });
    window.addEventListener('dragleave', (event) => event.relatedTarget === null && (overlay.hidden = true));
    window.addEventListener('drop', (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      overlay.hidden = true;
      if (!document.querySelector('dialog[open]')) this.choose([...event.dataTransfer.files]);
    });
  }

  #add(chosen) {
    for (const { file, client, lane } of chosen) {
      const upload = new Upload(this.#app.api, file, client, lane);
      upload.addEventListener('change', () => {
        if (upload.hasEnded && !upload.wasAnnounced) {
          upload.wasAnnounced = true;
          announce(`${visible(file.name)}: ${upload.summary}`);
        }
        this.#startNext();
        this.#render();
      });
      this.#uploads.unshift(upload);
    }
    this.#startNext();
    this.#render();
  }

  #startNext() {
    const sending = this.#uploads.filter((upload) => upload.isSending).length;
    const waiting = this.#uploads.filter((upload) => upload.state === 'queued').reverse();
    for (const upload of waiting.slice(0, Math.max(0, AT_ONCE - sending))) upload.start();
  }

  #show() {
    if (this.#uploads.length === 0) {
      this.#root.replaceChildren();
      this.list = null;
      return;
    }
    if (!this.list) this.#build();
    const open = this.#uploads.filter((upload) => !upload.hasEnded).length;
    setText(this.title, open ? `${plural(open, 'dropped file')} on the way` : `${plural(this.#uploads.length, 'dropped file')}, all ended`);
    keyed(this.list, this.#uploads, { key: (upload) => String(upload.number), create: () => uploadRow(), update: (row, upload) => this.#update(row, upload) });
  }

  #build() {
    this.title = h('h2');
    this.list = h('ul', { class: 'drops-list' });
    const close = h('button', { type: 'button', class: 'quiet icon-only', 'aria-label': 'Clear those that have ended', title: 'Clear those that have ended' }, icon('close'));
    close.addEventListener('click', () => {
      this.#uploads = this.#uploads.filter((upload) => !upload.hasEnded);
      this.#render();
    });
    replace(this.#root, h('section', { class: 'drops-tray', 'aria-label': 'Dropped files' }, h('div', { class: 'panel-head' }, this.title, close), this.list));
  }

  #update(row, upload) {
    const [badge, text, bar, stop] = row.children;
    setState(badge, upload.badge);
    const [name, note] = text.children;
    setOutside(name.firstChild, upload.file.name);
    setAttribute(name, 'href', upload.ingestion && upload.state !== 'discarded' ? this.#app.router.href(['files'], { file: upload.ingestion }) : null);
    setOutside(note, upload.summary);
    bar.hidden = upload.hasEnded;
    setProgress(bar, upload.progress);
    stop.hidden = !upload.isSending;
    stop.onclick = () => upload.abort();
  }
}

function uploadRow() {
  return h('li', { class: 'drop-row' }, stateBadge('waiting'),
    h('div', { class: 'drop-text' }, h('a', { class: 'ellipsis' }, h('bdi')), outside('', { class: 'outside small soft' })),
    progressBar('Sent, then ingested'),
    h('button', { type: 'button', class: 'quiet icon-only', 'aria-label': 'Stop sending' }, icon('close')));
}

/** Asks which files, for which client, and in which lane. */
function openDropDialog(given, clients, chosenClient, onDrop) {
  let entries = [];
  const picker = h('input', { id: 'drop-files', type: 'file', multiple: true });
  const lane = h('select', { id: 'drop-lane' }, h('option', { value: 'live' }, 'live: as soon as possible'), h('option', { value: 'backfill' }, 'backfill: after all live files'));
  const list = h('ul', { class: 'drop-choices' });
  const drop = h('button', { type: 'submit', class: 'primary' }, 'Drop');
  const cancel = h('button', { type: 'button' }, 'Cancel');
  const form = h('form', { class: 'stack', method: 'dialog' },
    h('h2', { id: 'drop-title' }, 'Drop files'),
    h('p', { class: 'soft' }, 'They are checked as if they were put into the drop directory: a file that the rules refuse is discarded, with all reasons.'),
    field('Files', picker), list, field('Lane', lane),
    h('div', { class: 'row end' }, cancel, drop));
  const dialog = h('dialog', { id: 'drop-dialog', class: 'dialog', 'aria-labelledby': 'drop-title' }, form);

  const take = (files) => {
    entries = files.map((file) => ({ file, client: preselected(file.name, clients, chosenClient) }));
    replace(list, entries.map((entry) => choiceRow(entry, clients, show)));
    show();
  };
  const show = () => {
    drop.disabled = entries.length === 0 || entries.some(({ client }) => !client);
    setText(drop, entries.length ? `Drop ${plural(entries.length, 'file')}, ${bytes(entries.reduce((sum, { file }) => sum + file.size, 0))}` : 'Drop');
  };
  picker.addEventListener('change', () => take([...picker.files]));
  cancel.addEventListener('click', () => dialog.close());
  form.addEventListener('submit', () => onDrop(entries.map((entry) => ({ ...entry, lane: lane.value }))));
  take(given);
  showDialog(dialog);
}

/** The client that a file is for, if there is no doubt. */
function preselected(name, clients, chosen) {
  if (clients.some(({ id }) => id === chosen)) return chosen;
  const [first, ...others] = clientsFor(name, clients);
  return first && others.length === 0 ? first.id : '';
}

function choiceRow(entry, clients, onChange) {
  const own = new Set(clientsFor(entry.file.name, clients).map(({ id }) => id));
  const select = h('select', { 'aria-label': `Client of ${visible(entry.file.name)}` },
    h('option', { value: '' }, 'choose a client'),
    clients.map(({ id }) => h('option', { value: id }, own.has(id) ? visible(id) : `${visible(id)} (its globs do not match)`)));
  select.value = entry.client;
  select.addEventListener('change', () => {
    entry.client = select.value;
    onChange();
  });
  return h('li', {}, outside(entry.file.name, { class: 'ellipsis' }), h('span', { class: 'faint small' }, bytes(entry.file.size)), select);
}
