/** The doors of a running controller: one for probes, one for Prometheus. What comes in changes nothing. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Express, RequestHandler } from 'express';
import type { Store } from '../store/store.ts';
import { type BindAddress, type Door, openDoor } from './door.ts';
import { CONTENT_TYPE, familyOf } from './exposition.ts';
import { type Check, examine, healthAnswer, shared, type Verdict } from './health.ts';
import { type LoopFact, LoopFigures } from './loop-metrics.ts';
import { objectFigures } from './object-figures.ts';
import { processText, type RequestCount, STORE_UP } from './process-metrics.ts';

export interface DoorPlace {
  readonly store: Pick<Store, 'list'>;
  /** Of a cluster: rejects where the API server does not answer. */
  readonly reach?: ((signal: AbortSignal) => Promise<unknown>) | undefined;
  /** Of a cluster. */
  readonly requests?: (() => Iterable<RequestCount>) | undefined;
  readonly onEvent: (listener: (fact: LoopFact) => void) => void;
  readonly loopState: () => LoopState;
  readonly version: string;
}

export type LoopState = 'starting' | 'running' | 'standing by' | 'ending';

export interface DoorAddresses {
  readonly health?: BindAddress | undefined;
  readonly metrics?: BindAddress | undefined;
}

/** An answer about the store counts for this long. */
const FRESH_MS = 1_000;

/**
 * In the order of health, then metrics.
 * @throws DoorError where an address cannot be had; then none is open
 */
export async function openDoors(place: DoorPlace, { health, metrics }: DoorAddresses): Promise<Door[]> {
  const readiness = shared(() => examine(readyChecks(place)), FRESH_MS);
  const doors: Door[] = [];
  try {
    if (health !== undefined) doors.push(await openDoor(health, (app) => addHealth(app, readiness)));
    if (metrics !== undefined) doors.push(await openDoor(metrics, (app) => addMetrics(app, place, readiness)));
    return doors;
  } catch (error) {
    await Promise.all(doors.map((door) => door.close()));
    throw error;
  }
}

function readyChecks({ store, reach, loopState }: DoorPlace): Check[] {
  const lists: Check = {
    name: 'store',
    run: () => Promise.all([store.list('Host'), store.list('VirtualMachine')]),
  };
  const loop: Check = {
    name: 'loop',
    run: async () => {
      const state = loopState();
      if (state === 'starting' || state === 'ending') throw new Error(`it is ${state}`);
    },
  };
  return [lists, ...(reach === undefined ? [] : [{ name: 'api-server', run: reach }]), loop];
}

function addHealth(app: Express, readiness: () => Promise<readonly Verdict[]>): void {
  const answering =
    (path: 'healthz' | 'readyz', verdictsNow: () => Promise<readonly Verdict[]>): RequestHandler =>
    async (request, response) => {
      const { status, text } = healthAnswer(path, await verdictsNow(), 'verbose' in request.query);
      response.status(status).type('text').send(text);
    };
  // Whoever gets an answer knows that the event loop turns. Nothing else is for a restart to mend.
  app.get(
    '/healthz',
    answering('healthz', async () => [{ name: 'ping' }]),
  );
  app.get('/readyz', answering('readyz', readiness));
}

function addMetrics(app: Express, place: DoorPlace, readiness: () => Promise<readonly Verdict[]>): void {
  const loop = new LoopFigures();
  place.onEvent((fact) => loop.hear(fact));
  app.get('/metrics', async (_request, response) => {
    response.set('Content-Type', CONTENT_TYPE);
    // A scraper that left is no failure of ours; a text that was cut tells the scraper by itself.
    await pipeline(Readable.from(scrape(place, loop, readiness)), response).catch(() => undefined);
  });
}

async function* scrape(
  place: DoorPlace,
  loop: LoopFigures,
  readiness: () => Promise<readonly Verdict[]>,
): AsyncGenerator<string> {
  const isDriving = place.loopState() === 'running';
  yield processText({ version: place.version, isDriving, requests: place.requests?.() ?? [] });
  yield loop.text();
  const failed = (await readiness()).filter(({ failure }) => failure !== undefined).map(({ name }) => name);
  const isUp = !failed.includes('store') && !failed.includes('api-server');
  yield familyOf(STORE_UP, [[[], isUp ? 1 : 0]]);
  // Of a cluster whose API server is away the objects are known as they were.
  if (!failed.includes('store')) yield* objectFigures(place.store);
}
