/** Label selectors as kubectl takes them: equality, inequality, presence. Pure. */
import { usageError } from './exit-codes.ts';

interface Requirement {
  readonly key: string;
  readonly holds: (value: string | undefined) => boolean;
}
export type Selector = readonly Requirement[];

/** `app=web,tier!=db,owner,!temporary`; absent: everything. */
export function parseSelector(text: string | undefined): Selector {
  return text === undefined || text === '' ? [] : text.split(',').map((part) => requirement(part.trim()));
}

const EQUALITY = /^([\w./-]+)\s*(==?|!=)\s*([\w.-]*)$/;

function requirement(part: string): Requirement {
  const [, key, operator, wanted] = EQUALITY.exec(part) ?? [];
  if (key !== undefined) {
    return { key, holds: operator === '!=' ? (value) => value !== wanted : (value) => value === wanted };
  }
  const [, not, name] = /^(!?)([\w./-]+)$/.exec(part) ?? [];
  if (name === undefined) throw usageError(`"${part}" is no label selector such as app=web, tier!=db, owner or !owner`);
  return { key: name, holds: (value) => (value === undefined) === (not === '!') };
}

export function matches(selector: Selector, labels: Readonly<Record<string, string>> | undefined): boolean {
  return selector.every(({ key, holds }) => holds(labels?.[key]));
}
