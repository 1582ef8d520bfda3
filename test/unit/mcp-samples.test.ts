/** Samples beyond the hour that a monitor lives: another one follows it. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { VirtualMachineMonitor } from '../../src/api/virtual-machine-monitor.ts';
import { samplesOf } from '../../src/store/samples.ts';
import { AT, type Bench, makeBench } from './mcp-fakes.ts';

let bench: Bench;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  vi.setSystemTime('2026-01-01T00:00:00Z');
  bench = await makeBench();
  await bench.addHost('localhost');
});
afterEach(() => {
  vi.useRealTimers();
});

async function monitor(not?: string): Promise<VirtualMachineMonitor> {
  return vi.waitFor(async () => {
    const { items } = await bench.store.list('VirtualMachineMonitor');
    const found = items.find(({ metadata }) => metadata.uid !== not);
    if (found === undefined) throw new Error('none yet');
    return found;
  });
}

async function give({ metadata }: VirtualMachineMonitor, ...sequences: number[]): Promise<void> {
  const samples = sequences.map((sequence) => ({ sequence, sample: { at: AT, intervalSeconds: sequence } }));
  await bench.store.updateStatus('VirtualMachineMonitor', metadata, { samples }, { uid: metadata.uid });
}

test('each sample once, over two monitors, and none of them is left', async () => {
  const vm = await bench.addVm('x', { seen: 'running' });
  const abort = new AbortController();
  const series = samplesOf(bench.store, { vm, intervalSeconds: 5, signal: abort.signal });
  const next = async () => (await series.next()).value?.intervalSeconds;

  const first = next();
  const one = await monitor();
  expect(one.spec).toMatchObject({ virtualMachineName: 'x', intervalSeconds: 5, until: '2026-01-01T01:00:00.000Z' });
  await give(one, 1, 2);
  expect(await first).toBe(1);
  expect(await next()).toBe(2);

  const third = next();
  await give(one, 1, 2, 3);
  expect(await third).toBe(3);

  const fourth = next();
  vi.setSystemTime('2026-01-01T01:00:01Z');
  await bench.store.delete('VirtualMachineMonitor', one.metadata);
  const two = await monitor(one.metadata.uid);
  await give(two, 1);
  expect(await fourth).toBe(1);

  const end = series.next();
  abort.abort();
  expect((await end).done).toBe(true);
  expect((await bench.store.list('VirtualMachineMonitor')).items).toEqual([]);
});

test('a monitor that is taken away before its time ends the series', async () => {
  const vm = await bench.addVm('x', { seen: 'running' });
  const series = samplesOf(bench.store, {
    vm,
    intervalSeconds: 1,
    forMs: 60_000,
    signal: new AbortController().signal,
  });
  const first = series.next();
  const one = await monitor();
  await bench.store.delete('VirtualMachineMonitor', one.metadata);
  expect((await first).done).toBe(true);
});
