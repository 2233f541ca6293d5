// A table of any number of rows, of which only the visible ones exist. Rows have one height, and are used again by key.

import { h, inNextFrame, setAttribute, setText } from './dom.js';

/** Rows above and below the visible ones, so that none are missing while one scrolls. */
const MARGIN = 6;

/**
 * @template T
 * @typedef {object} ListOptions
 * @property {string} label what the table has, for screen readers
 * @property {string} name its class
 * @property {{title: string, class?: string}[]} columns
 * @property {number} rowHeight in pixels
 * @property {(item: T) => string} key
 * @property {() => HTMLElement[]} create makes the cells' contents of a row
 * @property {(cells: HTMLElement[], item: T, row: HTMLElement) => void} update
 * @property {() => void} [onEnd] called when one has scrolled near the end
 */

/** @template T */
export class VirtualList {
  /** @type {T[]} */
  #items = [];
  #options;
  #rows = new Map();
  #spare = [];
  #render;
  #height = 400;
  /** Changes when all rows have to be updated. */
  #version = 0;

  /** @param {ListOptions<T>} options */
  constructor(options, signal) {
    this.#options = options;
    const header = h('div', { class: 'vl-row vl-head', role: 'row', 'aria-rowindex': 1 },
      options.columns.map(({ title, class: name }) => h('div', { class: `vl-cell ${name ?? ''}`, role: 'columnheader' }, title)));
    this.body = h('div', { class: 'vl-body', role: 'rowgroup' });
    this.table = h('div', { class: 'vl-table', role: 'table', 'aria-label': options.label, 'aria-colcount': options.columns.length },
      h('div', { class: 'vl-headgroup', role: 'rowgroup' }, header), this.body);
    this.scroller = h('div', { class: `vl ${options.name}`, tabIndex: 0, role: 'group', 'aria-label': `${options.label}, scrolls` }, this.table);
    this.foot = h('p', { class: 'vl-foot', role: 'status' });
    this.element = h('div', { class: 'vl-frame' }, this.scroller, this.foot);
    this.scroller.style.setProperty('--row-height', `${options.rowHeight}px`);
    this.#render = inNextFrame(() => this.#renderNow(), signal);
    this.scroller.addEventListener('scroll', this.#render, { passive: true, signal });
    const observer = new ResizeObserver(([entry]) => {
      this.#height = entry.contentRect.height;
      this.#render();
    });
    observer.observe(this.scroller);
    signal?.addEventListener('abort', () => observer.disconnect());
  }

  get items() {
    return this.#items;
  }

  /** Shows these. `total` is how many there are, if more are known than these. */
  set(items, { total = -1 } = {}) {
    this.#items = items;
    setAttribute(this.table, 'aria-rowcount', total < 0 ? -1 : total + 1);
    this.#render();
  }

  /** Updates the visible rows, because what they are shown with has changed. */
  refresh() {
    this.#version += 1;
    this.#render();
  }

  /** Tells below the list what it has, and whether that is all. */
  setFoot(text) {
    setText(this.foot, text);
  }

  scrollToTop() {
    this.scroller.scrollTop = 0;
  }

  /** The items that can be seen. */
  visibleItems() {
    const { first, last } = this.#range();
    return this.#items.slice(first, last);
  }

  #range() {
    const { rowHeight } = this.#options;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / rowHeight) - MARGIN);
    const last = Math.min(this.#items.length, Math.ceil((this.scroller.scrollTop + this.#height) / rowHeight) + MARGIN);
    return { first, last };
  }

  #renderNow() {
    const { rowHeight, key, update, onEnd } = this.#options;
    const { first, last } = this.#range();
    this.body.style.height = `${this.#items.length * rowHeight}px`;
    const wanted = new Map();
    for (let index = first; index < last; index += 1) wanted.set(key(this.#items[index]), index);
    for (const [name, row] of this.#rows) {
      if (wanted.has(name)) continue;
      // A row that has the focus keeps it while its item is scrolled away.
      if (row.element.contains(document.activeElement) && this.#keepFocused(name, wanted)) continue;
      row.element.remove();
      this.#rows.delete(name);
      this.#spare.push(row);
    }
    let previous = null;
    for (const [name, index] of [...wanted].sort((a, b) => a[1] - b[1])) {
      const row = this.#rows.get(name) ?? this.#take(name);
      row.element.style.transform = `translateY(${index * rowHeight}px)`;
      setAttribute(row.element, 'aria-rowindex', index + 2);
      const item = this.#items[index];
      if (row.item !== item || row.version !== this.#version) update(row.cells, item, row.element);
      row.item = item;
      row.version = this.#version;
      this.#place(row.element, previous);
      previous = row.element;
    }
    if (this.#items.length - last < MARGIN * 2) onEnd?.();
  }

  #keepFocused(name, wanted) {
    const index = this.#items.findIndex((item) => this.#options.key(item) === name);
    if (index < 0) return false;
    wanted.set(name, index);
    return true;
  }

  #take(name) {
    const row = this.#spare.pop() ?? this.#createRow();
    this.#rows.set(name, row);
    return row;
  }

  #createRow() {
    const cells = this.#options.create();
    const element = h('div', { class: 'vl-row', role: 'row' },
      cells.map((cell, index) => h('div', { class: `vl-cell ${this.#options.columns[index].class ?? ''}`, role: 'cell' }, cell)));
    return { element, cells, item: undefined, version: -1 };
  }

  /** Keeps the rows in the order of the list, for screen readers and the tab key, and moves none without need. */
  #place(element, previous) {
    const next = previous ? previous.nextElementSibling : this.body.firstElementChild;
    if (element !== next) this.body.insertBefore(element, next);
  }
}
