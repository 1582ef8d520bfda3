/** What the tools answer where a change cannot come into force: never that it has. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { askQemu, type McpSession, makePlace, openMcp } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

/** While this file is there, QEMU starts no machine. */
const FAILS = join(place.root, 'fails');

beforeAll(async () => {
  const bin = join(place.root, 'bin');
  mkdirSync(bin);
  const qemu = `#!/bin/sh
case $* in *-pidfile*) [ ! -e '${FAILS}' ] || { echo 'no luck today' >&2; exit 1; } ;; esac
exec /usr/bin/qemu-system-x86_64 "$@"
`;
  writeFileSync(join(bin, 'qemu-system-x86_64'), qemu, { mode: 0o755 });
  mcp = await openMcp(place, { env: { PATH: `${bin}:${process.env['PATH']}` } });
});
afterAll(async () => {
  await mcp.close();
  place.clear();
});

test('a launch that fails: neither start nor modify is complete, and the answer says why', async () => {
  const name = 'unlucky';
  const made = await mcp.call('manage_vm', { name, action: 'create', arch: 'x86_64', disk: 'size=1M' });
  expect(made).toMatchObject({ success: true });
  writeFileSync(FAILS, '');
  const started = await mcp.call('manage_vm', { name, action: 'start', wait_seconds: 5 });
  expect(started).toMatchObject({ success: true, data: { details: { completed: false, phase: 'Failed' } } });
  expect(started.message).toMatch(/launch failed: no luck today; tried again at 20\d\d-\S+Z/);

  const modified = await mcp.call('manage_vm', { name, action: 'modify', memory: '64M', wait_seconds: 5 });
  expect(modified).toMatchObject({ success: true, data: { details: { completed: false, restarted: false } } });
  expect(modified.message).toContain('no luck today');

  rmSync(FAILS);
  const mended = await mcp.call('manage_vm', { name, action: 'modify', memory: '128M' });
  expect(mended).toMatchObject({ success: true, data: { details: { completed: true } } });
  expect(await askQemu(place.vmDir, name, 'query-memory-size-summary')).toMatchObject({ 'base-memory': 2 ** 27 });
  await mcp.call('manage_vm', { name, action: 'delete', force: true });
});

test('the same name again and again: no answer is slower for it', async () => {
  const name = 'again';
  for (let turn = 0; turn < 8; turn += 1) {
    const iso = `${place.root}/missing.iso`;
    const refused = await mcp.call('manage_vm', { name, action: 'create', arch: 'x86_64', iso });
    expect(refused).toMatchObject({ success: false, data: { error: { code: 'ISONotFound' } } });
  }
  const made = await mcp.call('manage_vm', {
    name,
    action: 'create',
    arch: 'x86_64',
    disk: 'size=1M',
    wait_seconds: 8,
  });
  expect(made).toMatchObject({ success: true, data: { details: { completed: true } } });
});

test.each([
  ['that can never be made', '/proc/x', 'VMDirMissing', /cannot be made/],
  ['that another store works in', '', 'ClaimedByAnother', /another store/],
])('a vm_dir %s is refused, and the object taken back', async (_title, folder, code, why) => {
  const vmDir = folder || join(place.root, 'theirs');
  if (folder === '') {
    mkdirSync(vmDir);
    writeFileSync(join(vmDir, '.qemu-operator.json'), '{"storeUID":"theirs","hostUID":"theirs","epoch":1}\n');
  }
  const call = { name: 'elsewhere', action: 'create', arch: 'x86_64', disk: 'size=1M', vm_dir: vmDir };
  const refused = await mcp.call('manage_vm', call);
  expect(refused).toMatchObject({
    success: false,
    data: {
      error: { code, field: 'vm_dir', value: JSON.stringify(vmDir), next: { tool: 'manage_vm' } },
      details: { removed: true },
    },
  });
  expect(refused.data.error.next.arguments).toEqual({ ...call, vm_dir: undefined });
  expect(refused.message).toMatch(why);
  expect(readdirSync(place.store, { recursive: true }).map(String)).not.toContainEqual(
    expect.stringMatching('elsewhere'),
  );
  const made = await mcp.call('manage_vm', { ...call, vm_dir: join(place.root, 'other') });
  expect(made).toMatchObject({ success: true, data: { details: { completed: true } } });
  await mcp.call('manage_vm', { name: 'elsewhere', action: 'delete' });
});
