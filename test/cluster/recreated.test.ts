/** Objects that were deleted and made anew under their names while no operator ran: whose the machines are then. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { contentHash, writeSparseTiny } from '../e2e/support/images.ts';
import { humanMonitor } from '../e2e/support/oracle.ts';
import { isAlive, qemusBelow, startTicksOf } from '../e2e/support/process.ts';
import { conditionOf, testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { Machines } from './support/machines.ts';
import { startOperator } from './support/operator.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';

let root: string;
let machines: Machines;
const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  machines = new Machines(cluster);
  const hostOf = await sshHosts(onFinished, cluster, root);
  await cluster.apply(hostOf('rack', join(root, 'vms')));
});
const start = () => startOperator(file.onFinished, file.cluster);
const folder = (name: string) => join(root, 'vms', name);
const dataOf = (name: string) => join(folder(name), 'data.qcow2');

function vm(name: string, more: object = {}, annotations: object = {}) {
  const disks = [
    { name: 'root', path: join(root, `${name}.raw`), format: 'raw' },
    { name: 'data', size: '4Mi' },
  ];
  const { metadata, ...object } = smallVm(name, 'rack', { disks, ...more });
  return { ...object, metadata: { ...metadata, annotations } };
}

test('the new object takes nothing of the old one, which is told and runs on, until it is told to adopt it', {
  timeout: 240_000,
}, async () => {
  const first = await start();
  for (const name of ['web', 'off', 'thief']) writeSparseTiny(join(root, `${name}.raw`));
  await file.cluster.apply(vm('web'), vm('off'));
  const pid = await machines.running('web');
  await machines.running('off');
  await humanMonitor(folder('web'), 'qemu-io disk-data "write -P 0x5a 1M 64k"');
  await machines.edit('off', { spec: { powerState: 'PoweredOff' } });
  await machines.until('off', 'Stopped');
  const [web, off] = [await machines.vm('web'), await machines.vm('off')];
  const before = { ticks: startTicksOf(pid), off: contentHash(dataOf('off')) };
  const records = ['web', 'off'].map((name) => readFileSync(join(folder(name), '.qemu-operator.json'), 'utf8'));
  await first.stop();

  for (const name of ['web', 'off']) await machines.removeObject(name);
  // The same manifests, and one that names a disk of the old one by its path.
  const disks = [{ name: 'root', path: join(root, 'thief.raw'), format: 'raw' }];
  await file.cluster.apply(
    vm('web'),
    vm('off'),
    smallVm('thief', 'rack', { disks: [...disks, { name: 'data', path: dataOf('off') }] }),
  );
  const second = await start();
  const found = await machines.until('web', 'NameConflict');
  expect(conditionOf(found, 'Ready')?.message).toBe(
    `${folder('web')} belongs to VM default/web (uid ${web.metadata.uid}); to take it over, set the annotation qemu-operator.dev/adopt: ${web.metadata.uid}`,
  );
  expect(conditionOf(found, 'Stalled')?.reason).toBe('NameConflict');
  // The machine that runs is not its own.
  expect([found.status?.phase, conditionOf(found, 'Running')?.status]).toEqual(['Failed', 'False']);
  await machines.until('off', 'NameConflict');
  const stolen = conditionOf(await machines.until('thief', 'PathNotAllowed'), 'Ready')?.message;
  expect(stolen).toContain(folder('off'));
  const told = await until(
    'the Host tells of both folders',
    () => machines.host('rack'),
    ({ status }) => status?.unclaimed?.length === 2,
  );
  expect(told.status?.unclaimed).toMatchObject([
    { name: 'off', uid: off.metadata.uid, running: false },
    { name: 'web', uid: web.metadata.uid, running: true },
  ]);
  expect(await file.cluster.kubectl(['describe', 'qvm', 'web'])).toMatch(/Warning +NameConflict .*to take it over/);
  // Neither is gone with the objects that never had them.
  await file.cluster.kubectl(['delete', 'qvm', 'off', 'thief', '--timeout=60s']);
  expect(['web', 'off'].map((name) => readFileSync(join(folder(name), '.qemu-operator.json'), 'utf8'))).toEqual(
    records,
  );
  expect([existsSync(dataOf('off')) && contentHash(dataOf('off')), startTicksOf(pid)]).toEqual([
    before.off,
    before.ticks,
  ]);
  expect(qemusBelow(root)).toEqual([pid]);

  const adopt = { 'qemu-operator.dev/adopt': web.metadata.uid };
  await machines.edit('web', { metadata: { annotations: adopt } });
  await file.cluster.apply(vm('off', { powerState: 'PoweredOff' }, { 'qemu-operator.dev/adopt': off.metadata.uid }));
  expect(await machines.running('web')).toBe(pid);
  await machines.until('off', 'Stopped');
  expect(contentHash(dataOf('off'))).toBe(before.off);
  await until(
    'nobody is unclaimed',
    () => machines.host('rack'),
    ({ status }) => status?.unclaimed === undefined,
  );
  expect(isAlive(pid)).toBe(true);
  await second.stop();
});
