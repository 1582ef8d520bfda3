/** One host as the loop sees it: the look, the claim of its vmDirs, and what is said of the Host itself. */
import { placeOf } from '../api/effective-spec.ts';
import { messageOf } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, FINALIZERS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import { isOrphaned, isPaused } from './decide.ts';
import { decideVmDir, type VmDirDecision } from './decide-host.ts';
import { EffectError, type HostDriver } from './driver.ts';
import { isHeld } from './host-conditions.ts';
import { hostStatusOf } from './host-status.ts';
import type { Look, SeenHost } from './observed.ts';
import { inside } from './paths.ts';
import { machineIDOf, otherHostsOf, vmDirsOf } from './same-machine.ts';
import { writeStatus } from './status-writer.ts';
import { wantedOf } from './subject.ts';

export interface HostViewDependencies {
  readonly store: Store;
  readonly driver: HostDriver;
  readonly signal: AbortSignal;
  readonly onFailure: (error: unknown) => void;
}

/** What a pass stands on. */
export interface View {
  readonly host: Host;
  /** All VMs that name the host and whose spec can be read. */
  readonly vms: readonly VirtualMachine[];
  /** VMs of other Hosts that are the same machine. */
  readonly foreignVms: readonly VirtualMachine[];
  /** How many more name it, whose spec cannot be read. */
  readonly unreadable: number;
  readonly look: Look;
  /** Of the VMs that exist, as far as records of the host are of them. */
  readonly uids: ReadonlySet<string>;
  /** By vmDir; empty where the host was not seen. */
  readonly verdicts: ReadonlyMap<string, VmDirDecision>;
}

type Vms = readonly VirtualMachine[];

interface Foreign {
  readonly vmDirs: readonly string[];
  readonly vms: Vms;
}

/** A claim is followed by a new look; more than this many in a row means that somebody else claims too. */
const CLAIM_ATTEMPTS = 3;

export class HostView {
  readonly #store: Store;
  readonly #driver: HostDriver;
  readonly #signal: AbortSignal;
  readonly #onFailure: (error: unknown) => void;

  constructor({ store, driver, signal, onFailure }: HostViewDependencies) {
    this.#store = store;
    this.#driver = driver;
    this.#signal = signal;
    this.#onFailure = onFailure;
  }

  /**
   * Looks, and claims what is to be claimed before anything else is decided.
   * @param dirty the VMs whose guests and files matter now
   */
  async look(
    host: Host,
    { vms, dirty, unreadable }: { readonly vms: Vms; readonly dirty: Vms; readonly unreadable: number },
  ): Promise<View> {
    const vmDirs = [...new Set([host.spec.vmDir, ...vms.map((vm) => placeOf(vm, host).vmDir)])];
    let foreign = await this.#foreign(host, machineIDOf(host), vmDirs);
    const request = {
      vmDirs,
      vms: dirty.map((vm) => wantedOf(vm, host)),
      expected: expectedOf(dirty, host),
      paths: [...(host.spec.allowedPaths ?? []), ...vmDirs],
    };
    const known = { host, vms, unreadable };
    // Whoever takes over does not ask a hundred guests before the host is its own.
    let asks = isPaused(host.metadata) || this.#driver.epoch(host.spec.vmDir) !== undefined;
    for (let attempt = 1; ; attempt += 1) {
      const paths = [...request.paths, ...foreign.vmDirs];
      const guests = asks ? request : { ...request, vms: [], expected: new Map() };
      const look = await this.#driver.look({ ...guests, paths, foreignVmDirs: foreign.vmDirs }, this.#signal);
      if (look.kind === 'cannot-see')
        return { ...known, foreignVms: foreign.vms, look, uids: new Set(), verdicts: new Map() };
      const verdicts = new Map<string, VmDirDecision>();
      let claimed = false;
      for (const path of vmDirs) {
        const verdict = await this.#verdict(host, vms, look.host, path);
        const due = verdict.kind === 'act' && attempt <= CLAIM_ATTEMPTS && !isPaused(host.metadata);
        const refusal = due ? await this.#claim(host, verdict) : undefined;
        claimed ||= due && refusal === undefined;
        verdicts.set(path, refusal ?? verdict);
      }
      if (verdicts.get(host.spec.vmDir)?.kind === 'ready') await this.#noteClaimed(host, look.host.machineID);
      const asked = foreign.vmDirs;
      foreign = await this.#foreign(host, look.host.machineID, vmDirs);
      const isWhole = foreign.vmDirs.every((path) => asked.includes(path));
      const isEnd = !claimed && isWhole && asks;
      if (isEnd) return { ...known, foreignVms: foreign.vms, look, uids: await this.#uidsOf(look.host, vms), verdicts };
      asks = true;
    }
  }

  /** Mostly the records are of the VMs that name the host: then nothing else is to be asked. */
  async #uidsOf({ folders, foreignFolders }: SeenHost, vms: Vms): Promise<ReadonlySet<string>> {
    const own = new Set(vms.map(({ metadata }) => metadata.uid));
    const records = [...folders.values(), ...foreignFolders.values()].map(({ record }) => record);
    if (records.every((one) => one.kind !== 'readable' || own.has(one.record.uid))) return own;
    const { items } = await this.#store.list('VirtualMachine');
    return new Set(items.map(({ metadata }) => metadata.uid));
  }

