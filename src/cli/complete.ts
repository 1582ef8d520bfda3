/**
 * `__complete`: what may stand where the cursor is, from the program itself and from the store. What a command takes
 * is read off its declaration; nothing is made, started or told, and what goes wrong completes to nothing.
 */
import type { Argument, Command, Option } from 'commander';
import type { Host } from '../api/host.ts';
import { KIND_INFO } from '../api/kinds.ts';
import { DEFAULT_NAMESPACE, KINDS, type Kind } from '../api/meta.ts';
import type { Store } from '../store/store.ts';
import type { Context } from './context.ts';
import { kindOf, parseTargets } from './resources.ts';
import { type GlobalOptions, KUBERNETES } from './session.ts';

export interface Candidate {
  readonly value: string;
  readonly description?: string | undefined;
}

type Answer = readonly Candidate[] | 'files' | 'dirs';

/** The words before the cursor, understood. */
interface Typed {
  readonly path: readonly Command[];
  readonly positionals: readonly string[];
  /** Values by long name of the option. */
  readonly values: ReadonlyMap<string, string>;
  /** The option whose value is under the cursor. */
  readonly awaiting: Option | undefined;
}

/** @param declare adds its options and arguments to a command of the root */
export async function complete(
  context: Context,
  words: readonly string[],
  { root, declare }: { readonly root: Command; readonly declare: (command: Command) => Promise<void> },
): Promise<void> {
  const current = words.at(-1) ?? '';
  try {
    const typed = await understand(words.slice(0, -1), root, declare);
    const answer = await answerFor(context, typed, current);
    const lines =
      typeof answer === 'string'
        ? [`:${answer}`]
        : answer
            .filter(({ value }) => value.startsWith(current))
            .map(({ value, description = '' }) => `${value}\t${description}`);
    if (lines.length > 0) context.stdout.write(`${lines.join('\n')}\n`);
  } catch {
    // A person who types is not interrupted by it.
  }
}

async function understand(
  before: readonly string[],
  root: Command,
  declare: (command: Command) => Promise<void>,
): Promise<Typed> {
  const path = [root];
  const positionals: string[] = [];
  const values = new Map<string, string>();
  let awaiting: Option | undefined;
  for (const word of before) {
    if (awaiting !== undefined && !(awaiting.variadic && word.startsWith('-'))) {
      values.set(awaiting.long ?? '', word);
      if (!awaiting.variadic) awaiting = undefined;
      continue;
    }
    awaiting = undefined;
    if (word.startsWith('-')) {
      const [name = '', ...value] = word.split('=');
      const option = optionsOf(path).find(({ long, short }) => long === name || short === name);
      if (option?.required !== true) continue;
      if (value.length > 0) values.set(option.long ?? '', value.join('='));
      else awaiting = option;
      continue;
    }
    const command = positionals.length === 0 ? path.at(-1)?.commands.find((one) => one.name() === word) : undefined;
    if (command === undefined) positionals.push(word);
    else {
      if (path.length === 1) await declare(command);
      path.push(command);
    }
  }
  return { path, positionals, values, awaiting };
}

function optionsOf(path: readonly Command[]): Option[] {
  return path.flatMap(({ options }) => options).filter(({ hidden }) => !hidden);
}

async function answerFor(context: Context, typed: Typed, current: string): Promise<Answer> {
  const { path, awaiting } = typed;
  if (awaiting !== undefined && !(awaiting.variadic && current.startsWith('-'))) {
    return valuesOf(context, typed, awaiting);
  }
  const equals = current.startsWith('--') ? current.indexOf('=') : -1;
  if (equals > 0) {
    const long = current.slice(0, equals);
    const option = optionsOf(path).find((one) => one.long === long);
    const answer = option?.required === true ? await valuesOf(context, typed, option) : [];
    if (typeof answer === 'string') return answer;
    return answer.map(({ value, ...more }) => ({ value: `${long}=${value}`, ...more }));
  }
  if (current.startsWith('-')) {
    const help = { value: '--help', description: 'show this help' };
    const all = optionsOf(path).map(({ long, short, description }) => ({ value: long ?? short ?? '', description }));
    return [...all, help];
  }
  return wordsFor(context, typed, current);
}

/** What an option takes: told by its choices, else by the word in its angle brackets. */
async function valuesOf(context: Context, typed: Typed, option: Option): Promise<Answer> {
  if (option.argChoices !== undefined) return option.argChoices.map((value) => ({ value }));
  if (option.long === '--namespace') return namespaces(context, typed);
  if (option.long === '--host' || option.long === '--jump') return names(context, typed, 'Host');
  if (/<(file|path)(\.\.\.)?>/.test(option.flags)) return 'files';
  return /<dir>/.test(option.flags) ? 'dirs' : [];
}

