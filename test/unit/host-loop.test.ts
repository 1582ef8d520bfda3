import { afterEach, expect, test } from 'vitest';
import { folderOf, Simulation } from '../fakes/simulation.ts';

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
  await simulation.pass(5_000);
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
