import { type Subscription, VirtualTimeScheduler } from 'rxjs';
import { expect, onTestFinished, test } from 'vitest';
import { ExpiredError, StoreUnavailableError } from '../../src/api/errors.ts';
import { changes } from '../../src/reconcile/changes.ts';
import type { Store, WatchEvent, WatchOptions } from '../../src/store/store.ts';
import { storedVm } from '../fakes/manifests.ts';

const RETRIES = 3;
const vm = (resourceVersion: string): WatchEvent<'VirtualMachine'> => {
  const object = storedVm();
  return { type: 'MODIFIED', object: { ...object, metadata: { ...object.metadata, resourceVersion } } };
};

/** Each watch of the store is the next of these: its events, then its end. */
function follow(...watches: readonly (readonly [events: readonly string[], end?: Error])[]) {
  const from: (string | undefined)[] = [];
  const store = {
    async *watch(_kind: 'VirtualMachine', { resourceVersion }: WatchOptions) {
      from.push(resourceVersion);
      const [events, end] = watches[from.length - 1] ?? [[]];
      for (const event of events) yield vm(event);
      if (end !== undefined) throw end;
      // The last one goes on.
      if (from.length === watches.length) await new Promise(() => undefined);
    },
  } as unknown as Store;
  const scheduler = new VirtualTimeScheduler();
  const told: string[] = [];
  const abort = new AbortController();
  const following: Subscription = changes(store, 'VirtualMachine', abort.signal, scheduler).subscribe((event) => {
    if (event.type !== 'BOOKMARK') told.push(event.object.metadata.resourceVersion);
  });
  onTestFinished(() => following.unsubscribe());
  const settle = async () => {
    for (let turn = 0; turn < RETRIES; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      scheduler.flush();
    }
  };
  return { from, told, settle, abort };
}

test('a watch that ends or fails goes on from where it was', async () => {
  const { from, told, settle } = follow([['1', '2']], [['3'], new StoreUnavailableError('away')], [['4']]);
  await settle();
  expect([told, from]).toEqual([
    ['1', '2', '3', '4'],
    [undefined, '2', '3'],
  ]);
});

test('a history that no longer reaches back is begun anew', async () => {
  const { from, told, settle } = follow([['7'], new ExpiredError('too old')], [['3', '4']]);
  await settle();
  expect([told, from]).toEqual([
    ['7', '3', '4'],
    [undefined, undefined],
  ]);
});

test('nothing begins again once it is not wanted any more', async () => {
  const { from, settle, abort } = follow([['1'], new StoreUnavailableError('away')], [['2']]);
  await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  await settle();
  expect(from).toEqual([undefined]);
});
