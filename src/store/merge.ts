/** How JSON values combine: merge patches, declarations of manifests, defaults. Pure. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { withDefaults } from '../api/admission.ts';
import type { Kind } from '../api/meta.ts';

export type JsonRecord = Readonly<Record<string, unknown>>;

export function isRecord(value: unknown): value is JsonRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const result: Record<string, unknown> = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined) continue;
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/**
 * What becomes of `current` when its declaration changes from `before` to `after`: declared fields are as declared,
 * fields no longer declared are gone, fields never declared stay. Lists are one field.
 */
export function redeclare(current: unknown, before: unknown, after: unknown): unknown {
  if (!isRecord(after)) return after;
  const result: Record<string, unknown> = isRecord(current) ? { ...current } : {};
  for (const [key, value] of Object.entries(isRecord(before) ? before : {})) {
    if (!(key in after)) undeclare(result, key, value);
  }
  for (const [key, value] of Object.entries(after)) {
    result[key] = redeclare(result[key], isRecord(before) ? before[key] : undefined, value);
  }
  return result;
}

function undeclare(result: Record<string, unknown>, key: string, before: unknown): void {
  const current = result[key];
  if (!isRecord(before) || !isRecord(current)) {
    delete result[key];
    return;
  }
  const rest = redeclare(current, before, {});
  if (isRecord(rest) && Object.keys(rest).length > 0) result[key] = rest;
  else delete result[key];
}

/**
 * The declaration after a merge patch: only what is declared already changes. `defaulted` is the value as readers
 * saw it before the patch: a default that a list entry repeats is no new declaration.
 */
export function patchDeclared(declared: JsonRecord, patch: JsonRecord, defaulted: unknown): JsonRecord {
  const result: Record<string, unknown> = { ...declared };
  for (const [key, value] of Object.entries(patch)) {
    const before = declared[key];
    if (value === undefined || before === undefined) continue;
    const seen = isRecord(defaulted) ? defaulted[key] : undefined;
    if (value === null) delete result[key];
    else if (isRecord(value) && isRecord(before)) result[key] = patchDeclared(before, value, seen);
    else result[key] = withoutEchoes(value, before, seen);
  }
  return result;
}

/** A list as a caller wrote it back, without the defaults it had been shown: entries are matched by name. */
function withoutEchoes(value: unknown, declared: unknown, shown: unknown): unknown {
  if (!Array.isArray(value) || !Array.isArray(declared) || !Array.isArray(shown)) return value;
  return value.map((entry) => {
    const before = declared.find(sameName(entry));
    const seen = shown.find(sameName(entry));
    if (!isRecord(entry) || !isRecord(before) || !isRecord(seen)) return entry;
    return Object.fromEntries(
      Object.entries(entry).filter(([key, one]) => key in before || !isDeepStrictEqual(one, seen[key])),
    );
  });
}

function sameName(entry: unknown): (other: unknown) => boolean {
  return (other) =>
    isRecord(entry) && isRecord(other) && typeof entry['name'] === 'string' && entry['name'] === other['name'];
}

/** The spec without the fields that a reader fills in just so: what was asked for. */
export function withoutDefaults(kind: Kind, spec: unknown): JsonRecord {
  const plain = plainJson(spec) as Record<string, unknown>;
  const whole = withDefaults(kind, plain);
  const same = () => {
    try {
      return isDeepStrictEqual(withDefaults(kind, plain), whole);
    } catch {
      return false;
    }
  };
  prune(plain, same);
  return plain;
}

/** Takes out of `node` every field whose absence nobody sees. */
function prune(node: unknown, same: () => boolean): void {
  if (Array.isArray(node)) for (const entry of node) prune(entry, same);
  if (!isRecord(node)) return;
  const fields = node as Record<string, unknown>;
  for (const [key, value] of Object.entries(fields)) {
    delete fields[key];
    if (same()) continue;
    fields[key] = value;
    prune(value, same);
  }
}

/**
 * JSON that is equal to `after`, made of what is the same in `before`: whoever holds both holds it once. Where all is
 * the same it is `before` itself. Changes `after`, which is to be nobody else's.
 */
export function sharing<T>(before: unknown, after: T): T {
  if (before === after) return before as T;
  if (typeof before !== 'object' || typeof after !== 'object' || before === null || after === null) return after;
  if (Array.isArray(before) !== Array.isArray(after)) return after;
  const [old, fresh] = [before as Record<string, unknown>, after as Record<string, unknown>];
  const keys = Object.keys(fresh);
  let isSame = keys.length === Object.keys(old).length;
  for (const key of keys) {
    const one = sharing(Object.hasOwn(old, key) ? old[key] : undefined, fresh[key]);
    if (one === undefined || one !== old[key]) isSame = false;
    fresh[key] = one;
  }
  return isSame ? (before as T) : after;
}

/** A copy without what JSON cannot hold: `undefined` fields are absent. */
export function plainJson(value: unknown): unknown {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value));
}

/** Equal for equal values, whatever the order of their fields. */
export function fingerprint(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(value)) ?? '')
    .digest('hex');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sorted(one)]),
  );
}

/** Frozen through and through: readers share it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const one of Object.values(value)) deepFreeze(one);
  }
  return value;
}
