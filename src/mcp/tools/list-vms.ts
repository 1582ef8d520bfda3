/** list_vms: the VMs of a host, from the store alone. Folders without an object are listed too. */
import { z } from 'zod';
import { findCondition } from '../../api/conditions.ts';
import { vmNameOf } from '../../api/effective-spec.ts';
import { oneLine, quoteValue } from '../../api/errors.ts';
import { DEFAULT_VM_DIR, type Host } from '../../api/host.ts';
import { parseQuantity, qemuSize } from '../../api/quantity.ts';
import type { VirtualMachine } from '../../api/virtual-machine.ts';
import {
  ARCHITECTURE_WORDS,
  architectureOf,
  hostArguments,
  namespaceArgument,
  parseArguments,
  publishedSchema,
} from '../arguments.ts';
import { type Envelope, Refusal, succeeded } from '../envelope.ts';
import { hostFor } from '../hosts.ts';
import { shownDisks } from '../manage/disks.ts';
import { outputSchema } from '../output-schema.ts';
import type { Tool, ToolContext } from '../tool.ts';
import { visibleVms } from '../visible-vms.ts';

const DEFAULT_LIMIT = 50;

const listSchema = z.strictObject({
  status: z.enum(['running', 'stopped', 'all']).optional().describe('Default all'),
  arch: z.enum(ARCHITECTURE_WORDS).optional().describe('Only this guest CPU'),
  filter_name: z.string().max(253).optional().describe('Only names that contain this, any case'),
  vm_dir: z.string().min(1).max(1024).optional().describe('Only VMs in this folder'),
  ...hostArguments,
  namespace: namespaceArgument(),
  limit: z.int().min(1).max(200).optional().describe('VMs per answer (50)'),
  cursor: z.string().max(1024).optional().describe('next_cursor of the answer before'),
});
type ListArguments = z.infer<typeof listSchema>;

type Status = 'running' | 'stopped' | 'unknown';

interface ListedVm {
  readonly name: string;
  readonly arch: string | undefined;
  readonly vcpus: number | undefined;
  readonly memory: string | undefined;
  readonly disk: string | undefined;
  readonly status: Status;
  readonly managed: boolean;
  readonly host: string;
  readonly namespace?: string | undefined;
  readonly [more: string]: unknown;
}

export const listVms: Tool = {
  changes: false,
  definition: {
    name: 'list_vms',
    title: 'List VMs',
    description:
      'List the VMs of a host, sorted by name: arch, vcpus, memory, disk, status (running, stopped, unknown).',
    inputSchema: publishedSchema(listSchema),
    outputSchema: outputSchema({
      host: 'string',
      vm_count: 'integer',
      vms: 'array',
      next_cursor: 'string',
      error: 'object',
    }),
    annotations: {
      title: 'List VMs',
      readOnlyHint: true,
      destructiveHint: false,
      idempotentHint: true,
      openWorldHint: false,
    },
  },
  async run(input: unknown, context: ToolContext): Promise<Envelope> {
    const args = parseArguments(listSchema, input, context.say);
    const after = args.cursor === undefined ? undefined : positionOf(args.cursor, context);
    const hosts = await hostsOf(context, args);
    const matching = (await vmsOn(context, hosts, args)).filter((vm) => matches(vm, args)).sort(byPosition);
    const start = after === undefined ? 0 : matching.filter((vm) => position(vm) <= after).length;
    const page = matching.slice(start, start + (args.limit ?? DEFAULT_LIMIT));
    const last = page.at(-1);
    const more = last !== undefined && start + page.length < matching.length;
    const shown = args.host ?? (hosts.length === 1 ? (hosts[0]?.metadata.name ?? 'all') : 'all');
    return succeeded(context.say.listed(shown, args.status ?? 'all', matching.length), {
      host: shown,
      vm_count: matching.length,
      vms: page,
      ...(more ? { next_cursor: Buffer.from(position(last)).toString('base64url') } : {}),
      ...(matching.length === 0 ? await elsewhere(context, hosts) : {}),
    });
  },
};

async function hostsOf(context: ToolContext, args: ListArguments): Promise<readonly Host[]> {
  const host = await hostFor(context, args);
  const hosts = host === undefined ? (await context.store.list('Host')).items : [host];
  await Promise.all(hosts.map(({ metadata }) => context.looks.first(metadata.name, context.signal)));
  return host === undefined ? hosts : [(await context.store.get('Host', { name: host.metadata.name })) ?? host];
}

async function vmsOn(context: ToolContext, hosts: readonly Host[], args: ListArguments): Promise<ListedVm[]> {
  const items = await visibleVms(context, args.namespace);
  return hosts.flatMap((host) => {
    const folder = args.vm_dir === DEFAULT_VM_DIR ? host.spec.vmDir : args.vm_dir?.replace(/(?<=.)\/+$/, '');
    const there = (vmDir: string) => folder === undefined || vmDir === folder || vmDir === args.vm_dir;
    const managed = items.filter(
      ({ spec }) => spec.hostName === host.metadata.name && there(spec.vmDir ?? host.spec.vmDir),
    );
    const folders = args.namespace === undefined ? (host.status?.unclaimed ?? []) : [];
    return [
      ...managed.map((vm) => managedVm(vm, host)),
      ...folders.filter(({ vmDir }) => there(vmDir)).map((one) => unmanagedVm(one, host)),
    ];
  });
}

