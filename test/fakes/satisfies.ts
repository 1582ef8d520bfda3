/** What a VM at rest must be, restated from the API's words and from the truth of the simulated world. */
import { createHash } from 'node:crypto';
import { forwardsOf, type LaunchSpec } from '../../src/api/effective-spec.ts';
import { tapName } from '../../src/api/networks.ts';
import { parseQuantity } from '../../src/api/quantity.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { type OwnershipRecord, parseRecord } from '../../src/reconcile/record.ts';
import { folderOf, type Simulation } from './simulation.ts';

/** What is looked at: objects and the world. */
type Installation = Pick<Simulation, 'world' | 'vm'> & Partial<Pick<Simulation, 'secret'>>;

/** Complaints; none where all is as the spec wants. */
export async function complaints(simulation: Installation): Promise<string[]> {
  const vm = await simulation.vm();
  const found = [...simulation.world.violations, ...madeTwice(simulation)];
  if (vm === undefined) return [...found, ...leftovers(simulation)];
  if (vm.metadata.deletionTimestamp !== undefined) return [...found, 'the deleted object is still there'];
  return [...found, ...statusComplaints(vm), ...worldComplaints(simulation, vm)];
}

function madeTwice({ world }: Installation): string[] {
  const twice = world.made.filter((one, index) => world.made.indexOf(one) !== index);
  return twice.map((one) => `${one} was made twice`);
}

function leftovers({ world }: Installation): string[] {
  return [
    ...[...world.files].filter(([, { content }]) => content.startsWith('us')).map(([path]) => `${path} is left`),
    ...[...world.folders.keys()].map((path) => `${path} is left`),
    ...[...world.processes.keys()].map((pid) => `process ${pid} is left`),
  ];
}

type Size = NonNullable<VirtualMachine['spec']['disks']>[number]['size'];

const condition = (vm: VirtualMachine, type: string) => vm.status?.conditions?.find((one) => one.type === type);

function statusComplaints(vm: VirtualMachine): string[] {
  const found: string[] = [];
  const ready = condition(vm, 'Ready');
  if (vm.status?.observedGeneration !== vm.metadata.generation) found.push('the generation was not observed');
  for (const type of ['Ready', 'Running', 'HostReachable', 'DisksReady'])
    if (condition(vm, type) === undefined) found.push(`there is no condition ${type}`);
  if (condition(vm, 'HostReachable')?.status !== 'True') found.push('the host is not reachable');
  if (ready?.status !== 'True' && condition(vm, 'Stalled')?.status !== 'True')
    found.push(`neither Ready nor Stalled: ${ready?.reason} ${ready?.message}`);
  if ((vm.status?.history?.length ?? 0) > 20) found.push('the history has no bound');
  return found;
}

