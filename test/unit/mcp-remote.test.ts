/** Hosts over SSH as the tools name them: by a registered name, by an address, or made for an address. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import type { Attempt } from '../../src/api/host-ssh.ts';
import { ANNOTATIONS, API_VERSION } from '../../src/api/meta.ts';
import type { Remotes } from '../../src/mcp/remote-hosts.ts';
import { sweep } from '../../src/remote/passing-hosts.ts';
import { keepCredentials } from '../../src/store/host-credentials.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';
import { until } from '../e2e/support/wait.ts';
import { AT, type Bench, makeBench } from './mcp-fakes.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3RrZXl0ZXN0a2V5dGVzdGtleXRlc3RrZXkw';
const LOGIN = { host: '10.0.0.5', ssh_user: 'ops', ssh_pwd: 'not to be repeated' };
const endings: (() => void)[] = [];

afterEach(() => {
  for (const end of endings.splice(0)) end();
});

class Refused extends Error {
  constructor(name: string) {
    super('publickey: refused');
    this.name = name;
  }
}

interface Place extends Bench {
  readonly folder: string;
  readonly secrets: SecretFolder;
  readonly attempts: Omit<Attempt, 'onNewKey'>[];
  readonly remotes: Remotes;
}

/** @param refusal name of the error that a login ends with */
async function place(refusal?: string): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), 'qo-'));
  endings.push(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'secrets'), { mode: 0o700 });
  const secrets = new SecretFolder(join(folder, 'secrets'));
  const bench = await makeBench();
  await bench.addHost('localhost');
  const attempts: Omit<Attempt, 'onNewKey'>[] = [];
  const remotes: Remotes = {
    secrets,
    welcome: async (attempt) => {
      attempts.push(attempt);
      if (refusal !== undefined) throw new Refused(refusal);
      void look(bench, attempt.name);
      return { vmDir: '/home/ops/.local/share/qemu-operator', user: 'ops', newKeys: [KEY], hasQemu: true };
    },
  };
  return { ...bench, folder, secrets, attempts, remotes };
}

/** As the loop does, as soon as the Host is there. */
async function look({ store }: Bench, name: string): Promise<void> {
  const host = await until(
    'the Host is made',
    () => store.get('Host', { name }),
    (found) => found !== undefined,
  );
  if (host === undefined) return;
  const conditions = [{ type: 'Ready', status: 'True', reason: 'Ready', message: '', lastTransitionTime: AT } as const];
  await store.updateStatus('Host', host.metadata, { conditions }, { uid: host.metadata.uid });
}

const made = async ({ store }: Bench) =>
  (await store.list('Host')).items.find(({ metadata }) => metadata.name !== 'localhost');

describe('an address that is not registered', () => {
  test('makes a Host and its Secret, and is answered under the name that was asked for', async () => {
    const { call, secrets, remotes, ...rest } = await place();
    const result = await call('list_vms', LOGIN, { remotes });
    expect(result).toMatchObject({ success: true, data: { host: '10.0.0.5', vm_count: 0 } });
    const host = await made({ call, ...rest });
    const name = host?.metadata.name ?? '';
    expect(name).toMatch(/^host-10-0-0-5-[0-9a-f]{6}$/);
    expect(host?.metadata.annotations).toHaveProperty([ANNOTATIONS.lastUsedAt]);
    expect(host?.spec).toMatchObject({
      ssh: { address: '10.0.0.5', port: 22, user: 'ops', hostKeys: [KEY], credentialsSecretRef: { name } },
      vmDir: '/home/ops/.local/share/qemu-operator',
      allowedPaths: ['/'],
    });
    expect(await secrets.list()).toEqual([
      { namespace: 'qemu-operator-system', name, key: 'password', bytes: LOGIN.ssh_pwd.length },
    ]);
    expect(JSON.stringify([host, result])).not.toContain(LOGIN.ssh_pwd);
  });

  test('is the same Host at the next call, without another login', async () => {
    const { call, attempts, remotes, store } = await place();
    for (const args of [LOGIN, LOGIN, { host: LOGIN.host }]) {
      expect((await call('list_vms', args, { remotes })).success).toBe(true);
    }
    expect(attempts).toHaveLength(1);
    expect((await store.list('Host')).items).toHaveLength(2);
  });

  test('of a key keeps the path alone; the key wins over the password', async () => {
    const { call, attempts, remotes, folder } = await place();
    const path = join(folder, 'id');
    writeFileSync(path, 'key');
    await call('list_vms', { ...LOGIN, ssh_key: path }, { remotes });
    expect(attempts[0]?.credentials).toEqual({ 'ssh-privatekey-path': Buffer.from(path) });
    expect((await call('list_vms', { ...LOGIN, ssh_key: path }, { remotes })).success).toBe(true);
  });

  test.each([
    ['without a user', { ssh_user: undefined }, 'ssh_user'],
    ['without a credential', { ssh_pwd: undefined }, 'ssh_pwd'],
    ['with a key that is not there', { ssh_key: '/not/there' }, 'ssh_key'],
  ])('%s is refused', async (_title, args, field) => {
    const { call, attempts, remotes, store } = await place();
    const { success, data } = await call('list_vms', { ...LOGIN, ...args }, { remotes });
    expect([success, data.error]).toEqual([false, expect.objectContaining({ code: 'InvalidArgument', field })]);
    expect([attempts.length, (await store.list('Host')).items.length]).toEqual([0, 1]);
  });

  test.each([
    ['CredentialsInvalidError', 'CredentialsInvalid', 'ssh_user'],
    ['HostKeyRefusedError', 'HostKeyChanged', 'host'],
    ['HostUnreachableError', 'HostUnreachable', 'host'],
  ])('that ends with %s leaves nothing behind', async (error, code, field) => {
    const { call, remotes, secrets, store } = await place(error);
    const result = await call('list_vms', LOGIN, { remotes });
    expect(result.data.error).toMatchObject({ code, field });
    expect([await secrets.list(), (await store.list('Host')).items.length]).toEqual([[], 1]);
    expect(JSON.stringify(result)).not.toContain(LOGIN.ssh_pwd);
  });

  test('is refused by a server that may make nothing', async () => {
    const { call, secrets } = await place();
    const { data } = await call('list_vms', LOGIN, { remotes: { secrets } });
    expect(data.error).toMatchObject({ code: 'ReadOnly', field: 'host' });
  });

  test('that is an option of ssh is refused before anything is tried', async () => {
    const { call, attempts, remotes } = await place();
    const { success } = await call('list_vms', { ...LOGIN, host: '-oProxyCommand=x' }, { remotes });
    expect([success, attempts]).toEqual([false, []]);
  });
});

