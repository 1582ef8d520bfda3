/** What happens to machines, as kubectl shows it. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { kill } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { startOperator } from './support/operator.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';

let root: string;
let hostOf: Awaited<ReturnType<typeof sshHosts>>;
const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  hostOf = await sshHosts(onFinished, cluster, root);
  await startOperator(onFinished, cluster);
  // A second one tells nothing of what the first one drives.
  await startOperator(onFinished, cluster);
});

interface Event {
  readonly type: string;
  readonly reason: string;
  readonly note?: string;
  readonly message?: string;
  readonly reportingComponent: string;
}

async function eventsOf(kind: string, name: string): Promise<Event[]> {
  const selector = `--field-selector=involvedObject.kind=${kind},involvedObject.name=${name}`;
  const { items } = JSON.parse(await file.cluster.kubectl(['get', 'events', selector, '-o', 'json'])) as {
    items: Event[];
  };
  return items;
}

test('a life is told once, trouble as a warning, and what was before an operator started is no news', async () => {
  const { cluster } = file;
  const disks = [{ name: 'root', path: writeSparseTiny(join(root, 'web.raw')), format: 'raw' }];
  const vm = smallVm('web', 'rack', { disks, restartPolicy: 'Never' });
  await cluster.apply(hostOf('rack', join(root, 'vms')), vm);
  await cluster.kubectl(['wait', '--for=condition=Ready', 'qvm/web', '--timeout=60s']);
  const started = await until(
    'it is told that it runs',
    () => eventsOf('VirtualMachine', 'web'),
    (events) => events.some(({ reason }) => reason === 'Running'),
  );
  expect(started.every(({ type }) => type === 'Normal')).toBe(true);
  const { status } = JSON.parse(await cluster.kubectl(['get', 'qvm', 'web', '-o', 'json'])) as VirtualMachine;
  kill(status?.pid ?? 0, 'SIGKILL');
  const ended = await until(
    'its end is told',
    () => eventsOf('VirtualMachine', 'web'),
    (events) => events.some(({ reason }) => reason === 'Crashed'),
  );
  expect(ended.find(({ reason }) => reason === 'Crashed')?.type).toBe('Warning');
  // Each line of the history once, by whichever replica drives the Host.
  const lines = ended.map(({ reason, message, note }) => `${reason} ${message ?? note}`);
  expect(new Set(lines).size).toBe(lines.length);
  expect(await cluster.kubectl(['describe', 'qvm', 'web'])).toMatch(/Events:\n(.*\n)+ +Warning +Crashed/);
  expect((await eventsOf('Host', 'rack')).map(({ reason }) => reason)).toContain('Ready');

  const before = lines.length;
  await startOperator(file.onFinished, cluster);
  await cluster.kubectl(['annotate', 'qvm', 'web', 'qemu-operator.dev/look-requested-at=now']);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(await eventsOf('VirtualMachine', 'web')).toHaveLength(before);
});
