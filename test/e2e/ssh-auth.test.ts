/** Who a host lets in, and which host is believed to be itself, on a real sshd. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import {
  CredentialsInvalidError,
  HostKeyRefusedError,
  type SshCredentials,
  type SshRoute,
} from '../../src/host/ssh-route.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { makeKey, openedShell, Sshd, type SshdOptions, startAgent } from './support/sshd.ts';

const person = ordinaryUser();
const isRoot = process.getuid?.() === 0;
const password = randomBytes(12).toString('hex');
const passphrase = randomBytes(12).toString('hex');
const options = { timeoutMs: 30_000, signal: new AbortController().signal };

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qo-ssh-'));
  if (isRoot) execFileSync('chpasswd', { input: `${person.name}:${password}\n` });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  person.remove();
});

const start = (more: SshdOptions = {}) => Sshd.start(onTestFinished, { user: person.name, ...more });

const opened = (route: SshRoute) => openedShell(onTestFinished, route);

async function greeting(route: SshRoute): Promise<string> {
  return (await opened(route).run('id -un', [], options)).stdout.toString().trim();
}

async function refusal<T extends Error>(route: SshRoute, type: new (...words: never[]) => T): Promise<T> {
  const error: unknown = await opened(route)
    .run('true', [], options)
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(type);
  return error as T;
}

/** A key that may log in there. */
function allowedKey(sshd: Sshd, name: string, type: string, words = ''): SshCredentials['identities'] & object {
  const path = join(mkdtempSync(join(folder, 'key-')), name);
  makeKey(path, type, words);
  writeFileSync(join(sshd.folder, 'authorized_keys'), readFileSync(`${path}.pub`), { flag: 'a' });
  return [{ privateKey: readFileSync(path), from: path, ...(words === '' ? {} : { passphrase: words }) }];
}

test.each(['ed25519', 'rsa', 'ecdsa'])('a key of type %s is let in, with a passphrase too', async (type) => {
  const sshd = await start();
  for (const words of ['', passphrase]) {
    const identities = allowedKey(sshd, `id_${type}`, type, words);
    expect(await greeting(sshd.route({ credentials: { identities, from: 'files' } }))).toBe(person.name);
  }
});

test('a password is let in, also where only PAM may ask for it', async () => {
  if (!isRoot) return;
  const credentials = { password, from: 'Secret rack' };
  expect(await greeting((await start()).route({ credentials }))).toBe(person.name);
  const config = ['PasswordAuthentication no', 'KbdInteractiveAuthentication yes', 'UsePAM yes'];
  expect(await greeting((await start({ config })).route({ credentials }))).toBe(person.name);
});

test('where both are asked for, the key comes first and then the password', async () => {
  if (!isRoot) return;
  const sshd = await start({ config: ['AuthenticationMethods publickey,password'] });
  const identities = [{ privateKey: readFileSync(sshd.identity), from: 'id' }];
  expect(await greeting(sshd.route({ credentials: { identities, password, from: 'Secret rack' } }))).toBe(person.name);
  const { tried } = await refusal(
    sshd.route({ credentials: { identities, from: 'Secret rack' } }),
    CredentialsInvalidError,
  );
  expect(tried).toEqual(['publickey id: right, but more is asked for']);
});

test('an agent is let in by the key it holds, whatever else it holds', async () => {
  const sshd = await start();
  makeKey(join(folder, 'stranger'), 'ed25519');
  const agentSocket = await startAgent(onTestFinished, sshd.folder, [join(folder, 'stranger'), sshd.identity]);
  expect(await greeting(sshd.route({ credentials: { agentSocket, from: 'the agent' } }))).toBe(person.name);
});

test('a key is tried before the password, and sshd sees one attempt', async () => {
  const sshd = await start();
  const identities = [{ privateKey: readFileSync(sshd.identity), from: 'id' }];
  expect(await greeting(sshd.route({ credentials: { identities, password: 'wrong', from: 'both' } }))).toBe(
    person.name,
  );
  expect(sshd.log()).not.toMatch(/Failed password/);
});

test('what is wrong with credentials is told for each of them, without a secret, and not tried again until told to', async () => {
  const sshd = await start();
  makeKey(join(folder, 'wrong'), 'ed25519');
  makeKey(join(folder, 'locked'), 'ed25519', passphrase);
  const wrong = readFileSync(join(folder, 'wrong'));
  const credentials: SshCredentials = {
    identities: [
      { privateKey: wrong, from: 'wrong' },
      { privateKey: readFileSync(join(folder, 'locked')), from: 'locked' },
      { privateKey: readFileSync(join(folder, 'locked')), passphrase: `${passphrase}x`, from: 'mistyped' },
      { privateKey: Buffer.from('nonsense'), from: 'nonsense' },
    ],
    agentSocket: join(folder, 'no-agent'),
    password: 'not-it-at-all',
    from: 'Secret rack',
  };
  let given = credentials;
  const shell = opened({ ...sshd.route(), credentials: async () => given });
  const run = () => shell.run('true', [], options);
  const error: CredentialsInvalidError = await run().then(
    () => expect.unreachable(),
    (reason: CredentialsInvalidError) => reason,
  );
  expect(error).toBeInstanceOf(CredentialsInvalidError);
  expect(error.tried.map((one) => one.replace(/: .*/, ''))).toEqual([
    'publickey locked',
    'publickey mistyped',
    'publickey nonsense',
    'publickey wrong',
    'publickey of the agent',
    'password',
  ]);
  expect(error.message).toContain(`rack does not let ${person.name} in with Secret rack`);
  for (const secret of [passphrase, 'not-it-at-all', wrong.toString().split('\n')[2] ?? '-'])
    expect(JSON.stringify([error.message, error.tried, error.stack])).not.toContain(secret);
  const attempts = () => sshd.log().match(/Failed password/g)?.length;
  const before = attempts();
  for (let at = 0; at < 20; at += 1) await expect(run()).rejects.toThrow(/tried again in (600|59\d) s/);
  expect(attempts()).toBe(before);
  given = { identities: [{ privateKey: readFileSync(sshd.identity), from: 'id' }], from: 'Secret rack' };
  shell.retryNow();
  expect((await run()).code).toBe(0);
});

