/** What is made of an API server's answers about tokens and rights, and how long it counts. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { KubeUsers } from '../../src/kube/kube-users.ts';
import type { KubeRequest, KubeTransport } from '../../src/kube/transport.ts';

const ANN = { username: 'ann', uid: '1', groups: ['team-a'] };
const RIGHT = { verb: 'list', group: 'g', version: 'v1', resource: 'things', namespace: 'team-a' };

let answers: (call: KubeRequest) => unknown;
let asked: KubeRequest[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  asked = [];
});
afterEach(() => vi.useRealTimers());

const users = () => {
  const json = async (call: KubeRequest) => {
    asked.push(call);
    return answers(call);
  };
  return new KubeUsers({ json } as unknown as KubeTransport, 'us');
};

const authenticated = (more: object) => ({ status: { authenticated: true, user: ANN, ...more } });

test.each<[string, object, object | undefined]>([
  ['one for us', authenticated({ audiences: ['us'] }), ANN],
  ['one for us and others', authenticated({ audiences: ['them', 'us'] }), ANN],
  ['one for others', authenticated({ audiences: ['them'] }), undefined],
  ['one of an authenticator that knows no audiences', authenticated({}), undefined],
  ['one that is not authenticated', { status: { authenticated: false, user: ANN, audiences: ['us'] } }, undefined],
  ['an answer without a word', {}, undefined],
])('%s', async (_what, answer, user) => {
  answers = () => answer;
  expect(await users().userOf('token')).toEqual(user);
  expect(asked[0]).toMatchObject({ method: 'POST', body: { spec: { token: 'token', audiences: ['us'] } } });
});

test('an answer counts for ten seconds, a failure not at all', async () => {
  answers = () => authenticated({ audiences: ['us'] });
  const known = users();
  await Promise.all([known.userOf('token'), known.userOf('token')]);
  vi.advanceTimersByTime(9_000);
  await known.userOf('token');
  expect(asked).toHaveLength(1);
  vi.advanceTimersByTime(2_000);
  answers = () => ({ status: { authenticated: false } });
  expect(await known.userOf('token')).toBeUndefined();
  answers = () => {
    throw new Error('away');
  };
  await expect(known.userOf('other')).rejects.toThrow('away');
  answers = () => authenticated({ audiences: ['us'] });
  expect(await known.userOf('other')).toEqual(ANN);
});

test('rights are asked with all that is known of the user, and remembered for that user alone', async () => {
  answers = ({ body }) => ({ status: { allowed: (body as { spec: { user: string } }).spec.user === 'ann' } });
  const known = users();
  expect(await known.allows(ANN, RIGHT)).toBe(true);
  expect(await known.allows({ ...ANN, username: 'bob' }, RIGHT)).toBe(false);
  await known.allows({ ...ANN, groups: [] }, RIGHT);
  await known.allows(ANN, { ...RIGHT, namespace: 'team-b' });
  await known.allows(ANN, RIGHT);
  expect(asked).toHaveLength(4);
  expect(asked[0]?.body).toMatchObject({
    spec: { user: 'ann', uid: '1', groups: ['team-a'], resourceAttributes: RIGHT },
  });
});

test('whoever sends garbage takes a part of the way to the API server, and no more memory', async () => {
  let release = () => undefined as unknown;
  const held = new Promise((resolve) => {
    release = () => resolve({});
  });
  answers = () => held;
  const known = users();
  const many = Array.from({ length: 100 }, (_, i) => known.userOf(`garbage ${i}`));
  const outcomes = Promise.allSettled(many);
  release();
  const refused = (await outcomes).filter(({ status }) => status === 'rejected');
  expect([asked.length, refused.length]).toEqual([32, 68]);
  expect(await known.userOf('x'.repeat(20_000))).toBeUndefined();
  expect(asked).toHaveLength(32);
});
