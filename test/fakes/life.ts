/** Everything that can happen in the life of a VM, as data, and how it is done to a simulation. */
import fc from 'fast-check';
import type { VmAction } from '../../src/reconcile/action.ts';
import type { GuestStatus, SeenAgent } from '../../src/reconcile/observed.ts';
import { folderOf, type Simulation } from './simulation.ts';

export type LifeEvent =
  | { readonly type: 'pass'; readonly ms: number }
  | { readonly type: 'edit'; readonly spec: Readonly<Record<string, unknown>> }
  | { readonly type: 'disks'; readonly data: boolean; readonly rootGi: number }
  | { readonly type: 'delete' | 'create' | 'restart' }
  | { readonly type: 'paused'; readonly on: boolean }
  | { readonly type: 'end'; readonly how: 'powerdown' | 'quit' | 'signal' | 'crash' }
  | { readonly type: 'guest'; readonly guest: GuestStatus }
  | { readonly type: 'agent'; readonly kind: SeenAgent['kind']; readonly obeys: boolean }
  | {
      readonly type: 'world';
      readonly what: 'silent' | 'unreachable' | 'unmounted' | 'full' | 'stubborn' | 'port' | 'bridge' | 'reboot';
    }
  | { readonly type: 'secret'; readonly value: string | undefined }
  | { readonly type: 'clock'; readonly ms: number }
  | { readonly type: 'operator'; readonly what: 'killed' | 'deaf' | 'without-watch' }
  | { readonly type: 'cut'; readonly action?: VmAction['type']; readonly afterSteps: number }
  /** The service asks for the end of the guests, with the time that is left; null: it is taken back. */
  | { readonly type: 'host-shutdown'; readonly leftMs: number | null }
  | { readonly type: 'lose-disk' };

export const PERSONS_FILE = '/data/existing.qcow2';
const DATA = { name: 'data', path: PERSONS_FILE };

export function disksOf(data: boolean, rootGi: number) {
  return [{ name: 'root', size: `${rootGi}Gi` }, ...(data ? [DATA] : [])];
}

/** The port that somebody else may take, one that is chosen, none. */
const forwardings = [[{ hostPort: 8080, guestPort: 80 }, { guestPort: 22 }], [{ guestPort: 22 }], []];

const edits = fc.constantFrom<Readonly<Record<string, unknown>>>(
  { powerState: 'PoweredOn' },
  { powerState: 'PoweredOff' },
  { powerState: 'ForcedOff' },
  { restartPolicy: 'Always' },
  { restartPolicy: 'OnFailure' },
  { restartPolicy: 'Never' },
  { vcpus: 3 },
  { vcpus: 2 },
  { updateStrategy: { type: 'Restart' } },
  { updateStrategy: { type: 'OnRestart' } },
  ...forwardings.map((hostForwards) => ({ networks: [{ name: 'net0', user: { hostForwards } }] })),
  { networks: [{ name: 'net0', bridge: { name: 'br0' } }] },
  { powerOff: { mode: 'Hard' } },
  { powerOff: { mode: 'TrySoft', gracePeriodSeconds: 10 } },
  { cloudInit: { userData: 'a', userDataSecretRef: null } },
  { cloudInit: { userData: null, userDataSecretRef: { name: 'web-1', key: 'user-data' } } },
  { cloudInit: { hostname: 'b' } },
  { cloudInit: null },
);
const cuttable = fc.constantFrom<VmAction['type'] | undefined>(
  undefined,
  'launch',
  'note-end',
  'create-disk',
  'claim-folder',
  'stop',
  'remove-files',
);

/** Anything but what loses data for good. */
export const lifeEvent: fc.Arbitrary<LifeEvent> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ type: fc.constant('pass'), ms: fc.constantFrom(10, 1_000, 7_000, 65_000, 700_000) }),
  },
  { weight: 5, arbitrary: fc.record({ type: fc.constant('edit'), spec: edits }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('disks'), data: fc.boolean(), rootGi: fc.constantFrom(1, 2) }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constantFrom('restart', 'delete', 'create') }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('paused'), on: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({ type: fc.constant('end'), how: fc.constantFrom('powerdown', 'quit', 'signal', 'crash') }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('guest'),
      guest: fc.constantFrom<GuestStatus>('guest-panicked', 'internal-error', 'io-error', 'paused'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('agent'),
      kind: fc.constantFrom<SeenAgent['kind']>('closed', 'mute', 'connected'),
      obeys: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('world'),
      what: fc.constantFrom('silent', 'unreachable', 'unmounted', 'full', 'stubborn', 'port', 'bridge', 'reboot'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('secret'), value: fc.constantFrom('a', 'x', 'y', undefined) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('host-shutdown'), leftMs: fc.constantFrom(null, 3_000, 65_000) }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('clock'), ms: fc.constantFrom(-3_600_000, 3_600_000) }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('operator'), what: fc.constantFrom('killed', 'deaf', 'without-watch') }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ type: fc.constant('cut'), action: cuttable, afterSteps: fc.integer({ min: 0, max: 4 }) }),
  },
) as fc.Arbitrary<LifeEvent>;

