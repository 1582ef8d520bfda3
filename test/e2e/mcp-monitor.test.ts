/** monitor_vm_status on real QEMU: counts, intervals, progress, cancel; and that nothing of it is left behind. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openFileStore } from '../../src/store/file-store.ts';
import { writeTinyDisk } from '../guests/tiny.ts';
import { type McpSession, makePlace, openMcp, until } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

beforeAll(async () => {
  mcp = await openMcp(place);
  const path = join(place.root, 'boot.raw');
  await writeTinyDisk(path);
  const made = await mcp.call('manage_vm', {
    name: 'm',
    action: 'create',
    arch: 'x86_64',
    memory: '64M',
    disk: `path=${path}`,
  });
  expect(made.success).toBe(true);
  expect((await mcp.call('manage_vm', { name: 'm', action: 'start' })).success).toBe(true);
});
afterAll(async () => {
  await mcp.close();
  place.clear();
});

async function monitors(): Promise<number> {
  const store = await openFileStore({ dir: place.store });
  try {
    return (await store.list('VirtualMachineMonitor')).items.length;
  } finally {
    await store.close();
  }
}

async function noMonitors(): Promise<boolean> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    if ((await monitors()) === 0) return true;
    await sleep(50);
  }
  return false;
}

test('one sample of everything within two seconds', async () => {
  const started = performance.now();
  const answer = await mcp.call('monitor_vm_status', { name: 'm' });
  expect(performance.now() - started).toBeLessThan(2_500);
  expect(answer).toMatchObject({
    success: true,
    message: '1 sample(s) of VM m taken',
    data: { host: 'localhost', vm_name: 'm', completed: true },
  });
  const { timestamp, metrics_data: metrics } = answer.data;
  expect(timestamp).toHaveLength(1);
  expect(Math.abs(Date.parse(timestamp[0]) - Date.now())).toBeLessThan(5_000);
  expect(Object.keys(metrics)).toEqual(['cpu', 'memory', 'disk', 'network']);
  for (const entries of Object.values(metrics)) expect(entries).toHaveLength(1);
  expect(metrics.memory[0].allocatedBytes).toBe(64 * 1024 ** 2);
  expect(metrics.disk[0][0]).toMatchObject({ name: 'root', readBytes: expect.any(Number) });
  const named = (answer.data.unavailable ?? []).map(({ metric }: { metric: string }) => metric);
  expect(new Set(named).size).toBe(named.length);
  expect(await noMonitors()).toBe(true);
});

test('three samples of one metric, each told as progress', async () => {
  const told: { progress: number; total?: number | undefined; message?: string | undefined }[] = [];
  const answer = await mcp.call(
    'monitor_vm_status',
    { name: 'm', metrics: 'cpu', interval: 1, count: 3 },
    { onprogress: (one) => told.push(one) },
  );
  expect(answer.data.timestamp).toHaveLength(3);
  expect(Object.keys(answer.data.metrics_data)).toEqual(['cpu']);
  const times = answer.data.timestamp.map((at: string) => Date.parse(at));
  for (const [index, at] of times.slice(1).entries()) {
    expect(at - times[index]).toBeGreaterThan(700);
    expect(at - times[index]).toBeLessThan(2_500);
  }
  expect(told.map(({ progress, total }) => [progress, total])).toEqual([
    [1, 3],
    [2, 3],
    [3, 3],
  ]);
  expect(JSON.parse(told[0]?.message ?? '{}')).toMatchObject({
    timestamp: answer.data.timestamp[0],
    cpu: expect.any(Object),
  });
});

test('a series that the wait cuts says how to go on', async () => {
  const answer = await mcp.call('monitor_vm_status', {
    name: 'm',
    interval: 1,
    count: 60,
    metrics: 'memory',
    wait_seconds: 8,
  });
  const taken = answer.data.timestamp.length;
  expect(taken).toBeGreaterThanOrEqual(2);
  expect(answer).toMatchObject({
    success: true,
    data: {
      completed: false,
      next_call: { tool: 'monitor_vm_status', arguments: { name: 'm', interval: 1, count: 60 - taken } },
    },
  });
  expect(await noMonitors()).toBe(true);
});

test('count 0 without a progress token ends with the wait', async () => {
  const answer = await mcp.call('monitor_vm_status', { name: 'm', interval: 1, count: 0, wait_seconds: 3 });
  expect(answer).toMatchObject({ success: true, data: { completed: false, next_call: { arguments: { count: 0 } } } });
  expect(answer.data.timestamp.length).toBeGreaterThanOrEqual(1);
});

test('count 0 runs until it is cancelled, and then nothing samples', async () => {
  const told: string[] = [];
  const abort = new AbortController();
  const call = mcp.call(
    'monitor_vm_status',
    { name: 'm', interval: 1, count: 0 },
    { signal: abort.signal, onprogress: ({ message }) => told.push(message ?? '') },
  );
  const rejected = expect(call).rejects.toThrow();
  expect(await until(() => told.length >= 3)).toBe(true);
  expect(await monitors()).toBe(1);
  abort.abort();
  await rejected;
  const after = told.length;
  expect(await noMonitors()).toBe(true);
  await sleep(2_500);
  expect(told.length).toBe(after);
});

test('a VM that stops ends its monitoring with what was taken', async () => {
  const told: string[] = [];
  const call = mcp.call(
    'monitor_vm_status',
    { name: 'm', interval: 1, count: 100, metrics: 'cpu' },
    { onprogress: ({ message }) => told.push(message ?? '') },
  );
  expect(await until(() => told.length >= 2)).toBe(true);
  await mcp.call('manage_vm', { name: 'm', action: 'stop' });
  const answer = await call;
  expect(answer).toMatchObject({ success: true, data: { completed: false } });
  expect(answer.message).toContain('stopped while it was monitored');
  expect(answer.data.timestamp.length).toBeGreaterThanOrEqual(2);
});
