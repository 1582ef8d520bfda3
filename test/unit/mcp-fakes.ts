/** Tools on a store in memory, with hosts and VMs as a loop would have seen them. */
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import type { HostStatus } from '../../src/api/host.ts';
import { API_VERSION } from '../../src/api/meta.ts';
import type { VirtualMachine, VirtualMachineStatus } from '../../src/api/virtual-machine.ts';
import { callTool } from '../../src/mcp/calls.ts';
import { Looks } from '../../src/mcp/looks.ts';
import type { Remotes } from '../../src/mcp/remote-hosts.ts';
import { TOOLS } from '../../src/mcp/server.ts';
import { type Language, sentencesFor } from '../../src/messages/language.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';
import type { Store } from '../../src/store/store.ts';

export const AT = '2026-01-02T03:04:05Z';

/** Another process runs the loop: nothing is waited for. */
const elsewhere = {
  start: () => 'elsewhere' as const,
  standBy: () => new Promise<void>(() => undefined),
  running: false,
  onEvent: () => undefined,
};

/** Nothing is kept, and no machine is reached. */
const noRemotes: Remotes = {
  secrets: new SecretFolder('/nowhere'),
  loginOf: async ({ port = 22, user = 'me' }) => ({ port, user }),
  keyFiles: true,
};

export interface Bench {
  readonly store: Store;
  addHost(name: string, status?: Partial<HostStatus>): Promise<void>;
  addVm(vmName: string, options?: VmOptions): Promise<VirtualMachine>;
  call(tool: string, args?: Record<string, unknown>, options?: BenchCall): Promise<Result>;
}

export interface VmOptions {
  readonly host?: string;
  readonly namespace?: string;
  readonly object?: string;
  readonly spec?: Readonly<Record<string, unknown>>;
  /** undefined: never seen. */
  readonly seen?: 'running' | 'stopped' | 'unreachable' | undefined;
  readonly status?: Partial<VirtualMachineStatus>;
}

export interface BenchCall {
  readonly language?: Language;
  readonly readOnly?: boolean;
  readonly noDelete?: boolean;
  readonly signal?: AbortSignal;
  readonly remotes?: Remotes;
}

export interface Result {
  readonly success: boolean;
  readonly message: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect
  readonly data: any;
}

export async function makeBench(): Promise<Bench> {
  const store = createMemoryStore();
  return {
    store,
    addHost: (name, status) => addHost(store, name, status),
    addVm: (vmName, options = {}) => addVm(store, vmName, options),
    call: (tool, args = {}, options = {}) => call(store, tool, args, options),
  };
}

function condition(type: string, status: 'True' | 'False' | 'Unknown', reason: string) {
  return { type, status, reason, message: `${type} ${status}`, lastTransitionTime: AT };
}

async function addHost(store: Store, name: string, status: Partial<HostStatus> = {}): Promise<void> {
  const manifest = parseManifest({
    apiVersion: API_VERSION,
    kind: 'Host',
    metadata: { name },
    spec: { local: {}, vmDir: '/vms', allowedPaths: ['/'] },
  });
  const { metadata } = await store.create(manifest as Manifest<'Host'>);
  const conditions = [condition('Ready', 'True', 'Ready')];
  const info = { qemu: { x86_64: '7.2.22', arm64: '7.2.22' } };
  await store.updateStatus('Host', metadata, { conditions, info, ...status }, { uid: metadata.uid });
}

async function addVm(store: Store, vmName: string, options: VmOptions): Promise<VirtualMachine> {
  const { host = 'localhost', namespace = 'default', object = vmName, spec = {}, status = {} } = options;
  const seen = 'seen' in options ? options.seen : 'stopped';
  const manifest = parseManifest({
    apiVersion: API_VERSION,
    kind: 'VirtualMachine',
    metadata: { name: object, namespace },
    spec: { hostName: host, vmName, architecture: 'x86_64', powerState: 'PoweredOff', ...spec },
  });
  const vm = await store.create(manifest as Manifest<'VirtualMachine'>);
  if (seen === undefined) return vm;
  const running = seen === 'running';
  const conditions =
    seen === 'unreachable'
      ? [condition('Ready', 'Unknown', 'HostUnreachable'), condition('HostReachable', 'False', 'HostUnreachable')]
      : [
          condition('Ready', 'True', running ? 'Running' : 'Stopped'),
          condition('Running', running ? 'True' : 'False', running ? 'Running' : 'Stopped'),
          condition('HostReachable', 'True', 'Ready'),
        ];
  return store.updateStatus(
    'VirtualMachine',
    vm.metadata,
    {
      observedGeneration: 1,
      phase: running ? 'Running' : 'Stopped',
      conditions,
      ...(running ? { pid: 42 } : {}),
      ...status,
    },
    { uid: vm.metadata.uid },
  );
}

async function call(store: Store, name: string, args: Record<string, unknown>, options: BenchCall): Promise<Result> {
  const tool = TOOLS.find(({ definition }) => definition.name === name);
  if (tool === undefined) throw new Error(`no tool ${name}`);
  const { language = 'en', readOnly = false, noDelete = false, remotes = noRemotes } = options;
  const { signal = new AbortController().signal } = options;
  const [say, looks] = [sentencesFor(language), new Looks(elsewhere)];
  const context = { store, language, say, looks, noDelete, signal, remotes };
  const { structuredContent, isError, content } = await callTool(tool, args, context, {
    readOnly,
    log: (line) => {
      throw new Error(line);
    },
  });
  const result = structuredContent as unknown as Result;
  if (isError === result.success || content[0]?.text !== JSON.stringify(result)) throw new Error('a crooked result');
  return result;
}
