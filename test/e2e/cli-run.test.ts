/** The controller as a process: machines live on without it, and a second one takes over. */
import { expect, onTestFinished, test } from 'vitest';
import { CliRig } from './support/cli-rig.ts';
import { kill, qemusBelow } from './support/process.ts';
import { until } from './support/wait.ts';

const MOST_MS = 2_000;

test('machines live on when it ends, and are started again when it is back', async () => {
  const rig = new CliRig(onTestFinished);
  const first = await rig.controller(onTestFinished);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  const [pid = 0] = qemusBelow(rig.vmDir);
  const ended = await first.stop('SIGTERM');
  expect(ended.code).toBe(0);
  const lines = ended.stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.map(({ msg }) => msg)).toContain('controller started');
  expect(lines.at(-1)).toMatchObject({ msg: 'controller ends; virtual machines live on' });
  expect(qemusBelow(rig.vmDir)).toEqual([pid]);

  kill(pid, 'SIGKILL');
  await until(
    'QEMU ends',
    () => qemusBelow(rig.vmDir),
    ({ length }) => length === 0,
  );
  await rig.controller(onTestFinished);
  const [again] = await until(
    'it is started again',
    () => qemusBelow(rig.vmDir),
    ({ length }) => length === 1,
  );
  expect(again).not.toBe(pid);
});

test('a second one stands by, says so, and acts within 2 s of a sudden death of the first', async () => {
  const rig = new CliRig(onTestFinished);
  const first = await rig.controller(onTestFinished);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  const second = rig.start(['run']);
  onTestFinished(async () => void (await second.stop()));
  await second.says(/standing by/);
  expect(second.stderr).not.toMatch(/controller started/);
  const [pid] = qemusBelow(rig.vmDir);
  await first.stop('SIGKILL');
  const died = performance.now();
  await second.says(/controller started/);
  expect(performance.now() - died).toBeLessThan(MOST_MS);
  // It drives: what is killed comes again.
  kill(pid ?? 0, 'SIGKILL');
  await until(
    'another process runs',
    () => qemusBelow(rig.vmDir),
    ([again]) => again !== undefined && again !== pid,
  );
});

test('a verb that waits takes over when the controller it waited for ends', async () => {
  const rig = new CliRig(onTestFinished);
  const first = await rig.controller(onTestFinished);
  await rig.ok([
    'apply',
    '--wait',
    '-f',
    rig.manifest('web-1', { powerOff: { mode: 'TrySoft', gracePeriodSeconds: 20 } }),
  ]);
  await first.stop('SIGKILL');
  // Two verbs at once: one of them has the loop and ends first.
  await rig.ok(['apply', '--wait=false', '-f', rig.manifest('web-2')]);
  const [one, two] = await Promise.all([rig.run(['restart', 'web-1']), rig.run(['start', 'web-2'])]);
  expect([one.code, two.code]).toEqual([0, 0]);
  expect(qemusBelow(rig.vmDir)).toHaveLength(2);
});
