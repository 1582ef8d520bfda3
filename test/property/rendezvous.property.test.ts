/** Replicas that agree on who lives agree on who drives which Host. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ownedBy } from '../../src/reconcile/rendezvous.ts';

const replicas = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 6 });
const hosts = fc.uniqueArray(fc.string({ maxLength: 12 }), { minLength: 1, maxLength: 30 });

const ownersOf = (host: string, live: readonly string[]) => live.filter((one) => ownedBy(one, live)(host));

test('each Host has one owner, and only what a replica had changes hands when it goes', () => {
  fc.assert(
    fc.property(replicas, hosts, fc.nat(), (live, names, pick) => {
      const gone = live[pick % live.length];
      const left = live.filter((one) => one !== gone);
      for (const host of names) {
        const owners = ownersOf(host, live);
        expect(owners).toHaveLength(1);
        if (left.length > 0 && owners[0] !== gone) expect(ownersOf(host, left)).toEqual(owners);
      }
    }),
  );
});

test('many Hosts are shared about evenly', () => {
  const live = ['a', 'b', 'c'];
  const names = Array.from({ length: 600 }, (_, i) => `rack-${i}`);
  for (const one of live) {
    const own = names.filter(ownedBy(one, live)).length;
    expect(own).toBeGreaterThan(150);
    expect(own).toBeLessThan(250);
  }
});
