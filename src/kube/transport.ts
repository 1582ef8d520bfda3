/**
 * HTTP to one API server through pools of our own: @kubernetes/client-node reads the kubeconfig and finds the
 * credentials, undici carries the requests. Every request has a deadline, a watch has a limit of silence.
 */
import { createHash } from 'node:crypto';
import { Agent as HttpAgent } from 'node:http';
import type { RequestOptions } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeConfig } from '@kubernetes/client-node';
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { KubeConfigError, KubeStatusError, KubeUnreachableError, type StatusCause } from './kube-error.ts';

export interface TransportOptions {
  /** Reads the kubeconfig; again where the API server no longer knows who we are. */
  readonly load: () => KubeConfig;
  /** `qemu-operator/1.2.3`, as it stands in the API server's audit log. */
  readonly userAgent: string;
  /** Until an answer is there whole; default 15 s. */
  readonly timeoutMs?: number;
  /** How long a watch may be silent; default 2 min. Bookmarks come about once a minute. */
  readonly watchIdleMs?: number;
}

export type Query = Readonly<Record<string, string | undefined>>;

export const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  /** Server-side apply: JSON is YAML. */
  apply: 'application/apply-patch+yaml',
} as const;

/** One kind of answer, and how many there were. */
export interface RequestCount {
  readonly method: string;
  /** HTTP status, or `<error>` where there was no answer, as client-go's metrics have it. */
  readonly code: string;
  count: number;
}

export interface KubeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path below the server, already escaped. */
  readonly path: string;
  readonly query?: Query;
  readonly body?: unknown;
  /** Of the body; default JSON. */
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
  /** How long a stream may be silent; 0: for ever. Default: as a watch. */
  readonly idleMs?: number;
}

/** What another client than this one needs to ask as the same user. */
export interface Way {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** With the CA, the client's certificate, and the proxy. */
  readonly agent: HttpAgent | undefined;
}

/** Connections at once for what is no watch. */
const CONNECTIONS = 8;
const CONNECT_MS = 10_000;
const CLOSING_MS = 1_000;
const TIMEOUT_MS = 15_000;
const WATCH_IDLE_MS = 120_000;
/** Files of credentials and of the CA are read again after this long. */
const TARGET_MS = 1_000;
/** Enough of a page that a proxy gave instead of a Status. */
const MAX_STRANGE_TEXT = 300;

interface Pools {
  readonly key: string;
  readonly calls: Dispatcher;
  /** A watch has its connection to itself. */
  readonly watches: Dispatcher;
}

interface Target {
  readonly server: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly pools: Pools;
  readonly agent: HttpAgent | undefined;
}

