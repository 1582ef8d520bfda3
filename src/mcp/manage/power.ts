/** Actions start, stop and restart. */
import { findCondition, isTrue, mayHaveProcess } from '../../api/conditions.ts';
import { oneLine } from '../../api/errors.ts';
import type { VirtualMachine } from '../../api/virtual-machine.ts';
import type { Envelope } from '../envelope.ts';
import { now } from '../looks.ts';
import { rehearse } from './dry-run.ts';
import { type Ending, endingOf, goneWhileWaiting, isCurrent, stalled, unfinished } from './outcome.ts';
import { answer, type Call, type ExistingVm } from './request.ts';

export async function start(call: Call, found: ExistingVm): Promise<Envelope> {
  const { vm } = found;
  const already = vm.status?.pid !== undefined && isRunning(vm) && isOn(vm) && isCurrent(vm);
  const spec = {
    powerState: 'PoweredOn',
    ...(!mayHaveProcess(vm.status) && !isStarting(vm) ? { restartedAt: now() } : {}),
  };
  if (call.args.dry_run === true) return rehearse(call, found, spec);
  const patched = await patchSpec(call, vm, spec);
  const ending = await endingOf(call, patched, (seen) => isUp(seen, vm) || wentDown(seen));
  return conclude(call, ending, already ? call.context.say.already(call.args.name, 'running') : undefined);
}

export async function restart(call: Call, found: ExistingVm): Promise<Envelope> {
  const spec = { powerState: 'PoweredOn', restartedAt: now() };
  if (call.args.dry_run === true) return rehearse(call, found, spec);
  const patched = await patchSpec(call, found.vm, spec);
  return conclude(call, await endingOf(call, patched, (seen) => isSettledRunning(seen) || wentDown(seen)), undefined);
}

export async function stop(call: Call, found: ExistingVm): Promise<Envelope> {
  const { args, context } = call;
  const already = isStopped(found.vm) && isCurrent(found.vm);
  const spec = { powerState: args.force === true ? 'ForcedOff' : 'PoweredOff' };
  if (args.dry_run === true) return rehearse(call, found, spec);
  const patched = await patchSpec(call, found.vm, spec);
  const ending = await endingOf(call, patched, isStopped);
  return conclude(call, ending, already ? context.say.already(args.name, 'stopped') : undefined);
}

function patchSpec(
  { context }: Call,
  { metadata }: VirtualMachine,
  spec: Readonly<Record<string, unknown>>,
): Promise<VirtualMachine> {
  return context.store.patch('VirtualMachine', metadata, { spec }, { uid: metadata.uid });
}

function isOn({ spec }: VirtualMachine): boolean {
  return spec.powerState === undefined || spec.powerState === 'PoweredOn';
}

/** A launch is under way: another nonce would restart what is about to come up. */
function isStarting(vm: VirtualMachine): boolean {
  return isOn(vm) && isCurrent(vm) && vm.status?.phase === 'Starting' && vm.status.nextAttemptAt === undefined;
}

function isRunning({ status }: VirtualMachine): boolean {
  return isTrue(status?.conditions, 'Running');
}

/** QEMU says `running`, and it is not the process that is about to be stopped. */
function isUp(seen: VirtualMachine, before: VirtualMachine): boolean {
  const another = seen.status?.pid !== undefined && seen.status.startedAt !== before.status?.startedAt;
  return isRunning(seen) && (another || isTrue(seen.status?.conditions, 'Ready'));
}

export function isSettledRunning({ status }: VirtualMachine): boolean {
  return isTrue(status?.conditions, 'Running') && isTrue(status?.conditions, 'Ready');
}

/** The guest ran and powered itself off again: no use waiting for it. */
function wentDown({ status }: VirtualMachine): boolean {
  const ready = findCondition(status?.conditions, 'Ready');
  return ready?.status === 'True' && ready.reason === 'GuestPoweredOff';
}

/** No process: seen, not supposed. */
export function isStopped({ status }: VirtualMachine): boolean {
  return status?.pid === undefined && findCondition(status?.conditions, 'Running')?.status === 'False';
}

function conclude(call: Call, ending: Ending, already: string | undefined): Envelope {
  const { args, context } = call;
  switch (ending.kind) {
    case 'gone':
      throw goneWhileWaiting(call);
    case 'stalled':
      throw stalled(call, ending);
    case 'unfinished':
      return unfinished(call, ending.vm);
    case 'done': {
      if (args.action !== 'stop' && wentDown(ending.vm)) return unfinished(call, ending.vm);
      const details = powerDetails(call, ending.vm, already === undefined);
      return answer(call, ending.vm.spec.hostName ?? '', already ?? context.say.done(args.name, args.action), details);
    }
  }
}

function powerDetails({ args, context }: Call, vm: VirtualMachine, changed: boolean): Record<string, unknown> {
  const { status } = vm;
  const running = args.action !== 'stop';
  return {
    completed: true,
    changed,
    status: running ? 'running' : 'stopped',
    ...(running ? { pid: status?.pid, started_at: status?.startedAt, accelerator: status?.accelerator } : {}),
    ...(running ? {} : { last_exit: status?.lastExit?.reason }),
    ...warning(vm),
    ...(running && context.looks.runsHere ? { note: context.say.nobodyWatches() } : {}),
  };
}

function warning({ status }: VirtualMachine): { readonly warning?: string } {
  const required = findCondition(status?.conditions, 'RestartRequired');
  return required?.status === 'True' ? { warning: oneLine(required.message, 300) } : {};
}
