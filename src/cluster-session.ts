/** The real things behind a session in a cluster: its API server, and for the operator the hosts and the loop. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ReplaySubject, Subscription } from 'rxjs';
import { messageOf } from './api/errors.ts';
import { OPERATOR_NAMESPACE } from './api/host-ssh.ts';
import { type ApiServer, KUBERNETES, type LoopSupervisor, type Session, type SessionOptions } from './cli/session.ts';
import { driveHosts, type LoopPlace } from './drive-hosts.ts';
import { configFolder, version } from './installation.ts';
import { reviewAccess } from './kube/access-review.ts';
import { followObject } from './kube/follow-object.ts';
import { loadKubeConfig, namespaceOf } from './kube/kube-config.ts';
import { KubeStatusError } from './kube/kube-error.ts';
import { KubeUsers } from './kube/kube-users.ts';
import type { KubeObject } from './kube/objects.ts';
import { ReplicaLeases } from './kube/replica-leases.ts';
import { KubeTransport } from './kube/transport.ts';
import { changes } from './reconcile/changes.ts';
import type { ControllerEvent } from './reconcile/loop-event.ts';
import { type Owns, ownedBy } from './reconcile/rendezvous.ts';
import { HostShells } from './remote/host-shells.ts';
import { welcome } from './remote/welcome.ts';
import { CheckedSecrets } from './store/checked-secrets.ts';
import { CheckedStore } from './store/checked-store.ts';
import { EventRecorder } from './store/kube-events.ts';
import { uidOfCluster } from './store/kube-identity.ts';
import { KubeNamespaces } from './store/kube-namespaces.ts';
import { KubeSecrets } from './store/kube-secrets.ts';
import { openKubeStore } from './store/kube-store.ts';
import { Rights } from './store/rights.ts';
import type { Store } from './store/store.ts';
import { ClusterStreams, type StreamServer } from './streams/cluster-streams.ts';
import { RefusedError } from './streams/status.ts';

/** As managedFields show them: what the operator sees and does, and what people and models want. */
const FIELD_MANAGERS = { operator: 'qemu-operator', command: 'qemu-operator-cli' };

export async function openClusterSession(options: SessionOptions): Promise<Session> {
  const isOperator = options.role === 'run';
  const load = () => loadKubeConfig(options);
  const transport = new KubeTransport({ load, userAgent: `qemu-operator/${version()}` });
  const fieldManager = isOperator ? FIELD_MANAGERS.operator : FIELD_MANAGERS.command;
  const store = await openKubeStore({ transport, fieldManager, cached: isOperator });
  const operatorNamespace =
    options.operatorNamespace ?? (isOperator ? namespaceOf(load()) : undefined) ?? OPERATOR_NAMESPACE;
  const secrets = new KubeSecrets({ transport, operatorNamespace, fieldManager });
  const shells = new HostShells(store, secrets, {
    isolated: isOperator,
    allowLocal: options.allowLocalHost === true,
  });
  const leases = { transport, namespace: operatorNamespace };
  const namespaces = new KubeNamespaces(transport);
  const loop = isOperator ? new OperatorLoop({ store, secrets, namespaces, shells }, leases) : ELSEWHERE;
  return {
    store,
    secrets,
    storeDir: join(configFolder(), KUBERNETES),
    storeName: KUBERNETES,
    loop,
    apiServer: {
      reach: (signal) => uidOfCluster(transport, signal),
      requests: () => transport.requests(),
      userOf: usersOf(transport, store.writingAs(FIELD_MANAGERS.command), secrets),
      front: {
        follow: (onChange, onFailure, signal) => {
          const tell = (object?: KubeObject) =>
            onChange(object?.['data'] as Readonly<Record<string, string>> | undefined);
          return followObject({ transport, ...AUTHENTICATION, onChange: tell, onFailure, signal });
        },
        review: (spec, signal) => reviewAccess(transport, spec, signal),
      },
    },
    shellFor: (host) => shells.of(host),
    streamsOf: async (vm) => new ClusterStreams(streamServer(transport), vm),
    tryLogin: (attempt) => shells.attempt(attempt),
    welcome: (attempt, how) => welcome((one) => shells.attempt(one), attempt, how),
    close: async () => {
      if (loop instanceof OperatorLoop) loop.stop();
      await shells.close();
      // The hosts are let go: now others may have them.
      if (loop instanceof OperatorLoop) await loop.leave();
      await namespaces.close();
      await store.close();
    },
  };
}

/** What a token must have been issued for, to be shown to the operator. One for the API server is refused. */
const AUDIENCE = 'qemu-operator';

