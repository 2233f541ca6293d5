// The frame around the views: header, navigation, and what has to be said wherever one is.

import { accessButton } from './access.js';
import { h, inNextFrame, keyed, replace, setAttribute, setText } from './dom.js';
import { duration, relative } from './format.js';
import { icon } from './icons.js';
import { nextTheme } from './settings.js';
import { visible } from './visible.js';

/** The views, in the order of the navigation. */
export const VIEWS = [
  ['overview', 'Overview'],
  ['files', 'Files'],
  ['streams', 'Streams'],
  ['plots', 'Plots'],
  ['data', 'Data'],
  ['arrivals', 'Arrivals'],
  ['events', 'Events'],
];

const byId = (id) => document.getElementById(id);

/** Builds everything around the view, and keeps it up to date. */
export function startShell(app) {
  startTheme(app.settings);
  replace(byId('server'), location.host);
  replace(byId('controls'), clientFilter(app), dropButton(app), payloadButton(app.settings), themeButton(app.settings), accessButton(app));
  startSkipLink();
  startNavigation(app);
  startConnection(app.live);
}

/** How long what was said stays, in milliseconds: what is said meanwhile is added to it, so that nothing is lost. */
const ANNOUNCED_FOR = 5000;

/** Says something to those who cannot see it. */
export function announce(text) {
  const said = h('p', {}, text);
  byId('announcer').append(said);
  setTimeout(() => said.remove(), ANNOUNCED_FOR);
}

/** Its address would be that of a view. */
function startSkipLink() {
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    byId('main').focus();
  });
}

function startTheme(settings) {
  const apply = () => {
    if (settings.theme === 'system') document.documentElement.removeAttribute('data-theme');
    else document.documentElement.dataset.theme = settings.theme;
  };
  settings.onChange(apply);
  apply();
}

function themeButton(settings) {
  const button = h('button', { id: 'theme', type: 'button', class: 'quiet icon-only', on: { click: () => (settings.theme = nextTheme(settings.theme)) } });
  const show = () => {
    const name = { system: 'system', light: 'sun', dark: 'moon' }[settings.theme];
    replace(button, icon(name));
    const label = `Theme: ${settings.theme === 'system' ? 'that of the system' : settings.theme}`;
    setAttribute(button, 'aria-label', label);
    button.title = label;
  };
  settings.onChange(show);
  show();
  return button;
}

function payloadButton(settings) {
  const button = h('button', { id: 'hide-payloads', type: 'button', class: 'quiet icon-only', on: { click: () => (settings.hidesPayloads = !settings.hidesPayloads) } });
  const show = () => {
    replace(button, icon(settings.hidesPayloads ? 'hidden' : 'eye'), settings.hidesPayloads && h('span', {}, 'payloads hidden'));
    setAttribute(button, 'aria-pressed', String(settings.hidesPayloads));
    setAttribute(button, 'aria-label', 'Hide payloads');
    button.title = 'Hide payloads: records and values are masked, for a shared screen';
  };
  settings.onChange(show);
  show();
  return button;
}

function clientFilter(app) {
  const select = h('select', { id: 'client', 'aria-label': 'Client', on: { change: () => app.router.change({ client: select.value }, { replace: false }) } });
  const options = [['', 'All clients'], ...app.clients.map(({ id }) => [id, visible(id)])];
  if (app.clients.length === 1) options.shift();
  replace(select, options.map(([value, text]) => h('option', { value }, text)));
  const show = () => (select.value = app.client);
  app.router.addEventListener('change', show);
  show();
  return select;
}

function dropButton(app) {
  if (!app.access.may('drop')) return null;
  return h('button', { id: 'drop-button', type: 'button', class: 'primary', 'aria-label': 'Drop files', on: { click: () => app.drops.choose() } }, icon('upload'), h('span', {}, 'Drop files'));
}

function startNavigation(app) {
  const nav = byId('nav');
  const show = inNextFrame(() => {
    const here = app.router.route.path[0] ?? 'overview';
    keyed(nav, VIEWS, {
      key: ([name]) => name,
      create: ([name, title]) => h('a', {}, icon(name), h('span', { class: 'nav-title' }, title), h('span', { class: 'nav-count' })),
      update: (link, [name]) => {
        setAttribute(link, 'href', app.router.href(name === 'overview' ? [] : [name]));
        setAttribute(link, 'aria-current', name === here ? 'page' : null);
        const { count, label } = badge(app, name);
        setText(link.lastChild, count || '');
        setAttribute(link.lastChild, 'aria-label', count ? label : null);
        setAttribute(link.lastChild, 'role', count ? 'img' : null);
      },
    });
    setAttribute(document.querySelector('.brand'), 'href', app.router.href([]));
  });
  app.router.addEventListener('change', show);
  // On a phone the views are beside each other, and not all fit.
  const scrollToHere = () => requestAnimationFrame(() => nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' }));
  app.router.addEventListener('change', scrollToHere);
  app.files.onChange(show);
  app.arrivals.onChange(show);
  show();
  scrollToHere();
}

function badge(app, view) {
  if (view === 'files') {
    const count = app.files.in('held').length;
    return { count, label: `${count} held` };
  }
  if (view === 'arrivals') {
    const count = (app.arrivals.current ?? []).filter((item) => item.state === 'missing').length;
    return { count, label: `${count} missing` };
  }
  return { count: 0 };
}

const CONNECTION = {
  connecting: () => 'Connecting',
  live: () => 'Live',
  reconnecting: (live) => `Reconnecting${live.heardAt ? `, the data is ${duration(Math.max(1, Math.round((Date.now() - live.heardAt) / 1000)))} old` : ''}`,
  paused: () => 'Paused',
  refused: (live) => `Not live: ${visible(live.reason)}`,
};

function startConnection(live) {
  const element = byId('connection');
  const dot = h('span', { class: 'connection-dot', 'aria-hidden': 'true' });
  const text = h('span', { class: 'connection-text', 'aria-hidden': 'true' });
  const spoken = h('span', { class: 'visually-hidden' });
  replace(element, dot, text, spoken);
  const show = () => {
    element.dataset.state = live.state;
    setText(text, CONNECTION[live.state](live));
    element.title = live.reason ? visible(live.reason) : `Events arrive as they happen; last heard ${live.heardAt ? relative(live.heardAt) : 'never'}`;
  };
  live.addEventListener('state', () => {
    show();
    // The age of the data is not said each second.
    setText(spoken, live.state === 'reconnecting' ? 'Connection lost, reconnecting' : CONNECTION[live.state](live));
  });
  setInterval(() => live.state !== 'live' && show(), 1000);
  show();
}
