/** What follows a change of objects: warnings, and the wait. kubectl does not wait, since a controller always runs there. */
import type { Context } from './context.ts';
import { tellUnlessDriven, whileDriven } from './loop.ts';
import { settledWords, type Target } from './resources.ts';
import type { Session } from './session.ts';
import { type SettledOptions, waitUntilSettled } from './wait.ts';
import type { WaitOptions } from './wait-options.ts';
import { tellProblems } from './warnings.ts';

/** Waits where it was asked for, and where no service keeps the loop: the change would otherwise lie there. */
export async function afterChange(
  context: Context,
  session: Session,
  targets: readonly Target[],
  { wait, timeout, answered }: WaitOptions & Pick<SettledOptions, 'answered'>,
): Promise<void> {
  const { store, loop } = session;
  tellProblems(context, store, targets);
  // A monitor is a request that the controller answers, and settles in no state.
  const lasting = targets.filter(({ kind }) => kind !== 'VirtualMachineMonitor');
  if (lasting.length === 0) return;
  if (wait === false) return tellUnlessDriven(context, session);
  if (wait === undefined && loop.whoRuns() === 'service') return;
  await whileDriven(context, session, settledWords(lasting), async () => {
    const deadline = performance.now() + timeout;
    for (const target of lasting)
      await waitUntilSettled(context, store, target, {
        timeoutMs: Math.max(0, deadline - performance.now()),
        answered,
      });
  });
}
