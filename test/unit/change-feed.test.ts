/** Watches of a store whose bookmarks are far away: whatever comes, comes because something woke it. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { ChangeFeed } from '../../src/store/change-feed.ts';
import { Database } from '../../src/store/database.ts';
import { ObjectCache } from '../../src/store/object-cache.ts';
import { ObjectTable, type StoredObject } from '../../src/store/object-table.ts';
import type { WatchEvent, WatchOptions } from '../../src/store/store.ts';
import { storedVm } from '../fakes/manifests.ts';

const POLL_MS = 50;
const BOOKMARK_MS = 60_000;

let db: Database;
let table: ObjectTable;
let feed: ChangeFeed;
let stop: AbortController;
let version: number;

beforeEach(() => {
  vi.useFakeTimers();
  db = new Database(':memory:');
  table = new ObjectTable(db);
  feed = new ChangeFeed({ db, table, cache: new ObjectCache(db, table) }, { pollMs: POLL_MS, bookmarkMs: BOOKMARK_MS });
  stop = new AbortController();
  version = 1;
  // SQLite's number changes for writes of other processes alone.
  vi.spyOn(db, 'dataVersion').mockImplementation(() => version);
});
afterEach(async () => {
  stop.abort();
  feed.close();
  await vi.advanceTimersByTimeAsync(0);
  db.close();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function add(name: string, namespace = 'default'): StoredObject {
  const { kind, metadata, spec } = storedVm({}, { name, namespace });
  return db.write(() => table.insert({ kind, metadata, spec } as StoredObject));
}

/** Collects until it ends. */
function collect(options: Partial<WatchOptions> = {}): { words: string[]; ended: () => boolean; error: () => unknown } {
  const [words, state] = [[] as string[], { ended: false, error: undefined as unknown }];
  const read = async () => {
    try {
      for await (const event of feed.watch('VirtualMachine', { signal: stop.signal, ...options }) as AsyncIterable<
        WatchEvent<'VirtualMachine'>
      >)
        words.push(
          event.type === 'BOOKMARK'
            ? `BOOKMARK ${event.resourceVersion}`
            : `${event.type} ${(event.object as VirtualMachine).metadata.name}`,
        );
    } catch (error) {
      state.error = error;
    }
    state.ended = true;
  };
  void read();
  return { words, ended: () => state.ended, error: () => state.error };
}

const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

test('a wake-up brings what was written, at once; without one nothing comes', async () => {
  const { words } = collect();
  await pass();
  add('a');
  await pass(POLL_MS * 10);
  expect(words).toEqual([]);
  feed.wake();
  await pass();
  expect(words).toEqual(['ADDED a']);
});

test('all watches are woken', async () => {
  const [one, two] = [collect(), collect({ name: 'a' })];
  await pass();
  add('a');
  feed.wake();
  await pass();
  expect([one.words, two.words]).toEqual([['ADDED a'], ['ADDED a']]);
});

test("another process's write is seen within a poll", async () => {
  const { words } = collect();
  await pass();
  add('a');
  version = 2;
  await pass(POLL_MS - 1);
  expect(words).toEqual([]);
  await pass(1);
  expect(words).toEqual(['ADDED a']);
  add('b');
  version = 3;
  await pass(POLL_MS);
  expect(words).toEqual(['ADDED a', 'ADDED b']);
});

test('where the store cannot be polled, the watches are woken to tell why', async () => {
  const { error } = collect();
  await pass();
  vi.mocked(db.dataVersion).mockImplementation(() => {
    throw new Error('polled');
  });
  vi.spyOn(db, 'read').mockImplementation(() => {
    throw new Error('read');
  });
  await pass(POLL_MS);
  expect(error()).toEqual(new Error('read'));
});

