/** The ways in that a person has for ssh itself: an alias with its own files and jumps, an agent, a key with a passphrase. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, type TestContext, test } from 'vitest';
import type { Ended, Running } from './support/cli-rig.ts';
import { RemotePlace } from './support/remote-place.ts';
import type { OnFinished } from './support/rig.ts';
import { makeKey, Sshd, startAgent } from './support/sshd.ts';
import { standIn } from './support/stand-ins.ts';

const LIFE_MS = 120_000;

interface Person {
  readonly place: RemotePlace;
  readonly env: Record<string, string>;
  run(words: readonly string[], input?: string): Promise<Ended>;
  controller(): Promise<Running>;
}

/** Whose ~/.ssh/config is this text: OpenSSH looks for it where the user database says, not in HOME. */
async function personWith(onFinished: OnFinished, config: string, more: Record<string, string> = {}): Promise<Person> {
  const place = await RemotePlace.start(onFinished);
  const { rig } = place;
  const file = rig.path('ssh_config');
  writeFileSync(file, `${config}\nHost *\n  UserKnownHostsFile ${rig.path('known_hosts')}\n`);
  const env = { PATH: standIn(rig.path('bin'), 'ssh', `#!/bin/sh\nexec /usr/bin/ssh -F '${file}' "$@"\n`), ...more };
  return {
    place,
    env,
    run: (words, input) => rig.run(words, { env, ...(input === undefined ? {} : { input }) }),
    async controller() {
      const running = rig.start(['run'], { env });
      onFinished(async () => void (await running.stop()));
      await running.says(/controller started/);
      return running;
    },
  };
}

/** A VM there comes up, which the controller alone does. */
async function runsThere({ place, controller }: Person): Promise<void> {
  await controller();
  const { rig } = place;
  await rig.ok(['apply', '--wait=false', '-f', rig.manifest('web-1', { hostName: 'far' })]);
  await place.untilCondition('qvm/web-1', 'Ready', 'True Running', 60_000);
}

const entry = ({ port, user, identity }: Sshd, more = '') =>
  `  HostName 127.0.0.1\n  Port ${port}\n  User ${user}\n  IdentityFile ${identity}\n  IdentitiesOnly yes\n${more}`;

describe.concurrent('a host is let in by', () => {
  test('an alias of ~/.ssh/config, behind the hop that it names', { timeout: LIFE_MS }, async ({
    onTestFinished,
  }: TestContext) => {
    const [far, hop] = [await Sshd.start(onTestFinished), await Sshd.start(onTestFinished)];
    const aliases = `Host far\n${entry(far, '  ProxyJump hop\n')}Host hop\n${entry(hop)}`;
    const person = await personWith(onTestFinished, aliases);
    const { place, run } = person;
    const add = ['host', 'add', 'far', '--vm-dir', place.vmDir];
    // Nothing keeps a hop's key, so it must be known.
    expect(await run(add)).toMatchObject({
      code: 6,
      stderr: expect.stringMatching(/the key that hop shows, .* then ssh hop$/m),
    });
    writeFileSync(place.rig.path('known_hosts'), `[127.0.0.1]:${hop.port} ${hop.hostKey()}\n`);
    expect(await run(add)).toMatchObject({ code: 0, stdout: expect.stringContaining('host/far created') });
    const { spec } = await place.get('qhost/far');
    expect(spec.ssh).toEqual({ address: 'far', hostKeys: [far.hostKey()] });
    await runsThere(person);
    expect(hop.connections().length).toBeGreaterThan(0);
    await hop.stop();
    await place.untilCondition('qvm/web-1', 'Ready', 'Unknown HostUnreachable');
    await hop.run();
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running', 60_000);
  });

  test('no way that ~/.ssh/config does not mean', { timeout: LIFE_MS }, async ({ onTestFinished }: TestContext) => {
    const far = await Sshd.start(onTestFinished);
    const program = `Host far\n${entry(far, '  ProxyCommand /bin/false\n')}`;
    const alias = `Host known\n${entry(far, '  HostKeyAlias rack\n  StrictHostKeyChecking yes\n')}`;
    const { place, run } = await personWith(onTestFinished, program + alias);
    const { code, stderr } = await run(['host', 'add', 'far', '--vm-dir', place.vmDir]);
    expect([code, stderr]).toEqual([
      6,
      expect.stringMatching(/gives far a ProxyCommand, which is not run\. Use ProxyJump/),
    ]);
    const add = ['host', 'add', 'known', '--vm-dir', place.vmDir];
    for (const known of ['', `[127.0.0.1]:${far.port} ${far.hostKey()}\n`]) {
      writeFileSync(place.rig.path('known_hosts'), known);
      expect(await run(add)).toMatchObject({ code: 6, stderr: expect.stringMatching(/nothing is known of the key/) });
    }
    expect(far.log()).not.toMatch(/Accepted/);
    writeFileSync(place.rig.path('known_hosts'), `rack ${far.hostKey()}\n`);
    expect(await run(add)).toMatchObject({ code: 0 });
  });

  test('the SSH agent', { timeout: LIFE_MS }, async ({ onTestFinished }: TestContext) => {
    const far = await Sshd.start(onTestFinished);
    const agent = await startAgent(onTestFinished, far.folder, [far.identity]);
    const config = `Host far\n  HostName 127.0.0.1\n  Port ${far.port}\n  User ${far.user}\n  IdentityFile none\n`;
    const person = await personWith(onTestFinished, config, { SSH_AUTH_SOCK: agent });
    const { place, run, env } = person;
    const add = ['host', 'add', 'far', '--vm-dir', place.vmDir];
    const without = await place.rig.run(add, { env: { PATH: env['PATH'] ?? '' } });
    expect(without).toMatchObject({ code: 6, stderr: expect.stringMatching(/far does not let .* in/) });
    expect(await run(add)).toMatchObject({ code: 0 });
    expect((await place.get('qhost/far')).spec.ssh).not.toHaveProperty('credentialsSecretRef');
    await runsThere(person);
  });

  test('a key with a passphrase, which is kept', { timeout: LIFE_MS }, async ({ onTestFinished }: TestContext) => {
    const person = await personWith(onTestFinished, '');
    const { place, run } = person;
    const { sshd, rig } = place;
    const [file, passphrase] = [join(sshd.folder, 'locked'), randomBytes(12).toString('hex')];
    makeKey(file, 'ed25519', passphrase);
    writeFileSync(place.authorizedFile, readFileSync(`${file}.pub`));
    const way = [`${sshd.user}@127.0.0.1`, '--port', String(sshd.port), '--vm-dir', place.vmDir, '-i', file];
    const add = ['host', 'add', 'far', ...way];
    for (const [input, more, hint] of [
      [undefined, [], /--passphrase of host add or host credentials gives it/],
      [`${passphrase}x`, ['--passphrase'], /passphrase/],
    ] as const) {
      const refused = await run([...add, ...more], input);
      expect(refused).toMatchObject({ code: 6, stderr: expect.stringMatching(hint) });
      expect(refused.stderr).not.toContain(passphrase);
    }
    expect((await rig.run(['get', 'qhost', 'far'])).code).not.toBe(0);
    expect(await run([...add, '--passphrase'], `${passphrase}\n`)).toMatchObject({ code: 0 });
    const kept = join(rig.store, '.state/secrets/qemu-operator-system/far/passphrase');
    expect(readFileSync(kept, 'utf8')).toBe(passphrase);
    await runsThere(person);
  });
});
