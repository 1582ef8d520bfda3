/** Whose a Secret with credentials is, and when it goes: never one that another Host or a person needs. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { OPERATOR_NAMESPACE } from '../../src/api/host-ssh.ts';
import { API_VERSION } from '../../src/api/meta.ts';
import {
  type CredentialsPlace,
  forgetLeftCredentials,
  forgetOwnCredentials,
  handOver,
  keepCredentials,
  withOwnCredentials,
} from '../../src/store/host-credentials.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';

const credentials = { password: Buffer.from('first') };
const later = () => Date.now() + 60_000;

interface Place extends CredentialsPlace {
  /** A Host that logs in with a Secret. */
  add(name: string, secret: string): Promise<unknown>;
  /** The Host and its own Secret. */
  addOwn(name: string): Promise<unknown>;
  passwordOf(secret: string): Promise<string | undefined>;
}

function place(): Place {
  const folder = mkdtempSync(join(tmpdir(), 'qo-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'secrets'), { mode: 0o700 });
  const [store, secrets] = [createMemoryStore(), new SecretFolder(join(folder, 'secrets'))];
  const add = (name: string, secret: string) => {
    const spec = { ssh: { address: name, credentialsSecretRef: { name: secret } } };
    const document = { apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec };
    return store.create(parseManifest(document) as Manifest<'Host'>);
  };
  return {
    store,
    secrets,
    add,
    addOwn: (name) => withOwnCredentials({ store, secrets }, { host: name, credentials }, () => add(name, name)),
    async passwordOf(name) {
      const value = await secrets.read({ namespace: OPERATOR_NAMESPACE, name, key: 'password' });
      return value && Buffer.from(value).toString();
    },
  };
}

test('a Secret that another Host logs in with is not replaced', async () => {
  const bench = place();
  await bench.add('k4', 'k5');
  await keepCredentials(bench.secrets, 'k5', { password: Buffer.from('of k4') });
  await expect(bench.addOwn('k5')).rejects.toThrow(/Secret k5 .* is how Host k4 logs in/);
  expect(await bench.passwordOf('k5')).toBe('of k4');
});

test('nor one that a person set', async () => {
  const bench = place();
  await keepCredentials(bench.secrets, 'k5', { password: Buffer.from('of a person') });
  await expect(bench.addOwn('k5')).rejects.toThrow(/secret delete k5 -n qemu-operator-system/);
  expect(await bench.passwordOf('k5')).toBe('of a person');
});

test('a Host that cannot be made leaves no Secret', async () => {
  const { store, secrets } = place();
  const make = () => Promise.reject(new Error('the disk is full'));
  const made = withOwnCredentials({ store, secrets }, { host: 'k5', credentials }, make);
  await expect(made).rejects.toThrow('the disk is full');
  expect(await secrets.list()).toEqual([]);
});

test('the Secret of a Host that is gone goes, and no other one', async () => {
  const bench = place();
  const { store, secrets } = bench;
  for (const name of ['gone', 'here', 'shared']) await bench.addOwn(name);
  await bench.add('other', 'shared');
  await keepCredentials(secrets, 'of-a-person', credentials);
  await forgetLeftCredentials(bench, later());
  for (const name of ['gone', 'shared']) await store.delete('Host', { name });
  // Written a moment ago: its Host may be about to be made.
  await forgetLeftCredentials(bench, Date.now());
  expect(await bench.passwordOf('gone')).toBe('first');
  await forgetLeftCredentials(bench, later());
  const names = (await secrets.list()).map(({ name }) => name);
  expect([...new Set(names)]).toEqual(['here', 'of-a-person', 'shared']);
  await store.delete('Host', { name: 'other' });
  await forgetLeftCredentials(bench, later());
  expect(await bench.passwordOf('shared')).toBeUndefined();
});

test('replaced credentials still go with the Host', async () => {
  const bench = place();
  await bench.addOwn('rack1');
  await keepCredentials(bench.secrets, 'rack1', { 'ssh-privatekey': Buffer.from('key') });
  expect(await bench.passwordOf('rack1')).toBeUndefined();
  await forgetOwnCredentials(bench, 'rack1');
  expect(await bench.secrets.list()).not.toEqual([]);
  await bench.store.delete('Host', { name: 'rack1' });
  await forgetOwnCredentials(bench, 'rack1');
  expect(await bench.secrets.list()).toEqual([]);
});

test('what a person sets in a Secret that was left is kept', async () => {
  const bench = place();
  await bench.addOwn('rack1');
  await bench.store.delete('Host', { name: 'rack1' });
  await handOver(bench, 'rack1');
  await forgetLeftCredentials(bench, later());
  expect(await bench.passwordOf('rack1')).toBe('first');
});
