/** Many VMs at once, and one that is slow. */
import { describe, expect, test } from 'vitest';
import { qmp } from './support/oracle.ts';
import { kill, qemusBelow } from './support/process.ts';
import { Rig } from './support/rig.ts';
import { TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

describe('many', () => {
  test('20 VMs start together, at most 4 launches at once', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const names = Array.from({ length: 20 }, (_, index) => `web-${index}`);
    await Promise.all(names.map((name) => rig.create(name)));
    const pids = await Promise.all(names.map((name) => rig.untilRunning(name, 60_000)));
    expect([new Set(pids).size, qemusBelow(rig.root).length]).toEqual([20, 20]);
    let [now, most] = [0, 0];
    for (const event of rig.events) {
      if (event.type === 'pass' || event.type === 'ended' || event.action?.type !== 'launch') continue;
      now += event.type === 'action' ? 1 : -1;
      most = Math.max(most, now);
    }
    expect([now, most]).toEqual([0, 4]);
    const host = await until(
      'counted',
      () => rig.host(),
      ({ status }) => status?.vms?.running === 20,
    );
    expect(host.status?.allocated).toEqual({ vcpus: 20, memory: '640Mi' });
    await Promise.all(names.map((name) => rig.delete(name)));
    await Promise.all(names.map((name) => rig.untilGone(name, 60_000)));
    expect(qemusBelow(rig.root)).toEqual([]);
  });

  test('ends that fall into a look are told apart all the same', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished, { loop: { resyncMs: 20 } });
    const kinds = ['GuestPoweredOff', 'Signaled', 'Crashed', 'StoppedExternally'];
    const names = Array.from({ length: 16 }, (_, index) => `web-${index}`);
    await Promise.all(names.map((name) => rig.create(name, { restartPolicy: 'Never' })));
    const pids = await Promise.all(names.map((name) => rig.untilRunning(name, 60_000)));
    await Promise.all(names.map((name) => rig.untilPrinted(name, 'TINY-IO')));
    for (const [index, name] of names.entries()) {
      const [kind, pid] = [kinds[index % kinds.length], pids[index] ?? 0];
      if (kind === 'GuestPoweredOff') await qmp(rig.folder(name), 'system_powerdown');
      else if (kind === 'StoppedExternally') await qmp(rig.folder(name), 'quit');
      else kill(pid, kind === 'Signaled' ? 'SIGTERM' : 'SIGKILL');
    }
    const ended = (name: string) => rig.until(name, 'its end', ({ status }) => status?.lastExit !== undefined, 60_000);
    const ends = await Promise.all(names.map(async (name) => (await ended(name)).status?.lastExit?.reason));
    expect(ends).toEqual(names.map((_, index) => kinds[index % kinds.length]));
  });

  test('an action that takes long delays no other VM', async ({ onTestFinished }) => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const shell = new TestShell({ onRun: (script) => (script.includes('qemu-img create') ? held : undefined) });
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('slow', { disks: [{ name: 'data', size: '1Mi' }] });
    await until(
      'it is slow',
      () => rig.actions('slow'),
      (types) => types.includes('create-disk'),
    );
    await rig.create('quick');
    const pid = await rig.untilRunning('quick');
    await rig.edit('quick', { powerState: 'PoweredOff' });
    await rig.untilSettled('quick', 'Stopped');
    expect([rig.actions('slow').at(-1), pid > 0]).toEqual(['create-disk', true]);
    release();
    await rig.untilRunning('slow');
  });
});
