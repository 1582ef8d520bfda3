import { timer } from 'rxjs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { parseManifest } from '../../src/api/admission.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { recordText } from '../../src/reconcile/record.ts';
import { hostDocument } from '../fakes/manifests.ts';
import { folderOf, Simulation, VM_DIR } from '../fakes/simulation.ts';
import { someRecord } from '../fakes/subjects.ts';

const DISK = { name: 'root', size: '1Gi' };
const running: Simulation[] = [];

async function started(spec: Readonly<Record<string, unknown>> = {}): Promise<Simulation> {
  const simulation = await Simulation.withHost(spec);
  running.push(simulation);
  simulation.startController();
  return simulation;
}

afterEach(async () => {
  for (const simulation of running.splice(0)) await simulation.end();
});

const actions = (simulation: Simulation) =>
  simulation.events.flatMap((event) => (event.type === 'action' ? [event.action.type] : []));

test('a new VM is provisioned step by step and launched', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  expect(actions(simulation)).toEqual(['add-finalizer', 'claim-folder', 'note-provisioned', 'create-disk', 'launch']);
  expect((await simulation.vm())?.status?.conditions?.find(({ type }) => type === 'Ready')).toMatchObject({
    status: 'True',
  });
});

test('a VM at rest writes nothing and does nothing for ten resyncs', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(65_000);
  const [revision, done] = [await simulation.revision(), simulation.journal.length];
  await simulation.pass(600_000);
  expect([await simulation.revision(), simulation.journal.length]).toEqual([revision, done]);
});

test('stop, start, delete', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  await simulation.edit({ spec: { powerState: 'PoweredOff' } });
  await simulation.pass(20_000);
  expect((await simulation.vm())?.status).toMatchObject({ phase: 'Stopped', lastExit: { reason: 'StoppedByRequest' } });
  await simulation.edit({ spec: { powerState: 'PoweredOn' } });
  await simulation.pass(5_000);
  expect((await simulation.vm())?.status?.phase).toBe('Running');
  await simulation.remove();
  await simulation.pass(20_000);
  expect(await simulation.vm()).toBeUndefined();
  expect([...simulation.world.files.keys(), ...simulation.world.folders.keys()]).toEqual([]);
});

test('what was decided on an outdated object is not done', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK], restartPolicy: 'Never' });
  await simulation.pass(5_000);
  const { store, world } = simulation;
  const outdated = { ...(await store.list('VirtualMachine')) };
  await simulation.edit({ spec: { restartedAt: 'again' } });
  await simulation.pass(20_000);
  vi.spyOn(store, 'list').mockResolvedValueOnce(outdated as never);
  simulation.wake();
  await simulation.pass(20_000);
  // The older spec has another nonce: to it, the VM still has to be restarted.
  expect([world.starts, simulation.count('stop')]).toEqual([2, 1]);
});

test('a guest that powers itself off stays off; start starts it', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  const process = simulation.world.processIn(folderOf());
  if (process !== undefined) simulation.world.end(process, 'powerdown');
  await simulation.pass(60_000);
  expect((await simulation.vm())?.status).toMatchObject({ phase: 'Stopped', lastExit: { reason: 'GuestPoweredOff' } });
  await simulation.edit({ spec: { restartedAt: 'now' } });
  await simulation.pass(60_000);
  expect((await simulation.vm())?.status?.phase).toBe('Running');
});

const ready = async (simulation: Simulation, name?: string) =>
  (await simulation.vm(name))?.status?.conditions?.find(({ type }) => type === 'Ready');

describe('what cannot be seen', () => {
  test('is unknown, nothing is done, and all is well again by itself', async () => {
    const simulation = await started();
    await simulation.createVm({ disks: [DISK] });
    await simulation.pass(5_000);
    simulation.world.reachable = false;
    await simulation.edit({ spec: { powerState: 'PoweredOff' } });
    const done = simulation.journal.length;
    await simulation.pass(120_000);
    expect(simulation.journal.length).toBe(done);
    expect(await ready(simulation)).toMatchObject({
      status: 'Unknown',
      reason: 'HostUnreachable',
      observedGeneration: 2,
    });
    simulation.world.reachable = true;
    await simulation.pass(40_000);
    expect(await ready(simulation)).toMatchObject({ status: 'True', reason: 'Stopped' });
  });

  test('a file system that is not mounted is no absence', async () => {
    const simulation = await started();
    await simulation.createVm({ disks: [DISK] });
    await simulation.pass(5_000);
    const vmDir = simulation.world.vmDirs.get(VM_DIR);
    if (vmDir !== undefined) vmDir.mounted = false;
    simulation.wake();
    await simulation.pass(60_000);
    expect(await ready(simulation)).toMatchObject({ status: 'Unknown', reason: 'VMDirMissing' });
    if (vmDir !== undefined) vmDir.mounted = true;
    await simulation.pass(60_000);
    expect(await ready(simulation)).toMatchObject({ status: 'True' });
    expect([simulation.world.made.length, simulation.world.violations]).toEqual([1, []]);
  });

  test('a deletion waits and names orphan, which lets the object go', async () => {
    const simulation = await started();
    await simulation.createVm({ disks: [DISK] });
    await simulation.pass(5_000);
    simulation.world.reachable = false;
    await simulation.remove();
    await simulation.pass(10_000);
    const blocked = (await simulation.vm())?.status?.conditions?.find(({ type }) => type === 'DeletionBlocked');
    expect(blocked).toMatchObject({ reason: 'HostUnreachable', message: expect.stringContaining('/orphan') });
    await simulation.annotate('orphan', '');
    await simulation.pass(10_000);
    expect(await simulation.vm()).toBeUndefined();
    expect(simulation.world.processIn(folderOf())).toBeDefined();
  });
});

