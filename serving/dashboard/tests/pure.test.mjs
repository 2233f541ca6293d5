// The decisions of the dashboard that need no browser: `node --test serving/dashboard/tests/`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { matters } from '../attention.js';
import { aloneIn } from '../chart.js';
import { sentenceOf } from '../event_log.js';
import { matches, withFiles } from '../file_identity.js';
import { between } from '../flow_ways.js';
import { bytes, decimal, duration, relative } from '../format.js';
import { globMatches } from '../glob.js';
import { linesOf, trimmed } from '../plots.js';
import { measuredField } from '../record_text.js';
import { formatRoute, parseRoute } from '../router.js';
import { pathOf } from '../sparkline.js';
import { EventParser } from '../sse.js';
import { visible } from '../visible.js';
import { linesOfWindows, sizeOf, withWindow } from '../windows.js';

test('a change of instances is told with the decision that made it', () => {
  const decisions = [{ before: 3, desired: 3, reason: 'no fresh reports' }, { before: 1, desired: 3, reason: 'busier than the target' }];
  const data = { client: 'c', stream: 's', before: 1, desired: 3, is_manual: false, decisions };
  assert.equal(sentenceOf({ kind: 'scaled', data }), 'c/s: 1 → 3 instances, by the policy: busier than the target');
});

test('events are the same however their text is cut', () => {
  const text = ':\n\nid: p-1\nevent: staged\ndata: {"a":1}\n\nid: p-2\r\nevent: held\r\ndata: x\r\ndata: y\r\n\r\ndata\n\nid: p-3\n\n';
  const expected = [{ id: 'p-1', event: 'staged', data: '{"a":1}' }, { id: 'p-2', event: 'held', data: 'x\ny' }, { id: 'p-2', event: 'message', data: '' }];
  for (let size = 1; size <= text.length; size += 1) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(events, expected, `pieces of ${size}`);
  }
});

test('what would hide or reorder text is visible', () => {
  for (const [text, expected] of [
    ['a b', 'a b'],
    ['Käse 数据 🎉', 'Käse 数据 🎉'],
    ['a\u202eb', 'a\\u{202e}b'],
    ['\n\t\0\u007f\u0085', '\\u{a}\\u{9}\\u{0}\\u{7f}\\u{85}'],
    ['a\u200b\u2066\ufeff\u00ad', 'a\\u{200b}\\u{2066}\\u{feff}\\u{ad}'],
    ['\u{e0041}', '\\u{e0041}'],
    ['\ud800x', '\\u{d800}x'],
    ['<script>', '<script>'],
  ]) assert.equal(visible(text), expected);
});

const file = (state, name, more = {}) => ({ state, name, id: `${state}-${name}`, client: 'c', reasons: [], ...more });
const all = { states: new Set(), client: '', name: '', since: '' };

test('a file is in a list once, wherever it has moved on to', () => {
  const a = (state) => file(state, 'a', { ingestion: state === 'waiting' ? undefined : 'i' });
  const names = (items) => items.map(({ state, name }) => `${name} ${state}`);
  for (const [items, events, filter, isComplete, expected] of [
    [[], [a('waiting')], all, true, ['a waiting']],
    [[a('waiting')], [a('staged')], all, true, ['a staged']],
    [[a('waiting')], [a('staged'), a('ingested')], all, true, ['a ingested']],
    [[a('staged')], [a('held')], all, true, ['a held']],
    [[a('held')], [a('staged')], all, true, ['a staged']],
    [[a('staged')], [a('ingested')], { ...all, states: new Set(['staged']) }, true, []],
    [[file('ingested', 'b', { ingestion: 'j' })], [a('ingested')], all, true, ['a ingested', 'b ingested']],
    [[file('waiting', 'b')], [a('ingested')], all, false, ['b waiting']],
    [[file('held', 'b', { ingestion: 'j' }), file('ingested', 'd', { ingestion: 'k' })], [a('discarded')], all, false, ['b held', 'a discarded', 'd ingested']],
    [[a('staged')], [file('discarded', 'a', { ingestion: 'i' })], all, true, ['a staged', 'a discarded']],
    [[file('ingested', 'x', { id: 'run', ingestion: 'i' })], [{ ...file('purged', 'x', { id: 'run', ingestion: 'i' }) }], { ...all, states: new Set(['ingested']) }, true, []],
  ]) assert.deepEqual(names(withFiles(items, events, filter, isComplete)), expected);
  assert.equal(matches(a('held'), { ...all, name: 'b' }), false);
});

test('a route is read as it was written', () => {
  for (const [path, query] of [[[], {}], [['files'], { state: 'held,discarded' }], [['data', 'a/b', '?&#%'], { source: 'x=1&y', name: 'ä' }]]) {
    assert.deepEqual(parseRoute(formatRoute(path, query)), { path, query });
  }
  assert.deepEqual(parseRoute('#/files?name=a?b'), { path: ['files'], query: { name: 'a?b' } });
  assert.deepEqual(parseRoute('#/%'), { path: ['%'], query: {} });
});

test('globs tell whose file it may be', () => {
  for (const [glob, name, expected] of [
    ['*.csv', 'a.csv', true], ['*.csv', 'acsv', false], ['weather*', 'weather-1.csv', true], ['a?c', 'abc', true], ['a?c', 'ac', false],
    ['{a,b}.csv', 'b.csv', true], ['{a,b}.csv', 'c.csv', false], ['[ab]x', 'bx', true], ['[!ab]x', 'bx', false], ['a.b', 'axb', false], ['[', '[', false],
  ]) assert.equal(globMatches(glob, name), expected, `${glob} ${name}`);
});

