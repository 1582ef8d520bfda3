/**
 * A machine to log in to, as somebody new gets it: the installed package, an ordinary user with a key of their own,
 * an image on a web server, and two commands. Nothing else is done, and no controller runs.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeCloudGuest } from '../guests/ssh.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { bridgeName, ip, makeBridge, NET, portsOf, requireRoot } from './support/bridges.ts';
import { Running } from './support/cli-rig.ts';
import { type ImageServer, serveImages } from './support/image-server.ts';
import { INSTALL_MS, installed } from './support/installed.ts';
import { testFolder } from './support/rig.ts';

const run = promisify(execFile);
const SMALL = ['--memory', '160Mi', '--vcpus', '1'];

const cleanups: (() => Promise<void>)[] = [];
let user: ReturnType<typeof ordinaryUser>;
let bin: string;
let server: ImageServer;
let image: readonly string[];

beforeAll(async () => {
  // Everything here is written below a home that is removed afterwards.
  requireRoot();
  const onFinished = (work: () => Promise<void>) => cleanups.push(work);
  const folder = testFolder(onFinished);
  const path = join(folder, 'guest.qcow2');
  await writeCloudGuest(path, { agent: false });
  const body = readFileSync(path);
  server = await serveImages(onFinished);
  server.images.set('/guest.qcow2', { body });
  const sum = createHash('sha256').update(body).digest('hex');
  image = ['--image', `${server.url}/guest.qcow2`, '--checksum', `sha256:${sum}`];
  bin = join(await installed(onFinished), 'node_modules', '.bin', 'qemu-operator');
  user = ordinaryUser();
  cleanups.push(async () => user.remove());
  const key = join(user.home, '.ssh', 'id_ed25519');
  for (const words of [
    ['mkdir', '-m', '700', join(user.home, '.ssh')],
    ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', key],
  ])
    execFileSync(...user.command(words));
}, 2 * INSTALL_MS);

afterAll(async () => {
  for (const work of cleanups.toReversed()) await work();
});

const command = (...words: readonly string[]) => run(...user.command([bin, ...words]));

test('an image and a key give a machine that one can log in to, by two commands', { timeout: 240_000 }, async () => {
  const created = await command('create', 'web-1', ...image, ...SMALL, '--ssh-key');
  expect(created.stdout).toBe('virtualmachine.qemu-operator.dev/web-1 created\n');
  expect(created.stderr).toMatch(/to log in, also while the guest still boots: .*qemu-operator ssh web-1\n$/);
  const first = await command('ssh', 'web-1', '--', 'id -un; hostname; uname -s');
  expect(first.stdout).toBe(`${user.name}\nweb-1\nLinux\n`);
  // The guest was still booting: it was said, and waited for.
  expect(first.stderr).toContain('web-1 does not answer at port 22 yet: waiting up to 5m\n');

  const again = await command('ssh', 'web-1', '--', 'cat .ssh/authorized_keys');
  expect(again.stdout).toBe(readFileSync(join(user.home, '.ssh', 'id_ed25519.pub'), 'utf8'));
  expect(again.stderr).toBe('');
  await expect(command('ssh', 'root@web-1', '--', 'true')).rejects.toMatchObject({
    code: 255,
    stderr: expect.stringContaining('Permission denied'),
  });
  await command('stop', '--force', 'web-1');
  await expect(command('ssh', 'web-1')).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('it is not running (Stopped)'),
  });
  await command('delete', 'qvm', 'web-1');
});

/**
 * $1: an empty folder, $2: the helper, $3: its mode, $4: a bridge, then a command. In a mount namespace of its own
 * bridge.conf allows the bridge, and everybody may open the tun device; nobody else sees any of it.
 */
const HOUSE = `set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cp "$2" "$1/helper"; chmod "$3" "$1/helper"; mount --bind "$1/helper" "$2"
cp -a /etc "$1/etc"; mkdir -p "$1/etc/qemu"; echo "allow $4" >"$1/etc/qemu/bridge.conf"; mount --bind "$1/etc" /etc
mknod -m 666 "$1/tun" c 10 200; mount --bind "$1/tun" /dev/net/tun
shift 4; exec "$@"`;
const HELPER = '/usr/lib/qemu/qemu-bridge-helper';

test('a guest of theirs on a bridge, which qemu-bridge-helper joins it to', { timeout: 240_000 }, async ({
  onTestFinished,
}) => {
  const bridge = bridgeName(onTestFinished);
  const folder = testFolder(onTestFinished);
  makeBridge(bridge);
  ip('address', 'add', '10.213.7.1/24', 'dev', bridge);
  ip('link', 'set', bridge, 'up');
  const inHouse = (mode: string, ...words: readonly string[]): [string, string[]] => {
    const house = ['--mount', '--propagation', 'private', 'sh', '-c', HOUSE, 'sh', folder, HELPER, mode, bridge];
    const [program, args] = user.command([bin, ...words], { setuid: true });
    return ['unshare', [...house, program, ...args]];
  };
  const refused = (...words: readonly string[]) => run(...inHouse('755', ...words));
  const allowed = (...words: readonly string[]) => run(...inHouse('4755', ...words));
  const script = join(user.home, 'address.sh');
  execFileSync(
    ...user.command([
      'sh',
      '-c',
      `printf '#!/bin/sh\nifconfig eth0 10.213.7.2 netmask 255.255.255.0\nping -c 1 -w 30 10.213.7.1\n' >${script}`,
    ]),
  );
  const words = ['lan-1', ...image, ...SMALL, '--bridge', bridge, '--ssh-key', '--user-data', script];
  await expect(refused('create', ...words)).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('BridgeNotAllowed'),
  });
  const before = await refused('doctor').catch((error: { stdout: string }) => error);
  expect(before.stdout).toMatch(/^problem +bridge-helper .*is not setuid root/m);
  const doctor = await allowed('doctor').catch((error: { stdout: string }) => error);
  for (const id of ['ip', 'tun', 'bridge-helper', 'bridge'])
    expect(doctor.stdout).toMatch(new RegExp(`^ok +${id} `, 'm'));

  const [program, args] = inHouse('4755', 'run');
  const controller = new Running(spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] }), undefined);
  onTestFinished(async () => void (await controller.stop()));
  await controller.says(/controller started/);
  await allowed('start', 'lan-1');
  const [tap = '', ...more] = portsOf(bridge);
  expect([tap, more]).toEqual([expect.stringMatching(/^tap\d+$/), []]);
  expect((await allowed('ssh', 'debian@lan-1', '--', 'id -un; hostname')).stdout).toBe('debian\nlan-1\n');
  expect((await allowed('get', 'qvm', '-o', 'wide')).stdout).toMatch(/lan-1 .*\b10\.213\.7\.2\b/);
  // Received and sent, which the host counts: no agent runs there.
  expect((await allowed('top', 'lan-1')).stdout).toMatch(/^lan-1 .* \d+\S*B\/s +\d+\S*B\/s +\d+s$/m);
  await allowed('delete', 'qvm', 'lan-1');
  expect([portsOf(bridge), readdirSync(NET).includes(tap)]).toEqual([[], false]);
});
