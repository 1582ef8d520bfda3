/** The Host's side of a VM's life: what it is told, what it holds, and what becomes of it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isAlive, qemusBelow } from './support/process.ts';
import { conditionOf, Rig, readyOf } from './support/rig.ts';
import { until } from './support/wait.ts';

const marker = (vmDir: string) => join(vmDir, '.qemu-operator.json');

describe.concurrent('host', () => {
  test('at rest nothing is done and nothing is written', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('runs');
    await rig.create('off', { powerState: 'PoweredOff' });
    await rig.create('stalled', { cdroms: [{ name: 'install', path: '/not/there.iso' }] });
    await rig.untilRunning('runs');
    await rig.untilSettled('off', 'Stopped');
    await rig.untilReason('stalled', 'ISONotFound');
    await until(
      'the Host is told',
      () => rig.host(),
      ({ status }) => status?.vms?.running === 1 && status.vms.managed === 3,
    );
    // The Host counts the strangers of other tests, which come and go.
    const revisions = async () =>
      (await rig.store.list('VirtualMachine')).items.map(({ metadata }) => metadata.resourceVersion);
    const files = () => readdirSync(rig.vmDir, { recursive: true }).map(String).sort();
    const actions = () => rig.events.filter(({ type }) => type === 'action').length;
    const before = [await revisions(), files(), actions()];
    for (let looks = 0; looks < 3; looks += 1) await rig.anotherLook();
    expect([await revisions(), files(), actions()]).toEqual(before);
  });

  test('what the machine is and holds is told', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { vcpus: 2, memory: '64Mi' });
    await rig.untilRunning('web-1');
    const host = await until(
      'told',
      () => rig.host(),
      ({ status }) => status?.vms?.running === 1,
    );
    expect(host.status).toMatchObject({
      allocated: { vcpus: 2, memory: '64Mi' },
      info: {
        machineID: readFileSync('/etc/machine-id', 'utf8').trim(),
        qemu: { x86_64: expect.stringMatching(/^\d/) },
      },
    });
    for (const type of ['Ready', 'Reachable', 'Claimed', 'VMDirReady', 'QEMUAvailable'])
      expect(conditionOf(host, type)?.status, type).toBe('True');
  });

  test('two Hosts of one store do not share a vmDir', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.addHost('other', rig.vmDir);
    await rig.create('web-2', { hostName: 'other' });
    expect(readyOf(await rig.untilReason('web-2', 'ClaimedByAnother'))?.message).toContain(
      'another Host of this store',
    );
    expect([await rig.untilRunning('web-1'), qemusBelow(rig.root)]).toEqual([pid, [pid]]);
  });

  test('a VM that names no Host waits, and starts once the Host is there', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { hostName: 'othr' });
    await rig.create('web-2', { hostName: undefined });
    await rig.addHost('other', rig.path('others'));
    expect(readyOf(await rig.untilReason('web-1', 'HostNotFound'))?.message).toMatch(/does not exist/);
    await rig.untilReason('web-2', 'HostNotAssigned');
    await rig.edit('web-2', { hostName: 'other' });
    await rig.untilRunning('web-2');
    await rig.addHost('othr', rig.path('more'));
    await rig.untilRunning('web-1');
  });

  test('a deleted Host drives its VMs on, takes no new ones, and gives its vmDir back', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const vmDir = rig.path('others');
    await rig.addHost('other', vmDir);
    await rig.create('web-1', { hostName: 'other' });
    const pid = await rig.untilRunning('web-1');
    await rig.store.delete('Host', { name: 'other' });
    await rig.create('late', { hostName: 'other' });
    await rig.untilReason('late', 'HostNotFound');
    await rig.edit('web-1', { restartedAt: '1' });
    const second = await rig.untilRestarted('web-1', pid);
    for (const name of ['late', 'web-1']) await rig.delete(name);
    for (const name of ['late', 'web-1']) await rig.untilGone(name);
    await until(
      'the Host is gone',
      () => rig.store.get('Host', { name: 'other' }),
      (host) => host === undefined,
    );
    expect([isAlive(second), existsSync(marker(vmDir))]).toEqual([false, false]);
  });

  test("a VM's own vmDir is claimed by the same kind of marker", async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const vmDir = rig.path('own');
    await rig.create('web-1', { vmDir });
    await rig.untilRunning('web-1');
    const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    const { storeUID, hostUID } = read(marker(rig.vmDir));
    expect(read(marker(vmDir))).toMatchObject({ storeUID, hostUID, epoch: 1 });
    expect(storeUID).toBe(rig.store.uid);
  });

  test('more memory than there is: InsufficientMemory, and nothing is started', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { memory: '60Ti' });
    const vm = await rig.untilReason('web-1', 'InsufficientMemory');
    expect(readyOf(vm)?.message).toMatch(/^memory: 62914560Mi are more than the host has, \d/);
    expect([vm.status?.restarts, qemusBelow(rig.root)]).toEqual([0, []]);
    await rig.edit('web-1', { memory: '32Mi' });
    await rig.untilRunning('web-1');
  });
});
