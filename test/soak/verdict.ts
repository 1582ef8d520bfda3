/** Whether figures that were taken again and again at the same rest stay flat. */

export interface Bound {
  readonly name: string;
  readonly unit: string;
  /** The most that the line through the figures may rise from its first point to its last. */
  readonly rise: number;
}

export interface Verdict extends Bound {
  readonly first: number;
  readonly last: number;
  readonly risen: number;
  readonly ok: boolean;
}

/** How much the straight line that fits the figures best rises from the first to the last. */
export function riseOf(figures: readonly number[]): number {
  const n = figures.length;
  if (n < 2) return 0;
  const meanX = (n - 1) / 2;
  const meanY = figures.reduce((sum, y) => sum + y, 0) / n;
  const covariance = figures.reduce((sum, y, x) => sum + (x - meanX) * (y - meanY), 0);
  const variance = figures.reduce((sum, _y, x) => sum + (x - meanX) ** 2, 0);
  return (covariance / variance) * (n - 1);
}

export function judge(bound: Bound, figures: readonly number[]): Verdict {
  const risen = riseOf(figures);
  return { ...bound, first: figures[0] ?? 0, last: figures.at(-1) ?? 0, risen, ok: risen <= bound.rise };
}

export function lineOf({ name, unit, rise, first, last, risen, ok }: Verdict): string {
  const shown = (value: number) => `${Math.round(value * 10) / 10}${unit}`;
  return `${ok ? 'ok  ' : 'FAIL'} ${name}: ${shown(first)} at first, ${shown(last)} at last, line rises ${shown(risen)} (at most ${shown(rise)})`;
}
