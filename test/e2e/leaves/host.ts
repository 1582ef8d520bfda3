/** Rows of a Host. Each has one of its own: a change concerns all its machines. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { bridgeName, makeBridge, requireRoot, untilJoined } from '../support/bridges.ts';
import { argumentOf, isAlive } from '../support/process.ts';
import { manifest } from '../support/rig.ts';
import { until } from '../support/wait.ts';
import type { Effect, Row } from './leaf.ts';
import type { Guest, Place } from './place.ts';

interface OwnHost {
  readonly hostName: string;
  readonly vmDir: string;
  change(spec: object): Promise<unknown>;
}

async function ownHost({ rig }: Place, name: string, spec: object = {}): Promise<OwnHost> {
  const vmDir = rig.path(`${name}.vms`);
  await rig.addHost(name, vmDir, { ...spec });
  return {
    hostName: name,
    vmDir,
    change: (more) => rig.store.patch('Host', { name }, { spec: { ...more } }),
  };
}

const metricsAt = async ({ rig, name }: Guest) => (await rig.vm(name)).status?.metrics?.at;

const NAME = 'kubernetes.io/metadata.name';

/** A guest of namespace default, which the Host takes only after the change. */
const takenAfter =
  (before: object, after: object): Effect =>
  async (place) => {
    const { hostName, vmDir, change } = await ownHost(place, place.name(), { allowedNamespaces: before });
    const guest = await place.create({ hostName }, { vmDir });
    await place.rig.untilReason(guest.name, 'NamespaceNotAllowed');
    expect([guest.qemus(), existsSync(join(vmDir, guest.name))]).toEqual([[], false]);
    await change({ allowedNamespaces: after });
    await guest.running();
    expect(guest.qemus()).toEqual([guest.pid]);
  };

const expressed = (requirement: object) => ({ selector: { matchExpressions: [requirement] } });

export const HOST: readonly Row[] = [
  {
    leaf: 'Host.spec.local',
    effect: async (place) => {
      const { hostName, vmDir } = await ownHost(place, place.name());
      const guest = await place.running({ hostName }, { vmDir });
      const host = await place.rig.store.get('Host', { name: hostName });
      // It is this machine: its id, and the process is among ours.
      expect(host?.status?.info?.machineID).toBe(readFileSync('/etc/machine-id', 'utf8').trim());
      expect([isAlive(guest.pid), guest.qemus()]).toEqual([true, [guest.pid]]);
      expect(() => manifest('Host', { name: 'nowhere' }, { vmDir })).toThrow('set exactly one of local and ssh');
    },
  },
  {
    leaf: 'Host.spec.vmDir',
    effect: async (place) => {
      const { hostName, vmDir } = await ownHost(place, place.name());
      const guest = await place.running({ hostName }, { vmDir });
      expect(argumentOf(guest.pid, '-pidfile')).toBe(join(vmDir, guest.name, 'qemu.pid'));
      expect(existsSync(join(vmDir, '.qemu-operator.json'))).toBe(true);
    },
    fixed: { made: { vmDir: '/srv/one' }, asked: { vmDir: '/srv/other' } },
  },
  {
    leaf: 'Host.spec.allowedPaths[]',
    effect: async (place) => {
      const { hostName, vmDir, change } = await ownHost(place, place.name(), { allowedPaths: ['/nowhere'] });
      const guest = await place.create({ hostName }, { vmDir });
      await place.rig.untilReason(guest.name, 'PathNotAllowed');
      expect(guest.qemus()).toEqual([]);
      await change({ allowedPaths: ['/nowhere', place.rig.path('images')] });
      await guest.running();
      expect(guest.qemus()).toEqual([guest.pid]);
    },
  },
  {
    leaf: 'Host.spec.allowedNamespaces.names[]',
    effect: takenAfter({ names: ['team-a'] }, { names: ['team-a', 'default'] }),
  },
  {
    leaf: 'Host.spec.allowedNamespaces.selector.matchLabels',
    effect: takenAfter(
      { selector: { matchLabels: { [NAME]: 'team-a' } } },
      { selector: { matchLabels: { [NAME]: 'default' } } },
    ),
  },
  {
    leaf: 'Host.spec.allowedNamespaces.selector.matchExpressions[].key',
    effect: takenAfter(expressed({ key: 'team', operator: 'Exists' }), expressed({ key: NAME, operator: 'Exists' })),
  },
  {
    leaf: 'Host.spec.allowedNamespaces.selector.matchExpressions[].operator',
    effect: {
      In: takenAfter(
        expressed({ key: NAME, operator: 'NotIn', values: ['default'] }),
        expressed({ key: NAME, operator: 'In', values: ['default'] }),
      ),
      NotIn: takenAfter(
        expressed({ key: NAME, operator: 'In', values: ['team-a'] }),
        expressed({ key: NAME, operator: 'NotIn', values: ['team-a'] }),
      ),
      Exists: takenAfter(
        expressed({ key: NAME, operator: 'DoesNotExist' }),
        expressed({ key: NAME, operator: 'Exists' }),
      ),
      DoesNotExist: takenAfter(
        expressed({ key: 'team', operator: 'Exists' }),
        expressed({ key: 'team', operator: 'DoesNotExist' }),
      ),
    },
  },
  {
    leaf: 'Host.spec.allowedNamespaces.selector.matchExpressions[].values[]',
    effect: takenAfter(
      expressed({ key: NAME, operator: 'In', values: ['team-a'] }),
      expressed({ key: NAME, operator: 'In', values: ['team-a', 'default'] }),
    ),
  },
  {
    leaf: 'Host.spec.allowedBridges[]',
    effect: async (place) => {
      requireRoot();
      const bridge = bridgeName(place.onFinished);
      makeBridge(bridge);
      const { hostName, vmDir, change } = await ownHost(place, place.name());
      const guest = await place.create({ hostName, networks: [{ name: 'net0', bridge: { name: bridge } }] }, { vmDir });
      await place.rig.untilReason(guest.name, 'BridgeNotAllowed');
      expect(guest.qemus()).toEqual([]);
      await change({ allowedBridges: [bridge] });
      await untilJoined(bridge);
    },
  },
  {
    leaf: 'Host.spec.metricsIntervalSeconds',
    effect: async (place) => {
      const { hostName, vmDir, change } = await ownHost(place, place.name(), { metricsIntervalSeconds: 1 });
      const guest = await place.running({ hostName }, { vmDir });
      const next = async (former: string | undefined) =>
        until(
          'another sample',
          () => metricsAt(guest),
          (at) => at !== undefined && at !== former,
        );
      await next(await next(undefined));
      await change({ metricsIntervalSeconds: 0 });
      // One sample may still be under way.
      for (let looks = 0; looks < 2; looks += 1) await place.rig.anotherLook();
      const last = await metricsAt(guest);
      for (let looks = 0; looks < 3; looks += 1) await place.rig.anotherLook();
      expect(await metricsAt(guest)).toBe(last);
    },
  },
];
