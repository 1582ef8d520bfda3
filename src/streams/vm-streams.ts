/** The streams of one VM, whether its host is asked or an API server. */
import type { Duplex } from 'node:stream';
import type { TcpAddress } from '../host/shell.ts';
import type { OpenConsole } from './console.ts';
import type { LogOptions } from './logs.ts';

export interface VmStreams {
  /** @throws ConsoleHeldError, NotReachableError */
  console(signal: AbortSignal): Promise<OpenConsole>;
  /** @throws NotReachableError, also where it has no screen */
  screen(signal: AbortSignal): Promise<OpenScreen>;
  /** @throws LogAbsentError, unless it is followed: then it is waited for */
  log(request: LogRequest): AsyncIterable<string>;
  /** A PNG. @throws NotReachableError, also where it has no screen */
  screenshot(signal: AbortSignal): Promise<Buffer>;
  /** @throws NotReachableError where no network leads to the guest */
  guestPort(port: number, signal: AbortSignal): Promise<GuestPort>;
}

/** A VNC server that waits for one viewer. */
export interface OpenScreen {
  /** For a person's eyes: on the terminal alone, never in a log or an object. */
  readonly password: string;
  readonly expiresInSeconds: number;
  /** Bytes of the RFB protocol. */
  dial(signal: AbortSignal): Promise<Duplex>;
  /** Nobody can use the password any more. */
  close(): Promise<void>;
}

/** A TCP port of a guest. */
export interface GuestPort {
  /** Where programs of this machine reach it themselves; absent: by dial() alone. */
  readonly address?: TcpAddress;
  /** A connection of its own each time. */
  dial(signal: AbortSignal): Promise<Duplex>;
  /** Takes away what was made for it. */
  close(): Promise<void>;
}

export interface LogRequest extends LogOptions {
  /** Goes on as lines are added, until the signal aborts. */
  readonly follow?: boolean;
  /** Between two looks, ms. */
  readonly intervalMs?: number;
}

/** The VM has no such stream now; the message says why, in words of the VM. */
export class NotReachableError extends Error {
  override readonly name = 'NotReachableError';
}