async function wordsFor(context: Context, typed: Typed, current: string): Promise<Answer> {
  const { path, positionals } = typed;
  const command = path.at(-1);
  // `help` is a word of the program, and no command of its list.
  const afterHelp = path.length === 1 && positionals.length === 1 && positionals[0] === 'help';
  if (command !== undefined && command.commands.length > 0 && (positionals.length === 0 || afterHelp)) {
    const shown = command.createHelp().visibleCommands(command);
    return shown.map((one) => ({ value: one.name(), description: one.description() }));
  }
  const argument = argumentAt(command?.registeredArguments ?? [], positionals.length);
  if (argument?.argChoices !== undefined) return argument.argChoices.map((value) => ({ value }));
  switch (argument?.name()) {
    case 'target':
    case 'word':
      return targets(context, typed, current);
    case 'name': {
      const kind = /virtual machine/.test(argument.description)
        ? 'VirtualMachine'
        : /of the Host/.test(argument.description)
          ? 'Host'
          : undefined;
      const found = kind === undefined ? [] : await names(context, typed, kind);
      return found.filter(({ value }) => !positionals.includes(value));
    }
    case 'folder':
      return ofHosts(context, typed, ({ status }) => (status?.unclaimed ?? []).map(({ name }) => ({ value: name })));
    case 'process':
      return ofHosts(context, typed, ({ status }) =>
        (status?.strangers ?? []).map(({ pid, name }) => ({ value: String(pid), description: name })),
      );
    default:
      return [];
  }
}

/** What was last seen on the host that --host names. */
async function ofHosts(context: Context, typed: Typed, of: (host: Host) => Candidate[]): Promise<Candidate[]> {
  return fromStore(context, typed, async (store) => {
    const host = await store.get('Host', { name: typed.values.get('--host') ?? 'localhost' });
    return host === undefined ? [] : of(host);
  });
}

/** The last one may take all that follow. */
function argumentAt(list: readonly Argument[], index: number): Argument | undefined {
  const last = list.at(-1);
  return list[index] ?? (last?.variadic === true ? last : undefined);
}

/** TYPE NAME... or TYPE/NAME... */
async function targets(context: Context, typed: Typed, current: string): Promise<Answer> {
  const { positionals } = typed;
  const slash = current.indexOf('/');
  if (slash > 0) {
    const type = current.slice(0, slash);
    const found = await names(context, typed, kindOf(type));
    return found.map(({ value, description }) => ({ value: `${type}/${value}`, description }));
  }
  if (positionals.length === 0) {
    return KINDS.flatMap((kind) => {
      const { shortNames, plural, description } = KIND_INFO[kind];
      return [...shortNames, plural].map((value) => ({ value, description }));
    });
  }
  const { kinds } = parseTargets(positionals, undefined);
  const found: Candidate[] = [];
  for (const kind of kinds) found.push(...(await names(context, typed, kind)));
  return found.filter(({ value }) => !positionals.includes(value));
}

async function names(context: Context, typed: Typed, kind: Kind): Promise<Candidate[]> {
  const asked = typed.values.get('--namespace') ?? (await context.defaultNamespace(placeOf(context, typed)));
  const namespace = KIND_INFO[kind].namespaced ? (asked ?? DEFAULT_NAMESPACE) : undefined;
  return fromStore(context, typed, async (store) => {
    const { items } = await store.list(kind, { namespace });
    return items.map((object) => ({
      value: object.metadata.name,
      description: object.kind === 'VirtualMachine' ? object.status?.phase : undefined,
    }));
  });
}

async function namespaces(context: Context, typed: Typed): Promise<Candidate[]> {
  return fromStore(context, typed, async (store) => {
    const { items } = await store.list('VirtualMachine');
    return [...new Set([DEFAULT_NAMESPACE, ...items.map(({ metadata }) => metadata.namespace)])]
      .sort()
      .map((value) => ({ value }));
  });
}

async function fromStore<T>(context: Context, typed: Typed, read: (store: Store) => Promise<T[]>): Promise<T[]> {
  const place = placeOf(context, typed);
  const store = await (place.store === KUBERNETES ? openCluster(context, place) : openFolder(context, place));
  if (store === undefined) return [];
  try {
    return await read(store);
  } finally {
    await store.close();
  }
}

function placeOf({ env }: Context, { values }: Typed): GlobalOptions {
  return {
    store: values.get('--store') ?? env['QEMU_OPERATOR_STORE'],
    kubeconfig: values.get('--kubeconfig'),
    context: values.get('--context'),
  };
}

async function openCluster(context: Context, place: GlobalOptions): Promise<Store> {
  return (await context.openSession(place)).store;
}

/** Only where it is there: completing makes nothing. */
async function openFolder(context: Context, place: GlobalOptions): Promise<Store | undefined> {
  const machine = await context.machine();
  return machine.openStore(machine.storeDir(place));
}