/** running: a QEMU process exists. stopped: seen, and none does. */
function statusOf({ status }: VirtualMachine): Status {
  if (findCondition(status?.conditions, 'HostReachable')?.status !== 'True') return 'unknown';
  return status?.pid === undefined ? 'stopped' : 'running';
}

function managedVm(vm: VirtualMachine, host: Host): ListedVm {
  const { spec, status, metadata } = vm;
  const disks = shownDisks(vm, host).map(({ path, size, format }) => ({ path, size, format }));
  const ready = findCondition(status?.conditions, 'Ready');
  const memory = parseQuantity(status?.memory ?? spec.memory);
  const ips = (status?.interfaces ?? []).flatMap((one) => one.ips ?? []);
  return {
    name: vmNameOf(vm),
    arch: spec.architecture,
    vcpus: status?.vcpus ?? spec.vcpus,
    memory: memory === undefined ? undefined : qemuSize(memory),
    disk: diskText(disks[0]),
    disks,
    status: statusOf(vm),
    managed: true,
    host: host.metadata.name,
    namespace: metadata.namespace,
    uid: metadata.uid,
    resource_version: metadata.resourceVersion,
    phase: status?.phase ?? 'Pending',
    ...(ips.length === 0 ? {} : { ips }),
    // A VM that is as wanted needs no words.
    ...(ready === undefined || ready.status === 'True'
      ? {}
      : { reason: ready.reason, message: oneLine(ready.message, 300) }),
    ...(status?.pendingChanges === undefined ? {} : { restart_required: true }),
  };
}

function unmanagedVm(folder: NonNullable<NonNullable<Host['status']>['unclaimed']>[number], host: Host): ListedVm {
  const disks = (folder.disks ?? []).map(({ path, size }) => ({
    path: oneLine(path, 1024),
    size: size === undefined ? undefined : qemuSize(parseQuantity(size) ?? 0),
  }));
  const memory = parseQuantity(folder.memory ?? '');
  return {
    name: oneLine(folder.name, 128),
    arch: folder.architecture,
    vcpus: folder.vcpus,
    memory: memory === undefined ? undefined : qemuSize(memory),
    disk: diskText(disks[0]),
    disks,
    status: folder.running ? 'running' : 'stopped',
    managed: false,
    host: host.metadata.name,
    folder: oneLine(`${folder.vmDir}/${folder.name}`, 1200),
  };
}

function diskText(disk: { readonly path: string; readonly size?: string | undefined } | undefined): string | undefined {
  if (disk === undefined) return undefined;
  return `path=${disk.path.replaceAll(',', ',,')}${disk.size === undefined ? '' : `,size=${disk.size}`}`;
}

function matches(vm: ListedVm, { status = 'all', arch, filter_name }: ListArguments): boolean {
  return (
    (status === 'all' || vm.status === status) &&
    (arch === undefined || vm.arch === architectureOf(arch)) &&
    (filter_name === undefined || vm.name.toLowerCase().includes(filter_name.toLowerCase()))
  );
}

/** Where a VM stands in the order of all: by name, then what tells equal names apart. */
function position({ name, host, namespace, managed }: ListedVm): string {
  return [name, host, namespace ?? '', managed ? '0' : '1'].join('\u0000');
}

function byPosition(a: ListedVm, b: ListedVm): number {
  return position(a) < position(b) ? -1 : 1;
}

function positionOf(cursor: string, { say }: ToolContext): string {
  const text = Buffer.from(cursor, 'base64url').toString();
  if (text.split('\u0000').length === 4) return text;
  const allowed = say.cursorInvalid();
  const value = quoteValue(cursor);
  throw new Refusal(say.wrongForm({ field: 'cursor', value, allowed }), {
    code: 'InvalidArgument',
    field: 'cursor',
    value,
    allowed: [allowed],
    next: { tool: 'list_vms', arguments: {} },
  });
}

/** An empty answer says where there are VMs. */
async function elsewhere(
  context: ToolContext,
  hosts: readonly Host[],
): Promise<{ other_hosts?: Record<string, number> }> {
  const here = new Set(hosts.map(({ metadata }) => metadata.name));
  const items = await visibleVms(context);
  const counts: Record<string, number> = {};
  for (const { spec } of items) {
    if (spec.hostName !== undefined && !here.has(spec.hostName))
      counts[spec.hostName] = (counts[spec.hostName] ?? 0) + 1;
  }
  return Object.keys(counts).length === 0 ? {} : { other_hosts: counts };
}
