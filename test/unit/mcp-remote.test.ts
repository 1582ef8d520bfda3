/** Hosts over SSH as the tools name them: by a registered name, by an address, or made for an address. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { StoreUnavailableError } from '../../src/api/errors.ts';
import type { Attempt } from '../../src/api/host-ssh.ts';
import { ANNOTATIONS, API_VERSION } from '../../src/api/meta.ts';
import type { Remotes } from '../../src/mcp/remote-hosts.ts';
import { sweepHosts } from '../../src/remote/passing-hosts.ts';
import { forgetLeftCredentials, keepCredentials } from '../../src/store/host-credentials.ts';
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
    super('publickey: refused.');
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
    // ~/.ssh/config has an alias `al`.
    loginOf: async ({ address, port, user }) => {
      const said = address === 'al' ? { port: 2222, user: 'alice' } : { port: 22, user: 'me' };
      return { port: port ?? said.port, user: user ?? said.user };
    },
    keyFiles: true,
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
      ssh: { address: '10.0.0.5', user: 'ops', hostKeys: [KEY], credentialsSecretRef: { name } },
      vmDir: '/home/ops/.local/share/qemu-operator',
      allowedPaths: ['/'],
    });
    expect(await secrets.list()).toEqual([
      expect.objectContaining({ name, key: 'made-with-host-at' }),
      { namespace: 'qemu-operator-system', name, key: 'password', bytes: LOGIN.ssh_pwd.length },
    ]);
    expect(host?.spec.ssh).not.toHaveProperty('port');
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
    ['CredentialsInvalidError', 'CredentialsInvalid', 'ssh_pwd'],
    ['HostKeyRefusedError', 'HostKeyChanged', 'host'],
    ['HostUnreachableError', 'HostUnreachable', 'host'],
  ])('that ends with %s leaves nothing behind', async (error, code, field) => {
    const { call, remotes, secrets, store } = await place(error);
    const result = await call('list_vms', LOGIN, { remotes });
    expect(result.data.error).toMatchObject({ code, field });
    expect([await secrets.list(), (await store.list('Host')).items.length]).toEqual([[], 1]);
    expect(JSON.stringify(result)).not.toContain(LOGIN.ssh_pwd);
    expect(result.message).not.toContain('..');
  });

  test('with a wrong password says which argument, and what to call with another one', async () => {
    const { call, remotes } = await place('CredentialsInvalidError');
    const { data } = await call('list_vms', LOGIN, { remotes });
    expect(data.error).toEqual({
      code: 'CredentialsInvalid',
      field: 'ssh_pwd',
      next: { tool: 'list_vms', arguments: { host: '10.0.0.5', ssh_user: 'ops', ssh_pwd: '...' } },
    });
  });

  test('that is an alias of ~/.ssh/config takes its port', async () => {
    const { call, remotes, attempts } = await place();
    await call('list_vms', { ...LOGIN, host: 'al' }, { remotes });
    expect(attempts[0]?.ssh).toEqual({ address: 'al', user: 'ops' });
  });

  test('whose Host cannot be made leaves no Secret', async () => {
    const { call, remotes, secrets, store } = await place();
    store.create = () => Promise.reject(new StoreUnavailableError('the disk is full'));
    expect((await call('list_vms', LOGIN, { remotes })).success).toBe(false);
    expect(await secrets.list()).toEqual([]);
  });

  test('is refused by a server that may make nothing', async () => {
    const { call, remotes } = await place();
    const { data } = await call('list_vms', LOGIN, { remotes: { ...remotes, welcome: undefined } });
    expect(data.error).toMatchObject({ code: 'ReadOnly', field: 'host' });
  });

  test('that is an option of ssh is refused before anything is tried', async () => {
    const { call, attempts, remotes } = await place();
    const { success } = await call('list_vms', { ...LOGIN, host: '-oProxyCommand=x' }, { remotes });
    expect([success, attempts]).toEqual([false, []]);
  });
});

/** A Host that a person made, with a password. */
async function register({ store, secrets }: Place, name: string, ssh: object, password = LOGIN.ssh_pwd): Promise<void> {
  const spec = { ssh: { ...ssh, credentialsSecretRef: { name } } };
  await store.create(
    parseManifest({ apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec }) as Manifest<'Host'>,
  );
  await keepCredentials(secrets, name, { password: Buffer.from(password) });
}

