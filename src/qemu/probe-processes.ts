/** The part of a probe's answer that speaks of processes: which there are, what they lock and where they listen. */
import { utf8 } from './probe-paths.ts';

export interface ProbedProcess {
  readonly state: string;
  readonly startTicks: number;
}

/** `1: POSIX  ADVISORY  WRITE 3456 fd:01:12345 0 EOF`; waiting locks have "->" and no holder. */
export function lockHoldersOf(lines: readonly string[]): Map<string, ReadonlySet<number>> {
  const holders = new Map<string, Set<number>>();
  for (const line of lines) {
    const fields = line.trim().split(/\s+/);
    if (fields[1] !== 'POSIX' || fields[3] !== 'WRITE') continue;
    const inode = fields[5]?.split(':').at(-1);
    if (inode !== undefined) holders.set(inode, (holders.get(inode) ?? new Set()).add(Number(fields[4])));
  }
  return holders;
}

export function listeningOf(lines: readonly string[]): Set<string> {
  return new Set(lines.map((line) => utf8(line.trim().split(/\s+/).slice(7).join(' '))));
}

/** proc(5): the name in parentheses may hold anything, so fields are counted from the last one. */
export function processesOf(lines: readonly string[]): Map<number, ProbedProcess> {
  const processes = new Map<number, ProbedProcess>();
  for (const line of lines) {
    const end = line.lastIndexOf(')');
    if (end < 0) continue;
    const fields = line.slice(end + 2).split(' ');
    processes.set(Number.parseInt(line, 10), { state: fields[0] ?? '', startTicks: Number(fields[19]) });
  }
  return processes;
}
