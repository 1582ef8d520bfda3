/** cloudInit: what is refused, what a process is said to have been given, and what is a change of it. */
import { describe, expect, test } from 'vitest';
import { parseManifest, readSpec } from '../../src/api/admission.ts';
import { digestOf, firstBootHint, seedContent } from '../../src/api/cloud-init.ts';
import { effectiveSpec, type LaunchSpec, pendingChanges } from '../../src/api/effective-spec.ts';
import { storedVm, vmDocument } from '../fakes/manifests.ts';

const KEY = `ssh-ed25519 ${'A'.repeat(68)}`;
const host = { spec: readSpec('Host', 'localhost', { local: {} }) };

type Fields = Readonly<Record<string, unknown>>;

const launched = (cloudInit?: Fields, secretDigest?: string, name = 'web-1'): LaunchSpec =>
  effectiveSpec(storedVm(cloudInit === undefined ? {} : { cloudInit }, { name }), host, undefined, secretDigest).launch;

describe('what is refused, and in which words', () => {
  const refusal = (cloudInit: Fields) => {
    try {
      parseManifest(vmDocument({ cloudInit }));
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  };

  test.each(['a_b', 'Web', '-a', 'a-', 'a..b', 'a.', 'a b', 'ü', `${'a'.repeat(64)}.b`, `${'a.'.repeat(127)}`, ''])(
    'the hostname %s',
    (hostname) => {
      expect(refusal({ hostname })).toContain('spec.cloudInit.hostname');
      expect(refusal({ hostname })).toContain('host name');
    },
  );

  test.each(['web', '1e3', 'on', 'a.b-c.d', `${'a'.repeat(63)}.${'b'.repeat(63)}`])(
    'not the hostname %s',
    (hostname) => {
      expect(refusal({ hostname })).toBeUndefined();
    },
  );

  test.each([
    '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA',
    'AAAAB3NzaC1yc2EAAAADAQABAAABAQ',
    `${KEY}\n${KEY}`,
    'ssh-ed25519',
    'ssh-ed25519 not/base64!',
  ])('the key %s', (key) => {
    expect(refusal({ sshAuthorizedKeys: [key] })).toContain('a public key: one line');
  });

  test.each([
    KEY,
    `${KEY} ada@laptop`,
    `${KEY} größer 🐧 name`,
    `no-pty,command="echo ssh-rsa hi" ${KEY} x`,
    `sk-ecdsa-sha2-nistp256@openssh.com ${'A'.repeat(40)}==`,
    `ssh-rsa-cert-v01@openssh.com ${'A'.repeat(40)}=`,
  ])('not the key %s', (key) => {
    expect(refusal({ sshAuthorizedKeys: [key] })).toBeUndefined();
  });

  test.each(['.', '..', '..a', 'a/b', 'a=b', ''])('the key %j of a Secret', (key) => {
    expect(refusal({ userDataSecretRef: { name: 'web', key } })).toContain('userDataSecretRef.key');
  });

  test('empty, overlong and broken text', () => {
    expect(refusal({ userData: '' })).toContain('spec.cloudInit.userData');
    expect(refusal({ userData: 'x'.repeat(65_536) })).toBeUndefined();
    expect(refusal({ userData: 'x'.repeat(65_537) })).toContain('65536');
    expect(refusal({ networkData: 'x\ud800' })).toContain('well-formed Unicode');
  });
});

describe('the host name that nobody gave', () => {
  const hostname = (name: string) => launched({}, undefined, name).cloudInit?.hostname;

  test("is the object's, at most as long as a name may be", () => {
    expect(hostname('web-1')).toBe('web-1');
    expect(hostname(`${'a'.repeat(62)}-bc`)).toBe('a'.repeat(62));
  });
});

describe('what a process was started with', () => {
  test('holds nothing of the contents', () => {
    const text = JSON.stringify(
      launched({ userData: 'password: hunter2', networkData: 'hunter2', sshAuthorizedKeys: [`${KEY} hunter2`] }),
    );
    expect(text).toContain('sha256:');
    expect(text).not.toContain('hunter2');
  });

  test('has no word of it where there is no cloudInit, as in older records', () => {
    expect('cloudInit' in launched()).toBe(false);
    expect(pendingChanges(launched(), launched())).toEqual([]);
  });
});

describe('the user', () => {
  const path = 'spec.cloudInit.user';

  test('is in generated user data, and a change of it; user data of one’s own is not told', () => {
    expect(pendingChanges(launched({}), launched({ user: 'ada' }))).toEqual([{ path, to: 'ada' }]);
    expect(pendingChanges(launched({ user: 'ada' }), launched({ user: 'root' }))).toEqual([
      { path, from: 'ada', to: 'root' },
    ]);
    const userData = '#!/bin/sh';
    expect(pendingChanges(launched({ userData }), launched({ userData, user: 'ada' }))).toEqual([]);
  });

  test.each(['Ada', '9a', 'a b', 'a:b', '-a', ''])('%j is none', (user) => {
    expect(() => parseManifest(vmDocument({ cloudInit: { user } }))).toThrow(path);
  });
});

describe('a change', () => {
  const secret = { userDataSecretRef: { name: 'web', key: 'user-data' } };

  test('is named by its field; secrets and digests are all that is shown', () => {
    const before = launched({ sshAuthorizedKeys: [KEY] });
    const after = launched({ hostname: 'b', userData: 'hunter2', networkData: 'x', sshAuthorizedKeys: [KEY, KEY] });
    const digest = expect.stringMatching(/^sha256:[0-9a-f]{12}$/);
    expect(pendingChanges(before, after)).toEqual([
      { path: 'spec.cloudInit.hostname', from: 'web-1', to: 'b' },
      { path: 'spec.cloudInit.userData', from: 'generated', to: digest },
      { path: 'spec.cloudInit.networkData', to: digest },
      { path: 'spec.cloudInit.sshAuthorizedKeys', from: digest, to: digest },
    ]);
  });

  test('of the value of a Secret is one, its absence is none', () => {
    const before = launched(secret, digestOf('a'));
    expect(pendingChanges(before, launched(secret, digestOf('b')))).toEqual([
      { path: 'spec.cloudInit.userData', from: '(secret)', to: '(secret)' },
    ]);
    expect(pendingChanges(before, launched(secret))).toEqual([]);
  });

  test('is none where the same text moves into a Secret; another text shows no more of it there', () => {
    const inline = launched({ userData: 'größer\r\n' });
    expect(pendingChanges(inline, launched(secret, digestOf(Buffer.from('größer\r\n'))))).toEqual([]);
    expect(pendingChanges(inline, launched(secret, digestOf('hunter2')))).toEqual([
      { path: 'spec.cloudInit.userData', from: expect.stringMatching(/^sha256:[0-9a-f]{12}$/), to: '(secret)' },
    ]);
  });

  test('is also that a seed comes or goes', () => {
    const [hostname, userData] = ['spec.cloudInit.hostname', 'spec.cloudInit.userData'];
    const without = launched();
    expect(pendingChanges(without, launched({}))).toEqual([
      { path: hostname, to: 'web-1' },
      { path: userData, to: 'generated' },
    ]);
    expect(pendingChanges(launched(secret, digestOf('a')), without)).toEqual([
      { path: hostname, from: 'web-1' },
      { path: userData, from: '(secret)' },
    ]);
  });

  test('of all but the hostname waits for a first boot', () => {
    expect(firstBootHint(['spec.vcpus', 'spec.cloudInit.hostname'])).toBe('');
    expect(firstBootHint(['spec.cloudInit.userData'])).toContain('takes no new keys and network data');
  });
});

test('a seed is of one machine, whatever else changes', () => {
  const { cloudInit } = storedVm({ cloudInit: { hostname: 'a' } }).spec;
  expect(seedContent(cloudInit ?? {}, { name: 'web-1' }, 'uuid-1').instanceID).toBe('uuid-1');
});
