/** What can go wrong on the way to a host, and that each is told, bounded and mended. */
import { writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { isAlive, kill } from './support/process.ts';
import { RemotePlace } from './support/remote-place.ts';
import { until } from './support/wait.ts';

/** Six stories at once, each with processes of its own. */
const PATIENCE_MS = 300_000;
const settled = { deadlineMs: 60_000 };

describe.concurrent('a host over SSH', { timeout: PATIENCE_MS }, () => {
  test('that falls silent makes its machines Unknown within 15 s, and nothing else; all clears by itself', async ({
    onTestFinished,
  }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('rack1');
    await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
    const { pid } = (await place.get('qvm/web-1')).status;
    await place.rig.controller(onTestFinished);
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running');
    await place.untilConnected();
    const frozen = [place.listener(), ...place.sshd.connections()];
    for (const one of frozen) kill(one, 'SIGSTOP');
    const since = performance.now();
    await place.untilCondition('qvm/web-1', 'Ready', 'Unknown HostUnreachable');
    expect(performance.now() - since).toBeLessThan(17_000);
    await place.untilCondition('qhost/rack1', 'Reachable', 'False HostUnreachable');
    // Another host is not delayed by it.
    await place.rig.ok(['apply', '-f', place.rig.manifest('here-1', { hostName: 'localhost' })]);
    await place.untilCondition('qvm/here-1', 'Ready', 'True Running');
    const deleting = await place.rig.run(['delete', 'qvm', 'web-1', '--timeout', '40s']);
    expect([deleting.code, deleting.stderr]).toEqual([6, expect.stringContaining('qemu-operator.dev/orphan')]);
    expect(await place.condition('qvm/web-1', 'DeletionBlocked')).toBe('True HostUnreachable');
    expect(isAlive(pid)).toBe(true);
    for (const one of frozen) kill(one, 'SIGCONT');
    await until(
      'it is deleted',
      () => isAlive(pid),
      (alive) => !alive,
      settled.deadlineMs,
    );
  });

  test('whose sshd is killed is reached again when it is back', async ({ onTestFinished }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('rack1');
    await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
    const { pid } = (await place.get('qvm/web-1')).status;
    await place.rig.controller(onTestFinished);
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running');
    await place.cut();
    await place.untilCondition('qvm/web-1', 'Ready', 'Unknown HostUnreachable');
    await place.sshd.run();
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running', settled.deadlineMs);
    expect((await place.get('qvm/web-1')).status.pid).toBe(pid);
    await place.untilCondition('qhost/rack1', 'Ready', 'True Ready');
  });

  test('that shows another key is refused with both fingerprints, until it is trusted', async ({ onTestFinished }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('rack1');
    const before = place.fingerprint();
    await place.rig.controller(onTestFinished);
    await place.cut();
    place.sshd.makeHostKeyAnew('ed25519');
    await place.sshd.run();
    await place.untilCondition('qhost/rack1', 'HostKeyVerified', 'False HostKeyChanged', settled.deadlineMs);
    const told = JSON.stringify((await place.get('qhost/rack1')).status.conditions);
    expect([told.includes(before), told.includes(place.fingerprint())]).toEqual([true, true]);
    const doubt = await place.rig.run(['host', 'trust', 'rack1'], { input: '' });
    expect([doubt.code, doubt.stderr]).toEqual([
      2,
      expect.stringContaining(`shown now:    ssh-ed25519 ${place.fingerprint()}`),
    ]);
    expect((await place.rig.run(['host', 'trust', 'rack1', '--fingerprint', before])).code).toBe(4);
    for (const part of ['', 'SHA256:', place.fingerprint().slice(-8)])
      expect((await place.rig.run(['host', 'trust', 'rack1', '--fingerprint', part])).code).toBe(2);
    await place.rig.ok(['host', 'trust', 'rack1', '--fingerprint', place.fingerprint()]);
    expect((await place.rig.run(['host', 'trust', 'rack1', '--fingerprint', before])).code).toBe(4);
    await place.untilCondition('qhost/rack1', 'Ready', 'True Ready');
    expect((await place.get('qhost/rack1')).spec.ssh.hostKeys).toEqual([place.sshd.hostKey()]);
  });

  test('that refuses the credentials says which, is not run against, and is tried when they change', async ({
    onTestFinished,
  }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('rack1');
    const allowed = place.authorized();
    writeFileSync(place.authorizedFile, '');
    await place.rig.controller(onTestFinished);
    await place.untilCondition('qhost/rack1', 'CredentialsValid', 'False CredentialsInvalid');
    expect(await place.condition('qhost/rack1', 'HostKeyVerified')).toBe('True Ready');
    const { status } = await place.get('qhost/rack1');
    expect(JSON.stringify(status.conditions)).toContain('publickey');
    const tries = () => place.sshd.log().match(/Connection closed by authenticating user/g)?.length ?? 0;
    const before = tries();
    await place.rig.ok(['annotate', 'qhost', 'rack1', 'qemu-operator.dev/look-requested-at=now']);
    await new Promise((resolve) => setTimeout(resolve, 7_000));
    expect(tries()).toBe(before);
    writeFileSync(place.authorizedFile, allowed);
    await place.rig.ok(['host', 'credentials', 'rack1', '--key'], { input: place.privateKey() });
    await place.untilCondition('qhost/rack1', 'Ready', 'True Ready');
    expect((await place.rig.ok(['secret', 'list', '-n', 'qemu-operator-system'])).stdout).not.toContain('path');
  });

  test('behind another one is reached through it; a circle is told', async ({ onTestFinished }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('bastion');
    const inner = ['-i', place.sshd.identity, '--jump', 'bastion', '--vm-dir', place.rig.path('inner')];
    expect((await place.add('inner', inner)).code).toBe(0);
    await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'inner' })]);
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running');
    await place.rig.controller(onTestFinished);
    const circle = JSON.stringify({ spec: { ssh: { jumpHostName: 'inner' } } });
    await place.rig.ok(['patch', 'qhost', 'bastion', '--type', 'merge', '-p', circle]);
    await place.untilCondition('qhost/inner', 'Stalled', 'True JumpHostInvalid');
    await place.untilCondition('qvm/web-1', 'Ready', 'Unknown HostUnreachable');
    await place.rig.ok([
      'patch',
      'qhost',
      'bastion',
      '--type',
      'merge',
      '-p',
      '{"spec":{"ssh":{"jumpHostName":null}}}',
    ]);
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running', settled.deadlineMs);
    await place.rig.ok(['delete', 'qvm', 'web-1']);
  });

  test('that is gone for good is removed without it', async ({ onTestFinished }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('rack1');
    await place.cut();
    const waiting = await place.rig.run(['host', 'remove', 'rack1', '--timeout', '4s']);
    expect([waiting.code, waiting.stderr]).toEqual([6, expect.stringContaining('rack1')]);
    expect(await place.condition('qhost/rack1', 'DeletionBlocked')).toBe('True HostUnreachable');
    await place.rig.ok(['host', 'remove', 'rack1', '--orphan']);
    expect((await place.rig.run(['get', 'qhost', 'rack1'])).code).toBe(3);
    expect((await place.rig.ok(['secret', 'list', '-n', 'qemu-operator-system'])).stdout).not.toContain('rack1');
  });
});

