/** What of the service needs no systemd: the end of all guests by hand, and what is said where there is none. */
import { existsSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig } from './support/cli-rig.ts';
import { argvOf, qemusBelow } from './support/process.ts';
import { standIn } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

const UNTIL_MS = 60_000;
const manager = (rig: CliRig, state: string) => ({
  env: { PATH: standIn(rig.path('bin'), 'systemctl', `#!/bin/sh\necho ${state}\n`) },
});

test('stop-guests stops all machines in order without a controller, and they come back with start-guests', async () => {
  const rig = new CliRig(onTestFinished);
  for (const name of ['web-1', 'web-2']) await rig.ok(['apply', '-f', rig.manifest(name, { restartPolicy: 'Never' })]);
  await rig.ok(['apply', '-f', rig.manifest('held', {}, { annotations: {} })]);
  await rig.ok(['annotate', 'qvm', 'held', 'qemu-operator.dev/paused=true', '--wait']);
  expect(qemusBelow(rig.vmDir)).toHaveLength(3);

  // As the unit runs it when systemd only stops the unit.
  const on = await rig.ok(['service', 'stop-guests', '--if-shutting-down'], manager(rig, 'running'));
  expect([on.stdout, qemusBelow(rig.vmDir).length]).toEqual(['systemd is not shutting down: machines run on\n', 3]);

  const off = await rig.ok(
    ['service', 'stop-guests', '--if-shutting-down', '--timeout', '60s'],
    manager(rig, 'stopping'),
  );
  expect(off.stdout.split('\n').sort()).toEqual([
    '',
    'virtualmachine.qemu-operator.dev/web-1 stopped',
    'virtualmachine.qemu-operator.dev/web-2 stopped',
  ]);
  expect(off.stderr).toMatch(/held is left running: annotation/);
  expect(qemusBelow(rig.vmDir).map((pid) => argvOf(pid).join(' '))).toEqual([expect.stringContaining('/held/')]);
  const vm = JSON.parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'json'])).stdout);
  expect(vm.status).toMatchObject({ phase: 'Stopped', lastExit: { reason: 'HostShutdown' } });
  expect(vm.spec.powerState).toBeUndefined();

  // A controller that starts in the same boot leaves them off until it is told otherwise.
  await rig.controller(onTestFinished);
  await rig.ok(['annotate', 'qvm', 'held', 'qemu-operator.dev/paused-']);
  await until(
    'the last one is stopped too, now that it may be',
    () => qemusBelow(rig.vmDir),
    ({ length }) => length === 0,
    UNTIL_MS,
  );
  await rig.ok(['service', 'start-guests']);
  await until(
    'all run again',
    () => qemusBelow(rig.vmDir),
    ({ length }) => length === 3,
    UNTIL_MS,
  );
  expect((await rig.ok(['service', 'start-guests'])).stdout).toMatch(/^nothing keeps/);
});

test('the units are shown without being written; where systemd does not run the machine it is said', async () => {
  const rig = new CliRig(onTestFinished);
  const shown = await rig.ok(['service', 'install', '--dry-run']);
  expect(shown.stdout).toContain(`--store ${rig.store} run --log-format json`);
  if (!existsSync('/run/systemd/system')) {
    const refused = await rig.run(['service', 'install']);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('systemd does not run this machine')]);
    expect((await rig.run(['service', 'status'])).code).toBe(1);
  }
  expect(existsSync(rig.store)).toBe(false);
});
