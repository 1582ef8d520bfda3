/** The life of a VM through the official client on real QEMU. */
import { existsSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTinyDisk } from '../guests/tiny.ts';
import { askQemu, imageInfo, type McpSession, makePlace, openMcp, pidOf } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

beforeAll(async () => {
  mcp = await openMcp(place);
});
afterAll(async () => {
  await mcp.close();
  place.clear();
});

const GIB = 1024 ** 3;

test('create makes the disk and leaves the VM stopped', async () => {
  const answer = await mcp.call('manage_vm', { name: 'web-1', action: 'create', arch: 'x86_64', memory: '128M' });
  expect(answer).toMatchObject({ success: true, isError: false, message: 'VM web-1: create succeeded' });
  const disk = join(place.vmDir, 'web-1', 'root.qcow2');
  expect(answer.data).toMatchObject({
    host: 'localhost',
    vm_name: 'web-1',
    action: 'create',
    details: { completed: true, disks: [{ path: disk, size: '20G', format: 'qcow2' }] },
  });
  expect(imageInfo(disk)).toMatchObject({ format: 'qcow2', 'virtual-size': 20 * GIB });
  expect(pidOf(place.vmDir, 'web-1')).toBeUndefined();
});

test('start: QEMU itself says running', async () => {
  const answer = await mcp.call('manage_vm', { name: 'web-1', action: 'start' });
  expect(answer).toMatchObject({ success: true, data: { details: { completed: true, status: 'running' } } });
  expect(await askQemu(place.vmDir, 'web-1', 'query-status')).toMatchObject({ status: 'running' });
  expect(answer.data.details.pid).toBe(pidOf(place.vmDir, 'web-1'));
});

test('list shows it running', async () => {
  const answer = await mcp.call('list_vms', { status: 'running' });
  expect(answer).toMatchObject({
    success: true,
    message: '1 running VM(s) on localhost',
    data: {
      host: 'localhost',
      vm_count: 1,
      vms: [
        {
          name: 'web-1',
          arch: 'x86_64',
          vcpus: 2,
          memory: '128M',
          disk: `path=${join(place.vmDir, 'web-1', 'root.qcow2')},size=20G`,
          status: 'running',
        },
      ],
    },
  });
});

test('stop by force: no process is left', async () => {
  const answer = await mcp.call('manage_vm', { name: 'web-1', action: 'stop', force: true });
  expect(answer).toMatchObject({ success: true, data: { details: { completed: true, status: 'stopped' } } });
  expect(pidOf(place.vmDir, 'web-1')).toBeUndefined();
});

test('a guest that listens to the power button: stop is soft, restart is another process', async () => {
  const path = join(place.root, 'tiny.raw');
  await writeTinyDisk(path);
  const tiny = (action: string, more = {}) => mcp.call('manage_vm', { name: 'Tiny_1', action, ...more });
  const made = await tiny('create', { arch: 'x86_64', memory: '64M', vcpus: 1, disk: `path=${path}` });
  expect(made).toMatchObject({
    success: true,
    data: { vm_name: 'Tiny_1', details: { object: expect.stringMatching(/^tiny-1-/) } },
  });
  expect((await tiny('start')).success).toBe(true);
  const first = pidOf(place.vmDir, 'Tiny_1');
  const again = await tiny('start');
  expect(again).toMatchObject({ success: true, data: { details: { changed: false } } });
  expect(again.message).toContain('already running');
  expect(pidOf(place.vmDir, 'Tiny_1')).toBe(first);
  expect((await tiny('restart')).success).toBe(true);
  const second = pidOf(place.vmDir, 'Tiny_1');
  expect(second).toBeDefined();
  expect(second).not.toBe(first);
  const started = performance.now();
  const stopped = await tiny('stop');
  expect(stopped).toMatchObject({
    success: true,
    data: { details: { status: 'stopped', last_exit: 'StoppedByRequest' } },
  });
  // The grace period is 30 s: the guest powered itself off.
  expect(performance.now() - started).toBeLessThan(15_000);
  expect((await tiny('stop')).message).toContain('already stopped');
  expect((await tiny('delete')).success).toBe(true);
});

test('arm64 under its real command', async () => {
  const arm = (action: string, more = {}) => mcp.call('manage_vm', { name: 'arm', action, ...more });
  expect((await arm('create', { arch: 'aarch64', memory: '128M', disk: 'size=1M' })).success).toBe(true);
  expect((await arm('start')).success).toBe(true);
  const pid = pidOf(place.vmDir, 'arm');
  expect(readlinkSync(`/proc/${pid}/exe`)).toContain('qemu-system-aarch64');
  expect(await askQemu(place.vmDir, 'arm', 'query-status')).toMatchObject({ status: 'running' });
  expect((await arm('delete', { force: true })).success).toBe(true);
});

test('delete: no folder, no object', async () => {
  const answer = await mcp.call('manage_vm', { name: 'web-1', action: 'delete' });
  const disk = join(place.vmDir, 'web-1', 'root.qcow2');
  expect(answer).toMatchObject({
    success: true,
    data: { details: { completed: true, deleted_disks: [disk], kept_disks: [] } },
  });
  expect(existsSync(join(place.vmDir, 'web-1'))).toBe(false);
  expect((await mcp.call('list_vms', {})).data).toMatchObject({ vm_count: 0, vms: [] });
});
