/** A host that is gone for good: what is deleted of it waits, says why, and goes on the word of whoever has the right. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { conditionOf, testFolder } from '../e2e/support/rig.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { until } from '../e2e/support/wait.ts';
import { aggregateRoles, installCrds, installOperator, NAMESPACE, podTemplate, runPod } from './support/chart.ts';
import { Machines } from './support/machines.ts';
import { smallVm } from './support/ssh-hosts.ts';
import { TestCluster } from './support/test-cluster.ts';

test('a deletion waits for a dead host, names the way out, and takes it from whoever has the right', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const cluster = await TestCluster.start(onTestFinished, { crds: false });
  const root = testFolder(onTestFinished);
  const sshd = await Sshd.start(onTestFinished);
  const machines = new Machines(cluster);
  await installCrds(cluster);
  const key = `--from-file=ssh-privatekey=${sshd.identity}`;
  await cluster.kubectl(['create', 'secret', 'generic', 'login', '-n', NAMESPACE, key]);
  const spec = {
    ssh: { address: '127.0.0.1', port: sshd.port, user: sshd.user },
    vmDir: join(root, 'vms'),
    allowedPaths: [root],
  };
  await installOperator(cluster, ['--set-json', `hosts.rack=${JSON.stringify({ existingSecret: 'login', spec })}`]);
  await aggregateRoles(cluster);
  for (const role of ['edit', 'admin'])
    await cluster.kubectl(['create', 'rolebinding', role, `--clusterrole=${role}`, `--user=${role}er`]);
  const as = (user: string, words: string[]) => cluster.tryKubectl([...words, `--as=${user}`]);
  await runPod(onTestFinished, cluster, await podTemplate(cluster));
  const disks = [{ name: 'root', path: writeSparseTiny(join(root, 'web.raw')), format: 'raw' }];
  await cluster.apply(smallVm('web', 'rack', { disks }));
  const pid = await machines.running('web');

  await sshd.stop();
  // kubectl waits as long as it is told to; the object stays.
  const waited = await as('editer', ['delete', 'qvm', 'web', '--timeout=15s']);
  expect([waited.code, waited.stderr]).toEqual([1, expect.stringContaining('timed out waiting for the condition')]);
  const vm = await until(
    'it says why',
    () => machines.vm('web'),
    (one) => conditionOf(one, 'DeletionBlocked') !== undefined,
  );
  expect(conditionOf(vm, 'DeletionBlocked')).toMatchObject({ status: 'True', reason: 'HostUnreachable' });
  expect(conditionOf(vm, 'DeletionBlocked')?.message).toMatch(
    /^rack cannot be reached: .*; annotation qemu-operator.dev\/orphan releases the object without the host$/,
  );
  expect(await cluster.kubectl(['get', 'qvm', 'web'])).toMatch(/web +Terminating +Unknown +rack/);
  expect(await cluster.kubectl(['describe', 'qvm', 'web'])).toMatch(
    /Warning +HostUnreachable .*orphan releases the object/,
  );

  const orphan = ['annotate', 'qvm', 'web', 'qemu-operator.dev/orphan=true'];
  const refused = await as('editer', orphan);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('virtualmachines/orphan')]);
  await sleep(6_000);
  expect((await machines.vm('web')).metadata.finalizers).toEqual(['qemu-operator.dev/host-cleanup']);
  expect(await as('adminer', orphan)).toMatchObject({ code: 0 });
  await cluster.kubectl(['wait', '--for=delete', 'qvm/web', '--timeout=60s']);
  expect(isAlive(pid)).toBe(true);

  // The host comes back after all: what runs there is told, and is nobody's.
  await sshd.run();
  const host = await until(
    'it is told',
    () => machines.host('rack'),
    ({ status }) => status?.unclaimed !== undefined,
  );
  expect(host.status?.unclaimed).toMatchObject([{ name: 'web', uid: vm.metadata.uid, running: true }]);
  expect(isAlive(pid)).toBe(true);
});
