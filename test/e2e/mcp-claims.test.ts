/** Names that are contended, folders without an object, and images of another architecture. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openFileStore } from '../../src/store/file-store.ts';
import { type McpSession, makePlace, openMcp } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

beforeAll(async () => {
  mcp = await openMcp(place);
});
afterAll(async () => {
  await mcp.close();
  place.clear();
});

const create = (name: string, more: Record<string, unknown> = {}) =>
  mcp.call('manage_vm', { name, action: 'create', arch: 'x86_64', memory: '64M', disk: 'size=1M', ...more });

test('ten creates at once all succeed', async () => {
  const names = Array.from({ length: 10 }, (_, index) => `many-${index}`);
  const answers = await Promise.all(names.map((name) => create(name)));
  expect(answers.map(({ success }) => success)).toEqual(names.map(() => true));
  for (const name of names) expect(existsSync(join(place.vmDir, name, 'root.qcow2'))).toBe(true);
  const deleted = await Promise.all(names.map((name) => mcp.call('manage_vm', { name, action: 'delete' })));
  expect(deleted.every(({ success, data }) => success && data.details.completed)).toBe(true);
});

test.each(['same', 'Same_Name'])('of two creates of %s one wins, the other is told', async (name) => {
  const answers = await Promise.all([create(name), create(name)]);
  expect(answers.filter(({ success }) => success)).toHaveLength(1);
  expect(answers.find(({ success }) => !success)?.data.error.code).toBe('AlreadyExists');
  expect((await mcp.call('list_vms', { filter_name: name })).data.vm_count).toBe(1);
});

test('a folder without an object: listed, not managed, never overwritten', async () => {
  expect((await create('left')).success).toBe(true);
  const store = await openFileStore({ dir: place.store });
  const ref = { namespace: 'default', name: 'left' };
  await store.patch('VirtualMachine', ref, { metadata: { annotations: { 'qemu-operator.dev/orphan': '' } } });
  await store.delete('VirtualMachine', ref);
  await store.close();
  await expect
    .poll(async () => (await mcp.call('list_vms', { filter_name: 'left' })).data.vms, { timeout: 10_000 })
    .toMatchObject([
      {
        name: 'left',
        managed: false,
        status: 'stopped',
        disk: `path=${join(place.vmDir, 'left', 'root.qcow2')},size=1M`,
      },
    ]);
  const again = await create('left');
  expect(again).toMatchObject({ success: false, data: { error: { code: 'NameConflict', field: 'name' } } });
  expect(existsSync(join(place.vmDir, 'left', 'root.qcow2'))).toBe(true);
  expect((await mcp.call('manage_vm', { name: 'left', action: 'start' })).message).toContain('without an object');
});

test('an ISO of another architecture', async () => {
  const boot = join(place.root, 'boot');
  mkdirSync(boot);
  writeFileSync(join(boot, 'boot.img'), Buffer.alloc(2048));
  const iso = join(place.root, 'pc.iso');
  const options = ['-b', 'boot.img', '-no-emul-boot', '-boot-load-size', '4', '-quiet', '-V', 'TEST'];
  execFileSync('xorriso', ['-as', 'mkisofs', ...options, '-o', iso, boot], { stdio: 'ignore' });
  const wrong = await create('arm', { arch: 'arm64', iso });
  expect(wrong).toMatchObject({ success: false, data: { error: { code: 'ISOWrongArchitecture', field: 'iso' } } });
  expect(wrong.message).toContain('x86_64');
  expect(existsSync(join(place.vmDir, 'arm'))).toBe(false);
  expect(await create('pc', { arch: 'x86_64', iso })).toMatchObject({ success: true, data: { details: { iso } } });
});

test('a disk that is no image of any kind is told by its reason, and left as it is', async () => {
  const path = join(place.root, 'folder.qcow2');
  writeFileSync(path, 'no image');
  const answer = await create('odd', { disk: `path=${path}` });
  // Whatever is no qcow2 is raw: it is attached as it is, never formatted.
  if (answer.success) expect(answer.data.details.disks[0]).toMatchObject({ path, format: 'raw' });
  else expect(answer.data.error.field).toBe('disk');
  expect(existsSync(path)).toBe(true);
});
