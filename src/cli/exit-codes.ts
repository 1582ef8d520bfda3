/** How a command ends: the documented exit codes, and the sentence that says why. */
import { ApiError, InvalidObjectError, issueSentence } from '../api/errors.ts';

/** Documented in docs/reference/cli.md; scripts rely on them. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  conflict: 4,
  timedOut: 5,
  hostUnreachable: 6,
} as const;

/** A refusal in the CLI's own words. */
export class CliError extends Error {
  override name = 'CliError';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export function usageError(message: string): CliError {
  return new CliError(EXIT.usage, message);
}

/** A person or a supervisor ended the command; what was written stays written. */
export class InterruptedError extends Error {
  override name = 'InterruptedError';
  readonly code: number;
  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`interrupted by ${signal}`);
    this.code = signal === 'SIGINT' ? 130 : 143;
  }
}

/** By name, since rooms that the CLI does not import throw some of them. */
const CODES: Readonly<Record<string, number>> = {
  NotFoundError: EXIT.notFound,
  AlreadyExistsError: EXIT.conflict,
  ConflictError: EXIT.conflict,
  ConsoleHeldError: EXIT.conflict,
  ScriptTimeoutError: EXIT.timedOut,
  HostUnreachableError: EXIT.hostUnreachable,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError || error instanceof InterruptedError) return error.code;
  return (error instanceof Error ? CODES[error.name] : undefined) ?? EXIT.failed;
}

/** What is printed on stderr, in kubectl's form. */
export function sentenceOf(error: unknown): string {
  if (error instanceof InvalidObjectError) return invalidSentence(error);
  if (error instanceof ApiError) return `Error from server (${error.reason}): ${error.message}`;
  return `error: ${error instanceof Error ? error.message : String(error)}`;
}

function invalidSentence(error: InvalidObjectError): string {
  const [first] = error.issues;
  if (error.issues.length <= 1 || first === undefined) return `error: ${error.message}`;
  const subject = error.message.slice(0, error.message.indexOf(issueSentence(first)));
  return `error: ${subject}\n${error.issues.map((issue) => `* ${issueSentence(issue)}`).join('\n')}`;
}
