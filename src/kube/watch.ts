/**
 * A watch that goes on: each connection to the API server ends some time, by its time limit, a restart, a cut cable or
 * a credential that expired, and the next one begins where the last was. Only a history that no longer reaches back
 * ends it (KubeStatusError.expired): then the caller lists again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BACKOFF, Backoff, type BackoffTimes } from './backoff.ts';
import { KubeStatusError } from './kube-error.ts';
import type { KubeList, KubeObject } from './objects.ts';
import type { KubeTransport, Query } from './transport.ts';

export type RawEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: KubeObject }
  /** Nothing happened up to this resourceVersion. */
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface RawWatchOptions {
  readonly path: string;
  /** Selectors; the same ones as of the list. */
  readonly query?: Query;
  readonly resourceVersion: string;
  readonly signal: AbortSignal;
  /** Told of each connection that failed, and how long it waits for the next. */
  readonly onFailure?: (error: unknown, againMs: number) => void;
  readonly backoff?: BackoffTimes;
}

/** A connection that lived so long begins anew with the first wait. */
const RESET_MS = 120_000;
/** A watch that was served and then ended in order is soon asked for again. */
const SERVED_MS = 5_000;
const SOON_MS = 50;
const MIN_LIMIT_SECONDS = 300;
/** etcd holds no larger objects. */
const MAX_LINE_BYTES = 8 << 20;
const NEWLINE = 10;

/** Every event after `resourceVersion`, in order, until the signal aborts. @throws KubeStatusError where it expired */
export async function* watchFrom(transport: KubeTransport, options: RawWatchOptions): AsyncGenerator<RawEvent> {
  const { path, query, signal, onFailure } = options;
  const backoff = new Backoff(options.backoff ?? BACKOFF);
  let { resourceVersion } = options;
  while (!signal.aborted) {
    const from = performance.now();
    let failure: unknown;
    try {
      // At random, so that many watches do not end at once.
      const timeoutSeconds = Math.floor(MIN_LIMIT_SECONDS * (1 + Math.random()));
      const limits = { watch: 'true', allowWatchBookmarks: 'true', timeoutSeconds: String(timeoutSeconds) };
      await refuseFuture(transport, { ...options, resourceVersion });
      const body = await transport.stream({
        method: 'GET',
        path,
        query: { ...query, ...limits, resourceVersion },
        signal,
      });
      for await (const line of linesOf(body)) {
        const event = eventIn(line);
        if (event === undefined) continue;
        resourceVersion = event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof KubeStatusError && error.expired) throw error;
      failure = error;
    }
    const livedMs = performance.now() - from;
    if (livedMs > RESET_MS) backoff.reset();
    const served = failure === undefined && livedMs > SERVED_MS;
    const againMs = served ? SOON_MS : backoff.next(failure);
    if (failure !== undefined) onFailure?.(failure, againMs);
    await sleep(againMs, undefined, { signal }).catch(() => undefined);
  }
}

/**
 * An etcd that was restored from a backup knows less than we do, and a watch from its future would say nothing until it
 * has caught up, in another history.
 * @throws KubeStatusError as for a history that no longer reaches back
 */
async function refuseFuture(
  transport: KubeTransport,
  { path, query, resourceVersion, signal }: RawWatchOptions,
): Promise<void> {
  const request = { method: 'GET', path, query: { ...query, limit: '1' }, signal } as const;
  const { metadata } = await transport.json<KubeList<KubeObject>>(request);
  const numbers = [resourceVersion, metadata.resourceVersion].every((one) => /^\d+$/.test(one));
  if (!numbers || BigInt(resourceVersion) <= BigInt(metadata.resourceVersion)) return;
  const message = `resourceVersion ${resourceVersion} is ahead of the API server, which is at ${metadata.resourceVersion}`;
  throw new KubeStatusError(410, 'Expired', message);
}

async function* linesOf(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of body) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const line = chunk.subarray(start, end);
      yield restBytes === 0 ? line : Buffer.concat([...rest, line]);
      rest = [];
      restBytes = 0;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    rest.push(chunk.subarray(start));
    restBytes += chunk.length - start;
    if (restBytes > MAX_LINE_BYTES) throw new Error(`a line of the watch has more than ${MAX_LINE_BYTES} bytes`);
  }
}

interface Line {
  readonly type?: string;
  readonly object?: KubeObject & { code?: number; reason?: string; message?: string };
}

/**
 * Undefined: nothing for us, as a type that a later version may send.
 * @throws KubeStatusError for an event of type ERROR; SyntaxError for what is no event: the next connection tells it again
 */
function eventIn(line: Buffer): RawEvent | undefined {
  if (line.length === 0) return undefined;
  const { type, object } = JSON.parse(line.toString('utf8')) as Line;
  if (type === 'ERROR') {
    const { code = 500, reason = '', message = 'the watch failed' } = object ?? {};
    throw new KubeStatusError(code, reason, message);
  }
  const resourceVersion = object?.metadata?.resourceVersion;
  if (object === undefined || typeof resourceVersion !== 'string') throw new SyntaxError('an event without its object');
  if (type === 'BOOKMARK') return { type, resourceVersion };
  return type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED' ? { type, object } : undefined;
}
