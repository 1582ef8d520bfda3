import { expect, test } from 'vitest';
import { examine, healthAnswer, shared } from '../../src/serve/health.ts';

const well = { name: 'store', run: async () => 'anything' };
const bad = { name: 'api-server', run: () => Promise.reject(new Error('it is\naway')) };
const silent = { name: 'silent', run: () => new Promise(() => undefined) };

test.each([
  ['all well', [{ name: 'a' }, { name: 'b' }], false, 200, 'ok'],
  ['all well, verbose', [{ name: 'a' }, { name: 'b' }], true, 200, '[+]a ok\n[+]b ok\nreadyz check passed\n'],
  [
    'one failed',
    [{ name: 'a' }, { name: 'b', failure: 'gone' }],
    false,
    500,
    '[+]a ok\n[-]b failed: gone\nreadyz check failed\n',
  ],
] as const)('the words of Kubernetes: %s', (_words, verdicts, verbose, status, text) => {
  expect(healthAnswer('readyz', verdicts, verbose)).toEqual({ status, text });
});

test('a check that fails says why in one line, one that is silent has failed at the deadline', async () => {
  const from = performance.now();
  expect(await examine([well, bad, silent], 50)).toEqual([
    { name: 'store' },
    { name: 'api-server', failure: 'it is away' },
    { name: 'silent', failure: 'no answer within 0.05 s' },
  ]);
  expect(performance.now() - from).toBeLessThan(5_000);
});

test('what is given up is told so', async () => {
  let given: AbortSignal | undefined;
  const run = (signal: AbortSignal) => {
    given = signal;
    return new Promise(() => undefined);
  };
  await examine([{ name: 'slow', run }], 10);
  expect(given?.aborted).toBe(true);
});

test('many who ask at once are one question; later it is asked anew, after a failure as well', async () => {
  let asked = 0;
  const ask = shared(async () => {
    asked += 1;
    if (asked === 1) throw new Error('no');
    return asked;
  }, 20);
  const first = await Promise.allSettled([ask(), ask(), ask()]);
  expect([asked, first.every(({ status }) => status === 'rejected')]).toEqual([1, true]);
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(await Promise.all([ask(), ask()])).toEqual([2, 2]);
});
