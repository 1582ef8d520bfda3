/** Hosts without QEMU, with half of it, or with one that is too old. */
import { chmodSync, mkdirSync, readdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type McpSession, makePlace, openMcp, type Place } from './mcp-client.ts';

let place: Place;
let bin: string;
let mcp: McpSession | undefined;

beforeEach(() => {
  place = makePlace();
  bin = join(place.root, 'bin');
  mkdirSync(bin);
  for (const folder of ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin']) linkAllButQemu(folder);
});
afterEach(async () => {
  await mcp?.close();
  place.clear();
});

function linkAllButQemu(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith('qemu-')) link(name, folder);
  }
}

function link(name: string, folder = '/usr/bin'): void {
  try {
    symlinkSync(join(folder, name), join(bin, name));
  } catch {
    // The earlier folder of PATH wins.
  }
}

async function open(): Promise<McpSession> {
  mcp = await openMcp(place, { env: { PATH: bin } });
  return mcp;
}

const create = (arch: string) => ({ name: 'x', action: 'create', arch, disk: 'size=1M' });

test.each([
  ['x86_64', 'qemu-system-x86_64'],
  ['arm64', 'qemu-system-aarch64'],
])('no QEMU for %s: the real name of the command, and how to install it', async (arch, command) => {
  const { call } = await open();
  const answer = await call('manage_vm', create(arch));
  expect(answer).toMatchObject({ success: false, data: { error: { code: 'QEMUNotInstalled', field: 'arch' } } });
  expect(answer.message).toContain(`${command}: command not found`);
  expect(answer.message).toContain('apt-get install');
  // Nothing was made, and listing still answers.
  expect(await call('list_vms', {})).toMatchObject({ success: true, data: { vm_count: 0 } });
});

test('QEMU that is installed meanwhile is found at the next call', async () => {
  const { call } = await open();
  expect((await call('manage_vm', create('x86_64'))).success).toBe(false);
  link('qemu-system-x86_64');
  link('qemu-img');
  expect(await call('manage_vm', create('x86_64'))).toMatchObject({ success: true });
});

test('no qemu-img', async () => {
  link('qemu-system-x86_64');
  const { call } = await open();
  const answer = await call('manage_vm', create('x86_64'));
  expect(answer).toMatchObject({
    success: false,
    data: { error: { code: 'QEMUNotInstalled' }, details: { removed: true } },
  });
  expect(answer.message).toContain('qemu-img: command not found');
  expect((await call('list_vms', {})).data.vm_count).toBe(0);
});

test('QEMU that goes away between create and start', async () => {
  link('qemu-system-x86_64');
  link('qemu-img');
  const { call } = await open();
  expect((await call('manage_vm', create('x86_64'))).success).toBe(true);
  unlinkSync(join(bin, 'qemu-system-x86_64'));
  const answer = await call('manage_vm', { name: 'x', action: 'start' });
  expect(answer).toMatchObject({ success: false, data: { error: { code: 'QEMUNotInstalled' } } });
  expect(answer.message).toContain('qemu-system-x86_64: command not found');
  expect((await call('manage_vm', { name: 'x', action: 'stop' })).success).toBe(true);
  expect((await call('manage_vm', { name: 'x', action: 'delete' })).success).toBe(true);
});

test('QEMU 5', async () => {
  link('qemu-img');
  const stand = join(bin, 'qemu-system-x86_64');
  writeFileSync(stand, '#!/bin/sh\necho "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)"\n');
  chmodSync(stand, 0o755);
  const { call } = await open();
  const answer = await call('manage_vm', create('x86_64'));
  expect(answer).toMatchObject({ success: false, data: { error: { code: 'QEMUTooOld', field: 'arch' } } });
  expect(answer.message).toContain('5.2.0');
  expect(answer.message).toContain('6.0');
});
