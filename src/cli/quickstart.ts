/** quickstart: a small Linux machine, from nothing to its prompt; --remove takes it away. */
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { MARKER_FILE } from '../api/effective-spec.ts';
import { NotFoundError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { DEFAULT_NAMESPACE, LABELS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { commandWords, tellNextSteps } from './advice.ts';
import { type Context, type Declare, examples, type Globals, print, requireFolder, withSession } from './context.ts';
import { deleteAndWait } from './delete.ts';
import { parseDuration } from './duration.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { whileDriven } from './loop.ts';
import { START, type VmTarget, write } from './power.ts';
import { guestImage, isSample, requireAllowed, sampleMachine } from './quickstart-guest.ts';
import { showConsole, showFigures } from './quickstart-show.ts';
import type { Session } from './session.ts';
import { waitUntilSettled } from './wait.ts';

const NAME = 'quickstart';
const VM: VmTarget = { kind: 'VirtualMachine', ref: { namespace: DEFAULT_NAMESPACE, name: NAME } };
const DEFAULT_TIMEOUT = '5m';
/** States of a disk that needs its image no more. */
const MADE: ReadonlySet<string> = new Set(['Created', 'Attached', 'Missing']);

interface QuickstartOptions extends Globals {
  readonly remove?: boolean;
  readonly timeout: number;
}

export const declareQuickstart: Declare = (command, context) => {
  command
    .option('--remove', 'delete the machine, its disk and its folder')
    .addOption(
      new Option('--timeout <time>', 'how long it may take to run, and again to reach its prompt')
        .default(parseDuration(DEFAULT_TIMEOUT), DEFAULT_TIMEOUT)
        .argParser(parseDuration),
    )
    .action(async (_options, self: Command) => {
      const options = self.optsWithGlobals<QuickstartOptions>();
      await requireFolder(context, options);
      const work = options.remove === true ? remove : quickstart;
      await withSession(context, options, (session) => work(context, session, options));
    });
  examples(command, [
    ['Make it, start it, show it; a second time only what is left to do', 'quickstart'],
    ['Take it away', 'quickstart --remove'],
  ]);
};

async function quickstart(context: Context, session: Session, options: QuickstartOptions): Promise<void> {
  const words = commandWords(context, options);
  const host = await localhost(session);
  const former = await session.store.get(VM.kind, VM.ref);
  requireSample(former, words);
  const outcome = await applySample(context, session, await provideImage(context, host, former));
  const until = `${NAME} has been shown`;
  await whileDriven(context, session, until, async () => {
    if (outcome !== 'created') await write(session, VM, START);
    step(context, 'Waiting until it runs');
    const vm = await waitUntilSettled(context, session.store, VM, {
      timeoutMs: options.timeout,
      onStep: stamped(context),
    });
    if (vm.status?.pid === undefined) throw new CliError(EXIT.failed, `${NAME}: ${vm.status?.message ?? 'stopped'}`);
    step(context, `It runs: QEMU ${vm.status.qemuVersion}, pid ${vm.status.pid}, ${accelerator(vm)}. Live figures:`);
    await showFigures(context, session, NAME);
    step(context, 'Its serial console:');
    const place = { shell: session.shellFor(host), folder: vm.status.folder ?? '' };
    await showConsole(context, place, options.timeout, `${words} logs ${NAME} --console`);
  });
  print(context, '');
  if (session.loop.whoRuns() !== 'service') {
    step(context, 'The machine runs on, but nobody watches it now: it is not started again if it ends.');
    print(context, `    The controller does that, in a terminal of its own: ${words} run`);
    print(context, '');
  }
  tellNextSteps(context, session, words);
}

function step(context: Context, text: string): void {
  print(context, `==> ${text}`);
}

/** Steps with the time since the first one. */
function stamped(context: Context): (line: string) => void {
  const began = performance.now();
  return (line) => {
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    print(context, `    ${seconds.padStart(5)} s  ${line}`);
  };
}

function accelerator({ status }: VirtualMachine): string {
  return status?.accelerator === 'KVM' ? 'with KVM' : `${status?.accelerator} (${status?.acceleratorReason})`;
}

async function localhost({ store }: Session): Promise<Host> {
  const host = await store.get('Host', { name: 'localhost' });
  if (host === undefined) throw new NotFoundError('hosts.qemu-operator.dev "localhost" not found');
  return host;
}

/** A machine that a person called so is not ours to change. @throws CliError */
function requireSample(vm: VirtualMachine | undefined, words: string): void {
  if (vm === undefined || isSample(vm)) return;
  const own = `VirtualMachine ${NAME} is not the sample: it has no label ${LABELS.sample}`;
  throw new CliError(EXIT.conflict, `${own}, and is left alone. To delete it: ${words} delete qvm ${NAME}`);
}

/** Path of what the disk is made from. A machine keeps what it was first made from. */
async function provideImage(context: Context, host: Host, vm: VirtualMachine | undefined): Promise<string> {
  const former = vm?.spec.disks?.[0]?.image?.path;
  const isMade = vm?.status?.disks?.some(({ state }) => MADE.has(state)) === true;
  if (former !== undefined && isMade) return former;
  step(context, 'Looking for the sample Linux, which is built now if it is not cached');
  const image = await guestImage(context);
  requireAllowed(host, image);
  return former ?? image;
}

async function applySample(context: Context, { store }: Session, image: string): Promise<string> {
  const { manifest, spec } = await sampleMachine(context, image);
  const { outcome } = await store.apply(manifest, { asWritten: spec });
  step(context, `VirtualMachine ${NAME} ${outcome} in the store`);
  return outcome;
}

async function remove(context: Context, session: Session, options: QuickstartOptions): Promise<void> {
  const host = await localhost(session);
  const vm = await session.store.get(VM.kind, VM.ref);
  requireSample(vm, commandWords(context, options));
  if (vm === undefined) print(context, `There is no VirtualMachine ${NAME}.`);
  else await deleteAndWait(context, session, [VM], { timeout: options.timeout });
  const { env } = context;
  print(context, 'What stays:');
  print(context, `    ${session.storeName}: the store, with Host localhost in it`);
  print(context, `    ${host.spec.vmDir}: the folder for machines, with the marker ${MARKER_FILE}`);
  print(
    context,
    `    ${join(env['XDG_CACHE_HOME'] || join(env['HOME'] ?? '~', '.cache'), 'qemu-operator')}: what the disk was made from; it may be deleted at any time`,
  );
}
