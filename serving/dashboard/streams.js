// Streams: their instances, how busy they are, why the scaler wants how many, and what a person may change.

import { encoded } from './api.js';
import { h, inNextFrame, keyed, replace, setAttribute, setText } from './dom.js';
import { compact, count, decimal, duration, percent, plural, relative, relativeElement, setTime } from './format.js';
import { icon } from './icons.js';
import { actionButton, confirmed, empty, failure, notify, setProgress, progressBar } from './parts.js';
import { backlogOf, loadOf, throughputOf } from './stream_load.js';
import { drawSparkline, sparkline } from './sparkline.js';
import { setOutside } from './visible.js';

/** Points of the small picture of the last minutes: one for each reading. */
const POINTS = 60;

export function streamsView(root, app, signal) {
  const list = h('div', { class: 'streams' });
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const none = empty('No streams', h('p', {}, 'A stream app stores what a client publishes over MQTT. Add one to the client’s section of config.json, then:'),
    h('pre', {}, 'mosquitto_pub -t mysimbdp/ingest/client3/a -m \'{"origin":"EWR","time_hour":"2026-01-01T00:00:00Z","temp":4.5}\''));
  none.hidden = true;
  root.append(h('h1', { class: 'view-title' }, 'Streams'), failed, list, none);
  const rates = new Map();
  earlierRates(app, signal).then((earlier) => {
    for (const [name, points] of earlier) rates.set(name, [...points, ...(rates.get(name) ?? [])].slice(-POINTS));
    show();
  });
  const show = inNextFrame(() => {
    const streams = app.streams.current ?? [];
    failure(failed, app.streams.error);
    none.hidden = app.streams.current === null || streams.length > 0;
    keyed(list, streams, { key: nameOf, create: (stream) => streamCard(app, stream, signal), update: (card, stream) => card.show(stream, rates.get(nameOf(stream)) ?? []) });
  }, signal);
  app.streams.onChange(() => {
    for (const stream of app.streams.current ?? []) {
      const points = rates.get(nameOf(stream)) ?? [];
      rates.set(nameOf(stream), [...points, throughputOf(stream)].slice(-POINTS));
    }
    show();
  }, signal);
  show();
}

/** The messages per second of the last minutes, if the server keeps what it measures. */
async function earlierRates(app, signal) {
  const [until, minutes] = [Date.now(), (POINTS * 5000) / 60_000];
  const query = { from: new Date(until - minutes * 60_000).toISOString(), until: new Date(until).toISOString(), points: POINTS, client: app.client };
  try {
    const { series } = await app.api.get('/api/measurements', query, { signal });
    return series.filter(({ metric }) => metric === 'stream_messages').map((one) => [nameOf(one), one.mean.filter(Number.isFinite)]);
  } catch {
    // Then the picture begins now.
    return [];
  }
}

const nameOf = (stream) => `${stream.client}/${stream.stream}`;

/** A box for each instance that may run: those that run, those that are coming or going, those that are allowed. */
export function slots(element, stream) {
  const running = stream.instances.filter(({ state }) => state === 'running').length;
  const size = Math.min(Math.max(stream.max, stream.instances.length), 24);
  const states = Array.from({ length: size }, (_, index) => stream.instances[index]?.state ?? (index < stream.desired ? 'wanted' : 'free'));
  const key = states.join();
  if (element.dataset.slots === key) return;
  element.dataset.slots = key;
  setAttribute(element, 'role', 'img');
  setAttribute(element, 'aria-label', `${running} of ${stream.desired} instances run, at most ${stream.max}`);
  replace(element, states.map((state) => h('span', { class: 'slot', 'data-state': state })));
}