describe('a controller that begins anew', () => {
  test('finds what runs and does nothing', async () => {
    const simulation = await started();
    await simulation.createVm({ disks: [DISK] });
    await simulation.pass(5_000);
    const done = simulation.journal.length;
    simulation.crash();
    simulation.startController();
    await simulation.pass(120_000);
    expect(simulation.journal.length).toBe(done);
  });

  test('claims nothing on a paused Host, yet tells what it sees there', async () => {
    const simulation = await started();
    await simulation.createVm({ disks: [DISK] });
    await simulation.pass(5_000);
    simulation.crash();
    await simulation.store.patch(
      'Host',
      { name: 'localhost' },
      { metadata: { annotations: { 'qemu-operator.dev/paused': '' } } },
    );
    const marker = simulation.world.vmDirs.get(VM_DIR)?.marker;
    simulation.startController();
    await simulation.edit({ spec: { powerState: 'PoweredOff' } });
    await simulation.pass(65_000);
    expect(simulation.world.vmDirs.get(VM_DIR)?.marker).toBe(marker);
    expect(await ready(simulation)).toMatchObject({ status: 'Unknown', reason: 'PausedByOperator' });
    expect((await simulation.vm())?.status?.pid).toBeDefined();
  });

  test('notes again that the vmDir is claimed, where a person has accepted another machine', async () => {
    const simulation = await started();
    await simulation.pass(1_000);
    simulation.world.machineID = 'machine-2';
    simulation.wake();
    await simulation.pass(1_000);
    expect((await simulation.host()).status?.conditions?.[0]).toMatchObject({
      status: 'False',
      reason: 'DifferentMachine',
    });
    const claimed = 'qemu-operator.dev/claimed';
    await simulation.store.patch('Host', { name: 'localhost' }, { metadata: { annotations: { [claimed]: null } } });
    simulation.wake();
    await simulation.pass(1_000);
    expect((await simulation.host()).metadata.annotations?.[claimed]).toBe('machine-2');
    expect((await simulation.host()).status?.conditions?.[0]).toMatchObject({ status: 'True' });
  });
});

test('a re-created object adopts what runs: same process, same disks, even with another nonce', async () => {
  const simulation = await started();
  const before = await simulation.createVm({ disks: [DISK], restartedAt: 'a' });
  await simulation.pass(5_000);
  const process = simulation.world.processIn(folderOf());
  await simulation.annotate('orphan', '');
  await simulation.remove();
  await simulation.pass(5_000);
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  expect(await ready(simulation)).toMatchObject({ reason: 'NameConflict' });
  await simulation.annotate('adopt', before.metadata.uid);
  await simulation.pass(30_000);
  expect(await ready(simulation)).toMatchObject({ status: 'True', reason: 'Running' });
  expect(simulation.world.processIn(folderOf())).toBe(process);
  expect((await simulation.vm())?.metadata.annotations).not.toHaveProperty('qemu-operator.dev/adopt');
  expect([simulation.world.starts, simulation.world.made.length]).toEqual([1, 1]);
});

test('the younger of two objects with one name touches nothing, nor does its deletion', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  await simulation.createVm({ vmName: 'web-1' }, { name: 'second' });
  await simulation.pass(5_000);
  expect(await ready(simulation, 'second')).toMatchObject({ status: 'False', reason: 'NameConflict' });
  await simulation.remove('second');
  await simulation.pass(5_000);
  expect(await simulation.vm('second')).toBeUndefined();
  expect(simulation.world.processIn(folderOf())).toBeDefined();
});

