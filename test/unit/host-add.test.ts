/** host add and host credentials, with a machine that lets everybody in. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { type Attempt, OPERATOR_NAMESPACE } from '../../src/api/host-ssh.ts';
import { API_VERSION } from '../../src/api/meta.ts';
import type { Context } from '../../src/cli/context.ts';
import { exitCodeOf } from '../../src/cli/exit-codes.ts';
import { type AddOptions, addHost } from '../../src/cli/host-add.ts';
import { replaceCredentials } from '../../src/cli/host-login.ts';
import { runCli } from '../../src/cli/program.ts';
import type { Session } from '../../src/cli/session.ts';
import { keepCredentials } from '../../src/store/host-credentials.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';
import type { Store } from '../../src/store/store.ts';
import { until } from '../e2e/support/wait.ts';

interface Place {
  readonly store: Store;
  readonly secrets: SecretFolder;
  readonly attempts: Omit<Attempt, 'onNewKey'>[];
  add(name: string, address: string | undefined, options?: Partial<AddOptions>): Promise<void>;
  credentials(name: string): Promise<void>;
  host(name: string, spec: object): Promise<unknown>;
  passwordOf(secret: string): Promise<string | undefined>;
  /** The command line. */
  run(...words: string[]): Promise<number>;
  /** What was written to stderr. */
  told(): string;
  /** The same of stdout. */
  shown(): string;
}

