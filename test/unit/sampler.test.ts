import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseManifest } from '../../src/api/admission.ts';
import type { VirtualMachineMonitor } from '../../src/api/virtual-machine-monitor.ts';
import { HostSampler } from '../../src/reconcile/sampler.ts';
import { monitorDocument } from '../fakes/manifests.ts';
import { folderOf, Simulation } from '../fakes/simulation.ts';
import { VirtualClock } from '../fakes/virtual-clock.ts';

const REF = { namespace: 'default', name: 'watch-1' };
let simulation = new Simulation();
let sampler: HostSampler;
let stop: () => void = () => undefined;

/** Objects are stamped with the real time, so the virtual one begins there. */
beforeEach(async () => {
  simulation = await Simulation.withHost();
  const { store, clock } = simulation;
  clock.frame = Date.now();
  const { driver } = simulation.startController();
  sampler = new HostSampler({ store, driver, hostName: 'localhost', scheduler: clock });
  const subscription = sampler.run().subscribe((error) => {
    throw error;
  });
  stop = () => subscription.unsubscribe();
  await simulation.createVm();
  await simulation.pass(5_000);
});

afterEach(async () => {
  stop();
  await simulation.end();
});

async function request(spec: object = {}, untilMs = 60_000): Promise<VirtualMachineMonitor> {
  const until = new Date(simulation.clock.now() + untilMs).toISOString();
  const monitor = (await simulation.store.create(
    parseManifest(monitorDocument({ intervalSeconds: 5, until, ...spec })),
  )) as VirtualMachineMonitor;
  sampler.wakeMonitor(monitor);
  return monitor;
}
const monitor = () => simulation.store.get('VirtualMachineMonitor', REF);
const sequences = async () => (await monitor())?.status?.samples?.map(({ sequence }) => sequence);

describe('a monitor', () => {
  test('belongs to its VM', async () => {
    await request();
    await simulation.pass(100);
    const vm = await simulation.vm();
    expect((await monitor())?.metadata.ownerReferences).toEqual([
      { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'VirtualMachine', name: 'web-1', uid: vm?.metadata.uid },
    ]);
  });

  test('has its first sample after the second look, then one each interval', async () => {
    await request();
    await simulation.pass(1_100);
    expect(await sequences()).toEqual([1]);
    await simulation.pass(10_000);
    expect(await sequences()).toEqual([1, 2, 3]);
    expect((await monitor())?.status?.conditions).toMatchObject([
      { type: 'Ready', status: 'True', reason: 'Sampling' },
    ]);
  });

  test('keeps the last 32, written at most every 2 s', async () => {
    await request({ intervalSeconds: 1 }, 600_000);
    await simulation.pass(2_000);
    const before = Number(await simulation.revision());
    await simulation.pass(100_000);
    const all = (await sequences()) ?? [];
    expect(all).toHaveLength(32);
    expect(all).toEqual(Array.from({ length: 32 }, (_, index) => (all[0] ?? 0) + index));
    expect(Number(await simulation.revision()) - before).toBeLessThanOrEqual(55);
  });

  test('holds what was asked for alone', async () => {
    await request({ metrics: ['cpu'] });
    await simulation.pass(1_100);
    expect(Object.keys((await monitor())?.status?.samples?.[0]?.sample ?? {}).sort()).toEqual([
      'at',
      'cpu',
      'intervalSeconds',
    ]);
  });

  test('is removed when its time is over', async () => {
    await request({}, 20_000);
    await simulation.pass(19_000);
    expect(await monitor()).toBeDefined();
    await simulation.pass(2_000);
    expect(await monitor()).toBeUndefined();
  });

  test('never lives longer than an hour', async () => {
    await request({ intervalSeconds: 60 }, 86_400_000);
    await simulation.pass(3_590_000);
    expect(await monitor()).toBeDefined();
    await simulation.pass(20_000);
    expect(await monitor()).toBeUndefined();
  });

  test('is removed with its VM', async () => {
    await request();
    await simulation.pass(1_000);
    await simulation.remove();
    await simulation.pass(60_000);
    expect(await simulation.vm()).toBeUndefined();
    expect(await monitor()).toBeUndefined();
  });

  test('of a VM that does not run says so, and samples once it runs', async () => {
    const process = simulation.world.processIn(folderOf());
    await simulation.edit({ spec: { powerState: 'PoweredOff' } });
    await simulation.pass(60_000);
    expect(simulation.world.processIn(folderOf())).not.toBe(process);
    await request();
    await simulation.pass(6_000);
    expect((await monitor())?.status?.conditions).toMatchObject([{ status: 'False', reason: 'NotRunning' }]);
    await simulation.edit({ spec: { powerState: 'PoweredOn' } });
    await simulation.pass(20_000);
    expect((await sequences())?.length).toBeGreaterThan(0);
  });
});

describe('status.metrics', () => {
  test("has the last sample at the Host's interval", async () => {
    sampler.wake();
    await simulation.pass(70_000);
    const first = (await simulation.vm())?.status?.metrics?.at;
    expect(first).toBeDefined();
    await simulation.pass(60_000);
    expect(Date.parse((await simulation.vm())?.status?.metrics?.at ?? '') - Date.parse(first ?? '')).toBe(60_000);
  });

  test('stays away with an interval of 0', async () => {
    await simulation.store.patch('Host', { name: 'localhost' }, { spec: { metricsIntervalSeconds: 0 } });
    await simulation.pass(300_000);
    const before = await simulation.revision();
    await simulation.pass(300_000);
    expect(await simulation.revision()).toBe(before);
  });
});

test('no timer is left when it stops', async () => {
  await request();
  await simulation.pass(3_000);
  stop();
  simulation.crash();
  expect(simulation.clock).toBeInstanceOf(VirtualClock);
  expect(simulation.clock.pending).toBe(0);
});
