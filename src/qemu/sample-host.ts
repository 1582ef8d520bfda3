/** What /proc says of the processes of a host's VMs, in one script however many there are. */
import type { Shell } from '../host/shell.ts';
import type { Tap, Taps } from './sample-taps.ts';

/** Figures of one process, as the kernel counts them. Source: proc_pid_stat(5). */
export interface SeenUsage {
  /** Start in clock ticks since boot: with the pid, the identity of the process. */
  readonly startTicks: number;
  /** User and system time of all its threads, in clock ticks. */
  readonly cpuTicks: number;
  readonly residentPages: number;
  /** The same per thread, by thread id. */
  readonly threads: ReadonlyMap<number, number>;
  /** Its interfaces, where they were asked for. */
  readonly taps: Taps;
}

export interface HostLook {
  /** Wall clock of the host, ms since the epoch: for the sample's timestamp. */
  readonly atMs: number;
  /** Time since boot, ms, at a resolution of 10 ms: it never steps, so rates are taken over it. */
  readonly uptimeMs: number;
  readonly ticksPerSecond: number;
  /** Absent where the host does not tell. */
  readonly pageBytes?: number;
  /** By pid; a process that is gone or a zombie is left out. */
  readonly processes: ReadonlyMap<number, SeenUsage>;
}

const TIMEOUT_MS = 10_000;

/**
 * The number of processes started does not depend on the number of VMs. `grep -H` names the file of each line, so
 * that a process and its first thread, which have the same number, cannot be confused. Whatever a login shell
 * prints stands before the first `@`. 100 ticks a second is the kernel's USER_HZ wherever QEMU runs.
 * A pid with a plus is asked for its interfaces too; of a bridge, `uevent` has the name.
 */
const SCRIPT = `
LC_ALL=C; export LC_ALL
cd /proc || exit 1
echo "@clock $(date '+%s %N')"
read -r up <uptime; echo "@uptime $up"
echo "@units $(getconf CLK_TCK 2>/dev/null || echo 100) $(getconf PAGESIZE 2>/dev/null || echo 0)"
[ $# -gt 0 ] || exit 0
for pid; do pid=\${pid%+}; printf '%s\\n' "$pid/stat" "$pid"/task/*/stat; done | xargs grep -Hs ''
case $* in *+*) ;; *) exit 0 ;; esac
taps=$(for pid; do [ "\${pid%+}" = "$pid" ] || printf '%s\\n' "\${pid%+}"/fdinfo/*; done | xargs grep -Hs '^iff:')
[ -n "$taps" ] || exit 0
printf '%s\\n' "$taps"
printf '%s\\n' "$taps" | sed -n 's/.*iff:[[:space:]]*\\([A-Za-z0-9_.-]*\\)$/\\1/p' | while read -r tap; do
  for file in rx_bytes tx_bytes rx_packets tx_packets; do printf '%s\\n' "/sys/class/net/$tap/statistics/$file"; done
  printf '%s\\n' "/sys/class/net/$tap/master/uevent"
done | xargs grep -Hs ''
exit 0
`;

export interface ProcessQuestion {
  readonly pid: number;
  /** Whether its interfaces are asked for. */
  readonly taps: boolean;
}

/** @throws HostUnreachableError or ScriptTimeoutError; an answer without a clock is an Error */
export async function lookAtProcesses(
  shell: Shell,
  questions: readonly ProcessQuestion[],
  signal: AbortSignal,
): Promise<HostLook> {
  const words = questions.map(({ pid, taps }) => (taps ? `${pid}+` : String(pid)));
  const { stdout, stderr } = await shell.run(SCRIPT, words, { timeoutMs: TIMEOUT_MS, signal });
  const look = parseHostLook(stdout.toString('utf8'));
  if (look === undefined)
    throw new Error(`the host does not tell its time: ${stderr.toString('utf8').slice(0, 200).trim()}`);
  return look;
}

