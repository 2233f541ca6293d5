// The stored data of a view: its latest records, windows over time, and records.

import { encoded, isAbort } from './api.js';
import { h, keyed, replace, setAttribute } from './dom.js';
import { latestTab } from './latest.js';
import { empty, failure } from './parts.js';
import { recordsTab } from './records.js';
import { visible } from './visible.js';
import { windowsTab } from './windows.js';

const TABS = [['latest', 'Latest values', latestTab], ['windows', 'Windows', windowsTab], ['records', 'Records', recordsTab]];
/** Clients that are asked for views until one has any. */
const CLIENTS_ASKED = 20;

/**
 * @typedef {object} ViewItem as `/api/clients/{client}/views` has it
 * @property {string} name
 * @property {'override' | 'union'} kind
 * @property {string} [batch]
 * @property {string} [stream]
 * @property {string} time
 * @property {string} [source]
 */

export function dataView(root, app, signal) {
  const head = h('div', { class: 'view-head' }, h('h1', { class: 'view-title' }, 'Data'));
  const choices = h('div', { class: 'row wrap' });
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Kinds of data' });
  const about = h('p', { class: 'faint small' });
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const content = h('div', { class: 'data-content' });
  head.append(choices, tabs);
  root.append(head, about, failed, content);
  let tabEnded = new AbortController();
  let shown = '';
  let views = { client: null, items: [] };

  const show = async () => {
    const [, pathClient, pathView, pathTab] = app.router.route.path;
    try {
      if (views.client === null || (pathClient && pathClient !== views.client)) {
        views = await viewsOf(app, pathClient, signal);
      }
      failure(failed, null);
    } catch (error) {
      if (!isAbort(error)) failure(failed, error);
      return;
    }
    const view = views.items.find(({ name }) => name === pathView) ?? views.items[0];
    showChoices(choices, app, views, view, pathTab);
    tabs.hidden = !view?.source && !view;
    if (!view) {
      replace(content, teach());
      return;
    }
    const open = TABS.filter(([name]) => name !== 'latest' || view.source);
    const [tab, , mount] = open.find(([name]) => name === pathTab) ?? open[0];
    keyed(tabs, open, {
      key: ([name]) => name,
      create: ([, title]) => h('a', {}, title),
      update: (link, [name]) => {
        setAttribute(link, 'href', app.router.href(['data', views.client, view.name, name], {}));
        setAttribute(link, 'aria-current', name === tab ? 'page' : null);
      },
    });
    replace(about, describe(view));
    const key = JSON.stringify([views.client, view.name, tab]);
    if (key === shown) return;
    shown = key;
    tabEnded.abort();
    tabEnded = new AbortController();
    content.replaceChildren();
    mount(content, { app, client: views.client, view }, AbortSignal.any([signal, tabEnded.signal]));
  };
  app.router.addEventListener('change', show, { signal });
  show();
}

/** The views of the client that is asked for, or of the first one that has any. */
async function viewsOf(app, client, signal) {
  const asked = client || app.client;
  const candidates = asked ? [asked] : app.clients.map(({ id }) => id).slice(0, CLIENTS_ASKED);
  let first = null;
  for (const id of candidates) {
    const { items } = await app.api.get(`/api/clients/${encoded(id)}/views`, {}, { signal });
    if (items.length) return { client: id, items };
    first ??= { client: id, items };
  }
  return first ?? { client: '', items: [] };
}

function showChoices(element, app, views, view, tab) {
  const go = (client, name) => app.router.go(['data', client, ...(name ? [name, ...(tab ? [tab] : [])] : [])], {});
  const clients = h('select', { id: 'data-client', 'aria-label': 'Client of the view' }, app.clients.filter(({ id }) => !app.client || id === app.client).map(({ id }) => h('option', { value: id }, visible(id))));
  clients.value = views.client;
  clients.addEventListener('change', () => go(clients.value));
  const names = h('select', { id: 'data-view', 'aria-label': 'View' }, views.items.map(({ name }) => h('option', { value: name }, visible(name))));
  names.value = view?.name ?? '';
  names.disabled = views.items.length === 0;
  names.addEventListener('change', () => go(views.client, names.value));
  const hadFocus = element.contains(document.activeElement) && document.activeElement.id;
  replace(element, clients, names);
  if (hadFocus) document.getElementById(hadFocus)?.focus();
}

function describe({ kind, batch, stream, time, source }) {
  const layers = [batch && `files in ${batch}`, stream && `messages in ${stream}`].filter(Boolean).map(visible).join(' and ');
  const how = kind === 'override' && batch && stream ? '; files override messages with the same key' : '';
  return `${layers.charAt(0).toUpperCase()}${layers.slice(1)}${how}. Ordered by ${visible(time)}${source ? `, sources are in ${visible(source)}` : ''}.`;
}

function teach() {
  return empty('No views',
    h('p', {}, 'A view is one list of what a client’s files and messages have stored, in the order of a time in them. Define one in config.json:'),
    h('pre', {}, '"views": {\n  "weather": {"batch": "documents", "time": "time_hour", "source": "origin"}\n}'));
}
