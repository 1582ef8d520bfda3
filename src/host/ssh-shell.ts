/** A host over SSH as a shell: scripts in sessions, sockets as streams, all through one connection that is opened when needed. */
import type { Duplex } from 'node:stream';
import type { Observable } from 'rxjs';
import { withDeadline } from './deadline.ts';
import type { HostConnection } from './host-connection.ts';
import {
  DialError,
  type DialOptions,
  type RunOptions,
  type RunResult,
  ScriptTimeoutError,
  type Shell,
  type TcpAddress,
} from './shell.ts';
import { type Upload, upload } from './ssh-files.ts';
import { SshLink } from './ssh-link.ts';
import type { SshConnection, SshRoute } from './ssh-route.ts';

const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

export class SshShell implements Shell {
  readonly #name: string;
  readonly #link: SshLink;

  constructor(route: SshRoute) {
    this.#name = route.name;
    this.#link = new SshLink(route);
  }

  /** What became of the connection, beginning with what is known of it now; it ends when the shell is closed. */
  get connection$(): Observable<SshConnection> {
    return this.#link.state$;
  }

  /** To be called when the Secret or the spec has changed: what was refused is tried again at the next use. */
  retryNow(): void {
    this.#link.retryNow();
  }

  /** The time for the script begins with the call, so waiting for the connection and for a session is part of it. */
  async run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    const late = () => new ScriptTimeoutError(`a script on ${this.#name} did not end within ${options.timeoutMs} ms`);
    return withDeadline(options, late, async (signal) => {
      const connection = await this.#link.connection(signal);
      return connection.run(script, args, { signal, maxOutputBytes: options.maxOutputBytes ?? MAX_OUTPUT_BYTES });
    });
  }

  async dial(socketPath: string, options: DialOptions): Promise<Duplex> {
    return this.#dialed(socketPath, options, (connection, signal) =>
      connection.dial(socketPath, { ...options, signal }),
    );
  }

  async dialTcp(address: TcpAddress, options: DialOptions): Promise<Duplex> {
    const where = `${address.host}:${address.port}`;
    return this.#dialed(where, options, (connection, signal) => connection.dialTcp(address, signal));
  }

  /** Brings a file to the host, for as long as it takes. @throws UploadError, HostUnreachableError, the signal's reason */
  async upload(file: Upload, signal: AbortSignal): Promise<void> {
    return upload(await this.#link.connection(signal), file, signal);
  }

  async close(): Promise<void> {
    this.#link.close();
  }

  async #dialed(
    where: string,
    options: DialOptions,
    open: (connection: HostConnection, signal: AbortSignal) => Promise<Duplex>,
  ): Promise<Duplex> {
    const late = () => new DialError(`${where} on ${this.#name}: no answer within ${options.timeoutMs} ms`);
    return withDeadline(options, late, async (signal) => open(await this.#link.connection(signal), signal));
  }
}