describe.concurrent('whose a vmDir is', { timeout: PATIENCE_MS }, () => {
  test('a marker that was lost is mended, and the machine runs on', async ({ onTestFinished }) => {
    const place = await RemotePlace.start(onTestFinished);
    await place.added('rack1');
    await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
    const { pid } = (await place.get('qvm/web-1')).status;
    place.removeMarker();
    await place.rig.controller(onTestFinished);
    await place.untilCondition('qhost/rack1', 'VMDirReady', 'False VMDirMissing');
    await place.rig.ok(['host', 'claim', 'rack1', '--take-over']);
    await place.untilCondition('qvm/web-1', 'Ready', 'True Running');
    expect((await place.get('qvm/web-1')).status.pid).toBe(pid);
    const { annotations } = (await place.get('qhost/rack1')).metadata;
    expect(Object.keys(annotations ?? {})).not.toContain('qemu-operator.dev/take-over');
  });

  test('another store takes it over on a word', async ({ onTestFinished }) => {
    const first = await RemotePlace.start(onTestFinished);
    await first.added('rack1');
    await first.rig.controller(onTestFinished);
    await first.untilCondition('qhost/rack1', 'Ready', 'True Ready');
    const second = await RemotePlace.start(onTestFinished, { beside: first });
    await second.rig.controller(onTestFinished);
    await second.add('rack9', ['-i', first.sshd.identity, '--wait=false']);
    await second.untilCondition('qhost/rack9', 'Claimed', 'False ClaimedByAnother');
    await second.rig.ok(['host', 'claim', 'rack9', '--take-over']);
    await second.untilCondition('qhost/rack9', 'Ready', 'True Ready');
    await first.untilCondition('qhost/rack1', 'Claimed', 'False ClaimedByAnother', settled.deadlineMs);
  });
});
