/** The machine that figures were taken on, in words. */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { libvirtVersion } from './libvirt.ts';

export interface Machine {
  readonly cpu: string;
  readonly memory: string;
  readonly kernel: string;
  readonly accelerator: string;
  readonly qemu: string;
  readonly libvirt: string;
  readonly node: string;
  readonly load: string;
}

const GIB = 1024 ** 3;

/** @param loads averages of one minute, before and after */
export function describeMachine(loads: readonly number[]): Machine {
  const [first] = cpus();
  const version = execFileSync('qemu-system-x86_64', ['-version'], { encoding: 'utf8' });
  return {
    cpu: `${cpus().length} × ${first?.model ?? 'unknown'}`,
    memory: `${(totalmem() / GIB).toFixed(0)} GiB`,
    kernel: `Linux ${release().split('-')[0]}`,
    accelerator: 'TCG, for all contestants',
    qemu: /version (\S+)/.exec(version)?.[1] ?? 'unknown',
    libvirt: libvirtVersion(),
    node: process.version.slice(1),
    load: `${loads.map((load) => load.toFixed(1)).join(' before, ')} after`,
  };
}

export function loadNow(): number {
  return loadavg()[0] ?? 0;
}