let nonces = 0;

export async function happen(event: LifeEvent, to: Simulation): Promise<void> {
  const { world, clock } = to;
  switch (event.type) {
    case 'pass':
      return to.pass(event.ms);
    case 'edit':
      return editIfThere(to, event.spec);
    case 'restart':
      nonces += 1;
      return editIfThere(to, { powerState: 'PoweredOn', restartedAt: `n${nonces}` });
    case 'disks':
      // A disk never shrinks: admission refuses it.
      return editIfThere(to, { disks: disksOf(event.data, event.rootGi) }).catch(() => undefined);
    case 'create':
      if ((await to.vm()) === undefined) await to.createVm({ disks: disksOf(false, 1) });
      return;
    case 'delete':
      if ((await to.vm()) !== undefined) await to.remove();
      return;
    case 'paused':
      if ((await to.vm()) !== undefined) await to.annotate('paused', event.on ? '' : null);
      return;
    case 'end': {
      const process = world.processIn(folderOf());
      if (process !== undefined) world.end(process, event.how, event.how === 'quit' ? 'StoppedExternally' : undefined);
      return;
    }
    case 'guest':
      return world.setGuest(folderOf(), event.guest);
    case 'agent':
      world.agentsObey = event.obeys;
      return world.setAgent(
        folderOf(),
        event.kind === 'mute' ? { kind: 'mute', reason: 'GuestAgentSilent' } : { kind: event.kind },
      );
    case 'world':
      return changeWorld(to, event.what);
    case 'secret':
      to.secret = event.value;
      return to.wake();
    case 'clock':
      world.clockSkewMs += event.ms;
      return;
    case 'operator':
      return changeOperator(to, event.what);
    case 'cut': {
      let done = false;
      to.controller.driver.fault = ({ type }) => {
        if (done || (event.action !== undefined && type !== event.action)) return undefined;
        done = true;
        return { afterSteps: event.afterSteps };
      };
      return;
    }
    case 'host-shutdown':
      return to.shutDownHost(event.leftMs);
    case 'lose-disk':
      for (const [path, { content }] of world.files) if (content.startsWith('us')) world.files.delete(path);
  }
  clock.now();
}

async function editIfThere(to: Simulation, spec: Readonly<Record<string, unknown>>): Promise<void> {
  const vm = await to.vm();
  if (vm !== undefined && vm.metadata.deletionTimestamp === undefined) await to.edit({ spec });
}

function changeWorld({ world }: Simulation, what: Extract<LifeEvent, { type: 'world' }>['what']): void {
  const process = world.processIn(folderOf());
  const vmDir = [...world.vmDirs.values()][0];
  switch (what) {
    case 'silent':
      if (process !== undefined) process.silent = !process.silent;
      return;
    case 'unreachable':
      world.reachable = !world.reachable;
      return;
    case 'unmounted':
      if (vmDir !== undefined) vmDir.mounted = !vmDir.mounted;
      return;
    case 'full':
      world.freeBytes = world.freeBytes === 0 ? 1e12 : 0;
      return;
    case 'stubborn':
      world.guestsObey = !world.guestsObey;
      return;
    case 'port':
      // Whoever comes second does not get it.
      if (world.takenPorts.length > 0) world.takenPorts = [];
      else if (world.ports().every(({ hostPort }) => hostPort !== 8080)) world.takenPorts = [8080];
      return;
    case 'bridge':
      if (!world.bridges.delete('br0')) world.bridges.set('br0', new Set());
      return;
    case 'reboot':
      world.reboot();
  }
}

function changeOperator(to: Simulation, what: Extract<LifeEvent, { type: 'operator' }>['what']): void {
  if (what === 'deaf') to.controller.driver.deaf = !to.controller.driver.deaf;
  if (what === 'without-watch') to.dropWakes = !to.dropWakes;
  if (what !== 'killed') return;
  to.crash();
  to.startController();
}

/** All that hinders is taken away; what was asked for stays asked for. */
export async function heal(to: Simulation): Promise<void> {
  await to.shutDownHost(null);
  await repair(to);
}

/** What hinders the operator is taken away; a host that is shutting down goes on with it. */
export async function repair(to: Simulation): Promise<void> {
  const { world } = to;
  world.reachable = true;
  world.guestsObey = true;
  world.agentsObey = true;
  world.freeBytes = 1e12;
  world.takenPorts = [];
  if (!world.bridges.has('br0')) world.bridges.set('br0', new Set());
  for (const vmDir of world.vmDirs.values()) vmDir.mounted = true;
  for (const process of world.processes.values()) process.silent = false;
  to.controller.driver.fault = undefined;
  to.controller.driver.deaf = false;
  to.dropWakes = false;
  to.secret ??= 'set at last';
  if ((await to.vm()) !== undefined) await to.annotate('paused', null);
  to.wake();
}
