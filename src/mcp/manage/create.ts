/** action create: a stopped VM with its disks. */
import { createHash } from 'node:crypto';
import { type Manifest, parseManifest } from '../../api/admission.ts';
import { isTrue } from '../../api/conditions.ts';
import { vmNameOf } from '../../api/effective-spec.ts';
import { AlreadyExistsError, NotFoundError, quoteValue } from '../../api/errors.ts';
import { DEFAULT_VM_DIR, type Host } from '../../api/host.ts';
import { API_VERSION, DEFAULT_NAMESPACE } from '../../api/meta.ts';
import { absoluteFolder, absolutePath } from '../../api/schema.ts';
import type { VirtualMachine } from '../../api/virtual-machine.ts';
import { planObject } from '../../reconcile/plan.ts';
import { firstVersion } from '../../store/watching.ts';
import { architectureOf } from '../arguments.ts';
import { type DiskArgument, formatOf, parseDisk, parseMemory } from '../disk-argument.ts';
import { type Envelope, Refusal } from '../envelope.ts';
import { hostFor, requireQemu } from '../hosts.ts';
import { listed } from '../names.ts';
import { visibleVms } from '../visible-vms.ts';
import { shownDisks } from './disks.ts';
import { planned } from './dry-run.ts';
import { type Ending, endingOf, goneWhileWaiting, stalled, unfinished } from './outcome.ts';
import { answer, type Call } from './request.ts';

const DEFAULT_DISK = '20Gi';
const REMOVAL_MS = 10_000;

export async function create(call: Call): Promise<Envelope> {
  const { args, context } = call;
  const host = await hostOf(call);
  const wanted = wantedSpec(call, host);
  await requireNewName(call, host);
  const dryRun = args.dry_run === true;
  await requireQemu(context, host, { architecture: architectureOf(args.arch ?? 'x86_64'), ask: !dryRun });
  if (dryRun)
    return planned(call, host.metadata.name, planObject(undefined, await createObject(call, host, wanted.spec), host));
  let vm = await createObject(call, host, wanted.spec);
  let ending = await endingOf(call, vm, isCreated);
  // What only the host knows of a file that was there before: its size and its format.
  for (const format of [wanted.format, other(wanted.format)]) {
    if (ending.kind === 'stalled' && wanted.sizeLeftOpen && ending.reason === 'InvalidSpec') {
      vm = await withDefaultSize(call, ending.vm);
      ending = await endingOf(call, vm, isCreated);
    }
    if (ending.kind !== 'stalled' || ending.reason !== 'DiskFormatMismatch' || format !== wanted.format) break;
    await remove(call, ending.vm);
    vm = await createObject(call, host, inFormat(wanted.spec, other(format)));
    ending = await endingOf(call, vm, isCreated);
  }
  return conclude(call, host, ending);
}

async function hostOf({ args, context }: Call): Promise<Host> {
  const host = await hostFor(context, args);
  if (host !== undefined) return host;
  const { items } = await context.store.list('Host');
  const allowed = items.map(({ metadata }) => metadata.name).sort();
  throw new Refusal(context.say.hostNeeded(listed(allowed)), { code: 'InvalidArgument', field: 'host', allowed });
}

async function requireNewName({ args, context }: Call, host: Host): Promise<void> {
  const items = await visibleVms(context);
  const taken = items.find((vm) => vm.spec.hostName === host.metadata.name && vmNameOf(vm) === args.name);
  if (taken === undefined) return;
  if (taken.metadata.deletionTimestamp !== undefined) {
    throw new Refusal(context.say.beingDeleted(args.name), { code: 'AlreadyExists', field: 'name' });
  }
  throw alreadyExists({ args, context }, host.metadata.name);
}

function alreadyExists({ args, context }: Pick<Call, 'args' | 'context'>, host: string): Refusal {
  return new Refusal(context.say.alreadyExists(args.name, host), {
    code: 'AlreadyExists',
    field: 'name',
    value: quoteValue(args.name),
    next: { tool: 'list_vms', arguments: { filter_name: args.name } },
  });
}

type Spec = Readonly<Record<string, unknown>>;
type Format = 'qcow2' | 'raw';

interface Wanted {
  readonly spec: Spec;
  readonly format: Format;
  /** A path without a size: 20G, or the existing file's. */
  readonly sizeLeftOpen: boolean;
}

function wantedSpec({ args, context }: Call, host: Host): Wanted {
  const { say } = context;
  const disk: DiskArgument = args.disk === undefined ? {} : parseDisk(args.disk, say);
  const format = disk.path === undefined ? 'qcow2' : formatOf(disk.path);
  const sizeLeftOpen = disk.path !== undefined && disk.size === undefined;
  const vmDir = vmDirOf(args.vm_dir, host);
  requirePath(context, 'iso', args.iso, absolutePath());
  requirePath(context, 'vm_dir', vmDir, absoluteFolder());
  const spec = {
    hostName: host.metadata.name,
    architecture: architectureOf(args.arch ?? 'x86_64'),
    powerState: 'PoweredOff',
    vcpus: args.vcpus ?? 2,
    memory: args.memory === undefined ? '2Gi' : parseMemory(args.memory, say),
    disks: [{ name: 'root', ...(sizeLeftOpen ? {} : { size: DEFAULT_DISK }), ...disk, format }],
    ...(args.iso === undefined ? {} : { cdroms: [{ name: 'install', path: args.iso }] }),
    ...(vmDir === undefined ? {} : { vmDir }),
  };
  return { spec, format, sizeLeftOpen };
}

