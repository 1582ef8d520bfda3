/** Streams of a cluster when something goes wrong: strangers, ends of either side, readers that do not read, new certificates. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Running } from '../e2e/support/cli-rig.ts';
import { until } from '../e2e/support/wait.ts';
import { NAMESPACE, RELEASE } from './support/chart.ts';
import { streamsAddress } from './support/streams.ts';
import { forwarded, pathOf, StreamsRig, type } from './support/streams-rig.ts';

const ends: (() => Promise<void>)[] = [];
let rig: StreamsRig;

beforeAll(async () => {
  rig = await StreamsRig.start((work) => ends.push(work));
  await rig.apply(rig.vm('web', await rig.linux('web')), rig.vm('tiny', rig.tiny('tiny')));
  await rig.running('web', 'tiny');
  // What is typed before its prompt is there is lost in part.
  await rig.inGuest('web');
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

const openssl = (...words: readonly string[]) =>
  execFileSync('openssl', words, { cwd: rig.cluster.folder, stdio: 'pipe' });

/** Files NAME.key and NAME.crt of the cluster's folder. @param by an authority there; absent: it is one itself */
function certificate(name: string, commonName: string, by?: string): void {
  openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
    '-subj',
    `/CN=${commonName}`,
  );
  const signer =
    by === undefined ? ['-signkey', `${name}.key`] : ['-CA', `${by}.crt`, '-CAkey', `${by}.key`, '-CAcreateserial'];
  openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-days', '2', '-out', `${name}.crt`);
}

/** Asks an operator without the API server. @param who name of a certificate; absent: none */
async function directly(operator: Running, who: string | undefined, path: string, user = 'system:admin') {
  const file = (name: string) => readFileSync(rig.cluster.path(name));
  const own = who === undefined ? {} : { cert: file(`${who}.crt`), key: file(`${who}.key`) };
  const headers = { 'X-Remote-User': user, 'X-Remote-Group': 'system:masters' };
  const place = { ...(await streamsAddress(operator)), path, headers, agent: false, rejectUnauthorized: false };
  const [answer] = await once(request({ ...place, ...own }).end(), 'response');
  return { status: answer.statusCode as number, body: await text(answer) };
}

test('strangers are refused, whoever they say they are: no certificate, another CA, another name', async () => {
  const [operator] = rig.operators as [Running];
  certificate('other-ca', 'front');
  certificate('forged', 'front-proxy-client', 'other-ca');
  certificate('misnamed', 'somebody', 'front');
  const log = pathOf('tiny', 'log?console=true');
  for (const path of [log, '/apis', pathOf('tiny', 'console')]) {
    expect(await directly(operator, undefined, path)).toMatchObject({
      status: 401,
      body: expect.stringContaining('taken from the API server alone'),
    });
    expect(await directly(operator, 'forged', path)).toMatchObject({ status: 401 });
    expect(await directly(operator, 'misnamed', path)).toMatchObject({
      status: 401,
      body: expect.stringContaining('none that may speak for users'),
    });
    // Nor is one that the API server itself would believe.
    expect(await directly(operator, 'admin', path)).toMatchObject({ status: 401 });
  }
  expect(await directly(operator, 'proxy', log)).toMatchObject({ status: 200, body: expect.stringContaining('TINY') });
  expect(await directly(operator, 'proxy', log, '')).toMatchObject({
    status: 401,
    body: expect.stringContaining('no user is named'),
  });
});

test('another CA of the API server counts as soon as it is published', async () => {
  const [operator] = rig.operators as [Running];
  certificate('next-ca', 'next-front');
  certificate('next', 'front-proxy-client', 'next-ca');
  const log = pathOf('tiny', 'log?console=true');
  expect(await directly(operator, 'next', log)).toMatchObject({ status: 401 });
  const both = ['front.crt', 'next-ca.crt'].map((name) => readFileSync(rig.cluster.path(name), 'utf8')).join('');
  const patch = JSON.stringify({ data: { 'requestheader-client-ca-file': both } });
  const words = [
    'patch',
    'configmap',
    'extension-apiserver-authentication',
    '-n',
    'kube-system',
    '--type=merge',
    '-p',
    patch,
  ];
  await rig.cluster.kubectl(words);
  await until(
    'the new one counts',
    () => directly(operator, 'next', log),
    ({ status }) => status === 200,
  );
  expect(await directly(operator, 'proxy', log)).toMatchObject({ status: 200 });
});

