import { expect, test } from 'vitest';
import { Counts, familyOf, Histogram, type Metric } from '../../src/serve/exposition.ts';
import { METRIC_GROUPS } from '../../src/serve/metric-groups.ts';
import { Exposition } from '../e2e/support/exposition.ts';

const GAUGE: Metric = {
  name: 'some_bytes',
  type: 'gauge',
  help: 'A back\\slash\nand a line.',
  labels: ['name', 'disk'],
};
const SECONDS: Metric = { name: 'some_seconds', type: 'histogram', help: 'Time.', labels: ['action'] };

test.each([
  ['plain', 'web-1'],
  ['quotes and backslashes', 'a "b" \\ c\\n'],
  ['a line', 'a\nb'],
  ['another script', '虚拟机 🙂'],
  ['empty', ''],
  ['what looks like a label', 'a",disk="b'],
  ['what looks like a line', 'a"} 1\nother_bytes{name="b'],
])('a label value comes back as it was: %s', (_words, value) => {
  const { all } = bound(new Exposition(familyOf(GAUGE, [[['one', value], 7]])));
  expect(all('some_bytes')).toEqual([{ labels: { name: 'one', disk: value }, value: 7 }]);
});

test('what a host says without end is cut, and half a character is none', () => {
  const text = familyOf(GAUGE, [[[`${'x'.repeat(255)}🙂${'y'.repeat(10_000)}`, '\ud800'], 1]]);
  expect(text).toContain(`{name="${'x'.repeat(255)}\ufffd",disk="\ufffd"} 1\n`);
});

test('a figure that is not known has no line, and a family without lines no head', () => {
  expect(familyOf(GAUGE, [[['one', 'a'], undefined]])).toBe('');
  const { all } = bound(
    new Exposition(
      familyOf(GAUGE, [
        [['one', 'a'], undefined],
        [['one', 'b'], 0],
      ]),
    ),
  );
  expect(all('some_bytes')).toEqual([{ labels: { name: 'one', disk: 'b' }, value: 0 }]);
});

test.each([
  [0],
  [-1.5],
  [1e21],
  [5e-7],
  [Number.MAX_SAFE_INTEGER],
  [Number.POSITIVE_INFINITY],
  [Number.NEGATIVE_INFINITY],
])('the number %d is one that Go reads', (value) => {
  const { text } = new Exposition(familyOf(GAUGE, [[['one', 'a'], value]]));
  expect(text).toContain(value === Number.POSITIVE_INFINITY ? ' +Inf\n' : value < -2 ? ' -Inf\n' : ` ${value}\n`);
});

test('a histogram counts each duration in every bucket that holds it', () => {
  const histogram = new Histogram(SECONDS, [0.1, 1]);
  expect(histogram.text()).toBe('');
  for (const seconds of [0.05, 0.1, 0.5, 2]) histogram.observe(['launch'], seconds);
  histogram.observe(['stop'], 0.2);
  const { text } = new Exposition(histogram.text());
  expect(text.split('\n').filter((line) => line.includes('launch'))).toEqual([
    'some_seconds_bucket{action="launch",le="0.1"} 2',
    'some_seconds_bucket{action="launch",le="1"} 3',
    'some_seconds_bucket{action="launch",le="+Inf"} 4',
    'some_seconds_sum{action="launch"} 2.65',
    'some_seconds_count{action="launch"} 4',
  ]);
});

test('counts are kept by their labels', () => {
  const counts = new Counts();
  counts.add(['launch', 'error']);
  counts.add(['launch', 'success'], 2);
  counts.add(['launch', 'error']);
  expect([...counts.figures()]).toEqual([
    [['launch', 'error'], 2],
    [['launch', 'success'], 2],
  ]);
});

test('every figure has a name of its own, a sentence, and no label that could be without bounds', () => {
  const metrics = METRIC_GROUPS.flatMap((group) => group.metrics);
  expect(new Set(metrics.map(({ name }) => name)).size).toBe(metrics.length);
  for (const { help, labels } of metrics) {
    expect(help).toMatch(/^\S.*\.$/);
    for (const label of labels) expect(['uid', 'pid', 'message', 'error', 'reason']).not.toContain(label);
  }
});

/** Methods that can be taken apart. */
function bound(exposition: Exposition) {
  return { all: exposition.all.bind(exposition) };
}
