/** What was changed between two values, as the merge patch (RFC 7386) that changes it again. Pure. */
import { isDeepStrictEqual } from 'node:util';

type Fields = Readonly<Record<string, unknown>>;

/** undefined: nothing. Lists are replaced whole. */
export function differenceOf(before: unknown, after: unknown): Fields | undefined {
  if (!isMap(before) || !isMap(after)) return undefined;
  const changes: Record<string, unknown> = {};
  for (const key of Object.keys(before)) if (after[key] === undefined && before[key] !== undefined) changes[key] = null;
  for (const [key, value] of Object.entries(after)) {
    if (isDeepStrictEqual(before[key], value)) continue;
    changes[key] = differenceOf(before[key], value) ?? value;
  }
  return Object.keys(changes).length > 0 ? changes : undefined;
}

function isMap(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