test('a new certificate is served without a restart; half of one is waited for', async () => {
  const [operator] = rig.operators as [Running];
  const { host, port } = await streamsAddress(operator);
  const shown = async () => {
    const socket = connectTls({ host, port, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return subject.CN;
  };
  const service = `${RELEASE}.${NAMESPACE}.svc`;
  expect(await shown()).toBe(service);
  certificate('renewed', 'renewed');
  // The operator's own view of /run.
  const file = (name: string) => `/proc/${operator.child.pid}/root/run/secrets/qemu-operator.dev/streams/${name}`;
  const former = ['tls.crt', 'tls.key'].map((name) => readFileSync(file(name)));
  const put = (name: string, bytes: Buffer | string) => {
    writeFileSync(file(`${name}.new`), bytes);
    renameSync(file(`${name}.new`), file(name));
  };
  put('tls.crt', readFileSync(rig.cluster.path('renewed.crt')));
  await operator.says(/a new certificate cannot be used/);
  expect(await shown()).toBe(service);
  put('tls.key', readFileSync(rig.cluster.path('renewed.key')));
  await until('the new one is served', shown, (name) => name === 'renewed');
  for (const [index, name] of ['tls.crt', 'tls.key'].entries()) put(name, former[index] ?? '');
  await until('the former one is served', shown, (name) => name === service);
});

test('either operator serves, also the one that does not drive the Host', async () => {
  const both = rig.operators;
  for (const operator of both) {
    await rig.route([operator]);
    expect((await rig.raw('reader', 'log?console=true&tailLines=1', 'tiny')).stdout).toMatch(/^TINY-/);
    const opened = await rig.console('dev', 'web');
    type(opened, '\necho $((20+3))-here\n');
    await opened.says(/23-here/);
    await opened.stop('SIGINT');
  }
  await rig.route(both);
});

function rssMiB({ child }: Running): number {
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}

test('a reader that does not read holds up the guest, and nothing grows', async () => {
  const [operator] = rig.operators as [Running];
  const both = rig.operators;
  await rig.route([operator]);
  const sink = 'nc -ll -p 82 -e /bin/dd if=/dev/zero bs=64k count=4000 >/dev/null 2>&1 </dev/null &';
  await rig.inGuest('web', sink);
  const forward = rig.start('dev', 'port-forward', 'web', ':82');
  const port = await forwarded(forward, 82);
  const reader = await until(
    'bytes come',
    async () => {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      const [first] = await Promise.race([once(socket, 'data'), once(socket, 'close')]);
      return first instanceof Buffer ? socket.pause() : undefined;
    },
    (socket) => socket !== undefined,
  );
  const rss = () => [rssMiB(operator), rssMiB(forward)];
  const before = rss();
  const grownSince = (then: readonly number[]) => rss().map((mib, index) => mib - (then[index] ?? 0));
  // The buffers of the kernel and of the API server fill first.
  await until(
    'nothing grows any more',
    async () => {
      const then = rss();
      await sleep(5_000);
      return grownSince(then);
    },
    (grown) => grown.every((mib) => mib < 1),
  );
  const settled = rss();
  await sleep(10_000);
  for (const mib of grownSince(settled)) expect(mib).toBeLessThan(4);
  // It has not been given up either: the rest comes when it reads on.
  let bytes = 0;
  reader?.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  reader?.resume();
  await until(
    'the rest comes',
    () => bytes,
    (count) => count > 32 * 1024 * 1024,
  );
  // The guest has four times as much to say.
  for (const mib of grownSince(before)) expect(mib).toBeLessThan(64);
  await forward.stop('SIGINT');
  await rig.route(both);
}, 240_000);

test('a machine that stops ends its streams', async () => {
  const opened = await rig.console('dev', 'tiny');
  const following = rig.start('reader', 'logs', 'tiny', '--console', '-f');
  await following.says(/TINY-UP/);
  await rig.patch('tiny', { powerState: 'PoweredOff' });
  expect(await opened.ended).toMatchObject({
    code: 0,
    stderr: expect.stringContaining('The console of tiny has ended.'),
  });
  const off = await rig.start('dev', 'console', 'tiny').ended;
  expect(off).toMatchObject({ code: 1, stderr: 'error: tiny has no console now: it is not running (Stopped)\n' });
  await rig.cluster.kubectl(['delete', 'qvm', 'tiny', '-n', 'team-a', '--timeout=60s']);
  expect((await following.ended).stderr).toBe('');
});

test('an operator that stops says so; one that is killed breaks the stream; the other serves on', async () => {
  const [first, second] = rig.operators as [Running, Running];
  await rig.route([first]);
  const broken = await rig.console('dev', 'web');
  const log = rig.start('dev', 'logs', 'web', '--console', '-f');
  await log.says(/linux/);
  await first.stop('SIGKILL');
  expect(await broken.ended).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/error: the console of web broke off: the connection broke/),
  });
  expect(await log.ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/error: the log broke off: /) });
  await rig.route([second]);
  const again = await rig.console('dev', 'web');
  type(again, '\necho $((30+4))-again\n');
  await again.says(/34-again/);
  second.child.kill('SIGTERM');
  expect(await again.ended).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('error: the console of web broke off: the operator stops'),
  });
  expect((await second.ended).code).toBe(0);
  const nobody = await rig.start('dev', 'console', 'web').ended;
  expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining('no operator answers for the API server') });
});
