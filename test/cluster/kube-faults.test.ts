/** Reads of a controller while the way to the API server fails in every manner: in the end it knows what there is. */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { ExpiredError, StoreUnavailableError } from '../../src/api/errors.ts';
import { loadKubeConfig } from '../../src/kube/kube-config.ts';
import { KubeTransport } from '../../src/kube/transport.ts';
import { openKubeStore } from '../../src/store/kube-store.ts';
import type { Store } from '../../src/store/store.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { CALL_FAULTS, FaultyProxy, WATCH_FAULTS } from './support/faulty-proxy.ts';

const file = clusterForFile();
const NAMES = Array.from({ length: 12 }, (_, i) => `host-${i}`);
const CHANGES = 250;

function transportTo(kubeconfig: string, more = {}): KubeTransport {
  return new KubeTransport({ load: () => loadKubeConfig({ kubeconfig }), userAgent: 'test', ...more });
}

async function storeOn(transport: KubeTransport, cached: boolean, ends: (() => Promise<void>)[]): Promise<Store> {
  const store = await openKubeStore({ transport, fieldManager: 'test', cached, firstRetryMs: 50 });
  ends.push(() => store.close());
  return store;
}

const manifest = (name: string) =>
  parseManifest({
    apiVersion: 'qemu-operator.dev/v1alpha1',
    kind: 'Host',
    metadata: { name },
    spec: { local: {} },
  }) as Manifest<'Host'>;

const versions = async (store: Store) =>
  (await store.list('Host')).items.map(
    ({ metadata }) => `${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`,
  );

/** As a controller follows them: from the beginning wherever the history does not reach back. */
function follow(store: Store, signal: AbortSignal): Map<string, string> {
  const seen = new Map<string, string>();
  const run = async () => {
    while (!signal.aborted) {
      seen.clear();
      try {
        for await (const event of store.watch('Host', { signal })) {
          if (event.type === 'BOOKMARK') continue;
          const { name, resourceVersion } = event.object.metadata;
          if (event.type === 'DELETED') seen.delete(name);
          else seen.set(name, resourceVersion);
        }
      } catch (error) {
        if (!(error instanceof ExpiredError) && !(error instanceof StoreUnavailableError)) throw error;
        await sleep(50);
      }
    }
  };
  void run();
  return seen;
}

async function change(store: Store, name: string, what: number): Promise<void> {
  const exists = (await store.get('Host', { name })) !== undefined;
  if (!exists) await store.create(manifest(name));
  else if (what % 4 === 0) await store.delete('Host', { name });
  else await store.patch('Host', { name }, { metadata: { labels: { turn: String(what) } } });
}

test.each([1, 2, 3])(
  'cuts, silence, refusals and nonsense lose no change (seed %i)',
  { timeout: 120_000 },
  async (seed) => {
    const ends: (() => Promise<void>)[] = [];
    const abort = new AbortController();
    const proxy = await FaultyProxy.start((work) => ends.push(work), file.cluster);
    const through = file.cluster.writeKubeconfig(`proxy-${seed}.kubeconfig`, { token: 'none' }, 'default', {
      server: proxy.server,
      'insecure-skip-tls-verify': true,
    });
    try {
      const direct = await storeOn(transportTo(file.cluster.kubeconfig), false, ends);
      const watching = await storeOn(transportTo(through, { timeoutMs: 1_000, watchIdleMs: 1_500 }), true, ends);
      const followed = follow(watching, abort.signal);
      const turns = fc.sample(fc.record({ name: fc.constantFrom(...NAMES), what: fc.nat(1000), fault: fc.nat(99) }), {
        numRuns: CHANGES,
        seed,
      });
      for (const { name, what, fault } of turns) {
        await change(direct, name, what);
        if (fault < 20 || fault >= 80) await sleep(60);
        if (fault < 20) proxy.failWatches(WATCH_FAULTS[fault % WATCH_FAULTS.length] ?? 'reset');
        if (fault >= 80) proxy.failCalls(CALL_FAULTS[fault % CALL_FAULTS.length] ?? 'reset');
      }
      proxy.heal();
      await until(
        'the cache has caught up',
        async () => [await versions(watching), await versions(direct)],
        ([ours, theirs]) => JSON.stringify(ours) === JSON.stringify(theirs),
        60_000,
      );
      const { items } = await direct.list('Host');
      const truth = new Map(items.map(({ metadata }) => [metadata.name, metadata.resourceVersion]));
      await until(
        'whoever follows was told all of it',
        () => JSON.stringify([...followed].sort()) === JSON.stringify([...truth].sort()),
        Boolean,
      );
      expect(proxy.watches).toBeGreaterThan(5);
    } finally {
      abort.abort();
      for (const end of ends.reverse()) await end();
    }
  },
);