test('after a reboot of the host at most four launches are under way at once', async () => {
  const simulation = await Simulation.withHost();
  running.push(simulation);
  let launching = 0;
  let most = 0;
  const pause = async (what: string) => {
    if (what !== 'launch') return;
    launching += 1;
    most = Math.max(most, launching);
    await new Promise((resolve) => timer(2_000, simulation.clock).subscribe(resolve));
    launching -= 1;
  };
  simulation.startController({ pause });
  for (let index = 0; index < 10; index += 1) await simulation.createVm({}, { name: `vm-${index}` });
  await simulation.pass(30_000);
  simulation.world.reboot();
  await simulation.pass(120_000);
  expect([simulation.world.processes.size, most]).toEqual([10, 4]);
});

test('a slow action of one VM delays no other', async () => {
  const simulation = await Simulation.withHost();
  running.push(simulation);
  let first = true;
  const pause = async (what: string) => {
    if (what !== 'create-disk' || !first) return;
    first = false;
    await new Promise((resolve) => timer(600_000, simulation.clock).subscribe(resolve));
  };
  simulation.startController({ pause });
  await simulation.createVm({ disks: [DISK] }, { name: 'slow' });
  await simulation.pass(1_000);
  await simulation.createVm({ disks: [DISK] }, { name: 'quick' });
  await simulation.pass(2_000);
  expect(await ready(simulation, 'quick')).toMatchObject({ status: 'True' });
  expect(await ready(simulation, 'slow')).toMatchObject({ status: 'False', reason: 'Provisioning' });
});

test('a launch that fails is told once, with the next attempt, and not with every attempt', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK], powerState: 'PoweredOff' });
  await simulation.pass(5_000);
  // The image is held by a process that is not ours.
  const facts = simulation.world;
  facts.processes.set(1, {
    pid: 1,
    startTicks: 1,
    startedAt: 0,
    folder: '/elsewhere',
    spec: { disks: [{ name: 'x', path: `${folderOf()}/root.qcow2`, format: 'qcow2' }], networks: [] } as never,
    diskBytes: new Map(),
    guest: 'running',
    silent: false,
    agent: { kind: 'closed' },
  });
  await simulation.edit({ spec: { powerState: 'PoweredOn' } });
  await simulation.pass(600_000);
  const status = (await simulation.vm())?.status;
  expect(await ready(simulation)).toMatchObject({ status: 'False', reason: 'DiskInUse' });
  expect(Date.parse(status?.nextAttemptAt ?? '')).toBeGreaterThan(simulation.clock.now());
  expect(status?.history?.filter(({ reason }) => reason === 'DiskInUse')).toHaveLength(1);
  facts.processes.delete(1);
  await simulation.pass(310_000);
  expect(await ready(simulation)).toMatchObject({ status: 'True', reason: 'Running' });
});

test('an operator that hears nothing still finds out within a resync', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  simulation.controller.driver.deaf = true;
  const process = simulation.world.processIn(folderOf());
  if (process !== undefined) simulation.world.end(process, 'crash');
  await simulation.pass(61_000);
  expect(simulation.world.processIn(folderOf())?.pid).toBeGreaterThan(process?.pid ?? 0);
});

test('a start that is cut off before QEMU came up is still owed', async () => {
  const simulation = await started();
  await simulation.createVm({ disks: [DISK] });
  await simulation.pass(5_000);
  const process = simulation.world.processIn(folderOf());
  if (process !== undefined) simulation.world.end(process, 'powerdown');
  await simulation.pass(5_000);
  expect(await ready(simulation)).toMatchObject({ reason: 'GuestPoweredOff' });
  let cut = false;
  simulation.controller.driver.fault = ({ type }) => {
    if (type !== 'launch' || cut) return undefined;
    cut = true;
    return { afterSteps: 1 };
  };
  await simulation.edit({ spec: { restartedAt: 'now' } });
  await simulation.pass(60_000);
  expect(cut).toBe(true);
  expect(await ready(simulation)).toMatchObject({ status: 'True', reason: 'Running' });
});

