/**
 * The text that Prometheus reads, version 0.0.4. Nothing is kept between two scrapes but what the process itself
 * counts: figures of objects are written as they are read.
 * Source: https://prometheus.io/docs/instrumenting/exposition_formats/
 */

export const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export interface Metric {
  /** With its unit; a counter ends in `_total`. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** One sentence, for HELP and for docs/reference/metrics.md. */
  readonly help: string;
  readonly labels: readonly string[];
}

/** Values of the labels in their order, and the figure; undefined: it is not known, and there is no line. */
export type Figure = readonly [labels: readonly (string | undefined)[], value: number | undefined];

/** No name of an object is longer. */
const MAX_LABEL = 256;

/** HELP, TYPE and a line for each figure; empty where there is none. */
export function familyOf(metric: Metric, figures: Iterable<Figure>): string {
  let lines = '';
  for (const [labels, value] of figures)
    if (value !== undefined) lines += `${metric.name}${labelsText(metric.labels, labels)} ${valueText(value)}\n`;
  return lines === '' ? '' : headOf(metric) + lines;
}

function headOf({ name, type, help }: Metric): string {
  const text = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  return `# HELP ${name} ${text}\n# TYPE ${name} ${type}\n`;
}

function labelsText(names: readonly string[], values: readonly (string | undefined)[]): string {
  if (names.length === 0) return '';
  return `{${names.map((name, i) => `${name}="${labelText(values[i])}"`).join(',')}}`;
}

/** Values may come from a host or a guest. */
function labelText(value: string | undefined = ''): string {
  const text = String(value).slice(0, MAX_LABEL).toWellFormed();
  return /[\\"\n]/.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n') : text;
}

function valueText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (Number.isFinite(value)) return String(value);
  return value > 0 ? '+Inf' : '-Inf';
}

/** Counts by the values of labels. */
export class Counts {
  readonly #counts = new Map<string, { readonly labels: readonly string[]; count: number }>();

  add(labels: readonly string[], more = 1): void {
    const key = labels.join('\0');
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { labels, count: more });
    else known.count += more;
  }

  *figures(): Iterable<Figure> {
    for (const { labels, count } of this.#counts.values()) yield [labels, count];
  }
}

interface Distribution {
  readonly labels: readonly string[];
  /** How many were at most as long as each bound, and longer than the one before; the last: longer than all. */
  readonly counts: number[];
  sum: number;
}

/** Durations by the values of labels. */
export class Histogram {
  readonly #metric: Metric;
  readonly #bounds: readonly number[];
  readonly #distributions = new Map<string, Distribution>();

  /** @param bounds upper ends of the buckets, seconds, ascending; +Inf follows by itself */
  constructor(metric: Metric, bounds: readonly number[]) {
    this.#metric = metric;
    this.#bounds = bounds;
  }

  observe(labels: readonly string[], seconds: number): void {
    const key = labels.join('\0');
    let known = this.#distributions.get(key);
    if (known === undefined) {
      known = { labels, counts: Array<number>(this.#bounds.length + 1).fill(0), sum: 0 };
      this.#distributions.set(key, known);
    }
    const at = this.#bounds.findIndex((bound) => seconds <= bound);
    const bucket = at < 0 ? this.#bounds.length : at;
    known.counts[bucket] = (known.counts[bucket] ?? 0) + 1;
    known.sum += seconds;
  }

  text(): string {
    const { name, labels: names } = this.#metric;
    let lines = '';
    for (const { labels, counts, sum } of this.#distributions.values()) {
      let upTo = 0;
      for (const [i, count] of counts.entries()) {
        upTo += count;
        const bound = valueText(this.#bounds[i] ?? Number.POSITIVE_INFINITY);
        lines += `${name}_bucket${labelsText([...names, 'le'], [...labels, bound])} ${upTo}\n`;
      }
      lines += `${name}_sum${labelsText(names, labels)} ${valueText(sum)}\n`;
      lines += `${name}_count${labelsText(names, labels)} ${upTo}\n`;
    }
    return lines === '' ? '' : headOf(this.#metric) + lines;
  }
}