function streamCard(app, { client, stream: name }, signal) {
  const title = h('h2', {}, h('bdi'));
  const state = h('span', { class: 'badge' });
  const boxes = h('span', { class: 'stream-slots' });
  const figures = h('dl', { class: 'figures' });
  const waits = h('p', { class: 'failure' }, h('bdi'));
  const controls = app.access.may('operate', client)
    ? new ScaleControls(app, client, name)
    : { element: h('p', { class: 'faint' }, icon('lock'), ' Read only'), show() {} };
  const body = h('tbody');
  const instances = h('div', { class: 'scroll-x', tabIndex: 0, role: 'region', 'aria-label': `Instances of ${name}` }, h('table', {},
    h('thead', {}, h('tr', {}, ['Slot', 'State', 'Busy', 'Messages/s', 'Per message', 'Waiting', 'Restarts', 'Reported', ''].map((text) => h('th', { scope: 'col' }, text || h('span', { class: 'visually-hidden' }, 'Actions'))))), body));
  const decisions = h('ol', { class: 'decisions' });
  const noDecision = h('p', { class: 'faint small' });
  const picture = sparkline(260, 40);
  const card = h('article', { class: 'panel stream' },
    h('div', { class: 'panel-head' }, title, state, boxes, controls.element),
    waits, h('div', { class: 'stream-top' }, figures, h('div', { class: 'stream-picture' }, picture, h('span', { class: 'tiny faint' }, 'messages/s, the last minutes'))), instances,
    h('h3', {}, 'What the scaler decided, and why'), decisions, noDecision);

  card.show = (stream, rates) => {
    setOutside(title.firstChild, `${client}/${name}`);
    showState(state, stream);
    slots(boxes, stream);
    waits.hidden = !stream.waits_for;
    setOutside(waits.firstChild, stream.waits_for ? `No instance can be started: ${stream.waits_for}` : '');
    showFigures(figures, stream);
    controls.show(stream);
    drawSparkline(picture, rates);
    keyed(body, stream.instances, { key: ({ slot }) => String(slot), create: () => instanceRow(app, client, name), update: (row, instance) => row.show(instance, stream) });
    const all = [...(stream.decisions ?? []), ...scalingsSeen(app, stream)];
    keyed(decisions, all, { key: (decision) => `${decision.at}${decision.seen ?? ''}`, create: () => decisionRow(), update: updateDecision });
    noDecision.hidden = all.length > 0;
    setText(noDecision, all.length ? '' : stream.is_manual ? 'A person has set the number; the policy decides again after “auto”.' : 'No change since this page was opened.');
  };
  signal.addEventListener('abort', () => (card.show = () => {}));
  return card;
}

function showState(badge, stream) {
  const running = stream.instances.filter(({ state }) => state === 'running').length;
  const [state, text] = !stream.is_ready ? ['held', 'unavailable']
    : running < stream.desired ? ['staged', `${running} of ${stream.desired} run`]
      : stream.desired >= stream.max ? ['discarded', 'at its maximum'] : ['ingested', 'as desired'];
  if (badge.dataset.text === text) return;
  badge.dataset.state = state;
  badge.dataset.text = text;
  replace(badge, icon(state === 'discarded' ? 'notice' : state), h('span', {}, text));
}

function showFigures(list, stream) {
  const figures = [
    ['Messages/s', compact(throughputOf(stream))],
    ['Busy', percent(loadOf(stream))],
    ['Waiting', compact(backlogOf(stream))],
    ['Instances', `${stream.desired} of ${stream.min}–${stream.max}`],
    ['Decided by', stream.is_manual ? 'a person' : 'the policy'],
  ];
  keyed(list, figures, { key: ([name]) => name, create: ([name]) => h('div', {}, h('dt', {}, name), h('dd')), update: (item, [, value]) => setText(item.lastChild, value) });
}

class ScaleControls {
  #stream;

