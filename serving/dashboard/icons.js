// Small pictures, drawn on 16 × 16. They never stand alone for a state: a word is beside each, or in its label.

import { svg } from './dom.js';

const PATHS = {
  // States of files: each has its own shape.
  waiting: 'M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11M8 5v3l2 1.5',
  staged: 'M3 4.5h10M3 8h10M3 11.5h6',
  ingested: 'M3 8.5l3.5 3.5L13 4.5',
  discarded: 'M4 4l8 8M12 4l-8 8',
  held: 'M5.5 3.5v9M10.5 3.5v9',
  purged: 'M3 4.5h10M6 4.5v-2h4v2M4.5 4.5l.7 9h5.6l.7-9',
  // Views
  overview: 'M2.5 2.5h4.5v5h-4.5zM9 2.5h4.5v3h-4.5zM9 8h4.5v5.5h-4.5zM2.5 10h4.5v3.5h-4.5z',
  files: 'M4 1.5h5l3.5 3.5v9.5h-8.5zM9 1.5v3.5h3.5',
  streams: 'M1.5 5c2-2 4-2 6.5 0s4.5 2 6.5 0M1.5 11c2-2 4-2 6.5 0s4.5 2 6.5 0',
  plots: 'M2 2v12h12M4.5 10l3-4 2.5 2.5 3.5-5',
  data: 'M8 1.5c3.3 0 5.5 1 5.5 2.3S11.3 6 8 6 2.5 5 2.5 3.8 4.7 1.5 8 1.5M2.5 3.8v8.4c0 1.3 2.2 2.3 5.5 2.3s5.5-1 5.5-2.3V3.8M2.5 8c0 1.3 2.2 2.3 5.5 2.3s5.5-1 5.5-2.3',
  arrivals: 'M2.5 3.5h11v10h-11zM2.5 6.5h11M5.5 1.5v3M10.5 1.5v3M5.5 10l1.8 1.7L10.5 8.5',
  events: 'M2.5 4h.01M2.5 8h.01M2.5 12h.01M6 4h8M6 8h8M6 12h8',
  // Actions and marks
  upload: 'M8 10.5V2M4.5 5.5L8 2l3.5 3.5M2.5 10.5v3h11v-3',
  download: 'M8 2v8.5M4.5 7L8 10.5 11.5 7M2.5 10.5v3h11v-3',
  retry: 'M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3',
  close: 'M4 4l8 8M12 4l-8 8',
  sun: 'M8 5.3a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4M8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5',
  system: 'M1.5 2.5h13v8.5h-13zM5.5 14h5M8 11v3',
  eye: 'M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4',
  hidden: 'M2 2l12 12M6.5 3.7A6.5 6.5 0 0 1 8 3.5c4 0 6.5 4.5 6.5 4.5a12 12 0 0 1-2 2.5M10.5 11.9a6.5 6.5 0 0 1-2.5.6C4 12.5 1.5 8 1.5 8a12 12 0 0 1 2.6-3',
  person: 'M8 2a3 3 0 1 0 0 6 3 3 0 0 0 0-6M2.5 14.5a5.5 5.5 0 0 1 11 0',
  lock: 'M3.5 7h9v7h-9zM5.5 7V4.5a2.5 2.5 0 0 1 5 0V7',
  alert: 'M8 2L14.5 13.5h-13zM8 6.5v3.2M8 11.6v.01',
  notice: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 7.5v3.5M8 5v.01',
  calm: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M5.3 8.3l1.9 1.9 3.6-4',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3l7.5 5L5 13z',
  stop: 'M4 4h8v8h-8z',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  next: 'M6 3.5L10.5 8 6 12.5',
  previous: 'M10 3.5L5.5 8 10 12.5',
  table: 'M2.5 3h11v10h-11zM2.5 6.5h11M6.5 6.5V13',
  window: 'M2 12.5h3v-4h3v-4h3v6h3',
  // Arrivals
  on_time: 'M3 8.5l3.5 3.5L13 4.5',
  late: 'M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11M8 5v3l2 1.5',
  missing: 'M4 4l8 8M12 4l-8 8',
  too_small: 'M8 3v9M4.5 8.5L8 12l3.5-3.5',
  repeated: 'M3 5.5h8l-2-2M13 10.5H5l2 2',
  expected: 'M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11',
  scaled: 'M3 13V9M8 13V3M13 13V6',
};

/** States that have the shape of another thing. */
const SAME = {
  progress: 'staged', sending: 'upload', refused: 'close', failed: 'alert', partly: 'alert', open: 'expected', closed: 'ingested',
  stream: 'streams', batch: 'files', arrival: 'arrivals',
};

/** @param {string} name one of the above; a dot for anything else */
export function icon(name) {
  const path = svg('path', { d: PATHS[name] ?? PATHS[SAME[name]] ?? (name.startsWith('revision') ? PATHS.retry : undefined) ?? 'M8 7.5a.5.5 0 1 0 0 1 .5.5 0 0 0 0-1' });
  return svg('svg', { class: 'icon', viewBox: '0 0 16 16', 'stroke-width': 1.6, 'aria-hidden': 'true', focusable: 'false' }, path);
}
