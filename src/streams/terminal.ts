/** A person's terminal joined to a stream, byte by byte, until either ends or the escape key is pressed. */
import type { Duplex, Readable, Writable } from 'node:stream';

/** Ctrl-], as virsh console and telnet have it. */
export const DEFAULT_ESCAPE = '^]';

export interface TerminalOptions {
  /** In raw mode while attached, where it is a terminal. */
  readonly stdin: Readable & {
    readonly isRaw?: boolean;
    setRawMode?(raw: boolean): unknown;
    ref?(): unknown;
    unref?(): unknown;
  };
  readonly stdout: Writable;
  /** `^` and one of `@A-Z[\]^_`, or a single character. */
  readonly escape?: string;
  /** After the end of an input that is no terminal: how long the other side may be quiet. Default 1 s. */
  readonly lingerMs?: number;
}

/** detached: by the escape key; ended: the other side; input-ended: stdin, and the other side is quiet. */
export type TerminalEnd = 'detached' | 'ended' | 'input-ended';

/** The byte of a key. @throws RangeError for what no key sends */
export function escapeByte(text: string): number {
  const control = /^\^([@-_a-z])$/.exec(text)?.[1];
  if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f;
  const code = text.length === 1 ? text.charCodeAt(0) : 0x80;
  if (code >= 0x80) throw new RangeError(`an escape key is ^ and a letter, such as ^], or one ASCII character`);
  return code;
}

/** Leaves the terminal as it was and the stream open, however it ends; closing the stream is the caller's. */
export function attachTerminal(stream: Duplex, options: TerminalOptions): Promise<TerminalEnd> {
  const { stdin, stdout, lingerMs = 1_000 } = options;
  const escapeKey = escapeByte(options.escape ?? DEFAULT_ESCAPE);
  const restore = enterRawMode(stdin);
  return new Promise((resolve) => {
    let linger: NodeJS.Timeout | undefined;
    const end = (how: TerminalEnd) => {
      clearTimeout(linger);
      stdin.off('data', onInput).off('end', onInputEnd).pause();
      // A pipe that somebody holds open would keep this process alive.
      stdin.unref?.();
      stream.off('data', onOutput).off('end', onEnded).off('close', onEnded).off('drain', onStreamDrain);
      stdout.off('drain', onOutputDrain);
      restore();
      resolve(how);
    };
    const onInput = (chunk: Buffer | string) => {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
      const at = bytes.indexOf(escapeKey);
      const typed = at < 0 ? bytes : bytes.subarray(0, at);
      if (typed.length > 0 && !stream.write(typed)) stdin.pause();
      if (at >= 0) end('detached');
    };
    const waitForQuiet = () => {
      clearTimeout(linger);
      linger = setTimeout(() => end('input-ended'), lingerMs);
    };
    const onInputEnd = waitForQuiet;
    const onOutput = (chunk: Buffer) => {
      if (linger !== undefined) waitForQuiet();
      if (!stdout.write(chunk)) stream.pause();
    };
    const onEnded = () => end('ended');
    const onStreamDrain = () => void stdin.resume();
    const onOutputDrain = () => void stream.resume();
    if (stream.destroyed || stream.readableEnded) return end('ended');
    stream.on('data', onOutput).once('end', onEnded).once('close', onEnded).on('drain', onStreamDrain);
    stdout.on('drain', onOutputDrain);
    stdin.ref?.();
    stdin.on('data', onInput).once('end', onInputEnd);
    stdin.resume();
  });
}

/** Returns how to leave it again; a process that exits in between leaves it too. */
function enterRawMode(stdin: TerminalOptions['stdin']): () => void {
  if (stdin.setRawMode === undefined) return () => undefined;
  const before = stdin.isRaw ?? false;
  const restore = () => void stdin.setRawMode?.(before);
  stdin.setRawMode(true);
  process.once('exit', restore);
  return () => {
    process.off('exit', restore);
    restore();
  };
}
