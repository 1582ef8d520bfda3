/** Why nothing may be concluded about a VM, whatever the look shows. Pure. */
import type { Reason } from '../api/conditions.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { isPaused } from './decide.ts';
import type { View } from './host-view.ts';
import type { Blindness } from './observed.ts';

export interface Unseen {
  readonly reason: string;
  readonly message: string;
  /** Whether waiting may help: the host is there, or was. Else only a new spec or a person does. */
  readonly hostKnown: boolean;
}

/** What about a vmDir is said by people alone, unless something of ours was there before and may come back. */
const LASTING: ReadonlySet<string> = new Set<Reason>(['VMDirMissing', 'ClaimedByAnother']);

/** A vmDir that the VM alone names, and in which nothing was ever made for it. */
function isOfItsOwn({ metadata, spec }: VirtualMachine, host: Host): boolean {
  const { vmDir = host.spec.vmDir } = spec;
  return vmDir !== host.spec.vmDir && metadata.annotations?.[ANNOTATIONS.provisioned] === undefined;
}

/** Of a VM it is one and the same, whatever keeps us from its host; the Host's own conditions tell it apart. */
function blindness(reason: Blindness, message: string): { readonly reason: Reason; readonly message: string } {
  if (reason === 'HostUnreachable' || reason === 'HostNotReady') return { reason, message };
  return { reason: 'HostUnreachable', message: `${reason}: ${message}` };
}

/** @param invalid what is wrong with its stored spec */
export function whyUnseen(vm: VirtualMachine, view: View, invalid: string | undefined): Unseen | undefined {
  const { host, look, verdicts } = view;
  if (invalid !== undefined)
    return { reason: 'InvalidSpec', message: `${invalid}; the VM is left alone`, hostKnown: false };
  if (look.kind === 'cannot-see') return { ...blindness(look.reason, look.message), hostKnown: true };
  const verdict = verdicts.get(vm.spec.vmDir ?? host.spec.vmDir);
  if (verdict?.kind === 'ready') return undefined;
  if (verdict?.kind === 'blocked') {
    const { reason, message } = verdict;
    const lasting = reason === 'PathNotAllowed' || (LASTING.has(reason) && isOfItsOwn(vm, host));
    return { reason, message, hostKnown: !lasting };
  }
  // A paused host is not even claimed, yet what is there is seen.
  const claims = verdict?.kind === 'act' && verdict.action.type === 'claim' ? verdict.action : undefined;
  if (isPaused(host.metadata) && claims?.seen !== undefined) return undefined;
  return { reason: 'HostNotReady', message: verdict?.message ?? 'the vmDir is not ready', hostKnown: true };
}
