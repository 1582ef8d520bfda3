/**
 * One `sh -s` at the other end of a session channel, ready for its script. The user's login shell starts it, with
 * whatever that shell's files print or do: nothing is sent, and nothing that came counts, before our own sh has said
 * that it is there, and which process it is.
 */
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { hostText } from './host-text.ts';
import { scriptWithArguments } from './quote.ts';
import { HostUnreachableError, type RunResult } from './shell.ts';
import type { ClientChannel } from './ssh-client.ts';

/** Constant, without a character that sh, csh, fish or zsh would read differently between these quotes. */
export const SESSION_COMMAND = `exec sh -c 'printf "\\nqo-%s %s\\n" ready $$; printf "\\nqo-%s %s\\n" ready $$ >&2; exec sh -s'`;
/** A login shell that traces its commands prints the line above; only our sh prints this one. */
const READY = /(?:^|\n)qo-ready (\d+)\n/;

/** Of what a login shell printed before that, for a message. */
const MAX_NOISE = 400;

/** As on the local host: a folder that cannot go away, plain messages, and the folders that an ordinary user's PATH lacks. */
const PREAMBLE = `cd /
LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export LC_ALL PATH
`;

/** What a login shell's own files may take; one that asks a question waits for ever. */
const START_MS = 20_000;

const SIGNAL_BASE = 128;
/** What a script that was killed has left to say, and the news of its end. */
const END_GRACE_MS = 3_000;
const INPUT_GRACE_MS = 1_000;

export interface ScriptOptions {
  readonly maxOutputBytes: number;
  /** Ends the script with all that it started; its reason is the rejection. */
  readonly signal: AbortSignal;
  /** Goes to descriptor 3 of the script, once it has printed something; 3 is closed after it. */
  readonly input?: Readable;
}

export class SshSession {
  readonly channel: ClientChannel;
  /** Of the script's shell, which leads a process group: sshd starts each session in one. */
  readonly pid: number;
  /** Resolves when nothing more will come. */
  readonly closed: Promise<unknown>;

  private constructor(channel: ClientChannel, pid: number, closed: Promise<unknown>) {
    this.channel = channel;
    this.pid = pid;
    this.closed = closed;
  }

  /**
   * @param channel of SESSION_COMMAND, just opened
   * @param who for messages: `ops at rack1-h3`
   * @throws HostUnreachableError where the login shell ended without starting ours
   */
  static async start(channel: ClientChannel, who: string): Promise<SshSession> {
    channel.on('error', () => undefined);
    channel.stderr.on('error', () => undefined);
    const closed = Promise.all([eventOf(channel, 'close'), eventOf(channel.stderr, 'close')]);
    const noise = { text: '' };
    const ready = Promise.all([readyIn(channel, noise), readyIn(channel.stderr, noise)]);
    const pids = await Promise.race([ready, closed.then(() => undefined), delayed(START_MS)]);
    if (pids !== undefined) return new SshSession(channel, pids[0], closed);
    channel.close();
    const said = hostText(noise.text);
    throw new HostUnreachableError(`the login shell of ${who} started no sh${said === '' ? '' : `; it said: ${said}`}`);
  }

  get isOpen(): boolean {
    return this.channel.readable && this.channel.writable;
  }

  /** @param takesInput what is sent after the script is its descriptor 3, and of all that it starts */
  send(script: string, args: readonly string[], takesInput: boolean): void {
    this.channel.write(`${PREAMBLE}${takesInput ? 'exec 3<&0\n' : ''}${scriptWithArguments(script, args)}`);
  }

  /**
   * Runs a script to its end.
   * @param kill ends a process group of the host
   * @throws the signal's reason; HostUnreachableError where the channel closed without an exit code
   */
  async run(
    script: string,
    args: readonly string[],
    options: ScriptOptions,
    kill: (pid: number) => Promise<void>,
  ): Promise<RunResult> {
    const { channel } = this;
    let failure: Error | undefined;
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const fail = (error: Error) => {
      if (failure !== undefined) return;
      failure = error;
      // Waited for, so that whoever tries again does not meet the script that was given up.
      void Promise.race([this.#stop(options, kill), delayed(END_GRACE_MS)]).then(end, end);
    };
    const onAbort = () => fail(options.signal.reason);
    let bytes = 0;
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= options.maxOutputBytes) into.push(chunk);
      else fail(new Error(`a script printed more than ${options.maxOutputBytes} bytes`));
    };
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    let exit: number | undefined;
    channel.on('exit', (code: number | null, signal?: string) => {
      exit = code ?? SIGNAL_BASE + (constants.signals[signal as NodeJS.Signals] ?? 1);
    });
    channel.on('data', collect(stdout));
    channel.stderr.on('data', collect(stderr));
    this.send(script, args, options.input !== undefined);
    if (options.input === undefined) channel.end();
    else this.#feed(options.input).catch(fail);
    if (options.signal.aborted) onAbort();
    else options.signal.addEventListener('abort', onAbort, { once: true });
    await Promise.race([this.closed, ended]);
    options.signal.removeEventListener('abort', onAbort);
    channel.close();
    if (failure !== undefined) throw failure;
    if (exit === undefined) throw new HostUnreachableError('it ended without an exit code');
    return { code: exit, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
  }

  /** A script that misses the rest of its input ends by itself, and cleans up. */
  async #stop({ input }: ScriptOptions, kill: (pid: number) => Promise<void>): Promise<void> {
    let isClosed = false;
    const closed = this.closed.then(() => {
      isClosed = true;
    });
    if (input !== undefined) {
      this.channel.end();
      await Promise.race([closed, delayed(INPUT_GRACE_MS)]);
    }
    if (!isClosed) await kill(this.pid);
    await closed;
  }

  /** Only after it has printed: until then its shell may still read, and takes more than the script. */
  async #feed(input: Readable): Promise<void> {
    const { channel } = this;
    await Promise.race([eventOf(channel, 'data'), this.closed]);
    for await (const chunk of input) {
      if (!this.isOpen) return;
      if (!channel.write(chunk)) await Promise.race([eventOf(channel, 'drain'), this.closed]);
    }
    channel.end();
  }
}

/** Resolves with the process that says it is ready; the beginning of what came before it is kept for a message. */
function readyIn(stream: Readable, noise: { text: string }): Promise<number> {
  return new Promise((resolve) => {
    let tail = '';
    const onData = (chunk: Buffer) => {
      const text = tail + chunk.toString('latin1');
      const match = READY.exec(text);
      tail = text.slice(-MAX_NOISE);
      noise.text = (noise.text + chunk.toString('utf8', 0, MAX_NOISE)).slice(0, MAX_NOISE);
      if (match === null) return;
      stream.off('data', onData);
      resolve(Number(match[1]));
    };
    stream.on('data', onData);
  });
}

function eventOf(stream: Readable, event: 'close' | 'data' | 'drain'): Promise<void> {
  return new Promise((resolve) => stream.once(event, () => resolve()));
}

function delayed(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, ms, undefined).unref());
}
