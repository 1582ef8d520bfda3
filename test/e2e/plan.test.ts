/** What a plan foretells is what happens: on real machines, judged by pids, QMP and the files. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import type { InvalidObjectError } from '../../src/api/errors.ts';
import type { ForeseenChange, ProcessFate } from '../../src/api/foreseen.ts';
import { planObject } from '../../src/reconcile/plan.ts';
import { CliRig } from './support/cli-rig.ts';
import { writeTinyQcow2 } from './support/images.ts';
import { guestDiskBytes, qmp } from './support/oracle.ts';
import { argumentOf, isAlive, qemusBelow } from './support/process.ts';
import { Rig, readyOf } from './support/rig.ts';

const MIB = 1_048_576;

interface Step {
  readonly spec: Readonly<Record<string, unknown>>;
  readonly process: ProcessFate | 'refused';
  /** Path and effect of each change. */
  readonly changes?: readonly (readonly [string, ForeseenChange['effect']])[];
  readonly waiting?: readonly string[];
  /** What the host must show afterwards. */
  readonly shows?: (rig: Rig, pid: number) => Promise<void>;
}

const disk = (path: string, more: object = {}) => [{ name: 'root', format: 'qcow2', path, ...more }];

test('each change of a running machine does what the plan said', async () => {
  const rig = await Rig.start(onTestFinished);
  const image = writeTinyQcow2(rig.path('images', 'web.qcow2'));
  await rig.create('web', { disks: disk(image) });
  let pid = await rig.untilRunning('web');
  const smp = (cpus: number) => async (_rig: Rig, now: number) => expect(argumentOf(now, '-smp')).toBe(`cpus=${cpus}`);
  const steps: readonly Step[] = [
    { spec: { powerOff: { gracePeriodSeconds: 5 } }, process: 'kept' },
    { spec: { restartPolicy: 'Always' }, process: 'kept' },
    { spec: { memory: '48Mi' }, process: 'kept', changes: [['spec.memory', 'restart']], waiting: ['spec.memory'] },
    { spec: { vcpus: 2 }, process: 'kept', waiting: ['spec.memory', 'spec.vcpus'], shows: smp(1) },
    { spec: { vcpus: 1 }, process: 'kept', changes: [['spec.vcpus', 'live']], waiting: ['spec.memory'] },
    { spec: { memory: '32768Ki' }, process: 'kept', changes: [['spec.memory', 'live']], waiting: [] },
    {
      spec: { disks: disk(image, { size: '8Mi' }) },
      process: 'kept',
      changes: [['spec.disks[root].size', 'live']],
      shows: async () => expect(await guestDiskBytes(rig.folder('web'), image)).toBe(8 * MIB),
    },
    { spec: { disks: disk(image, { size: '4Mi' }) }, process: 'refused' },
    { spec: { disks: disk(`${image}.other`) }, process: 'refused' },
    { spec: { architecture: 'arm64' }, process: 'refused' },
    { spec: { vcpus: 0 }, process: 'refused' },
    {
      spec: { disks: disk(image, { size: '8Mi', reclaimPolicy: 'Retain' }) },
      process: 'kept',
      changes: [['spec.disks[root].reclaimPolicy', 'live']],
    },
    {
      spec: { networks: [{ name: 'lan', user: {} }] },
      process: 'kept',
      changes: [['spec.networks[lan]', 'restart']],
      waiting: ['spec.networks[lan]'],
    },
    {
      spec: { updateStrategy: { type: 'Restart' } },
      process: 'restarted',
      changes: [['spec.updateStrategy.type', 'restart']],
    },
    { spec: { vcpus: 2 }, process: 'restarted', changes: [['spec.vcpus', 'restart']], shows: smp(2) },
    { spec: { graphics: {} }, process: 'kept', waiting: [] },
    { spec: { restartedAt: 'once' }, process: 'restarted' },
    { spec: { powerState: 'PoweredOff' }, process: 'stopped', changes: [['spec.powerState', 'stop']] },
    { spec: { vcpus: 1, memory: '40Mi' }, process: 'none' },
    {
      spec: { disks: disk(image, { size: '9Mi', reclaimPolicy: 'Retain' }) },
      process: 'none',
      changes: [['spec.disks[root].size', 'live']],
    },
    { spec: { powerState: 'PoweredOn' }, process: 'started', changes: [['spec.powerState', 'start']], shows: smp(1) },
  ];
  for (const step of steps) pid = await walk(rig, step, pid);
}, 240_000);

