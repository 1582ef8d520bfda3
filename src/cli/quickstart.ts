/** quickstart: a small Linux machine, from nothing to its prompt; --remove takes it away. */
import { type Command, Option } from 'commander';
import { NotFoundError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, DEFAULT_NAMESPACE } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { commandWords, tellNextSteps } from './advice.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { deleteAndWait } from './delete.ts';
import { readManifests } from './documents.ts';
import { parseDuration } from './duration.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { whileDriven } from './loop.ts';
import { START, type VmTarget, write } from './power.ts';
import {
  diskPath,
  guestImage,
  isVmDirLost,
  placeDisk,
  removeUnclaimedDisk,
  SAMPLE_MANIFEST,
} from './quickstart-guest.ts';
import { showConsole, showFigures } from './quickstart-show.ts';
import type { Session } from './session.ts';
import { waitUntilSettled } from './wait.ts';

const NAME = 'quickstart';
const VM: VmTarget = { kind: 'VirtualMachine', ref: { namespace: DEFAULT_NAMESPACE, name: NAME } };
const DEFAULT_TIMEOUT = '5m';

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
  await provideDisk(context, session, host);
  const outcome = await applySample(context, session);
  const until = `${NAME} has been shown`;
  await whileDriven(context, session, until, async () => {
    if (outcome !== 'created') await write(session, VM, START);
    step(context, 'Waiting until it runs');
    const vm = await waitUntilSettled(context, session.store, VM, options.timeout, stamped(context));
    if (vm.status?.pid === undefined) throw new CliError(EXIT.failed, `${NAME}: ${vm.status?.message ?? 'stopped'}`);
    step(context, `It runs: QEMU ${vm.status.qemuVersion}, pid ${vm.status.pid}, ${accelerator(vm)}. Live figures:`);
    await showFigures(context, session, NAME);
    step(context, 'Its serial console:');
    const place = { shell: session.shellFor(host.metadata.name), folder: vm.status.folder ?? '' };
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

/** Before the machine exists: an existing file is attached as it is. A machine that had its disk gets no other one. */
async function provideDisk(context: Context, { store }: Session, host: Host): Promise<void> {
  const vm = await store.get(VM.kind, VM.ref);
  if (vm?.metadata.annotations?.[ANNOTATIONS.provisioned] !== undefined || isVmDirLost(host)) return;
  step(context, 'Giving the machine its disk: a copy of the sample Linux, which is built now if it is not cached');
  const image = await guestImage(context);
  const path = diskPath(host, NAME);
  step(context, placeDisk(image, path) ? `Copied it to ${path}` : `${path} is there already`);
}

async function applySample(context: Context, { store }: Session): Promise<string> {
  const [sample] = await readManifests(
    { filenames: [SAMPLE_MANIFEST], recursive: false, stdin: context.stdin },
    undefined,
  );
  if (sample === undefined) throw new CliError(EXIT.failed, `${SAMPLE_MANIFEST} holds no manifest`);
  const { outcome } = await store.apply(sample.manifest, { asWritten: sample.spec });
  step(context, `VirtualMachine ${NAME} ${outcome} in the store`);
  return outcome;
}

async function remove(context: Context, session: Session, options: QuickstartOptions): Promise<void> {
  const host = await localhost(session);
  if ((await session.store.get(VM.kind, VM.ref)) !== undefined) {
    await deleteAndWait(context, session, [VM], { timeout: options.timeout });
  } else print(context, `There is no VirtualMachine ${NAME}.`);
  // A quickstart that was ended early may have left the copy alone.
  const path = diskPath(host, NAME);
  if (!isVmDirLost(host) && removeUnclaimedDisk(path)) print(context, `Removed ${path}.`);
  print(
    context,
    'The disk it was copied from stays in the cache, ~/.cache/qemu-operator; it may be deleted at any time.',
  );
}
