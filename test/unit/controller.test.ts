import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseManifest } from '../../src/api/admission.ts';
import { FINALIZERS } from '../../src/api/meta.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { runController } from '../../src/reconcile/controller.ts';
import type { ControllerEvent } from '../../src/reconcile/loop-event.ts';
import { LoopFigures } from '../../src/serve/loop-metrics.ts';
import { Exposition } from '../e2e/support/exposition.ts';
import { hostDocument, vmDocument } from '../fakes/manifests.ts';
import { SimulatedHost } from '../fakes/simulated-host.ts';
import { folderOf, Simulation, VM_DIR } from '../fakes/simulation.ts';

let simulation = new Simulation();
let stop: () => void = () => undefined;
let drivers: SimulatedHost[] = [];
const events: ControllerEvent[] = [];

beforeEach(() => {
  simulation = new Simulation();
  drivers = [];
  events.length = 0;
  const { store, clock, world } = simulation;
  const driverFor = () => {
    const driver = new SimulatedHost({ world, journal: simulation.journal });
    drivers.push(driver);
    return driver;
  };
  const subscription = runController({ store, driverFor, scheduler: clock }).subscribe((event) => events.push(event));
  stop = () => subscription.unsubscribe();
});

afterEach(async () => {
  stop();
  await simulation.end();
});

type Fields = Readonly<Record<string, unknown>>;
const createHost = (name = 'localhost', spec: Fields = {}) =>
  simulation.store.create(
    parseManifest(hostDocument({ local: {}, vmDir: VM_DIR, allowedPaths: ['/'], ...spec }, { name })),
  );
const createVm = (spec: Fields = {}, metadata: Fields = {}) =>
  simulation.store.create(parseManifest(vmDocument({ ...spec }, metadata))) as Promise<VirtualMachine>;
const ready = async () => {
  const vm = await simulation.vm();
  return vm?.status?.conditions?.find(({ type }) => type === 'Ready');
};

describe('a VM without a Host', () => {
  test('that names none: HostNotAssigned, and which there are', async () => {
    await createHost();
    await createVm();
    await simulation.pass(100);
    expect(await ready()).toMatchObject({
      status: 'False',
      reason: 'HostNotAssigned',
      message: 'spec.hostName names no Host; there are localhost',
    });
    expect((await simulation.vm())?.status).toMatchObject({ phase: 'Pending', observedGeneration: 1 });
  });

  test('that names one that is not there: HostNotFound with near names', async () => {
    await createHost();
    await createVm({ hostName: 'localhots' });
    await simulation.pass(100);
    expect(await ready()).toMatchObject({
      reason: 'HostNotFound',
      message: 'Host localhots does not exist; did you mean localhost?',
    });
  });

  test('runs once its Host is there', async () => {
    await createVm({ hostName: 'localhost' });
    await simulation.pass(100);
    expect(await ready()).toMatchObject({ reason: 'HostNotFound' });
    await createHost();
    await simulation.pass(5_000);
    expect(await ready()).toMatchObject({ status: 'True', reason: 'Running' });
  });

  test('or once it names one', async () => {
    await createHost();
    await createVm();
    await simulation.pass(100);
    await simulation.edit({ spec: { hostName: 'localhost' } });
    await simulation.pass(5_000);
    expect(await ready()).toMatchObject({ status: 'True', reason: 'Running' });
  });

  test('that never ran anywhere deletes at once', async () => {
    await createVm({ hostName: 'gone' }, { finalizers: [FINALIZERS.hostCleanup] });
    await simulation.remove();
    await simulation.pass(100);
    expect(await simulation.vm()).toBeUndefined();
  });

  test('that ran there waits, and says how to let it go', async () => {
    await createVm({ hostName: 'gone' }, { finalizers: [FINALIZERS.hostCleanup] });
    await simulation.annotate('provisioned', 'machine-1:/vms/web-1');
    await simulation.remove();
    await simulation.pass(100);
    expect(await ready()).toMatchObject({ reason: 'HostNotFound', message: expect.stringContaining('/orphan') });
    await simulation.annotate('orphan', '');
    await simulation.pass(100);
    expect(await simulation.vm()).toBeUndefined();
  });

  test('that is paused is not even let go', async () => {
    await createVm({ hostName: 'gone' }, { finalizers: [FINALIZERS.hostCleanup] });
    await simulation.annotate('paused', '');
    await simulation.remove();
    await simulation.pass(100);
    const types = (await simulation.vm())?.status?.conditions?.map(({ type }) => type);
    expect(types).toEqual(expect.arrayContaining(['DeletionBlocked', 'ReconcilePaused']));
  });
});

