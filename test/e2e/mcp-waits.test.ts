/** What the tools answer where a change cannot come into force: never that it has. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type McpSession, makePlace, openMcp, pidOf } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

beforeAll(async () => {
  mcp = await openMcp(place);
});
afterAll(async () => {
  await mcp.close();
  place.clear();
});

/** No machine of QEMU's has as many CPUs. */
const TOO_MANY_CPUS = 1024;

test('a launch that fails: neither start nor modify is complete, and the answer says why', async () => {
  const name = 'crowded';
  const made = await mcp.call('manage_vm', {
    name,
    action: 'create',
    arch: 'x86_64',
    disk: 'size=1M',
    vcpus: TOO_MANY_CPUS,
  });
  expect(made).toMatchObject({ success: true });
  const started = await mcp.call('manage_vm', { name, action: 'start', wait_seconds: 5 });
  expect(started).toMatchObject({ success: true, data: { details: { completed: false } } });
  expect(started.message).toContain(`Invalid SMP CPUs ${TOO_MANY_CPUS}`);

  const modified = await mcp.call('manage_vm', { name, action: 'modify', memory: '64M', wait_seconds: 5 });
  expect(modified).toMatchObject({ success: true, data: { details: { completed: false, restarted: false } } });
  expect(modified.message).toContain(`Invalid SMP CPUs ${TOO_MANY_CPUS}`);

  const mended = await mcp.call('manage_vm', { name, action: 'modify', vcpus: 1 });
  expect(mended).toMatchObject({ success: true, data: { details: { completed: true } } });
  expect(pidOf(place.vmDir, name)).toBeGreaterThan(0);
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