/** The user data that a VM started now would have. */
function seedOf({ secret }: Installation, { spec: { cloudInit } }: VirtualMachine): string | undefined {
  if (cloudInit === undefined) return undefined;
  const text = cloudInit.userDataSecretRef === undefined ? cloudInit.userData : secret;
  return text === undefined ? 'generated' : `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

function worldComplaints(simulation: Installation, vm: VirtualMachine): string[] {
  const { world } = simulation;
  const state = parseRecord(world.folders.get(folderOf())?.record);
  if (state.kind !== 'readable' || state.record.uid !== vm.metadata.uid) return ['the folder is not its own'];
  const { record } = state;
  const process = world.processIn(folderOf());
  const off = vm.spec.powerState === 'PoweredOff' || vm.spec.powerState === 'ForcedOff';
  // A disk that was added waits for the next start; a VM that stays off by its policy waits for a person.
  const due = (vm.spec.disks ?? []).filter(
    ({ name }) => off || process?.spec.disks.some((launched) => launched.name === name) === true,
  );
  const found = due.flatMap((disk) => diskComplaints(world, record, disk));
  if (off) return process === undefined ? found : [...found, 'it runs and should be off'];
  if (process === undefined) return [...found, ...offComplaints(vm, world.ends.at(-1), record.nonce)];
  if (process.guest !== 'running' && vm.spec.restartPolicy !== 'Never') found.push(`the guest is ${process.guest}`);
  if (record.nonce !== vm.spec.restartedAt) found.push('the restart was not answered');
  found.push(...networkComplaints(vm, process.spec, world));
  const differs = process.spec.vcpus !== vm.spec.vcpus || process.seed !== seedOf(simulation, vm);
  if (differs && vm.spec.updateStrategy.type === 'Restart' && process.guest === 'running')
    found.push('the change is not in force');
  const connected = condition(vm, 'GuestAgentConnected')?.status === 'True';
  if (connected !== (process.agent.kind === 'connected')) found.push(`the agent is ${process.agent.kind}`);
  if (differs && condition(vm, 'RestartRequired')?.status !== 'True') found.push('RestartRequired is not said');
  return found;
}

/** Another kind of network waits for the restart; ports of the same kind do not. */
function networkComplaints(vm: VirtualMachine, launched: LaunchSpec, world: Simulation['world']): string[] {
  const wanted = vm.spec.networks?.[0]?.bridge?.name;
  const [network] = launched.networks;
  if (network === undefined || wanted !== network.bridge) return [];
  if (wanted === undefined) return forwardComplaints(vm, launched);
  const joined = world.bridges.get(wanted)?.has(tapName(folderOf(), network.name)) === true;
  return joined ? [] : [`${network.name} is not joined to ${wanted}`];
}

/** Every forward that is wanted is there with a port of its own, as status says, and no other. */
function forwardComplaints({ spec, status }: VirtualMachine, launched: LaunchSpec): string[] {
  const wanted = (spec.networks ?? []).flatMap(({ user }) => user?.hostForwards ?? []);
  const has = forwardsOf(launched);
  const told = (status?.interfaces ?? []).flatMap(({ forwards = [] }) => forwards);
  const missing = wanted.filter(
    ({ hostPort, guestPort }) =>
      !has.some((one) => one.guestPort === guestPort && one.hostPort === (hostPort ?? one.hostPort)),
  );
  return [
    ...missing.map(({ guestPort }) => `guest port ${guestPort} is not forwarded`),
    ...(has.length === wanted.length ? [] : [`${has.length} forwards, not ${wanted.length}`]),
    ...(has.some(({ hostPort }) => hostPort === undefined) ? ['a forward has no port'] : []),
    ...(told.map(({ hostPort }) => hostPort).join() === has.map(({ hostPort }) => hostPort).join()
      ? []
      : ['status tells other forwards']),
  ];
}

function diskComplaints(
  world: Installation['world'],
  record: OwnershipRecord,
  { name, path = `${folderOf()}/${name}.qcow2`, size }: { name: string; path?: string | undefined; size?: Size },
): string[] {
  const file = world.files.get(path);
  const found = record.disks[name] === undefined ? [`disk ${name} is not noted`] : [];
  if (file === undefined) return [...found, `disk ${name} is not there`];
  const small = size !== undefined && file.virtualBytes < (parseQuantity(size) ?? 0);
  return small ? [...found, `disk ${name} is too small`] : found;
}

/** When a VM that should be on may have no process: its policy does not answer how it really ended. */
function offComplaints(
  vm: VirtualMachine,
  last: { readonly how: string; readonly asked: boolean } | undefined,
  nonce: string | undefined,
): string[] {
  const { restartPolicy, restartedAt } = vm.spec;
  if (nonce !== restartedAt) return ['the restart was not answered'];
  if (last === undefined) return ['it was never started'];
  const byItself = !last.asked && (last.how === 'powerdown' || last.how === 'quit');
  if (restartPolicy === 'Never') return [];
  if (restartPolicy === 'OnFailure' && byItself) return [];
  return [`it is off, although it ended by ${last.how} and restartPolicy is ${restartPolicy}`];
}
