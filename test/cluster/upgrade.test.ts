/** The operator of an earlier commit runs machines, and the present one takes them over: the hosts do not notice. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { argvOf, qemusBelow, startTicksOf } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { Machines } from './support/machines.ts';
import { startOperator } from './support/operator.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';
import { type Witness, witness } from './support/witness.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const NAMES = ['calm', 'pending', 'off', 'ended'];

let root: string;
let machines: Machines;
let eyes: Witness;
const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  machines = new Machines(cluster);
  eyes = witness(join(root, 'bin'));
  const hostOf = await sshHosts(onFinished, cluster, root, eyes.path);
  const { spec, ...host } = hostOf('rack', join(root, 'vms'));
  await cluster.apply({ ...host, spec: { ...spec, metricsIntervalSeconds: 0 } });
});

const git = (...words: string[]) => execFileSync('git', ['-C', ROOT, ...words], { encoding: 'utf8' }).trim();

/**
 * The last commit before this one whose sources differ from those that are here, as files. A clone without a history
 * has none: then the present sources stand in for it, and a message says what is missing.
 */
function earlierMain(): string {
  const folder = join(root, 'earlier');
  mkdirSync(folder);
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const commit = earlierCommit();
  if (commit === undefined) {
    console.warn('no earlier commit with other sources is known here: git fetch --unshallow makes this an upgrade');
    for (const name of ['src', 'package.json']) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  } else {
    const archive = join(root, 'earlier.tar');
    git('archive', '-o', archive, commit, 'src', 'package.json');
    execFileSync('tar', ['-x', '-f', archive, '-C', folder]);
    console.log(`proof: upgrade: from ${git('log', '-1', '--format=%h %s', commit)}`);
  }
  return join(folder, 'src', 'main.ts');
}

function earlierCommit(): string | undefined {
  try {
    const commits = git('rev-list', '--first-parent', '--max-count=50', 'HEAD').split('\n');
    return commits.find((commit) => git('diff', '--name-only', commit, '--', 'src') !== '');
  } catch {
    return undefined;
  }
}

/** Without what the API server notes of who wrote when. */
async function objects() {
  const all = await Promise.all(NAMES.map((name) => machines.vm(name)));
  return all.map(({ metadata, spec }: VirtualMachine) => {
    const { uid, generation, annotations, finalizers, labels } = metadata;
    return { uid, generation, annotations, finalizers, labels, spec };
  });
}

const records = () => NAMES.map((name) => readFileSync(join(root, 'vms', name, '.qemu-operator.json'), 'utf8'));
const epoch = () =>
  (JSON.parse(readFileSync(join(root, 'vms', '.qemu-operator.json'), 'utf8')) as { epoch: number }).epoch;
const processes = () =>
  qemusBelow(root)
    .sort()
    .map((pid) => [pid, startTicksOf(pid), argvOf(pid)]);

test('an upgrade adopts: same processes, no effect on the host, objects as they were but for their status', {
  timeout: 240_000,
}, async () => {
  const before = await startOperator(file.onFinished, file.cluster, [], undefined, earlierMain());
  const vms = NAMES.map((name) => {
    const disks = [
      { name: 'root', path: writeSparseTiny(join(root, `${name}.raw`)), format: 'raw' },
      { name: 'data', size: '4Mi' },
    ];
    return smallVm(name, 'rack', { disks, powerOff: { mode: 'Hard' }, restartPolicy: 'Never' });
  });
  await file.cluster.apply(...vms);
  await Promise.all(NAMES.map((name) => machines.running(name)));
  // One that waits for its restart, one that was stopped, one that has ended by itself.
  await machines.edit('pending', { spec: { vcpus: 2 } });
  await file.cluster.kubectl(['wait', '--for=condition=RestartRequired', 'qvm/pending', '--timeout=60s']);
  await machines.edit('off', { spec: { powerState: 'PoweredOff' } });
  await machines.until('off', 'Stopped');
  process.kill((await machines.vm('ended')).status?.pid ?? 0, 'SIGKILL');
  await file.cluster.kubectl(['wait', '--for=condition=Running=false', 'qvm/ended', '--timeout=60s']);
  await sleep(3_000);
  await before.stop();
  const was = { objects: await objects(), records: records(), processes: processes(), deeds: eyes.deeds() };
  expect(was.processes).toHaveLength(2);

  const epochBefore = epoch();
  const after = await startOperator(file.onFinished, file.cluster);
  await file.cluster.kubectl(['wait', '--for=condition=Ready', 'qhost/rack', 'qvm/calm', 'qvm/off', '--timeout=60s']);
  await until('it has taken the host over', epoch, (now) => now > epochBefore);
  await sleep(5_000);
  expect({ objects: await objects(), records: records(), processes: processes(), deeds: eyes.deeds() }).toEqual(was);
  expect(after.stderr).not.toContain('"msg":"acting"');
  // It is the one that drives them.
  await machines.edit('calm', { spec: { powerState: 'PoweredOff' } });
  await machines.until('calm', 'Stopped');
  expect(eyes.deeds().length).toBeGreaterThan(was.deeds.length);
  await after.stop();
});
