/** A QEMU that writes down each of its starts. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { standIn } from './stand-ins.ts';

export interface CountingQemu {
  /** The PATH that begins with it. */
  readonly path: string;
  /** VMs that were started so far. */
  readonly starts: () => number;
}

/** @param counter a file that is not there yet */
export function countingQemu(folder: string, counter: string): CountingQemu {
  const qemu = execFileSync('sh', ['-c', 'command -v qemu-system-x86_64'], { encoding: 'utf8' }).trim();
  const text = `#!/bin/sh\ncase " $* " in *" -daemonize "*) echo start >>'${counter}' ;; esac\nexec '${qemu}' "$@"\n`;
  return {
    path: standIn(folder, 'qemu-system-x86_64', text),
    starts: () => (existsSync(counter) ? readFileSync(counter, 'utf8').split('\n').length - 1 : 0),
  };
}
