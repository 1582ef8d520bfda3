/** Waiting for an object to become what was asked for, with each step told on stderr. */
import { ExpiredError } from '../api/errors.ts';
import type { AnyObject, ObjectOf } from '../api/kinds.ts';
import type { Kind } from '../api/meta.ts';
import type { Store } from '../store/store.ts';
import { type Context, tell, throwIfInterrupted } from './context.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { type Outcome, outcomeOf, progressLine } from './outcome.ts';
import { nameOf, type Target } from './resources.ts';

/** The object as it is, then at every change; undefined once it is gone. Ends without error when the signal aborts. */
export async function* follow<K extends Kind>(
  store: Store,
  { kind, ref }: Target<K>,
  signal: AbortSignal,
): AsyncGenerator<ObjectOf<K> | undefined> {
  while (!signal.aborted) {
    // Listed first, so that nothing is missed in between.
    const { items, resourceVersion } = await store.list(kind, { namespace: ref.namespace });
    yield items.find(({ metadata }) => metadata.name === ref.name);
    try {
      for await (const event of store.watch(kind, { ...ref, resourceVersion, signal })) {
        if (event.type === 'BOOKMARK') continue;
        yield event.type === 'DELETED' ? undefined : event.object;
      }
    } catch (error) {
      if (!(error instanceof ExpiredError)) throw error;
    }
  }
}

export interface Waiting<K extends Kind, T> {
  readonly target: Target<K>;
  /** Something else than undefined ends the wait. */
  readonly judge: (object: ObjectOf<K> | undefined) => T | undefined;
  readonly until: string;
  /** Told of each step; default: stderr. */
  readonly onStep?: ((line: string) => void) | undefined;
  /** What holds it up, where its conditions do not say so. */
  readonly obstacle?: (() => Promise<string | undefined>) | undefined;
}

/**
 * @throws CliError timedOut, or hostUnreachable where that is why; InterruptedError
 */
export async function waitFor<K extends Kind, T>(
  context: Context,
  store: Store,
  { target, judge, until, onStep = (line) => tell(context, line), obstacle }: Waiting<K, T>,
  timeoutMs: number,
): Promise<T> {
  const end = new AbortController();
  const onInterrupt = () => end.abort();
  const deadline = setTimeout(() => end.abort(), timeoutMs);
  context.signal.addEventListener('abort', onInterrupt, { once: true });
  if (context.signal.aborted) end.abort();
  let last: Outcome | undefined;
  let told = '';
  try {
    for await (const object of follow(store, target, end.signal)) {
      if (object !== undefined) {
        last = outcomeOf(object as AnyObject);
        const line = progressLine(target.ref.name, object as AnyObject, last);
        if (line !== told) onStep(line);
        told = line;
      }
      const verdict = judge(object);
      if (verdict !== undefined) return verdict;
    }
  } finally {
    clearTimeout(deadline);
    context.signal.removeEventListener('abort', onInterrupt);
    end.abort();
  }
  if (context.signal.aborted) tell(context, 'interrupted: what was asked for stays asked for');
  throwIfInterrupted(context);
  throw timedOut(target, until, last, await obstacle?.());
}

function timedOut(target: Target, until: string, last: Outcome | undefined, obstacle: string | undefined): CliError {
  const code = last?.reason === 'HostUnreachable' ? EXIT.hostUnreachable : EXIT.timedOut;
  const said = last === undefined ? undefined : `${last.reason}: ${last.message}`;
  const why = obstacle ?? said;
  const words = `timed out waiting until ${nameOf(target)} is ${until}`;
  return new CliError(code, why === undefined ? words : `${words}: ${why}`);
}

export interface SettledOptions {
  readonly timeoutMs: number;
  /** Told of each step; default: stderr. */
  readonly onStep?: (line: string) => void;
  /** Of a change that no generation tells of: whether the controller has answered it. Undefined: its status says. */
  readonly answered?: ((object: AnyObject) => boolean | undefined) | undefined;
}

/** Waits until the object is as its spec wants. @throws CliError failed where only a person or a new spec helps */
export async function waitUntilSettled<K extends Kind>(
  context: Context,
  store: Store,
  target: Target<K>,
  { timeoutMs, onStep, answered }: SettledOptions,
): Promise<ObjectOf<K>> {
  const judge = (object: ObjectOf<K> | undefined): ObjectOf<K> | undefined => {
    if (object === undefined) throw new CliError(EXIT.notFound, `${nameOf(target)} was deleted while waiting`);
    if (object.metadata.deletionTimestamp !== undefined)
      throw new CliError(EXIT.conflict, `${nameOf(target)} is being deleted`);
    const answer = answered?.(object as AnyObject);
    if (answer !== undefined) return answer ? object : undefined;
    const { kind, reason, message } = outcomeOf(object as AnyObject);
    if (kind === 'stalled') throw new CliError(EXIT.failed, `${nameOf(target)}: ${reason}: ${message}`);
    return kind === 'settled' ? object : undefined;
  };
  return waitFor(context, store, { target, judge, until: 'settled', onStep }, timeoutMs);
}
