/** get: what the store knows, at once; no host is asked. */
import { type Command, Option } from 'commander';
import { type AnyObject, KIND_INFO } from '../api/kinds.ts';
import type { Kind } from '../api/meta.ts';
import { headerOf, rowOf, type TableOptions } from './columns.ts';
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
import { jsonText, listOf, yamlText } from './output.ts';
import { type Asked, parseTargets, refIn, requireObject, resourceOf } from './resources.ts';
import { matches, parseSelector } from './selector.ts';
import type { Session } from './session.ts';
import { Table } from './table.ts';
import { takeOverHint } from './take-over.ts';
import { tellProblems, tellUnlessWatched } from './warnings.ts';
import { positions, watchAll } from './watch.ts';

const FORMATS = ['wide', 'yaml', 'json', 'name'] as const;

export interface GetOptions extends Globals {
  readonly output?: (typeof FORMATS)[number];
  readonly allNamespaces?: boolean;
  readonly selector?: string;
  readonly watch?: boolean;
  readonly watchOnly?: boolean;
  readonly showLabels?: boolean;
  /** commander's name for --no-headers. */
  readonly headers?: boolean;
  readonly ignoreNotFound?: boolean;
}

export const declareGet: Declare = (command, context) => {
  command
    .argument('<target...>', 'TYPE [NAME...], TYPE/NAME... or TYPE,TYPE; types: qvm, qhost, qmon')
    .addOption(new Option('-o, --output <format>', 'how to show them (default: a table)').choices(FORMATS))
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <query>', 'those with these labels, such as app=web,tier!=db')
    .option('-w, --watch', 'then print each change')
    .option('--watch-only', 'print changes only')
    .option('--show-labels', 'a column with all labels')
    .option('--no-headers', 'rows alone')
    .option('--ignore-not-found', 'what does not exist is no error')
    .action(async (words: string[], _options, self: Command) => {
      const options = self.optsWithGlobals<GetOptions>();
      const asked = parseTargets(words, options.namespace);
      if (asked.targets.length > 0 && options.allNamespaces === true)
        throw usageError('a resource cannot be retrieved by name across all namespaces');
      await withSession(context, options, (session) => get(context, session, asked, options));
    });
  examples(command, [
    ['All virtual machines of the namespace', 'get qvm'],
    ['One of them, with all that is known', 'get qvm web-1 -o yaml'],
    ['Follow them over all namespaces', 'get qvm -A -w'],
    ['Machines and hosts, by label', 'get qvm,qhost -l tier=web -o wide'],
  ]);
};

/** All objects of a kind. */
export async function getAll(context: Context, kind: Kind, options: GetOptions): Promise<void> {
  await withSession(context, options, (session) => get(context, session, { kinds: [kind], targets: [] }, options));
}

async function get(context: Context, session: Session, asked: Asked, options: GetOptions): Promise<void> {
  const { output } = options;
  tellProblems(
    context,
    session.store,
    asked.targets.length > 0 ? asked.targets : asked.kinds.map((kind) => ({ kind })),
  );
  const watching = options.watch === true || options.watchOnly === true;
  const since = watching ? await positions(session.store, asked, scopeOf(options)) : new Map<Kind, string>();
  const objects = await find(session, asked, options);
  const people = output === undefined || output === 'wide';
  if (people && objects.some(({ kind }) => kind === 'VirtualMachine')) tellUnlessWatched(context, session);
  const printer = new Printer(context, asked, options);
  if (options.watchOnly !== true) {
    if (objects.length === 0 && people && !watching) tell(context, nothingFound(asked.kinds, options));
    printer.all(objects);
    if (people) tellWhatIsNobodys(context, objects);
  }
  if (!watching) return;
  const selector = parseSelector(options.selector);
  const known = new Map(objects.map(({ metadata }) => [metadata.uid, Number(metadata.resourceVersion)]));
  const scope = { namespace: scopeOf(options), since };
  for await (const { type, object } of watchAll(session.store, asked, scope, context.signal)) {
    // What was just printed, or is older.
    if (Number(object.metadata.resourceVersion) <= (known.get(object.metadata.uid) ?? 0)) continue;
    if (type === 'DELETED' || matches(selector, object.metadata.labels)) printer.one(object);
  }
  throwIfInterrupted(context);
}