describe('a registered Host', () => {
  test.each([
    ['another password', { ssh_pwd: 'another' }, 'ssh_pwd'],
    ['another user', { host: 'rack1', ssh_user: 'root' }, 'ssh_user'],
    ['another port', { host: 'rack1', ssh_port: 2222 }, 'ssh_port'],
    ['a key', { ssh_key: '/k' }, 'ssh_key'],
  ])('refuses %s', async (_title, args, field) => {
    const { call, remotes, store, secrets } = await place();
    const spec = { ssh: { address: '10.0.0.5', user: 'ops', credentialsSecretRef: { name: 'rack1' } } };
    await store.create(
      parseManifest({ apiVersion: API_VERSION, kind: 'Host', metadata: { name: 'rack1' }, spec }) as Manifest<'Host'>,
    );
    await keepCredentials(secrets, 'rack1', { password: Buffer.from(LOGIN.ssh_pwd) });
    expect((await call('list_vms', LOGIN, { remotes })).success).toBe(true);
    const { success, message, data } = await call('list_vms', { ...LOGIN, ...args }, { remotes });
    expect([success, data.error.field]).toEqual([false, field]);
    expect(message).toContain('host credentials rack1');
  });

  test('that is this machine takes no login', async () => {
    const { call, remotes } = await place();
    const { data } = await call('list_vms', { ssh_user: 'ops' }, { remotes });
    expect(data.error).toMatchObject({ code: 'InvalidArgument', field: 'ssh_user' });
    expect((await call('list_vms', { ssh_port: 22 }, { remotes })).success).toBe(true);
  });
});

describe('ten minutes after its last use', () => {
  const later = () => Date.now() + 601_000;

  test('a Host that a tool made goes, and its Secret after it', async () => {
    const { call, remotes, store, secrets } = await place();
    await call('list_vms', LOGIN, { remotes });
    expect(await sweep(store, secrets, { now: Date.now(), loose: new Set() })).toEqual(new Set());
    expect((await store.list('Host')).items).toHaveLength(2);
    await sweep(store, secrets, { now: later(), loose: new Set() });
    expect((await store.list('Host')).items).toHaveLength(1);
    const loose = await sweep(store, secrets, { now: later(), loose: new Set() });
    expect(await secrets.list()).toHaveLength(1);
    await sweep(store, secrets, { now: later(), loose });
    expect(await secrets.list()).toEqual([]);
  });

  test('one with a VM stays, and one that a person made', async () => {
    const bench = await place();
    await bench.call('list_vms', LOGIN, { remotes: bench.remotes });
    await bench.addVm('web', { host: (await made(bench))?.metadata.name ?? '' });
    await sweep(bench.store, bench.secrets, { now: later(), loose: new Set() });
    expect((await bench.store.list('Host')).items).toHaveLength(2);
  });
});
