/**
 * One process of several on a store, started by the tests of store-processes and store-faults:
 * `node store-process.ts WORK DIR [N [NAME]]`. What it has done is told on stdout, one word or JSON value a line.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, chownSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError, ConflictError } from '../../src/api/errors.ts';
import { type FileStore, openFileStore } from '../../src/store/file-store.ts';
import { manifestOf } from './store-manifest.ts';

const [work = '', dir = '', count = '0', name = 'web-1'] = process.argv.slice(2);
const NOBODY = 65_534;
const WEB = { namespace: 'default', name: 'web-1' };
const say = (value: unknown) => process.stdout.write(`${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
const signal = new AbortController().signal;
const SETTLE_MS = 20;
const open = () => openFileStore({ dir, settleMs: SETTLE_MS });

async function said(write: () => Promise<unknown>): Promise<string> {
  try {
    await write();
    return 'ok';
  } catch (error) {
    return error instanceof ApiError ? `${error.reason}: ${error.message}` : `BUG ${String(error)}`;
  }
}

/** Adds one to a number in the object, N times; a conflict is a reason to read again. */
async function increment(store: FileStore): Promise<void> {
  let conflicts = 0;
  for (let done = 0; done < Number(count); ) {
    const object = await store.get('VirtualMachine', WEB);
    if (object === undefined) throw new Error('web-1 is gone');
    const { uid, resourceVersion } = object.metadata;
    const n = Number(object.metadata.annotations?.['n'] ?? 0) + 1;
    try {
      const annotations = { n: String(n) };
      await store.patch('VirtualMachine', WEB, { metadata: { annotations } }, { uid, resourceVersion });
      done += 1;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      conflicts += 1;
    }
  }
  say({ conflicts });
}

/** Writes without end, and says what is acknowledged: a declared field, and an object that comes and goes. */
async function churn(store: FileStore): Promise<void> {
  for (let n = Number(count) + 1; ; n += 1) {
    await store.patch('VirtualMachine', WEB, { spec: { vcpus: n, restartedAt: String(n) } });
    say({ vcpus: n });
    const name = `pet-${n}`;
    await store.create(manifestOf(name, { vcpus: 3 }));
    say({ created: name });
    await store.delete('VirtualMachine', { namespace: 'default', name });
    say({ deleted: name });
  }
}

/** A store on a small file system of its own that runs full, then is read-only; no other process sees the mount. */
async function smallDisk(): Promise<void> {
  mkdirSync(dir, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', dir]);
  const store = await open();
  await store.create(manifestOf('web-1', { vcpus: 4, memory: '2Gi' }));
  const file = () => readFileSync(join(dir, 'default/web-1.yaml'), 'utf8');
  const picture = async () => ({ object: await store.get('VirtualMachine', WEB), file: file(), names: namesIn(dir) });
  const before = await picture();
  fill(join(dir, 'ballast'));
  const report: Record<string, unknown> = {
    full: {
      patch: await said(() => store.patch('VirtualMachine', WEB, { spec: { vcpus: 8 } })),
      create: await said(() => store.create(manifestOf('web-2', {}, 'x'.repeat(3_000)))),
      unchanged: JSON.stringify(await picture()) === JSON.stringify(before),
    },
  };
  rmSync(join(dir, 'ballast'));
  report['space'] = await said(() => store.patch('VirtualMachine', WEB, { spec: { vcpus: 6 } }));
  const then = await picture();
  report['readOnly'] = await readOnly(store, async () => JSON.stringify(await picture()) === JSON.stringify(then));
  await store.close();
  say(report);
}

const namesIn = (folder: string) => readdirSync(join(folder, 'default'));

function fill(path: string): void {
  for (const size of [65_536, 4_096, 64]) {
    try {
      for (;;) appendFileSync(path, Buffer.alloc(size));
    } catch {
      // Full for pieces of this size.
    }
  }
}

/** A file system turns read-only under a store, which must have no file open for writing at that moment. */
async function readOnly(store: FileStore, unchanged: () => Promise<boolean>): Promise<unknown> {
  const same = await unchanged();
  await store.close();
  execFileSync('mount', ['-o', 'remount,bind,ro', dir]);
  const opened = await said(open);
  execFileSync('mount', ['-o', 'remount,bind,rw', dir]);
  const again = await open();
  const object = await again.get('VirtualMachine', WEB);
  await again.close();
  return { opened, same, vcpus: object?.spec.vcpus };
}

/** As an ordinary user: manifests and folders that may not be read or written. */
async function unreadable(): Promise<void> {
  if (process.getuid?.() === 0) {
    chownSync(dir, NOBODY, NOBODY);
    process.setgid?.(NOBODY);
    process.setuid?.(NOBODY);
  }
  const store = await open();
  const problems = async () => {
    // What was written just now is not taken in yet.
    await sleep(SETTLE_MS);
    store.sync();
    return store.problems().map(({ reason, message, ref }) => `${ref.name} ${reason} ${message}`);
  };
  const names = async () => (await store.list('VirtualMachine')).items.map(({ metadata }) => metadata.name);
  await store.create(manifestOf('web-1', { vcpus: 4 }));
  await store.create(manifestOf('web-2', {}, undefined, 'locked'));
  const chmod = (mode: string, path: string) => execFileSync('chmod', [mode, join(dir, path)]);
  chmod('000', 'default/web-1.yaml');
  chmod('000', 'locked');
  const closed = { problems: await problems(), names: await names() };
  const patch = await said(() => store.patch('VirtualMachine', WEB, { spec: { vcpus: 8 } }));
  chmod('600', 'default/web-1.yaml');
  chmod('700', 'locked');
  const mended = { problems: await problems(), names: await names() };
  chmod('500', 'default');
  const folder = await said(() => store.patch('VirtualMachine', WEB, { spec: { vcpus: 8 } }));
  const remove = await said(() => store.delete('VirtualMachine', WEB));
  const vcpus = (await store.get('VirtualMachine', WEB))?.spec.vcpus;
  chmod('700', 'default');
  await store.close();
  chmod('500', '.state');
  const opened = await said(open);
  chmod('700', '.state');
  say({ closed, patch, mended, folder, remove, vcpus, opened });
}

/** Counts in a declared field, which is in the file too. */
async function declared(store: FileStore): Promise<void> {
  const ref = { namespace: 'default', name };
  for (let n = 1; n <= Number(count); n += 1) await store.patch('VirtualMachine', ref, { spec: { vcpus: n } });
}

async function hold(store: FileStore): Promise<void> {
  say('waiting');
  await store.controllerLock.acquire(signal);
  say('held');
  setInterval(() => undefined, 60_000);
}

const WORK: Readonly<Record<string, () => Promise<void>>> = {
  hold: async () => hold(await open()),
  increment: async () => increment(await open()),
  churn: async () => churn(await open()),
  declared: async () => declared(await open()),
  'small-disk': smallDisk,
  unreadable,
};

await WORK[work]?.();
