/**
 * The connection to one host, made when it is needed and made again after it was lost: one attempt at a time, with
 * growing pauses, so that neither a host that restarts nor one that refuses us is run against.
 */
import { BehaviorSubject, type Observable } from 'rxjs';
import { unlessAborted } from './deadline.ts';
import { HostConnection } from './host-connection.ts';
import { HostKeys } from './host-keys.ts';
import { lineOf } from './known-hosts.ts';
import { LocalShell } from './local-shell.ts';
import { DialError, HostUnreachableError } from './shell.ts';
import { SshClient } from './ssh-client.ts';
import { CredentialsInvalidError, HostKeyRefusedError, type SshConnection, type SshRoute } from './ssh-route.ts';

const CONNECT_MS = 10_000;
const MIN_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 30_000;
/** What only a person can mend is not asked for again and again: a host may lock out who does that. */
const REFUSED_PAUSE_MS = 10 * 60_000;
/** A connection that held so long was no failure when it ended. */
const STEADY_MS = 30_000;

interface Pause {
  readonly error: HostUnreachableError;
  /** By performance.now(). */
  readonly until: number;
}

export class SshLink {
  readonly #route: SshRoute;
  readonly #keys: HostKeys;
  readonly #state$ = new BehaviorSubject<SshConnection>({ kind: 'unopened' });
  readonly #closing = new AbortController();
  #attempt: Promise<HostConnection> | undefined;
  #connection: HostConnection | undefined;
  #pause: Pause | undefined;
  #failures = 0;
  /** What a jump host refuses is retried by its own shell, whose pause is long enough. */
  #isJumpAtFault = false;

  constructor(route: SshRoute) {
    this.#route = route;
    this.#keys = new HostKeys(route);
  }

  get state$(): Observable<SshConnection> {
    return this.#state$;
  }

  /** The connection, opened where there is none. @throws HostUnreachableError, at once while none is tried; the signal's reason */
  async connection(signal: AbortSignal): Promise<HostConnection> {
    if (this.#closing.signal.aborted) throw new HostUnreachableError(`${this.#route.name}: its shell is closed`);
    if (this.#connection !== undefined && this.#connection.client.lost === undefined) return this.#connection;
    if (this.#attempt === undefined) {
      this.#throwWhilePaused();
      this.#attempt = this.#open().finally(() => {
        this.#attempt = undefined;
      });
    }
    return unlessAborted(this.#attempt, signal);
  }

  /** What was refused or failed may serve now: the next use tries it at once. */
  retryNow(): void {
    this.#pause = undefined;
    this.#failures = 0;
  }

  close(): void {
    this.#closing.abort(new HostUnreachableError(`${this.#route.name}: its shell is closed`));
    this.#connection?.client.end();
    this.#state$.complete();
  }

  #throwWhilePaused(): void {
    const left = (this.#pause?.until ?? 0) - performance.now();
    if (this.#pause === undefined || left <= 0) return;
    const { error } = this.#pause;
    const message = `${error.message}; tried again in ${Math.ceil(left / 1000)} s`;
    if (error instanceof CredentialsInvalidError) throw new CredentialsInvalidError(message, error.tried);
    if (error instanceof HostKeyRefusedError) throw new HostKeyRefusedError(message, error);
    throw new HostUnreachableError(message);
  }

  async #open(): Promise<HostConnection> {
    try {
      const client = await this.#connect();
      const connection = new HostConnection(client, this.#route);
      this.#connection = connection;
      const since = performance.now();
      this.#state$.next({ kind: 'connected', hostKey: lineOf(client.hostKey) });
      void client.ended.then((error) => {
        if (performance.now() - since >= STEADY_MS) this.#failures = 0;
        this.#lost(error);
      });
      return connection;
    } catch (error) {
      const reason = asUnreachable(error, this.#route.name);
      this.#lost(reason);
      throw reason;
    }
  }

  async #connect(): Promise<SshClient> {
    const { address, port, jump, credentials } = this.#route;
    this.#isJumpAtFault = false;
    const secrets = await credentials();
    const through = jump ?? new LocalShell();
    const signal = this.#closing.signal;
    this.#isJumpAtFault = true;
    const stream = await through.dialTcp({ host: address, port }, { timeoutMs: CONNECT_MS, signal });
    this.#isJumpAtFault = false;
    // Until it is connected nobody else could end it.
    const onClose = () => stream.destroy();
    signal.addEventListener('abort', onClose, { once: true });
    try {
      return await SshClient.connect({ route: this.#route, keys: this.#keys, stream }, secrets);
    } catch (error) {
      stream.destroy();
      throw error;
    } finally {
      signal.removeEventListener('abort', onClose);
    }
  }

  #lost(error: HostUnreachableError): void {
    if (this.#closing.signal.aborted) return;
    const isFinal = isRefusal(error) && !this.#isJumpAtFault;
    const pauseMs = isFinal ? REFUSED_PAUSE_MS : this.#nextPauseMs();
    this.#pause = { error, until: performance.now() + pauseMs };
    this.#state$.next({ kind: 'lost', error, retryInMs: pauseMs });
  }

  /** Between a second and twice the last bound, at random: hosts that were lost together do not come back together. */
  #nextPauseMs(): number {
    this.#failures += 1;
    const bound = Math.min(MAX_PAUSE_MS, MIN_PAUSE_MS * 2 ** this.#failures);
    return MIN_PAUSE_MS + Math.random() * (bound - MIN_PAUSE_MS);
  }
}

function isRefusal(error: Error): boolean {
  return error instanceof CredentialsInvalidError || error instanceof HostKeyRefusedError;
}

function asUnreachable(error: unknown, name: string): HostUnreachableError {
  if (error instanceof HostUnreachableError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new HostUnreachableError(
    error instanceof DialError ? `${name} cannot be reached: ${message}` : `${name} cannot be asked: ${message}`,
  );
}
