/** The text form of `describe`: fields that line up, and sections with tables. Pure. */
import type { Condition } from '../api/conditions.ts';
import type { AnyObject } from '../api/kinds.ts';
import { ageOf } from './duration.ts';
import { Table } from './table.ts';

/** undefined: the line is left out. */
export type Field = readonly [name: string, value: string | number | undefined];

const NAME_WIDTH = 20;

export function fields(entries: readonly Field[]): string[] {
  return entries
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `${`${name}:`.padEnd(NAME_WIDTH)}${value}`);
}

/** Nothing where there are no lines. */
export function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  ${line}`)];
}

/** Nothing where there are no rows. */
export function tableSection(title: string, header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return rows.length === 0 ? [] : section(title, new Table().lines([header, ...rows]));
}

/** What all kinds have. */
export function metadataLines({ metadata, kind, apiVersion }: AnyObject, now: number): string[] {
  return fields([
    ['Name', metadata.name],
    ['Namespace', metadata.namespace],
    ['Kind', `${kind} (${apiVersion})`],
    ['Labels', pairs(metadata.labels)],
    ['Annotations', pairs(metadata.annotations)],
    ['UID', metadata.uid],
    ['Created', `${metadata.creationTimestamp} (${ageOf(metadata.creationTimestamp, now)} ago)`],
    [
      'Being deleted',
      metadata.deletionTimestamp === undefined
        ? undefined
        : `since ${metadata.deletionTimestamp} (${ageOf(metadata.deletionTimestamp, now)})`,
    ],
    ['Generation', metadata.generation],
  ]);
}

function pairs(map: Readonly<Record<string, string>> | undefined): string {
  const lines = Object.entries(map ?? {}).map(([key, value]) => `${key}=${value}`);
  return lines.length === 0 ? '<none>' : lines.join(`\n${' '.repeat(NAME_WIDTH)}`);
}

export function conditionLines(conditions: readonly Condition[] | undefined, now: number): string[] {
  const rows = (conditions ?? []).map((one) => [
    one.type,
    one.status,
    one.reason,
    ageOf(one.lastTransitionTime, now),
    one.message,
  ]);
  return tableSection('Conditions', ['TYPE', 'STATUS', 'REASON', 'SINCE', 'MESSAGE'], rows);
}
