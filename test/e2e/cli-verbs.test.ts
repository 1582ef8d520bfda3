/** The verbs as people type them, on real machines; QEMU, /proc and the files say what is so. */
import { existsSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig } from './support/cli-rig.ts';
import { writeDeafDisk } from './support/images.ts';
import { runState } from './support/oracle.ts';
import { qemusBelow } from './support/process.ts';
import { until } from './support/wait.ts';

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

test('beside a controller the verbs write and wait, apply does not wait, and get warns of nothing', async () => {
  const rig = rigOf();
  await rig.controller(onTestFinished);
  const applied = await rig.ok(['apply', '-f', rig.manifest('web-1')]);
  expect(applied.stderr).toBe('');
  expect((await rig.ok(['start', 'web-1'])).stderr).not.toMatch(/no controller/);
  expect(await runState(rig.folder('web-1'))).toBe('running');
  expect((await rig.ok(['get', 'qvm'])).stderr).toBe('');
  const { stdout } = await rig.ok(['apply', '--wait', '-f', rig.manifest('web-2')]);
  expect(stdout).toBe('virtualmachine.qemu-operator.dev/web-2 created\n');
  expect(await runState(rig.folder('web-2'))).toBe('running');
  const both = await rig.ok(['stop', 'web-1', 'web-2']);
  expect(both.stdout).toBe(`${WEB} stopped\nvirtualmachine.qemu-operator.dev/web-2 stopped\n`);
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  expect((await rig.ok(['delete', 'qvm', '--all'])).stdout.split('\n')).toHaveLength(3);
  expect(existsSync(rig.folder('web-1'))).toBe(false);
});

test('one wrong name and nothing is written; what cannot become so is told with its reason', async () => {
  const rig = rigOf();
  await rig.ok(['apply', '--wait=false', '-f', rig.manifest('web-1')]);
  const wrong = await rig.run(['start', 'web-1', 'web-9']);
  expect(wrong).toMatchObject({ code: 3, stdout: '' });
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  const nowhere = await rig.run(['apply', '-f', rig.manifest('lost', { hostName: 'attic' })]);
  expect(nowhere).toMatchObject({ code: 1, stderr: /lost: HostNotFound: Host attic does not exist/ });
  const gone = await rig.ok(['delete', 'qvm', 'lost']);
  expect(gone.stdout).toBe('virtualmachine.qemu-operator.dev "lost" deleted\n');
});

test('a guest that ignores the power button: the wait ends with code 5, and force ends the guest', async () => {
  const rig = rigOf();
  const path = writeDeafDisk(rig.path('images', 'no-power-button.raw'));
  const disks = [{ name: 'root', format: 'raw', path }];
  await rig.ok(['apply', '-f', rig.manifest('deaf', { disks, powerOff: { mode: 'Soft', gracePeriodSeconds: 1 } })]);
  const timed = await rig.run(['stop', 'deaf', '--timeout', '2500ms']);
  expect(timed.code).toBe(5);
  expect(timed.stderr).toMatch(/timed out waiting until virtualmachine\S+\/deaf is settled: \w+: /);
  expect(qemusBelow(rig.vmDir)).toHaveLength(1);
  await rig.ok(['stop', 'deaf', '--force']);
  expect(qemusBelow(rig.vmDir)).toEqual([]);
});

test('Ctrl-C ends the wait, not the change', async () => {
  const rig = rigOf();
  const path = writeDeafDisk(rig.path('images', 'no-power-button.raw'));
  await rig.controller(onTestFinished);
  await rig.ok([
    'apply',
    '--wait',
    '-f',
    rig.manifest('deaf', { disks: [{ name: 'root', format: 'raw', path }], powerOff: { gracePeriodSeconds: 4 } }),
  ]);
  const stop = rig.start(['stop', 'deaf']);
  await stop.says(/Stopping/);
  const ended = await stop.stop('SIGINT');
  expect(ended).toMatchObject({ code: 130, stdout: '', stderr: /interrupted: what was asked for stays asked for/ });
  await until(
    'the guest is switched off',
    () => qemusBelow(rig.vmDir),
    ({ length }) => length === 0,
  );
});

test('a machine that is being deleted takes no verb; a deletion that is held up ends with code 5 and its reason', async () => {
  const rig = rigOf();
  const created = rig.manifest('web-1', { disks: [{ name: 'root', size: '64Mi' }], powerOff: { mode: 'Hard' } });
  await rig.ok(['apply', '-f', created]);
  await rig.ok(['annotate', 'qvm', 'web-1', 'qemu-operator.dev/paused=true']);
  const held = await rig.run(['delete', 'qvm', 'web-1', '--timeout', '1s']);
  expect(held).toMatchObject({ code: 5, stdout: '', stderr: /is gone: PausedByOperator: / });
  expect(await rig.run(['start', 'web-1'])).toMatchObject({ code: 4, stderr: /is being deleted/ });
  expect(qemusBelow(rig.vmDir)).toHaveLength(1);
  await rig.ok(['annotate', 'qvm', 'web-1', 'qemu-operator.dev/paused-']);
  await rig.ok(['delete', 'qvm', 'web-1']);
  expect(existsSync(rig.folder('web-1'))).toBe(false);
});
