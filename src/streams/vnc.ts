/**
 * A VM's screen for one viewer: a port on the loopback of this machine, joined to the VM's VNC server, with a password
 * that is made for it. It ends with the viewer.
 */
import { randomInt } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';
import { tellMonitor } from './user-monitor.ts';
import type { OpenScreen } from './vm-streams.ts';

export interface VncOptions {
  readonly signal: AbortSignal;
  /** On 127.0.0.1. Default: one that is free. */
  readonly port?: number;
}

/**
 * ended: the viewer or QEMU left; expired: no viewer came while the password was good; failed: the VNC socket could
 * not be reached for the viewer; closed: by us.
 */
export type VncEnd = 'ended' | 'expired' | 'failed' | 'closed';

export interface VncProxy {
  readonly port: number;
  readonly password: string;
  readonly expiresInSeconds: number;
  readonly ended: Promise<VncEnd>;
  close(): Promise<void>;
}

const LOOPBACK = '127.0.0.1';
const TIMEOUT_MS = 5_000;
export const PASSWORD_SECONDS = 60;
/** VNC authentication reads no more than eight characters. Source: RFC 6143, 7.2.2. */
const PASSWORD_LENGTH = 8;
/** Without those that look alike. */
const ALPHABET = 'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789';

/**
 * The VNC socket in the VM's folder, with a password that nobody had before.
 * @param folder the VM's own folder on the shell's host
 * @throws DialError where the VM is not running, UserMonitorError where it has no screen
 */
export async function openScreen(shell: Shell, folder: string, signal: AbortSignal): Promise<OpenScreen> {
  const password = Array.from({ length: PASSWORD_LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');
  const commands = [
    { execute: 'set_password', arguments: { protocol: 'vnc', password } },
    // Second, so that it cannot revive the password before this one.
    { execute: 'expire_password', arguments: { protocol: 'vnc', time: `+${PASSWORD_SECONDS}` } },
  ];
  await tellMonitor(shell, folder, commands, signal);
  return {
    password,
    expiresInSeconds: PASSWORD_SECONDS,
    dial: (until) => shell.dial(`${folder}/${FOLDER_FILES.vnc}`, { timeoutMs: TIMEOUT_MS, signal: until }),
    close: () => expire(shell, folder),
  };
}

/** @throws what `open` throws, and listen's error where the port is taken: then `open` was not called */
export async function vncProxy(
  open: (signal: AbortSignal) => Promise<OpenScreen>,
  options: VncOptions,
): Promise<VncProxy> {
  const server = createServer({ pauseOnConnect: true });
  const port = await listen(server, options.port ?? 0);
  const screen = await open(options.signal).catch((error: unknown) => {
    server.close();
    throw error;
  });
  const stop = new AbortController();
  const onAbort = () => stop.abort();
  options.signal.addEventListener('abort', onAbort, { once: true });
  const serve = async () => {
    const how = await serveOne(server, screen, stop.signal);
    options.signal.removeEventListener('abort', onAbort);
    await screen.close();
    return how;
  };
  const ended = serve();
  if (options.signal.aborted) stop.abort();
  return {
    port,
    password: screen.password,
    expiresInSeconds: screen.expiresInSeconds,
    ended,
    close: async () => {
      stop.abort();
      await ended;
    },
  };
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: LOOPBACK, port, exclusive: true }, () => {
      server.off('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/** Nobody can use the password any more. Best effort: it expires by itself. */
async function expire(shell: Shell, folder: string): Promise<void> {
  const command = { execute: 'expire_password', arguments: { protocol: 'vnc', time: 'now' } };
  await tellMonitor(shell, folder, [command], AbortSignal.timeout(TIMEOUT_MS)).catch(() => undefined);
}

/** The first connection is the one; the port is closed behind it. Never rejects. */
function serveOne(server: Server, screen: OpenScreen, stop: AbortSignal): Promise<VncEnd> {
  return new Promise((resolve) => {
    const opened: Duplex[] = [];
    const end = (how: VncEnd) => {
      clearTimeout(deadline);
      stop.removeEventListener('abort', onStop);
      server.close();
      for (const stream of opened) stream.destroy();
      resolve(how);
    };
    const onStop = () => end('closed');
    const deadline = setTimeout(() => end('expired'), screen.expiresInSeconds * 1000);
    stop.addEventListener('abort', onStop, { once: true });
    server.on('connection', (viewer: Socket) => {
      viewer.on('error', () => undefined);
      // One that was already in the queue when the port was closed.
      if (opened.length > 0) return void viewer.destroy();
      clearTimeout(deadline);
      server.close();
      opened.push(viewer);
      viewer.setNoDelay(true);
      viewer.once('close', () => end('ended'));
      screen.dial(stop).then(
        (drawn) => {
          opened.push(drawn);
          drawn.on('error', () => undefined).once('close', () => end('ended'));
          if (viewer.destroyed || drawn.destroyed) return end('ended');
          viewer.pipe(drawn).pipe(viewer);
        },
        () => end('failed'),
      );
    });
  });
}
