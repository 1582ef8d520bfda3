/**
 * The serial console of a VM, for one client at a time. QEMU serves one connection and lets a second wait in
 * silence, so who holds it is written beside the socket. That note is believed only while the kernel shows a
 * connection to the socket: a holder that was killed leaves a note, but no connection, and blocks nobody.
 */
import { randomUUID } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import { DialError, type Shell } from '../host/shell.ts';

/** Who is attached, as it said of itself. */
export interface ConsoleHolder {
  readonly user: string;
  /** On the machine `from`. */
  readonly pid: number;
  readonly from: string;
  /** The host's clock, ms since the epoch. */
  readonly sinceMs: number;
}

/** Somebody else is attached; `holder` is absent where it is a program other than ours. */
export class ConsoleHeldError extends Error {
  override name = 'ConsoleHeldError';
  readonly holder: ConsoleHolder | undefined;
  /** @param said as somebody else has found it; absent: made of the holder */
  constructor(holder: ConsoleHolder | undefined, said?: string) {
    super(said ?? heldBy(holder));
    this.holder = holder;
  }
}

function heldBy(holder: ConsoleHolder | undefined): string {
  if (holder === undefined) return 'the console is held by another program, which is connected to its socket';
  const { user, from, pid, sinceMs } = holder;
  return `the console is held by ${user} on ${from} (pid ${pid}) since ${new Date(sinceMs).toISOString()}`;
}

export interface ConsoleOptions {
  readonly signal: AbortSignal;
  /** Told to a second client. Default: this process. */
  readonly who?: ConsoleClient | undefined;
}

export type ConsoleClient = Pick<ConsoleHolder, 'user' | 'pid' | 'from'>;

export interface OpenConsole {
  /** Bytes as the guest prints them, and as it is typed at. It ends with QEMU. */
  readonly stream: Duplex;
  /** Ends the connection and removes the note. Also done when the stream ends. */
  close(): Promise<void>;
}

const TIMEOUT_MS = 5_000;
/** A note without a connection is one of a client that is just about to connect, for this long. */
const ATTACHING_SECONDS = 5;
/** Another client that came in the same moment withdraws within this time. */
const WITHDRAWAL_MS = 1_000;
const WITHDRAWAL_STEP_MS = 100;

/**
 * `connections` counts what the kernel shows at the socket: served (state 03) or waiting to be (02).
 * The note has six lines: token, state, seconds since the epoch, user, pid, machine. Columns of /proc/net/unix:
 * num, refcount, protocol, flags, type, state, inode, path. Source: proc_pid_net(5).
 */
const PROLOGUE = `
LC_ALL=C; export LC_ALL
folder=$1 token=$2
socket=$folder/${FOLDER_FILES.console} note=$folder/${FOLDER_FILES.consoleHolder}
connections() {
  socket=$socket awk '$6 == "03" || $6 == "02" { line = $0; for (i = 0; i < 7; i++) sub(/^ *[^ ]+ /, "", line)
    if (line == ENVIRON["socket"]) count++ } END { print count + 0 }' /proc/net/unix
}
holder=; state=; since=0
if [ -r "$note" ]; then { read -r holder; read -r state; read -r since; } <"$note"; fi
`;

/** Under a lock on the folder, so that of several one gets it; a host without flock(1) may refuse all of them. */
const CLAIM = `
[ -d "$1" ] && [ -r "$1" ] || { echo @absent; return 0; }
exec 8<"$1"
if command -v flock >/dev/null; then flock -w 3 8; fi
${PROLOGUE}
[ -S "$socket" ] || { echo @absent; return 0; }
now=$(date +%s); count=$(connections)
if [ "$count" -gt 0 ] || { [ "$state" = attaching ] && [ $((now - since)) -lt ${ATTACHING_SECONDS} ]; }; then
  echo @held; cat "$note" 2>/dev/null; return 0
fi
umask 077
printf '%s\\n' "$token" attaching "$now" "$3" "$4" "$5" >"$note" || return 1
echo @claimed
`;

