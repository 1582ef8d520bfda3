/** annotate: sets and removes annotations. */
import type { Command } from 'commander';
import { isTrue } from '../api/conditions.ts';
import type { AnyObject } from '../api/kinds.ts';
import { ANNOTATIONS, GROUP } from '../api/meta.ts';
import { isPaused } from '../reconcile/decide.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { nameOf, parseTargets, requireObject, type Target } from './resources.ts';
import type { Session } from './session.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

interface AnnotateOptions extends Globals, WaitOptions {
  readonly overwrite?: boolean;
}

/** null removes. */
type Changes = Readonly<Record<string, string | null>>;

export const declareAnnotate: Declare = (command, context) => {
  command
    .argument('<word...>', 'TYPE NAME... or TYPE/NAME..., then KEY=VALUE to set and KEY- to remove')
    .option('--overwrite', 'replace a value that is there');
  addWaitOptions(command, 'wait until the object is settled (default: false)');
  command.action(async (words: string[], _options, self: Command) =>
    annotate(context, words, self.optsWithGlobals<AnnotateOptions>()),
  );
  examples(command, [
    ['Refuse to delete db-1', `annotate qvm db-1 ${GROUP}/protected=true`],
    ['Allow it again', `annotate qvm db-1 ${GROUP}/protected-`],
    ['Touch nothing of web-1 for now', `annotate qvm web-1 ${GROUP}/paused=true`],
  ]);
};

async function annotate(context: Context, words: readonly string[], options: AnnotateOptions): Promise<void> {
  const { names, changes } = split(words);
  const { targets } = parseTargets(names, options.namespace);
  if (targets.length === 0) throw usageError('one or more names are needed: annotate TYPE NAME... KEY=VALUE');
  await withSession(context, options, async (session) => {
    for (const target of targets) {
      const object = await requireObject(session.store, target);
      if (options.overwrite !== true) refuseOverwrite(object, changes);
    }
    for (const target of targets) await annotateOne(context, session, target, changes);
    // Others' annotations mean nothing to the controller.
    if (Object.keys(changes).some((key) => key.startsWith(`${GROUP}/`)))
      await afterChange(context, session, targets, {
        ...options,
        wait: options.wait ?? false,
        answered: (object) => isAnswered(object, changes),
      });
  });
}

/** A pause is over once nothing is paused any more; who asks for one waits for nothing else. */
function isAnswered({ kind, metadata, status }: AnyObject, changes: Changes): boolean | undefined {
  if (kind !== 'VirtualMachine') return undefined;
  const paused = isTrue(status?.conditions, 'ReconcilePaused');
  if (isPaused(metadata)) return paused;
  if (paused && changes[ANNOTATIONS.paused] !== undefined) return false;
  const adopting = changes[ANNOTATIONS.adopt] !== undefined && metadata.annotations?.[ANNOTATIONS.adopt] !== undefined;
  return adopting && !isTrue(status?.conditions, 'Stalled') ? false : undefined;
}

async function annotateOne(context: Context, { store }: Session, target: Target, changes: Changes): Promise<void> {
  const { uid } = (await requireObject(store, target)).metadata;
  await store.patch(target.kind, target.ref, { metadata: { annotations: changes } }, { uid });
  print(context, `${nameOf(target)} annotated`);
}

/** Names come first, as kubectl has it. */
export function split(words: readonly string[]): { names: readonly string[]; changes: Changes } {
  const isChange = (word: string) => word.includes('=') || (word.endsWith('-') && word.length > 1);
  const first = words.findIndex(isChange);
  if (first < 0) throw usageError('at least one annotation update is required: KEY=VALUE or KEY-');
  const changes = words.slice(first).map((word): [string, string | null] => {
    const at = word.indexOf('=');
    if (at > 0) return [word.slice(0, at), word.slice(at + 1)];
    if (at < 0 && word.endsWith('-')) return [word.slice(0, -1), null];
    throw usageError(`"${word}" is neither KEY=VALUE nor KEY-`);
  });
  const twice = changes.find(([key], i) => changes.findIndex(([other]) => other === key) !== i);
  if (twice !== undefined) throw usageError(`"${twice[0]}" is changed twice`);
  return { names: words.slice(0, first), changes: Object.fromEntries(changes) };
}

function refuseOverwrite({ metadata }: AnyObject, changes: Changes): void {
  for (const [key, value] of Object.entries(changes)) {
    const old = metadata.annotations?.[key];
    if (value === null || old === undefined || old === value) continue;
    throw new CliError(
      EXIT.failed,
      `--overwrite is false but found the following declared annotation(s): '${key}' already has a value (${old})`,
    );
  }
}
