/** Which Host and which VM a call means. */
import { findCondition } from '../api/conditions.ts';
import { vmNameOf } from '../api/effective-spec.ts';
import { nearNames, oneLine, quoteValue } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { Architecture, VirtualMachine } from '../api/virtual-machine.ts';
import { firstVersion } from '../store/watching.ts';
import { Refusal } from './envelope.ts';
import { askLookAtHost } from './looks.ts';
import { listed, MAX_NAMED } from './names.ts';
import { registered } from './registered-hosts.ts';
import { makeHost, noteUse } from './remote-hosts.ts';
import type { ToolContext } from './tool.ts';
import { visibleVms } from './visible-vms.ts';

export const LOCALHOST = 'localhost';

export interface HostArguments {
  readonly host?: string | undefined;
  readonly ssh_port?: number | undefined;
  readonly ssh_user?: string | undefined;
  readonly ssh_pwd?: string | undefined;
  readonly ssh_key?: string | undefined;
  readonly namespace?: string | undefined;
}

/** The Host that was asked for; undefined where none was and there is no `localhost`: all Hosts. @throws Refusal */
export async function hostFor(context: ToolContext, args: HostArguments): Promise<Host | undefined> {
  const { store, say, remotes } = context;
  if (args.ssh_key !== undefined && !remotes.keyFiles) {
    const next = { tool: 'list_vms', arguments: {} };
    throw new Refusal(say.keyNotHere(), { code: 'InvalidArgument', field: 'ssh_key', next });
  }
  const { items } = await store.list('Host');
  const wanted = args.host ?? LOCALHOST;
  const found = await registered(context, items, { wanted, args });
  if (found !== undefined) {
    await noteUse(store, found);
    return found;
  }
  if (args.host === undefined) return undefined;
  if (args.ssh_user !== undefined || args.ssh_key !== undefined || args.ssh_pwd !== undefined)
    return makeHost(context, wanted, args);
  const names = items.map(({ metadata }) => metadata.name).sort();
  throw new Refusal(say.hostUnknown(oneLine(wanted, 64), listed(names)), {
    code: 'HostNotFound',
    field: 'host',
    value: quoteValue(wanted),
    allowed: names.slice(0, MAX_NAMED),
  });
}

export interface FoundVm {
  readonly vm: VirtualMachine;
  readonly host: Host;
}

/** The one VM of this name on the Host that is meant, seen by the loop. @throws Refusal */
export async function vmFor(context: ToolContext, name: string, args: HostArguments): Promise<FoundVm> {
  const { store, say, looks, signal } = context;
  const host = await hostFor(context, args);
  if (host !== undefined) await looks.first(host.metadata.name, signal);
  const items = await visibleVms(context, args.namespace);
  const here = items.filter(
    ({ spec }) => spec.hostName !== undefined && (host === undefined || spec.hostName === host.metadata.name),
  );
  const matches = here.filter((vm) => vmNameOf(vm) === name);
  const vm = matches.length > 1 ? theOne(context, name, matches) : matches[0];
  if (vm === undefined) throw notFound(context, name, { host, here });
  const itsHost = host ?? (await store.get('Host', { name: vm.spec.hostName ?? '' }));
  if (itsHost === undefined) {
    throw new Refusal(say.hostUnknown(vm.spec.hostName ?? '', ''), { code: 'HostNotFound', field: 'host' });
  }
  return { vm, host: itsHost };
}

/** Two objects may claim one name: the record on the host has decided which one holds it. */
function theOne({ say }: ToolContext, name: string, matches: readonly VirtualMachine[]): VirtualMachine {
  const hosts = [...new Set(matches.map(({ spec }) => spec.hostName ?? ''))].sort();
  if (hosts.length > 1) {
    throw new Refusal(say.ambiguousHost(name, listed(hosts)), {
      code: 'InvalidArgument',
      field: 'host',
      allowed: hosts,
    });
  }
  const holding = matches.filter(({ status }) => findCondition(status?.conditions, 'Ready')?.reason !== 'NameConflict');
  if (holding.length === 1 && holding[0] !== undefined) return holding[0];
  const namespaces = matches.map(({ metadata }) => metadata.namespace).sort();
  throw new Refusal(say.ambiguousNamespace(name, listed(namespaces)), {
    code: 'InvalidArgument',
    field: 'namespace',
    allowed: namespaces,
  });
}

