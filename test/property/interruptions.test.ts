/** The operator dies, or loses the connection, at every step of every effect: the end is the same as without. */
import { describe, expect, test } from 'vitest';
import { complaints } from '../fakes/satisfies.ts';
import type { JournalEntry } from '../fakes/simulated-host.ts';
import { folderOf, Simulation } from '../fakes/simulation.ts';

const SETTLE_MS = 25_000;

interface Interruption {
  /** Which effect, counted from the beginning. */
  readonly effect: number;
  /** How many of its steps still happen. */
  readonly afterSteps: number;
  readonly then: 'killed' | 'connection lost';
}

interface Outcome {
  readonly starts: number;
  readonly made: readonly string[];
  readonly complaints: readonly string[];
  readonly status: unknown;
  readonly folders: number;
  readonly files: readonly string[];
}

const DISKS = [
  { name: 'root', size: '1Gi' },
  { name: 'data', path: '/data/existing.qcow2' },
  { name: 'tools', image: { path: '/data/tools.qcow2' } },
];

/** The whole life of a VM in five acts; each ends at rest. */
const ACTS: readonly ((simulation: Simulation) => Promise<unknown>)[] = [
  (to) =>
    to.createVm({
      disks: DISKS,
      networks: [{ name: 'net0', user: { hostForwards: [{ guestPort: 22 }] } }],
      cloudInit: { userDataSecretRef: { name: 'web-1', key: 'user-data' } },
    }),
  (to) =>
    to.edit({
      spec: {
        networks: [{ name: 'net0', user: { hostForwards: [{ guestPort: 80 }, { hostPort: 8080, guestPort: 80 }] } }],
      },
    }),
  (to) => to.edit({ spec: { vcpus: 4, restartedAt: 'again', powerOff: { gracePeriodSeconds: 10 } } }),
  async (to) => {
    const process = to.world.processIn(folderOf());
    if (process !== undefined) to.world.end(process, 'crash');
  },
  (to) =>
    to.edit({
      spec: {
        powerState: 'PoweredOff',
        disks: DISKS.map((disk) => (disk.name === 'root' ? { ...disk, size: '2Gi' } : disk)),
      },
    }),
  (to) => to.edit({ spec: { powerState: 'PoweredOn' } }),
];

async function live(interruption?: Interruption): Promise<{ outcome: Outcome; journal: readonly JournalEntry[] }> {
  const simulation = await Simulation.withHost();
  simulation.world.addFile('/data/existing.qcow2');
  simulation.world.addFile('/data/tools.qcow2');
  simulation.secret = '#cloud-config';
  let effects = 0;
  let killed = false;
  const fault = () => {
    effects += 1;
    if (interruption === undefined || effects !== interruption.effect) return undefined;
    killed = interruption.then === 'killed';
    return { afterSteps: interruption.afterSteps };
  };
  const settle = async () => {
    await simulation.clock.advance(SETTLE_MS, () => killed);
    if (!killed) return;
    killed = false;
    simulation.crash();
    simulation.startController({ fault });
    await simulation.pass(SETTLE_MS);
  };
  simulation.startController({ fault });
  const found: string[] = [];
  for (const act of ACTS) {
    await act(simulation);
    await settle();
    found.push(...(await complaints(simulation)));
  }
  const status = (await simulation.vm())?.status;
  await simulation.remove();
  await settle();
  found.push(...(await complaints(simulation)));
  const { world } = simulation;
  const { phase, vcpus, disks, lastExit, restarts } = status ?? {};
  const outcome = {
    starts: world.starts,
    made: world.made.map((one) => one.slice(one.indexOf('/'))),
    complaints: found,
    status: { phase, vcpus, disks, restarts, lastExit: lastExit?.reason },
    folders: world.folders.size,
    files: [...world.files.keys()],
  };
  await simulation.end();
  return { outcome, journal: simulation.journal };
}

describe('interruptions', async () => {
  const reference = await live();

  test('without any, the life is as it should be', () => {
    expect(reference.outcome).toEqual({
      starts: 4,
      made: ['/root', '/tools'],
      complaints: [],
      status: {
        phase: 'Running',
        vcpus: 4,
        restarts: 1,
        lastExit: 'StoppedByRequest',
        disks: [
          {
            name: 'root',
            path: '/vms/web-1/root.qcow2',
            format: 'qcow2',
            virtualSize: '2Gi',
            state: 'Created',
            reclaim: 'Delete',
          },
          {
            name: 'data',
            path: '/data/existing.qcow2',
            format: 'qcow2',
            virtualSize: '1Gi',
            state: 'Attached',
            reclaim: 'Retain',
          },
          {
            name: 'tools',
            path: '/vms/web-1/tools.qcow2',
            format: 'qcow2',
            virtualSize: '1Gi',
            state: 'Created',
            reclaim: 'Delete',
          },
        ],
      },
      folders: 0,
      files: ['/data/existing.qcow2', '/data/tools.qcow2'],
    });
  });

  const plans = reference.journal.flatMap((entry, index) =>
    Array.from({ length: entry.steps + 1 }, (_, afterSteps) => afterSteps).flatMap((afterSteps) =>
      (['killed', 'connection lost'] as const).map((then) => ({
        effect: index + 1,
        afterSteps,
        then,
        name: `${then} in effect ${index + 1} (${entry.action.type}) after step ${afterSteps}`,
      })),
    ),
  );

  test.each(plans)('$name', async (plan) => {
    expect((await live(plan)).outcome).toEqual(reference.outcome);
  });
});
