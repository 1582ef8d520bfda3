/** Who asks, as an API server in front says it: with client-go's own forms of headers. */
import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { type FrontProxy, frontProxyIn, subjectOf } from '../../src/serve/front-proxy.ts';

/** As a kube-apiserver 1.37 publishes it. */
const PUBLISHED = {
  'requestheader-allowed-names': '["front-proxy-client"]',
  'requestheader-client-ca-file': '-----BEGIN CERTIFICATE-----\n',
  'requestheader-extra-headers-prefix': '["X-Remote-Extra-"]',
  'requestheader-group-headers': '["X-Remote-Group"]',
  'requestheader-uid-headers': '["X-Remote-Uid"]',
  'requestheader-username-headers': '["X-Remote-User","X-Forwarded-User"]',
};

const front = frontProxyIn(PUBLISHED) as FrontProxy;

interface Peer {
  readonly authorized?: boolean;
  readonly name?: string | readonly string[] | undefined;
}

function request(headers: Record<string, string[]>, { authorized = true, name = 'front-proxy-client' }: Peer = {}) {
  const socket = { authorized, getPeerCertificate: () => ({ subject: { CN: name } }) };
  return { socket, headersDistinct: headers } as unknown as IncomingMessage;
}

const USER = { 'x-remote-user': ['jane'] };

test('user, uid, groups and extra, each value as it was, names of extra unescaped', () => {
  const headers = {
    ...USER,
    'x-remote-uid': ['4711'],
    'x-remote-group': ['devs, of team a', 'system:authenticated'],
    'x-remote-extra-scopes': ['read', 'write'],
    'x-remote-extra-acme.com%2fproject': ['one'],
    'x-other': ['nothing'],
  };
  expect(subjectOf(request(headers), front)).toEqual({
    user: 'jane',
    uid: '4711',
    groups: ['devs, of team a', 'system:authenticated'],
    extra: { scopes: ['read', 'write'], 'acme.com/project': ['one'] },
  });
});

test('names beyond ASCII are those that the API server has, as Go sends them', () => {
  const asNodeReads = Buffer.from('jané 王').toString('latin1');
  expect(subjectOf(request({ 'x-remote-user': [asNodeReads] }), front).user).toBe('jané 王');
});

test('of several headers for users the first that is there counts', () => {
  expect(subjectOf(request({ 'x-forwarded-user': ['joe'] }), front).user).toBe('joe');
  expect(subjectOf(request({ 'x-forwarded-user': ['joe'], ...USER }), front).user).toBe('jane');
});

describe('nobody is believed', () => {
  test.each([
    ['before the API server has published anything', undefined, USER, {}],
    ['without a certificate of its CA', front, USER, { authorized: false }],
    ['with another name', front, USER, { name: 'somebody' }],
    ['with two names', front, USER, { name: ['front-proxy-client', 'somebody'] }],
    ['without a user', front, {}, {}],
    ['with an empty user', front, { 'x-remote-user': [''] }, {}],
  ] as const)('%s', (_what, known, headers, peer) => {
    const asked = request(headers as unknown as Record<string, string[]>, peer);
    expect(() => subjectOf(asked, known)).toThrow(/^Unauthorized: /);
  });
});

test('any name that the CA has signed, where no names are published', () => {
  const any = { ...front, allowedNames: [] };
  expect(subjectOf(request(USER, { name: 'somebody' }), any).user).toBe('jane');
});

test('what names no CA or no header for users is nothing; lists that are none are refused, not taken for empty', () => {
  expect(frontProxyIn({})).toBeUndefined();
  expect(frontProxyIn({ ...PUBLISHED, 'requestheader-client-ca-file': '' })).toBeUndefined();
  expect(frontProxyIn({ ...PUBLISHED, 'requestheader-username-headers': '[]' })).toBeUndefined();
  for (const text of ['front-proxy-client', '"a"', '[1]', '{}'])
    expect(() => frontProxyIn({ ...PUBLISHED, 'requestheader-allowed-names': text })).toThrow();
});
