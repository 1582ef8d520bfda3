/** The API server as the suites ask it, without the product in between. */
import { afterAll, beforeAll } from 'vitest';
import type { OnFinished } from '../../e2e/support/rig.ts';
import { TestCluster } from './test-cluster.ts';

/** One cluster for all tests of a file; it ends with them. */
export function clusterForFile(
  prepare: (cluster: TestCluster, onFinished: OnFinished) => Promise<void> = async () => undefined,
) {
  const ends: (() => Promise<void>)[] = [];
  const onFinished: OnFinished = (work) => void ends.push(work);
  let cluster: TestCluster | undefined;
  beforeAll(async () => {
    cluster = await TestCluster.start(onFinished);
    await prepare(cluster, onFinished);
  });
  afterAll(async () => {
    for (const end of ends.reverse()) await end();
  });
  return {
    onFinished,
    get cluster(): TestCluster {
      if (cluster === undefined) throw new Error('it is there once the tests run');
      return cluster;
    },
  };
}
