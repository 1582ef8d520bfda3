/** Objects that come, go and come back while their folders stay: whose is it? */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isAlive, qemusBelow } from './support/process.ts';
import { Rig, readyOf } from './support/rig.ts';
import { until } from './support/wait.ts';

const record = (rig: Rig, name: string) =>
  JSON.parse(readFileSync(join(rig.folder(name), '.qemu-operator.json'), 'utf8')) as {
    uid: string;
    recordVersion: number;
  };

/** The object goes, its process and files stay. */
async function orphan(rig: Rig, name: string): Promise<void> {
  await rig.annotate(name, 'orphan', 'true');
  await rig.delete(name);
  await rig.untilGone(name);
}

describe.concurrent('objects', () => {
  test('re-created under the same name it is a NameConflict; adopt takes the VM over as it runs', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    const disks = [rig.tiny('web-1'), { name: 'data', size: '1Mi' }];
    const first = await rig.create('web-1', { disks });
    const pid = await rig.untilRunning('web-1');
    await orphan(rig, 'web-1');
    expect(isAlive(pid)).toBe(true);
    const host = await until(
      'unclaimed',
      () => rig.host(),
      ({ status }) => status?.unclaimed?.length === 1,
    );
    expect(host.status?.unclaimed?.[0]).toMatchObject({ name: 'web-1', uid: first.metadata.uid, running: true });

    const second = await rig.create('web-1', { disks, powerState: 'ForcedOff' });
    const conflict = await rig.untilReason('web-1', 'NameConflict');
    expect([readyOf(conflict)?.message.includes(first.metadata.uid), isAlive(pid)]).toEqual([true, true]);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.annotate('web-1', 'adopt', 'another-uid');
    await rig.until('web-1', 'the wrong uid is refused', (vm) => readyOf(vm)?.message.includes('another-uid') === true);
    await rig.annotate('web-1', 'adopt', first.metadata.uid);
    expect(await rig.untilRunning('web-1')).toBe(pid);
    const adopted = await rig.vm('web-1');
    expect([record(rig, 'web-1').uid, adopted.metadata.annotations?.['qemu-operator.dev/adopt']]).toEqual([
      second.metadata.uid,
      undefined,
    ]);
    expect(rig.actions('web-1').filter((type) => type === 'launch' || type === 'create-disk')).toEqual([
      'create-disk',
      'launch',
    ]);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([isAlive(pid), existsSync(rig.folder('web-1'))]).toEqual([false, false]);
  });

  test('deleting an object in NameConflict touches nothing', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.create('other', { vmName: 'web-1' });
    await rig.untilReason('other', 'NameConflict');
    await rig.annotate('other', 'adopt', record(rig, 'web-1').uid);
    await rig.until('other', 'a living owner keeps it', (vm) => /still exists/.test(readyOf(vm)?.message ?? ''));
    await rig.delete('other');
    await rig.untilGone('other');
    expect([await rig.untilRunning('web-1'), isAlive(pid)]).toEqual([pid, true]);
  });

  test('a name that becomes free is taken by the one that waits', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.create('other', { vmName: 'web-1' });
    await rig.untilReason('other', 'NameConflict');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    const next = await rig.untilRunning('other');
    expect([next === pid, isAlive(pid), record(rig, 'web-1').uid]).toEqual([
      false,
      false,
      (await rig.vm('other')).metadata.uid,
    ]);
  });

  test('a record of a later version is left alone, a damaged one too', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('newer');
    await rig.create('broken');
    const pids = [await rig.untilRunning('newer'), await rig.untilRunning('broken')];
    await rig.stopController();
    const newer = { ...record(rig, 'newer'), recordVersion: 2, secret: 'of the future' };
    const texts = { newer: `${JSON.stringify(newer)}\n`, broken: '' };
    for (const [name, text] of Object.entries(texts))
      writeFileSync(join(rig.folder(name), '.qemu-operator.json'), text);
    rig.startController();
    for (const name of Object.keys(texts)) await rig.edit(name, { powerState: 'ForcedOff' });
    await rig.untilReason('newer', 'RecordTooNew');
    await rig.untilReason('broken', 'RecordInvalid');
    await rig.anotherLook();
    expect(pids.map(isAlive)).toEqual([true, true]);
    for (const [name, text] of Object.entries(texts))
      expect(readFileSync(join(rig.folder(name), '.qemu-operator.json'), 'utf8')).toBe(text);
  });

  test('paused touches nothing, deletion included; going on does what was asked', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.annotate('web-1', 'paused', '');
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilReason('web-1', 'PausedByOperator');
    await rig.delete('web-1');
    await rig.anotherLook();
    expect([isAlive(pid), qemusBelow(rig.root)]).toEqual([true, [pid]]);
    await rig.annotate('web-1', 'paused', null);
    await rig.untilGone('web-1');
    expect([isAlive(pid), existsSync(rig.folder('web-1'))]).toEqual([false, false]);
  });
});
