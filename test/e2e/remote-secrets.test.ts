/** The secrets of a host: during a run in no command line and environment, after it in their own files alone. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ordinaryUser } from '../ordinary-user.mjs';
import { openMcp } from './mcp-client.ts';
import { requireRoot } from './support/bridges.ts';
import { RemotePlace } from './support/remote-place.ts';
import { makeKey } from './support/sshd.ts';

const EVERY_MS = 20;
const SECRETS = join('.state', 'secrets', 'qemu-operator-system');

/** Looks at every process of the machine again and again; ends with the number of looks and what was found. */
function watchProcesses(secrets: readonly string[]): () => { looks: number; found: string[] } {
  let looks = 0;
  const found: string[] = [];
  const timer = setInterval(() => {
    looks += 1;
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      for (const name of ['cmdline', 'environ']) {
        const text = read(`/proc/${pid}/${name}`);
        if (secrets.some((secret) => text.includes(secret))) found.push(`${name} of ${read(`/proc/${pid}/comm`)}`);
      }
    }
  }, EVERY_MS);
  onTestFinished(() => clearInterval(timer));
  return () => {
    clearInterval(timer);
    return { looks, found };
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** Paths below the folders, from the folder on, of files that hold it, with their modes. */
function holders(folders: readonly string[], secret: string): string[] {
  return folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => readFileSync(path).includes(secret))
      .map((path) => `${path.slice(folder.length + 1)} ${(statSync(path).mode & 0o777).toString(8)}`),
  );
}

test('password, passphrase, key and key path: nothing of them is seen or left but in their Secrets, by commands and tools', {
  timeout: 300_000,
}, async () => {
  requireRoot();
  const person = ordinaryUser();
  onTestFinished(() => person.remove());
  const password = randomBytes(12).toString('hex');
  const passphrase = randomBytes(12).toString('hex');
  execFileSync('chpasswd', { input: `${person.name}:${password}\n` });
  const place = await RemotePlace.start(onTestFinished, { user: person.name });
  const { rig, sshd } = place;
  const locked = join(sshd.folder, 'locked');
  makeKey(locked, 'ed25519', passphrase);
  writeFileSync(place.authorizedFile, readFileSync(`${locked}.pub`), { flag: 'a' });
  const keyText = (path: string) => readFileSync(path, 'utf8').split('\n')[2] ?? '';
  const secrets = [password, passphrase, keyText(locked), keyText(sshd.identity)];
  const watch = watchProcesses(secrets);
  const said: string[] = [];
  const ok = async (words: readonly string[], input?: string | Uint8Array) => {
    const { stdout, stderr } = await rig.ok(words, input === undefined ? {} : { input });
    said.push(stdout, stderr);
  };
  const controller = await rig.controller(onTestFinished);
  const vmDir = (name: string) => ['--vm-dir', join(person.home, name)];
  const add = async (name: string, more: readonly string[], input?: string | Uint8Array) => {
    const address = `${sshd.user}@127.0.0.1`;
    await ok(['host', 'add', name, address, '--port', String(sshd.port), ...vmDir(name), ...more], input);
  };
  await add('by-password', ['--password'], `${password}\n`);
  await add('by-passphrase', ['-i', locked, '--passphrase'], `${passphrase}\n`);
  await add('by-key', ['--key'], place.privateKey());
  await add('by-path', ['-i', sshd.identity]);
  const names = ['by-password', 'by-passphrase', 'by-key', 'by-path'];
  for (const name of names) {
    await place.untilCondition(`qhost/${name}`, 'Ready', 'True Ready');
    await ok(['host', 'describe', name]);
    await ok(['get', 'qhost', name, '-o', 'yaml']);
  }
  // The user reads no file of root.
  const disks = [{ name: 'root', size: '4Mi' }];
  await ok(['apply', '-f', rig.manifest('web-1', { hostName: 'by-password', disks })]);
  await ok(['doctor', '--host', 'by-password']);
  await ok(['events']);
  await ok(['secret', 'list', '-n', 'qemu-operator-system']);
  await ok(['delete', 'qvm', 'web-1']);
  const ended = await controller.stop();
  said.push(ended.stdout, ended.stderr);
  const tools = { root: rig.root, store: rig.path('tools'), vmDir: rig.vmDir, clear: () => undefined };
  const mcp = await openMcp(tools);
  const login = { host: '127.0.0.1', ssh_port: sshd.port, ssh_user: person.name };
  for (const credentials of [{ ssh_pwd: password }, { ssh_key: sshd.identity, ssh_user: sshd.user }]) {
    const answer = await mcp.call('list_vms', { ...login, ...credentials });
    said.push(JSON.stringify(answer));
  }
  said.push(mcp.stderr());
  await mcp.close();
  const { looks, found } = watch();
  expect([looks > 50, found]).toEqual([true, []]);
  const text = said.join('\n');
  for (const secret of secrets) expect(text).not.toContain(secret);
  const left = [rig.root, person.home];
  const inStore = (name: string, key: string) => join('store', SECRETS, name, `${key} 600`);
  expect(holders(left, password).sort()).toEqual([
    inStore('by-password', 'password'),
    expect.stringMatching(/^tools\/\.state\/secrets\/qemu-operator-system\/host-127-0-0-1-[0-9a-f]{6}\/password 600$/),
  ]);
  expect(holders(left, passphrase)).toEqual([inStore('by-passphrase', 'passphrase')]);
  expect(holders(left, keyText(sshd.identity))).toEqual([inStore('by-key', 'ssh-privatekey')]);
  expect(holders(left, keyText(locked))).toEqual([]);
});
