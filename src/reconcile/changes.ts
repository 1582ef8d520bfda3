/** A watch of the store that never ends by itself. */
import { asyncScheduler, Observable, type SchedulerLike, Subscription, timer } from 'rxjs';
import { ExpiredError } from '../api/errors.ts';
import type { Kind } from '../api/meta.ts';
import type { Store, WatchEvent } from '../store/store.ts';

const WATCH_RETRY_MS = 1_000;

/** A watch that begins again by itself: from where it was, or from a list where the history no longer reaches back. */
export function changes<K extends Kind>(
  store: Store,
  kind: K,
  signal: AbortSignal,
  scheduler: SchedulerLike = asyncScheduler,
): Observable<WatchEvent<K>> {
  return new Observable((subscriber) => {
    let resourceVersion: string | undefined;
    const own = new AbortController();
    const retry = new Subscription();
    const end = () => {
      own.abort();
      retry.unsubscribe();
    };
    signal.addEventListener('abort', end, { once: true });
    const follow = async (): Promise<void> => {
      try {
        for await (const event of store.watch(kind, { resourceVersion, signal: own.signal })) {
          resourceVersion = event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion;
          subscriber.next(event);
        }
      } catch (error) {
        if (error instanceof ExpiredError) resourceVersion = undefined;
      }
      if (own.signal.aborted) return;
      retry.add(timer(WATCH_RETRY_MS, scheduler).subscribe(() => void follow()));
    };
    void follow();
    return () => {
      end();
      signal.removeEventListener('abort', end);
    };
  });
}
