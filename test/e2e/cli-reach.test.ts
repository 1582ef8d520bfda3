/** ssh and port-forward as people use them, to a Linux guest with an SSH server. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, connect as dial } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeSshGuest } from '../guests/ssh.ts';
import { CliRig, type Running } from './support/cli-rig.ts';
import type { OnFinished } from './support/rig.ts';
import { until } from './support/wait.ts';

const cleanups: (() => Promise<void>)[] = [];
let rig: CliRig;

beforeAll(async () => {
  rig = new CliRig((work) => cleanups.push(work));
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', rig.path('key')]);
  await writeSshGuest(rig.path('ssh.raw'), readFileSync(rig.path('key.pub'), 'utf8'));
  await rig.controller((work) => cleanups.push(work));
  await create('web-1');
}, 300_000);

afterAll(async () => {
  for (const work of cleanups.toReversed()) await work();
});

function create(name: string, user: object = {}): Promise<unknown> {
  const path = rig.path('images', `${name}-ssh.raw`);
  copyFileSync(rig.path('ssh.raw'), path);
  const disks = [{ name: 'root', format: 'raw', path }];
  const networks = [{ name: 'net0', user }];
  return rig.ok(['apply', '--wait', '-f', rig.manifest(name, { memory: '160Mi', disks, networks })]);
}

const login = ['-l', 'root', '-i'];

/** Runs a command in the guest, as soon as that has booted. */
function inGuest(name: string, ...words: readonly string[]) {
  return rig.run(['ssh', name, ...login, rig.path('key'), '--', ...words]);
}

/** Rules of forwards in QEMU, as it has them. */
async function forwardsIn(name: string): Promise<string[]> {
  const socket = dial(rig.path('vms', name, 'qmp-user.sock'));
  socket.write('{"execute":"qmp_capabilities"}\n');
  socket.end(
    `${JSON.stringify({ execute: 'human-monitor-command', arguments: { 'command-line': 'info usernet' } })}\n`,
  );
  const answers = await text(socket);
  return [...answers.matchAll(/HOST_FORWARD\]\s+\d+\s+(\S+)/g)].map(([, address]) => address ?? '');
}

/** Ended with the test, whatever becomes of that. */
function forwarding(onFinished: OnFinished, ...words: readonly string[]): Running {
  const running = rig.start(['port-forward', ...words]);
  onFinished(async () => void (await running.stop()));
  return running;
}

const nothing = () => undefined;

/** What comes back over one connection. */
async function heard(port: number, words: string): Promise<string> {
  const socket = dial(port, '127.0.0.1').on('error', nothing);
  socket.end(words);
  return text(socket).catch(() => '');
}

/** Until the other side ends it: who has ended it oneself first would not know that nobody was there. */
async function ended(port: number): Promise<void> {
  const socket = dial(port, '127.0.0.1').on('error', nothing).resume();
  socket.write('x');
  await once(socket, 'close');
}

const portOf = (running: Running, guestPort: number) =>
  Number(new RegExp(`Forwarding from 127\\.0\\.0\\.1:(\\d+) -> ${guestPort}\\n`).exec(running.stdout)?.[1]);

test('ssh reaches a guest without forwards, passes streams and exit code on, and leaves nothing', async () => {
  expect(await inGuest('web-1', 'uname', '-s')).toMatchObject({ code: 0, stdout: 'Linux\n' });
  expect(await inGuest('web-1', 'echo told >&2; exit 7')).toMatchObject({ code: 7, stderr: 'told\n' });
  const words = ['ssh', 'root@web-1', '-i', rig.path('key'), '--', 'wc', '-c'];
  expect(await rig.run(words, { input: 'x'.repeat(100_000) })).toMatchObject({ code: 0, stdout: '100000\n' });
  expect(await forwardsIn('web-1')).toEqual([]);
  expect(await rig.run(['ssh', 'nobody'])).toMatchObject({ code: 3 });
});

