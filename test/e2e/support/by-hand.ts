/** A QEMU that somebody started without us. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import type { CliRig } from './cli-rig.ts';
import type { OnFinished } from './rig.ts';
import { until } from './wait.ts';

export interface ByHand {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Ends it as the operator of the machine would: QEMU quits in order. */
  end(): Promise<void>;
}

/** In the rig's own folder, so that its disks may be named from there. Waits until its guest has written to its disk. */
export async function byHand(onFinished: OnFinished, rig: CliRig, words: readonly string[]): Promise<ByHand> {
  const serial = rig.path(`serial-${Math.random()}`);
  const plain = ['-accel', 'tcg', '-m', '64', '-display', 'none', '-monitor', 'none', '-serial', `file:${serial}`];
  const child = spawn('qemu-system-x86_64', [...plain, ...words], {
    cwd: rig.root,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(child, 'exit');
  let said = '';
  child.stderr?.on('data', (text) => {
    said += String(text);
  });
  const end = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  onFinished(end);
  await until(
    'the guest has written',
    () => ({ out: existsSync(serial) ? readFileSync(serial, 'utf8') : '', code: child.exitCode }),
    ({ out, code }) => {
      if (code !== null) throw new Error(`QEMU ended: ${said}`);
      return out.includes('TINY-IO');
    },
  );
  return { child, pid: child.pid ?? 0, end };
}
