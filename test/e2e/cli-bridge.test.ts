/** ssh, port-forward and addresses of guests on a bridge: nobody gives addresses there but the guest to itself. */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect as dial } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { writeCloudGuest } from '../guests/ssh.ts';
import { bridgeName, ip, makeBridge, requireRoot } from './support/bridges.ts';
import { CliRig } from './support/cli-rig.ts';

const LIFE_MS = 240_000;

/** A bridge with an address of the host, a key, and what makes a guest of it. */
function lan() {
  requireRoot();
  const rig = new CliRig(onTestFinished);
  const bridge = bridgeName(onTestFinished);
  const net = `10.214.${randomInt(256)}`;
  makeBridge(bridge);
  ip('address', 'add', `${net}.1/24`, 'dev', bridge);
  ip('link', 'set', bridge, 'up');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', rig.path('key')]);
  const create = async (name: string, agent: boolean, script: readonly string[]) => {
    const image = rig.path('images', `${name}.qcow2`);
    await writeCloudGuest(image, { agent });
    const userData = rig.path('user-data');
    writeFileSync(userData, ['#!/bin/sh', ...script, ''].join('\n'));
    const guest = ['--image', image, '--memory', '160Mi', '--vcpus', '1', '--bridge', bridge];
    await rig.ok([
      'create',
      name,
      ...guest,
      '--ssh-key',
      rig.path('key.pub'),
      '--user',
      'debian',
      '--user-data',
      userData,
    ]);
  };
  const ssh = (name: string, ...words: readonly string[]) =>
    rig.run(['ssh', name, '-i', rig.path('key'), '--timeout', '100s', '--', ...words]);
  return { rig, bridge, net, create, ssh };
}

test.each([
  ['its agent', true, []],
  ['the packets that the host had from it', false, ['ping -c 1 -w 30 NET.1']],
] as const)('the address of a guest is known by %s', { timeout: LIFE_MS }, async (_evidence, agent, more) => {
  const { rig, net, create, ssh } = lan();
  const set = 'ifconfig eth0 NET.2 netmask 255.255.255.0';
  await create(
    'web-1',
    agent,
    [set, ...more].map((line) => line.replace('NET', net)),
  );
  // No controller runs: the command itself looks until it knows the address.
  const first = await ssh('web-1', 'id -un; hostname');
  expect(first).toMatchObject({ code: 0, stdout: 'debian\nweb-1\n' });
  expect(first.stderr).toMatch(/running it here until the address of web-1 is known/);
  expect((await rig.ok(['get', 'qvm', '-o', 'wide'])).stdout).toMatch(new RegExp(`^web-1 .*\\s${net}\\.2\\s`, 'm'));
  const { status } = JSON.parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'json'])).stdout);
  expect(status.interfaces).toMatchObject([{ name: 'net0', ips: [`${net}.2`] }]);
  const again = await ssh('web-1', 'echo again; exit 3');
  expect(again).toMatchObject({ code: 3, stdout: 'again\n', stderr: '' });

  const forward = rig.start(['port-forward', 'web-1', ':22']);
  onTestFinished(async () => void (await forward.stop()));
  await forward.says(/-> 22\n/);
  const socket = dial(Number(/127\.0\.0\.1:(\d+) -> 22/.exec(forward.stdout)?.[1]), '127.0.0.1');
  const [banner] = await new Promise<Buffer[]>((resolve) => socket.once('data', (bytes) => resolve([bytes])));
  socket.destroy();
  expect(banner?.toString()).toMatch(/^SSH-2\.0-dropbear/);
});

test('a guest that nobody has seen on the bridge is not waited for without end', { timeout: LIFE_MS }, async () => {
  const { rig, bridge } = lan();
  const networks = [{ name: 'net0', bridge: { name: bridge } }];
  await rig.ok(['apply', '--wait', '-f', rig.manifest('mute', { networks })]);
  const { code, stderr } = await rig.run(['ssh', 'mute', '--timeout', '2s']);
  expect(code).toBe(5);
  expect(stderr).toMatch(/the address of mute is not known yet: waiting up to 2s\n/);
  expect(stderr).toMatch(/error: the address of mute is not known: its guest agent tells it, or any packet/);
  expect((await rig.run(['port-forward', 'mute', '22'])).stderr).toMatch(
    /no network leads to mute: its address is not known/,
  );
});
