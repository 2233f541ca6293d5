// The dashboard, from its beginning:
//
// 1. who uses it (`access.js`), and which clients there are;
// 2. what all views share is read and kept up to date: `present_files.js`, and the resources below;
// 3. the frame around the views (`shell.js`, `attention.js`), and the tray of dropped files (`drops.js`);
// 4. `live.js` connects, and tells all of them what happens;
// 5. the view of the present address is shown (`router.js`), until there is another one.
//
// A view is a function that fills an element, and stops when its signal says so. No view keeps anything that is not in its address,
// on the server, or in what is shared here.

import { Access, askForToken } from './access.js';
import { Api } from './api.js';
import { arrivalsView } from './arrivals.js';
import { startAttention } from './attention.js';
import { dataView } from './data.js';
import { h, replace } from './dom.js';
import { Drops } from './drops.js';
import { EventLog, eventsView } from './event_log.js';
import { filesView } from './files.js';
import { keepRelativeTimes } from './format.js';
import { Live } from './live.js';
import { overviewView } from './overview.js';
import { plotsView } from './plots.js';
import { FILE_EVENTS, PresentFiles } from './present_files.js';
import { Resource } from './resource.js';
import { Router } from './router.js';
import { Settings } from './settings.js';
import { VIEWS, startShell } from './shell.js';
import { streamsView } from './streams.js';

const VIEW_FUNCTIONS = {
  overview: overviewView,
  files: filesView,
  streams: streamsView,
  plots: plotsView,
  data: dataView,
  arrivals: arrivalsView,
  events: eventsView,
};

/** How long until the server is asked again whether it answers, at the start. */
const START_AGAIN_AFTER = 2000;

await start();

async function start() {
  const settings = new Settings();
  const api = new Api(askForToken);
  const { access, clients } = await whenAnswered(() => whoAndWhat(api));
  const router = new Router();
  const app = {
    settings, api, access, clients, router,
    live: new Live(api),
    /** The client that is shown, or '' for all. */
    get client() {
      return router.client || (clients.length === 1 ? clients[0].id : '');
    },
  };
  app.files = new PresentFiles(api, () => app.client);
  app.log = new EventLog();
  const list = (path) => async (signal) => (await api.get(path, { client: app.client }, { signal })).items;
  app.streams = new Resource(list('/api/streams'), { every: 5000 });
  app.queues = new Resource(list('/api/queues'), { every: 5000, pause: 1000 });
  app.arrivals = new Resource(orNone(list('/api/arrivals')), { every: 60_000, pause: 2000 });
  app.readiness = new Resource((signal) => readiness(api, access, signal), { every: 15_000, pause: 5000 });
  app.drops = new Drops(app);

  router.start();
  startShell(app);
  startAttention(app);
  keepRelativeTimes();
  listen(app);
  showViews(app);
}

/** The caller, and the clients that it may see. */
async function whoAndWhat(api) {
  const { items: clients } = await api.get('/api/clients');
  return { access: await Access.read(api), clients };
}

/** Repeats what fails because the server does not answer. */
async function whenAnswered(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      replace(document.getElementById('view'), h('p', { class: 'failure', role: 'alert' }, error.message), error.status === 403 && anotherToken());
      await new Promise((resolve) => setTimeout(resolve, START_AGAIN_AFTER));
    }
  }
}

/** For somebody whose token does not allow to see anything. */
function anotherToken() {
  const begin = () => {
    sessionStorage.clear();
    location.reload();
  };
  return h('p', {}, h('button', { type: 'button', on: { click: begin } }, 'Use another token'));
}

/** A list that earlier servers do not have. */
function orNone(load) {
  let isKnown = true;
  return async (signal) => {
    try {
      return isKnown ? await load(signal) : [];
    } catch (error) {
      if (error.status !== 404) throw error;
      isKnown = false;
      return [];
    }
  };
}

/** Each part if the caller may know; else only whether everything runs. */
async function readiness(api, access, signal) {
  const mayKnow = access.may('read') && access.clients === null;
  const response = await api.request(mayKnow ? '/readyz?verbose' : '/readyz', { signal, accepts: [503] });
  return response.json();
}

/** Connects what happens with what is shown. */
function listen(app) {
  const { live, router } = app;
  app.files.start(live);
  app.log.start(live);
  live.on(['scaled'], () => app.streams.refresh());
  live.on(FILE_EVENTS, () => app.queues.refresh());
  live.on(['arrival'], () => app.arrivals.refresh());
  const resources = [app.streams, app.queues, app.arrivals, app.readiness];
  live.on(['resync'], () => resources.forEach((resource) => resource.refresh()));
  for (const resource of resources) resource.start();

  let client = app.client;
  router.addEventListener('change', () => {
    if (app.client === client) return;
    client = app.client;
    // The connection says `resync` once it is there.
    live.setClient(client);
    app.files.clear();
    for (const resource of [app.streams, app.queues, app.arrivals]) resource.restart();
  });
  live.start(client);
}

/** Shows the view of the address, and another one when it names another one, or another client. */
function showViews(app) {
  const root = document.getElementById('view');
  let shown = null;
  let controller = new AbortController();
  const show = () => {
    const [name = 'overview'] = app.router.route.path;
    const key = `${name} ${app.client}`;
    if (key === shown) return;
    const isFirst = shown === null;
    const isOther = shown?.split(' ')[0] !== name;
    shown = key;
    controller.abort();
    controller = new AbortController();
    const [, title] = VIEWS.find(([view]) => view === name) ?? VIEWS[0];
    document.title = `${title} · mysimbdp`;
    root.replaceChildren();
    root.className = `view view-${name}`;
    (VIEW_FUNCTIONS[name] ?? overviewView)(root, app, controller.signal);
    if (!isFirst && isOther) {
      document.getElementById('main').focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  };
  app.router.addEventListener('change', show);
  show();
}
