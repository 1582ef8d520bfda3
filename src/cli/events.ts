/** events: what happened to virtual machines, from the histories in their status, oldest first. */
import type { Command } from 'commander';
import { oneLine } from '../api/errors.ts';
import type { AnyObject } from '../api/kinds.ts';
import type { Kind } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { nextStepFor } from '../messages/next-steps.ts';
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
import { ageOf } from './duration.ts';
import { usageError } from './exit-codes.ts';
import { type Asked, parseVmNames, refIn, requireObject } from './resources.ts';
import type { Session } from './session.ts';
import { Table } from './table.ts';
import { tellUnlessWatched } from './warnings.ts';
import { positions, watchAll } from './watch.ts';

interface EventsOptions extends Globals {
  readonly allNamespaces?: boolean;
  readonly watch?: boolean;
}

export const declareEvents: Declare = (command, context) => {
  command
    .argument('[name...]', 'virtual machines, NAME or qvm/NAME (default: all of the namespace)')
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-w, --watch', 'then print each new line')
    .action(async (names: string[], _options, self: Command) => {
      const options = self.optsWithGlobals<EventsOptions>();
      if (names.length > 0 && options.allNamespaces === true)
        throw usageError('a machine cannot be named across all namespaces');
      const asked = { kinds: ['VirtualMachine' as const], targets: parseVmNames(names, options.namespace) };
      await withSession(context, options, (session) => events(context, session, asked, options));
    });
  examples(command, [
    ['What happened in the namespace, the newest last', 'events'],
    ['What happens to web-1, as it happens', 'events web-1 -w'],
  ]);
};

interface Line {
  readonly at: string;
  readonly reason: string;
  readonly message: string;
  readonly vm: VirtualMachine;
}

async function events(context: Context, session: Session, asked: Asked, options: EventsOptions): Promise<void> {
  const { store } = session;
  const namespace =
    options.allNamespaces === true ? undefined : refIn('VirtualMachine', '', options.namespace).namespace;
  const since = options.watch === true ? await positions(store, asked, namespace) : new Map<Kind, string>();
  const machines: AnyObject[] = [];
  for (const target of asked.targets) machines.push(await requireObject(store, target));
  if (asked.targets.length === 0) machines.push(...(await store.list('VirtualMachine', { namespace })).items);
  tellUnlessWatched(context, session);
  const printer = new Printer(context, options.allNamespaces === true);
  const found = machines.flatMap((object) => printer.fresh(object));
  if (found.length === 0 && options.watch !== true)
    tell(context, namespace === undefined ? 'No events found.' : `No events found in ${namespace} namespace.`);
  printer.print(found.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at)));
  if (options.watch !== true) return;
  for await (const { object } of watchAll(store, asked, { namespace, since }, context.signal))
    printer.print(printer.fresh(object));
  throwIfInterrupted(context);
}

/** Prints each line once: a status is written many times with the same history. */
class Printer {
  readonly #context: Context;
  readonly #withNamespace: boolean;
  readonly #table = new Table();
  /** By uid: the lines of the history that was printed last. */
  readonly #known = new Map<string, ReadonlySet<string>>();
  #begun = false;

  constructor(context: Context, withNamespace: boolean) {
    this.#context = context;
    this.#withNamespace = withNamespace;
  }

  fresh(object: AnyObject): Line[] {
    if (object.kind !== 'VirtualMachine') return [];
    const { uid } = object.metadata;
    const history = object.status?.history ?? [];
    const known = this.#known.get(uid);
    const keyOf = ({ at, reason, message }: (typeof history)[number]) => `${at} ${reason} ${message}`;
    this.#known.set(uid, new Set(history.map(keyOf)));
    return history.filter((line) => known?.has(keyOf(line)) !== true).map((line) => ({ ...line, vm: object }));
  }

  print(lines: readonly Line[]): void {
    if (lines.length === 0) return;
    const now = Date.now();
    const header = ['LAST SEEN', 'TYPE', 'REASON', 'OBJECT', 'MESSAGE'];
    const rows = lines.map(({ at, reason, message, vm }) => [
      ...(this.#withNamespace ? [vm.metadata.namespace] : []),
      ageOf(at, now),
      nextStepFor(reason) === undefined ? 'Normal' : 'Warning',
      reason,
      `virtualmachine/${vm.metadata.name}`,
      oneLine(message, 1000),
    ]);
    const heads = this.#begun ? [] : [this.#withNamespace ? ['NAMESPACE', ...header] : header];
    this.#begun = true;
    for (const line of this.#table.lines([...heads, ...rows])) print(this.#context, line);
  }
}
