/**
 * What the API refuses and why, with Kubernetes' reasons (metav1.StatusReason). Every mouth maps these to its own
 * form: exit codes, MCP results. Values are quoted with a bound, since they may come from anywhere.
 */

/** One refused field: where, what stood there, and what is allowed. */
export interface FieldIssue {
  /** As in `spec.disks[root].size`. */
  readonly field: string;
  /** The offending value, quoted and bounded; absent where nothing stood there. */
  readonly value?: string | undefined;
  readonly message: string;
}

export type ApiErrorReason =
  | 'Invalid'
  | 'NotFound'
  | 'AlreadyExists'
  | 'Conflict'
  | 'Forbidden'
  | 'Expired'
  | 'ServiceUnavailable';

export abstract class ApiError extends Error {
  abstract readonly reason: ApiErrorReason;
  override get name(): string {
    return this.constructor.name;
  }
}

export class InvalidObjectError extends ApiError {
  readonly reason = 'Invalid';
  readonly issues: readonly FieldIssue[];
  constructor(subject: string, issues: readonly FieldIssue[]) {
    super(`${subject} is invalid: ${issues.map(issueSentence).join('; ')}`);
    this.issues = issues;
  }
}

export class NotFoundError extends ApiError {
  readonly reason = 'NotFound';
}
export class AlreadyExistsError extends ApiError {
  readonly reason = 'AlreadyExists';
}
/** The object is no longer the one the caller read: another uid or resourceVersion. Read again, then decide again. */
export class ConflictError extends ApiError {
  readonly reason = 'Conflict';
}
/** Refused by a rule that a person set, such as the `protected` annotation. */
export class ForbiddenError extends ApiError {
  readonly reason = 'Forbidden';
}
/** The watch history no longer reaches back to the asked resourceVersion (HTTP 410): list again. */
export class ExpiredError extends ApiError {
  readonly reason = 'Expired';
}
/** The store cannot be read or written now; nothing was changed. */
export class StoreUnavailableError extends ApiError {
  readonly reason = 'ServiceUnavailable';
}

/** An object cannot be where there is no namespace for it. */
export function namespaceMissing(name: string): NotFoundError {
  return new NotFoundError(`namespace "${name}" does not exist: kubectl create namespace ${name}`);
}

export function issueSentence(issue: FieldIssue): string {
  return issue.value === undefined
    ? `${issue.field}: ${issue.message}`
    : `${issue.field}: Invalid value: ${issue.value}: ${issue.message}`;
}

const MAX_QUOTED = 80;

/** Control characters that JSON leaves as they are, line separators, and marks that turn the direction of text. */
const INVISIBLE = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A value as one bounded line of JSON: control characters escaped, long text cut. */
export function quoteValue(value: unknown): string {
  const json = jsonOf(value).replace(INVISIBLE, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return json.length <= MAX_QUOTED ? json : `${json.slice(0, MAX_QUOTED).toWellFormed()}… (${json.length} characters)`;
}

function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value, (_key, one) => (typeof one === 'bigint' ? `${one}` : one)) ?? String(value);
  } catch {
    return 'a value that contains itself';
  }
}

/** The sentence of any error, one line, bounded; for conditions, results and logs. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return oneLine(message, 900);
}

/** Text from elsewhere as one printable line of at most `max` characters. */
export function oneLine(message: string, max: number): string {
  const line = message.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
  return line.length <= max ? line : `${line.slice(0, max - 1)}…`;
}

/** The first of many, and how many more there are. */
export function someOf(names: readonly string[], most: number): string {
  const more = names.length > most ? ` and ${names.length - most} more` : '';
  return `${names.slice(0, most).join(', ')}${more}`;
}

/** The candidates that look most like what was asked for: for "did you mean". One that differs in case alone wins. */
export function nearNames(asked: string, candidates: Iterable<string>, most = 3): string[] {
  const wanted = asked.slice(0, 64).toLowerCase();
  const ranked = [...candidates]
    .map((name) => ({ name, distance: editDistance(wanted, name.toLowerCase()) }))
    .filter(
      ({ name, distance }) =>
        distance <= Math.max(1, Math.floor(wanted.length / 3)) ||
        (wanted !== '' && name.toLowerCase().includes(wanted)),
    )
    .sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1));
  const same = ranked.filter(({ distance }) => distance === 0);
  return (same.length > 0 ? same : ranked).slice(0, most).map(({ name }) => name);
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
