/**
 * Which replicas of the operator live: each keeps one Lease and watches those of the others. A Lease counts as long as
 * it was seen to change within its duration, by the clock of whoever looks: clocks of machines are not compared. When one
 * that is seen for the first time was written, the API server says, as it says of our own.
 */
import { randomBytes } from 'node:crypto';
import { KubeStatusError } from './kube-error.ts';
import { collectionPath, type KubeObject, objectPath, type Resource } from './objects.ts';
import { keyOfObject, Reflector } from './reflector.ts';
import { type KubeTransport, PATCH_TYPES } from './transport.ts';

const LEASES: Resource = { group: 'coordination.k8s.io', version: 'v1', plural: 'leases' };
const NAME_LABEL = 'app.kubernetes.io/name';

export interface ReplicaTimes {
  /** How long a replica counts after it was last heard of. */
  readonly durationMs: number;
  readonly renewMs: number;
  /** What a replica left that died is removed after this long. */
  readonly leftMs: number;
}

const TIMES: ReplicaTimes = { durationMs: 10_000, renewMs: 3_000, leftMs: 600_000 };
const TICK_MS = 500;
/** Times of the API server are seconds, and those of several servers differ a little. */
const SERVER_SLACK_MS = 2_000;

export interface ReplicaLeasesOptions {
  readonly transport: KubeTransport;
  readonly namespace: string;
  /** Of all replicas: the label of their Leases, and how their names begin. */
  readonly application: string;
  /** Of this replica, such as the name of its pod; something random is added. */
  readonly name: string;
  /** The replicas that live, this one among them, in order; at first, at each change, and when ours was lost and is back. */
  readonly onChange: (live: readonly string[]) => void;
  readonly onFailure?: (error: unknown) => void;
  readonly times?: Partial<ReplicaTimes>;
}

interface Heard {
  readonly uid: string;
  readonly renewTime: string;
  /** Monotonic. */
  readonly atMs: number;
}

export class ReplicaLeases {
  /** Of this replica, and name of its Lease. */
  readonly id: string;
  readonly #options: ReplicaLeasesOptions;
  readonly #times: ReplicaTimes;
  readonly #abort = new AbortController();
  readonly #reflector: Reflector<KubeObject>;
  readonly #heard = new Map<string, Heard>();
  #renewedAt: number | undefined;
  /** What the API server's clock is ahead of our monotonic one. */
  #serverAheadMs: number | undefined;
  #told: string | undefined;
  #timers: NodeJS.Timeout[] = [];
  #renewing: Promise<void> | undefined;
  #watching: Promise<void> | undefined;

