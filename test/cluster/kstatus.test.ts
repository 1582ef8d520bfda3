/** Whether a VM is as it is wanted, by the rules of kstatus: Helm waits by them, as Argo CD and Flux do. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeDeafDisk, writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { conditionOf, testFolder } from '../e2e/support/rig.ts';
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
  // A chart whose one object is its value.
  mkdirSync(join(root, 'chart', 'templates'), { recursive: true });
  writeFileSync(join(root, 'chart', 'Chart.yaml'), 'apiVersion: v2\nname: one\nversion: 1.0.0\n');
  writeFileSync(join(root, 'chart', 'templates', 'object.yaml'), '{{ toYaml .Values.object }}\n');
});

function vm(name: string, spec: object = {}) {
  const path = writeSparseTiny(join(root, `${name}.raw`));
  return smallVm(name, 'rack', { disks: [{ name: 'root', path, format: 'raw' }], powerOff: { mode: 'Hard' }, ...spec });
}

/** What Helm says when it has waited by kstatus. */
const deploy = (object: { metadata: { name: string } }, seconds: number) =>
  file.cluster.tryHelm([
    ...['upgrade', '--install', object.metadata.name, join(root, 'chart'), '--wait', `--timeout=${seconds}s`],
    ...['--set-json', `object=${JSON.stringify(object)}`],
  ]);

test('Current is what is as wanted, also when stopped on purpose; nothing else is', { timeout: 240_000 }, async () => {
  // Nobody has looked at it: not done.
  const early = await deploy(vm('early', { powerState: 'PoweredOff' }), 3);
  expect([early.code, early.stderr]).toEqual([1, expect.stringMatching(/VirtualMachine\/default\/early.*InProgress/s)]);

  await startOperator(file.onFinished, file.cluster);
  expect(await deploy(vm('web'), 60)).toMatchObject({ code: 0 });
  // As it returns, not some time later.
  const running = await machines.vm('web');
  expect([conditionOf(running, 'Ready')?.status, running.status?.phase]).toEqual(['True', 'Running']);
  const pid = running.status?.pid ?? 0;
  expect(isAlive(pid)).toBe(true);
  expect(await deploy(vm('web', { powerState: 'PoweredOff' }), 60)).toMatchObject({ code: 0 });
  expect([isAlive(pid), (await machines.vm('web')).status?.phase]).toEqual([false, 'Stopped']);
  // A change that waits for a restart is as wanted: it is left to whoever owns the machine.
  expect(await deploy(vm('web', { vcpus: 2 }), 60)).toMatchObject({ code: 0 });

  const missing = vm('broken', { cdroms: [{ name: 'install', path: join(root, 'none.iso') }] });
  const broken = await deploy(missing, 60);
  expect([broken.code, broken.stderr]).toEqual([1, expect.stringMatching(/VirtualMachine\/default\/broken.*Failed/s)]);
  expect(broken.stderr).toContain(join(root, 'none.iso'));

  // A guest that is asked to go and does not is on its way, as long as it has time.
  const disks = [{ name: 'root', path: writeDeafDisk(join(root, 'without-ears.raw')), format: 'raw' }];
  const deaf = { disks, powerOff: { mode: 'Soft' } };
  expect(await deploy(vm('deaf', deaf), 60)).toMatchObject({ code: 0 });
  const going = await deploy(vm('deaf', { ...deaf, powerState: 'PoweredOff' }), 5);
  expect([going.code, going.stderr]).toEqual([1, expect.stringMatching(/VirtualMachine\/default\/deaf.*InProgress/s)]);
});

test('kubectl waits by the conditions', { timeout: 120_000 }, async () => {
  const { cluster } = file;
  await cluster.apply(vm('waited'));
  expect(await cluster.kubectl(['wait', '--for=condition=Running', 'qvm/waited', '--timeout=60s'])).toBe(
    'virtualmachine.qemu-operator.dev/waited condition met\n',
  );
  expect(await cluster.kubectl(['wait', '--for=condition=Ready', 'qvm/waited', '--timeout=60s'])).toContain(
    'condition met',
  );
  const never = await cluster.tryKubectl(['wait', '--for=condition=Running=false', 'qvm/waited', '--timeout=2s']);
  expect([never.code, never.stderr]).toEqual([1, expect.stringContaining('timed out waiting for the condition')]);
});
