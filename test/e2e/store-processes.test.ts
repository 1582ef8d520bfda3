/** Several processes on one store, and their sudden deaths. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually, manifest, StoreFolder, WEB } from './store-folder.ts';
import { manifestOf } from './store-manifest.ts';

const PROCESS = fileURLToPath(new URL('store-process.ts', import.meta.url));

let folder: StoreFolder;
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = new StoreFolder();
});
afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  await folder.remove();
});

/** A process of its own at work on the store; `lines` grows as it speaks. */
function start(work: string, n = 0, name = 'web-1'): { child: ChildProcess; lines: string[] } {
  const child = spawn(process.execPath, [PROCESS, work, folder.dir, String(n), name], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines: string[] = [];
  if (child.stdout !== null) createInterface(child.stdout).on('line', (line) => lines.push(line));
  return { child, lines };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

const heard = (lines: readonly string[], word: string) =>
  eventually(
    () => lines.includes(word),
    (has) => has,
  );

test('two processes that write at once lose nothing', async () => {
  const store = await folder.open();
  await store.create(manifestOf('web-1', {}, 'declared'));
  const workers = [start('increment', 150), start('increment', 150)];
  await Promise.all(workers.map(({ child }) => once(child, 'close')));
  expect(workers.map(({ child }) => child.exitCode)).toEqual([0, 0]);
  expect((await store.get('VirtualMachine', WEB))?.metadata.annotations?.['n']).toBe('300');
});

test('two processes that change declared fields write into one file without treading on each other', async () => {
  folder.write('all.yaml', `${manifest(['vcpus: 99  # a'], 'a')}---\n${manifest(['vcpus: 99  # b'], 'b')}`);
  const store = await folder.open();
  const workers = [start('declared', 60, 'a'), start('declared', 70, 'b')];
  await Promise.all(workers.map(({ child }) => once(child, 'close')));
  expect(workers.map(({ child }) => child.exitCode)).toEqual([0, 0]);
  expect(folder.read('all.yaml')).toBe(`${manifest(['vcpus: 60  # a'], 'a')}---\n${manifest(['vcpus: 70  # b'], 'b')}`);
  const { items } = await store.list('VirtualMachine');
  expect(items.map(({ spec }) => spec.vcpus)).toEqual([60, 70]);
  expect(store.problems()).toEqual([]);
});

test('a watch sees what another process writes, soon and in order', async () => {
  const store = await folder.open();
  await store.create(manifestOf('web-1'));
  const { resourceVersion } = await store.list('VirtualMachine');
  const seen: string[] = [];
  const { child } = start('increment', 20);
  for await (const event of store.watch('VirtualMachine', { resourceVersion, signal: AbortSignal.timeout(8_000) })) {
    if (event.type === 'MODIFIED') seen.push(event.object.metadata.annotations?.['n'] ?? '');
    if (seen.length === 20) break;
  }
  expect(seen).toEqual(Array.from({ length: 20 }, (_, at) => String(at + 1)));
  if (child.exitCode === null) await once(child, 'close');
});

test('one process holds the controller lock; another takes over within 2 s of its SIGKILL', async () => {
  const first = start('hold');
  expect(await heard(first.lines, 'held')).toBe(true);
  const store = await folder.open();
  expect(store.controllerLock.tryAcquire()).toBeUndefined();
  const second = start('hold');
  expect(await heard(second.lines, 'waiting')).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(second.lines).toEqual(['waiting']);
  const killedAt = performance.now();
  first.child.kill('SIGKILL');
  expect(await heard(second.lines, 'held')).toBe(true);
  expect(performance.now() - killedAt).toBeLessThan(2_000);
  // Any process may write while another runs the loop.
  await store.create(manifestOf('web-1'));
});

test('a lock that is released is free; waiting for one ends with its signal', async () => {
  const store = await folder.open();
  const held = await store.controllerLock.acquire(AbortSignal.timeout(1_000));
  const other = (await folder.open()).controllerLock;
  expect(other.tryAcquire()).toBeUndefined();
  await expect(other.acquire(AbortSignal.timeout(50))).rejects.toThrow();
  held.release();
  held.release();
  other.tryAcquire()?.release();
  expect(store.controllerLock.tryAcquire()).toBeDefined();
});

test('SIGKILL at any moment loses no acknowledged write and brings nothing deleted back', async () => {
  let store = await folder.open();
  await store.create(manifestOf('web-1', { vcpus: 1 }));
  await store.close();
  let acknowledged = 0;
  for (let round = 0; round < 8; round += 1) {
    const { child, lines } = start('churn', acknowledged);
    await eventually(
      () => lines.length,
      (count) => count > 0,
    );
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
    await kill(child);
    const said = lines.map((line) => JSON.parse(line) as { vcpus?: number; created?: string; deleted?: string });
    acknowledged = Math.max(acknowledged, ...said.map(({ vcpus }) => vcpus ?? 0));
    store = await folder.open();
    const web = await store.get('VirtualMachine', WEB);
    const vcpus = web?.spec.vcpus ?? 0;
    expect([acknowledged, acknowledged + 1]).toContain(vcpus);
    // Declared and undeclared field of one write come together or not at all, in the object and in the file.
    expect(web?.spec.restartedAt).toBe(String(vcpus));
    expect(folder.read('default/web-1.yaml')).toContain(`vcpus: ${vcpus}\n`);
    expect(store.problems()).toEqual([]);
    expect(store.sourceProblems()).toEqual([]);
    const names = (await store.list('VirtualMachine')).items.map(({ metadata }) => metadata.name);
    const [created, deleted] = [said.at(-1)?.created, new Set(said.map((one) => one.deleted))];
    expect(names.filter((name) => deleted.has(name))).toEqual([]);
    // The last one may have been deleted without a word, and a new one made.
    expect(names.length).toBeLessThanOrEqual(2);
    for (const name of names) expect(folder.has(`default/${name}.yaml`)).toBe(true);
    if (created !== undefined && !names.includes(created)) expect(folder.has(`default/${created}.yaml`)).toBe(false);
    for (const name of names.filter((one) => one !== 'web-1')) {
      await store.delete('VirtualMachine', { namespace: 'default', name });
    }
    await store.close();
    acknowledged = vcpus;
  }
});
