/** Disks through the tools: existing files, growth, what a deletion takes and what it leaves. The oracle is qemu-img. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tinyDisk, writeTinyDisk } from '../guests/tiny.ts';
import { askQemu, imageInfo, isAlive, type McpSession, makePlace, openMcp, pidOf } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

beforeAll(async () => {
  mcp = await openMcp(place);
});
afterAll(async () => {
  await mcp.close();
  place.clear();
});

const MIB = 1024 ** 2;
const manage = (args: Record<string, unknown>) => mcp.call('manage_vm', args);

test('an existing file is attached with its own size and format, and stays after the deletion', async () => {
  const path = join(place.root, 'boot.img');
  await writeTinyDisk(path);
  const made = await manage({ name: 'old', action: 'create', arch: 'amd64', memory: '64M', disk: `path=${path}` });
  expect(made).toMatchObject({
    success: true,
    data: { details: { arch: 'x86_64', disks: [{ path, size: '1M', format: 'raw' }] } },
  });
  expect(readFileSync(path).equals(tinyDisk())).toBe(true);
  const gone = await manage({ name: 'old', action: 'delete' });
  expect(gone.data.details).toMatchObject({
    completed: true,
    deleted_disks: [],
    kept_disks: [{ path, reason: 'the file existed before the VM' }],
  });
  expect(readFileSync(path).equals(tinyDisk())).toBe(true);
});

test('an existing file whose suffix says another format has its own', async () => {
  const path = join(place.root, 'really-qcow2.img');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '3M']);
  const made = await manage({ name: 'q', action: 'create', arch: 'x86_64', memory: '64M', disk: `path=${path}` });
  expect(made).toMatchObject({ success: true, data: { details: { disks: [{ path, size: '3M', format: 'qcow2' }] } } });
  await manage({ name: 'q', action: 'delete' });
  expect(existsSync(path)).toBe(true);
});

test('a path without a size makes 20G, a comma in it is written twice', async () => {
  const path = join(place.root, 'a,b.qcow2');
  const disk = `path=${path.replace(',', ',,')}`;
  const made = await manage({ name: 'comma', action: 'create', arch: 'x86_64', memory: '64M', disk });
  expect(made).toMatchObject({ success: true });
  expect(imageInfo(path)['virtual-size']).toBe(20 * 1024 * MIB);
  const { data } = await mcp.call('list_vms', { filter_name: 'COMMA' });
  expect(data.vms[0].disk).toBe(`${disk},size=20G`);
  expect((await manage({ name: 'comma', action: 'delete' })).data.details.deleted_disks).toEqual([path]);
  expect(existsSync(path)).toBe(false);
});

test('qcow2 grows while the VM runs, without a restart', async () => {
  await manage({ name: 'grow', action: 'create', arch: 'x86_64', memory: '64M', disk: 'size=16M' });
  await manage({ name: 'grow', action: 'start' });
  const pid = pidOf(place.vmDir, 'grow');
  const answer = await manage({ name: 'grow', action: 'modify', disk: 'size=32M' });
  const path = join(place.vmDir, 'grow', 'root.qcow2');
  expect(answer).toMatchObject({
    success: true,
    message: 'VM grow: modify succeeded',
    data: { details: { completed: true, restarted: false, disk: { path, before: '16M', after: '32M' } } },
  });
  expect(imageInfo(path)['virtual-size']).toBe(32 * MIB);
  expect(pidOf(place.vmDir, 'grow')).toBe(pid);
  expect(await manage({ name: 'grow', action: 'modify', disk: 'size=16M' })).toMatchObject({
    success: false,
    data: { error: { code: 'DiskCannotShrink', field: 'disk' } },
  });
  expect(await manage({ name: 'grow', action: 'modify', disk: 'path=/no/such.qcow2,size=64M' })).toMatchObject({
    success: false,
    data: { error: { code: 'InvalidArgument', field: 'disk', allowed: [path] } },
  });
});

test('memory and vCPUs restart a running VM and say so; QEMU has the new figures', async () => {
  const before = pidOf(place.vmDir, 'grow');
  const answer = await manage({ name: 'grow', action: 'modify', memory: '96M', vcpus: 3 });
  expect(answer).toMatchObject({
    success: true,
    data: {
      details: {
        completed: true,
        restarted: true,
        memory: { before: '64M', after: '96M' },
        vcpus: { before: 2, after: 3 },
      },
    },
  });
  expect(answer.message).toContain('restarted');
  expect(pidOf(place.vmDir, 'grow')).not.toBe(before);
  expect(await askQemu(place.vmDir, 'grow', 'query-memory-size-summary')).toMatchObject({ 'base-memory': 96 * MIB });
  expect(Object.keys(await askQemu(place.vmDir, 'grow', 'query-cpus-fast'))).toHaveLength(3);
});

test('one bad part: nothing is changed', async () => {
  const answer = await manage({ name: 'grow', action: 'modify', vcpus: 1, disk: 'size=1M' });
  expect(answer).toMatchObject({ success: false, data: { error: { code: 'DiskCannotShrink' } } });
  expect((await mcp.call('list_vms', {})).data.vms[0]).toMatchObject({ name: 'grow', vcpus: 3, memory: '96M' });
});

test('delete of a running VM stops it; keep_disks keeps the files', async () => {
  const pid = pidOf(place.vmDir, 'grow');
  const answer = await manage({ name: 'grow', action: 'delete', force: true, keep_disks: true });
  const path = join(place.vmDir, 'grow', 'root.qcow2');
  expect(answer.data.details).toMatchObject({
    completed: true,
    deleted_disks: [],
    kept_disks: [{ path, reason: 'reclaimPolicy is Retain' }],
  });
  expect(isAlive(pid ?? 0)).toBe(false);
  expect(imageInfo(path)['virtual-size']).toBe(32 * MIB);
  expect(existsSync(join(place.vmDir, 'grow', '.qemu-operator.json'))).toBe(false);
});

test('foreign files in the folder stay and are listed', async () => {
  await manage({ name: 'notes', action: 'create', arch: 'x86_64', memory: '64M', disk: 'size=1M' });
  const note = join(place.vmDir, 'notes', 'mine.txt');
  writeFileSync(note, 'mine');
  const answer = await manage({ name: 'notes', action: 'delete' });
  expect(answer.data.details).toMatchObject({
    deleted_disks: [join(place.vmDir, 'notes', 'root.qcow2')],
    kept_disks: [{ path: note, reason: 'not made for this VM' }],
  });
  expect(existsSync(note)).toBe(true);
});

test('raw is grown by hand; then modify records the size', async () => {
  const path = join(place.root, 'data.raw');
  await manage({ name: 'raw', action: 'create', arch: 'x86_64', memory: '64M', disk: `path=${path},size=1M` });
  expect(imageInfo(path)).toMatchObject({ format: 'raw', 'virtual-size': MIB });
  const refused = await manage({ name: 'raw', action: 'modify', disk: 'size=2M' });
  expect(refused).toMatchObject({ success: false, data: { error: { code: 'RawDiskNotGrown', field: 'disk' } } });
  expect(refused.message).toContain(`qemu-img resize -f raw '${path}' ${2 * MIB}`);
  expect(statSync(path).size).toBe(MIB);
  execFileSync('qemu-img', ['resize', '-q', '-f', 'raw', path, String(2 * MIB)]);
  const grown = await manage({ name: 'raw', action: 'modify', disk: 'size=2M' });
  expect(grown).toMatchObject({ success: true, data: { details: { completed: true, disk: { path, after: '2M' } } } });
  expect((await mcp.call('list_vms', {})).data.vms[0].disk).toBe(`path=${path},size=2M`);
});
