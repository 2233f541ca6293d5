// Numbers, sizes, durations and times for people.

import { h, setText } from './dom.js';

const LOCALE = 'en';
const integers = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const compacts = new Intl.NumberFormat(LOCALE, { notation: 'compact', maximumFractionDigits: 1 });

/** `12,345`, or nothing known: `–`. */
export function count(number) {
  return Number.isFinite(number) ? integers.format(number) : '–';
}

/** `12.3K`. */
export function compact(number) {
  return Number.isFinite(number) ? compacts.format(number) : '–';
}

/** At most `digits` significant digits, never an exponent for what people read: `0.031`, `4.7`, `1,204`. */
export function decimal(number, digits = 3) {
  if (!Number.isFinite(number)) return '–';
  if (Math.abs(number) >= 10 ** digits) return integers.format(number);
  if (number !== 0 && Math.abs(number) < 1e-6) return number.toExponential(1);
  return significant(digits).format(number);
}

const significantFormats = new Map();

/** A format is expensive to make. */
function significant(digits) {
  if (!significantFormats.has(digits)) significantFormats.set(digits, new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: digits }));
  return significantFormats.get(digits);
}

/** `3 files`, `1 file`. */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** `512 B`, `2.3 MB`. */
export function bytes(number) {
  if (!Number.isFinite(number)) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? integers.format(number) : decimal(number)} ${units[unit]}`;
}

/** `12 ms`, `3.4 s`, `5 min 12 s`, `3 h 4 min`, `2 d 1 h`. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 0.9995) return `${decimal(seconds * 1000)} ms`;
  if (seconds < 59.5) return `${decimal(seconds, seconds < 10 ? 2 : 3)} s`;
  const whole = Math.round(seconds);
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  const [[name, size], next] = [units[first], units[first + 1]];
  // After a hundred days nobody asks for the hour.
  const rest = next && whole < 100 * 86400 ? Math.floor((whole % size) / next[1]) : 0;
  return `${count(Math.floor(whole / size))} ${name}${rest ? ` ${rest} ${next[0]}` : ''}`;
}

const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayAndTime = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const dayYearAndTime = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' });

/** The time of day if it is today, else with the day, in the zone of the browser. */
export function time(value) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return '–';
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return clockTime.format(date);
  return (date.getFullYear() === now.getFullYear() ? dayAndTime : dayYearAndTime).format(date);
}

/** `4 s ago`, `in 5 min`. */
export function relative(value, now = Date.now()) {
  const seconds = (new Date(value).getTime() - now) / 1000;
  if (!Number.isFinite(seconds)) return '–';
  if (Math.abs(seconds) < 1) return 'now';
  const text = duration(Math.abs(seconds) < 60 ? Math.round(Math.abs(seconds)) : Math.abs(seconds));
  return seconds < 0 ? `${text} ago` : `in ${text}`;
}

/** `56 %` of a share from 0 to 1. */
export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : '–';
}

/** A time as text, with the exact one in UTC as its title. */
export function timeElement(value, render = time) {
  const element = h('time');
  setTime(element, value, render);
  return element;
}

/** Changes the time of a [`timeElement`]. */
export function setTime(element, value, render = time) {
  element.dateTime = value ?? '';
  element.title = value ?? '';
  setText(element, value ? render(value) : '–');
}

/** A time as text that is kept up to date: `4 s ago`. */
export function relativeElement(value) {
  const element = timeElement(value, relative);
  element.className = 'relative';
  return element;
}

/** Renews all of them each second. */
export function keepRelativeTimes() {
  setInterval(() => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll('time.relative')) setText(element, element.dateTime ? relative(element.dateTime) : '–');
  }, 1000);
}
