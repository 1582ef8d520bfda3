/** One run at a time; wake-ups during a run are merged into one further run. */
import { from, Observable, type ObservableInput, type OperatorFunction } from 'rxjs';

/**
 * exhaustMap with a trailing run. The well-known recipe of throttle and exhaustMap stalls for ever where the inner
 * observable is synchronous (RxJS issue 5004); two flags do not.
 */
export function coalesceMap<R>(project: () => ObservableInput<R>): OperatorFunction<unknown, R> {
  return (source) =>
    new Observable((subscriber) => {
      let busy = false;
      let again = false;
      const run = (): void => {
        busy = true;
        again = false;
        const inner = from(project()).subscribe({
          next: (value) => subscriber.next(value),
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            busy = false;
            if (again) run();
          },
        });
        subscriber.add(inner);
      };
      subscriber.add(
        source.subscribe({
          next: () => {
            if (busy) again = true;
            else run();
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => subscriber.complete(),
        }),
      );
    });
}
