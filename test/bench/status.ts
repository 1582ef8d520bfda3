/** How soon the end of a QEMU is in the VM's status, and what the controller costs while nothing happens. */

import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { AnyObject } from '../../src/api/kinds.ts';
import { KINDS } from '../../src/api/meta.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { type Finding, shownNumber, spread } from './figures.ts';
import { untilSettled } from './fleet.ts';
import { cpuSeconds, startLive } from './live.ts';
import type { Place } from './place.ts';

const KILL_SECONDS = 0.5;
const IDLE_PERCENT = 2;
const IDLE_VMS = 20;
const IDLE_SECONDS = 70;
/** The figures of a Host are refreshed this often. */
const HOST_EVERY_SECONDS = 300;

export async function benchKill(place: Place): Promise<Finding[]> {
  const live = await startLive(place, 'kill');
  const names = Array.from({ length: Math.min(place.rounds, 20) }, (_, i) => `vm-${i}`);
  for (const name of names) await live.make(name, { restartPolicy: 'Never' });
  await untilSettled(live.store, names.length, names.length);
  const times: number[] = [];
  for (const name of names) times.push(await killOne(live.store, name));
  await live.end();
  return [
    {
      name: 'QEMU killed to status changed',
      figure: Math.max(...times) / 1000,
      unit: 's',
      bound: KILL_SECONDS,
      from: `the slowest of ${times.length}; ${spread(times)}`,
    },
  ];
}

export async function killOne(store: FileStore, name: string): Promise<number> {
  const ref = { namespace: 'default', name };
  const pid = (await store.get('VirtualMachine', ref))?.status?.pid;
  if (pid === undefined) throw new Error(`${name} does not run`);
  const from = performance.now();
  process.kill(pid, 'SIGKILL');
  while ((await store.get('VirtualMachine', ref))?.status?.pid === pid) {
    if (performance.now() - from > 30_000) throw new Error(`${name}: the kill is not in its status`);
    await sleep(2);
  }
  return performance.now() - from;
}

export async function benchIdle(place: Place): Promise<Finding[]> {
  const live = await startLive(place, 'idle');
  for (let i = 0; i < IDLE_VMS; i += 1) await live.make(`vm-${i}`);
  await untilSettled(live.store, IDLE_VMS, IDLE_VMS);
  const pid = live.controller.pid ?? 0;
  // The first metrics come at once, in two looks; from then on everything rests.
  await sleep(5_000);
  const writes = new Writes(await objectsOf(live.store));
  const abort = new AbortController();
  const watches = KINDS.map((kind) => writes.follow(live.store, kind, abort.signal));
  await sleep(500);
  const [cpuBefore, from] = [cpuSeconds(pid), performance.now()];
  await sleep(IDLE_SECONDS * 1000);
  const [cpu, seconds] = [cpuSeconds(pid) - cpuBefore, (performance.now() - from) / 1000];
  abort.abort();
  await Promise.all(watches);
  await live.end();
  return [
    {
      name: `idle with ${IDLE_VMS} running`,
      figure: (cpu / seconds) * 100,
      unit: '% of a core',
      bound: IDLE_PERCENT,
      from: `${shownNumber(cpu)} s of CPU in ${shownNumber(seconds)} s, its scripts included; 1 run`,
    },
    {
      name: 'idle: writes but metrics and the Host every 5 min',
      figure: writes.others.length,
      unit: 'writes',
      bound: 0,
      from: `${writes.metrics} of metrics, ${writes.hosts} of the Host, others: ${writes.others.join('; ') || 'none'}`,
    },
  ];
}

async function objectsOf(store: FileStore): Promise<AnyObject[]> {
  const lists = await Promise.all(KINDS.map((kind) => store.list(kind)));
  return lists.flatMap(({ items }) => items as readonly AnyObject[]);
}

/** Tells the writes that rest allows from those that it does not. */
class Writes {
  metrics = 0;
  hosts = 0;
  readonly others: string[] = [];
  readonly #last: Map<string, AnyObject>;

  constructor(objects: readonly AnyObject[]) {
    this.#last = new Map(objects.map((object) => [object.metadata.uid, object]));
  }

  async follow(store: FileStore, kind: (typeof KINDS)[number], signal: AbortSignal): Promise<void> {
    for await (const event of store.watch(kind, { signal })) if (event.type !== 'BOOKMARK') this.#note(event.object);
  }

  #note(object: AnyObject): void {
    const { uid, resourceVersion, name } = object.metadata;
    const last = this.#last.get(uid);
    if (last?.metadata.resourceVersion === resourceVersion) return;
    this.#last.set(uid, object);
    if (object.kind === 'VirtualMachine' && isDeepStrictEqual(atRest(object), atRest(last))) this.metrics += 1;
    else if (object.kind === 'Host' && this.hosts < Math.ceil(IDLE_SECONDS / HOST_EVERY_SECONDS)) this.hosts += 1;
    else this.others.push(`${object.kind} ${name}`);
  }
}

/** What must not change while nothing happens. */
function atRest(object: AnyObject | undefined): unknown {
  if (object?.kind !== 'VirtualMachine') return undefined;
  const { metrics: _metrics, ...status } = object.status ?? {};
  const { resourceVersion: _revision, ...metadata } = object.metadata;
  return { metadata, spec: object.spec, status };
}