describe('a Secret for user data', () => {
  const cloudInit = { userDataSecretRef: { name: 'web-1', key: 'user-data' } };
  const readyOf = async (simulation: Simulation) =>
    (await simulation.vm())?.status?.conditions?.find(({ type }) => type === 'Ready');

  test('is waited for before anything is made, and noticed by itself', async () => {
    const simulation = await started();
    await simulation.createVm({ disks: [DISK], cloudInit });
    await simulation.pass(5_000);
    expect(await readyOf(simulation)).toMatchObject({
      reason: 'SecretNotFound',
      message:
        'cloudInit wants key user-data of Secret web-1 in namespace default, which is not there; set it: set web-1 user-data',
    });
    expect(simulation.world.made).toEqual([]);
    simulation.secret = 'hunter2';
    await simulation.pass(15_000);
    expect(await readyOf(simulation)).toMatchObject({ status: 'True', reason: 'Running' });
  });

  test('whose value changes waits for a restart; one that is gone leaves the guest running', async () => {
    const simulation = await started();
    simulation.secret = 'hunter2';
    await simulation.createVm({ disks: [DISK], cloudInit });
    await simulation.pass(5_000);
    simulation.secret = 'hunter3';
    await simulation.pass(65_000);
    expect((await simulation.vm())?.status?.pendingChanges).toEqual([
      { path: 'spec.cloudInit.userData', from: '(secret)', to: '(secret)' },
    ]);
    simulation.secret = undefined;
    await simulation.pass(65_000);
    expect(await readyOf(simulation)).toMatchObject({ status: 'False', reason: 'SecretNotFound' });
    expect((await simulation.vm())?.status?.pendingChanges).toBeUndefined();
    await simulation.edit({ spec: { restartedAt: 'again' } });
    await simulation.pass(20_000);
    expect(simulation.world.starts).toBe(1);
    simulation.secret = 'hunter4';
    await simulation.pass(20_000);
    expect([simulation.world.starts, (await readyOf(simulation))?.reason]).toEqual([2, 'Running']);
  });

  test('that changes between the decision and the launch is read again', async () => {
    const simulation = await Simulation.withHost();
    running.push(simulation);
    simulation.secret = 'first';
    const reads = ['first', 'second', 'second'];
    simulation.secrets.read = async () => Buffer.from(reads.shift() ?? 'second');
    simulation.startController();
    await simulation.createVm({ cloudInit });
    await simulation.pass(10_000);
    expect(simulation.world.violations).toEqual([]);
    expect(await readyOf(simulation)).toMatchObject({ reason: 'Running' });
    expect((await simulation.vm())?.status?.pendingChanges).toBeUndefined();
  });

  test('is never in what the loop says, nor in the object', async () => {
    const simulation = await started();
    simulation.secret = 'hunter2';
    await simulation.createVm({ disks: [DISK], cloudInit });
    await simulation.pass(5_000);
    const { record } = simulation.world.folders.get(folderOf()) ?? {};
    const said = JSON.stringify([simulation.events, await simulation.vm(), record, simulation.journal]);
    expect(said).toContain('sha256:');
    expect(said).not.toContain('hunter2');
  });

  test('that cannot be read is told with the reason', async () => {
    const simulation = await Simulation.withHost();
    running.push(simulation);
    simulation.secrets.read = async () => Promise.reject(new Error('EACCES: permission denied'));
    simulation.startController();
    await simulation.createVm({ cloudInit });
    await simulation.pass(5_000);
    expect((await readyOf(simulation))?.message).toContain('which cannot be read: EACCES: permission denied');
  });
});

describe('two Hosts that are one machine', () => {
  const DATA = { name: 'root', path: '/data/a.qcow2', size: '1Gi' };

  /** A VM of the other Host, which has noted this disk. */
  async function beside(): Promise<Simulation> {
    const simulation = await started();
    const { world, store } = simulation;
    const metadata = { name: 'second', annotations: { [ANNOTATIONS.claimed]: world.machineID } };
    await store.create(parseManifest(hostDocument({ local: {}, vmDir: '/others' }, metadata)));
    world.vmDirs.set('/others', { mounted: true, writable: true });
    const { name, ...disk } = { ...DATA, format: 'qcow2', state: 'attached' } as const;
    const record = someRecord({ uid: '99999999-2222-4333-8444-555555555555', name: 'b', disks: { [name]: disk } });
    world.folders.set('/others/b', { log: '', record: recordText(record) });
    return simulation;
  }

  test('what a VM of the other has is DiskInUse, also for the first look at all', async () => {
    const simulation = await beside();
    await simulation.createVm({ disks: [DATA] });
    await simulation.pass(5_000);
    expect(await ready(simulation)).toMatchObject({
      reason: 'DiskInUse',
      message: 'disk root: /data/a.qcow2 is a disk of VM default/b',
    });
    expect([simulation.world.made, [...simulation.world.files.keys()]]).toEqual([[], []]);
  });

  test('its folders are neither counted nor listed as without an object', async () => {
    const simulation = await beside();
    await simulation.createVm();
    await simulation.pass(65_000);
    const { status } = await simulation.host();
    expect(status?.vms).toEqual({ managed: 1, running: 1, strangers: 0 });
    expect(status?.unclaimed).toBeUndefined();
  });

  test('a deletion leaves the other its disk', async () => {
    const simulation = await beside();
    const folder = simulation.world.folders.get('/others/b');
    simulation.world.folders.delete('/others/b');
    await simulation.createVm({ disks: [DATA] });
    await simulation.pass(5_000);
    if (folder !== undefined) simulation.world.folders.set('/others/b', folder);
    await simulation.remove();
    await simulation.pass(60_000);
    expect(await simulation.vm()).toBeUndefined();
    expect([...simulation.world.files.keys()]).toEqual([DATA.path]);
  });
});
