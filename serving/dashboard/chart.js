// A plot over time: lines drawn by uPlot, a legend of buttons, the keyboard, and the same as a table.

import { h, keyed, replace, setAttribute, setText } from './dom.js';
import { time } from './format.js';
import { setOutside, visible } from './visible.js';

const COLOURS = 8;
const ROWS_MAX = 60;

/**
 * @typedef {object} Line
 * @property {string} label from outside
 * @property {(number | null)[]} values
 * @property {(number | null)[]} [most] the greatest value behind each of them
 * @property {number} colour
 * @property {boolean} [dashed]
 */

export class Chart {
  #uPlot;
  #plot = null;
  #times = [];
  /** @type {Line[]} */
  #lines = [];
  #hidden = new Set();
  #format;
  #stepped;
  #fromZero;
  #index = null;
  #onSelect;
  #sync;
  #shape = '';

  /**
   * @param {Function} uPlot the library, which is loaded when it is needed
   * @param {{title: string, format: (value: number) => string, stepped?: boolean, fromZero?: boolean, height?: number, level?: number, sync?: string,
   *   onSelect?: (from: number, until: number) => void}} options `onSelect`: a range was dragged, in seconds since 1970
   */
  constructor(uPlot, { title, format, stepped = false, fromZero = true, height = 180, level = 3, sync, onSelect }, signal) {
    this.#uPlot = uPlot;
    this.#format = format;
    this.#stepped = stepped;
    this.#fromZero = fromZero;
    this.#onSelect = onSelect;
    this.#sync = sync;
    this.canvas = h('div', { class: 'chart-canvas', tabIndex: 0, role: 'application', 'aria-roledescription': 'plot', 'aria-label': `${title}: left and right move through time` });
    this.canvas.style.height = `${height}px`;
    this.canvas.addEventListener('keydown', (event) => this.#key(event));
    this.title = h(`h${level}`, {}, h('bdi', {}, title));
    this.legend = h('ul', { class: 'legend', 'aria-label': `Lines of ${title}` });
    this.moment = h('p', { class: 'chart-moment tiny faint' });
    this.table = h('details', { class: 'chart-table' }, h('summary', {}, 'As a table'));
    this.table.addEventListener('toggle', () => this.#showTable());
    this.note = h('p', { class: 'chart-note faint' });
    this.element = h('figure', { class: 'chart' }, h('figcaption', {}, this.title, this.moment), this.canvas, this.note, this.legend, this.table);
    const observer = new ResizeObserver(() => this.#plot?.setSize(this.#size()));
    observer.observe(this.canvas);
    // Colours are read when a plot is made.
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', () => this.redraw(), { signal });
    signal.addEventListener('abort', () => {
      observer.disconnect();
      this.#plot?.destroy();
      this.#plot = null;
    });
  }

  /** Pixels from left to right, which is as many points as can be seen. */
  get width() {
    return Math.max(100, Math.round(this.canvas.clientWidth));
  }

  /** Shows lines over these times, in seconds since 1970. */
  set(times, lines, note = '') {
    this.#times = times;
    this.#lines = lines;
    setText(this.note, note || (lines.length === 0 ? 'Nothing in this time.' : ''));
    this.note.hidden = !this.note.textContent;
    this.canvas.hidden = lines.length === 0;
    this.table.hidden = lines.length === 0;
    const shape = JSON.stringify(lines.map(({ label, colour, dashed }) => [label, colour, dashed]));
    if (this.#plot && shape === this.#shape) this.#plot.setData(this.#data());
    else this.redraw();
    this.#shape = shape;
    this.#showLegend();
    if (this.table.open) this.#showTable();
  }

  /** Makes the plot anew, in the colours of the theme. */
  redraw() {
    this.#plot?.destroy();
    this.#plot = null;
    if (this.#lines.length === 0) return;
    const colours = this.#colours();
    const axis = { stroke: colours.text, grid: { stroke: colours.line, width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    const line = this.#stepped ? this.#uPlot.paths.stepped({ align: 1 }) : undefined;
    this.#plot = new this.#uPlot({
      ...this.#size(),
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { sync: this.#sync ? { key: this.#sync } : undefined, drag: { x: Boolean(this.#onSelect), y: false, setScale: false }, points: { size: 6 } },
      scales: { y: { range: (_, least, most) => this.#rangeOf(least, most) } },
      axes: [
        { ...axis, size: 30, space: 70, values: (_, splits) => axisTimes(splits) },
        { ...axis, size: 58, space: 32, values: (_, splits) => splits.map((value) => this.#format(value)) },
      ],
      series: [{}, ...this.#lines.map((one) => ({
        label: one.label, show: !this.#hidden.has(one.label), stroke: colours.series[one.colour % COLOURS], width: 1.5,
        dash: one.dashed ? [4, 3] : undefined, paths: line,
        // A line needs two values.
        points: { show: false, size: 5, filter: () => aloneIn(one.values) },
        fill: this.#lines.length === 1 ? `${colours.series[one.colour % COLOURS]}22` : undefined,
      }))],
      hooks: {
        setCursor: [(plot) => this.#pointedAt(plot.cursor.idx ?? null)],
        setSelect: [(plot) => this.#selected(plot)],
      },
    }, this.#data(), this.canvas);
  }

  /** From zero, or with some space around the values. */
  #rangeOf(least, most) {
    if (least === null) return [0, 1];
    if (this.#fromZero) return [Math.min(0, least), most > 0 ? most * 1.08 : 1];
    const space = (most - least) * 0.08 || Math.abs(most) * 0.08 || 1;
    return [least - space, most + space];
  }

  #data() {
    return [this.#times, ...this.#lines.map(({ values }) => values)];
  }

  #size() {
    return { width: this.width, height: this.canvas.clientHeight || 180 };
  }

  #colours() {
    const probe = h('span', { hidden: true });
    this.element.append(probe);
    const read = (name) => {
      probe.style.color = `var(${name})`;
      return hex(getComputedStyle(probe).color);
    };
    const colours = { text: read('--text-faint'), line: read('--line'), series: Array.from({ length: COLOURS }, (_, index) => read(`--series-${index + 1}`)) };
    probe.remove();
    return colours;
  }

  #selected(plot) {
    const { left, width } = plot.select;
    if (width < 4 || !this.#onSelect) return;
    const [from, until] = [left, left + width].map((x) => plot.posToVal(x, 'x'));
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.#onSelect(from, until);
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || !this.#plot) return;
    event.preventDefault();
    const last = this.#times.length - 1;
    const index = Math.min(last, Math.max(0, (this.#index ?? last) + step));
    this.#plot.setCursor({ left: this.#plot.valToPos(this.#times[index], 'x'), top: 10 });
    this.#pointedAt(index);
    const values = this.#lines.filter(({ label }) => !this.#hidden.has(label)).map(({ label, values: all }) => `${label} ${this.#text(all[index])}`);
    setAttribute(this.canvas, 'aria-description', visible(`${time(this.#times[index] * 1000)}: ${values.join(', ')}`));
  }

  #pointedAt(index) {
    this.#index = index;
    setText(this.moment, index === null ? '' : time(this.#times[index] * 1000));
    this.#showLegend();
  }

  #text(value) {
    return value === null || value === undefined ? '–' : this.#format(value);
  }

  #showLegend() {
    keyed(this.legend, this.#lines, {
      key: ({ label }) => label,
      create: ({ label }) => {
        const button = h('button', { type: 'button', class: 'legend-item' }, h('span', { class: 'legend-mark', 'aria-hidden': 'true' }), h('bdi'), h('span', { class: 'legend-value' }), h('span', { class: 'legend-most tiny faint' }));
        button.addEventListener('click', () => this.#toggle(label));
        return h('li', {}, button);
      },
      update: (item, line) => {
        const button = item.firstChild;
        const [mark, name, value, most] = button.children;
        setAttribute(mark, 'data-series', (line.colour % COLOURS) + 1);
        setAttribute(mark, 'data-dashed', line.dashed ? 'true' : null);
        setAttribute(button, 'aria-pressed', String(!this.#hidden.has(line.label)));
        setOutside(name, line.label);
        setText(value, this.#text(this.#index === null ? lastOf(line.values) : line.values[this.#index]));
        setText(most, `max ${this.#text(greatest(line.most ?? line.values))}`);
      },
    });
  }

  #toggle(label) {
    if (!this.#hidden.delete(label)) this.#hidden.add(label);
    const index = this.#lines.findIndex((line) => line.label === label);
    this.#plot?.setSeries(index + 1, { show: !this.#hidden.has(label) });
    this.#showLegend();
  }

  /** Its rows are every so many points, so that they can be read. */
  #showTable() {
    const summary = this.table.firstChild;
    if (!this.table.open) {
      replace(this.table, summary);
      return;
    }
    const step = Math.max(1, Math.ceil(this.#times.length / ROWS_MAX));
    const rows = this.#times.map((at, index) => [at, index]).filter((_, index) => index % step === 0).reverse();
    replace(this.table, summary, h('div', { class: 'scroll-x scroll-y', tabIndex: 0, role: 'region', 'aria-label': 'Table' }, h('table', {},
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Time'), this.#lines.map(({ label }) => {
        const cell = h('th', { scope: 'col', class: 'number' }, h('bdi'));
        setOutside(cell.firstChild, label);
        return cell;
      }))),
      h('tbody', {}, rows.map(([at, index]) => h('tr', {}, h('th', { scope: 'row' }, time(at * 1000)), this.#lines.map(({ values }) => h('td', { class: 'number' }, this.#text(values[index])))))))));
  }
}

/** The values between which and others there is no line. Pure. */
export function aloneIn(values) {
  const isKnown = (index) => values[index] !== null && values[index] !== undefined;
  return [...values.keys()].filter((index) => isKnown(index) && !isKnown(index - 1) && !isKnown(index + 1));
}

/** `rgb(1, 2, 3)` as `#010203`, to which an alpha can be added. */
function hex(colour) {
  const numbers = colour.match(/[\d.]+/g)?.slice(0, 3).map(Number) ?? [0, 0, 0];
  return `#${numbers.map((number) => Math.round(number).toString(16).padStart(2, '0')).join('')}`;
}

function axisTimes(seconds) {
  const spans = seconds.length > 1 ? seconds[1] - seconds[0] : 60;
  const format = new Intl.DateTimeFormat('en-GB', spans >= 86400 ? { day: 'numeric', month: 'short' } : { hour: '2-digit', minute: '2-digit', second: spans < 60 ? '2-digit' : undefined });
  return seconds.map((value) => format.format(new Date(value * 1000)));
}

function lastOf(values) {
  return values.findLast((value) => value !== null);
}

function greatest(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((most, value) => Math.max(most, value)) : null;
}
