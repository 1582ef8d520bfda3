/** The verbs as people type them, on real machines; QEMU, /proc and the files say what is so. */
import { existsSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig } from './support/cli-rig.ts';
import { runState } from './support/oracle.ts';
import { qemusBelow } from './support/process.ts';

const rigOf = () => new CliRig(onTestFinished);
const WEB = 'virtualmachine.qemu-operator.dev/web-1';

test('apply, stop, start, restart and delete run the loop themselves where none runs, and say so', async () => {
  const rig = rigOf();
  const applied = await rig.ok(['apply', '-f', rig.manifest('web-1')]);
  expect(applied.stdout).toBe(`${WEB} created\n`);
  expect(applied.stderr).toMatch(/no controller runs on this store: running it here until web-1 is settled/);
  expect(applied.stderr).toMatch(/web-1: Running: the guest is running/);
  expect(await runState(rig.folder('web-1'))).toBe('running');
  const [first] = qemusBelow(rig.vmDir);

  expect((await rig.ok(['stop', 'web-1'])).stdout).toBe(`${WEB} stopped\n`);
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  expect((await rig.ok(['stop', 'web-1'])).stdout).toBe(`${WEB} already stopped\n`);

  expect((await rig.ok(['start', 'web-1'])).stdout).toBe(`${WEB} started\n`);
  const [second] = qemusBelow(rig.vmDir);
  expect(await runState(rig.folder('web-1'))).toBe('running');
  expect((await rig.ok(['start', 'web-1'])).stdout).toBe(`${WEB} already running\n`);
  expect(qemusBelow(rig.vmDir)).toEqual([second]);
  expect(second).not.toBe(first);

  expect((await rig.ok(['restart', 'qvm/web-1'])).stdout).toBe(`${WEB} restarted\n`);
  const [third] = qemusBelow(rig.vmDir);
  expect(third).not.toBe(second);

  const deleted = await rig.ok(['delete', 'qvm', 'web-1']);
  expect(deleted.stdout).toBe('virtualmachine.qemu-operator.dev "web-1" deleted\n');
  expect(deleted.stderr).toContain(`kept: ${rig.path('images', 'web-1.raw')}`);
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  expect(existsSync(rig.folder('web-1'))).toBe(false);
  expect(existsSync(rig.path('images', 'web-1.raw'))).toBe(true);
});
