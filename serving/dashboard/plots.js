// What was measured, over time: `/api/measurements`, as fine as there are pixels, and kept up to date.

import { isAbort } from './api.js';
import { Chart } from './chart.js';
import { h, replace } from './dom.js';
import { bytes, decimal, duration, time } from './format.js';
import { choice, empty, failure } from './parts.js';

/** More lines than there are colours cannot be told apart. */
const LINES_MAX = 8;
const RENEW_MIN = 5000;
/** Seconds that a trimmed plot shows at least. */
const TRIMMED_MIN = 90;
const RANGES = [['15m', '15 min'], ['1h', '1 h'], ['6h', '6 h'], ['24h', '24 h']];
const SECONDS = { '15m': 900, '1h': 3600, '6h': 21_600, '24h': 86_400 };

const ofClient = ({ client }) => client ?? 'all';
const ofStream = ({ client, stream }) => `${client}/${stream}`;
const perSecond = (value) => `${decimal(value)}/s`;

/** The plots: each has the series of some metrics. */
const PLOTS = [
  { name: 'batch_records', title: 'Records of files', metrics: ['batch_records'], label: ofClient, format: perSecond },
  { name: 'stream_messages', title: 'Messages of streams', metrics: ['stream_messages'], label: ofStream, format: perSecond },
  { name: 'batch_seconds', title: 'Files, from settled to end', metrics: ['batch_seconds'], label: ofClient, format: duration },
  { name: 'ack_seconds', title: 'Messages, from arrival to acknowledgement', metrics: ['ack_seconds'], label: ofStream, format: duration },
  { name: 'queue_files', title: 'Files in the queue', metrics: ['queue_files'], label: ofClient, format: decimal, stepped: true },
  { name: 'instances', title: 'Instances of streams', metrics: ['instances_running', 'instances_desired'], label: ofStream, format: decimal, stepped: true },
  { name: 'stream_load', title: 'How busy instances are', metrics: ['stream_load'], label: ofStream, format: (value) => `${Math.round(value * 100)} %` },
  { name: 'files', title: 'Files that ended', metrics: ['files'], label: ({ client, state }) => `${client ?? 'all'} ${state}`, format: perSecond },
  { name: 'batch_bytes', title: 'Bytes of files', metrics: ['batch_bytes'], label: ofClient, format: (value) => `${bytes(value)}/s` },
];

/** What distinguishes the second metric of a plot: in the label, and as a dashed line. */
const SUFFIXES = { instances_running: 'running', instances_desired: 'desired' };

/**
 * Returns the lines of a plot: those with the greatest values if there are too many. Pure.
 *
 * @returns {{lines: import('./chart.js').Line[], left: number}}
 */
export function linesOf(plot, series) {
  const own = series.filter(({ metric }) => plot.metrics.includes(metric));
  const names = [...new Set(own.map(plot.label))];
  const greatest = (name) => Math.max(...own.filter((one) => plot.label(one) === name).flatMap(({ mean }) => mean.filter(Number.isFinite)), 0);
  const weights = new Map(names.map((name) => [name, greatest(name)]));
  const shown = names.toSorted((a, b) => weights.get(b) - weights.get(a)).slice(0, LINES_MAX).sort();
  const lines = own.filter((one) => shown.includes(plot.label(one))).map((one) => {
    const suffix = SUFFIXES[one.metric];
    const name = plot.label(one);
    return {
      label: suffix ? `${name} ${suffix}` : name, values: one.mean, most: one.max,
      colour: shown.indexOf(name), dashed: plot.metrics.indexOf(one.metric) > 0,
    };
  });
  return { lines, left: names.length - shown.length };
}

export function plotsView(root, app, signal) {
  const { router } = app;
  const range = () => (router.route.query.range in SECONDS ? router.route.query.range : '1h');
  const dragged = () => {
    const [from, until] = [Number(router.route.query.from), Number(router.route.query.until)];
    return from > 0 && until > from ? { from, until } : null;
  };
  const ranges = choice('Range', RANGES, range(), (value) => router.change({ range: value, from: '', until: '' }));
  const zoomed = h('p', { class: 'row wrap' });
  const plots = historyPlots(app, {
    names: PLOTS.map(({ name }) => name), range: () => SECONDS[range()], dragged, level: 2, signal,
    onSelect: (from, until) => router.change({ from: Math.floor(from), until: Math.ceil(until) }, { replace: false }),
  });
  const show = () => {
    const part = dragged();
    ranges.show(part ? '' : range());
    replace(zoomed, part && [h('span', { class: 'soft' }, `${time(part.from * 1000)} to ${time(part.until * 1000)}`), h('button', { type: 'button', on: { click: () => router.change({ from: '', until: '' }) } }, 'Back to now')]);
    zoomed.hidden = !part;
    plots.read();
  };
  router.addEventListener('change', show, { signal });
  root.append(h('div', { class: 'view-head' }, h('h1', { class: 'view-title' }, 'Plots'), ranges, zoomed, h('p', { class: 'faint small' }, 'Drag in a plot to look closer.')), plots);
  show();
}

