/** Waiting until a change was seen on the host, and the answer to each way that may go. */
import { findCondition, isTrue } from '../../api/conditions.ts';
import { oneLine, quoteValue } from '../../api/errors.ts';
import type { VirtualMachine } from '../../api/virtual-machine.ts';
import { firstVersion } from '../../store/watching.ts';
import { type Envelope, type NextCall, Refusal } from '../envelope.ts';
import { answer, type Call, timeLeft } from './request.ts';

/** What a version of the object means for the call. `unfinished` ends the waiting: nothing more will come in time. */
export type Verdict = 'done' | 'stalled' | 'unfinished' | undefined;

export type Ending =
  | { readonly kind: 'done'; readonly vm: VirtualMachine }
  | { readonly kind: 'gone' }
  | { readonly kind: 'stalled'; readonly vm: VirtualMachine; readonly reason: string; readonly message: string }
  | { readonly kind: 'unfinished'; readonly vm: VirtualMachine };

/** Whether the status speaks of this spec. */
export function isCurrent({ metadata, status }: VirtualMachine): boolean {
  return status?.conditions !== undefined && (status.observedGeneration ?? 0) >= metadata.generation;
}

/** Waits for `isDone`, for a stall, or for the time to end; tells each step on the way. */
export async function endingOf(
  call: Call,
  vm: VirtualMachine,
  isDone: (vm: VirtualMachine) => boolean,
): Promise<Ending> {
  const { store, signal } = call.context;
  const tell = teller(call);
  let last = vm;
  const ending = await firstVersion<'VirtualMachine', Ending>(store, 'VirtualMachine', {
    ref: vm.metadata,
    forMs: timeLeft(call),
    signal,
    accept: (seen) => {
      if (seen === undefined) return { kind: 'gone' };
      last = seen;
      if (!isCurrent(seen)) return undefined;
      tell(seen);
      return isDone(seen) ? { kind: 'done', vm: seen } : stallOf(call, seen);
    },
  });
  return ending ?? { kind: 'unfinished', vm: last };
}

function stallOf(call: Call, vm: VirtualMachine): Ending | undefined {
  const { conditions, nextAttemptAt } = vm.status ?? {};
  const stalled = findCondition(conditions, 'Stalled');
  if (stalled?.status === 'True') {
    return { kind: 'stalled', vm, reason: stalled.reason, message: oneLine(stalled.message, 1000) };
  }
  if (isTrue(conditions, 'ReconcilePaused')) return { kind: 'unfinished', vm };
  const nextInMs = nextAttemptAt === undefined ? 0 : Date.parse(nextAttemptAt) - Date.now();
  return nextInMs > timeLeft(call) ? { kind: 'unfinished', vm } : undefined;
}

/** A progress message for each new step. */
function teller({ context }: Call): (vm: VirtualMachine) => void {
  let told = '';
  return ({ status }) => {
    const line = oneLine(`${status?.phase ?? 'Pending'}: ${status?.message ?? ''}`, 300);
    if (line === told) return;
    told = line;
    context.progress?.(line);
  };
}

/** The answer where time ran out: the change goes on without anyone waiting. */
export function unfinished(call: Call, vm: VirtualMachine, more: Readonly<Record<string, unknown>> = {}): Envelope {
  const { args, context } = call;
  const phase = isCurrent(vm) ? (vm.status?.phase ?? 'Pending') : 'Pending';
  const ready = isCurrent(vm) ? findCondition(vm.status?.conditions, 'Ready') : undefined;
  const why =
    ready === undefined ? context.say.timeIsUp() : context.say.why(ready.reason, oneLine(ready.message, 1000));
  const message = context.say.unfinished(args.name, args.action, phase, why);
  return answer(call, vm.spec.hostName ?? '', message, {
    ...more,
    completed: false,
    phase,
    message: why,
    next_call: lookAgain(args),
  });
}

/** The call that shows how the VM is by then. */
export function lookAgain({ name, host }: Call['args']): NextCall {
  return { tool: 'list_vms', arguments: { filter_name: name, ...(host === undefined ? {} : { host }) } };
}

/** The refusal where the loop cannot go on without a person or another spec. */
export function stalled(
  { args, context }: Call,
  { vm, reason, message }: Extract<Ending, { kind: 'stalled' }>,
  details: Readonly<Record<string, unknown>> = {},
): Refusal {
  const why = context.say.why(reason, message);
  const field = fieldOf(reason, message);
  const asked = field === undefined ? undefined : args[field];
  return new Refusal(
    context.say.failed(args.name, args.action, why),
    {
      code: reason,
      field,
      value: asked === undefined ? undefined : quoteValue(asked),
      next: nextCall(args, field),
    },
    { details: { ...details, completed: false, phase: vm.status?.phase, message } },
  );
}

type Field = keyof Call['args'];

/** What helps: without a vm_dir it is the host's; a VM that exists shows when the host was mended. */
function nextCall(args: Call['args'], field: Field | undefined): NextCall | undefined {
  if (args.action !== 'create') return lookAgain(args);
  const { vm_dir: _refused, ...rest } = args;
  return field === 'vm_dir' && args.vm_dir !== undefined ? { tool: 'manage_vm', arguments: rest } : undefined;
}

/** Which parameter a stall speaks of: its reason tells, or the part of the VM that its sentence begins with. */
function fieldOf(reason: string, message: string): Field | undefined {
  return FIELDS[reason] ?? PARTS.find(([beginning]) => message.startsWith(beginning))?.[1];
}

const PARTS: readonly (readonly [string, Field])[] = [
  ['disk ', 'disk'],
  ['cdrom ', 'iso'],
  ['vmDir ', 'vm_dir'],
];

const FIELDS: Readonly<Record<string, Field | undefined>> = {
  ISONotFound: 'iso',
  ISOWrongArchitecture: 'iso',
  DiskMissing: 'disk',
  DiskInUse: 'disk',
  DiskCannotShrink: 'disk',
  DiskFormatMismatch: 'disk',
  RawDiskNotGrown: 'disk',
  StorageMissing: 'disk',
  NameConflict: 'name',
  PathTooLong: 'vm_dir',
  VMDirMissing: 'vm_dir',
  ClaimedByAnother: 'vm_dir',
  QEMUNotInstalled: 'arch',
  QEMUTooOld: 'arch',
};

export function goneWhileWaiting({ args, context }: Call): Refusal {
  return new Refusal(context.say.beingDeleted(args.name), { code: 'NotFound', field: 'name' });
}
