/** One host as the loop sees it: the look, the claim of its vmDirs, and what is said of the Host itself. */
import { messageOf } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, FINALIZERS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import { decideVmDir, type VmDirDecision } from './decide-host.ts';
import { EffectError, type HostDriver } from './driver.ts';
import { hostStatusOf } from './host-status.ts';
import type { Look, SeenHost } from './observed.ts';
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
  readonly look: Look;
  /** By vmDir; empty where the host was not seen. */
  readonly verdicts: ReadonlyMap<string, VmDirDecision>;
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
  async look(host: Host, vms: readonly VirtualMachine[], dirty: readonly VirtualMachine[]): Promise<View> {
    const vmDirs = [...new Set([host.spec.vmDir, ...vms.map((vm) => wantedOf(vm, host).vmDir)])];
    const request = {
      vmDirs,
      vms: dirty.map((vm) => wantedOf(vm, host)),
      paths: host.spec.allowedPaths ?? [host.spec.vmDir],
    };
    for (let attempt = 1; ; attempt += 1) {
      const look = await this.#driver.look(request, this.#signal);
      if (look.kind === 'cannot-see') return { host, vms, look, verdicts: new Map() };
      const verdicts = new Map<string, VmDirDecision>();
      let claimed = false;
      for (const path of vmDirs) {
        const verdict = await this.#verdict(host, vms, look.host, path);
        const refusal =
          verdict.kind === 'act' && attempt <= CLAIM_ATTEMPTS ? await this.#claim(host, verdict, look.host) : undefined;
        claimed ||= verdict.kind === 'act' && refusal === undefined;
        verdicts.set(path, refusal ?? verdict);
      }
      if (!claimed || attempt > CLAIM_ATTEMPTS) return { host, vms, look, verdicts };
    }
  }

  async #verdict(host: Host, vms: readonly VirtualMachine[], seen: SeenHost, path: string): Promise<VmDirDecision> {
    const { items } = await this.#store.list('Host');
    const here = (vm: VirtualMachine) => (vm.spec.vmDir ?? host.spec.vmDir) === path;
    return decideVmDir({
      host,
      vmDir: seen.vmDirs.get(path) ?? { path, state: 'absent', marker: { kind: 'absent' } },
      machineID: seen.machineID,
      storeUID: this.#store.uid,
      epoch: this.#driver.epoch(path),
      provisioned: vms.some((vm) => here(vm) && vm.metadata.annotations?.[ANNOTATIONS.provisioned] !== undefined),
      hostExists: (uid) => items.some(({ metadata }) => metadata.uid === uid),
    });
  }

  /** undefined: claimed; look again. */
  async #claim(
    host: Host,
    verdict: Extract<VmDirDecision, { kind: 'act' }>,
    seen: SeenHost,
  ): Promise<VmDirDecision | undefined> {
    const { uid, annotations } = host.metadata;
    try {
      await this.#driver.executeOnHost(verdict.action, { storeUID: this.#store.uid, hostUID: uid }, this.#signal);
      if (verdict.action.vmDir === host.spec.vmDir && annotations?.[ANNOTATIONS.claimed] === undefined) {
        await this.#store.patch(
          'Host',
          host.metadata,
          { metadata: { annotations: { [ANNOTATIONS.claimed]: seen.machineID } } },
          { uid },
        );
      }
      return undefined;
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#onFailure(error);
      const missing = error instanceof EffectError && error.reason === 'VMDirMissing';
      return {
        kind: 'blocked',
        reason: missing ? 'VMDirMissing' : 'ClaimedByAnother',
        condition: missing ? 'VMDirReady' : 'Claimed',
        message: messageOf(error),
      };
    }
  }

  /** @param refresh whether volatile figures are due; @param now our clock, ms, for a host that cannot be seen */
  async note(view: View, { refresh, now }: { readonly refresh: boolean; readonly now: number }): Promise<void> {
    const { host, vms, look, verdicts } = view;
    const vmDir = verdicts.get(host.spec.vmDir);
    const newest = await writeStatus(this.#store, 'Host', host, (current) =>
      hostStatusOf(current, { look, vmDir, vms, now, refresh }),
    );
    if (newest !== undefined) await this.#hold(newest, vms);
  }

  /** A Host that runs VMs is held by a finalizer; one that is deleted and unused gives its vmDir back. */
  async #hold(host: Host, vms: readonly VirtualMachine[]): Promise<void> {
    const { uid, resourceVersion, finalizers = [] } = host.metadata;
    const held = finalizers.includes(FINALIZERS.inUse);
    const deleting = host.metadata.deletionTimestamp !== undefined;
    if (deleting && held && vms.length === 0) {
      await this.#driver.executeOnHost(
        { type: 'unclaim', vmDir: host.spec.vmDir },
        { storeUID: this.#store.uid, hostUID: uid },
        this.#signal,
      );
      const rest = finalizers.filter((name) => name !== FINALIZERS.inUse);
      await this.#store.patch('Host', host.metadata, { metadata: { finalizers: rest } }, { uid, resourceVersion });
    } else if (!deleting && !held) {
      await this.#store.patch(
        'Host',
        host.metadata,
        { metadata: { finalizers: [...finalizers, FINALIZERS.inUse] } },
        { uid, resourceVersion },
      );
    }
  }
}