export class KubeTransport {
  readonly #options: TransportOptions;
  #config: KubeConfig;
  #pools: Pools | undefined;
  #known: { readonly target: Promise<Target>; readonly untilMs: number } | undefined;
  readonly #requests = new Map<string, RequestCount>();

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#config = options.load();
  }

  /** @throws KubeStatusError, KubeUnreachableError, KubeConfigError */
  async json<T>(call: KubeRequest): Promise<T> {
    return this.#knownTo(async () => {
      const answer = await this.#send(call, 'calls');
      if (answer.statusCode >= 300) throw await statusOf(answer);
      return (await reached(() => answer.body.json())) as T;
    });
  }

  /** The body of a watch as it comes. Ends when the server ends it; throws where the connection does. */
  async stream(call: KubeRequest): Promise<AsyncIterable<Buffer>> {
    return this.#knownTo(async () => {
      const answer = await this.#send(call, 'watches');
      if (answer.statusCode >= 300) throw await statusOf(answer);
      return answer.body;
    });
  }

  /** Calls `dial`, and again with the credentials of now where its error has code 401. */
  async connect<T>(path: string, query: Query, dial: (way: Way) => Promise<T>): Promise<T> {
    return this.#knownTo(async () => {
      const { server, headers, agent } = await this.#target();
      return dial({ url: urlOf(server, path, query), headers, agent });
    });
  }

  /** All that were asked so far; a watch counts when it begins. */
  requests(): Iterable<Readonly<RequestCount>> {
    return this.#requests.values();
  }

  #count(method: string, code: string): void {
    const key = `${method} ${code}`;
    const known = this.#requests.get(key);
    if (known === undefined) this.#requests.set(key, { method, code, count: 1 });
    else known.count += 1;
  }

  /** Watches are ended by whoever began them; what else is under way has a moment to end by itself. */
  async close(): Promise<void> {
    const pools = this.#pools;
    this.#pools = undefined;
    this.#known = undefined;
    if (pools === undefined) return;
    const all = [pools.calls, pools.watches];
    await Promise.race([
      Promise.allSettled(all.map((pool) => pool.close())),
      sleep(CLOSING_MS, undefined, { ref: false }),
    ]);
    await Promise.allSettled(all.map((pool) => pool.destroy()));
  }

  /** Credentials may have been rotated, and client-node keeps those of an exec plugin until they say they expire. */
  async #knownTo<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Error) || Reflect.get(error, 'code') !== 401) throw error;
      this.#config = this.#options.load();
      this.#known = undefined;
      return call();
    }
  }

  async #send(call: KubeRequest, pool: 'calls' | 'watches'): Promise<Dispatcher.ResponseData> {
    const { server, headers, pools } = await this.#target();
    const { method, path, query = {}, body, contentType = 'application/json', signal, idleMs } = call;
    const answer = await reached(() =>
      request(urlOf(server, path, query), {
        method,
        ...(idleMs !== undefined && { bodyTimeout: idleMs }),
        dispatcher: pools[pool],
        headers: body === undefined ? headers : { ...headers, 'content-type': contentType },
        body: body === undefined ? null : JSON.stringify(body),
        signal: signal ?? null,
      }),
    ).catch((error: unknown) => {
      if (error instanceof KubeUnreachableError) this.#count(method, '<error>');
      throw error;
    });
    this.#count(method, String(answer.statusCode));
    // Whoever reads it is told as well; where nobody does, its end is nobody's failure.
    answer.body.on('error', () => undefined);
    return answer;
  }

  #target(): Promise<Target> {
    if (this.#known !== undefined && performance.now() < this.#known.untilMs) return this.#known.target;
    const target = this.#findTarget();
    const known = { target, untilMs: performance.now() + TARGET_MS };
    this.#known = known;
    target.catch(() => {
      if (this.#known === known) this.#known = undefined;
    });
    return target;
  }

  async #findTarget(): Promise<Target> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new KubeConfigError('the kubeconfig has no current cluster');
    const found: RequestOptions = {};
    try {
      await this.#config.applyToHTTPSOptions(found);
    } catch (error) {
      throw new KubeConfigError(`no credentials for ${cluster.server}: ${firstLine(error)}`, { cause: error });
    }
    const headers: Record<string, string> = { accept: 'application/json', 'user-agent': this.#options.userAgent };
    for (const [name, value] of Object.entries(found.headers ?? {})) headers[name.toLowerCase()] = String(value);
    if (typeof found.auth === 'string')
      headers['authorization'] = `Basic ${Buffer.from(found.auth).toString('base64')}`;
    const agent = found.agent instanceof HttpAgent ? found.agent : undefined;
    return {
      server: cluster.server.replace(/\/$/, ''),
      headers,
      pools: this.#poolsFor(found, cluster.proxyUrl),
      agent,
    };
  }

  /** New files of the CA or of a client certificate are a new pool; the old one ends with its last request. */
  #poolsFor({ ca, cert, key, rejectUnauthorized, servername }: RequestOptions, proxy: string | undefined): Pools {
    const tls = withoutAbsent({ ca, cert, key, rejectUnauthorized, servername });
    const hash = createHash('sha256').update(JSON.stringify([Object.entries(tls).map(String), proxy]));
    const id = hash.digest('hex');
    if (this.#pools?.key === id) return this.#pools;
    void this.#pools?.calls.close();
    void this.#pools?.watches.close();
    const { timeoutMs = TIMEOUT_MS, watchIdleMs = WATCH_IDLE_MS } = this.#options;
    const make = (options: Agent.Options): Dispatcher => {
      const connect = { ...tls, timeout: CONNECT_MS, keepAlive: true, keepAliveInitialDelay: 30_000 };
      if (proxy === undefined) return new Agent({ ...options, connect });
      if (!/^https?:/.test(proxy)) throw new KubeConfigError(`proxy-url ${proxy}: only http and https are known`);
      return new ProxyAgent({ ...options, uri: proxy, requestTls: connect });
    };
    this.#pools = {
      key: id,
      calls: make({ connections: CONNECTIONS, headersTimeout: timeoutMs, bodyTimeout: timeoutMs }),
      watches: make({ headersTimeout: timeoutMs, bodyTimeout: watchIdleMs }),
    };
    return this.#pools;
  }
}

function urlOf(server: string, path: string, query: Query): URL {
  const url = new URL(server + path);
  for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, value);
  return url;
}

function withoutAbsent<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const present = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(present) as { [K in keyof T]?: NonNullable<T[K]> };
}

/** What the network does to a request, as one error. An abort of the caller's passes through. */
async function reached<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') throw error;
    throw new KubeUnreachableError(`the API server cannot be reached: ${firstLine(error)}`, { cause: error });
  }
}

interface Status {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: readonly StatusCause[]; readonly retryAfterSeconds?: number };
}

async function statusOf(answer: Dispatcher.ResponseData): Promise<KubeStatusError> {
  const text = await answer.body.text().catch(() => '');
  let status: Status = {};
  try {
    status = JSON.parse(text) as Status;
  } catch {
    // A page of a proxy.
  }
  const seconds = Number(answer.headers['retry-after'] ?? status.details?.retryAfterSeconds);
  const message = status.message ?? (text.slice(0, MAX_STRANGE_TEXT) || `HTTP ${answer.statusCode}`);
  return new KubeStatusError(answer.statusCode, status.reason ?? '', message, {
    causes: status.details?.causes,
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
  });
}

function firstLine(error: unknown): string {
  const { message, cause } = error as Error & { cause?: Error };
  return (message || cause?.message || String(error)).split('\n')[0] ?? '';
}
