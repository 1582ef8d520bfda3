/** top: what running machines use now. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { ForbiddenError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import {
  type Context,
  type Declare,
  examples,
  type Globals,
  print,
  tell,
  throwIfInterrupted,
  withSession,
} from './context.ts';
import { usageError } from './exit-codes.ts';
import { LiveFigures } from './live-figures.ts';
import { parseVmNames, refIn, requireObject } from './resources.ts';
import { openScreen } from './screen.ts';
import type { Session } from './session.ts';
import { Table } from './table.ts';
import {
  type Figures,
  HOST_HEADER,
  hostRows,
  SORT_KEYS,
  type SortKey,
  sorted,
  topHeader,
  topRow,
} from './top-table.ts';
import { tellUnlessWatched } from './warnings.ts';

interface TopOptions extends Globals {
  readonly sortBy: SortKey;
  readonly watch?: boolean;
  readonly allNamespaces?: boolean;
}

const REFRESH_SECONDS = 2;
/** A first sample takes two looks and a write. */
const FIRST_SAMPLE_MS = 8_000;
const POLL_MS = 100;

export const declareTop: Declare = (command, context) => {
  command
    .argument('[name...]', 'virtual machines, NAME or qvm/NAME (default: all that run)')
    .addOption(new Option('--sort-by <figure>', 'what comes first').choices(SORT_KEYS).default('cpu'))
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-w, --watch', 'refresh every 2 s: in place on a terminal, until q; else as further lines')
    .action(async (names: string[], _options, self: Command) => {
      const options = self.optsWithGlobals<TopOptions>();
      if (names.length > 0 && options.allNamespaces === true)
        throw usageError('a machine cannot be named across all namespaces');
      await withSession(context, options, (session) => top(context, session, names, options));
    });
  examples(command, [
    ['What the running machines use, the busiest first', 'top'],
    ['Follow two of them', 'top db-1 db-2 -w'],
    ['By memory, over all namespaces', 'top -A --sort-by memory'],
  ]);
};

async function top(context: Context, session: Session, names: readonly string[], options: TopOptions): Promise<void> {
  const sampled = session.loop.whoRuns() !== 'nobody';
  tellUnlessWatched(context, session);
  const live = new LiveFigures(session.store, options.watch === true ? REFRESH_SECONDS : 1);
  const look = async () => {
    const machines = await runningOf(session, names, options);
    if (sampled) live.follow(machines);
    return machines;
  };
  const shown = (machines: readonly VirtualMachine[]) =>
    sorted(
      machines.map((vm) => ({ vm, sample: live.of(vm) })),
      options.sortBy,
    );
  try {
    if (options.watch === true) await watch(context, session, { look, shown, options });
    else await once(context, session, { look, shown, options, live });
  } finally {
    await live.close();
  }
}

interface Work {
  readonly look: () => Promise<VirtualMachine[]>;
  readonly shown: (machines: readonly VirtualMachine[]) => Figures[];
  readonly options: TopOptions;
}

async function runningOf({ store }: Session, names: readonly string[], options: TopOptions): Promise<VirtualMachine[]> {
  const { namespace: asked, allNamespaces } = options;
  const running = ({ status }: VirtualMachine) => status?.pid !== undefined;
  if (names.length === 0) {
    const namespace = allNamespaces === true ? undefined : refIn('VirtualMachine', '', asked).namespace;
    return (await store.list('VirtualMachine', { namespace })).items.filter(running);
  }
  const found: VirtualMachine[] = [];
  for (const target of parseVmNames(names, asked)) found.push(await requireObject(store, target));
  return found.filter(running);
}

async function once(context: Context, session: Session, work: Work & { readonly live: LiveFigures }): Promise<void> {
  const { look, shown, options, live } = work;
  const machines = await look();
  if (machines.length === 0) return tell(context, nothingRuns(options));
  const deadline = performance.now() + FIRST_SAMPLE_MS;
  while (!live.areKnown(machines) && performance.now() < deadline) {
    await sleep(POLL_MS, undefined, { signal: context.signal }).catch(() => undefined);
    throwIfInterrupted(context);
  }
  const hosts = await hostLines(session, shown(machines));
  for (const line of vmLines(shown(machines), options)) print(context, line);
  for (const line of hosts.length === 0 ? [] : ['', ...hosts]) print(context, line);
}

function nothingRuns({ allNamespaces, namespace }: TopOptions): string {
  const here = allNamespaces === true ? '' : ` in ${refIn('VirtualMachine', '', namespace).namespace} namespace`;
  return `No virtual machine runs${here}.`;
}

function vmLines(figures: readonly Figures[], { allNamespaces = false }: TopOptions): string[] {
  const rows = figures.map((one) => topRow(one, Date.now(), allNamespaces));
  return new Table().lines([topHeader(allNamespaces), ...rows]);
}

/** None where Hosts are not for this person to see. */
async function openHosts(store: Store): Promise<readonly Host[]> {
  try {
    return (await store.list('Host')).items;
  } catch (error) {
    if (error instanceof ForbiddenError) return [];
    throw error;
  }
}

async function hostLines({ store }: Session, figures: readonly Figures[]): Promise<string[]> {
  const items = await openHosts(store);
  if (items.length === 0) return [];
  return new Table().lines([HOST_HEADER, ...hostRows(items, figures)]);
}

async function watch(context: Context, session: Session, work: Work): Promise<void> {
  if (context.stdout.isTTY === true) await watchOnScreen(context, session, work);
  else await watchAsLines(context, work);
}

async function watchOnScreen(context: Context, session: Session, { look, shown, options }: Work): Promise<void> {
  const screen = openScreen(context);
  const over = AbortSignal.any([screen.ended, context.signal]);
  try {
    while (!over.aborted) {
      const figures = shown(await look());
      const clock = new Date().toTimeString().slice(0, 8);
      screen.draw([
        `${clock}  ${figures.length} running, by ${options.sortBy}; q ends`,
        '',
        ...(figures.length === 0
          ? [nothingRuns(options)]
          : [...(await hostLines(session, figures)), '', ...vmLines(figures, options)]),
      ]);
      await pause(over);
    }
  } finally {
    screen.close();
  }
  throwIfInterrupted(context);
}

/** One header, then each machine again and again. */
async function watchAsLines(context: Context, { look, shown, options }: Work): Promise<void> {
  const { allNamespaces = false } = options;
  const table = new Table();
  for (const line of table.lines([topHeader(allNamespaces)])) print(context, line);
  while (!context.signal.aborted) {
    const figures = shown(await look());
    const rows = figures
      .filter(({ sample }) => sample !== undefined)
      .map((one) => topRow(one, Date.now(), allNamespaces));
    for (const line of table.lines(rows)) print(context, line);
    await pause(context.signal);
  }
  throwIfInterrupted(context);
}

function pause(signal: AbortSignal): Promise<void> {
  return sleep(REFRESH_SECONDS * 1000, undefined, { signal }).catch(() => undefined);
}