test('what needs a person comes first', () => {
  const now = Date.parse('2026-01-01T12:00:00Z');
  const none = { held: [], discarded: [], streams: [], arrivals: [], parts: [], now };
  assert.deepEqual(matters(none), []);
  const found = matters({
    ...none,
    discarded: [file('discarded', 'x', { ended_at: '1' }), file('discarded', 'y', { ended_at: '2', reasons: ['no header'] })],
    held: [file('held', 'z', { reasons: ['crashed'] })],
    arrivals: [{ client: 'c', contract: 'daily', state: 'missing', due: '2026-01-01T11:00:00Z' }, { client: 'c', contract: 'ok', state: 'on_time' }],
    streams: [{ client: 'c', stream: 's', desired: 2, max: 2, is_ready: true, instances: [{ slot: 0, state: 'running', utilization: 0.9 }, { slot: 1, state: 'given-up', restarts: 3 }] }],
    parts: [{ kind: 'connection', name: 'store', condition: 'missing', text: 'refused' }, { kind: 'process', name: 'broker', condition: 'ok', text: '' }],
  });
  assert.deepEqual(found.map(({ level, text, detail = '' }) => `${level}: ${text} ${detail}`.trim()), [
    'alert: store is unavailable refused',
    'alert: 1 file of c is held: z: crashed',
    'alert: daily of c is missing: it was due 1 h ago',
    'alert: Instance 1 of c/s was given up after 3 restarts',
    'notice: c/s has all of its 2 instances, and they are 90 % busy',
    'notice: 2 files of c were discarded within the hour, the last one: y: no header',
  ]);
});

test('numbers and times are for people', () => {
  for (const [shown, expected] of [
    [bytes(512), '512 B'], [bytes(2_294_215), '2.29 MB'], [decimal(1234.5), '1,235'], [decimal(0.0312), '0.0312'], [decimal(null), '–'],
    [duration(0.012), '12 ms'], [duration(3.42), '3.4 s'], [duration(312), '5 min 12 s'], [duration(11_040), '3 h 4 min'], [duration(176_400), '2 d 1 h'], [duration(59.6), '1 min'], [duration(4953.9 * 86400), '4,953 d'],
    [relative(1000, 5000), '4 s ago'], [relative(305_000, 5000), 'in 5 min'], [relative(5000, 5000), 'now'],
  ]) assert.equal(shown, expected);
});

test('a plot has as many lines as there are colours', () => {
  const plot = { metrics: ['m'], label: ({ client }) => client };
  const series = Array.from({ length: 10 }, (_, index) => ({ metric: 'm', client: `c${index}`, mean: [index, null], max: [index, null] }));
  const { lines, left } = linesOf(plot, series);
  assert.deepEqual([lines.length, left, lines[0].label], [8, 2, 'c2']);
});

test('windows are in the order of time, each once', () => {
  const item = (start, mean, revision) => ({ start, source: 's', field: 'f', mean, revision });
  let items = [];
  for (const one of [item('2', 1), item('1', 2), item('3', 3), item('2', 4, 2)]) items = withWindow(items, one);
  assert.deepEqual(items.map(({ start, mean }) => [start, mean]), [['1', 2], ['2', 4], ['3', 3]]);
  assert.deepEqual(linesOfWindows([{ ...item('1970-01-01T00:00:01Z', 5), min: 4, max: 6 }]).lines.map(({ label, values }) => [label, values]), [['mean', [5]], ['min', [4]], ['max', [6]]]);
  assert.deepEqual(['10s', '1d', '5', ''].map(sizeOf), [10_000, 86_400_000, NaN, NaN]);
});

test('ways begin and end at the edges of places', () => {
  const [a, beside, below] = [{ left: 0, top: 0, width: 10, height: 10 }, { left: 30, top: 0, width: 10, height: 20 }, { left: 0, top: 40, width: 20, height: 10 }];
  assert.equal(between(a, beside), 'M10 5C20 5 20 10 30 10');
  assert.equal(between(a, below), 'M5 10C5 25 10 25 10 40');
  assert.equal(pathOf([1, 3], 10, 10), 'M0.0 8.0L10.0 2.0');
});

test('a value between unknown ones is a point', () => {
  assert.deepEqual(aloneIn([1, null, 2, 3, undefined, 4, null]), [0, 5]);
  assert.deepEqual(aloneIn([]), []);
});

test('what is shown of a new server begins where its numbers begin, but is some minutes long', () => {
  const history = (first, length = 100) => {
    const times = Array.from({ length }, (_, index) => index);
    return { times, step_seconds: 10, series: [{ mean: times.map((index) => (index < first ? null : 1)), max: times }, { mean: times.map(() => null), max: times }] };
  };
  for (const [first, start] of [[0, 0], [1, 0], [50, 49], [95, 91], [100, 91]]) {
    const { times, series } = trimmed(history(first));
    assert.equal(times[0], start, `first number at ${first}`);
    assert.ok(series.every(({ mean, max }) => mean.length === times.length && max[0] === start));
  }
  assert.equal(trimmed(history(5, 9)).times.length, 9);
  assert.equal(trimmed({ times: [1], step_seconds: 10, series: [] }).times.length, 1);
});

test('the field that was measured is shown first', () => {
  for (const [records, expected] of [
    [[{ year: 2013, temp: 1.5 }], 'temp'],
    [[{ year: 2013, temp: 1 }, { year: 2013, temp: 2 }], 'temp'],
    [[{ year: 2013 }], 'year'],
    [[{ name: 'a' }], undefined],
    [[{ at: 1.5, temp: 1 }], 'temp'],
  ]) assert.equal(measuredField(records, ['at']), expected);
});
