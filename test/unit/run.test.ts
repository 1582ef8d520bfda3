/** When `run` opens its doors, and when it closes them. */
import { Command } from 'commander';
import { expect, test } from 'vitest';
import type { Context, DoorOptions } from '../../src/cli/context.ts';
import { declareRun } from '../../src/cli/run.ts';
import type { Door } from '../../src/serve/door.ts';

interface Told {
  readonly order: string[];
  readonly states: string[];
  doors?: DoorOptions;
}

/** Runs until the loop has started, then a signal comes. */
async function ran(storeName: string, words: readonly string[]): Promise<Told> {
  const told: Told = { order: [], states: [] };
  const abort = new AbortController();
  const tell = (word: string) => {
    told.order.push(word);
    if (told.doors !== undefined) told.states.push(`${word}: ${told.doors.loopState()}`);
  };
  const loop = {
    onEvent: () => undefined,
    start: () => {
      tell('start');
      setTimeout(() => {
        tell('runs');
        abort.abort();
      }, 5);
      return 'here';
    },
  };
  const store = { problems: () => [], sourceProblems: () => [] };
  const session = { store, storeName, loop, close: async () => tell('session closed') };
  const door = (flag: string): Door => ({ flag, address: '127.0.0.1:1', close: async () => tell(`${flag} closed`) });
  const context = {
    openSession: async () => session,
    openDoors: async (_session: unknown, doors: DoorOptions) => {
      told.doors = doors;
      tell('doors opened');
      return [doors.health, doors.metrics].flatMap((one) => (one === undefined ? [] : [door(one.flag)]));
    },
    stderr: { write: () => true },
    signal: abort.signal,
  };
  const command = new Command('run');
  declareRun(command, context as unknown as Context, '0');
  await command.parseAsync([...words], { from: 'user' });
  return told;
}

test('in a cluster both are open unless told otherwise', async () => {
  const { doors } = await ran('kubernetes', []);
  expect([doors?.metrics?.text, doors?.health?.text]).toEqual([':8080', ':8081']);
  const { doors: one } = await ran('kubernetes', ['--health-probe-bind-address', '0']);
  expect([one?.metrics?.port, one?.health]).toEqual([8080, undefined]);
  expect((await ran('kubernetes', ['--metrics-bind-address', '0', '--health-probe-bind-address', '0'])).doors).toBe(
    undefined,
  );
});

test('outside a cluster none is, and nothing of HTTP is loaded', async () => {
  const { doors, order } = await ran('/etc/qemu-operator', []);
  expect([doors, order]).toEqual([undefined, ['start', 'runs', 'session closed']]);
});

test('they open before the loop starts and close last; meanwhile they know what the loop does', async () => {
  const { order, states } = await ran('/etc/qemu-operator', ['--metrics-bind-address', '127.0.0.1:8080']);
  expect(order).toEqual(['doors opened', 'start', 'runs', 'session closed', '--metrics-bind-address closed']);
  expect(states).toEqual([
    'doors opened: starting',
    'start: starting',
    'runs: running',
    'session closed: ending',
    '--metrics-bind-address closed: ending',
  ]);
});