test('an API server that ends and comes back: reads from the cache go on, writes say why not', {
  timeout: 120_000,
}, async () => {
  const ends: (() => Promise<void>)[] = [];
  try {
    const store = await storeOn(transportTo(file.cluster.kubeconfig, { timeoutMs: 2_000 }), true, ends);
    await store.apply(manifest('kept'));
    await store.get('Host', { name: 'kept' });
    await file.cluster.killApiServer();
    expect((await store.get('Host', { name: 'kept' }))?.metadata.name).toBe('kept');
    const write = store.patch('Host', { name: 'kept' }, { metadata: { labels: { a: 'b' } } });
    await expect(write).rejects.toThrow(StoreUnavailableError);
    await expect(write).rejects.toThrow(/cannot be reached/);
    await file.cluster.startApiServer();
    await file.cluster.kubectl(['label', 'qhost', 'kept', 'turn=later']);
    await until(
      'the cache has the change',
      async () => (await store.get('Host', { name: 'kept' }))?.metadata.labels?.['turn'],
      (turn) => turn === 'later',
    );
  } finally {
    for (const end of ends.reverse()) await end();
  }
});

test('a frozen API server is given up in time, and served from again when it thaws', { timeout: 120_000 }, async () => {
  const ends: (() => Promise<void>)[] = [];
  try {
    const store = await storeOn(
      transportTo(file.cluster.kubeconfig, { timeoutMs: 1_000, watchIdleMs: 2_000 }),
      true,
      ends,
    );
    await store.apply(manifest('frozen'));
    await store.get('Host', { name: 'frozen' });
    file.cluster.freezeApiServer();
    const from = performance.now();
    await expect(store.patch('Host', { name: 'frozen' }, { metadata: { labels: { a: 'b' } } })).rejects.toThrow(
      StoreUnavailableError,
    );
    expect(performance.now() - from).toBeLessThan(5_000);
    expect((await store.list('Host')).items.some(({ metadata }) => metadata.name === 'frozen')).toBe(true);
    file.cluster.thawApiServer();
    await until(
      'writes arrive again',
      () => store.patch('Host', { name: 'frozen' }, { metadata: { labels: { a: 'c' } } }).catch(() => undefined),
      (host) => host !== undefined,
    );
  } finally {
    file.cluster.thawApiServer();
    for (const end of ends.reverse()) await end();
  }
});

test('credentials of an exec plugin that no longer count are fetched anew', { timeout: 120_000 }, async () => {
  const { cluster } = file;
  const token = async (name: string) => {
    await cluster.kubectl(['create', 'serviceaccount', name]);
    const binding = [
      'create',
      'clusterrolebinding',
      name,
      '--clusterrole=cluster-admin',
      `--serviceaccount=default:${name}`,
    ];
    await cluster.kubectl(binding);
    return (await cluster.kubectl(['create', 'token', name])).trim();
  };
  const [tokenFile, plugin] = [cluster.path('token'), cluster.path('plugin.sh')];
  // Without an expiry: only a refusal tells that it is over.
  const credential = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}';
  writeFileSync(plugin, `#!/bin/sh\nprintf '${credential}' "$(cat ${tokenFile})"\n`, { mode: 0o700 });
  writeFileSync(tokenFile, await token('first'), { mode: 0o600 });
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: plugin, interactiveMode: 'Never' };
  const kubeconfig = cluster.writeKubeconfig('exec.kubeconfig', { exec });
  const ends: (() => Promise<void>)[] = [];
  try {
    const store = await storeOn(transportTo(kubeconfig), false, ends);
    await store.list('Host');
    writeFileSync(tokenFile, await token('second'), { mode: 0o600 });
    await cluster.kubectl(['delete', 'serviceaccount', 'first']);
    const old = cluster.writeKubeconfig('old.kubeconfig', { token: 'revoked' });
    await expect(storeOn(transportTo(old), false, ends)).rejects.toThrow(/401|Unauthorized/);
    // The API server itself believes a token for some seconds more.
    await sleep(15_000);
    await store.list('Host');
  } finally {
    for (const end of ends.reverse()) await end();
  }
});

