/** action modify: memory and vCPUs (with a restart where the VM runs) and the growth of a disk. */
import { findCondition } from '../../api/conditions.ts';
import { type EffectiveDisk, effectiveSpec } from '../../api/effective-spec.ts';
import { quoteValue } from '../../api/errors.ts';
import { formatQuantity, parseQuantity, qemuSize, toMiB } from '../../api/quantity.ts';
import type { DiskSpec, VirtualMachine } from '../../api/virtual-machine.ts';
import { firstVersion } from '../../store/watching.ts';
import { parseDisk, parseMemory } from '../disk-argument.ts';
import { type Envelope, type ErrorDetail, Refusal } from '../envelope.ts';
import { askLookAtVm, now } from '../looks.ts';
import { patchDisks, seenSizeOf, sizeOf } from './disks.ts';
import { rehearse } from './dry-run.ts';
import { endingOf, goneWhileWaiting, isCurrent, lookAgain, stalled, unfinished } from './outcome.ts';
import { isSettledRunning, isStopped } from './power.ts';
import { answer, type Call, type ExistingVm } from './request.ts';

const MIB = 1_048_576;
const FRESH_LOOK_MS = 4_000;

interface Change {
  readonly before: string | number;
  readonly after: string | number;
  readonly path?: string;
}

interface Plan {
  readonly spec: Record<string, unknown>;
  /** The disk to grow, by name, and its new size. */
  disk?: { readonly name: string; readonly size: string };
  readonly details: Record<string, Change>;
  /** What the VM has already, for a modify that asks for nothing new. */
  readonly same: string[];
}

export async function modify(call: Call, found: ExistingVm): Promise<Envelope> {
  const { args, context } = call;
  const { vm } = found;
  const plan: Plan = { spec: {}, details: {}, same: [] };
  planMemory(call, vm, plan);
  planVcpus(call, vm, plan);
  await planDisk(call, found, plan);
  const fields = Object.keys(plan.spec);
  if (fields.length === 0 && plan.disk === undefined && isInForce(vm)) {
    throw new Refusal(context.say.nothingToChange(args.name, plan.same.join(', ')), {
      code: 'InvalidArgument',
      value: quoteValue(plan.same.join(', ')),
      next: lookAgain(args),
    });
  }
  const needsProcess = fields.includes('memory') || fields.includes('vcpus') || pendingOf(vm, args);
  const restarts = needsProcess && vm.status?.pid !== undefined && isOn(vm);
  // A launch that is owed takes the new figures, and one that is under way with the old ones is followed by another.
  const launches = restarts || (needsProcess && owesLaunch(vm));
  const more = launches ? { restartedAt: now() } : {};
  if (args.dry_run === true) return rehearse(call, found, { ...plan.spec, ...more, ...grown(vm, plan) });
  const patched = await write(call, vm, plan, more);
  const ending = await endingOf(call, patched, (seen) => isInForce(seen) && (!launches || isSettledRunning(seen)));
  const details = { ...plan.details, restarted: restarts };
  if (ending.kind === 'gone') throw goneWhileWaiting(call);
  if (ending.kind === 'stalled') throw stalled(call, ending, details);
  if (ending.kind === 'unfinished') return unfinished(call, ending.vm, details);
  const message = restarts ? context.say.restartedForModify(args.name) : context.say.done(args.name, 'modify');
  return answer(call, vm.spec.hostName ?? '', message, { ...details, completed: true });
}

/** All in one write, the restart with it. */
function write(
  { context }: Call,
  vm: VirtualMachine,
  plan: Plan,
  more: Record<string, string>,
): Promise<VirtualMachine> {
  const spec = { ...plan.spec, ...more };
  const { disk } = plan;
  if (disk === undefined) {
    return context.store.patch('VirtualMachine', vm.metadata, { spec }, { uid: vm.metadata.uid });
  }
  return patchDisks(context.store, vm, sized(disk), spec);
}

const sized =
  ({ name, size }: NonNullable<Plan['disk']>) =>
  (one: DiskSpec): DiskSpec =>
    one.name === name ? { ...one, size } : one;

function grown({ spec }: VirtualMachine, { disk }: Plan): { readonly disks?: readonly DiskSpec[] } {
  return disk === undefined ? {} : { disks: (spec.disks ?? []).map(sized(disk)) };
}

function isOn({ spec }: VirtualMachine): boolean {
  return spec.powerState === undefined || spec.powerState === 'PoweredOn';
}

/** No process, though there is to be one; a VM that ended by itself and is left off has none to come. */
function owesLaunch(vm: VirtualMachine): boolean {
  const { status } = vm;
  const ready = findCondition(status?.conditions, 'Ready');
  const atRest = ready?.status === 'True' || (ready !== undefined && ready.reason === status?.lastExit?.reason);
  return isOn(vm) && isStopped(vm) && !atRest;
}

/** An earlier modify may still wait for its restart. */
function pendingOf({ status }: VirtualMachine, { memory, vcpus }: Call['args']): boolean {
  const paths = (status?.pendingChanges ?? []).map(({ path }) => path);
  const waits = (field: string) => paths.some((path) => path.startsWith(`spec.${field}`));
  return (memory !== undefined && waits('memory')) || (vcpus !== undefined && waits('vcpus'));
}

