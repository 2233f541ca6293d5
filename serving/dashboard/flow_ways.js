// The ways between the places of the flow, drawn from where the places are, and the dots that travel on them.

import { h, inNextFrame, svg } from './dom.js';

const WAYS = [
  ['drop', 'validation'],
  ['validation', 'live'],
  ['validation', 'backfill'],
  ['validation', 'discarded'],
  ['live', 'ingesting'],
  ['backfill', 'ingesting'],
  ['retry', 'ingesting'],
  ['ingesting', 'ingested'],
  ['ingesting', 'held'],
];

/** More dots than this at once tell nothing more. */
const TRAVELLERS_MAX = 30;
const MILLISECONDS_PER_WAY = 650;

/** Draws the ways, and again whenever the places have moved. */
export function draw(picture, places, signal) {
  const image = svg('svg', { class: 'ways', 'aria-hidden': 'true', focusable: 'false' });
  const arrow = svg('marker', { id: 'way-end', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto' }, svg('path', { class: 'way-end', d: 'M0 .5L8 4L0 7.5z' }));
  const paths = WAYS.map(([from, to]) => svg('path', { class: 'way', 'data-from': from, 'data-to': to, 'marker-end': 'url(#way-end)' }));
  image.append(svg('defs', {}, arrow), ...paths);
  picture.prepend(image);
  const redraw = inNextFrame(() => {
    const origin = picture.getBoundingClientRect();
    for (const path of paths) {
      const line = between(box(places[path.dataset.from], origin), box(places[path.dataset.to], origin));
      if (path.getAttribute('d') !== line) path.setAttribute('d', line);
    }
  }, signal);
  const observer = new ResizeObserver(redraw);
  observer.observe(picture);
  for (const place of Object.values(places)) observer.observe(place);
  signal.addEventListener('abort', () => observer.disconnect());
}

function box(element, origin) {
  const { left, top, width, height } = element.getBoundingClientRect();
  return { left: left - origin.left, top: top - origin.top, width, height };
}

/** The curve from one box to another: sideways if they are beside each other, else downwards. Pure. */
export function between(a, b) {
  const round = (number) => Math.round(number * 10) / 10;
  if (b.left >= a.left + a.width) {
    const [x1, y1, x2, y2] = [a.left + a.width, a.top + a.height / 2, b.left, b.top + b.height / 2].map(round);
    const middle = round((x1 + x2) / 2);
    return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  }
  const [x1, y1, x2, y2] = [a.left + a.width / 2, a.top + a.height, b.left + b.width / 2, b.top].map(round);
  const middle = round((y1 + y2) / 2);
  return `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
}

/** Returns a function that lets a dot travel along places. */
export function traveller(picture) {
  let travelling = 0;
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  return async (stops, state) => {
    if (still.matches || document.hidden || travelling >= TRAVELLERS_MAX) return;
    travelling += 1;
    const dot = h('span', { class: 'traveller', 'data-state': state, 'aria-hidden': 'true' });
    picture.append(dot);
    for (let index = 1; index < stops.length; index += 1) {
      const way = picture.querySelector(`.way[data-from="${stops[index - 1]}"][data-to="${stops[index]}"]`);
      if (!way) continue;
      dot.style.offsetPath = `path("${way.getAttribute('d')}")`;
      const animation = dot.animate([{ offsetDistance: '0%' }, { offsetDistance: '100%' }], { duration: MILLISECONDS_PER_WAY, easing: 'ease-in-out' });
      await animation.finished.catch(() => {});
    }
    dot.remove();
    travelling -= 1;
  };
}
