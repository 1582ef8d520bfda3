/**
 * start-guests and stop-guests: what the service's second unit runs at boot and at shutdown. They say on the Host
 * that it is shutting down, or no longer; the loop does the rest.
 */
import type { Command } from 'commander';
import { findCondition, isTrue } from '../api/conditions.ts';
import { NotFoundError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { hostShutdownValue } from '../api/host-shutdown.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { bootMoment, isShuttingDown } from '../doctor/service.ts';
import { type Context, type Globals, print, requireFolder, tell, throwIfInterrupted, withSession } from './context.ts';
import { parseDuration } from './duration.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { whileDriven } from './loop.ts';
import { nameOf } from './resources.ts';
import type { Session } from './session.ts';

const LOCALHOST = 'localhost';
const DEFAULT_TIMEOUT = '5m';
/** The loop's last steps after the guests' time is over: quit, SIGTERM, SIGKILL. */
const LAST_STEPS_MS = 15_000;
const LOOK_MS = 250;

interface StopOptions extends Globals {
  readonly timeout: number;
  readonly ifShuttingDown?: boolean;
}

export function declareStartGuests(command: Command, context: Context): void {
  command.action(async (_options, self: Command) => startGuests(context, self.optsWithGlobals<Globals>()));
}

export function declareStopGuests(command: Command, context: Context): void {
  command
    .option('--timeout <time>', 'when guests that still run are switched off (default: 5m)', parseDuration)
    .option('--if-shutting-down', 'only where systemd is about to end: its unit is also stopped on other occasions')
    .action(async (_options, self: Command) => stopGuests(context, self.optsWithGlobals<StopOptions>()));
}

async function startGuests(context: Context, options: Globals): Promise<void> {
  await requireFolder(context, options);
  await withSession(context, options, async (session) => {
    const host = await localhost(session);
    if (host.metadata.annotations?.[ANNOTATIONS.hostShutdown] === undefined) {
      print(context, 'nothing keeps the machines of localhost from running');
      return;
    }
    await annotate(session, host, null);
    print(context, 'the machines of localhost may run again: what ran before is started');
  });
}

async function stopGuests(context: Context, options: StopOptions): Promise<void> {
  await requireFolder(context, options);
  const shell = (await context.machine()).shell();
  if (options.ifShuttingDown === true && !(await isShuttingDown(shell, context.signal))) {
    print(context, 'systemd is not shutting down: machines run on');
    return;
  }
  const timeoutMs = options.timeout ?? parseDuration(DEFAULT_TIMEOUT);
  await withSession(context, options, async (session) => {
    const host = await localhost(session);
    const { bootID, at } = await bootMoment(shell, context.signal);
    await annotate(session, host, hostShutdownValue(bootID, at + timeoutMs));
    await whileDriven(context, session, 'no machine of localhost runs', () =>
      waitUntilOff(context, session, timeoutMs),
    );
  });
}

async function localhost({ store }: Session): Promise<Host> {
  const host = await store.get('Host', { name: LOCALHOST });
  if (host === undefined) throw new NotFoundError(`hosts.qemu-operator.dev "${LOCALHOST}" not found`);
  return host;
}

async function annotate({ store }: Session, { metadata }: Host, value: string | null): Promise<void> {
  const annotations = { [ANNOTATIONS.hostShutdown]: value };
  await store.patch('Host', metadata, { metadata: { annotations } }, { uid: metadata.uid });
}

/** Tells of each machine when it is off. @throws CliError timedOut with those that still run */
async function waitUntilOff(context: Context, { store }: Session, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs + LAST_STEPS_MS;
  const running = new Set<string>();
  for (;;) {
    throwIfInterrupted(context);
    const { items } = await store.list('VirtualMachine');
    const here = items.filter(({ spec }) => spec.hostName === LOCALHOST);
    const left = here.filter((vm) => stateOf(vm) === 'ending');
    for (const vm of here) tellChange(context, vm, running);
    if (left.length === 0) return;
    if (performance.now() > deadline) {
      const names = left.map(({ metadata, status }) => `${metadata.name} (${status?.message ?? 'never looked at'})`);
      throw new CliError(EXIT.timedOut, `still running: ${names.join('; ')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function tellChange(context: Context, vm: VirtualMachine, running: Set<string>): void {
  const name = nameOf({ kind: 'VirtualMachine', ref: vm.metadata });
  const state = stateOf(vm);
  if (vm.status?.pid !== undefined && !running.has(vm.metadata.uid)) {
    running.add(vm.metadata.uid);
    tell(context, state === 'left' ? `${name} is left running: ${vm.status.message}` : `${name} is asked to power off`);
  }
  if (state === 'off' && running.delete(vm.metadata.uid)) print(context, `${name} stopped`);
}

/** ending: a process is there, or one may still be started. left: nothing may be done to it. */
function stateOf({ status }: VirtualMachine): 'off' | 'ending' | 'left' {
  const ready = findCondition(status?.conditions, 'Ready');
  const runs = status?.pid !== undefined;
  if (ready?.reason === 'PausedByOperator') return runs ? 'left' : 'off';
  if (runs || ready === undefined) return 'ending';
  const stays = ready.reason === 'HostShutdown' || ready.status === 'True' || isTrue(status?.conditions, 'Stalled');
  return stays || ready.status === 'Unknown' ? 'off' : 'ending';
}
