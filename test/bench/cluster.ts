/** A real API server of the bench's own, what is made and seen there, and operators on it as their image runs them. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findCondition } from '../../src/api/conditions.ts';
import { type Kind, keyOf } from '../../src/api/meta.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { CONTROLLER_NODE_OPTIONS } from '../../src/doctor/unit-files.ts';
import { loadKubeConfig } from '../../src/kube/kube-config.ts';
import { listAll } from '../../src/kube/list.ts';
import { KubeTransport } from '../../src/kube/transport.ts';
import { watchFrom } from '../../src/kube/watch.ts';
import { pathOfKind } from '../../src/store/kube-objects.ts';
import { buildClusterBinaries } from '../cluster/binaries.mjs';
import { TestCluster } from '../cluster/support/test-cluster.ts';
import { until } from '../e2e/support/wait.ts';
import type { Place } from './place.ts';

const CONNECTIONS = 8;

export async function startCluster(place: Place): Promise<TestCluster> {
  const error = await buildClusterBinaries((line: string) => console.log(line));
  if (error !== undefined) throw new Error(error);
  return TestCluster.start((end) => place.onEnd(end));
}

/** Requests of an administrator. */
export function adminOf(place: Place, cluster: TestCluster): KubeTransport {
  const load = () => loadKubeConfig({ kubeconfig: cluster.kubeconfig });
  const transport = new KubeTransport({ load, userAgent: 'bench' });
  place.onEnd(() => transport.close());
  return transport;
}

export interface Document {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** As `kubectl create`. */
export async function create(admin: KubeTransport, document: Document): Promise<void> {
  const { kind, metadata } = document;
  const path = kind === 'Namespace' ? '/api/v1/namespaces' : pathOfKind(kind as Kind, metadata.namespace);
  await admin.json({ method: 'POST', path, query: { fieldValidation: 'Strict' }, body: document });
}

/** As many at a time as a transport has connections. */
export async function createAll(admin: KubeTransport, documents: readonly Document[]): Promise<void> {
  const left = documents.values();
  const work = async () => {
    for (const document of left) await create(admin, document);
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, work));
}

/** All VMs of the cluster, by a watch of the bench's own. */
export class Watched {
  readonly vms = new Map<string, VirtualMachine>();
  /** When condition Running was first seen to be True, by key, ms since the epoch. */
  readonly running = new Map<string, number>();
  /** How many are as their spec wants. */
  ready = 0;
  changes = 0;
  /** Changes that left all but the metrics as it was. */
  metrics = 0;

  static async start(place: Place, admin: KubeTransport): Promise<Watched> {
    const watched = new Watched();
    const path = pathOfKind('VirtualMachine' satisfies Kind);
    const { items, resourceVersion } = await listAll(admin, { path });
    for (const item of items) watched.#see(item as unknown as VirtualMachine);
    const abort = new AbortController();
    const done = (async () => {
      for await (const event of watchFrom(admin, { path, resourceVersion, signal: abort.signal }))
        if (event.type !== 'BOOKMARK') watched.#see(event.object as unknown as VirtualMachine);
    })();
    place.onEnd(async () => {
      abort.abort();
      await done;
    });
    return watched;
  }

  #see(vm: VirtualMachine): void {
    const key = keyOf(vm.metadata);
    const before = this.vms.get(key);
    this.vms.set(key, vm);
    this.ready += Number(isTrue(vm, 'Ready')) - Number(before !== undefined && isTrue(before, 'Ready'));
    if (isTrue(vm, 'Running') && !this.running.has(key)) this.running.set(key, Date.now());
    if (before === undefined) return;
    this.changes += 1;
    if (calm(vm) === calm(before)) this.metrics += 1;
  }

  /** @throws where it takes longer */
  async untilReady(count: number, deadlineMs: number): Promise<void> {
    await until(
      `${count} VMs are ready`,
      () => this.ready,
      (ready) => ready >= count,
      deadlineMs,
    );
  }
}

function isTrue({ status }: VirtualMachine, type: string): boolean {
  return findCondition(status?.conditions, type)?.status === 'True';
}

/** What stays as it is while nothing happens. The API server sorts the fields. */
function calm({ metadata, spec, status }: VirtualMachine): string {
  const {
    resourceVersion: _revision,
    managedFields: _managed,
    ...rest
  } = metadata as typeof metadata & {
    managedFields?: unknown;
  };
  return JSON.stringify([rest, spec, { ...status, metrics: undefined }]);
}

export interface Write {
  /** When the API server received it, ms since the epoch. */
  readonly at: number;
  readonly verb: string;
  /** `virtualmachines`, `virtualmachines/status` */
  readonly resource: string;
  /** Of the object. */
  readonly key: string;
}

interface AuditLine {
  readonly verb: string;
  readonly userAgent?: string;
  readonly requestReceivedTimestamp: string;
  readonly objectRef?: { resource: string; subresource?: string; namespace?: string; name?: string };
}

const WRITING: ReadonlySet<string> = new Set(['create', 'update', 'patch', 'delete', 'deletecollection']);

/** What operators wrote, whether it changed anything or not, as the API server's audit log has it. */
export function writesOf(cluster: TestCluster): Write[] {
  const lines = readFileSync(cluster.path('audit.log'), 'utf8').split('\n').slice(0, -1);
  return lines.flatMap((text) => {
    const { verb, userAgent = '', requestReceivedTimestamp, objectRef } = JSON.parse(text) as AuditLine;
    if (!WRITING.has(verb) || !userAgent.startsWith('qemu-operator/') || objectRef === undefined) return [];
    const { resource, subresource, namespace, name = '' } = objectRef;
    return {
      at: Date.parse(requestReceivedTimestamp),
      verb,
      resource: subresource === undefined ? resource : `${resource}/${subresource}`,
      key: namespace === undefined ? name : `${namespace}/${name}`,
    };
  });
}

export interface Operator {
  readonly child: ChildProcess;
  readonly pid: number;
}

/** @param options of Node, before the program */
export async function startOperator(
  place: Place,
  cluster: TestCluster,
  options: readonly string[] = [],
): Promise<Operator> {
  const store = ['--store', 'kubernetes', '--kubeconfig', cluster.kubeconfig];
  const doors = ['--metrics-bind-address', '0', '--health-probe-bind-address', '0'];
  const words = [...store, 'run', '--log-format', 'json', ...doors];
  const program = join(place.built(), 'src', 'bin.js');
  const child = place.spawn(process.execPath, [...CONTROLLER_NODE_OPTIONS, ...options, program, ...words], {
    cwd: '/',
    env: { PATH: process.env['PATH'] ?? '', HOME: cluster.folder },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr?.setEncoding('utf8');
  let said = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (text: string) => {
      said = `${said}${text}`.slice(-5000);
      if (said.includes('controller started')) resolve();
    });
    void once(child, 'exit').then(() => reject(new Error(`the operator ended: ${said}`)));
  });
  return { child, pid: child.pid ?? 0 };
}
