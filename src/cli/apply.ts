/** apply: objects are declared as their manifests say. */
import type { Command } from 'commander';
import type { AnyObject } from '../api/kinds.ts';
import type { Store } from '../store/store.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { judgeManifests, type Written } from './documents.ts';
import { Judge } from './exit-codes.ts';
import { nameOf, type Target } from './resources.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

interface ApplyOptions extends Globals, WaitOptions {
  readonly filename?: readonly string[];
  readonly recursive?: boolean;
  readonly dryRun?: boolean;
}

export const declareApply: Declare = (command, context) => {
  command
    .option('-f, --filename <path...>', 'manifest, folder of manifests, or - for stdin')
    .option('-R, --recursive', 'folders with all that is below them')
    .option('--dry-run', 'check everything and say what would be done, but write nothing');
  addWaitOptions(command, 'wait until all is as declared (default: only where no controller runs)');
  command.action(async (_options, self: Command) => apply(context, self.optsWithGlobals<ApplyOptions>()));
  examples(command, [
    ['Declare what a file says', 'apply -f web.yaml'],
    [
      'Several documents from another program, and wait until the machines run',
      'generate | qemu-operator apply -f - --wait',
    ],
    ['Only look what it would do', 'apply -f machines/ --dry-run'],
  ]);
};

async function apply(context: Context, options: ApplyOptions): Promise<void> {
  const { filename = [], recursive = false } = options;
  const judge = new Judge();
  const places = { filenames: filename, recursive, stdin: context.stdin };
  const manifests = await judgeManifests(places, options.namespace, judge);
  await withSession(context, options, async (session) => {
    const dryRun = options.dryRun === true;
    // All of them are judged before the first is written: one bad part changes nothing.
    for (const one of manifests) await judge.judge(() => applyOne(session.store, one, true));
    judge.throwIfRefused();
    const targets: Target[] = [];
    for (const one of manifests) {
      const { object, outcome } = await applyOne(session.store, one, dryRun);
      const target = { kind: object.kind, ref: object.metadata };
      targets.push(target);
      print(context, `${nameOf(target)} ${outcome}${dryRun ? ' (dry run)' : ''}`);
    }
    if (!dryRun) await afterChange(context, session, targets, options);
  });
}

async function applyOne(
  store: Store,
  { manifest, spec }: Written,
  dryRun: boolean,
): Promise<{ object: AnyObject; outcome: string }> {
  return store.apply(manifest, { asWritten: spec, dryRun });
}
