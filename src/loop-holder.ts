/**
 * What holds the loop of a file store: `.state/controller.json`, written by the holder of the controller's lock and
 * removed before it lets go. Reading it disturbs nobody, unlike trying the lock. It is believed only while that very
 * process lives; where it is absent or not to be believed, the lock alone counts.
 */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LoopRole } from './cli/session.ts';
import type { Holder } from './doctor/service-checks.ts';

interface Note {
  readonly pid: number;
  /** Start of the process in clock ticks since boot: a pid alone may be somebody else's by now. */
  readonly startTicks: number;
  readonly kind: LoopRole;
}

export class LoopHolder {
  readonly #path: string;

  constructor(storeDir: string) {
    this.#path = join(storeDir, '.state', 'controller.json');
  }

  /** Only for who has the lock. A disk that is full costs others the knowledge, and nothing else. */
  write(kind: LoopRole): void {
    const startTicks = startTicksOf(process.pid);
    if (startTicks === undefined) return;
    const note: Note = { pid: process.pid, startTicks, kind };
    const partial = `${this.#path}.${process.pid}`;
    try {
      writeFileSync(partial, `${JSON.stringify(note)}\n`, { mode: 0o600 });
      renameSync(partial, this.#path);
    } catch {
      this.#remove(partial);
      this.remove();
    }
  }

  /** Only for who has the lock. */
  remove(): void {
    this.#remove(this.#path);
  }

  #remove(path: string): void {
    try {
      rmSync(path, { force: true });
    } catch {
      // Nobody believes it once this process has ended.
    }
  }

  read(): Holder | undefined {
    try {
      const { pid, startTicks, kind } = JSON.parse(readFileSync(this.#path, 'utf8')) as Note;
      if (startTicksOf(pid) !== startTicks) return undefined;
      return { pid, kind, since: `${statSync(this.#path).mtime.toISOString().slice(0, 19)}Z` };
    } catch {
      return undefined;
    }
  }
}

/** proc_pid_stat(5), field 22; the second field is a name in parentheses that may hold anything. */
function startTicksOf(pid: number): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}