  /** What other Hosts have that are the same machine: no disk of their VMs is anybody else's. */
  async #foreign(host: Host, machineID: string | undefined, own: readonly string[]): Promise<Foreign> {
    const others = otherHostsOf(host, machineID, (await this.#store.list('Host')).items);
    if (others.length === 0) return { vmDirs: [], vms: [] };
    const { items } = await this.#store.list('VirtualMachine');
    const vmDirs = new Set(others.flatMap((other) => vmDirsOf(other, items)));
    const names = new Set(others.map(({ metadata }) => metadata.name));
    return {
      vmDirs: [...vmDirs].filter((path) => !own.includes(path)),
      vms: items.filter(({ spec }) => spec.hostName !== undefined && names.has(spec.hostName)),
    };
  }

  /** From now on a vmDir without its marker is one that is not mounted. */
  async #noteClaimed({ metadata }: Host, machineID: string): Promise<void> {
    const { [ANNOTATIONS.claimed]: claimed, [ANNOTATIONS.takeOver]: takeOver } = metadata.annotations ?? {};
    if (claimed !== undefined && takeOver === undefined) return;
    const annotations = { [ANNOTATIONS.claimed]: claimed ?? machineID, [ANNOTATIONS.takeOver]: null };
    await this.#store.patch('Host', metadata, { metadata: { annotations } }, { uid: metadata.uid });
  }

  async #verdict(host: Host, vms: readonly VirtualMachine[], seen: SeenHost, path: string): Promise<VmDirDecision> {
    const { items } = await this.#store.list('Host');
    const here = (vm: VirtualMachine) => (vm.spec.vmDir ?? host.spec.vmDir) === path;
    return decideVmDir({
      host,
      vmDir: seen.vmDirs.get(path) ?? { path, state: 'absent', marker: { kind: 'absent' } },
      machineID: seen.machineID,
      uid: seen.facts.uid,
      storeUID: this.#store.uid,
      epoch: this.#driver.epoch(path),
      provisioned: vms.some((vm) => here(vm) && vm.metadata.annotations?.[ANNOTATIONS.provisioned] !== undefined),
      hostExists: (uid) => items.some(({ metadata }) => metadata.uid === uid),
      allowed: path === host.spec.vmDir || isAllowed(path, host, seen),
    });
  }

  /** undefined: claimed; look again. */
  async #claim(
    { metadata }: Host,
    verdict: Extract<VmDirDecision, { kind: 'act' }>,
  ): Promise<VmDirDecision | undefined> {
    const context = { storeUID: this.#store.uid, hostUID: metadata.uid };
    try {
      await this.#driver.executeOnHost(verdict.action, context, this.#signal);
      return undefined;
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#onFailure(error);
      const message = messageOf(error);
      // The host went away in the middle of it.
      if (!(error instanceof EffectError))
        return { kind: 'blocked', reason: 'HostNotReady', condition: 'Claimed', message };
      return error.reason === 'VMDirMissing'
        ? { kind: 'blocked', reason: 'VMDirMissing', condition: 'VMDirReady', message }
        : { kind: 'blocked', reason: 'ClaimedByAnother', condition: 'Claimed', message };
    }
  }

  /** @param refresh whether volatile figures are due; @param now our clock, ms, for a host that cannot be seen */
  async note(view: View, { refresh, now }: { readonly refresh: boolean; readonly now: number }): Promise<void> {
    const { host, vms, unreadable, look, verdicts } = view;
    const vmDir = verdicts.get(host.spec.vmDir);
    const newest = await writeStatus(this.#store, 'Host', host, (current) =>
      hostStatusOf(current, { look, vmDir, vms, now, refresh }),
    );
    if (newest === undefined || isPaused(host.metadata)) return;
    const inUse = vms.length + unreadable > 0;
    await this.#hold(newest, { inUse, seen: look.kind === 'seen', ready: vmDir?.kind === 'ready' });
  }

  /**
   * A Host that runs VMs is held by a finalizer; one that is deleted and unused gives its vmDir back, where it is its own.
   */
  async #hold(
    host: Host,
    { inUse, seen, ready }: { readonly inUse: boolean; readonly seen: boolean; readonly ready: boolean },
  ): Promise<void> {
    const { uid, resourceVersion, finalizers = [] } = host.metadata;
    const held = finalizers.includes(FINALIZERS.inUse);
    const deleting = host.metadata.deletionTimestamp !== undefined;
    if (deleting && held && !inUse) {
      if (!seen && isHeld(host) && !isOrphaned(host.metadata)) return;
      if (ready)
        await this.#driver.executeOnHost(
          { type: 'unclaim', vmDir: host.spec.vmDir },
          { storeUID: this.#store.uid, hostUID: uid },
          this.#signal,
        );
      const rest = finalizers.filter((name) => name !== FINALIZERS.inUse);
      await this.#store.patch('Host', host.metadata, { metadata: { finalizers: rest } }, { uid, resourceVersion });
    } else if (!deleting && !held) {
      await this.#store.hold('Host', host.metadata, { finalizer: FINALIZERS.inUse }, { uid });
    }
  }
}

function isAllowed(path: string, { spec }: Host, { files }: SeenHost): boolean {
  const real = (one: string) => files.get(one)?.resolved ?? one;
  return (spec.allowedPaths ?? [spec.vmDir]).some((root) => inside(real(path), real(root)));
}

function expectedOf(vms: Vms, host: Host): Map<string, number> {
  return new Map(
    vms.flatMap((vm): [string, number][] =>
      vm.status?.pid === undefined ? [] : [[placeOf(vm, host).folder, vm.status.pid]],
    ),
  );
}
