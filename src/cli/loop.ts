/** Who drives the store while a command waits: a controller that runs elsewhere, or this process for that long. */
import { type Context, tell } from './context.ts';
import type { Session } from './session.ts';

/** A look at a host takes a fraction of a second; the first one also asks QEMU what it can do. */
const FIRST_LOOK_MS = 10_000;

/**
 * Does the work while somebody drives the store. Where this process does, it says so and begins the work after its
 * first look at the hosts, so that what status says is what is there now. Where another one does and ends, this one
 * takes over: a command like this ends as soon as its own work is done.
 * @param until completes "running it here until ..."
 */
export async function whileDriven<T>(
  context: Context,
  session: Session,
  until: string,
  work: () => Promise<T>,
): Promise<T> {
  const words = `running it here until ${until}; afterwards nobody watches (see: ${context.invokedAs} run)`;
  const standBy = new AbortController();
  const looked = firstLook(session, context.signal);
  if (session.loop.running) return work();
  if (session.loop.start() === 'here') {
    tell(context, `no controller runs on this store: ${words}`);
    await looked;
  } else {
    const service = session.loop.whoRuns() === 'service';
    const other = service ? 'the controller of this store' : 'the command that ran the loop on this store';
    const takeOver = () => tell(context, `${other} has ended: ${words}`);
    if (!service) tell(context, `another command runs the loop on this store: waiting until ${until}`);
    // Aborting it is how it ends.
    session.loop.standBy(standBy.signal, takeOver).catch(() => undefined);
  }
  try {
    return await work();
  } finally {
    standBy.abort();
  }
}

function firstLook({ loop }: Session, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const deadline = setTimeout(resolve, FIRST_LOOK_MS);
    deadline.unref();
    const done = () => {
      clearTimeout(deadline);
      resolve();
    };
    loop.onEvent(({ type }) => {
      if (type === 'pass') done();
    });
    signal.addEventListener('abort', done, { once: true });
  });
}

/** For commands that do not wait: says so where nobody will act on what was written. */
export function tellUnlessDriven(context: Context, session: Session): void {
  const who = session.loop.whoRuns();
  if (who === 'service' || who === 'here') return;
  tell(context, `no controller runs on this store: nothing happens until one does (see: ${context.invokedAs} run)`);
}
