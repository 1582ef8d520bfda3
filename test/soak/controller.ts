/**
 * The controller under the soak: `node --expose-gc controller.ts STORE VMDIR`. Each line on stdin is answered with what
 * it holds after a garbage collection, as a line of JSON.
 */
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSession } from '../../src/runtime.ts';

export interface Holdings {
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly descriptors: number;
  /** Timers, sockets, pipes and children that keep the process alive. */
  readonly handles: number;
}

const [store = '', vmDir = ''] = process.argv.slice(2);
const session = await openSession({ store, vmDir });
session.loop.start();
for await (const _question of createInterface({ input: process.stdin })) {
  for (let i = 0; i < 3; i += 1) {
    globalThis.gc?.();
    await sleep(20);
  }
  const { rss, heapUsed } = process.memoryUsage();
  const holdings: Holdings = {
    rssBytes: rss,
    heapBytes: heapUsed,
    descriptors: readdirSync('/proc/self/fd').length,
    handles: process.getActiveResourcesInfo().length,
  };
  process.stdout.write(`${JSON.stringify(holdings)}\n`);
}
