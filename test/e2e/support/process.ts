/** Processes as /proc shows them: the tests' own eyes. */
import { readdirSync, readFileSync } from 'node:fs';

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** proc(5), the fields after the name in parentheses. */
function stat(pid: number): string[] {
  const text = read(`/proc/${pid}/stat`);
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** It exists and is no zombie. */
export function isAlive(pid: number): boolean {
  return !['', 'Z', 'X'].includes(stat(pid)[0] ?? '');
}

export function stateOf(pid: number): string {
  return stat(pid)[0] ?? '';
}

export function startTicksOf(pid: number): number {
  return Number(stat(pid)[19]);
}

export function argvOf(pid: number): string[] {
  return read(`/proc/${pid}/cmdline`).split('\0').slice(0, -1);
}

/** The word after an option of a command line. */
export function argumentOf(pid: number, option: string): string | undefined {
  const argv = argvOf(pid);
  const at = argv.indexOf(option);
  return at < 0 ? undefined : argv[at + 1];
}

/** Processes whose command line names this path. */
export function processesNaming(path: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => read(`/proc/${pid}/cmdline`).includes(path) && isAlive(pid));
}

/** QEMU processes below a folder. */
export function qemusBelow(path: string): number[] {
  return processesNaming(path).filter((pid) => /qemu-system-/.test(argvOf(pid)[0] ?? ''));
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}