/**
 * The plots of these names, kept up to date until `signal`.
 *
 * @param {{names: string[], range: () => number, dragged?: () => {from: number, until: number} | null, signal: AbortSignal,
 *   isTrimmed?: boolean, level?: number, onSelect?: (from: number, until: number) => void}} options
 * @returns {HTMLElement & {read: () => void}}
 */
export function historyPlots(app, { names, range, dragged = () => null, isTrimmed = false, level = 3, signal, onSelect }) {
  const grid = h('div', { class: 'plots', 'aria-busy': 'true' });
  const failed = h('p', { class: 'failure', role: 'alert', hidden: true });
  const element = h('div', {}, failed, grid);
  const shown = PLOTS.filter(({ name }) => names.includes(name));
  let charts = null;
  let timer = 0;
  let reading = new AbortController();

  const read = async () => {
    clearTimeout(timer);
    reading.abort();
    reading = new AbortController();
    const stop = AbortSignal.any([signal, reading.signal]);
    try {
      charts ??= await makeCharts(grid, shown, { onSelect, level }, signal);
      const history = await app.api.get('/api/measurements', historyQuery(app.client, range(), dragged(), charts[0].width), { signal: stop });
      failure(failed, null);
      showHistory(charts, shown, isTrimmed ? trimmed(history) : history);
      grid.removeAttribute('aria-busy');
      if (!dragged()) timer = setTimeout(read, Math.max(RENEW_MIN, history.step_seconds * 1000));
    } catch (error) {
      if (isAbort(error) || stop.aborted) return;
      if (error.status === 404) {
        replace(grid, empty('No history', h('p', {}, 'This server does not keep what it measures. Prometheus can: scrape /metrics, and use docs/grafana.')));
        return;
      }
      failure(failed, error);
      timer = setTimeout(read, RENEW_MIN);
    }
  };
  signal.addEventListener('abort', () => clearTimeout(timer));
  document.addEventListener('visibilitychange', () => (document.hidden ? clearTimeout(timer) : read()), { signal });
  app.settings.onChange(() => charts?.forEach((chart) => chart.redraw()), signal);
  element.read = read;
  // The view may ask first, with what its address says.
  if (!onSelect) read();
  return element;
}

async function makeCharts(grid, plots, options, signal) {
  const { default: uPlot } = await import('./vendor/uPlot.esm.js');
  signal.throwIfAborted();
  const charts = plots.map(({ title, format, stepped }) => new Chart(uPlot, { title, format, stepped, sync: 'history', ...options }, signal));
  replace(grid, charts.map((chart) => chart.element));
  return charts;
}

function historyQuery(client, seconds, dragged, points) {
  const until = dragged ? dragged.until * 1000 : Date.now();
  const from = dragged ? dragged.from * 1000 : until - seconds * 1000;
  return { from: new Date(from).toISOString(), until: new Date(until).toISOString(), points, client };
}

/** The history from where the first number is, but not less than some minutes of it: a server that has just begun has little. Pure. */
export function trimmed(history) {
  const { times, series, step_seconds: step } = history;
  const firsts = series.map(({ mean }) => mean.findIndex(Number.isFinite)).filter((index) => index >= 0);
  const start = Math.max(0, Math.min(Math.min(...firsts) - 1, times.length - Math.ceil(TRIMMED_MIN / step)));
  if (!(start > 0)) return history;
  const rest = series.map((one) => ({ ...one, mean: one.mean.slice(start), max: one.max?.slice(start) }));
  return { ...history, times: times.slice(start), series: rest };
}

function showHistory(charts, plots, { times, series }) {
  const seconds = times.map((at) => Date.parse(at) / 1000);
  charts.forEach((chart, index) => {
    const { lines, left } = linesOf(plots[index], series);
    chart.set(seconds, lines, left > 0 ? `The greatest of them; choose a client to see the other ${left}.` : '');
  });
}
