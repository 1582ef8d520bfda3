/** Two API servers on one etcd, of which one lags behind: the past that it shows moves no machine. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { qemusBelow } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { clusterForFile } from './support/api.ts';
import { Machines } from './support/machines.ts';
import { startOperator } from './support/operator.ts';
import { Relay } from './support/relay.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';
import { type Witness, witness } from './support/witness.ts';

const NAMES = ['stopped', 'gone', 'anew'] as const;
/** For whoever would act on what it sees. */
const TEMPTATION_MS = 10_000;

let root: string;
let machines: Machines;
let eyes: Witness;
/** Of the second API server to etcd. */
let behind: Relay;
let second: number;
/** Of the operator to an API server. */
let way: Relay;
let kubeconfig: string;

const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  machines = new Machines(cluster);
  eyes = witness(join(root, 'bin'));
  const hostOf = await sshHosts(onFinished, cluster, root, eyes.path);
  behind = await Relay.start(onFinished, cluster.ports.etcd);
  second = await cluster.startSecondApiServer(behind.port);
  way = await Relay.start(onFinished, cluster.ports.api);
  const server = { server: `https://127.0.0.1:${way.port}`, 'certificate-authority': cluster.path('ca.crt') };
  kubeconfig = cluster.writeKubeconfig('way.kubeconfig', cluster.administrator, 'default', server);
  await cluster.apply(hostOf('rack', join(root, 'vms')));
});

function vm(name: string, powerState: 'PoweredOn' | 'PoweredOff' = 'PoweredOn') {
  const disks = [{ name: 'root', path: writeSparseTiny(join(root, `${name}.raw`)), format: 'raw' }];
  return smallVm(name, 'rack', { disks, powerState, restartPolicy: 'Always', powerOff: { mode: 'Hard' } });
}

const start = () => startOperator(file.onFinished, file.cluster, [], kubeconfig);
const startsSoFar = () => eyes.deeds().filter(({ what }) => what === 'start').length;

/** What the second API server remembers, without a word to etcd. */
async function past(): Promise<Record<string, string | undefined>> {
  const path = '/apis/qemu-operator.dev/v1alpha1/virtualmachines?resourceVersion=0';
  const server = `--server=https://127.0.0.1:${second}`;
  const { items } = JSON.parse(await file.cluster.kubectl([server, 'get', '--raw', path])) as {
    items: VirtualMachine[];
  };
  return Object.fromEntries(items.map(({ metadata, spec }) => [metadata.name, spec.powerState]));
}

test('an operator that comes to it waits until it has caught up, and acts on nothing of the past', {
  timeout: 240_000,
}, async () => {
  const first = await start();
  await file.cluster.apply(...NAMES.map((name) => vm(name)));
  for (const name of NAMES) await machines.running(name);

  behind.hold();
  await machines.edit('stopped', { spec: { powerState: 'PoweredOff' } });
  await file.cluster.kubectl(['delete', 'qvm', 'gone', 'anew', '--timeout=60s']);
  await file.cluster.apply(vm('anew', 'PoweredOff'));
  for (const name of ['stopped', 'anew']) await machines.until(name, 'Stopped');
  expect(await past()).toEqual({ stopped: 'PoweredOn', gone: 'PoweredOn', anew: 'PoweredOn' });
  way.turnTo(second);
  await sleep(TEMPTATION_MS);
  expect([qemusBelow(root), startsSoFar()]).toEqual([[], NAMES.length]);
  expect(existsSync(join(root, 'vms', 'gone'))).toBe(false);
  behind.release();
  await machines.edit('stopped', { spec: { powerState: 'PoweredOn' } });
  const pid = await machines.running('stopped');
  expect([qemusBelow(root), startsSoFar()]).toEqual([[pid], NAMES.length + 1]);

  // One that knows nothing yet, and is shown a machine that is to be started.
  await first.stop('SIGKILL');
  behind.hold();
  await machines.edit('stopped', { spec: { powerState: 'PoweredOff' } });
  process.kill(pid, 'SIGKILL');
  const starting = start();
  await sleep(TEMPTATION_MS);
  expect((await past())['stopped']).toBe('PoweredOn');
  expect([qemusBelow(root), startsSoFar()]).toEqual([[], NAMES.length + 1]);
  behind.release();
  const operator = await starting;
  await machines.until('stopped', 'Stopped');
  await machines.edit('anew', { spec: { powerState: 'PoweredOn' } });
  await machines.running('anew');
  expect(startsSoFar()).toBe(NAMES.length + 2);
  await operator.stop();
});