describe('a Host', () => {
  test('that is deleted drives its VMs on, takes no new ones, and goes when none names it', async () => {
    await createHost();
    await createVm({ hostName: 'localhost' });
    await simulation.pass(5_000);
    await simulation.store.delete('Host', { name: 'localhost' });
    await createVm({ hostName: 'localhost' }, { name: 'web-2' });
    await simulation.pass(65_000);
    expect(simulation.world.processIn(folderOf())).toBeDefined();
    const second = await simulation.vm('web-2');
    expect(second?.status?.conditions?.[0]).toMatchObject({ type: 'Ready', reason: 'HostNotFound' });
    await simulation.remove('web-2');
    await simulation.remove();
    await simulation.pass(200_000);
    expect([await simulation.vm(), await simulation.vm('web-2')]).toEqual([undefined, undefined]);
    expect(await simulation.store.get('Host', { name: 'localhost' })).toBeUndefined();
    expect(simulation.world.vmDirs.get(VM_DIR)?.marker).toBeUndefined();
  });

  test('that is made anew under its name has a new loop', async () => {
    await createHost();
    await simulation.pass(1_000);
    await simulation.store.delete('Host', { name: 'localhost' });
    await simulation.pass(65_000);
    await createHost();
    await simulation.pass(1_000);
    expect(drivers).toHaveLength(2);
  });
});

describe('a watch that tells nothing', () => {
  const deaf = () => {
    stop();
    const { store, clock, world } = simulation;
    vi.spyOn(store, 'watch').mockImplementation(async function* () {});
    const driverFor = () => new SimulatedHost({ world, journal: simulation.journal });
    const subscription = runController({ store, driverFor, scheduler: clock }).subscribe((event) => events.push(event));
    stop = () => subscription.unsubscribe();
  };

  test('delays Hosts and VMs, and loses none', async () => {
    deaf();
    await createHost();
    await createVm({ hostName: 'localhost' });
    await createVm({ hostName: 'nowhere' }, { name: 'web-2' });
    await simulation.pass(70_000);
    expect(await ready()).toMatchObject({ status: 'True', reason: 'Running' });
    const second = await simulation.vm('web-2');
    expect(second?.status?.conditions?.[0]).toMatchObject({ type: 'Ready', reason: 'HostNotFound' });
  });

  test('of a Host that went does not keep its loop', async () => {
    deaf();
    await createHost();
    await simulation.pass(70_000);
    await simulation.store.delete('Host', { name: 'localhost' });
    await simulation.pass(130_000);
    await createVm({ hostName: 'localhost' });
    await simulation.pass(70_000);
    expect(await ready()).toMatchObject({ reason: 'HostNotFound' });
  });

  test('nor does a store that cannot be listed end it', async () => {
    deaf();
    await createHost();
    vi.spyOn(simulation.store, 'list').mockRejectedValueOnce(new Error('the disk is gone'));
    await simulation.pass(70_000);
    expect(events).toContainEqual(expect.objectContaining({ type: 'failed', message: 'the disk is gone' }));
    await createVm({ hostName: 'localhost' });
    await simulation.pass(130_000);
    expect(await ready()).toMatchObject({ status: 'True', reason: 'Running' });
  });
});

test('what it tells adds up to figures: who was woken, what was done, and that a host ended', async () => {
  const figures = new LoopFigures();
  const heard = () => {
    for (const event of events.splice(0)) figures.hear(event);
    return new Exposition(figures.text());
  };
  // A sample that is written wakes its VM.
  const { uid } = (await createHost('localhost', { metricsIntervalSeconds: 0 })).metadata;
  await simulation.pass(5_000);
  await createVm({ hostName: 'localhost' });
  await simulation.pass(10_000);
  const seen = heard();
  expect(seen.value('qemu_operator_actions_total', { action: 'launch', result: 'success' })).toBe(1);
  expect(seen.value('controller_runtime_active_workers')).toBe(0);
  expect(seen.value('workqueue_depth')).toBe(0);
  // The host at its start, the VM when it came and after each of its actions.
  expect(seen.value('workqueue_adds_total')).toBeGreaterThanOrEqual(5);
  await simulation.pass(65_000);
  const atRest = heard().value('workqueue_adds_total') ?? 0;
  await simulation.pass(600_000);
  // Nothing happened in ten minutes but the look of every minute.
  expect(heard().value('workqueue_adds_total')).toBe(atRest + 10);
  await simulation.remove();
  await simulation.pass(20_000);
  await simulation.store.delete('Host', { name: 'localhost' }, { uid });
  await simulation.pass(120_000);
  expect(events.filter(({ type }) => type === 'ended')).toEqual([{ type: 'ended', host: 'localhost' }]);
});

test('nothing is left when it stops', async () => {
  await createHost();
  await createVm({ hostName: 'localhost' });
  await simulation.pass(5_000);
  stop();
  await simulation.pass(0);
  expect(simulation.clock.pending).toBe(0);
  const before = simulation.journal.length;
  await simulation.edit({ spec: { powerState: 'PoweredOff' } });
  await simulation.pass(60_000);
  expect(simulation.journal.length).toBe(before);
});