test('a host key is the VM’s: kept under its uid, refused once it has changed, forgotten with the VM’s uid', async () => {
  await inGuest('web-1', 'true');
  const known = () => readdirSync(rig.path('store', '.state', 'known_hosts'));
  expect(known()).toHaveLength(1);
  // The guest makes another key at each boot, as a swapped machine would have.
  await rig.ok(['restart', 'web-1']);
  const refused = await inGuest('web-1', 'true');
  expect(refused.code).toBe(255);
  expect(refused.stderr).toMatch(/REMOTE HOST IDENTIFICATION HAS CHANGED/);
  await rig.ok(['delete', 'qvm', 'web-1']);
  await create('web-1');
  expect(await inGuest('web-1', 'true')).toMatchObject({ code: 0 });
  expect(known()).toHaveLength(2);
});

test('port-forward in kubectl’s words: several ports, errors by connection, nothing left after a signal', async ({
  onTestFinished,
}) => {
  await inGuest('web-1', 'true');
  await inGuest('web-1', 'nc -ll -p 80 -e /bin/cat >/dev/null 2>&1 </dev/null &');
  const forward = forwarding(onTestFinished, 'web-1', ':80', '0:81');
  await forward.says(/-> 81\n/);
  const [echo, closed] = [portOf(forward, 80), portOf(forward, 81)];
  expect(
    await until(
      'an echo',
      () => heard(echo, 'hello'),
      (said) => said === 'hello',
    ),
  ).toBe('hello');
  expect(await Promise.all(['a', 'b', 'c'].map((word) => heard(echo, word)))).toEqual(['a', 'b', 'c']);
  await ended(closed);
  await forward.says(/error: port 81 of the guest: the guest closed the connection at once/);
  expect(forward.stdout).toContain(`Handling connection for ${echo}\n`);
  expect(await forwardsIn('web-1')).toHaveLength(2);
  expect((await forward.stop('SIGINT')).code).toBe(130);
  expect(await forwardsIn('web-1')).toEqual([]);
});

test('what a killed port-forward left is taken away by the next one; one that lives is not', async ({
  onTestFinished,
}) => {
  const killed = forwarding(onTestFinished, 'web-1', ':80');
  await killed.says(/-> 80\n/);
  const other = forwarding(onTestFinished, 'web-1', ':80');
  await other.says(/-> 80\n/);
  await killed.stop('SIGKILL');
  expect(await forwardsIn('web-1')).toHaveLength(2);
  const third = forwarding(onTestFinished, 'web-1', ':80');
  await third.says(/-> 80\n/);
  expect(await forwardsIn('web-1')).toHaveLength(2);
  expect((await other.stop('SIGTERM')).code).toBe(143);
  await third.stop();
  expect(await forwardsIn('web-1')).toEqual([]);
});

test('a forward of the spec is used as it is; words that are none are refused', async () => {
  await rig.ok(['stop', '--force', 'web-1']);
  expect(await rig.run(['ssh', 'web-1'])).toMatchObject({ code: 1, stderr: /it is not running \(Stopped\)/ });
  expect(await rig.run(['port-forward', 'web-1', '80'])).toMatchObject({ code: 1, stderr: /it is not running/ });
  expect((await rig.run(['port-forward', 'web-1', 'http'])).code).toBe(2);
  expect((await rig.run(['port-forward', 'web-1', '70000:80'])).code).toBe(2);
  await create('forwarded', { hostForwards: [{ guestPort: 22 }] });
  expect(await inGuest('forwarded', 'hostname')).toMatchObject({ code: 0, stdout: 'linux\n' });
  expect(await forwardsIn('forwarded')).toEqual(['127.0.0.1']);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const address = taken.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const refused = await rig.run(['port-forward', 'forwarded', `${port}:22`]);
  taken.close();
  expect(refused).toMatchObject({ code: 1, stderr: /EADDRINUSE/ });
});
