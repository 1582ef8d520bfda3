/** Which fields differ between two values, leaf by leaf; entries of lists are known by their names. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { quoteValue } from '../api/errors.ts';

export interface FieldChange {
  /** As in `spec.disks[root].size`. */
  readonly path: string;
  /** undefined: nothing stood there. */
  readonly from: unknown;
  /** undefined: nothing stands there any more. */
  readonly to: unknown;
}

type Fields = Readonly<Record<string, unknown>>;
type Entry = Fields & { readonly name: string };

export function fieldChanges(path: string, from: unknown, to: unknown): FieldChange[] {
  if (isDeepStrictEqual(from, to)) return [];
  // Fields are told one by one also where the map that holds them comes or goes; an entry of a list is told whole.
  if (isFields(from ?? {}) && isFields(to ?? {}) && hasFields(from ?? to)) {
    const [before, after] = [(from ?? {}) as Fields, (to ?? {}) as Fields];
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) =>
      fieldChanges(isWord(key) ? `${path}.${key}` : `${path}[${key}]`, before[key], after[key]),
    );
  }
  if (isNamedList(from) && isNamedList(to)) return listChanges(path, from, to);
  return [{ path, from, to }];
}

function listChanges(path: string, from: readonly Entry[], to: readonly Entry[]): FieldChange[] {
  const names = [...new Set([...from, ...to].map(({ name }) => name))];
  const changes = names.flatMap((name): FieldChange[] => {
    const [before, after] = [from.find((entry) => entry.name === name), to.find((entry) => entry.name === name)];
    const at = `${path}[${name}]`;
    return before === undefined || after === undefined
      ? [{ path: at, from: before, to: after }]
      : fieldChanges(at, before, after);
  });
  const kept = (list: readonly Entry[], other: readonly Entry[]) =>
    list.map(({ name }) => name).filter((name) => other.some((entry) => entry.name === name));
  const [before, after] = [kept(from, to).join(', '), kept(to, from).join(', ')];
  return before === after ? changes : [...changes, { path, from: before, to: after }];
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hasFields(value: unknown): boolean {
  return isFields(value) && Object.keys(value).length > 0;
}

function isWord(key: string): boolean {
  return /^\w+$/.test(key);
}

function isNamedList(value: unknown): value is readonly Entry[] {
  return (
    Array.isArray(value) && value.every((entry) => isFields(entry) && typeof (entry as Fields)['name'] === 'string')
  );
}

/** A value as one bounded line; undefined stays so. */
export function shownValue(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const plain = typeof value === 'string' && value !== '' && /^[\x21-\x7e][\x20-\x7e]{0,79}$/.test(value);
  return plain || typeof value === 'number' || typeof value === 'boolean' ? String(value) : quoteValue(value);
}