/** Pure part of the above: undefined without a clock. */
export function parseHostLook(output: string): HostLook | undefined {
  const clock = /^@clock (\d+) (\S*)$/m.exec(output);
  const uptime = /^@uptime (\d+(?:\.\d+)?)/m.exec(output);
  const units = /^@units (\d+) (\d+)$/m.exec(output);
  if (clock === null || uptime === null) return undefined;
  const pageBytes = Number(units?.[2] ?? 0);
  return {
    atMs: Number(clock[1]) * 1000 + milliseconds(clock[2] ?? ''),
    uptimeMs: Math.round(Number(uptime[1]) * 1000),
    ticksPerSecond: Number(units?.[1] ?? 100) || 100,
    ...(pageBytes > 0 ? { pageBytes } : {}),
    processes: processesIn(output),
  };
}

/** Of the nanoseconds `date` printed; some `date` know no %N and print it as it is. */
function milliseconds(nanoseconds: string): number {
  return /^\d{9}$/.test(nanoseconds) ? Math.floor(Number(nanoseconds) / 1e6) : 0;
}

function processesIn(output: string): Map<number, SeenUsage> {
  const lines = output.split('\n');
  const taps = tapsIn(lines);
  const processes = new Map<number, SeenUsage & { readonly threads: Map<number, number> }>();
  const threads: { pid: number; tid: number; cpuTicks: number }[] = [];
  for (const line of lines) {
    const file = /^(\d+)\/(?:task\/(\d+)\/)?stat:/.exec(line);
    const stat = file === null ? undefined : parseStat(line);
    if (file === null || stat === undefined) continue;
    const pid = Number(file[1]);
    if (file[2] !== undefined) threads.push({ pid, tid: Number(file[2]), cpuTicks: stat.cpuTicks });
    else processes.set(pid, { ...stat, threads: new Map(), taps: taps.get(pid) ?? new Map() });
  }
  for (const { pid, tid, cpuTicks } of threads) processes.get(pid)?.threads.set(tid, cpuTicks);
  return processes;
}

/** The command name may hold blanks and parentheses (`CPU 0/TCG`): the figures begin after the last `)`. */
function parseStat(line: string): Omit<SeenUsage, 'threads' | 'taps'> | undefined {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const [state, user, system, start, resident] = [fields[0], fields[11], fields[12], fields[19], fields[21]];
  if (state === undefined || state === 'Z' || state === 'X' || resident === undefined) return undefined;
  const figures = [user, system, start, resident].map(Number);
  if (!figures.every(Number.isSafeInteger)) return undefined;
  const [userTicks = 0, systemTicks = 0, startTicks = 0, residentPages = 0] = figures;
  return { startTicks, cpuTicks: userTicks + systemTicks, residentPages };
}

/** By pid. `PID/fdinfo/12:iff:\tNAME` names an interface, its counters follow. Source: the kernel's drivers/net/tun.c. */
function tapsIn(lines: readonly string[]): Map<number, Map<string, Tap>> {
  const files = new Map<string, string>();
  const taps = new Map<number, Map<string, Tap>>();
  for (const line of lines) {
    const [, name, file, value] = /^\/sys\/class\/net\/([^/]+)\/(?:statistics|master)\/(\w+):(.*)$/.exec(line) ?? [];
    const isOther = file === 'uevent' && value?.startsWith('INTERFACE=') !== true;
    if (value !== undefined && !isOther) files.set(`${name} ${file}`, value);
  }
  for (const line of lines) {
    const [, pid, name = ''] = /^(\d+)\/fdinfo\/\d+:iff:\s*(\S+)$/.exec(line) ?? [];
    const tap = pid === undefined ? undefined : tapIn(files, name);
    if (tap !== undefined) taps.set(Number(pid), new Map([...(taps.get(Number(pid)) ?? []), [name, tap]]));
  }
  return taps;
}

/** Undefined where it is gone meanwhile. */
function tapIn(files: ReadonlyMap<string, string>, name: string): Tap | undefined {
  const count = (file: string) => Number(files.get(`${name} ${file}`) ?? Number.NaN);
  const counters = {
    receivedBytes: count('rx_bytes'),
    sentBytes: count('tx_bytes'),
    receivedPackets: count('rx_packets'),
    sentPackets: count('tx_packets'),
  };
  if (!Object.values(counters).every(Number.isSafeInteger)) return undefined;
  const bridge = files.get(`${name} uevent`)?.slice('INTERFACE='.length);
  return { ...(bridge === undefined ? {} : { bridge }), ...counters };
}
