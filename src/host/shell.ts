/**
 * The arms: what can be done on a host, locally or over SSH. A shell runs POSIX sh scripts and opens UNIX sockets
 * there, nothing else. Arguments never pass through quoting of ours on a command line: script and arguments travel
 * on stdin of `sh -s`.
 */
import type { Duplex } from 'node:stream';

export interface RunResult {
  /** Exit code; 128 + n where signal n ended it. */
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export interface RunOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** More output than this ends the script and rejects. Default 64 MiB. */
  readonly maxOutputBytes?: number;
}

export interface DialOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /**
   * Where the way to a host carries few streams, one that nobody uses makes room for another: asked, its holder closes it
   * and says true, or says false while it is in use.
   */
  readonly yields?: () => boolean;
}

export interface Shell {
  /**
   * Runs a script with `$1...` set to args. Any exit code is an answer.
   * @throws HostUnreachableError where the host cannot be asked, ScriptTimeoutError at the deadline: the outcome is then unknown.
   */
  run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
  /** Connects to a UNIX stream socket on the host. @throws DialError, HostUnreachableError */
  dial(socketPath: string, options: DialOptions): Promise<Duplex>;
  /** Connects to a TCP port as the host sees it; either side may end first. @throws DialError, HostUnreachableError */
  dialTcp(address: TcpAddress, options: DialOptions): Promise<Duplex>;
  close(): Promise<void>;
}

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** The host cannot be asked now. What an interrupted script did is unknown: look again. */
export class HostUnreachableError extends Error {
  override name = 'HostUnreachableError';
}

/** The script did not end in time and was killed; what it did is unknown: look again. */
export class ScriptTimeoutError extends Error {
  override name = 'ScriptTimeoutError';
}

/** Nobody answers at that socket. */
export class DialError extends Error {
  override name = 'DialError';
}

/** A Shell of its own at a host, to see whether and how one gets there. */
export interface Login {
  readonly shell: Shell;
  /** Who logs in, once an alias is resolved. */
  user(): Promise<string>;
  close(): Promise<void>;
}
