/** The real things behind a session in a cluster: its API server, and for the operator the hosts and the loop. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Subscription } from 'rxjs';
import { OPERATOR_NAMESPACE } from './api/host-ssh.ts';
import { KUBERNETES, type LoopSupervisor, type Session, type SessionOptions } from './cli/session.ts';
import { driveHosts, type LoopPlace } from './drive-hosts.ts';
import { loadKubeConfig, namespaceOf } from './kube/kube-config.ts';
import { KubeTransport } from './kube/transport.ts';
import type { ControllerEvent } from './reconcile/loop-event.ts';
import { HostShells } from './remote/host-shells.ts';
import { welcome } from './remote/welcome.ts';
import { KubeSecrets } from './store/kube-secrets.ts';
import { openKubeStore, uidOfCluster } from './store/kube-store.ts';

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
  const loop = isOperator ? new OperatorLoop({ store, secrets, shells }) : ELSEWHERE;
  return {
    store,
    secrets,
    storeDir: join(process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'qemu-operator', KUBERNETES),
    storeName: KUBERNETES,
    loop,
    apiServer: {
      reach: (signal) => uidOfCluster(transport, signal),
      requests: () => transport.requests(),
    },
    shellFor: (host) => shells.of(host),
    tryLogin: (attempt) => shells.attempt(attempt),
    welcome: (attempt, how) => welcome((one) => shells.attempt(one), attempt, how),
    close: async () => {
      if (loop instanceof OperatorLoop) loop.stop();
      await shells.close();
      await store.close();
    },
  };
}

function version(): string {
  const text = readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** In a cluster the operator runs the loop, and commands only edit and read. */
const ELSEWHERE: LoopSupervisor = {
  running: false,
  start: () => 'elsewhere',
  whoRuns: () => 'service',
  standBy: () => Promise.reject(new Error('only the operator runs the loop')),
  onEvent: () => undefined,
};

class OperatorLoop implements LoopSupervisor {
  readonly #place: LoopPlace;
  readonly #listeners: ((event: ControllerEvent) => void)[] = [];
  #state: 'before' | 'running' | 'ended' = 'before';
  #subscription: Subscription | undefined;

  constructor(place: LoopPlace) {
    this.#place = place;
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
    const subscription = await driveHosts(this.#place, (event) => {
      for (const listener of this.#listeners) listener(event);
    });
    if (this.running) this.#subscription = subscription;
    else subscription.unsubscribe();
  }

  stop(): void {
    this.#state = 'ended';
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
  }
}
