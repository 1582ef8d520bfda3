/** What a bench finds, and the arithmetic of it. Pure. */

export interface Finding {
  readonly name: string;
  readonly figure: number;
  readonly unit: '×' | 's' | 'ms' | '% of a core' | 'MB' | 'writes' | 'round trips';
  /** The most that is allowed; absent where nothing was promised. */
  readonly bound?: number;
  /** What the figure was made of: medians, ranges, number of runs. */
  readonly from: string;
}

export type Verdict = 'met' | 'broken' | 'no bound';

export function verdictOf({ figure, bound }: Finding): Verdict {
  if (bound === undefined) return 'no bound';
  return figure <= bound ? 'met' : 'broken';
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [below = Number.NaN, above = Number.NaN] = [sorted[middle - 1], sorted[middle]];
  return sorted.length % 2 === 1 ? above : (below + above) / 2;
}

/** `median 12.3 ms (9.8 to 20.1)` */
export function spread(values: readonly number[], unit = 'ms'): string {
  const shown = (value: number) => shownNumber(value);
  return `median ${shown(median(values))} ${unit} (${shown(Math.min(...values))} to ${shown(Math.max(...values))})`;
}

export function shownNumber(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** Each run against its neighbour in time: what slows the machine for a while slows both. */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((value, index) => value / (theirs[index] ?? Number.NaN)));
}

/**
 * Runs the contestants by turns: A B C A B C, and every second round backwards. Milliseconds by contestant.
 * One round before is not counted: caches fill, capabilities are asked.
 */
export async function byTurns<Name extends string>(
  rounds: number,
  contestants: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contestants) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -1; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const ms = await contestants[name]();
      if (round >= 0) times[name].push(ms);
    }
  }
  return times;
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}
