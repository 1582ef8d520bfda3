/** The columns of `get`, from the kinds' own table: the same that kubectl shows from the CRDs. Pure. */
import { type AnyObject, KIND_INFO, type PrinterColumn } from '../api/kinds.ts';
import type { Kind } from '../api/meta.ts';
import { ageOf } from './duration.ts';
import { resourceOf } from './resources.ts';

export interface TableOptions {
  readonly wide: boolean;
  readonly withNamespace: boolean;
  readonly showLabels: boolean;
  /** NAME as TYPE/NAME, where several types are shown. */
  readonly withType: boolean;
}

const NONE = '<none>';

export function headerOf(kind: Kind, options: TableOptions): string[] {
  return [
    ...(options.withNamespace && KIND_INFO[kind].namespaced ? ['NAMESPACE'] : []),
    'NAME',
    ...columnsOf(kind, options).map(({ name }) => name.toUpperCase()),
    ...(options.showLabels ? ['LABELS'] : []),
  ];
}

export function rowOf(object: AnyObject, options: TableOptions, now: number): string[] {
  const { kind, metadata } = object;
  const labels = Object.entries(metadata.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return [
    ...(options.withNamespace && KIND_INFO[kind].namespaced ? [metadata.namespace ?? ''] : []),
    options.withType ? `${resourceOf(kind)}/${metadata.name}` : metadata.name,
    ...columnsOf(kind, options).map((column) => cell(object, column, now)),
    ...(options.showLabels ? [labels.join(',') || NONE] : []),
  ];
}

function columnsOf(kind: Kind, { wide }: TableOptions): readonly PrinterColumn[] {
  return KIND_INFO[kind].columns.filter(({ priority }) => wide || priority === 0);
}

function cell(object: AnyObject, { jsonPath, type }: PrinterColumn, now: number): string {
  const value = valueAt(object, jsonPath);
  if (type === 'date') return ageOf(typeof value === 'string' ? value : undefined, now);
  return value === undefined || value === '' ? NONE : String(value).replace(/\s+/g, ' ');
}

const STEP = /\.(\w+)|\[\?\(@\.(\w+)==["']([^"']*)["']\)\]|\[(\d+|\*)\]/g;

/**
 * The part of JSONPath that printer columns use: fields, list entries by number, by the value of a field, or all.
 * As kubectl does, the first that is found is shown.
 */
export function valueAt(object: unknown, path: string): unknown {
  let nodes: unknown[] = [object];
  for (const [, field, key, wanted, index] of path.matchAll(STEP)) {
    nodes = nodes
      .flatMap((node): unknown[] => {
        if (field !== undefined) return [(node as Record<string, unknown>)[field]];
        const entries: unknown[] = Array.isArray(node) ? node : [];
        if (index !== undefined) return index === '*' ? entries : [entries[Number(index)]];
        return [entries.find((entry) => (entry as Record<string, unknown>)[key ?? ''] === wanted)];
      })
      .filter((node) => node !== undefined && node !== null);
  }
  return nodes[0];
}
