/** docs/operations/gitops.md: the health script for Argo CD, run by Lua on objects as the API server has them. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { startOperator } from './support/operator.ts';
import { smallVm } from './support/ssh-hosts.ts';

const PAGE = join(import.meta.dirname, '..', '..', 'docs', 'operations', 'gitops.md');
const SCRIPT = /```lua\n([\s\S]*?)```/.exec(readFileSync(PAGE, 'utf8'))?.[1] ?? '';

const api = clusterForFile();

/** A table constructor of Lua. */
function lua(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(lua).join(',')}}`;
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value).map(([key, one]) => `[${JSON.stringify(key)}]=${lua(one)}`)}}`;
  }
  return value === null ? 'nil' : JSON.stringify(value);
}

function healthOf(object: unknown): [string | undefined, string | undefined] {
  const program = `local obj = ${lua(object)}
    local health = (function() ${SCRIPT} end)()
    io.write(health.status, "\\n", health.message)`;
  const [status, message] = execFileSync('lua5.1', ['-'], { input: program, encoding: 'utf8' }).split('\n');
  return [status, message];
}

test('Argo CD is told how a machine is', async ({ onTestFinished }) => {
  const root = testFolder(onTestFinished);
  const [here, web, lost] = [
    { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'Host', metadata: { name: 'here' } },
    smallVm('web', 'here', { disks: [{ name: 'root', path: writeSparseTiny(join(root, 'web.raw')), format: 'raw' }] }),
    smallVm('lost', 'here', { disks: [{ name: 'root', path: '/elsewhere/root.raw', format: 'raw' }] }),
  ];
  const host = { ...here, spec: { local: {}, vmDir: join(root, 'vms'), allowedPaths: [root] } };
  await api.cluster.apply(host, web, lost);
  const healthNow = async (what: string) =>
    healthOf(JSON.parse(await api.cluster.kubectl(['get', what, '-o', 'json'])));
  const ready = (what: string, status = 'True') =>
    api.cluster.kubectl(['wait', `--for=condition=Ready=${status}`, what, '--timeout=60s']);
  const change = (spec: object) =>
    api.cluster.kubectl(['patch', 'qvm', 'web', '--type=merge', '-p', JSON.stringify({ spec })]);

  expect(await healthNow('qvm/web')).toEqual(['Progressing', 'the operator has not answered yet']);
  const operator = await startOperator(onTestFinished, api.cluster, ['--allow-local-host']);
  await ready('qvm/web');
  expect(await healthNow('qvm/web')).toEqual(['Healthy', 'the guest is running']);
  expect(await healthNow('qhost/here')).toEqual(['Healthy', expect.any(String)]);
  await ready('qvm/lost', 'False');
  expect(await healthNow('qvm/lost')).toEqual(['Degraded', expect.stringContaining('/elsewhere/root.raw')]);

  await change({ powerState: 'PoweredOff' });
  await api.cluster.kubectl(['wait', '--for=condition=Running=false', 'qvm/web', '--timeout=60s']);
  await ready('qvm/web');
  expect(await healthNow('qvm/web')).toEqual(['Healthy', 'the VM is stopped, as powerState wants']);

  await api.cluster.kubectl(['annotate', 'qvm', 'web', 'qemu-operator.dev/paused=']);
  await api.cluster.kubectl(['wait', '--for=condition=ReconcilePaused', 'qvm/web', '--timeout=60s']);
  expect((await healthNow('qvm/web'))[0]).toBe('Suspended');
  await api.cluster.kubectl(['annotate', 'qvm', 'web', 'qemu-operator.dev/paused-']);
  await until(
    'it is driven again',
    () => healthNow('qvm/web'),
    ([status]) => status === 'Healthy',
  );

  await operator.stop('SIGTERM');
  await change({ powerState: 'PoweredOn' });
  expect((await healthNow('qvm/web'))[0]).toBe('Progressing');
  await api.cluster.kubectl(['delete', 'qvm', 'web', '--wait=false']);
  const going = JSON.parse(await api.cluster.kubectl(['get', 'qvm/web', '-o', 'json'])) as VirtualMachine;
  expect(healthOf(going)).toEqual(['Progressing', 'it is being deleted']);
});
