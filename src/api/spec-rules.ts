/**
 * Rules over several fields of one object, and between its old and its new spec. Each is the twin of a CEL rule in the
 * CRDs (a test pairs them), except unique names, which Kubernetes takes from the list-map keys, and
 * a Host's claimed vmDir, which CEL cannot see.
 */
import { isDeepStrictEqual } from 'node:util';
import { type FieldIssue, quoteValue } from './errors.ts';
import type { Host, HostSpec } from './host.ts';
import type { ObjectOf, SpecOf } from './kinds.ts';
import { hasItsValues } from './label-selector.ts';
import { ANNOTATIONS, isNamespaced, type Kind } from './meta.ts';
import { forwardWords, hostEnd } from './networks.ts';
import { parseQuantity } from './quantity.ts';
import type { DiskSpec, VirtualMachine, VirtualMachineSpec } from './virtual-machine.ts';

interface Named {
  readonly kind: Kind;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: unknown;
}

/** A metadata.name above this is no name for a folder. */
const MAX_VM_NAME = 63;

export function objectIssues({ kind, metadata, spec }: Named): FieldIssue[] {
  const issues: FieldIssue[] = [];
  const { name, namespace } = metadata;
  if (!isNamespaced(kind) && namespace !== undefined) {
    issues.push({
      field: 'metadata.namespace',
      value: quoteValue(namespace),
      message: `must be absent: a ${kind} has no namespace`,
    });
  }
  if (kind === 'VirtualMachine') issues.push(...virtualMachineIssues(name, spec as VirtualMachineSpec));
  if (kind === 'Host') issues.push(...hostIssues(spec as HostSpec));
  return issues;
}

function hostIssues({ local, ssh, allowedNamespaces }: HostSpec): FieldIssue[] {
  const issues: FieldIssue[] = [];
  if ((local === undefined) === (ssh === undefined)) {
    const said = local === undefined ? 'neither is set' : 'both are set';
    issues.push({ field: 'spec', message: `set exactly one of local and ssh: ${said}` });
  }
  return [...issues, ...allowedNamespacesIssues(allowedNamespaces)];
}

function allowedNamespacesIssues(allowed: HostSpec['allowedNamespaces']): FieldIssue[] {
  if (allowed === undefined) return [];
  const field = 'spec.allowedNamespaces';
  const { names, selector } = allowed;
  if (names === undefined && selector === undefined) return [{ field, message: 'set names, selector or both' }];
  return (selector?.matchExpressions ?? []).flatMap((requirement, index) =>
    hasItsValues(requirement)
      ? []
      : [
          {
            field: `${field}.selector.matchExpressions[${index}]`,
            message: 'In and NotIn need values, and the other operators take none',
          },
        ],
  );
}

function virtualMachineIssues(name: string, spec: VirtualMachineSpec): FieldIssue[] {
  const issues: FieldIssue[] = [];
  if (spec.vmName === undefined && name.length > MAX_VM_NAME) {
    issues.push({
      field: 'spec.vmName',
      message: `is required where metadata.name has more than ${MAX_VM_NAME} characters (it has ${name.length})`,
    });
  }
  if (spec.architecture === 'arm64' && spec.firmware?.type === 'BIOS') {
    issues.push({ field: 'spec.firmware.type', value: '"BIOS"', message: 'must be UEFI for architecture arm64' });
  }
  const { disks = [], cdroms = [], networks = [] } = spec;
  issues.push(
    ...repeated('spec.disks', disks, 'name', 'is the name of another entry'),
    ...repeated('spec.cdroms', cdroms, 'name', 'is the name of another entry'),
    ...repeated('spec.networks', networks, 'name', 'is the name of another entry'),
    ...repeated('spec.disks', disks, 'path', 'is the path of another disk of this VM'),
    ...repeated('spec.networks', networks, 'mac', 'is the mac of another network of this VM'),
    ...networks.flatMap(networkIssues),
  );
  issues.push(...disks.flatMap(({ name: disk, image }) => imageIssues(`spec.disks[${disk}].image`, image)));
  if (spec.cloudInit?.userData !== undefined && spec.cloudInit.userDataSecretRef !== undefined) {
    issues.push({
      field: 'spec.cloudInit.userDataSecretRef',
      message: 'must be absent where userData is set: a guest has one user data',
    });
  }
  for (const { name: cdrom, path } of cdroms) {
    if (!disks.some((disk) => disk.path === path)) continue;
    issues.push({
      field: `spec.cdroms[${cdrom}].path`,
      value: quoteValue(path),
      message: 'is the path of a disk of this VM',
    });
  }
  return issues;
}

function imageIssues(field: string, image: DiskSpec['image']): FieldIssue[] {
  if (image === undefined) return [];
  const { url, path, checksum } = image;
  if ((url === undefined) === (path === undefined))
    return [{ field, message: 'must have exactly one of url and path' }];
  return url?.startsWith('http:') === true && checksum === undefined
    ? [
        {
          field: `${field}.checksum`,
          message: 'is required for an http: url, which anybody on the way could change',
        },
      ]
    : [];
}

