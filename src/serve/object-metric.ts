/** A figure that is read from an object when it is scraped, as a row of a table. */
import { isTrue } from '../api/conditions.ts';
import { parseQuantity } from '../api/quantity.ts';
import type { Figure, Metric } from './exposition.ts';

export interface ObjectMetric<T> extends Metric {
  /** Without the labels that name the object. */
  readonly of: (object: T) => Iterable<Figure>;
}

type Conditions = Parameters<typeof isTrue>[0];

/** 1 or 0; undefined before anything was found. */
export function conditionFigure(conditions: Conditions, type: string): number | undefined {
  if (conditions === undefined) return undefined;
  return isTrue(conditions, type) ? 1 : 0;
}

export function bytesOf(quantity: string | undefined): number | undefined {
  return quantity === undefined ? undefined : parseQuantity(quantity);
}

export function secondsOf(timestamp: string | undefined): number | undefined {
  const ms = Date.parse(timestamp ?? '');
  return Number.isNaN(ms) ? undefined : ms / 1000;
}

export function scaled(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : value / by;
}
