/** Why a stream was refused or ended: metav1.Status, as an API server says it. */
import { ForbiddenError, messageOf, NotFoundError, StoreUnavailableError } from '../api/errors.ts';
import { DialError, HostUnreachableError, ScriptTimeoutError } from '../host/shell.ts';
import { ConsoleHeldError } from './console.ts';
import { LogAbsentError } from './logs.ts';
import { UserMonitorError } from './user-monitor.ts';
import { NotReachableError } from './vm-streams.ts';

export interface Status {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  readonly metadata: object;
  readonly status: 'Success' | 'Failure';
  readonly message?: string;
  readonly reason?: string;
  /** HTTP's. */
  readonly code: number;
}

/** A refusal in HTTP's numbers. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export const SUCCESS: Status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 200 };

/** metav1.StatusReason by code, as far as it is used here. */
const REASONS: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  409: 'Conflict',
  429: 'TooManyRequests',
  500: 'InternalError',
  502: 'BadGateway',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** Each answer of a stream's opening that has a number of its own. */
const CODES = [
  [NotFoundError, 404],
  [LogAbsentError, 404],
  [ConsoleHeldError, 409],
  [NotReachableError, 400],
  [DialError, 400],
  [UserMonitorError, 400],
  [ScriptTimeoutError, 504],
  [HostUnreachableError, 502],
  [StoreUnavailableError, 503],
] as const;

export function statusOf(error: unknown): Status {
  const known = CODES.find(([kind]) => error instanceof kind)?.[1] ?? 500;
  const code = error instanceof RefusedError ? error.code : known;
  const reason = REASONS[code] ?? 'InternalError';
  return { ...SUCCESS, status: 'Failure', message: messageOf(error), reason, code };
}

/** The other way round: as it would have been thrown where the host is asked itself. */
export function errorOf(error: unknown): unknown {
  if (!(error instanceof RefusedError)) return error;
  const { code, message } = error;
  if (code === 403) return new ForbiddenError(message);
  if (code === 404) return new NotFoundError(message);
  if (code === 409) return new ConsoleHeldError(undefined, message);
  if (code === 400) return new NotReachableError(message);
  if (code === 502) return new HostUnreachableError(message);
  if (code === 504) return new ScriptTimeoutError(message);
  if (code === 503) return new StoreUnavailableError(`no operator answers for the API server: ${message}`);
  return new Error(`${message} (HTTP ${code})`);
}

/** Undefined for what is none, such as a page of a proxy. */
export function parseStatus(text: string): Status | undefined {
  try {
    const value = JSON.parse(text) as Partial<Status> | null;
    return value?.kind === 'Status' ? (value as Status) : undefined;
  } catch {
    return undefined;
  }
}