/** What one who follows through a way of his own knows in the end is what the server has. */
async function catchesUp(store: Store, followed: Map<string, string>): Promise<void> {
  const direct = await openKubeStore({ transport: transportTo(file.cluster.kubeconfig), fieldManager: 'test' });
  try {
    await until(
      'the cache and whoever follows know all',
      async () => [await versions(direct), await versions(store), [...followed.values()].sort()],
      ([theirs = [], ours = [], told = []]) =>
        JSON.stringify(ours) === JSON.stringify(theirs) &&
        JSON.stringify(told) === JSON.stringify(theirs.map((one) => one.split(' ')[2]).sort()),
    );
  } finally {
    await direct.close();
  }
}

test('etcd compacted while nothing was heard: all is listed again', { timeout: 120_000 }, async () => {
  const ends: (() => Promise<void>)[] = [];
  const abort = new AbortController();
  try {
    const proxy = await FaultyProxy.start((work) => ends.push(work), file.cluster);
    const through = file.cluster.writeKubeconfig('compacted.kubeconfig', { token: 'none' }, 'default', {
      server: proxy.server,
      'insecure-skip-tls-verify': true,
    });
    const store = await storeOn(transportTo(through), true, ends);
    const followed = follow(store, abort.signal);
    await file.cluster.kubectl(['create', '-f', '-'], JSON.stringify(manifest('goes')));
    await catchesUp(store, followed);
    proxy.failWatches('freeze');
    await file.cluster.kubectl(['delete', 'qhost', 'goes']);
    await file.cluster.kubectl(['create', '-f', '-'], JSON.stringify(manifest('comes')));
    await file.cluster.forgetHistory();
    proxy.heal();
    await catchesUp(store, followed);
    expect([followed.has('goes'), followed.has('comes')]).toEqual([false, true]);
  } finally {
    abort.abort();
    for (const end of ends.reverse()) await end();
  }
});

test('etcd restored from a backup: what is written in the other history is told at once', {
  timeout: 120_000,
}, async () => {
  const ends: (() => Promise<void>)[] = [];
  const abort = new AbortController();
  try {
    const store = await storeOn(transportTo(file.cluster.kubeconfig), true, ends);
    const followed = follow(store, abort.signal);
    await store.apply(manifest('stays'));
    const backup = await file.cluster.backUp('etcd-backup');
    for (let turn = 0; turn < 50; turn += 1)
      await file.cluster.kubectl(['label', 'qhost', 'stays', `turn=${turn}`, '--overwrite']);
    await file.cluster.kubectl(['create', '-f', '-'], JSON.stringify(manifest('forgotten')));
    await catchesUp(store, followed);
    const before = BigInt(followed.get('forgotten') ?? 0);
    await file.cluster.restore(backup);
    await catchesUp(store, followed);
    await file.cluster.kubectl(['label', 'qhost', 'stays', 'turn=another']);
    await catchesUp(store, followed);
    // It did not wait for the revisions to come to where they were.
    expect(BigInt(followed.get('stays') ?? 0) < before).toBe(true);
    expect(followed.has('forgotten')).toBe(false);
    expect((await store.get('Host', { name: 'stays' }))?.metadata.labels?.['turn']).toBe('another');
  } finally {
    abort.abort();
    for (const end of ends.reverse()) await end();
  }
});
