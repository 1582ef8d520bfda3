/** Objects as YAML and JSON, in kubectl's shape. Pure. */
import { Document } from 'yaml';
import type { AnyObject } from '../api/kinds.ts';

const JSON_INDENT = 4;
const FIRST = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];

export function yamlText(value: object): string {
  return new Document(ordered(value), { aliasDuplicateObjects: false }).toString({ lineWidth: 0, indentSeq: false });
}

export function jsonText(value: object): string {
  return `${JSON.stringify(ordered(value), undefined, JSON_INDENT)}\n`;
}

/** What several objects are printed as, and what apply takes again. */
export function listOf(items: readonly AnyObject[]): object {
  return { apiVersion: 'v1', items: items.map(ordered), kind: 'List', metadata: { resourceVersion: '' } };
}

/** apiVersion, kind, metadata, spec, status: as people read them. */
function ordered(value: object): object {
  const rank = (key: string) => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => rank(a) - rank(b)));
}
