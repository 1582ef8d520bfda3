/** The local host as a shell: `sh -s` with script and arguments on stdin, UNIX sockets by node:net. */
import { spawn } from 'node:child_process';
import { connect, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { scriptWithArguments } from './quote.ts';
import {
  DialError,
  type DialOptions,
  HostUnreachableError,
  type RunOptions,
  type RunResult,
  ScriptTimeoutError,
  type Shell,
  type TcpAddress,
} from './shell.ts';

const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const SIGNAL_BASE = 128;
const SIGKILL = 9;

const OWN_PLACES = ['HOME', 'USER', 'XDG_CONFIG_HOME', 'XDG_RUNTIME_DIR', 'TMPDIR'];
/** How this machine reaches others: a download finds its way as the caller's own would. */
const WAY_OUT = ['http_proxy', 'https_proxy', 'HTTPS_PROXY', 'no_proxy', 'NO_PROXY', 'CURL_CA_BUNDLE', 'SSL_CERT_FILE'];

/**
 * The environment that scripts see. PATH is the caller's, so that QEMU is found where the user has it; the sbin
 * folders are added since an ordinary user's PATH lacks them. Nothing else of our environment passes.
 */
function scriptEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {
    LC_ALL: 'C',
    PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin`,
  };
  for (const name of [...OWN_PLACES, ...WAY_OUT]) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

export class LocalShell implements Shell {
  run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    options.signal.throwIfAborted();
    const maxOutput = options.maxOutputBytes ?? MAX_OUTPUT_BYTES;
    return new Promise((resolve, reject) => {
      // A process group of its own, so that a deadline ends the script with all it started.
      const child = spawn('/bin/sh', ['-s'], {
        cwd: '/',
        env: scriptEnvironment(),
        detached: true,
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      let bytes = 0;
      let failure: Error | undefined;
      const end = (error: Error) => {
        failure ??= error;
        killGroup(child.pid);
      };
      const deadline = setTimeout(
        () => end(new ScriptTimeoutError(`a script on the local host did not end within ${options.timeoutMs} ms`)),
        options.timeoutMs,
      );
      const onAbort = () => end(options.signal.reason instanceof Error ? options.signal.reason : new Error('aborted'));
      options.signal.addEventListener('abort', onAbort, { once: true });
      const collect = (into: Buffer[]) => (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > maxOutput) end(new Error(`a script printed more than ${maxOutput} bytes`));
        else into.push(chunk);
      };
      child.stdout.on('data', collect(stdout));
      child.stderr.on('data', collect(stderr));
      // EPIPE where the script ends before it has read all of itself; its exit code tells.
      child.stdin.on('error', () => undefined);
      child.on('error', (error) => end(new HostUnreachableError(`cannot run /bin/sh: ${error.message}`)));
      child.on('close', (code, signal) => {
        clearTimeout(deadline);
        options.signal.removeEventListener('abort', onAbort);
        if (failure !== undefined) reject(failure);
        else
          resolve({
            code: code ?? SIGNAL_BASE + (signal === 'SIGKILL' ? SIGKILL : 1),
            stdout: Buffer.concat(stdout),
            stderr: Buffer.concat(stderr),
          });
      });
      child.stdin.end(scriptWithArguments(script, args));
    });
  }

  dial(socketPath: string, options: DialOptions): Promise<Duplex> {
    return dialed(() => new SocketHeardOut().connect(socketPath), socketPath, options);
  }

  dialTcp({ host, port }: TcpAddress, options: DialOptions): Promise<Duplex> {
    return dialed(() => connect({ host, port, allowHalfOpen: true, noDelay: true }), `${host}:${port}`, options);
  }

  async close(): Promise<void> {}
}

/**
 * What the other side said before it went is still read: node:net throws it away where a write finds that nobody reads
 * any more. The end of what is read is the end of the connection.
 */
class SocketHeardOut extends Socket {
  override _write(chunk: unknown, encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    super._write(chunk, encoding, (error) => callback(isUnread(error) ? null : error));
  }

  override _writev(
    chunks: { chunk: unknown; encoding: BufferEncoding }[],
    callback: (error?: Error | null) => void,
  ): void {
    super._writev?.(chunks, (error) => callback(isUnread(error) ? null : error));
  }
}

function isUnread(error: NodeJS.ErrnoException | null | undefined): boolean {
  return error?.code === 'EPIPE' || error?.code === 'ECONNRESET';
}

function dialed(open: () => Socket, where: string, options: DialOptions): Promise<Duplex> {
  options.signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const socket = open();
    const fail = (error: Error) => {
      clearTimeout(deadline);
      options.signal.removeEventListener('abort', onAbort);
      socket.destroy();
      reject(new DialError(`${where}: ${error.message}`));
    };
    const deadline = setTimeout(() => fail(new Error(`no answer within ${options.timeoutMs} ms`)), options.timeoutMs);
    const onAbort = () => fail(new Error('aborted'));
    options.signal.addEventListener('abort', onAbort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      clearTimeout(deadline);
      options.signal.removeEventListener('abort', onAbort);
      socket.off('error', fail);
      // Whoever uses the stream listens for its end; an error is one, and must not be an uncaught exception.
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
