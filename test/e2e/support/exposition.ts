/**
 * What /metrics says, read by a parser that is not ours. Before that the text is held against the rules of the format,
 * where a scraper that finds a breach drops everything: https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import parse from 'parse-prometheus-text-format';
import { expect } from 'vitest';

export type Labels = Readonly<Record<string, string>>;

/** All label names there may be: who adds one says here that its values are few. */
const LABELS = new Set([
  ...['namespace', 'name', 'host', 'disk', 'network', 'phase', 'state', 'architecture', 'accelerator', 'qemu_version'],
  ...['os', 'kernel', 'version', 'node_version', 'controller', 'result', 'action', 'code', 'method', 'le'],
]);

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"/g;
const NUMBER = /^(?:[+-]Inf|NaN|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;

export class Exposition {
  readonly text: string;
  readonly #families: ReturnType<typeof parse>;

  /** @throws where the text breaks a rule of the format, or of good names */
  constructor(text: string) {
    checkFormat(text);
    this.text = text;
    this.#families = parse(text);
  }

  get names(): string[] {
    return this.#families.map(({ name }) => name);
  }

  typeOf(name: string): string | undefined {
    return this.#families.find((family) => family.name === name)?.type;
  }

  /** All series of a family that have these labels; of a histogram see the text. */
  all(name: string, labels: Labels = {}): { labels: Labels; value: number }[] {
    const metrics = this.#families.find((family) => family.name === name)?.metrics ?? [];
    return metrics
      .map((one) => ({ labels: one.labels ?? {}, value: Number(one.value) }))
      .filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value));
  }

  /** Of the only series that has these labels; undefined: there is none. */
  value(name: string, labels: Labels = {}): number | undefined {
    const found = this.all(name, labels);
    if (found.length > 1) throw new Error(`${name} has ${found.length} series of ${JSON.stringify(labels)}`);
    return found[0]?.value;
  }
}

export async function scrape(address: string): Promise<Exposition> {
  const answer = await fetch(`http://${address}/metrics`);
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  return new Exposition(await answer.text());
}

interface Family {
  readonly name: string;
  readonly type: string;
}

function checkFormat(text: string): void {
  expect(text.endsWith('\n'), 'the last line ends').toBe(true);
  const lines = text.slice(0, -1).split('\n');
  const names = new Set<string>();
  const series = new Set<string>();
  const values = new Map<string, number>();
  let family: Family | undefined;
  for (const [i, line] of lines.entries()) {
    const [, helped] = /^# HELP (\S+) \S/.exec(line) ?? [];
    if (helped !== undefined) {
      const [, typed = '', type = ''] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(lines[i + 1] ?? '') ?? [];
      expect(typed, `TYPE after ${line}`).toBe(helped);
      expect(names.has(helped), `${helped} comes once`).toBe(false);
      names.add(helped);
      family = { name: helped, type };
      checkName(family);
      expect(lines[i + 2] ?? '', `${helped} has series`).toMatch(new RegExp(`^${helped}`));
      continue;
    }
    if (line.startsWith('# TYPE ')) continue;
    const [key, value] = checkSample(line, family);
    expect(series.has(key), `${key} comes once`).toBe(false);
    series.add(key);
    values.set(key, value);
  }
  checkBuckets(values);
}

/** Base units, and the ending of counters: https://prometheus.io/docs/practices/naming/ */
function checkName({ name, type }: Family): void {
  expect(name.endsWith('_total'), `${name} is a ${type}`).toBe(type === 'counter');
  expect(name).not.toMatch(/_(ms|millis\w*|micros\w*|percent|kb|mb|gb|kib|mib|gib|count|sum|bucket)(_|$)/);
}

function checkSample(line: string, family: Family | undefined): [series: string, value: number] {
  const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
  expect(name, `a line of the format: ${line}`).not.toBe('');
  const suffixes = family?.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  expect(suffixes.map((suffix) => `${family?.name}${suffix}`)).toContain(name);
  expect(value, line).toMatch(NUMBER);
  const pairs = [...labels.matchAll(LABEL)].map(([, label = '', text = '']) => [label, text] as const);
  for (const [label, text] of pairs) {
    expect(LABELS.has(label), `label ${label} is known`).toBe(true);
    expect(text.length).toBeLessThanOrEqual(512);
  }
  expect(new Set(pairs.map(([label]) => label)).size, `labels of ${line} come once`).toBe(pairs.length);
  const sorted = pairs.toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [
    `${name}{${sorted.map(([label, text]) => `${label}="${text}"`).join(',')}}`,
    Number(value.replace('Inf', 'Infinity')),
  ];
}

/** Each bucket has those before it, and the last one all. */
function checkBuckets(values: ReadonlyMap<string, number>): void {
  const before = new Map<string, number>();
  for (const [key, value] of values) {
    const [, name, bound] = /^(.*)_bucket\{.*le="([^"]+)"/.exec(key) ?? [];
    if (name === undefined) continue;
    const rest = `${name} ${key.replace(/,?le="[^"]+"/, '')}`;
    expect(value, key).toBeGreaterThanOrEqual(before.get(rest) ?? 0);
    before.set(rest, value);
    if (bound !== '+Inf') continue;
    const count = key
      .replace('_bucket{', '_count{')
      .replace(/,?le="[^"]+"/, '')
      .replace('{,', '{');
    expect(values.get(count) ?? values.get(count.replace('{}', '')), `${count} is that of +Inf`).toBe(value);
  }
}
