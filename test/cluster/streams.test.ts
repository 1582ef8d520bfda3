/** Streams of VMs through the API server, by people who may read neither Hosts nor Secrets. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../e2e/support/wait.ts';
import { NAMESPACE } from './support/chart.ts';
import { DETACH, forwarded, StreamsRig, TEAM, type } from './support/streams-rig.ts';

const ends: (() => Promise<void>)[] = [];
let rig: StreamsRig;

beforeAll(async () => {
  rig = await StreamsRig.start((work) => ends.push(work));
  await rig.apply(rig.vm('web', await rig.linux('web')), rig.vm('tiny', rig.tiny('tiny')));
  await rig.running('web', 'tiny');
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

test('the API server finds it, and kubectl is not confused by it', async () => {
  const document = await rig.cluster.kubectl(['get', '--raw', '/apis/subresources.qemu-operator.dev/v1alpha1']);
  const { resources } = JSON.parse(document) as { resources: { name: string; verbs: string[] }[] };
  expect(resources.map(({ name }) => name)).toContain('virtualmachines/console');
  const found = await rig.kubectl('dev', 'get', 'virtualmachines', 'web', '-o', 'name');
  expect(found).toEqual({ code: 0, stdout: 'virtualmachine.qemu-operator.dev/web\n', stderr: '' });
  for (const what of [['hosts.qemu-operator.dev'], ['secrets', '-n', NAMESPACE]])
    expect((await rig.kubectl('dev', 'auth', 'can-i', 'get', ...what)).stdout).toBe('no\n');
});

test('a console: what the guest prints and what is typed; who holds it is told; it outlives the time of a request', async () => {
  const opened = await rig.console('dev', 'web');
  const from = performance.now();
  expect(opened.stderr).toContain('Connected to the console of web. The escape key is ^].');
  type(opened, '\n');
  await opened.says(/linux:~# /);
  type(opened, 'echo $((6*7))-answers\n');
  await opened.says(/42-answers/);
  const second = await rig.start('dev', 'console', 'web').ended;
  expect(second.code).toBe(4);
  expect(second.stderr).toMatch(
    /^error: the console is held by system:serviceaccount:team-a:dev on \S+ \(pid \d+\) since \d{4}-/,
  );
  await until(
    'a request of the API server may last no longer',
    () => performance.now() - from,
    (ms) => ms > 65_000,
    80_000,
  );
  type(opened, 'echo $((7*7))-later\n');
  await opened.says(/49-later/);
  type(opened, DETACH);
  expect(await opened.ended).toMatchObject({ code: 0, stderr: expect.stringContaining('Disconnected from web.') });
  const third = await rig.console('dev', 'web');
  expect((await third.stop('SIGINT')).code).toBe(130);
}, 240_000);

test('a screen answers RFB, and asks for the password that was told; a picture of it', async () => {
  const screen = rig.start('dev', 'vnc', 'web');
  await screen.says(/Password: \S{8}\n/);
  const viewer = connect(Number(/Address: +127\.0\.0\.1:(\d+)/.exec(screen.stdout)?.[1]), '127.0.0.1');
  expect(String((await once(viewer, 'data'))[0])).toBe('RFB 003.008\n');
  viewer.write('RFB 003.008\n');
  // One kind of security, and it is 2: VNC authentication (RFC 6143, 7.1.2).
  expect([...((await once(viewer, 'data'))[0] as Buffer)]).toEqual([1, 2]);
  viewer.destroy();
  expect(await screen.ended).toMatchObject({ code: 0, stderr: expect.stringContaining('The viewer has left.') });
  const file = join(rig.root, 'web.png');
  expect(await rig.start('dev', 'screenshot', 'web', '-o', file).ended).toMatchObject({ code: 0 });
  expect(readFileSync(file).subarray(1, 4).toString()).toBe('PNG');
});

/** What comes back over one connection that is ended after the words. */
async function heard(port: number, words: Buffer | string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => undefined);
  socket.end(words);
  return text(socket).catch(() => '');
}