/** Foretells, does it, and compares. Returns the pid, or the one before where there is none. */
async function walk(rig: Rig, { spec, process, changes, waiting, shows }: Step, pid: number): Promise<number> {
  const ref = { namespace: 'default', name: 'web' };
  const words = JSON.stringify(spec);
  const old = await rig.vm('web');
  const launches = () => rig.actions('web').filter((type) => type === 'launch').length;
  const before = launches();
  const attempt = await rig.store
    .patch('VirtualMachine', ref, { spec }, { dryRun: true })
    .catch((error: unknown) => error);
  if (process === 'refused') {
    expect((attempt as InvalidObjectError).issues?.length, words).toBeGreaterThan(0);
    await expect(rig.edit('web', spec), words).rejects.toThrow((attempt as Error).message);
    return pid;
  }
  const plan = planObject(old, attempt as typeof old, await rig.host());
  expect(await rig.vm('web'), `${words} is only rehearsed`).toEqual(old);
  expect(plan.process, words).toBe(process);
  if (changes !== undefined)
    expect(
      plan.changes.map(({ path, effect }) => [path, effect]),
      words,
    ).toEqual(changes);
  if (waiting !== undefined) expect([...plan.waiting].sort(), words).toEqual([...waiting].sort());
  await rig.edit('web', spec);
  const off = process === 'stopped' || process === 'none';
  const moved = process === 'restarted' || process === 'started';
  const vm = await rig.until('web', words, (seen) => {
    if (readyOf(seen)?.status !== 'True') return false;
    if (off) return readyOf(seen)?.reason === 'Stopped';
    return readyOf(seen)?.reason === 'Running' && (seen.status?.pid !== pid) === moved;
  });
  await rig.anotherLook();
  const now = (await rig.vm('web')).status?.pid;
  expect(launches() - before, `${words}: launches`).toBe(moved ? 1 : 0);
  expect(now, words).toBe(off ? undefined : moved ? vm.status?.pid : pid);
  expect(isAlive(pid), `${words}: the process before`).toBe(process === 'kept');
  const pending = ((await rig.vm('web')).status?.pendingChanges ?? []).map(({ path }) => path);
  expect(pending.sort(), `${words}: what waits`).toEqual([...plan.waiting].sort());
  await shows?.(rig, now ?? 0);
  return now ?? pid;
}

test('updateStrategy Restart: a change restarts the guest by itself, in order and once', async () => {
  const rig = await Rig.start(onTestFinished);
  await rig.create('web', { updateStrategy: { type: 'Restart' } });
  const first = await rig.untilRunning('web');
  const since = rig.actions('web').length;
  await rig.edit('web', { vcpus: 2 });
  const second = await rig.untilRestarted('web', first);
  expect(await qmp<unknown[]>(rig.folder('web'), 'query-cpus-fast')).toHaveLength(2);
  await rig.anotherLook();
  const vm = await rig.vm('web');
  expect(vm.status?.pid).toBe(second);
  const taken = rig.actions('web').slice(since);
  // The guest was asked and followed: QEMU was neither quit nor killed.
  expect(taken.filter((type) => type === 'launch')).toHaveLength(1);
  const stops = rig.events.flatMap((event) =>
    event.type === 'action' && event.action.type === 'stop' ? [event.action.step] : [],
  );
  expect(new Set(stops)).toEqual(new Set(['powerdown']));
  expect(vm.status?.pendingChanges).toBeUndefined();
  expect(vm.status?.conditions?.find(({ type }) => type === 'RestartRequired')).toBeUndefined();
  expect(vm.status?.history?.map(({ message }) => message).join('\n')).toContain(
    'restarting for the change of spec.vcpus (updateStrategy Restart)',
  );
});

