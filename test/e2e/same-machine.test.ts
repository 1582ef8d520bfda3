/** Two Hosts of one store that are one machine: what belongs to a VM of the one is nobody's on the other. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseRecord, recordText } from '../../src/reconcile/record.ts';
import { isAlive, qemusBelow } from './support/process.ts';
import { type OnFinished, Rig, readyOf } from './support/rig.ts';
import { until } from './support/wait.ts';

async function twoHosts(onFinished: OnFinished): Promise<Rig> {
  const rig = await Rig.start(onFinished);
  await rig.addHost('second', rig.path('vms2'));
  return rig;
}

const secondHost = async (rig: Rig) => rig.store.get('Host', { name: 'second' });

describe.concurrent('two Hosts of one machine', () => {
  test('a disk of a VM of the one is DiskInUse on the other, and its folder is not allowed', async ({
    onTestFinished,
  }) => {
    const rig = await twoHosts(onTestFinished);
    const shared = rig.tiny('shared');
    await rig.create('web-1', { disks: [shared, { name: 'own', size: '1Mi' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.create('web-2', { hostName: 'second', disks: [shared] });
    expect(readyOf(await rig.untilReason('web-2', 'DiskInUse'))?.message).toContain('VM default/web-1');
    const own = { name: 'root', path: join(rig.folder('web-1'), 'own.qcow2') };
    await rig.create('web-3', { hostName: 'second', disks: [own] });
    await rig.untilReason('web-3', 'PathNotAllowed');
    for (const name of ['web-2', 'web-3']) {
      await rig.delete(name);
      await rig.untilGone(name);
    }
    expect([qemusBelow(rig.root), existsSync(shared.path), existsSync(own.path)]).toEqual([[], true, true]);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilRunning('web-1');
  });

  test('what runs on the one is no stranger on the other', async ({ onTestFinished }) => {
    const rig = await twoHosts(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    const { uid } = (await rig.vm('web-1')).metadata;
    await rig.create('web-2', { hostName: 'second' });
    await rig.untilRunning('web-2');
    await rig.anotherLook();
    const host = await until(
      'it is seen',
      () => secondHost(rig),
      (one) => one?.status?.vms?.running === 1,
    );
    expect(host?.status?.strangers?.map((one) => one.pid) ?? []).not.toContain(pid);
    expect(host?.status?.unclaimed?.map((one) => one.uid) ?? []).not.toContain(uid);
    expect([isAlive(pid), await rig.untilRunning('web-1')]).toEqual([true, pid]);
  });

  test('a deletion leaves a disk that a VM of the other has noted, as an earlier version let it', async ({
    onTestFinished,
  }) => {
    const rig = await twoHosts(onTestFinished);
    const data = { name: 'data', path: rig.path('images', 'data.raw'), format: 'raw' };
    const off = { powerState: 'PoweredOff' };
    await rig.create('web-1', {
      ...off,
      disks: [
        { ...data, size: '1Mi' },
        { name: 'own', size: '1Mi' },
      ],
    });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.create('web-2', { ...off, hostName: 'second', disks: [rig.tiny('web-2')] });
    await rig.untilSettled('web-2', 'Stopped');
    await rig.stopController();
    const record = rig.path('vms2', 'web-2', '.qemu-operator.json');
    const noted = parseRecord(readFileSync(record, 'utf8').trimEnd());
    if (noted.kind !== 'readable') throw new Error(`${record} is ${noted.kind}`);
    const attached = { path: data.path, format: 'raw', state: 'attached', sizeBytes: 1024 * 1024 } as const;
    writeFileSync(record, `${recordText({ ...noted.record, disks: { ...noted.record.disks, data: attached } })}\n`);
    const own = join(rig.folder('web-1'), 'own.qcow2');
    expect(existsSync(own)).toBe(true);
    rig.startController();
    const told = await rig.until('web-1', 'it is told', ({ status }) => status?.disks?.[0]?.sharedWith !== undefined);
    expect(told.status?.disks).toMatchObject([
      { name: 'data', reclaim: 'Retain', sharedWith: 'default/web-2' },
      { name: 'own', reclaim: 'Delete' },
    ]);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([statSync(data.path).size, existsSync(own), existsSync(rig.folder('web-1'))]).toEqual([
      1024 * 1024,
      false,
      false,
    ]);
    await rig.edit('web-2', { disks: [rig.tiny('web-2'), data], powerState: 'PoweredOn' });
    await rig.untilRunning('web-2');
  });
});