/** The operator acts for its users as far as each of them could act. */
function usersOf(transport: KubeTransport, store: Store, secrets: KubeSecrets): ApiServer['userOf'] {
  const users = new KubeUsers(transport, AUDIENCE);
  return async (token) => {
    const user = await users.userOf(token);
    if (user === undefined) return undefined;
    const { username, uid = '' } = user;
    const rights = new Rights(username, (what) => users.allows(user, what));
    const checked = { store: new CheckedStore(store, rights), secrets: new CheckedSecrets(secrets, rights) };
    const requireHost = async (name: string) => {
      await checked.store.requireCreate('Host');
      await checked.secrets.requireSet({ namespace: secrets.operatorNamespace, name });
    };
    return { username, uid, ...checked, requireHost };
  };
}

/** Where an API server says by what it is known. */
const AUTHENTICATION = {
  resource: { group: '', version: 'v1', plural: 'configmaps' },
  ref: { namespace: 'kube-system', name: 'extension-apiserver-authentication' },
};

function streamServer(transport: KubeTransport): StreamServer {
  return {
    body: async (path, query, signal) => {
      try {
        return await transport.stream({ method: 'GET', path, query, signal, idleMs: 0 });
      } catch (error) {
        throw error instanceof KubeStatusError ? new RefusedError(error.code, error.message) : error;
      }
    },
    connect: (path, query, dial) => transport.connect(path, query, dial),
  };
}

/** In a cluster the operator runs the loop, and commands only edit and read. */
const ELSEWHERE: LoopSupervisor = {
  running: false,
  start: () => 'elsewhere',
  whoRuns: () => 'service',
  standBy: (signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true })),
  onEvent: () => undefined,
};

/** Whose life is told as Events. */
const KINDS_TOLD = ['VirtualMachine', 'Host'] as const;

/** The loop of one of several replicas, on the Hosts that are its own. */
class OperatorLoop implements LoopSupervisor {
  readonly #place: LoopPlace;
  readonly #leases: ReplicaLeases;
  readonly #owned$ = new ReplaySubject<Owns>(1);
  readonly #ended = new AbortController();
  readonly #transport: KubeTransport;
  #owns: Owns = () => false;
  readonly #listeners: ((event: ControllerEvent) => void)[] = [];
  #state: 'before' | 'running' | 'ended' = 'before';
  #subscription: Subscription | undefined;

  constructor(place: LoopPlace, { transport, namespace }: { transport: KubeTransport; namespace: string }) {
    this.#place = { ...place, owned$: this.#owned$ };
    this.#transport = transport;
    this.#leases = new ReplicaLeases({
      transport,
      namespace,
      application: 'qemu-operator',
      name: hostname(),
      onChange: (live) => {
        this.#owns = ownedBy(this.#leases.id, live);
        this.#owned$.next(this.#owns);
      },
      onFailure: (error) => this.#failed(error),
    });
  }

  get running(): boolean {
    return this.#state === 'running';
  }

  onEvent(listener: (event: ControllerEvent) => void): void {
    this.#listeners.push(listener);
  }

  whoRuns(): 'here' | 'service' {
    return this.running ? 'here' : 'service';
  }

  start(): 'here' {
    if (this.#state === 'before') void this.#drive();
    return 'here';
  }

  async standBy(_signal: AbortSignal, onStarted?: () => void): Promise<void> {
    this.start();
    onStarted?.();
  }

  async #drive(): Promise<void> {
    this.#state = 'running';
    const [subscription] = await Promise.all([
      driveHosts(this.#place, (event) => this.#tell(event)),
      this.#leases.start(),
    ]);
    subscription.add(this.#recordEvents());
    if (this.running) this.#subscription = subscription;
    else subscription.unsubscribe();
  }

  #recordEvents(): Subscription {
    const { signal } = this.#ended;
    const recorder = new EventRecorder({
      transport: this.#transport,
      instance: this.#leases.id,
      owns: (hostName) => this.#owns(hostName),
      onFailure: (error) => this.#failed(error),
      signal,
    });
    const told = new Subscription();
    for (const kind of KINDS_TOLD) told.add(changes(this.#place.store, kind, signal).subscribe(recorder.listener()));
    return told;
  }

  #failed(error: unknown): void {
    this.#tell({ type: 'failed', vm: '*', error, message: messageOf(error), host: '' });
  }

  #tell(event: ControllerEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  async leave(): Promise<void> {
    await this.#leases.stop();
  }

  stop(): void {
    this.#state = 'ended';
    this.#ended.abort();
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
  }
}