test('OnRestart: the change waits, says so, and is taken up by the next restart', async () => {
  const rig = await Rig.start(onTestFinished);
  await rig.create('web');
  const pid = await rig.untilRunning('web');
  await rig.edit('web', { vcpus: 2 });
  const waits = await rig.until('web', 'it waits', ({ status }) => status?.pendingChanges !== undefined);
  expect(waits.status?.pendingChanges).toEqual([{ path: 'spec.vcpus', from: '1', to: '2' }]);
  expect(readyOf(waits)).toMatchObject({ status: 'True', reason: 'Running' });
  expect(waits.status?.conditions).toContainEqual(
    expect.objectContaining({ type: 'RestartRequired', status: 'True', reason: 'PendingChanges' }),
  );
  // A reset of the guest is no other process.
  await qmp(rig.folder('web'), 'system_reset');
  await rig.anotherLook();
  expect((await rig.vm('web')).status).toMatchObject({ pid, pendingChanges: [{ path: 'spec.vcpus' }] });
  await rig.edit('web', { restartedAt: 'now' });
  await rig.untilRestarted('web', pid);
  expect((await rig.vm('web')).status?.pendingChanges).toBeUndefined();
});

test('plan -f: what is new, what changes and how, and nothing is written', async () => {
  const rig = new CliRig(onTestFinished);
  await rig.controller(onTestFinished);
  const path = rig.manifest('web');
  const fresh = await rig.run(['plan', '-f', path]);
  expect(fresh).toMatchObject({ code: 7, stderr: '' });
  expect(fresh.stdout).toMatch(/^virtualmachine.qemu-operator.dev\/web will be created; it is started$/m);
  expect(fresh.stdout).toMatch(/^ {2}\+ spec.vcpus: 1$/m);
  expect(existsSync(`${rig.store}/default/web.yaml`)).toBe(false);
  expect(await rig.run(['get', 'qvm', 'web'])).toMatchObject({ code: 3 });

  await rig.ok(['apply', '-f', path, '--wait']);
  expect(await rig.run(['plan', '-f', path])).toMatchObject({ code: 0, stderr: '' });

  const document = JSON.parse(readFileSync(path, 'utf8')) as { spec: object };
  const changed = JSON.stringify({ ...document, spec: { ...document.spec, vcpus: 2, restartPolicy: 'Never' } });
  const plan = await rig.run(['plan', '-f', '-'], { input: changed });
  expect(plan).toMatchObject({ code: 7, stderr: '' });
  expect(plan.stdout).toMatch(/ spec.vcpus: 1 -> 2 +restart +needs another QEMU process: waits for the next restart/);
  expect(plan.stdout).toMatch(/ spec.restartPolicy: OnFailure -> Never +live +used when/);
  expect(plan.stdout).toMatch(/will be changed; its QEMU process is kept/);
  const json = await rig.run(['plan', '-f', '-', '-o', 'json'], { input: changed });
  expect(JSON.parse(json.stdout)).toMatchObject({
    plans: [{ name: 'web', outcome: 'change', process: 'kept', waitingForRestart: ['spec.vcpus'] }],
    summary: { create: 0, change: 1, unchanged: 0, refused: 0, restarts: 0, waiting: 1 },
  });
  const other = JSON.stringify({ ...document, spec: { ...document.spec, architecture: 'arm64' } });
  const refused = await rig.run(['plan', '-f', '-'], { input: other });
  expect(refused.code).toBe(1);
  expect(refused.stdout).toMatch(/spec.architecture: "arm64" +refused +is immutable; it is "x86_64"/);
  expect(await rig.run(['plan', '-f', '-'], { input: 'kind: Nonsense' })).toMatchObject({ code: 1 });
  expect(await rig.run(['plan'])).toMatchObject({ code: 2 });
  expect(qemusBelow(rig.vmDir)).toHaveLength(1);
  expect(JSON.parse((await rig.ok(['get', 'qvm', 'web', '-o', 'json'])).stdout)).toMatchObject({ spec: { vcpus: 1 } });
});
