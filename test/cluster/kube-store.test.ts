/** The Store contract on a real API server, read as a command reads and as a controller does. */
import { afterAll, beforeAll } from 'vitest';
import { KIND_INFO } from '../../src/api/kinds.ts';
import { GROUP, KINDS } from '../../src/api/meta.ts';
import { loadKubeConfig } from '../../src/kube/kube-config.ts';
import { KubeTransport } from '../../src/kube/transport.ts';
import { openKubeStore } from '../../src/store/kube-store.ts';
import { describeStore } from '../conformance/store.ts';
import { TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start((work) => ends.push(work));
  await cluster.kubectl(['create', 'namespace', 'other']);
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

const load = () => loadKubeConfig({ kubeconfig: cluster.kubeconfig });

async function empty(transport: KubeTransport): Promise<void> {
  for (const kind of KINDS) {
    const { plural } = KIND_INFO[kind];
    const path = `/apis/${GROUP}/v1alpha1/${plural}`;
    const { items } = await transport.json<{ items: { metadata: { name: string; namespace?: string } }[] }>({
      method: 'GET',
      path,
    });
    for (const { metadata } of items) {
      const scope = metadata.namespace === undefined ? '' : `namespaces/${metadata.namespace}/`;
      const one = `/apis/${GROUP}/v1alpha1/${scope}${plural}/${metadata.name}`;
      const released = { metadata: { finalizers: null } };
      await transport.json({
        method: 'PATCH',
        path: one,
        contentType: 'application/merge-patch+json',
        body: released,
      });
      await transport.json({ method: 'DELETE', path: one }).catch(() => undefined);
    }
  }
}

for (const cached of [false, true])
  describeStore(cached ? 'kube-store, from its cache' : 'kube-store', async () => {
    const transport = new KubeTransport({ load, userAgent: 'test' });
    await empty(transport);
    const options = { transport, fieldManager: 'test', cached, history: 50, firstRetryMs: 50 };
    const store = await openKubeStore(options);
    return { store, ...(cached ? {} : { forget: () => cluster.forgetHistory() }), close: () => store.close() };
  });
