/** What a person should know beside the answer, on stderr: manifests that do not count, a store that nobody drives. */
import { type Kind, keyOf } from '../api/meta.ts';
import type { ObjectProblem, Store } from '../store/store.ts';
import { type Context, tell } from './context.ts';
import type { Session } from './session.ts';

interface Concern {
  readonly kind: Kind;
  readonly ref?: ObjectProblem['ref'] | undefined;
}

/** Problems of the objects that were asked for; those of whole files always, since nobody knows whom they mean. */
export function tellProblems(context: Context, store: Store, concerns: readonly Concern[]): void {
  for (const { source, message } of store.sourceProblems()) tell(context, `Warning: ${source}: ${message}`);
  for (const problem of store.problems()) {
    if (concerns.some((concern) => concernedBy(problem, concern)))
      tell(context, `Warning: ${problem.reason}: ${problem.message}`);
  }
}

function concernedBy(problem: ObjectProblem, { kind, ref }: Concern): boolean {
  return problem.kind === kind && (ref === undefined || keyOf(problem.ref) === keyOf(ref));
}

/** What a status shows is old where nobody looks. */
export function tellUnlessWatched(context: Context, session: Session): void {
  if (session.loop.whoRuns() !== 'nobody') return;
  tell(
    context,
    `Warning: no controller runs on this store: this is what was last seen (see: ${context.invokedAs} run)`,
  );
}