/** A service drives the store: nothing is run here. */
function place(): Place {
  const folder = mkdtempSync(join(tmpdir(), 'qo-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'secrets'), { mode: 0o700 });
  const [store, secrets] = [createMemoryStore(), new SecretFolder(join(folder, 'secrets'))];
  const attempts: Omit<Attempt, 'onNewKey'>[] = [];
  const session = {
    store,
    secrets,
    loop: {
      start: () => 'elsewhere',
      whoRuns: () => 'service',
      standBy: () => new Promise<void>(() => undefined),
      running: false,
      onEvent: () => undefined,
    },
    welcome: async (attempt: Omit<Attempt, 'onNewKey'>) => {
      attempts.push(attempt);
      return { vmDir: '/vms', user: 'ops', newKeys: [], hasQemu: true };
    },
    tryLogin: () => ({ shell: { run: async () => undefined }, close: async () => undefined }),
    close: async () => undefined,
  } as unknown as Session;
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const context = (): Context =>
    ({
      openSession: async () => session,
      stdin: Readable.from([Buffer.from('new password\n')]),
      stdout,
      stderr,
      env: {},
      invokedAs: 'qemu-operator',
      signal: new AbortController().signal,
    }) as unknown as Context;
  return {
    store,
    secrets,
    attempts,
    add: (name, address, options) =>
      addHost(context(), { name, address }, { password: true, wait: false, timeout: 5_000, ...options }),
    credentials: (name) => replaceCredentials(context(), name, { password: true }),
    host: (name, spec) => {
      const document = { apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec };
      return store.create(parseManifest(document) as Manifest<'Host'>);
    },
    async passwordOf(name) {
      const value = await secrets.read({ namespace: OPERATOR_NAMESPACE, name, key: 'password' });
      return value && Buffer.from(value).toString();
    },
    run: (...words) => runCli(words, context(), '0.0.0'),
    shown: () => String(stdout.read() ?? ''),
    told: () => String(stderr.read() ?? ''),
  };
}

const failure = async (work: Promise<unknown>): Promise<[code: number, message: string]> =>
  work.then(
    () => [0, ''],
    (error: unknown) => [exitCodeOf(error), String(error)],
  );

test('host add does not replace the credentials of another Host', async () => {
  const { add, host, secrets, passwordOf, store } = place();
  await host('k4', { ssh: { address: '10.0.0.4', credentialsSecretRef: { name: 'k5' } } });
  await keepCredentials(secrets, 'k5', { password: Buffer.from('of k4') });
  const [code, message] = await failure(add('k5', '10.0.0.5'));
  expect([code, message]).toEqual([4, expect.stringMatching(/is how Host k4 logs in.*give this Host another name/)]);
  expect(await passwordOf('k5')).toBe('of k4');
  expect(await store.get('Host', { name: 'k5' })).toBeUndefined();
});

test('host add leaves no Secret where the Host cannot be made', async () => {
  const { add, secrets, store } = place();
  store.create = () => Promise.reject(new Error('the disk is full'));
  expect(await failure(add('k5', '10.0.0.5'))).toEqual([1, expect.stringContaining('the disk is full')]);
  expect(await secrets.list()).toEqual([]);
});

test('host credentials says who else logs in with them', async () => {
  const { credentials, host, passwordOf, told } = place();
  for (const name of ['k4', 'k6']) await host(name, { ssh: { address: name, credentialsSecretRef: { name: 'k5' } } });
  await credentials('k4');
  expect([await passwordOf('k5'), told()]).toEqual(['new password', expect.stringMatching(/as well: host\/k6$/m)]);
});

test.each([
  ['10.0.0.5:2222', '10.0.0.5 --port 2222'],
  ['ops@[fd00::5]:2222', 'fd00::5 --port 2222'],
])('host add of %s says how the port is said', async (address, words) => {
  const { add, attempts } = place();
  expect(await failure(add('k5', address))).toEqual([2, expect.stringContaining(words)]);
  expect(attempts).toEqual([]);
});

test.each([
  ['ssh://ops@10.0.0.5:2222', {}, { address: '10.0.0.5', port: 2222, user: 'ops' }],
  ['ssh://[fd00::5]/', { user: 'root', port: '22' }, { address: 'fd00::5', port: 22, user: 'root' }],
  ['ops@fd00::5', {}, { address: 'fd00::5', user: 'ops' }],
])('host add of %s goes there', async (address, options, ssh) => {
  const { add, attempts } = place();
  await add('k5', address, options);
  expect(attempts.map((one) => one.ssh)).toEqual([ssh]);
});

test('host add through a Host that is not there, or is this machine, is refused before a login', async () => {
  const { add, host, attempts } = place();
  await host('bastion', { local: {} });
  expect(await failure(add('k5', 'k5', { jump: 'bastoin' }))).toEqual([
    3,
    expect.stringMatching(/"bastoin" not found; did you mean bastion\?/),
  ]);
  expect(await failure(add('k5', 'k5', { jump: 'bastion' }))).toEqual([2, expect.stringContaining('--jump')]);
  expect(attempts).toEqual([]);
});

test('host add waits until the Host is ready, also where a service drives the store', async () => {
  const { add, store, told } = place();
  const adding = failure(add('k5', '10.0.0.5', { wait: undefined, timeout: 60_000 }));
  const made = await until(
    'the Host is made',
    () => store.get('Host', { name: 'k5' }),
    (found) => found !== undefined,
  );
  const ready = (status: 'True' | 'False', reason: string) => ({
    observedGeneration: 1,
    conditions: [
      { type: 'Ready', status, reason, message: 'why', lastTransitionTime: '2026-01-01T00:00:00Z' } as const,
    ],
  });
  const ref = { name: 'k5' };
  const uid = { uid: made?.metadata.uid ?? '' };
  await store.updateStatus('Host', ref, ready('False', 'VMDirMissing'), uid);
  await until(
    'the reason is told',
    async () => told(),
    (text) => text.includes('VMDirMissing: why'),
  );
  await store.updateStatus('Host', ref, ready('True', 'Ready'), uid);
  expect(await adding).toEqual([0, '']);
});

test.each([
  ['VMDirMissing', 5],
  ['HostUnreachable', 6],
])('host add that waited in vain for %s ends with exit code %d', async (reason, code) => {
  const { add, store } = place();
  const adding = failure(add('k5', '10.0.0.5', { wait: undefined, timeout: 1_000 }));
  const made = await until(
    'the Host is made',
    () => store.get('Host', { name: 'k5' }),
    (found) => found !== undefined,
  );
  const conditions = [
    { type: 'Ready', status: 'False', reason, message: 'why', lastTransitionTime: '2026-01-01T00:00:00Z' } as const,
  ];
  const uid = { uid: made?.metadata.uid ?? '' };
  await store.updateStatus('Host', { name: 'k5' }, { observedGeneration: 1, conditions }, uid);
  expect(await adding).toEqual([code, expect.stringContaining(`${reason}: why`)]);
});

test('a word that is no command of hosts is answered with those that there are', async () => {
  const { run, told } = place();
  expect([await run('host', 'frobnicate'), told()]).toEqual([2, expect.stringContaining('there are add, list,')]);
});

test('the help of host add has one text for each option', async () => {
  const { run, shown } = place();
  await run('host', 'add', '--help');
  const help = shown();
  expect([help.match(/--vm-dir/g), help.match(/--store/g)]).toEqual([['--vm-dir'], ['--store']]);
});
