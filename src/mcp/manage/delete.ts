/** action delete: the VM, its process and the files it made. */
import { findCondition } from '../../api/conditions.ts';
import { NotFoundError, oneLine } from '../../api/errors.ts';
import { ANNOTATIONS } from '../../api/meta.ts';
import type { VirtualMachine } from '../../api/virtual-machine.ts';
import { versions } from '../../store/watching.ts';
import { type Envelope, Refusal } from '../envelope.ts';
import { patchDisks } from './disks.ts';
import { rehearseDeletion } from './dry-run.ts';
import { stalled, unfinished } from './outcome.ts';
import { answer, type Call, type ExistingVm, timeLeft } from './request.ts';

export async function remove(call: Call, found: ExistingVm): Promise<Envelope> {
  const { args, context } = call;
  const { vm } = found;
  requireDeletable(call, vm);
  if (args.dry_run === true) return rehearseDeletion(call, found);
  const prepared = vm.metadata.deletionTimestamp === undefined ? await prepare(call, vm) : vm;
  const deleting = await begin(call, prepared);
  const last = deleting === undefined ? { vm: prepared, gone: true } : await followToEnd(call, deleting);
  const details = filesOf(last.vm, context);
  if (!last.gone) {
    const blocked = findCondition(last.vm.status?.conditions, 'Stalled');
    if (blocked?.status === 'True') {
      const { reason, message } = blocked;
      throw stalled(call, { kind: 'stalled', vm: last.vm, reason, message });
    }
    return unfinished(call, last.vm);
  }
  const message = context.say.done(args.name, 'delete');
  return answer(call, vm.spec.hostName ?? '', message, { ...details, completed: true });
}

function requireDeletable({ args, context }: Call, vm: VirtualMachine): void {
  const { say } = context;
  const next = { tool: 'list_vms', arguments: {} };
  if (context.noDelete) throw new Refusal(say.deleteNotAllowed(), { code: 'DeleteNotAllowed', field: 'action', next });
  const shield = vm.metadata.annotations?.[ANNOTATIONS.protected];
  if (shield !== undefined && shield !== 'false') {
    throw new Refusal(say.protectedVm(args.name), { code: 'Protected', field: 'name' });
  }
  const detached = (vm.status?.disks ?? []).filter(
    ({ state, reclaim }) => state === 'Detached' && reclaim === 'Delete',
  );
  if (args.keep_disks === true && detached.length > 0) {
    const paths = detached.map(({ path }) => path).join(', ');
    throw new Refusal(say.detachedDiskGoes(paths), { code: 'InvalidArgument', field: 'keep_disks' });
  }
}

/** What the deletion shall know is written before it begins: then nothing holds it up. */
async function prepare({ args, context }: Call, vm: VirtualMachine): Promise<VirtualMachine> {
  const { store } = context;
  const spec = args.force === true ? { powerState: 'ForcedOff' } : {};
  if (args.keep_disks === true) return patchDisks(store, vm, (disk) => ({ ...disk, reclaimPolicy: 'Retain' }), spec);
  if (args.force !== true) return vm;
  return store.patch('VirtualMachine', vm.metadata, { spec }, { uid: vm.metadata.uid });
}

/** undefined where it is gone at once. */
async function begin({ context }: Call, { metadata }: VirtualMachine): Promise<VirtualMachine | undefined> {
  try {
    await context.store.delete('VirtualMachine', metadata, { uid: metadata.uid });
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
  const left = await context.store.get('VirtualMachine', metadata);
  return left?.metadata.uid === metadata.uid ? left : undefined;
}

/** The last version seen: it lists what became of the files. */
async function followToEnd(call: Call, vm: VirtualMachine): Promise<{ vm: VirtualMachine; gone: boolean }> {
  const { store, signal, progress } = call.context;
  const over = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(timeLeft(call)))]);
  let last = vm;
  let told = '';
  for await (const seen of versions(store, 'VirtualMachine', vm.metadata, over)) {
    if (seen === undefined) return { vm: last, gone: true };
    last = seen;
    const current = (seen.status?.observedGeneration ?? 0) >= seen.metadata.generation;
    if (current && findCondition(seen.status?.conditions, 'Stalled')?.status === 'True') break;
    const line = oneLine(`${seen.status?.phase ?? ''}: ${seen.status?.message ?? ''}`, 300);
    if (current && line !== told) progress?.(line);
    told = line;
  }
  signal.throwIfAborted();
  return { vm: last, gone: false };
}

/** What was deleted, and what stays and why. */
function filesOf({ status }: VirtualMachine, { say }: Call['context']): Record<string, unknown> {
  const disks = (status?.disks ?? []).filter(({ state }) => state !== 'Pending' && state !== 'Missing');
  const deleted = disks.filter(({ reclaim }) => reclaim === 'Delete').map(({ path }) => path);
  const kept = disks
    .filter(({ reclaim }) => reclaim !== 'Delete')
    .map(({ path, state, sharedWith }) => {
      const why = sharedWith !== undefined ? 'shared' : state === 'Attached' ? 'existed' : 'Retain';
      return { path, reason: say.keptDisk(why) };
    });
  const known = new Set(disks.map(({ path }) => path));
  const foreign = (status?.leftBehind ?? [])
    .filter((path) => !known.has(path))
    .map((path) => ({ path, reason: say.keptDisk('foreign') }));
  return { deleted_disks: deleted, kept_disks: [...kept, ...foreign] };
}