test('ports: bytes both ways, half-closed, several at once, by a way made for it and by one of the spec', async () => {
  const echo = (port: number) => `nc -ll -p ${port} -e /bin/cat >/dev/null 2>&1 </dev/null &`;
  await rig.inGuest('web', echo(80), echo(8080));
  const forward = rig.start('dev', 'port-forward', 'web', ':80', '0:8080', ':81');
  const words = 'all that is said comes back\n'.repeat(10_000);
  for (const guestPort of [80, 8080]) {
    const port = await forwarded(forward, guestPort);
    await until(
      'an echo',
      () => heard(port, 'hello'),
      (said) => said === 'hello',
    );
    expect(await heard(port, words)).toBe(words);
    const several = ['a', 'b', 'c', 'd'];
    expect(await Promise.all(several.map((word) => heard(port, word)))).toEqual(several);
  }
  const nobody = connect(await forwarded(forward, 81), '127.0.0.1')
    .on('error', () => undefined)
    .resume();
  nobody.write('x');
  await once(nobody, 'close');
  await forward.says(/error: port 81 of the guest: /);
  expect((await forward.stop('SIGINT')).code).toBe(130);
  const networkless = await rig.start('dev', 'port-forward', 'tiny', '80').ended;
  expect(networkless).toMatchObject({ code: 1, stderr: 'error: no network leads to tiny: it has none\n' });
});

test('logs: what happened, the console, and what follows; kubectl reads them as well', async () => {
  const told = await rig.start('reader', 'logs', 'tiny').ended;
  expect(told.stderr).toBe('');
  expect(told.stdout).toMatch(/^==> history <==\n\d{4}-\S+Z {2}\w+ {2}/);
  const following = rig.start('reader', 'logs', 'tiny', '--console', '-f', '--tail', '1');
  await following.says(/^TINY-IO\n/);
  await rig.patch('tiny', { restartedAt: 'now' });
  await following.says(/TINY-UP\nTINY-IO\n/);
  expect((await following.stop('SIGTERM')).code).toBe(143);
  expect((await rig.raw('reader', 'log?console=true&tailLines=1', 'tiny')).stdout).toBe('TINY-IO\n');
  const wrong = await rig.raw('reader', 'log?lines=1', 'tiny');
  expect(wrong.stderr).toContain('of a log one says console, follow, previous, raw, tailLines');
});

test('whoever lacks a right is told which', async () => {
  const refused = (user: string, stream: string, verb: string) =>
    `"web" is forbidden: User "system:serviceaccount:team-a:${user}" cannot ${verb} resource "virtualmachines/${stream}" in API group "subresources.qemu-operator.dev" in the namespace "team-a"`;
  for (const [command, stream] of [
    [['console', 'web'], 'console'],
    [['vnc', 'web'], 'vnc'],
    [['port-forward', 'web', '80'], 'portforward'],
  ] as const) {
    const { code, stderr } = await rig.start('reader', ...command).ended;
    expect(code).toBe(1);
    expect(stderr).toContain('Error from server (Forbidden): virtualmachines.subresources.qemu-operator.dev');
    expect(stderr).toContain(refused('reader', stream, 'get'));
  }
  expect((await rig.raw('stranger', 'log')).stderr).toContain(refused('stranger', 'log', 'get'));
  // Whoever may read everything may read logs, and types nowhere.
  await rig.cluster.kubectl(['create', 'clusterrole', 'auditor', '--verb=get,list,watch', '--resource=*.*']);
  await rig.addUser('auditor', 'auditor');
  expect(await rig.raw('auditor', 'log')).toMatchObject({ code: 0 });
  const { code, stderr } = await rig.start('auditor', 'console', 'web').ended;
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(refused('auditor', 'console', 'create')),
  });
  expect((await rig.raw('dev', 'log', 'nobody')).stderr).toContain(
    'virtualmachines.qemu-operator.dev "nobody" not found',
  );
});

test("another's machine is not reached by its name, its folder or its Host", async () => {
  await rig.apply(rig.vm('thief', { ...rig.tiny('thief'), vmName: 'web' }));
  const refused = /thief is nowhere: .*\/web on rack1 belongs to another VirtualMachine/;
  await until(
    'the loop has looked',
    () => rig.get('thief'),
    ({ status }) => status?.phase !== undefined,
  );
  for (const words of [
    ['console', 'thief'],
    ['logs', 'thief', '--console'],
    ['vnc', 'thief'],
    ['port-forward', 'thief', '80'],
  ])
    expect((await rig.start('dev', ...words).ended).stderr).toMatch(refused);
  await rig.kubectl('dev', 'delete', 'qvm', 'thief', '--timeout=60s');
  expect((await rig.get('web')).metadata.namespace).toBe(TEAM);
});