describe('a registered Host', () => {
  test.each([
    ['another password', { ssh_pwd: 'another' }, 'ssh_pwd', 'host credentials rack1'],
    ['another user', { host: 'rack1', ssh_user: 'root' }, 'ssh_user', 'patch qhost rack1'],
    ['another port', { host: 'rack1', ssh_port: 2222 }, 'ssh_port', 'patch qhost rack1'],
    ['a key', { ssh_key: '/k' }, 'ssh_key', 'host credentials rack1'],
  ])('refuses %s, and says what changes it', async (_title, args, field, command) => {
    const bench = await place();
    const { call, remotes } = bench;
    await register(bench, 'rack1', { address: '10.0.0.5', user: 'ops' });
    expect((await call('list_vms', LOGIN, { remotes })).success).toBe(true);
    const { success, message, data } = await call('list_vms', { ...LOGIN, ...args }, { remotes });
    expect([success, data.error.field]).toEqual([false, field]);
    expect(message).toContain(command);
    expect(data.error.next).toEqual({ tool: 'list_vms', arguments: { host: 'rack1' } });
  });

  test('that is an alias of ~/.ssh/config has the port and user of the alias', async () => {
    const bench = await place();
    const { call, remotes, attempts } = bench;
    await register(bench, 'rack1', { address: 'al' });
    const login = { ssh_port: 2222, ssh_user: 'alice', ssh_pwd: LOGIN.ssh_pwd };
    for (const host of ['rack1', 'al'])
      expect(await call('list_vms', { host, ...login }, { remotes })).toMatchObject({ success: true });
    const { data } = await call('list_vms', { host: 'rack1', ...login, ssh_port: 22 }, { remotes });
    expect([data.error.field, attempts]).toEqual(['ssh_port', []]);
  });

  test('whose address others have as well is named by the call, or known by its login', async () => {
    const bench = await place();
    const { call, remotes, store, secrets, attempts } = bench;
    await register(bench, 'rack1', { address: '10.0.0.5', user: 'ops' });
    await register(bench, 'rack2', { address: '10.0.0.5', user: 'ops' }, 'of rack2');
    const before = await secrets.list();
    for (const args of [{ host: LOGIN.host }, { ...LOGIN, ssh_pwd: 'another' }, { ...LOGIN, ssh_pwd: undefined }]) {
      const { success, message, data } = await call('list_vms', args, { remotes });
      expect([success, data.error]).toEqual([
        false,
        expect.objectContaining({ code: 'InvalidArgument', field: 'host', allowed: ['rack1', 'rack2'] }),
      ]);
      expect(message).toContain('say host: rack1, rack2');
    }
    expect((await call('list_vms', { ...LOGIN, ssh_pwd: 'of rack2' }, { remotes })).success).toBe(true);
    expect([await secrets.list(), (await store.list('Host')).items.length, attempts]).toEqual([before, 3, []]);
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
    await sweepHosts(store, Date.now());
    expect((await store.list('Host')).items).toHaveLength(2);
    await sweepHosts(store, later());
    expect((await store.list('Host')).items).toHaveLength(1);
    await forgetLeftCredentials({ store, secrets }, later());
    expect(await secrets.list()).toEqual([]);
  });

  test('one with a VM stays, and one that a person made', async () => {
    const bench = await place();
    await bench.call('list_vms', LOGIN, { remotes: bench.remotes });
    await bench.addVm('web', { host: (await made(bench))?.metadata.name ?? '' });
    await sweepHosts(bench.store, later());
    expect((await bench.store.list('Host')).items).toHaveLength(2);
  });
});