describe('polling', () => {
  test('goes on while there is a watch, once for all of them', async () => {
    const other = new AbortController();
    collect();
    collect({ signal: other.signal });
    await pass();
    vi.mocked(db.dataVersion).mockClear();
    await pass(POLL_MS * 4);
    expect(db.dataVersion).toHaveBeenCalledTimes(4);
    other.abort();
    await pass(POLL_MS);
    expect(db.dataVersion).toHaveBeenCalledTimes(5);
    stop.abort();
    await pass(POLL_MS * 4);
    expect(db.dataVersion).toHaveBeenCalledTimes(5);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('begins again with the next watch', async () => {
    collect();
    await pass();
    stop.abort();
    await pass();
    stop = new AbortController();
    const { words } = collect();
    await pass();
    add('a');
    version = 2;
    await pass(POLL_MS);
    expect(words).toEqual(['ADDED a']);
  });
});

describe('bookmarks', () => {
  test('come at their time and then at their time again', async () => {
    add('a');
    const { words } = collect();
    await pass(BOOKMARK_MS - 1);
    expect(words).toEqual(['ADDED a']);
    await pass(1);
    expect(words).toEqual(['ADDED a', 'BOOKMARK 1']);
    await pass(BOOKMARK_MS - 1);
    expect(words).toHaveLength(2);
    await pass(1);
    expect(words).toEqual(['ADDED a', 'BOOKMARK 1', 'BOOKMARK 1']);
  });

  test('a wake-up without news brings none', async () => {
    const { words } = collect();
    await pass();
    feed.wake();
    await pass(1_000);
    expect(words).toEqual([]);
  });
});

test('what is written while its reader is busy comes next', async () => {
  add('a');
  const events = feed.watch('VirtualMachine', { signal: stop.signal, resourceVersion: '0' });
  await events.next();
  add('b');
  feed.wake();
  const next = events.next();
  await pass();
  expect(await Promise.race([next, 'nothing'])).toMatchObject({ value: { type: 'ADDED' } });
});

describe('the end', () => {
  test('by its signal, while it waits', async () => {
    const { ended } = collect();
    await pass();
    stop.abort();
    await pass();
    expect(ended()).toBe(true);
  });

  test('by the close of the store', async () => {
    const { ended } = collect();
    await pass();
    feed.close();
    await pass();
    expect([ended(), vi.getTimerCount()]).toEqual([true, 0]);
  });

  test.each([
    ['what exists', undefined],
    ['what happened', '0'],
  ])('by its signal, between two of %s', async (_what, resourceVersion) => {
    add('a');
    add('b');
    const events = feed.watch('VirtualMachine', {
      signal: stop.signal,
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    });
    expect((await events.next()).done).toBe(false);
    stop.abort();
    expect((await events.next()).done).toBe(true);
  });

  test('nothing of a wait stays: no listener, no timer', async () => {
    const remove = vi.spyOn(stop.signal, 'removeEventListener');
    collect();
    await pass();
    const waits = vi.getTimerCount();
    for (let i = 0; i < 5; i += 1) {
      feed.wake();
      await pass();
    }
    expect(vi.getTimerCount()).toBe(waits);
    expect(remove.mock.calls.map(([type]) => type)).toEqual(Array(5).fill('abort'));
  });
});

describe('history', () => {
  test('more than one batch of it comes whole, and in order', async () => {
    for (let i = 0; i < 1_001; i += 1) add(`vm-${String(i).padStart(4, '0')}`);
    const { words } = collect({ resourceVersion: '0' });
    await pass();
    expect(words).toHaveLength(1_001);
    expect(words).toEqual(words.toSorted());
  });

  test('a batch in which nothing is wanted ends nothing', async () => {
    for (let i = 0; i < 600; i += 1) add(`vm-${i}`);
    add('wanted');
    const { words } = collect({ resourceVersion: '0', name: 'wanted' });
    await pass();
    expect(words).toEqual(['ADDED wanted']);
  });

  test.each(['7', 'tomorrow', '-1', '1.5'])('from %s: nobody knows that', async (resourceVersion) => {
    const { error } = collect({ resourceVersion });
    await pass();
    expect(error()).toMatchObject({
      message: `the history of VirtualMachine does not reach back to resourceVersion "${resourceVersion}": list again`,
    });
  });

  test('a long one is quoted in part', async () => {
    const { error } = collect({ resourceVersion: 'x'.repeat(100) });
    await pass();
    expect(error()).toMatchObject({ message: expect.stringContaining(`resourceVersion "${'x'.repeat(39)}: list`) });
  });

  test('what comes first is narrowed as what follows', async () => {
    add('a');
    add('b');
    add('a', 'other');
    expect(await firstOf({ name: 'a' })).toEqual(['ADDED a', 'ADDED a']);
    expect(await firstOf({ name: 'a', namespace: 'default' })).toEqual(['ADDED a']);
    expect(await firstOf({ namespace: 'other' })).toEqual(['ADDED a']);
  });
});

async function firstOf(options: Partial<WatchOptions>): Promise<string[]> {
  const { words } = collect(options);
  await pass();
  return words;
}
