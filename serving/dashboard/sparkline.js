// A line of numbers without axes, as small as a word.

import { setAttribute, svg } from './dom.js';

export function sparkline(width = 96, height = 24) {
  return svg('svg', { class: 'sparkline', viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { class: 'sparkline-area' }), svg('path', { class: 'sparkline-line', 'vector-effect': 'non-scaling-stroke' }));
}

/** Draws numbers; nothing for fewer than two. */
export function drawSparkline(image, numbers) {
  const { width, height } = image.viewBox.baseVal;
  const line = numbers.length < 2 ? '' : pathOf(numbers, width, height);
  const [area, stroke] = image.children;
  setAttribute(stroke, 'd', line);
  setAttribute(area, 'd', line && `${line}L${width} ${height}L0 ${height}Z`);
}

/** The path through the numbers, from the lowest to the highest of them. Pure. */
export function pathOf(numbers, width, height) {
  const least = Math.min(...numbers);
  const range = Math.max(...numbers) - least;
  const y = (number) => (range === 0 ? height / 2 : height - 2 - ((number - least) / range) * (height - 4));
  return numbers.map((number, index) => `${index ? 'L' : 'M'}${((index / (numbers.length - 1)) * width).toFixed(1)} ${y(number).toFixed(1)}`).join('');
}