  constructor(app, client, name) {
    const path = `/api/clients/${encoded(client)}/streams/${encoded(name)}`;
    const scale = async (instances) => {
      const answer = await app.api.post(`${path}/scale`, { instances });
      notify(instances === 'auto' ? `${name}: the policy decides again` : `${name}: ${answer.desired} instances are to run`);
      app.streams.refresh();
    };
    this.fewer = actionButton('One less', () => scale(this.#stream.desired - 1), { iconName: 'minus', className: 'icon-only' });
    this.more = actionButton('One more', () => scale(this.#stream.desired + 1), { iconName: 'plus', className: 'icon-only' });
    for (const button of [this.fewer, this.more]) button.lastChild.className = 'visually-hidden';
    this.number = h('output', { class: 'stepper-number', 'aria-label': 'Desired instances' });
    this.auto = actionButton('Auto', () => scale('auto'));
    this.start = actionButton('Start one', async () => {
      const answer = await app.api.post(`${path}/start`);
      notify(`${name}: an instance was started in slot ${answer.slot}`);
      app.streams.refresh();
    }, { iconName: 'play' });
    this.element = h('div', { class: 'row wrap', role: 'group', 'aria-label': `Instances of ${name}` }, h('div', { class: 'stepper' }, this.fewer, this.number, this.more), this.auto, this.start);
  }

  show(stream) {
    this.#stream = stream;
    setText(this.number, stream.desired);
    this.fewer.disabled = stream.desired <= 0;
    this.more.disabled = stream.desired >= stream.max;
    this.auto.disabled = !stream.is_manual;
    this.auto.title = stream.is_manual ? 'Let the policy decide again' : 'The policy decides';
  }
}

function instanceRow(app, client, name) {
  const slot = h('th', { scope: 'row' });
  const state = h('span', { class: 'badge' });
  const bar = progressBar('Busy');
  const share = h('span', { class: 'tiny' });
  const cells = Array.from({ length: 5 }, () => h('td'));
  const stop = app.access.may('operate', client) && actionButton('Stop', () => stopInstance(app, client, name, row.instance, row.isLast), { iconName: 'stop', className: 'quiet' });
  const row = h('tr', {}, slot, h('td', {}, state), h('td', {}, h('div', { class: 'busy' }, bar, share)), cells, h('td', {}, stop));
  row.show = (instance, stream) => {
    row.instance = instance;
    row.isLast = stream.instances.filter(({ pid }) => pid).length === 1;
    setText(slot, instance.slot);
    state.dataset.state = INSTANCE_TONES[instance.state] ?? 'waiting';
    const word = instance.silent_seconds != null ? `silent for ${duration(instance.silent_seconds)}` : instance.state;
    if (state.textContent !== word) replace(state, icon(state.dataset.state), h('span', {}, word));
    bar.hidden = instance.utilization == null;
    setProgress(bar, instance.utilization ?? 0);
    setText(share, percent(instance.utilization));
    setText(cells[0], decimal(instance.messages_per_second));
    setText(cells[1], duration(instance.processing_seconds));
    setText(cells[2], count(instance.backlog));
    setText(cells[3], count(instance.restarts));
    setText(cells[4], instance.reported_seconds_ago == null ? 'not yet' : `${duration(instance.reported_seconds_ago)} ago`);
    if (stop) {
      stop.hidden = !instance.pid || instance.state !== 'running';
      setAttribute(stop, 'aria-label', `Stop instance ${instance.slot}`);
    }
  };
  return row;
}

const INSTANCE_TONES = { running: 'ingested', draining: 'staged', stopping: 'staged', 'backing-off': 'discarded', 'given-up': 'held', parked: 'waiting' };

async function stopInstance(app, client, name, instance, isLast) {
  const text = isLast
    ? 'It is the last one: its session is kept, so that messages are kept for the next one.'
    : 'It unsubscribes, stores what its session still holds, and ends. The policy is switched off until “auto”.';
  if (!await confirmed(`Stop instance ${instance.slot} of ${name}?`, text, 'Stop it')) return;
  const answer = await app.api.post(`/api/clients/${encoded(client)}/streams/${encoded(name)}/stop`, { pid: instance.pid });
  notify(`Instance ${answer.slot} of ${name}: ${answer.end ?? 'is draining'}`);
  app.streams.refresh();
}

/** Changes that this page has seen, if the server does not list its decisions. */
function scalingsSeen(app, stream) {
  if (stream.decisions) return [];
  return app.log.latest(10, (entry) => entry.kind === 'scaled' && entry.data.client === stream.client && entry.data.stream === stream.stream)
    .map((entry) => ({ at: new Date(entry.at).toISOString(), before: entry.data.before, desired: entry.data.desired, reason: entry.data.is_manual ? 'a person has set it' : 'the policy has decided it', seen: entry.number }));
}

function decisionRow() {
  return h('li', {}, relativeElement(''), h('span', { class: 'decision-change' }), h('span', { class: 'decision-reason' }), h('span', { class: 'decision-inputs tiny faint' }));
}

function updateDecision(row, decision) {
  const { at, before, desired, recommended, reason } = decision;
  const [time, change, why, inputs] = row.children;
  setTime(time, at, relative);
  setAttribute(change, 'data-change', desired > before ? 'up' : desired < before ? 'down' : 'none');
  setText(change, desired === before ? `stays ${desired}` : `${before} → ${desired}`);
  setOutside(why, recommended != null && recommended !== desired ? `${reason} (alone it would be ${recommended})` : reason);
  setText(inputs, inputsOf(decision));
}

/** What the scaler knew when it decided. */
function inputsOf({ running, reporting, busy, processing_seconds: seconds, messages_per_report: messages }) {
  const parts = [];
  if (running > 0 && Number.isFinite(busy)) parts.push(`${percent(busy / running)} busy`);
  if (Number.isFinite(reporting)) parts.push(`${reporting} of ${plural(running, 'instance')} reported`);
  if (Number.isFinite(messages)) parts.push(`${decimal(messages)} messages each`);
  if (seconds > 0) parts.push(`${duration(seconds)} per message`);
  return parts.join(' · ');
}
