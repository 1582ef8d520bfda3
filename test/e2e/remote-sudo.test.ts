/** `sudo: true`: what an ordinary user of the far machine has no right to, sudo does, and nothing else. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { bridgeName, ip, makeBridge, NET, portsOf, untilJoined } from './support/bridges.ts';
import { EVERYTHING, farUser } from './support/far-user.ts';
import { RemotePlace } from './support/remote-place.ts';
import { until } from './support/wait.ts';

const LIFE_MS = 180_000;

/** As udev leaves it, for the far machine alone. */
const OPEN_TUN = 'mknod -m 666 "$0/tun" c 10 200 && mount --bind "$0/tun" /dev/net/tun && exec "$@"';

/** A Host `far` with `sudo: true`, its vmDir in a folder of root's, a bridge there; its controller runs after `drive`. */
async function rack() {
  const person = farUser(onTestFinished);
  const within = ['unshare', '--mount', 'sh', '-c', OPEN_TUN, person.home];
  const place = await RemotePlace.start(onTestFinished, { user: person.name, within });
  const { rig, sshd } = place;
  chmodSync(rig.root, 0o755);
  const vmDir = join(rig.root, 'of-root', 'vms');
  const bridge = bridgeName(onTestFinished);
  makeBridge(bridge);
  const drive = async () => {
    const login = { address: sshd.address, port: sshd.port, user: person.name, hostKeys: [sshd.hostKey()] };
    const ssh = { ...login, credentialsSecretRef: { name: 'far' } };
    const spec = { ssh, sudo: true, vmDir, allowedBridges: [bridge] };
    const host = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'Host', metadata: { name: 'far' }, spec };
    writeFileSync(rig.path('far.json'), JSON.stringify(host));
    const secret = ['secret', 'set', 'far', 'ssh-privatekey', '-n', 'qemu-operator-system'];
    await rig.ok(secret, { input: place.privateKey() });
    await rig.ok(['apply', '-f', rig.path('far.json'), '--wait=false']);
    await rig.controller(onTestFinished);
  };
  return { place, rig, person, vmDir, bridge, drive };
}

async function messageOf(place: RemotePlace, word: string, type: string): Promise<string> {
  const { status } = await place.get(word);
  return status?.conditions?.find((one: { readonly type: string }) => one.type === type)?.message ?? '';
}

test('a missing right is named with the rule that grants it; then sudo prepares, and QEMU is the user', {
  timeout: LIFE_MS,
}, async () => {
  const { place, rig, person, vmDir, bridge, drive } = await rack();
  const { uid, grant } = person;
  await drive();
  await place.untilCondition('qhost/far', 'VMDirReady', 'False VMDirMissing');
  grant(await messageOf(place, 'qhost/far', 'VMDirReady'));
  await place.untilCondition('qhost/far', 'Ready', 'True Ready', 60_000);
  expect(statSync(vmDir)).toMatchObject({ uid, mode: 0o40700 });

  const networks = [{ name: 'net0', bridge: { name: bridge } }];
  const disks = [{ name: 'root', size: '1Gi' }];
  await rig.ok(['apply', '--wait=false', '-f', rig.manifest('web-1', { hostName: 'far', networks, disks })]);
  await place.untilCondition('qvm/web-1', 'Ready', 'False BridgeNotAllowed');
  expect((await rig.run(['doctor', '--host', 'far'])).stdout).toMatch(/sudo makes no interfaces for/);
  expect(portsOf(bridge)).toEqual([]);
  grant(await messageOf(place, 'qvm/web-1', 'Ready'));
  await place.untilCondition('qvm/web-1', 'Ready', 'True Running', 60_000);
  const tap = await untilJoined(bridge);
  const said = (file: string) => readFileSync(join(NET, tap, file), 'utf8').trim();
  expect([said('owner'), said('mtu')]).toEqual([String(uid), '1400']);
  const process = readFileSync(`/proc/${(await place.get('qvm/web-1')).status.pid}/status`, 'utf8');
  // No helper gains rights for it, so the sandbox stays.
  expect(process).toMatch(new RegExp(`^Uid:\\s+${uid}\\s[^]*^Seccomp:\\s+2$`, 'm'));
  expect((await rig.run(['doctor', '--host', 'far'])).stdout).toMatch(/sudo makes interfaces for/);

  ip('link', 'set', tap, 'nomaster');
  await rig.ok(['annotate', 'qvm', 'web-1', `qemu-operator.dev/look-requested-at=${new Date().toISOString()}`]);
  expect(await untilJoined(bridge)).toBe(tap);

  await rig.ok(['stop', 'web-1', '--force']);
  const isThere = () => existsSync(join(NET, tap));
  await until('the interface is gone', isThere, (there) => !there);
  await rig.ok(['start', 'web-1']);
  expect(await untilJoined(bridge)).toBe(tap);
  await rig.ok(['stop', 'web-1', '--force']);
  await rig.ok(['delete', 'qvm', 'web-1']);
  const left = readdirSync(vmDir).filter((name) => !name.startsWith('.'));
  expect([portsOf(bridge), isThere(), left]).toEqual([[], false, []]);
});

test("sudo takes a file system that nobody has used, and nobody's folder", { timeout: LIFE_MS }, async () => {
  const { place, person, vmDir, drive } = await rack();
  const { uid, grant } = person;
  grant(EVERYTHING(person.name));
  mkdirSync(join(vmDir, 'lost+found'), { recursive: true });
  writeFileSync(join(vmDir, 'theirs'), 'x');
  await drive();
  await place.untilCondition('qhost/far', 'VMDirReady', 'False VMDirMissing');
  expect(await messageOf(place, 'qhost/far', 'VMDirReady')).toMatch(/in use \(theirs *\): it is not taken/);
  expect(statSync(vmDir).uid).toBe(0);
  rmSync(join(vmDir, 'theirs'));
  await place.untilCondition('qhost/far', 'Ready', 'True Ready', 60_000);
  expect(statSync(vmDir).uid).toBe(uid);
});