/** The figures of the spec are those of the process, and every disk has at least its size. */
function isInForce(vm: VirtualMachine): boolean {
  const { spec, status } = vm;
  if (!isCurrent(vm)) return false;
  const disks = (spec.disks ?? []).every(({ name, size }) => {
    const seen = status?.disks?.find((disk) => disk.name === name)?.virtualSize;
    if (size === undefined || seen === undefined) return true;
    return (parseQuantity(seen) ?? 0) >= (parseQuantity(size) ?? 0);
  });
  if (isStopped(vm)) return disks && !owesLaunch(vm);
  const memory = toMiB(parseQuantity(status?.memory ?? '') ?? 0) === toMiB(parseQuantity(spec.memory) ?? 0);
  return disks && memory && status?.vcpus === spec.vcpus;
}

function planMemory({ args, context }: Call, { spec }: VirtualMachine, plan: Plan): void {
  if (args.memory === undefined) return;
  const after = parseMemory(args.memory, context.say);
  const bytes = (quantity: string | number) => toMiB(parseQuantity(quantity) ?? 0) * MIB;
  const same = bytes(after) === bytes(spec.memory);
  if (same) plan.same.push(`memory=${qemuSize(bytes(after))}`);
  else {
    plan.spec['memory'] = after;
    plan.details['memory'] = { before: qemuSize(bytes(spec.memory)), after: qemuSize(bytes(after)) };
  }
}

function planVcpus({ args }: Call, { spec }: VirtualMachine, plan: Plan): void {
  if (args.vcpus === undefined) return;
  if (args.vcpus === spec.vcpus) plan.same.push(`vcpus=${spec.vcpus}`);
  else {
    plan.spec['vcpus'] = args.vcpus;
    plan.details['vcpus'] = { before: spec.vcpus, after: args.vcpus };
  }
}

async function planDisk(call: Call, found: ExistingVm, plan: Plan): Promise<void> {
  const { args, context } = call;
  if (args.disk === undefined) return;
  const { path, size } = parseDisk(args.disk, context.say);
  if (size === undefined) throw diskRefusal(call, context.say.diskSizeNeeded());
  const disk = targetOf(call, found, path);
  const bytes = parseQuantity(size) ?? 0;
  if (disk.format === 'raw') await requireRawGrown(call, found.vm, disk, bytes);
  const before = sizeOf(found.vm, disk) ?? 0;
  if (bytes < before) {
    const message = context.say.diskCannotShrink(disk.path, qemuSize(before));
    throw diskRefusal(call, message, { code: 'DiskCannotShrink', allowed: [`>= ${qemuSize(before)}`] });
  }
  if (bytes === disk.sizeBytes) {
    plan.same.push(`disk=path=${disk.path},size=${qemuSize(bytes)}`);
    return;
  }
  plan.disk = { name: disk.name, size: formatQuantity(bytes) };
  plan.details['disk'] = { path: disk.path, before: qemuSize(before), after: qemuSize(bytes) };
}

function diskRefusal({ args }: Call, message: string, more: Partial<ErrorDetail> = {}): Refusal {
  return new Refusal(message, { code: 'InvalidArgument', field: 'disk', value: quoteValue(args.disk), ...more });
}

function targetOf(call: Call, { vm, host }: ExistingVm, path: string | undefined): EffectiveDisk {
  const { say } = call.context;
  const { disks } = effectiveSpec(vm, host);
  const paths = disks.map((disk) => disk.path);
  const found = path === undefined ? disks[0] : disks.find((disk) => disk.path === path);
  if (found === undefined) throw diskRefusal(call, say.diskUnknown(path ?? '', paths.join(', ')), { allowed: paths });
  if (path === undefined && disks.length > 1)
    throw diskRefusal(call, say.diskPathNeeded(paths.join(', ')), { allowed: paths });
  return found;
}

/** A raw file is grown by hand; a look may be older than that. */
async function requireRawGrown(call: Call, vm: VirtualMachine, disk: EffectiveDisk, bytes: number): Promise<void> {
  const { args, context } = call;
  const isGrown = (seen: VirtualMachine) => (seenSizeOf(seen, disk) ?? 0) >= bytes;
  if (isGrown(vm)) return;
  const message = context.say.rawDiskNotGrown(disk.path, qemuSize(bytes), bytes);
  const next = { tool: 'manage_vm', arguments: args };
  const refusal = diskRefusal(call, message, { code: 'RawDiskNotGrown', next });
  if (args.dry_run === true) throw refusal;
  await askLookAtVm(context.store, vm);
  const fresh = await firstVersion(context.store, 'VirtualMachine', {
    ref: vm.metadata,
    forMs: FRESH_LOOK_MS,
    signal: context.signal,
    accept: (seen) => (seen !== undefined && isGrown(seen) ? true : undefined),
  });
  if (fresh !== true) throw refusal;
}
