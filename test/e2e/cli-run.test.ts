/** The controller as a process: machines live on without it, and a second one takes over. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig } from './support/cli-rig.ts';
import { runState } from './support/oracle.ts';
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

test('commands at once and no controller: each ends when its own machine runs, whoever had the loop', async () => {
  const rig = new CliRig(onTestFinished);
  const names = ['web-1', 'web-2', 'web-3', 'web-4'];
  const ended = await Promise.all(names.map((name) => rig.run(['apply', '-f', rig.manifest(name)])));
  expect(ended.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  for (const name of names) expect(await runState(rig.folder(name))).toBe('running');
  for (const [i, { stderr }] of ended.entries()) {
    expect(stderr).toMatch(/running it here until|another command runs the loop/);
    expect(stderr).toContain(`${names[i]}: Running: `);
  }
  expect(existsSync(`${rig.store}/.state/controller.json`)).toBe(false);
  // What a controller left that was killed is not believed.
  const service = await rig.controller(onTestFinished);
  const note = `${rig.store}/.state/controller.json`;
  expect(JSON.parse(readFileSync(note, 'utf8'))).toMatchObject({ kind: 'run' });
  expect(statSync(note).mode & 0o777).toBe(0o600);
  await service.stop('SIGKILL');
  const { stderr } = await rig.ok(['apply', '-f', rig.manifest('web-1', { vcpus: 1 })]);
  expect(stderr).toMatch(/no controller runs on this store: running it here/);
});

test('a manifest that is broken while the controller runs is told there, and told when it is mended', async () => {
  const rig = new CliRig(onTestFinished);
  const running = await rig.controller(onTestFinished);
  writeFileSync(`${rig.store}/broken.yaml`, 'kind: [');
  await running.says(/"source":"broken.yaml".*"msg":"a file cannot be used"/);
  writeFileSync(`${rig.store}/broken.yaml`, '');
  await running.says(/"msg":"no longer so: a file cannot be used"/);
});

test('a damaged row of the store is told, the controller stays, and goes on once the row is mended', async () => {
  const rig = new CliRig(onTestFinished);
  const controller = await rig.controller(onTestFinished);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  const pids = qemusBelow(rig.vmDir);
  const database = new DatabaseSync(join(rig.store, '.state', 'store.db'), { timeout: 5_000 });
  onTestFinished(() => database.close());
  const where = "kind = 'VirtualMachine' AND name = 'web-1'";
  const { json } = database.prepare(`SELECT json FROM objects WHERE ${where}`).get() as { json: string };
  const write = database.prepare(`UPDATE objects SET json = ? WHERE ${where}`);
  write.run(json.replace('"vcpus":1', '"vcpus":7'));
  await controller.says(/the store cannot be read; virtual machines live on/);
  expect([controller.child.exitCode, qemusBelow(rig.vmDir)]).toEqual([null, pids]);
  write.run(json);
  await controller.says(/the store can be read again/);
  expect((await rig.ok(['get', 'qvm', 'web-1'])).stdout).toContain('Running');
  expect(qemusBelow(rig.vmDir)).toEqual(pids);
});

test('annotate --wait ends when the running controller has taken the annotation in', async () => {
  const rig = new CliRig(onTestFinished);
  await rig.controller(onTestFinished);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  const paused = async () => {
    const { status } = JSON.parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'json'])).stdout);
    return status.conditions.some(({ type }: { type: string }) => type === 'ReconcilePaused');
  };
  for (let round = 0; round < 3; round += 1) {
    await rig.ok(['annotate', 'qvm', 'web-1', 'qemu-operator.dev/paused=true', '--wait']);
    expect(await paused()).toBe(true);
    await rig.ok(['annotate', 'qvm', 'web-1', 'qemu-operator.dev/paused-', '--wait']);
    expect(await paused()).toBe(false);
  }
});
