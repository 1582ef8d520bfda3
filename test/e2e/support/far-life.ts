/** The life of a VM on a host over SSH: create, start, modify, stop, delete. */
import { expect } from 'vitest';
import { argumentOf } from './process.ts';
import type { RemoteRig } from './remote-rig.ts';

export interface FarLife {
  readonly name: string;
  readonly patienceMs: number;
  /** Once the guest runs for the first time. */
  readonly onRunning: (pid: number) => unknown;
  /** At the end of each act. */
  readonly rest: (act: string) => Promise<void>;
}

export async function liveThere(far: RemoteRig, { name, patienceMs, onRunning, rest }: FarLife): Promise<void> {
  const { rig } = far;
  const disks = [rig.tiny(name), { name: 'data', size: '4Mi' }];
  const more = { powerOff: { mode: 'Hard' }, updateStrategy: { type: 'Restart' }, powerState: 'PoweredOff' };
  await far.create(name, { disks, ...more });
  await rig.untilSettled(name, 'Stopped', patienceMs);
  await rest('create');
  await rig.edit(name, { powerState: 'PoweredOn' });
  const pid = await rig.untilRunning(name, patienceMs);
  await onRunning(pid);
  await rest('start');
  await rig.edit(name, { vcpus: 2 });
  const second = await rig.untilRestarted(name, pid, patienceMs);
  await rig.untilRunning(name, patienceMs);
  expect(argumentOf(second, '-smp')).toMatch(/^(cpus=)?2/);
  await rest('modify');
  await rig.edit(name, { powerState: 'PoweredOff' });
  await rig.untilSettled(name, 'Stopped', patienceMs);
  await rest('stop');
  await rig.delete(name);
  await rig.untilGone(name, patienceMs);
  await rest('delete');
}
