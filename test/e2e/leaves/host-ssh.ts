/** Rows of a Host behind SSH: a real sshd, and the controller as people run it. */
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';
import { EVERYTHING, farUser } from '../support/far-user.ts';
import { type RemoteOptions, RemotePlace } from '../support/remote-place.ts';
import { freePort } from '../support/sockets.ts';
import type { Row } from './leaf.ts';
import type { Place } from './place.ts';

const HOST = 'qhost/far';

interface Far {
  readonly remote: RemotePlace;
  /** Merges into spec.ssh. */
  change(ssh: object): Promise<unknown>;
  is(type: string, wanted: string): Promise<unknown>;
}

/** A Host for a new sshd, with all that it takes unless a row says otherwise; not waited for. */
async function far({ onFinished }: Place, ssh: object = {}, options: RemoteOptions = {}): Promise<Far> {
  const remote = await RemotePlace.start(onFinished, options);
  const { rig, sshd } = remote;
  const secret = ['secret', 'set', 'far', 'ssh-privatekey', '-n', 'qemu-operator-system'];
  await rig.ok(secret, { input: remote.privateKey() });
  const way = { address: '127.0.0.1', port: sshd.port, user: sshd.user, credentialsSecretRef: { name: 'far' } };
  const spec = { ssh: { ...way, hostKeys: [sshd.hostKey()], ...ssh }, vmDir: remote.vmDir };
  const document = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'Host', metadata: { name: 'far' }, spec };
  writeFileSync(rig.path('far.json'), JSON.stringify(document));
  await rig.ok(['apply', '-f', rig.path('far.json'), '--wait=false']);
  await rig.controller(onFinished);
  return {
    remote,
    change: (more) =>
      rig.ok(['patch', 'qhost', 'far', '--type', 'merge', '-p', JSON.stringify({ spec: { ssh: more } })]),
    is: (type, wanted) => remote.untilCondition(HOST, type, wanted),
  };
}

export const HOST_SSH: readonly Row[] = [
  {
    leaf: 'Host.spec.ssh.address',
    effect: async (place) => {
      // sshd listens at 127.0.0.1 alone.
      const { is, change } = await far(place, { address: '127.0.0.2' });
      await is('Reachable', 'False HostUnreachable');
      await change({ address: '127.0.0.1' });
      await is('Ready', 'True Ready');
    },
  },
  {
    leaf: 'Host.spec.ssh.port',
    effect: async (place) => {
      const { remote, is, change } = await far(place, { port: await freePort() });
      await is('Reachable', 'False HostUnreachable');
      await change({ port: remote.sshd.port });
      await is('Ready', 'True Ready');
    },
  },
  {
    leaf: 'Host.spec.ssh.user',
    effect: async (place) => {
      const { remote, is, change } = await far(place, { user: 'qo-nobody-has-this-name' });
      await is('CredentialsValid', 'False CredentialsInvalid');
      expect(remote.sshd.log()).toMatch(/Invalid user qo-nobody-has-this-name/);
      await change({ user: remote.sshd.user });
      await is('Ready', 'True Ready');
    },
  },
  {
    leaf: 'Host.spec.ssh.credentialsSecretRef.name',
    effect: async (place) => {
      const { is, change } = await far(place, { credentialsSecretRef: { name: 'another' } });
      await is('CredentialsValid', 'False CredentialsInvalid');
      await change({ credentialsSecretRef: { name: 'far' } });
      await is('Ready', 'True Ready');
    },
  },
  {
    leaf: 'Host.spec.ssh.hostKeys[]',
    effect: async (place) => {
      const another = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3RrZXl0ZXN0a2V5dGVzdGtleXRlc3RrZXkw';
      const { remote, is, change } = await far(place, { hostKeys: [another] });
      await is('HostKeyVerified', 'False HostKeyChanged');
      expect(remote.sshd.log()).not.toMatch(/Accepted/);
      // Whichever of its keys is pinned is the one that it has to show.
      await change({ hostKeys: [remote.sshd.hostKey('rsa')] });
      await is('Ready', 'True Ready');
      expect((await remote.get(HOST)).status.ssh.hostKey).toMatch(/^ssh-rsa SHA256:/);
    },
  },
  {
    leaf: 'Host.spec.ssh.hostKeyPolicy',
    effect: {
      Strict: async (place) => {
        const { remote, is } = await far(place, { hostKeys: undefined, hostKeyPolicy: 'Strict' });
        await is('HostKeyVerified', 'False HostKeyChanged');
        expect(remote.sshd.log()).not.toMatch(/Accepted/);
      },
      AcceptNew: async (place) => {
        const { remote, is } = await far(place, { hostKeys: undefined, hostKeyPolicy: 'AcceptNew' });
        await is('Ready', 'True Ready');
        expect((await remote.get(HOST)).spec.ssh.hostKeys).toEqual([remote.sshd.hostKey()]);
      },
    },
  },
  {
    leaf: 'Host.spec.ssh.jumpHostName',
    effect: async (place) => {
      const bastion = await RemotePlace.start(place.onFinished);
      const { remote, is } = await far(place, { jumpHostName: 'bastion' });
      await is('Stalled', 'True JumpHostInvalid');
      const { rig, sshd } = remote;
      const way = ['--port', String(bastion.sshd.port), '-i', bastion.sshd.identity, '--vm-dir', bastion.vmDir];
      await rig.ok(['host', 'add', 'bastion', `${sshd.user}@127.0.0.1`, ...way]);
      await is('Ready', 'True Ready');
      // It is the bastion's sshd that the host's own hears from.
      await bastion.cut();
      await is('Reachable', 'False HostUnreachable');
    },
  },
  {
    leaf: 'Host.spec.sudo',
    effect: async (place) => {
      const { name, uid, grant } = farUser(place.onFinished);
      grant(EVERYTHING(name));
      const { remote, is } = await far(place, {}, { user: name });
      const { rig, vmDir } = remote;
      chmodSync(rig.root, 0o755);
      await is('VMDirReady', 'False VMDirMissing');
      await rig.ok(['patch', 'qhost', 'far', '--type', 'merge', '-p', '{"spec":{"sudo":true}}']);
      await is('Ready', 'True Ready');
      expect(statSync(vmDir).uid).toBe(uid);
    },
  },
];
