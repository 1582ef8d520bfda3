/** plan: what apply would do, field by field: live, with a restart, or refused. Nothing is written. */
import { type Command, Option } from 'commander';
import type { Manifest } from '../api/admission.ts';
import { InvalidObjectError } from '../api/errors.ts';
import type { Foreseen } from '../api/foreseen.ts';
import type { Host } from '../api/host.ts';
import type { AnyObject } from '../api/kinds.ts';
import { DEFAULT_NAMESPACE, isNamespaced, type ObjectRef } from '../api/meta.ts';
import { planObject, planRefusal } from '../reconcile/plan.ts';
import type { Store } from '../store/store.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { judgeManifests, type Written } from './documents.ts';
import { CliError, EXIT, Judge } from './exit-codes.ts';
import { planJson, planLines, summaryOf } from './plan-text.ts';
import { tellUnlessWatched } from './warnings.ts';

interface PlanOptions extends Globals {
  readonly filename?: readonly string[];
  readonly recursive?: boolean;
  readonly output?: 'json';
}

export const declarePlan: Declare = (command, context) => {
  command
    .option('-f, --filename <path...>', 'manifest, folder of manifests, or - for stdin')
    .option('-R, --recursive', 'folders with all that is below them')
    .addOption(new Option('-o, --output <format>', 'for programs').choices(['json']))
    .action(async (_options, self: Command) => plan(context, self.optsWithGlobals<PlanOptions>()));
  examples(command, [
    ['What would change, and whether it needs a restart', 'plan -f web.yaml'],
    ['In a script: 0 nothing to do, 7 changes, 1 refused', 'plan -f machines/ -o json'],
  ]);
};

async function plan(context: Context, options: PlanOptions): Promise<void> {
  const { filename = [], recursive = false, output } = options;
  const judge = new Judge();
  const places = { filenames: filename, recursive, stdin: context.stdin };
  const manifests = await judgeManifests(places, options.namespace, judge);
  const plans = await withSession(context, options, async (session) => {
    if (manifests.some(({ manifest }) => manifest.kind === 'VirtualMachine')) tellUnlessWatched(context, session);
    const found: Foreseen[] = [];
    for (const one of manifests) {
      const foreseen = await judge.judge(() => foresee(session.store, one, manifests));
      if (foreseen !== undefined) found.push(foreseen);
    }
    return found;
  });
  if (output === 'json') context.stdout.write(planJson(plans));
  else for (const line of planLines(plans)) print(context, line);
  judge.throwIfRefused();
  const { refused, ...counts } = summaryOf(plans);
  if (refused > 0) throw new CliError(EXIT.failed, 'the plan cannot be applied as it is');
  if (counts.create + counts.change > 0) throw new ChangesFound();
}

/** How a script learns that there is something to do: the code alone, not a word on stderr. */
class ChangesFound extends CliError {
  constructor() {
    super(EXIT.changes, '');
  }
}

/** By the store's own rehearsal of the write. */
async function foresee(store: Store, { manifest, spec }: Written, all: readonly Written[]): Promise<Foreseen> {
  const { kind } = manifest;
  const ref = refOf(manifest);
  const old = await store.get(kind, ref);
  try {
    const { object } = await store.apply(manifest, { asWritten: spec, dryRun: true });
    return planObject(old, object, await hostOf(store, object, all));
  } catch (error) {
    if (!(error instanceof InvalidObjectError)) throw error;
    return planRefusal(kind, ref, error.issues);
  }
}

function refOf({ kind, metadata: { name, namespace } }: Manifest): ObjectRef {
  return isNamespaced(kind) ? { namespace: namespace ?? DEFAULT_NAMESPACE, name } : { name };
}

/** As the same manifests will have it, else as it is. */
async function hostOf(store: Store, object: AnyObject, all: readonly Written[]): Promise<Host | undefined> {
  const name = object.kind === 'VirtualMachine' ? object.spec.hostName : undefined;
  if (name === undefined) return undefined;
  const written = all.find(({ manifest }) => manifest.kind === 'Host' && manifest.metadata.name === name);
  if (written === undefined) return store.get('Host', { name });
  try {
    const { object: host } = await store.apply(written.manifest as Manifest<'Host'>, {
      asWritten: written.spec,
      dryRun: true,
    });
    return host;
  } catch (error) {
    // Its own entry of the plan says so.
    if (!(error instanceof InvalidObjectError)) throw error;
    return store.get('Host', { name });
  }
}
