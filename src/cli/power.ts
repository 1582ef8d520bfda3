/** start, stop and restart: they edit powerState and restartedAt, and wait until the host shows it. */
import type { Command } from 'commander';
import { mayHaveProcess } from '../api/conditions.ts';
import type { VirtualMachine, VirtualMachineSpec } from '../api/virtual-machine.ts';
import { type Context, type Globals, print, withSession } from './context.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { tellUnlessDriven, whileDriven } from './loop.ts';
import { nameOf, parseVmNames, requireObject, settledWords, type Target } from './resources.ts';
import type { Session } from './session.ts';
import { waitUntilSettled } from './wait.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';
import { tellProblems } from './warnings.ts';

export type VmTarget = Target<'VirtualMachine'>;
type PowerPatch = Pick<VirtualMachineSpec, 'powerState' | 'restartedAt'>;

export interface Verb {
  /** What to write; undefined: the VM is already so. */
  readonly patch: (vm: VirtualMachine, now: string) => PowerPatch | undefined;
  /** What is said when it is seen on the host. */
  readonly done: (vm: VirtualMachine) => string;
  /** What is said when nothing was to be done. */
  readonly already: string;
  /** What is said when it was written, and nobody waits. */
  readonly requested: string;
}

const hasProcess = ({ status }: VirtualMachine) => status?.pid !== undefined;

/** A guest may switch itself off as soon as it is on. */
const startedOr = (word: string) => (vm: VirtualMachine) =>
  hasProcess(vm) ? word : `${word}, and its guest has powered off since`;

/** A new nonce means one launch, also out of a back-off; a running VM needs none. */
export const START: Verb = {
  patch: (vm, now) => {
    const on = vm.spec.powerState === undefined || vm.spec.powerState === 'PoweredOn';
    if (on && hasProcess(vm)) return undefined;
    // A launch that is asked for while a guest runs unseen would restart it once it is seen again.
    return { powerState: 'PoweredOn', ...(mayHaveProcess(vm.status) ? {} : { restartedAt: now }) };
  },
  done: startedOr('started'),
  already: 'already running',
  requested: 'to be started',
};

export const RESTART: Verb = {
  patch: (_vm, now) => ({ powerState: 'PoweredOn', restartedAt: now }),
  done: startedOr('restarted'),
  already: 'already running',
  requested: 'to be restarted',
};

const stopTo = (powerState: 'PoweredOff' | 'ForcedOff'): Verb => ({
  patch: (vm) => {
    const asked = vm.spec.powerState === powerState || vm.spec.powerState === 'ForcedOff';
    return asked ? undefined : { powerState };
  },
  done: () => 'stopped',
  already: 'already stopped',
  requested: 'to be stopped',
});

export const STOP = stopTo('PoweredOff');
export const FORCE_STOP = stopTo('ForcedOff');

export function declareVerb(command: Command, context: Context, verbOf: (options: { force?: boolean }) => Verb): void {
  command.argument('<name...>', 'names of virtual machines, NAME or qvm/NAME');
  addWaitOptions(command, 'wait until it is seen on the host (default: true)');
  command.action(async (words: string[], _options, self: Command) => {
    const options = self.optsWithGlobals<Globals & WaitOptions & { force?: boolean }>();
    const targets = parseVmNames(words, options.namespace);
    await withSession(context, options, (session) => changePower(context, session, targets, verbOf(options), options));
  });
}

/** Writes to all of them first, then waits for each in turn. */
export async function changePower(
  context: Context,
  session: Session,
  targets: readonly VmTarget[],
  verb: Verb,
  options: WaitOptions,
): Promise<void> {
  const { store } = session;
  // Before anything is written: one wrong name changes nothing.
  for (const target of targets) refuseEnding(await requireObject(store, target));
  tellProblems(context, store, targets);
  if (options.wait === false) {
    for (const target of targets) {
      const changed = await write(session, target, verb);
      print(context, `${nameOf(target)} ${changed ? verb.requested : verb.already}`);
    }
    tellUnlessDriven(context, session);
    return;
  }
  await whileDriven(context, session, settledWords(targets), async () => {
    const written: { target: VmTarget; changed: boolean }[] = [];
    for (const target of targets) written.push({ target, changed: await write(session, target, verb) });
    const deadline = performance.now() + options.timeout;
    for (const one of written) await finish(context, session, { ...one, verb }, deadline);
  });
}

function refuseEnding({ metadata }: VirtualMachine): void {
  if (metadata.deletionTimestamp !== undefined)
    throw new CliError(EXIT.conflict, `virtual machine ${metadata.name} is being deleted`);
}

/** Returns whether there was something to write. */
export async function write({ store }: Session, target: VmTarget, verb: Verb): Promise<boolean> {
  const vm = await requireObject(store, target);
  const patch = verb.patch(vm, new Date().toISOString());
  if (patch === undefined) return false;
  await store.patch('VirtualMachine', target.ref, { spec: { ...patch } }, { uid: vm.metadata.uid });
  return true;
}

interface Written {
  readonly target: VmTarget;
  readonly changed: boolean;
  readonly verb: Verb;
}

async function finish(context: Context, { store }: Session, written: Written, deadline: number): Promise<void> {
  const { target, changed, verb } = written;
  const vm = await waitUntilSettled(context, store, target, {
    timeoutMs: Math.max(0, deadline - performance.now()),
  });
  print(context, `${nameOf(target)} ${changed ? verb.done(vm) : verb.already}`);
}
