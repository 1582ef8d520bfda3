/** The process: its ends, its limits, its language, and nothing but the protocol on stdout. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openFileStore } from '../../src/store/file-store.ts';
import { writeTinyDisk } from '../guests/tiny.ts';
import { type McpSession, makePlace, openMcp, type Place, pidOf, serverArguments, until } from './mcp-client.ts';
import { writeDeafDisk } from './support/images.ts';

let place: Place;
const open: McpSession[] = [];
const processes: ChildProcess[] = [];

beforeEach(() => {
  place = makePlace();
});
afterEach(async () => {
  for (const session of open.splice(0)) await session.close();
  for (const child of processes.splice(0)) child.kill('SIGKILL');
  place.clear();
});
afterAll(() => expect(open).toEqual([]));

async function session(options: Parameters<typeof openMcp>[1] = {}): Promise<McpSession> {
  const opened = await openMcp(place, options);
  open.push(opened);
  return opened;
}

async function bootable(
  mcp: McpSession,
  name = 'tiny',
  write: (path: string) => unknown = writeTinyDisk,
): Promise<void> {
  const path = join(place.root, `${name}.raw`);
  await write(path);
  const made = await mcp.call('manage_vm', {
    name,
    action: 'create',
    arch: 'x86_64',
    memory: '64M',
    disk: `path=${path}`,
  });
  expect(made.success).toBe(true);
  expect((await mcp.call('manage_vm', { name, action: 'start' })).success).toBe(true);
}

/** The server with its raw streams. */
function raw(flags: readonly string[] = []) {
  const child = spawn(process.execPath, serverArguments(place, flags), {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: place.root, NODE_DEBUG: 'timer' },
  });
  processes.push(child);
  let stdout = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  const send = (message: object) => child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  send({
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '0' } },
  });
  send({ method: 'notifications/initialized' });
  return { child, send, stdout: () => stdout, lines: () => stdout.split('\n').filter((line) => line !== '') };
}