  constructor(options: ReplicaLeasesOptions) {
    const { transport, namespace, application, name } = options;
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
    const own = name
      .toLowerCase()
      .replace(/[^a-z0-9-]+/g, '-')
      .slice(0, 40);
    this.id = `${application}-${own}-${randomBytes(3).toString('hex')}`;
    this.#reflector = new Reflector({
      transport,
      path: collectionPath(LEASES, namespace),
      query: { labelSelector: `${NAME_LABEL}=${application}` },
      read: (lease) => lease,
    });
    this.#reflector.listen((delta) => {
      if (delta?.type === 'DELETED') this.#heard.delete(keyOfObject(delta.object));
      else if (delta !== undefined) this.#hear(delta.object);
      else this.#judge();
    });
  }

  /** Resolves when this replica is known and knows the others. */
  async start(): Promise<void> {
    await this.#beat();
    if (this.#abort.signal.aborted) return;
    this.#watching = this.#reflector.run(this.#abort.signal);
    const every = (ms: number, work: () => void) => this.#timers.push(setInterval(work, ms));
    every(this.#times.renewMs, () => void this.#beat());
    every(TICK_MS, () => this.#judge());
  }

  /** Others take over at once. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#abort.abort();
    await Promise.all([this.#renewing, this.#watching]);
    await this.#remove(this.id).catch(this.#options.onFailure ?? (() => undefined));
  }

  /** One at a time. */
  #beat(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renew(): Promise<void> {
    const { transport, namespace } = this.#options;
    const startedAt = performance.now();
    const renewTime = microTime();
    try {
      const own = await transport
        .json<KubeObject>({
          method: 'PATCH',
          path: objectPath(LEASES, { namespace, name: this.id }),
          contentType: PATCH_TYPES.merge,
          body: { spec: { renewTime } },
        })
        .catch((error: unknown) => {
          if (!(error instanceof KubeStatusError) || error.code !== 404) throw error;
          return this.#create(renewTime);
        });
      const writtenMs = writtenAt(own);
      this.#serverAheadMs = writtenMs === undefined ? undefined : writtenMs - performance.now();
      // Counted from before the request: the server may have noted it then.
      const wasLost = this.#renewedAt === undefined || startedAt - this.#renewedAt > this.#times.durationMs;
      this.#renewedAt = startedAt;
      if (wasLost) this.#told = undefined;
    } catch (error) {
      this.#options.onFailure?.(error);
    }
  }

  #create(renewTime: string): Promise<KubeObject> {
    const { transport, namespace, application } = this.#options;
    return transport.json({
      method: 'POST',
      path: collectionPath(LEASES, namespace),
      body: {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: this.id, namespace, labels: { [NAME_LABEL]: application } },
        spec: {
          holderIdentity: this.id,
          leaseDurationSeconds: Math.ceil(this.#times.durationMs / 1000),
          acquireTime: renewTime,
          renewTime,
        },
      },
    });
  }

  #hear(lease: KubeObject): void {
    const key = keyOfObject(lease);
    const { renewTime = '' } = (lease['spec'] ?? {}) as { renewTime?: string };
    const known = this.#heard.get(key);
    if (known?.renewTime === renewTime && known.uid === lease.metadata.uid) return;
    const ageMs = known === undefined ? this.#ageOf(lease) : 0;
    this.#heard.set(key, { uid: lease.metadata.uid, renewTime, atMs: performance.now() - ageMs });
  }

  /** A replica that died before this one came does not count for its whole duration once more. */
  #ageOf(lease: KubeObject): number {
    const writtenMs = writtenAt(lease);
    if (writtenMs === undefined || this.#serverAheadMs === undefined) return 0;
    return Math.max(0, performance.now() + this.#serverAheadMs - writtenMs - SERVER_SLACK_MS);
  }

  /** While ours is not renewed we hear of nobody, and nothing changes: whoever took over is obeyed by the hosts. */
  #judge(): void {
    const now = performance.now();
    const { durationMs, leftMs } = this.#times;
    if (this.#renewedAt === undefined || now - this.#renewedAt > durationMs) return;
    if (this.#reflector.resourceVersion === undefined) return;
    const live = new Set([this.id]);
    for (const [key, { atMs }] of this.#heard) {
      const name = key.slice(key.indexOf('/') + 1);
      if (now - atMs < durationMs) live.add(name);
      else if (now - atMs > leftMs && name !== this.id) {
        this.#heard.delete(key);
        void this.#remove(name).catch(this.#options.onFailure ?? (() => undefined));
      }
    }
    const sorted = [...live].sort();
    if (this.#told === sorted.join()) return;
    this.#told = sorted.join();
    this.#options.onChange(sorted);
  }

  async #remove(name: string): Promise<void> {
    const { transport, namespace } = this.#options;
    try {
      await transport.json({ method: 'DELETE', path: objectPath(LEASES, { namespace, name }) });
    } catch (error) {
      if (!(error instanceof KubeStatusError) || error.code !== 404) throw error;
    }
  }
}

/** When the API server last wrote it, by its own clock, in ms since the epoch. Source: metav1.ManagedFieldsEntry. */
function writtenAt({ metadata }: KubeObject): number | undefined {
  const { managedFields = [] } = metadata as { managedFields?: readonly { readonly time?: string }[] };
  const times = managedFields.map(({ time = '' }) => Date.parse(time)).filter(Number.isFinite);
  return times.length === 0 ? undefined : Math.max(...times);
}

/** metav1.MicroTime: exactly six digits. */
function microTime(): string {
  return new Date().toISOString().replace(/Z$/, '000Z');
}