/** Of the hosts that were printed. */
function tellWhatIsNobodys(context: Context, objects: readonly AnyObject[]): void {
  for (const object of objects) {
    const hint = object.kind === 'Host' ? takeOverHint(object, context.invokedAs) : undefined;
    if (hint !== undefined) tell(context, hint);
  }
}

/** undefined: all namespaces. */
function scopeOf({ allNamespaces, namespace }: GetOptions): string | undefined {
  return allNamespaces === true ? undefined : refIn('VirtualMachine', '', namespace).namespace;
}

async function find({ store }: Session, asked: Asked, options: GetOptions): Promise<AnyObject[]> {
  const found: AnyObject[] = [];
  for (const target of asked.targets) {
    const missing = options.ignoreNotFound === true && (await store.get(target.kind, target.ref)) === undefined;
    if (!missing) found.push(await requireObject(store, target));
  }
  if (asked.targets.length > 0) return found;
  const selector = parseSelector(options.selector);
  for (const kind of asked.kinds) {
    const { items } = await store.list(kind, { namespace: scopeOf(options) });
    const chosen = items.filter(({ metadata }) => matches(selector, metadata.labels)) as AnyObject[];
    found.push(...chosen.toSorted((a, b) => (order(a) < order(b) ? -1 : 1)));
  }
  return found;
}

function order({ metadata }: AnyObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

function nothingFound(kinds: readonly Kind[], options: GetOptions): string {
  const scope = scopeOf(options);
  const everywhere = scope === undefined || kinds.every((kind) => !KIND_INFO[kind].namespaced);
  return everywhere ? 'No resources found' : `No resources found in ${scope} namespace.`;
}

/** Prints objects in the asked form, a table keeping its widths as rows are added. */
class Printer {
  readonly #context: Context;
  readonly #asked: Asked;
  readonly #options: GetOptions;
  readonly #tables = new Map<Kind, Table>();

  constructor(context: Context, asked: Asked, options: GetOptions) {
    this.#context = context;
    this.#asked = asked;
    this.#options = options;
  }

  all(objects: readonly AnyObject[]): void {
    const { output, watch } = this.#options;
    if (output === 'yaml' || output === 'json') {
      const single = this.#asked.targets.length === 1 && objects.length === 1;
      if (single || watch === true) for (const object of objects) this.one(object);
      else this.#context.stdout.write(output === 'yaml' ? yamlText(listOf(objects)) : jsonText(listOf(objects)));
      return;
    }
    if (output === 'name') {
      for (const object of objects) this.one(object);
      return;
    }
    const groups = this.#asked.kinds.map((kind) => objects.filter((object) => object.kind === kind));
    for (const [i, group] of groups.filter(({ length }) => length > 0).entries()) {
      if (i > 0) print(this.#context, '');
      this.#rows(group);
    }
  }

  one(object: AnyObject): void {
    const { output } = this.#options;
    if (output === 'name') print(this.#context, `${resourceOf(object.kind)}/${object.metadata.name}`);
    else if (output === 'json') this.#context.stdout.write(jsonText(object));
    else if (output === 'yaml') this.#context.stdout.write(`${this.#options.watch ? '---\n' : ''}${yamlText(object)}`);
    else this.#rows([object]);
  }

  #rows(objects: readonly AnyObject[]): void {
    const kind = objects[0]?.kind;
    if (kind === undefined) return;
    const options = this.#tableOptions();
    const known = this.#tables.get(kind);
    const table = known ?? new Table();
    this.#tables.set(kind, table);
    const header = known === undefined && this.#options.headers !== false ? [headerOf(kind, options)] : [];
    const rows = objects.map((object) => rowOf(object, options, Date.now()));
    for (const line of table.lines([...header, ...rows])) print(this.#context, line);
  }

  #tableOptions(): TableOptions {
    const { output, allNamespaces, showLabels } = this.#options;
    return {
      wide: output === 'wide',
      withNamespace: allNamespaces === true,
      showLabels: showLabels === true,
      withType: this.#asked.kinds.length > 1,
    };
  }
}
