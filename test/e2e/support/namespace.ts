/** A network of its own behind a pair of interfaces, with the kernel's own packet filter between. Only root may make one. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { ip, requireRoot } from './bridges.ts';
import type { OnFinished } from './rig.ts';

export interface Namespace {
  /** Its address, as this machine reaches it. */
  readonly address: string;
  /** The words before a command that is to run inside. */
  readonly within: readonly string[];
  /** Loses so many of the packets of each way, from now on: 1 is all, without a word. */
  lose(probability: number): void;
  /** Every packet comes through again. */
  heal(): void;
}

/** It ends with the test. @throws where iptables is not installed: what cannot be proved fails */
export function makeNamespace(onFinished: OnFinished): Namespace {
  requireRoot();
  const name = `qo-${randomBytes(4).toString('hex')}`;
  const near = `qov${randomBytes(4).toString('hex')}`;
  // Of the range that RFC 2544 keeps for tests: no network of this machine has it.
  const network = `198.18.${randomInt(256)}.${4 * randomInt(64)}`;
  const numbered = (last: number) => network.replace(/\d+$/, (first) => String(Number(first) + last));
  const within = ['ip', 'netns', 'exec', name];
  const filter = (...words: readonly string[]) =>
    execFileSync('ip', ['netns', 'exec', name, 'iptables', ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  ip('netns', 'add', name);
  // The interfaces go with it.
  onFinished(async () => void ip('netns', 'delete', name));
  ip('link', 'add', near, 'type', 'veth', 'peer', 'name', 'far', 'netns', name);
  ip('address', 'add', `${numbered(1)}/30`, 'dev', near);
  ip('link', 'set', near, 'up');
  ip('-n', name, 'address', 'add', `${numbered(2)}/30`, 'dev', 'far');
  for (const device of ['lo', 'far']) ip('-n', name, 'link', 'set', device, 'up');
  return {
    address: numbered(2),
    within,
    lose: (probability) => {
      const chance = ['-m', 'statistic', '--mode', 'random', '--probability', String(probability)];
      for (const [chain, option] of [
        ['INPUT', '-i'],
        ['OUTPUT', '-o'],
      ] as const)
        filter('-A', chain, option, 'far', ...(probability === 1 ? [] : chance), '-j', 'DROP');
    },
    heal: () => void filter('-F'),
  };
}