type Network = NonNullable<VirtualMachineSpec['networks']>[number];

function networkIssues({ name, user, bridge }: Network): FieldIssue[] {
  const field = `spec.networks[${name}]`;
  if ((user === undefined) === (bridge === undefined)) {
    const said = user === undefined ? 'neither is set' : 'both are set';
    return [{ field, message: `set either user or bridge: ${said}` }];
  }
  const forwards = user?.hostForwards ?? [];
  return forwards.flatMap((forward, index) => {
    const again = (words: typeof hostEnd) =>
      forwards.slice(0, index).some((earlier) => words(earlier) === words(forward));
    if (forward.hostPort !== undefined) {
      const value = `"${hostEnd(forward)}"`;
      return again(hostEnd)
        ? [{ field: `${field}.user.hostForwards[${index}].hostPort`, value, message: 'is that of another forward' }]
        : [];
    }
    const value = String(forward.guestPort);
    const message = 'is that of another forward without hostPort';
    return again(forwardWords) ? [{ field: `${field}.user.hostForwards[${index}].guestPort`, value, message }] : [];
  });
}

/** Entries whose field repeats that of an earlier one. */
function repeated<F extends string>(
  list: string,
  entries: readonly ({ readonly name: string } & { readonly [key in F]?: string | undefined })[],
  field: F,
  message: string,
): FieldIssue[] {
  const seen = new Set<string>();
  return entries.flatMap((entry) => {
    const value: string | undefined = entry[field];
    if (value === undefined) return [];
    const again = seen.has(value);
    seen.add(value);
    return again ? [{ field: `${list}[${entry.name}].${field}`, value: quoteValue(value), message }] : [];
  });
}

export function updateIssues<K extends Kind>(old: ObjectOf<K>, spec: SpecOf<K>): FieldIssue[] {
  if (old.kind === 'VirtualMachine') return virtualMachineUpdateIssues(old, spec as VirtualMachineSpec);
  if (old.kind === 'VirtualMachineMonitor' && !isDeepStrictEqual(plain(old.spec), plain(spec)))
    return [{ field: 'spec', message: 'a monitor is immutable: create another' }];
  return old.kind === 'Host' ? hostUpdateIssues(old, spec as HostSpec) : [];
}

/** Not in the CRD, whose rules see no annotations: in a cluster an admission policy of the chart says it. */
function hostUpdateIssues(old: Host, spec: HostSpec): FieldIssue[] {
  const claimed = old.metadata.annotations?.[ANNOTATIONS.claimed] !== undefined;
  return claimed && old.spec.vmDir !== spec.vmDir ? [immutableIssue('spec.vmDir', old.spec.vmDir, spec.vmDir)] : [];
}

/** Without `undefined` fields, which JSON does not have. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function virtualMachineUpdateIssues(old: VirtualMachine, spec: VirtualMachineSpec): FieldIssue[] {
  const fields = (['hostName', 'vmName', 'uuid', 'architecture', 'vmDir'] as const).flatMap((field) => {
    const [from, to] = [old.spec[field], spec[field]];
    const setsOnce = (field === 'hostName' || field === 'uuid') && from === undefined;
    return from === to || setsOnce ? [] : [immutableIssue(`spec.${field}`, from, to)];
  });
  const disks = (spec.disks ?? []).flatMap((next) => {
    const before = old.spec.disks?.find(({ name }) => name === next.name);
    return before === undefined ? [] : diskUpdateIssues(before, next);
  });
  return [...fields, ...disks];
}

function diskUpdateIssues(before: DiskSpec, next: DiskSpec): FieldIssue[] {
  const field = `spec.disks[${next.name}]`;
  const issues: FieldIssue[] = (['path', 'format'] as const)
    .filter((key) => before[key] !== next[key])
    .map((key) => immutableIssue(`${field}.${key}`, before[key], next[key]));
  if (!isDeepStrictEqual(plain(before.image ?? null), plain(next.image ?? null)))
    issues.push(immutableIssue(`${field}.image`, before.image, next.image));
  const from = before.size === undefined ? undefined : parseQuantity(before.size);
  const to = next.size === undefined ? undefined : parseQuantity(next.size);
  if (from !== undefined && (to === undefined || to < from)) {
    issues.push({
      field: `${field}.size`,
      ...(next.size === undefined ? {} : { value: quoteValue(next.size) }),
      message: `disk grew to ${before.size}; set size: ${before.size} in your manifest`,
    });
  }
  return issues;
}

function immutableIssue(field: string, from: unknown, to: unknown): FieldIssue {
  if (to === undefined)
    return { field, message: `cannot be taken away: the field is immutable, it is ${quoteValue(from)}` };
  const message =
    from === undefined ? 'cannot be set later: the field is immutable' : `is immutable; it is ${quoteValue(from)}`;
  return { field, value: quoteValue(to), message };
}
