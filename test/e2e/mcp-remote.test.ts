/** A VM on another machine with nothing but the seed's parameters: an ordinary user behind a real sshd, and a password. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ordinaryUser } from '../ordinary-user.mjs';
import { imageInfo, type McpSession, makePlace, openMcp, pidOf } from './mcp-client.ts';
import { requireRoot } from './support/bridges.ts';
import { Sshd } from './support/sshd.ts';

const endings: (() => Promise<void> | void)[] = [];
const place = makePlace();
const secret = randomBytes(12).toString('hex');
let mcp: McpSession;
let login: Readonly<Record<string, unknown>>;
let vmDir = '';
const answers: unknown[] = [];

const ask = async (tool: string, args: Record<string, unknown> = {}) => {
  const answer = await mcp.call(tool, { ...login, ...args });
  answers.push(answer);
  return answer;
};

beforeAll(async () => {
  requireRoot();
  const person = ordinaryUser();
  endings.push(() => person.remove());
  execFileSync('chpasswd', { input: `${person.name}:${secret}\n` });
  const sshd = await Sshd.start((work) => endings.push(work), { user: person.name });
  vmDir = join(person.home, '.local/share/qemu-operator');
  login = { host: '127.0.0.1', ssh_port: sshd.port, ssh_user: person.name, ssh_pwd: secret };
  mcp = await openMcp(place);
});

afterAll(async () => {
  await mcp.close();
  for (const end of endings.toReversed()) await end();
  place.clear();
});

test('create: the disk is there, made by the user', async () => {
  const answer = await ask('manage_vm', { name: 'web-1', action: 'create', arch: 'x86_64', memory: '64M', vcpus: 1 });
  expect(answer).toMatchObject({ success: true, data: { host: '127.0.0.1', details: { completed: true } } });
  expect(imageInfo(join(vmDir, 'web-1', 'root.qcow2'))).toMatchObject({ format: 'qcow2' });
});

test('start, list, monitor: a process of the user', async () => {
  expect(await ask('manage_vm', { name: 'web-1', action: 'start' })).toMatchObject({ success: true });
  const pid = pidOf(vmDir, 'web-1');
  const uid = Number(execFileSync('id', ['-u', String(login['ssh_user'])], { encoding: 'utf8' }));
  expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(new RegExp(`^Uid:\\s+${uid}\\s`, 'm'));
  const listed = await ask('list_vms');
  expect(listed.data).toMatchObject({ host: '127.0.0.1', vms: [{ name: 'web-1', status: 'running' }] });
  const watched = await ask('monitor_vm_status', { name: 'web-1', interval: 1, count: 2 });
  expect([watched.success, watched.data.metrics_data.cpu.length]).toEqual([true, 2]);
});

test('another password for the same login is refused', async () => {
  const { success, data } = await ask('list_vms', { ssh_pwd: 'another' });
  expect([success, data.error.field]).toEqual([false, 'ssh_pwd']);
});

test('delete: nothing is left of it', async () => {
  expect(await ask('manage_vm', { name: 'web-1', action: 'delete', force: true })).toMatchObject({ success: true });
  expect([pidOf(vmDir, 'web-1'), existsSync(join(vmDir, 'web-1'))]).toEqual([undefined, false]);
});

test('the password is in its Secret, mode 0600, and nowhere else', () => {
  const files = readdirSync(place.store, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const holding = files.filter((path) => readFileSync(path).includes(secret));
  expect(holding.map((path) => path.replace(place.store, ''))).toEqual([
    expect.stringMatching(/^\/\.state\/secrets\/qemu-operator-system\/host-127-0-0-1-[0-9a-f]{6}\/password$/),
  ]);
  expect(JSON.stringify(answers) + mcp.stderr()).not.toContain(secret);
});
