/** delete: objects, by name, by manifest or by label; it waits until they are gone from their hosts. */
import type { Command } from 'commander';
import { NotFoundError, someOf } from '../api/errors.ts';
import type { AnyObject } from '../api/kinds.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { type Context, type Declare, examples, type Globals, print, tell, withSession } from './context.ts';
import { readManifests } from './documents.ts';
import { usageError } from './exit-codes.ts';
import { tellUnlessDriven, whileDriven } from './loop.ts';
import { type Asked, parseTargets, refIn, requireObject, resourceOf, type Target } from './resources.ts';
import { matches, parseSelector } from './selector.ts';
import type { Session } from './session.ts';
import { waitFor } from './wait.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';
import { tellProblems } from './warnings.ts';

interface DeleteOptions extends Globals, WaitOptions {
  readonly filename?: readonly string[];
  readonly recursive?: boolean;
  readonly all?: boolean;
  readonly selector?: string;
  readonly ignoreNotFound?: boolean;
}

export const declareDelete: Declare = (command, context) => {
  command
    .argument('[target...]', 'TYPE NAME... or TYPE/NAME...')
    .option('-f, --filename <path...>', 'what these manifests name')
    .option('-R, --recursive', 'folders with all that is below them')
    .option('--all', 'all objects of the type in the namespace')
    .option('-l, --selector <query>', 'those with these labels, such as app=web,tier!=db')
    .option('--ignore-not-found', 'what does not exist is no error');
  addWaitOptions(command, 'wait until they are gone (default: true)');
  command.action(async (words: string[], _options, self: Command) => {
    const options = self.optsWithGlobals<DeleteOptions>();
    await withSession(context, options, async (session) => {
      const targets = await targetsOf(context, session, words, options);
      tellProblems(context, session.store, []);
      await deleteAndWait(context, session, targets, options);
    });
  });
  examples(command, [
    ['Delete web-1: its process, its folder and the disks made for it', 'delete qvm web-1'],
    ['What a manifest names', 'delete -f web.yaml'],
    ['All with a label, without waiting', 'delete qvm -l app=web --wait=false'],
  ]);
};

async function targetsOf(
  context: Context,
  session: Session,
  words: readonly string[],
  options: DeleteOptions,
): Promise<Target[]> {
  const { filename = [], recursive = false, namespace } = options;
  if (filename.length > 0) {
    if (words.length > 0) throw usageError('name objects or files, not both');
    const manifests = await readManifests({ filenames: filename, recursive, stdin: context.stdin }, namespace);
    return manifests.map(({ manifest: { kind, metadata } }) => ({
      kind,
      ref: refIn(kind, metadata.name, metadata.namespace),
    }));
  }
  const asked = parseTargets(words, namespace);
  return asked.targets.length > 0 ? [...asked.targets] : selected(session, asked, options);
}

async function selected({ store }: Session, { kinds }: Asked, options: DeleteOptions): Promise<Target[]> {
  if (options.all !== true && options.selector === undefined)
    throw usageError('resource(s) were provided, but no name was specified: name them, or use -l or --all');
  const selector = parseSelector(options.selector);
  const found: Target[] = [];
  for (const kind of kinds) {
    const { items } = await store.list(kind, { namespace: refIn(kind, '', options.namespace).namespace });
    for (const { metadata } of items) if (matches(selector, metadata.labels)) found.push({ kind, ref: metadata });
  }
  return found;
}

/** Deletes all of them first, then waits for each in turn. */
export async function deleteAndWait(
  context: Context,
  session: Session,
  targets: readonly Target[],
  options: WaitOptions & { readonly ignoreNotFound?: boolean },
): Promise<void> {
  const deleted: AnyObject[] = [];
  for (const target of targets) {
    const object = await deleteOne(session, target, options.ignoreNotFound === true);
    if (object !== undefined) deleted.push(object);
  }
  const held = deleted.filter(({ metadata }) => (metadata.finalizers ?? []).length > 0);
  for (const object of deleted) if (!held.includes(object)) sayDeleted(context, object);
  if (held.length === 0) return;
  if (options.wait === false) {
    for (const { kind, metadata } of held) print(context, `${resourceOf(kind)} "${metadata.name}" is being deleted`);
    return tellUnlessDriven(context, session);
  }
  const names = held.map(({ metadata }) => metadata.name).join(', ');
  for (const object of held) {
    const obstacle = await obstacleTo(session, object);
    if (obstacle !== undefined) tell(context, `${object.metadata.name}: ${obstacle}`);
  }
  await whileDriven(context, session, `${names} ${held.length > 1 ? 'are' : 'is'} gone`, async () => {
    const deadline = performance.now() + options.timeout;
    for (const object of held) await awaitGone(context, session, object, Math.max(0, deadline - performance.now()));
  });
}

async function deleteOne({ store }: Session, target: Target, missingIsFine: boolean): Promise<AnyObject | undefined> {
  try {
    await requireObject(store, target);
    return await store.delete(target.kind, target.ref);
  } catch (error) {
    if (missingIsFine && error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** Another object of the same name is no reason to wait: it was made since. */
async function awaitGone(context: Context, session: Session, object: AnyObject, timeoutMs: number): Promise<void> {
  const { kind, metadata } = object;
  let last = object;
  const judge = (now: AnyObject | undefined): true | undefined => {
    if (now === undefined || now.metadata.uid !== metadata.uid) return true;
    last = now;
    return undefined;
  };
  const obstacle = () => obstacleTo(session, object);
  const waiting = { target: { kind, ref: metadata }, judge, until: 'gone', obstacle };
  await waitFor(context, session.store, waiting, timeoutMs);
  sayDeleted(context, last);
}

const MOST_NAMED = 10;

/** A Host goes after the VMs that name it; its own conditions speak of the host. */
async function obstacleTo({ store }: Session, { kind, metadata }: AnyObject): Promise<string | undefined> {
  if (kind !== 'Host') return undefined;
  const { items } = await store.list('VirtualMachine');
  const names = items
    // One that is being deleted as well holds it up no longer than that takes.
    .filter(({ spec, metadata: own }) => spec.hostName === metadata.name && own.deletionTimestamp === undefined)
    .map(({ metadata: { namespace, name } }) => `${namespace}/${name}`);
  if (names.length === 0) return undefined;
  return `virtual machines name it, and have to be deleted first: ${someOf(names, MOST_NAMED)}`;
}

function sayDeleted(context: Context, object: AnyObject): void {
  print(context, `${resourceOf(object.kind)} "${object.metadata.name}" deleted`);
  if (object.kind === 'VirtualMachine') for (const path of keptFiles(object)) tell(context, `kept: ${path}`);
}

function keptFiles({ status }: VirtualMachine): string[] {
  const disks = (status?.disks ?? []).filter(({ reclaim }) => reclaim === 'Retain').map(({ path }) => path);
  return [...new Set([...disks, ...(status?.leftBehind ?? [])])];
}
