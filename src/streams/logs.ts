/** What QEMU said and what the guest printed on its console, from the files in the VM's folder: the end, and on. */
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as sleep } from 'node:timers/promises';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';
import { SafeText } from './safe-text.ts';

/** qemu: QEMU's own complaints; console: the guest's serial console. */
export type LogSource = 'qemu' | 'console';

export interface LogOptions {
  readonly source: LogSource;
  readonly signal: AbortSignal;
  /** Of the process before this one; QEMU's log alone is kept apart per process. */
  readonly previous?: boolean;
  /** Lines from the end. Default: all that is within the bound. */
  readonly lines?: number;
  /** Bytes as the guest wrote them, escape sequences included. */
  readonly raw?: boolean;
}

export interface FollowOptions extends LogOptions {
  /** Between two looks, ms. Default 500. */
  readonly intervalMs?: number;
}

/** The file does not exist: nothing was ever started, or nothing before this. */
export class LogAbsentError extends Error {
  override name = 'LogAbsentError';
}

/** The most that is read at once; what is older is left out. */
export const MAX_LOG_BYTES = 1024 * 1024;
const TIMEOUT_MS = 10_000;
const INTERVAL_MS = 500;
const NEWLINE = 10;

/**
 * Prints `@log INODE SIZE FROM` and the bytes from FROM (counted from 0) to SIZE, at most the bound. An absent or
 * other inode begins at the end of the file less the bound; a file that became shorter begins anew.
 */
const READ = `
file=$1 inode=$2 from=$3
[ -f "$file" ] || { echo @absent; return 0; }
{
  set -- $(stat -L -c '%i %s' /proc/self/fd/3)
  if [ "$inode" != "$1" ] || [ "$from" -gt "$2" ]; then from=0; fi
  if [ $(($2 - from)) -gt ${MAX_LOG_BYTES} ]; then from=$(($2 - ${MAX_LOG_BYTES})); fi
  echo "@log $1 $2 $from"
  [ "$from" -eq "$2" ] || tail -c +$((from + 1)) <&3 | head -c $(($2 - from))
} 3<"$file"
`;

interface Piece {
  readonly inode: string;
  /** Where the next look goes on. */
  readonly end: number;
  /** True where the piece begins later than asked: bytes were left out, or the file is another. */
  readonly jumped: boolean;
  readonly bytes: Buffer;
}

/** The end of the log as text. @throws LogAbsentError, and what Shell.run throws */
export async function readLog(shell: Shell, folder: string, options: LogOptions): Promise<string> {
  const piece = await readPiece(shell, fileOf(folder, options), undefined, options.signal);
  if (piece === undefined) throw absent(folder, options);
  return new Decoder(options).push(lastLines(piece, options.lines));
}

/**
 * The end of the log, then what is added, until the signal aborts; a log that does not exist yet is waited for. A
 * new process's log goes on where the one before ended.
 * @throws what Shell.run throws
 */
export async function* followLog(shell: Shell, folder: string, options: FollowOptions): AsyncGenerator<string> {
  const decoder = new Decoder(options);
  let known: Piece | undefined;
  while (!options.signal.aborted) {
    const piece = await readPiece(shell, fileOf(folder, options), known, options.signal).catch((error: unknown) => {
      if (options.signal.aborted) return undefined;
      throw error;
    });
    if (piece !== undefined) {
      const text = decoder.push(known === undefined ? lastLines(piece, options.lines) : piece.bytes);
      if (text !== '') yield text;
      known = piece;
    }
    const intervalMs = options.intervalMs ?? INTERVAL_MS;
    await sleep(intervalMs, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

function fileOf(folder: string, { source, previous }: LogOptions): string {
  if (source === 'console') return `${folder}/${FOLDER_FILES.consoleLog}`;
  return `${folder}/${FOLDER_FILES.log}${previous === true ? '.1' : ''}`;
}

function absent(folder: string, options: LogOptions): LogAbsentError {
  return new LogAbsentError(`${fileOf(folder, options)} does not exist: nothing was started there yet`);
}

/** Undefined where the file does not exist. */
async function readPiece(
  shell: Shell,
  file: string,
  known: Piece | undefined,
  signal: AbortSignal,
): Promise<Piece | undefined> {
  const args = [file, known?.inode ?? 'none', String(known?.end ?? 0)];
  const { stdout, stderr } = await shell.run(READ, args, { timeoutMs: TIMEOUT_MS, signal });
  // Whatever a login shell prints stands before the mark.
  const mark = /(?:^|\n)@(absent|log (\d+) (\d+) (\d+))\n/.exec(stdout.toString('latin1'));
  if (mark === null) throw new Error(`cannot read ${file}: ${stderr.toString('utf8').trim().slice(0, 300)}`);
  if (mark[1] === 'absent') return undefined;
  const bytes = stdout.subarray(mark.index + mark[0].length);
  const from = Number(mark[4]);
  return { inode: mark[2] ?? '', end: from + bytes.length, jumped: from !== (known?.end ?? 0), bytes };
}

/** Whole lines from the end; what was cut off at the front is no line. */
function lastLines({ bytes, jumped }: Piece, lines: number | undefined): Buffer {
  const whole = jumped ? bytes.subarray(bytes.indexOf(NEWLINE) + 1) : bytes;
  if (lines === undefined) return whole;
  if (lines <= 0) return Buffer.alloc(0);
  let at = whole.length - 1;
  // lastIndexOf takes a negative place as one from the end.
  for (let left = lines; left > 0 && at >= 0; left -= 1) at = at === 0 ? -1 : whole.lastIndexOf(NEWLINE, at - 1);
  return whole.subarray(at + 1);
}

/** Bytes to text across pieces: neither a character nor an escape sequence is torn. */
class Decoder {
  readonly #decoder = new StringDecoder('utf8');
  readonly #safe: SafeText | undefined;

  constructor({ raw }: LogOptions) {
    this.#safe = raw === true ? undefined : new SafeText();
  }

  push(bytes: Buffer): string {
    const text = this.#decoder.write(bytes);
    return this.#safe === undefined ? text : this.#safe.push(text);
  }
}