describe('every end is prompt, and VMs live on', () => {
  test.each(['stdin', 'SIGTERM', 'SIGINT'] as const)('%s', async (end) => {
    const mcp = await session();
    await bootable(mcp);
    await mcp.close();
    open.length = 0;
    const { child, send, stdout, lines } = raw();
    send({
      id: 2,
      method: 'tools/call',
      params: {
        name: 'monitor_vm_status',
        arguments: { name: 'tiny', interval: 1, count: 0 },
        _meta: { progressToken: 'p' },
      },
    });
    expect(await until(() => stdout().includes('notifications/progress'), 15_000)).toBe(true);
    const started = performance.now();
    const exited = once(child, 'exit');
    if (end === 'stdin') child.stdin.end();
    else child.kill(end);
    await exited;
    expect(performance.now() - started).toBeLessThan(1_000);
    expect(pidOf(place.vmDir, 'tiny')).toBeDefined();
    // Nothing but the protocol was written.
    for (const line of lines()) expect(JSON.parse(line)).toMatchObject({ jsonrpc: '2.0' });
    const store = await openFileStore({ dir: place.store });
    expect((await store.list('VirtualMachineMonitor')).items).toEqual([]);
    await store.close();
  });

  test('a client that dies while it monitors leaves no monitor behind', async () => {
    const mcp = await session();
    await bootable(mcp);
    await mcp.close();
    open.length = 0;
    const { child, send, stdout } = raw();
    const _meta = { progressToken: 'p' };
    const args = { name: 'tiny', interval: 1, count: 0 };
    send({ id: 2, method: 'tools/call', params: { name: 'monitor_vm_status', arguments: args, _meta } });
    expect(await until(() => stdout().includes('notifications/progress'), 15_000)).toBe(true);
    const exited = once(child, 'exit');
    // The next sample meets a broken pipe; stdin stays open.
    child.stdout.destroy();
    await exited;
    const store = await openFileStore({ dir: place.store });
    expect((await store.list('VirtualMachineMonitor')).items).toEqual([]);
    await store.close();
  });

  test('a reader that goes away', async () => {
    const { child, send, stdout } = raw();
    expect(await until(() => stdout().includes('"id":1'))).toBe(true);
    const exited = once(child, 'exit');
    child.stdout.destroy();
    send({ id: 2, method: 'tools/list' });
    const started = performance.now();
    await exited;
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});

test('stdout carries the protocol alone, also for garbage and failures', async () => {
  const { child, send, lines, stdout } = raw();
  child.stdin.write('this is no JSON\n{"jsonrpc":"2.0"}\n[]\n');
  send({ id: 2, method: 'tools/call', params: { name: 'manage_vm', arguments: { name: '../x', action: 'start' } } });
  send({ id: 3, method: 'tools/call', params: { name: 'list_vms', arguments: [] } });
  send({ id: 4, method: 'tools/call', params: { name: 'list_vms' } });
  send({ id: 5, method: 'nonsense' });
  expect(await until(() => [2, 3, 4, 5].every((id) => stdout().includes(`"id":${id}`)), 15_000)).toBe(true);
  for (const line of lines()) expect(JSON.parse(line)).toMatchObject({ jsonrpc: '2.0' });
});

test('a call that is cancelled gets no answer, and the change goes on', async () => {
  const mcp = await session();
  const made = await mcp.call('manage_vm', {
    name: 'slow',
    action: 'create',
    arch: 'x86_64',
    memory: '64M',
    disk: 'size=1M',
  });
  expect(made.success).toBe(true);
  const abort = new AbortController();
  const call = mcp.call('manage_vm', { name: 'slow', action: 'start' }, { signal: abort.signal });
  setTimeout(() => abort.abort(), 30);
  await expect(call).rejects.toThrow();
  expect(await until(() => pidOf(place.vmDir, 'slow') !== undefined)).toBe(true);
});

test('a call whose time is over answers with what comes next', async () => {
  const mcp = await session();
  const answer = await mcp.call('manage_vm', {
    name: 'w',
    action: 'create',
    arch: 'x86_64',
    disk: 'size=1M',
    wait_seconds: 0,
  });
  expect(answer).toMatchObject({
    success: true,
    isError: false,
    data: {
      details: {
        completed: false,
        phase: expect.any(String),
        message: expect.any(String),
        next_call: { tool: 'list_vms' },
      },
    },
  });
});

test('what is waited for is told where progress is wanted', async () => {
  const mcp = await session();
  await bootable(mcp, 'deaf', writeDeafDisk);
  const told: string[] = [];
  await mcp.call(
    'manage_vm',
    { name: 'deaf', action: 'stop', wait_seconds: 3 },
    { onprogress: ({ message }) => told.push(message ?? '') },
  );
  expect(told.some((line) => line.startsWith('Stopping: '))).toBe(true);
});

describe('limits', () => {
  test('--read-only: not listed, and refused when called all the same', async () => {
    const mcp = await session({ flags: ['--read-only'] });
    const { tools } = await mcp.client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(['list_vms', 'monitor_vm_status']);
    const answer = await mcp.call('manage_vm', { name: 'x', action: 'create', arch: 'x86_64' });
    expect(answer).toMatchObject({ success: false, isError: true, data: { error: { code: 'ReadOnly' } } });
    expect((await mcp.call('list_vms', {})).data.vm_count).toBe(0);
  });

  test('--no-delete refuses delete alone', async () => {
    const mcp = await session({ flags: ['--no-delete'] });
    expect(
      (await mcp.call('manage_vm', { name: 'x', action: 'create', arch: 'x86_64', disk: 'size=1M' })).success,
    ).toBe(true);
    const answer = await mcp.call('manage_vm', { name: 'x', action: 'delete' });
    expect(answer).toMatchObject({ success: false, data: { error: { code: 'DeleteNotAllowed', field: 'action' } } });
    expect((await mcp.call('list_vms', {})).data.vm_count).toBe(1);
  });

  test('a protected VM wins over force', async () => {
    const mcp = await session();
    expect(
      (await mcp.call('manage_vm', { name: 'x', action: 'create', arch: 'x86_64', disk: 'size=1M' })).success,
    ).toBe(true);
    const store = await openFileStore({ dir: place.store });
    const ref = { namespace: 'default', name: 'x' };
    await store.patch('VirtualMachine', ref, { metadata: { annotations: { 'qemu-operator.dev/protected': '' } } });
    const before = await store.get('VirtualMachine', ref);
    const answer = await mcp.call('manage_vm', { name: 'x', action: 'delete', force: true, keep_disks: true });
    expect(answer).toMatchObject({ success: false, data: { error: { code: 'Protected' } } });
    expect((await store.get('VirtualMachine', ref))?.spec).toEqual(before?.spec);
    await store.close();
  });
});

describe('who watches', () => {
  test('the server that runs the loop says that nobody watches after it; a second one leaves it alone', async () => {
    const first = await session();
    expect(first.stderr()).toContain('nobody watches');
    expect(first.client.getInstructions()).toContain('nobody watches');
    const second = await session();
    expect(second.stderr()).not.toContain('nobody watches');
    const made = await second.call('manage_vm', { name: 'x', action: 'create', arch: 'x86_64', disk: 'size=1M' });
    expect(made.success).toBe(true);
    await first.close();
    // It takes over.
    const started = await second.call('manage_vm', { name: 'x', action: 'start' });
    expect(started.success).toBe(true);
    expect(pidOf(place.vmDir, 'x')).toBeDefined();
  });
});

test('Chinese, word for word as the specification has it', async () => {
  const mcp = await session({ env: { LANG: 'zh_CN.UTF-8' } });
  const create = { name: 'ubuntu-vm', action: 'create', arch: 'x86_64', memory: '64M', disk: 'size=1M' };
  expect((await mcp.call('manage_vm', create)).message).toBe('虚拟机ubuntu-vm create成功');
  expect((await mcp.call('manage_vm', create)).message).toBe('虚拟机已存在');
  expect((await mcp.call('manage_vm', { name: 'ubuntu-vm', action: 'start' })).message).toBe(
    '虚拟机ubuntu-vm start成功',
  );
  expect((await mcp.call('list_vms', { status: 'running' })).message).toBe('成功获取本地运行中虚拟机，共1个');
  expect((await mcp.call('list_vms', {})).message).toBe('成功获取本地虚拟机，共1个');
  const monitored = await mcp.call('monitor_vm_status', { name: 'ubuntu-vm', interval: 1, count: 2, metrics: 'cpu' });
  expect(monitored.message).toBe('成功获取ubuntu-vm 2次采样数据');
  const missing = await mcp.call('manage_vm', { name: 'ubuntu', action: 'stop' });
  expect(missing.message).toContain('您是否指ubuntu-vm');
});

test('QEMU_OPERATOR_LANG wins over the locale', async () => {
  const mcp = await session({ env: { LANG: 'zh_CN.UTF-8', QEMU_OPERATOR_LANG: 'en' } });
  expect((await mcp.call('list_vms', {})).message).toBe('0 VM(s) on localhost');
});