function notFound(
  { say }: ToolContext,
  name: string,
  { host, here }: { readonly host: Host | undefined; readonly here: readonly VirtualMachine[] },
): Refusal {
  const folder = host?.status?.unclaimed?.find((one) => one.name === name);
  if (folder !== undefined) {
    const place = oneLine(`${folder.vmDir}/${folder.name}`, 200);
    return new Refusal(say.unmanagedFolder(name, place), { code: 'NotFound', field: 'name', value: quoteValue(name) });
  }
  const names = [...new Set(here.map((vm) => vmNameOf(vm)))].sort();
  const near = nearNames(name, names);
  return new Refusal(say.notFound(name, host?.metadata.name ?? 'all', near.join(', '), listed(names)), {
    code: 'NotFound',
    field: 'name',
    value: quoteValue(name),
    allowed: (near.length > 0 ? near : names).slice(0, MAX_NAMED),
    next: { tool: 'list_vms', arguments: host === undefined ? {} : { host: host.metadata.name } },
  });
}

const COMMANDS: Readonly<Record<Architecture, { readonly command: string; readonly packages: string }>> = {
  x86_64: { command: 'qemu-system-x86_64', packages: 'qemu-system-x86 qemu-utils' },
  arm64: { command: 'qemu-system-aarch64', packages: 'qemu-system-arm qemu-efi-aarch64 qemu-utils' },
};
const OLDEST_MAJOR = 6;
const FRESH_LOOK_MS = 3_000;

/**
 * Refuses where the Host is known not to run this architecture.
 * @param ask a status from a minute ago is looked at again first
 */
export async function requireQemu(
  context: ToolContext,
  host: Host,
  { architecture, ask }: { readonly architecture: Architecture; readonly ask: boolean },
): Promise<void> {
  const { store, looks, signal } = context;
  await looks.first(host.metadata.name, signal);
  const newest = (await store.get('Host', { name: host.metadata.name })) ?? host;
  const first = qemuRefusal(context, newest, architecture);
  if (first === undefined) return;
  if (!ask) throw first;
  await askLookAtHost(store, host.metadata.name);
  await firstVersion(store, 'Host', {
    ref: newest.metadata,
    forMs: FRESH_LOOK_MS,
    signal,
    accept: (seen) => (seen !== undefined && qemuRefusal(context, seen, architecture) === undefined ? true : undefined),
  });
  const last = (await store.get('Host', { name: host.metadata.name })) ?? newest;
  const refusal = qemuRefusal(context, last, architecture);
  if (refusal !== undefined) throw refusal;
}

function qemuRefusal(
  { say }: ToolContext,
  { metadata, status }: Host,
  architecture: Architecture,
): Refusal | undefined {
  const host = metadata.name;
  const { command, packages } = COMMANDS[architecture];
  if (status?.info === undefined) {
    const ready = findCondition(status?.conditions, 'Ready');
    const why =
      ready === undefined ? say.hostNotSeen(host) : say.hostNotReady(host, say.why(ready.reason, ready.message));
    return new Refusal(why, { code: ready?.reason ?? 'HostNotReady', field: 'host', value: quoteValue(host) });
  }
  const version = status.info.qemu?.[architecture];
  if (version === undefined) {
    const next = { tool: 'list_vms', arguments: { host } };
    return new Refusal(say.qemuMissing(command, packages), {
      code: 'QEMUNotInstalled',
      field: 'arch',
      value: quoteValue(architecture),
      next,
    });
  }
  if (Number.parseInt(version, 10) < OLDEST_MAJOR) {
    return new Refusal(say.qemuTooOld(`${command} ${oneLine(version, 32)}`), {
      code: 'QEMUTooOld',
      field: 'arch',
      value: quoteValue(architecture),
    });
  }
  const ready = findCondition(status.conditions, 'Ready');
  if (ready?.status === 'True' || ready?.reason === 'QEMUNotInstalled') return undefined;
  const why = ready === undefined ? '' : say.why(ready.reason, oneLine(ready.message, 500));
  return new Refusal(say.hostNotReady(host, why), {
    code: ready?.reason ?? 'HostNotReady',
    field: 'host',
    value: quoteValue(host),
  });
}
