/** Guests on real bridges of this machine: what is joined to them is read from the kernel. Only root may make one. */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Manifest } from '../../src/api/admission.ts';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { bridgeName, ip, makeBridge, NET, portsOf, requireRoot, untilJoined } from './support/bridges.ts';
import { isAlive, kill } from './support/process.ts';
import { conditionOf, manifest, Rig, readyOf } from './support/rig.ts';
import { until } from './support/wait.ts';

const joined = (bridge: string) => ({ networks: [{ name: 'net0', bridge: { name: bridge } }] });
const allowing = (...allowedBridges: readonly string[]) => ({ host: { allowedBridges } });

test('a bridge that the host does not allow, and one that it does not have', async ({ onTestFinished }) => {
  const bridge = bridgeName(onTestFinished);
  const rig = await Rig.start(onTestFinished);
  await rig.create('web-1', joined(bridge));
  const refused = await rig.untilReason('web-1', 'BridgeNotAllowed');
  expect([readyOf(refused)?.message, conditionOf(refused, 'Stalled')?.status]).toEqual([
    `network net0: ${bridge} is none of the allowedBridges of Host localhost (there are none)`,
    'True',
  ]);
  await rig.store.patch('Host', { name: 'localhost' }, { spec: { allowedBridges: [bridge] } });
  const missing = await rig.untilReason('web-1', 'BridgeNotFound');
  expect(readyOf(missing)?.message).toContain(`the host has no bridge ${bridge}`);
  requireRoot();
  makeBridge(bridge);
  await rig.untilRunning('web-1');
  await untilJoined(bridge);
});

test('the interface of a guest is joined, sized as its bridge, and gone with QEMU however it ends', async ({
  onTestFinished,
}) => {
  requireRoot();
  const bridge = bridgeName(onTestFinished);
  makeBridge(bridge);
  const rig = await Rig.start(onTestFinished, allowing('*'));
  await rig.create('web-1', joined(bridge));
  const first = await rig.untilRunning('web-1');
  const tap = await untilJoined(bridge);
  expect(readFileSync(join(NET, tap, 'mtu'), 'utf8').trim()).toBe('1400');
  expect((await rig.vm('web-1')).status?.interfaces).toEqual([
    { name: 'net0', mac: expect.stringMatching(/^52:54:00:/), bridge },
  ]);
  kill(first, 'SIGKILL');
  const second = await rig.untilRestarted('web-1', first);
  expect(await untilJoined(bridge)).toBe(tap);
  await rig.edit('web-1', { powerState: 'PoweredOff' });
  await rig.untilSettled('web-1', 'Stopped');
  expect([isAlive(second), existsSync(join(NET, tap)), portsOf(bridge)]).toEqual([false, false, []]);
  await rig.edit('web-1', { powerState: 'PoweredOn' });
  await rig.untilRunning('web-1');
  await untilJoined(bridge);
  await rig.delete('web-1');
  await rig.untilGone('web-1');
  expect(existsSync(join(NET, tap))).toBe(false);
});

test('a bridge that goes away while a guest runs: the guest runs on, and is joined again once it is back', async ({
  onTestFinished,
}) => {
  requireRoot();
  const bridge = bridgeName(onTestFinished);
  makeBridge(bridge);
  const rig = await Rig.start(onTestFinished, allowing(bridge));
  await rig.create('web-1', joined(bridge));
  const pid = await rig.untilRunning('web-1');
  await untilJoined(bridge);
  ip('link', 'delete', bridge);
  await rig.untilReason('web-1', 'BridgeNotFound');
  makeBridge(bridge);
  expect(await rig.untilRunning('web-1')).toBe(pid);
  await untilJoined(bridge);
});

test('a Linux guest and the bridge reach each other', async ({ onTestFinished }) => {
  requireRoot();
  const bridge = bridgeName(onTestFinished);
  const net = `10.213.${randomInt(256)}`;
  makeBridge(bridge);
  ip('address', 'add', `${net}.1/24`, 'dev', bridge);
  ip('link', 'set', bridge, 'up');
  const rig = await Rig.start(onTestFinished, allowing('*'));
  const path = rig.path('images', 'linux.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', await linuxGuest(), '-F', 'qcow2', path]);
  await rig.create('linux', { disks: [{ name: 'root', path }], memory: '128Mi', ...joined(bridge) });
  await rig.untilRunning('linux');
  await rig.untilPrinted('linux', /linux:~# /, 90_000);
  const console = await TestConsole.to(join(rig.folder('linux'), 'console.sock'));
  onTestFinished(async () => console.close());
  console.say(`ifconfig eth0 ${net}.2 netmask 255.255.255.0; ping -c 2 ${net}.1; echo pinged $((20 + 3))`);
  await console.hears(/pinged 23/);
  expect(console.heard).toMatch(/2 packets transmitted, 2 packets received, 0% packet loss/);

  const sink = createServer((socket) => socket.on('error', () => undefined).resume()).listen(0, `${net}.1`);
  onTestFinished(async () => void sink.close());
  await once(sink, 'listening');
  console.say(`nc ${net}.1 ${(sink.address() as AddressInfo).port} </dev/zero &`);
  const tap = await untilJoined(bridge);
  const before = countersOf(tap);
  const figures = await figuresOf(rig, 'linux');
  const after = countersOf(tap);
  // What the guest received, the host sent.
  expect(figures.receiveBytes).toBeGreaterThanOrEqual(before.tx.bytes);
  expect(figures.receiveBytes).toBeLessThanOrEqual(after.tx.bytes);
  expect(figures.transmitBytes).toBeGreaterThanOrEqual(before.rx.bytes);
  expect(figures.transmitBytes).toBeLessThanOrEqual(after.rx.bytes);
  expect(figures.transmitBytesPerSecond).toBeGreaterThan(5 * (figures.receiveBytesPerSecond ?? 0));
  expect(figures.receivePacketsPerSecond).toBeGreaterThan(0);
  expect(figures.transmitPacketsPerSecond).toBeGreaterThan(0);
});

/** The host's own view, as people read it. */
function countersOf(tap: string): Readonly<Record<'rx' | 'tx', { readonly bytes: number }>> {
  return JSON.parse(ip('-s', '-j', 'link', 'show', 'dev', tap).toString())[0].stats64;
}

/** Of its only network, in a sample that has rates. */
async function figuresOf(rig: Rig, virtualMachineName: string) {
  const spec = { virtualMachineName, intervalSeconds: 1, until: new Date(Date.now() + 60_000).toISOString() };
  const metadata = { name: 'watch', namespace: 'default' };
  await rig.store.create(manifest('VirtualMachineMonitor', metadata, spec) as Manifest<'VirtualMachineMonitor'>);
  const latest = async () =>
    (await rig.store.get('VirtualMachineMonitor', metadata))?.status?.samples?.at(-1)?.sample.networks?.[0];
  const found = await until('a sample with rates', latest, (one) => (one?.transmitBytesPerSecond ?? 0) > 0);
  return found ?? { name: '' };
}