/** The note of whoever wrote last is the one that counts. */
const CONFIRM = `${PROLOGUE}
if [ "$holder" != "$token" ]; then echo @held; cat "$note" 2>/dev/null; return 0; fi
count=$(connections)
[ "$count" -le 1 ] || { echo "@crowded"; return 0; }
printf '%s\\n' "$token" attached "$since" "$3" "$4" "$5" >"$note" || return 1
echo @attached
`;

const RELEASE = `${PROLOGUE}
[ "$holder" != "$token" ] || rm -f "$note"
echo @released
`;

/**
 * @param folder the VM's own folder on the shell's host
 * @throws ConsoleHeldError while another client is attached; DialError where no QEMU serves a console there
 */
export async function openConsole(shell: Shell, folder: string, options: ConsoleOptions): Promise<OpenConsole> {
  const { user, pid, from } = options.who ?? { user: userName(), pid: process.pid, from: hostname() };
  const args = [folder, randomUUID(), oneLine(user, 64), String(pid), oneLine(from, 255)];
  const claimed = await ask(shell, CLAIM, args, options.signal);
  if (claimed.word === '@absent') throw new DialError(`${folder} has no console: its VM is not running`);
  if (claimed.word !== '@claimed') throw new ConsoleHeldError(parseNote(claimed.lines));
  let release: Promise<unknown> | undefined;
  const releaseOnce = () => {
    // Past the caller's signal: an aborted command still tidies up. What fails here is stale, and seen as such.
    release ??= ask(shell, RELEASE, args, AbortSignal.timeout(TIMEOUT_MS)).catch(() => undefined);
    return release;
  };
  let stream: Duplex | undefined;
  try {
    const { signal } = options;
    stream = await shell.dial(`${folder}/${FOLDER_FILES.console}`, { timeoutMs: TIMEOUT_MS, signal });
    await confirm(shell, args, signal);
  } catch (error) {
    stream?.destroy();
    await releaseOnce();
    throw error;
  }
  const served = stream;
  served.on('error', () => undefined);
  served.once('close', releaseOnce);
  return {
    stream: served,
    close: async () => {
      served.destroy();
      await releaseOnce();
    },
  };
}

/** @throws ConsoleHeldError where another client was quicker */
async function confirm(shell: Shell, args: readonly string[], signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += WITHDRAWAL_STEP_MS) {
    const { word, lines } = await ask(shell, CONFIRM, args, signal);
    if (word === '@attached') return;
    if (word === '@held') throw new ConsoleHeldError(parseNote(lines));
    if (waitedMs >= WITHDRAWAL_MS) throw new ConsoleHeldError(undefined);
    await sleep(WITHDRAWAL_STEP_MS, undefined, { signal });
  }
}

interface Told {
  readonly word: string;
  readonly lines: readonly string[];
}

async function ask(shell: Shell, script: string, args: readonly string[], signal: AbortSignal): Promise<Told> {
  const { stdout, stderr } = await shell.run(script, args, { timeoutMs: TIMEOUT_MS, signal });
  const lines = stdout.toString('utf8').split('\n');
  // Whatever a login shell prints stands before the word.
  const at = lines.findIndex((line) => line.startsWith('@'));
  if (at < 0) throw new Error(`cannot see who holds the console: ${oneLine(stderr.toString('utf8'), 300)}`);
  return { word: lines[at] ?? '', lines: lines.slice(at + 1) };
}

/** Undefined for a note that is not ours, or none. */
function parseNote([, , since, user, pid, from]: readonly string[]): ConsoleHolder | undefined {
  if (since === undefined || user === undefined || pid === undefined || from === undefined) return undefined;
  const sinceMs = Number(since) * 1000;
  if (!/^\d{1,12}$/.test(since) || !/^\d{1,10}$/.test(pid)) return undefined;
  return { user: oneLine(user, 64), pid: Number(pid), from: oneLine(from, 255), sinceMs };
}

/** A user id without a name is one too (containers). */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}