/** Absent, or the default that the tools' specification names: the Host's own. */
function vmDirOf(asked: string | undefined, host: Host): string | undefined {
  const folder = asked !== undefined && asked.length > 1 ? asked.replace(/\/+$/, '') : asked;
  return folder === DEFAULT_VM_DIR || folder === host.spec.vmDir ? undefined : folder;
}

function requirePath(
  { say }: Call['context'],
  field: string,
  path: string | undefined,
  schema: ReturnType<typeof absolutePath>,
): void {
  if (path === undefined) return;
  const issue = schema.safeParse(path).error?.issues[0];
  if (issue === undefined) return;
  const value = quoteValue(path);
  throw new Refusal(say.wrongForm({ field, value, allowed: issue.message }), {
    code: 'InvalidArgument',
    field,
    value,
    allowed: [issue.message],
  });
}

function other(format: Format): Format {
  return format === 'raw' ? 'qcow2' : 'raw';
}

function inFormat(spec: Spec, format: Format): Spec {
  return { ...spec, disks: (spec['disks'] as readonly Spec[]).map((disk) => ({ ...disk, format })) };
}

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** The object's name: the VM's where it may be one, else made from it and told apart by a hash. */
export function objectNames(vmName: string, host: string): { readonly first: string; readonly otherwise: string } {
  const slug = vmName.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  const hash = createHash('sha256').update(`${host}/${vmName}`).digest('hex').slice(0, 6);
  const otherwise = `${slug}-${hash}`;
  return { first: SUBDOMAIN.test(vmName) ? vmName : otherwise, otherwise };
}

async function createObject(call: Call, host: Host, spec: Spec): Promise<VirtualMachine> {
  const { args, context } = call;
  const { first, otherwise } = objectNames(args.name, host.metadata.name);
  const make = (name: string) => {
    const asWritten = name === args.name ? spec : { ...spec, vmName: args.name };
    const metadata = { name, namespace: args.namespace ?? context.namespace ?? DEFAULT_NAMESPACE };
    const manifest = parseManifest({ apiVersion: API_VERSION, kind: 'VirtualMachine', metadata, spec: asWritten });
    return context.store.create(manifest as Manifest<'VirtualMachine'>, {
      asWritten,
      undeclared: ['powerState'],
      dryRun: args.dry_run === true,
    });
  };
  try {
    return await make(first);
  } catch (error) {
    if (!(error instanceof AlreadyExistsError)) throw error;
    // Two calls at the same time: the other one has made this very VM.
    await requireNewName(call, host);
    return make(otherwise);
  }
}

function withDefaultSize({ context }: Call, { metadata, spec }: VirtualMachine): Promise<VirtualMachine> {
  const disks = (spec.disks ?? []).map((disk) => ({ ...disk, size: disk.size ?? DEFAULT_DISK }));
  return context.store.patch('VirtualMachine', metadata, { spec: { disks } }, { uid: metadata.uid });
}

/** `qemu-img info` answers for every disk: the look has read their sizes. */
function isCreated({ spec, status }: VirtualMachine): boolean {
  const disks = status?.disks ?? [];
  return (
    isTrue(status?.conditions, 'DisksReady') &&
    !isTrue(status?.conditions, 'Stalled') &&
    (spec.disks ?? []).every(({ name }) => disks.some((disk) => disk.name === name && disk.virtualSize !== undefined))
  );
}

async function conclude(call: Call, host: Host, ending: Ending): Promise<Envelope> {
  const { args, context } = call;
  switch (ending.kind) {
    case 'gone':
      throw goneWhileWaiting(call);
    case 'unfinished':
      return unfinished(call, ending.vm, createdDetails(ending.vm, host));
    case 'stalled': {
      const made = ending.vm.status?.disks?.some(({ state }) => state === 'Created') === true;
      if (!made) await remove(call, ending.vm);
      throw stalled(call, ending, { removed: !made });
    }
    case 'done': {
      const note = context.looks.runsHere ? { note: context.say.nobodyWatches() } : {};
      const details = { ...createdDetails(ending.vm, host), completed: true, ...note };
      return answer(call, host.metadata.name, context.say.done(args.name, 'create'), details);
    }
  }
}

function createdDetails(vm: VirtualMachine, host: Host): Record<string, unknown> {
  const { metadata, spec, status } = vm;
  return {
    namespace: metadata.namespace,
    object: metadata.name,
    arch: spec.architecture,
    vcpus: spec.vcpus,
    memory: String(spec.memory).replace(/i$/, ''),
    disks: shownDisks(vm, host),
    ...(spec.cdroms === undefined ? {} : { iso: spec.cdroms[0]?.path }),
    vm_dir: spec.vmDir ?? host.spec.vmDir,
    status: status?.pid === undefined ? 'stopped' : 'running',
  };
}

/** Nothing was made yet: a retry must not say "already exists". */
async function remove({ context }: Call, { metadata }: VirtualMachine): Promise<void> {
  try {
    await context.store.delete('VirtualMachine', metadata, { uid: metadata.uid });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    return;
  }
  await firstVersion(context.store, 'VirtualMachine', {
    ref: metadata,
    forMs: REMOVAL_MS,
    signal: context.signal,
    accept: (vm) => (vm === undefined ? true : undefined),
  });
}
