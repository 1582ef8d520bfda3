/** How a command ends: the documented exit codes, and the sentence that says why. */
import { ApiError, InvalidObjectError, issueSentence, StoreUnavailableError } from '../api/errors.ts';

/** Documented in docs/reference/cli.md; scripts rely on them. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  conflict: 4,
  timedOut: 5,
  hostUnreachable: 6,
  /** `plan` found something to do. */
  changes: 7,
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

/** Refusals of several things that were judged together: each is told, the first gives the code. */
export class SeveralRefusals extends CliError {
  readonly refusals: readonly unknown[];
  constructor(refusals: readonly unknown[]) {
    super(exitCodeOf(refusals[0]), refusals.map(sentenceOf).join('\n'));
    this.refusals = refusals;
  }
}

/** Gathers refusals, so that a person sees all of them at once. What is no refusal ends it. */
export class Judge {
  readonly #refusals: unknown[] = [];

  /** Undefined where it was refused. */
  async judge<T>(work: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      const refusal =
        error instanceof CliError || (error instanceof ApiError && !(error instanceof StoreUnavailableError));
      if (!refusal) throw error;
      this.#refusals.push(error);
      return undefined;
    }
  }

  /** @throws the refusal, or all of them */
  throwIfRefused(): void {
    const [first, ...more] = this.#refusals;
    if (first !== undefined) throw more.length === 0 ? first : new SeveralRefusals(this.#refusals);
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

/** A program that was run for the person ended so; it has told why itself. */
export class EndedWith extends Error {
  override name = 'EndedWith';
  readonly code: number;
  constructor(code: number) {
    super(`ended with exit code ${code}`);
    this.code = code;
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
  CredentialsInvalidError: EXIT.hostUnreachable,
  HostKeyRefusedError: EXIT.hostUnreachable,
  JumpHostInvalidError: EXIT.hostUnreachable,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError || error instanceof InterruptedError || error instanceof EndedWith) return error.code;
  return (error instanceof Error ? CODES[error.name] : undefined) ?? EXIT.failed;
}

/** What is printed on stderr, in kubectl's form. */
export function sentenceOf(error: unknown): string {
  if (error instanceof SeveralRefusals) return error.message;
  if (error instanceof CliError && error.message === '') return '';
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
