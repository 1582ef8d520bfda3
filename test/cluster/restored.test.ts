/** etcd restored from an old backup under hosts whose machines went on: nothing runs twice, and nothing is lost. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { contentHash, writeSparseTiny } from '../e2e/support/images.ts';
import { argumentOf, qemusBelow } from '../e2e/support/process.ts';
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
  await cluster.apply(...['a', 'b'].map((is) => hostOf(`rack-${is}`, join(root, is))));
});
const RESYNC_MS = 60_000;
const start = () => startOperator(file.onFinished, file.cluster);
/** Names end with their Host's. */
const folder = (name: string) => join(root, name.slice(-1), name);

function vm(name: string, annotations: object = {}) {
  const disks = [
    { name: 'root', path: join(root, `${name}.raw`), format: 'raw' },
    { name: 'data', size: '4Mi' },
  ];
  if (!existsSync(join(root, `${name}.raw`))) writeSparseTiny(join(root, `${name}.raw`));
  const { metadata, ...object } = smallVm(name, `rack-${name.slice(-1)}`, { disks, powerOff: { mode: 'Hard' } });
  return { ...object, metadata: { ...metadata, annotations } };
}

const revision = async () => Number(await file.cluster.revision());

test.each(['goes on', 'is started anew'])(
  'an operator that %s meets objects of the past',
  {
    timeout: 600_000,
  },
  async (how) => {
    const is = how === 'goes on' ? 'a' : 'b';
    const [older, bare, going, gone, newer] = ['older', 'bare', 'going', 'gone', 'newer'].map(
      (one) => `${one}-${is}`,
    ) as [string, string, string, string, string];
    let operator = await start();
    await file.cluster.apply(vm(older), vm(going), vm(gone));
    for (const name of [older, going, gone]) await machines.running(name);
    await operator.stop();
    // Of the one nothing is noted yet, and the other is about to go.
    await file.cluster.apply(vm(bare));
    await file.cluster.kubectl(['delete', 'qvm', going, '--wait=false']);
    const backup = await file.cluster.backUp(`backup-${is}`);
    const then = await revision();

    // What the backup does not know.
    operator = await start();
    await file.cluster.kubectl(['wait', '--for=delete', `qvm/${going}`, '--timeout=60s']);
    await file.cluster.apply(vm(going), vm(newer));
    await file.cluster.kubectl(['delete', 'qvm', gone, '--timeout=60s']);
    await machines.edit(older, { spec: { vcpus: 2, powerState: 'PoweredOff' } });
    await machines.until(older, 'Stopped');
    await machines.edit(older, { spec: { powerState: 'PoweredOn' } });
    const names = [older, bare, going, newer];
    const pids = Object.fromEntries(
      await Promise.all(names.map(async (name) => [name, await machines.running(name)] as const)),
    );
    const uids = { newer: (await machines.vm(newer)).metadata.uid, going: (await machines.vm(going)).metadata.uid };
    for (let i = 0; i < 60; i += 1)
      await file.cluster.kubectl(['annotate', 'qhost', `rack-${is}`, `turn=${i}`, '--overwrite']);
    expect(await revision()).toBeGreaterThan(then + 60);
    if (is === 'b') await operator.stop();
    await file.cluster.restore(backup);
    if (is === 'b') operator = await start();

    const told = await until(
      'the Host tells of the machines without an object',
      () => machines.host(`rack-${is}`),
      ({ status }) => status?.unclaimed?.length === 2,
    );
    expect(told.status?.unclaimed).toMatchObject([
      { name: going, uid: uids.going, running: true },
      { name: newer, uid: uids.newer, running: true },
    ]);
    // The object that was about to go is gone, and has taken nothing with it.
    await file.cluster.kubectl(['wait', '--for=delete', `qvm/${going}`, '--timeout=60s']);
    expect(conditionOf(await machines.until(gone, 'StorageMissing'), 'Ready')?.message).toContain(folder(gone));
    expect(existsSync(folder(gone))).toBe(false);
    expect(await machines.running(bare)).toBe(pids[bare]);
    const back = await until(
      `${older} is looked at`,
      () => machines.vm(older),
      ({ status }) => status?.pid === pids[older],
    );
    expect(back.spec.vcpus).toBe(1);
    expect(argumentOf(pids[older] ?? 0, '-smp')).toMatch(/^(cpus=)?2/);
    await until(
      'a restart is due, and left to whoever owns it',
      () => machines.vm(older),
      (one) => conditionOf(one, 'RestartRequired')?.status === 'True',
    );
    expect(qemusBelow(join(root, is)).sort()).toEqual(Object.values(pids).sort());

    // What is written now is met before everything is looked at again anyway, though its resourceVersion was there before.
    const from = performance.now();
    await machines.edit(bare, { spec: { powerState: 'PoweredOff' } });
    await machines.until(bare, 'Stopped');
    expect(performance.now() - from).toBeLessThan(RESYNC_MS / 2);
    const data = contentHash(join(folder(bare), 'data.qcow2'));
    await file.cluster.apply(
      vm(newer, { 'qemu-operator.dev/adopt': uids.newer }),
      vm(going, { 'qemu-operator.dev/adopt': uids.going }),
    );
    for (const name of [newer, going]) expect(await machines.running(name)).toBe(pids[name]);
    expect(contentHash(join(folder(bare), 'data.qcow2'))).toBe(data);
    await file.cluster.kubectl(['delete', 'qvm', '--all', '--timeout=60s']);
    expect(qemusBelow(join(root, is))).toEqual([]);
    await operator.stop();
  },
);
