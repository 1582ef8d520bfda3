/** What a look asks a running QEMU. */
import type { GuestStatus } from '../reconcile/observed.ts';
import type { QmpClient } from './qmp.ts';

const QMP_MS = 3_000;
const AGENT_PORT = 'qga0';

export interface GuestAnswers {
  readonly status: GuestStatus;
  /** Capacity in bytes by name of the disk. */
  readonly diskBytes: ReadonlyMap<string, number>;
  /** Machine type with its version, such as pc-q35-7.2. */
  readonly machine: string;
  /** Whether something in the guest holds the agent's port open. */
  readonly agentOpen: boolean;
  /** QEMU's `info usernet`. @throws as the monitor does */
  flows(): Promise<string>;
}

export class GuestMonitor {
  /** One for the life of a process, and a connection has one process. */
  readonly #machines = new WeakMap<QmpClient, string>();
  /** Where the last look wanted the flows: they are asked with the rest. */
  readonly #seeking = new WeakSet<QmpClient>();

  /** All questions travel at once. @throws QmpError or QmpTimeoutError */
  async ask(client: QmpClient): Promise<GuestAnswers> {
    const flows = this.#seeking.delete(client) ? askFlows(client) : undefined;
    flows?.catch(() => undefined);
    const [status, blocks, chardevs, machine] = await Promise.all([
      client.execute('query-status', undefined, QMP_MS),
      client.execute('query-block', undefined, QMP_MS),
      client.execute('query-chardev', undefined, QMP_MS),
      this.#machines.get(client) ?? askMachine(client),
    ]);
    this.#machines.set(client, machine);
    return {
      status: guestStatus((status as { status?: string }).status),
      diskBytes: diskBytesOf(blocks),
      machine,
      agentOpen: isAgentOpen(chardevs),
      flows: () => {
        this.#seeking.add(client);
        return flows ?? askFlows(client);
      },
    };
  }
}

async function askMachine(client: QmpClient): Promise<string> {
  const type = await client.execute('qom-get', { path: '/machine', property: 'type' }, QMP_MS);
  return String(type).replace(/-machine$/, '');
}

async function askFlows(client: QmpClient): Promise<string> {
  return String(await client.execute('human-monitor-command', { 'command-line': 'info usernet' }, QMP_MS));
}

/** A process of before there was such a port has none. */
function isAgentOpen(chardevs: unknown): boolean {
  const list = chardevs as readonly { readonly label?: string; readonly 'frontend-open'?: boolean }[];
  return list.some(({ label, 'frontend-open': open }) => label === AGENT_PORT && open === true);
}

/** QMP's RunState (qapi/run-state.json). */
function guestStatus(status: string | undefined): GuestStatus {
  switch (status) {
    case 'running':
    case 'io-error':
    case 'guest-panicked':
    case 'internal-error':
    case 'shutdown':
      return status;
    case 'prelaunch':
    case 'inmigrate':
    case 'finish-migrate':
    case 'restore-vm':
      return 'starting';
    default:
      return 'paused';
  }
}

interface BlockInfo {
  readonly inserted?: { readonly 'node-name'?: string; readonly image?: { readonly 'virtual-size'?: number } };
}

function diskBytesOf(blocks: unknown): Map<string, number> {
  const bytes = new Map<string, number>();
  for (const { inserted } of blocks as BlockInfo[]) {
    const node = inserted?.['node-name'] ?? '';
    const size = inserted?.image?.['virtual-size'];
    if (node.startsWith('disk-') && size !== undefined) bytes.set(node.slice('disk-'.length), size);
  }
  return bytes;
}