test('credentials that were refused are tried again after ten minutes, and not before', async () => {
  const sshd = await start();
  const keys = join(sshd.folder, 'authorized_keys');
  const allowed = readFileSync(keys);
  writeFileSync(keys, '');
  const shell = opened(sshd.route());
  await expect(shell.run('true', [], options)).rejects.toThrow(CredentialsInvalidError);
  writeFileSync(keys, allowed);
  const at = performance.now();
  const clock = vi.spyOn(performance, 'now');
  onTestFinished(() => clock.mockRestore());
  const passed = (ms: number) => clock.mockReturnValue(at + ms);
  passed(599_000);
  await expect(shell.run('true', [], options)).rejects.toThrow(/tried again in \d s$/);
  passed(601_000);
  expect((await shell.run('echo in', [], options)).stdout.toString()).toBe('in\n');
});

test('a changed key is refused with both fingerprints before anything is sent; the right one serves once it is there', async () => {
  const sshd = await start();
  const route = sshd.route({ hostKeys: { pinned: [`${sshd.hostKey()} rack's own`] } });
  expect(await greeting(route)).toBe(person.name);
  const fingerprint = () =>
    spawnSync('ssh-keygen', ['-lf', join(sshd.folder, 'host_ed25519.pub')], { encoding: 'utf8' }).stdout.split(' ')[1];
  const before = fingerprint();
  await sshd.stop();
  sshd.makeHostKeyAnew('ed25519');
  await sshd.run();
  const error = await refusal(route, HostKeyRefusedError);
  expect([error.verdict, error.offered, error.expected, error.hostKey]).toEqual([
    'changed',
    fingerprint(),
    [before],
    sshd.hostKey(),
  ]);
  expect(error.message).toContain(fingerprint());
  expect(error.message).toContain(before);
  expect(sshd.log().match(/Accepted publickey/g)).toHaveLength(1);
});

test('known_hosts serves as ssh-keygen writes it, hashed, for the only type that is known', async () => {
  const sshd = await start();
  const path = join(folder, 'known_hosts');
  const asked = (policy: 'Strict' | 'AcceptNew' = 'Strict') =>
    sshd.route({ hostKeys: { pinned: [], policy, knownHosts: [join(folder, 'none'), path] } });
  writeFileSync(path, `[127.0.0.1]:${sshd.port} ${sshd.hostKey('rsa')}\n`);
  execFileSync('ssh-keygen', ['-H', '-f', path], { stdio: 'ignore' });
  expect(readFileSync(path, 'utf8')).toMatch(/^\|1\|/);
  expect(await greeting(asked())).toBe(person.name);
  writeFileSync(path, `@revoked * ${sshd.hostKey()}\n`);
  expect((await refusal(asked(), HostKeyRefusedError)).verdict).toBe('revoked');
  writeFileSync(path, '');
  expect((await refusal(asked(), HostKeyRefusedError)).verdict).toBe('unknown');
});

test('AcceptNew keeps the key before it authenticates, and then holds to it', async () => {
  const sshd = await start();
  const accepted: string[] = [];
  const accept = async (key: string) => {
    expect(sshd.log()).not.toMatch(/Accepted publickey/);
    accepted.push(key);
  };
  const shell = opened(sshd.route({ hostKeys: { pinned: [], policy: 'AcceptNew', accept } }));
  expect((await shell.run('true', [], options)).code).toBe(0);
  expect(accepted).toEqual([sshd.hostKey()]);
  await sshd.stop();
  sshd.makeHostKeyAnew('ed25519');
  await sshd.run();
  shell.retryNow();
  await expect(shell.run('true', [], options)).rejects.toMatchObject({
    name: 'HostKeyRefusedError',
    verdict: 'changed',
  });
  expect(accepted).toHaveLength(1);
});

test('a key that cannot be kept is not accepted', async () => {
  const sshd = await start();
  const accept = () => Promise.reject(new Error('the store is read-only'));
  const shell = opened(sshd.route({ hostKeys: { pinned: [], policy: 'AcceptNew', accept } }));
  await expect(shell.run('true', [], options)).rejects.toThrow('the store is read-only');
  expect(sshd.log()).not.toMatch(/Accepted publickey/);
});

test('through a jump host, where each of both must be itself', async () => {
  const [bastion, inner] = [await start(), await start()];
  const jump = opened(bastion.route({ name: 'bastion' }));
  expect(await greeting(inner.route({ jump }))).toBe(person.name);
  const wrongInner = inner.route({ jump, hostKeys: { pinned: [bastion.hostKey()] } });
  expect((await refusal(wrongInner, HostKeyRefusedError)).message).toMatch(/^rack shows another key/);
  const wrongBastion = opened(bastion.route({ name: 'bastion', hostKeys: { pinned: [inner.hostKey()] } }));
  const behind = opened(inner.route({ jump: wrongBastion }));
  await expect(behind.run('true', [], options)).rejects.toThrow(/^bastion shows/);
  // Its own pause is the short one: the bastion may be mended without its knowing.
  await expect(behind.run('true', [], options)).rejects.toThrow(/tried again in [12] s$/);
  expect(inner.log().match(/Accepted publickey/g)).toHaveLength(1);
});
