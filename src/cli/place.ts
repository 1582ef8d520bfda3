/** Where a VM lies: its folder and the shell of its host, for console, screen and logs. */
import { effectiveSpec } from '../api/effective-spec.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { parseVmNames, requireObject } from './resources.ts';
import type { Session } from './session.ts';

const LOGIN_MS = 30_000;

export interface Place {
  readonly vm: VirtualMachine;
  readonly folder: string;
  readonly shell: Shell;
  /** Whether ports of the host are out of reach for programs of this machine. */
  readonly remote: boolean;
}

export async function placeOf(session: Session, word: string, namespace: string | undefined): Promise<Place> {
  const [target] = parseVmNames([word], namespace);
  if (target === undefined) throw new CliError(EXIT.usage, 'name a virtual machine');
  const vm = await requireObject(session.store, target);
  const { hostName } = vm.spec;
  const host = hostName === undefined ? undefined : await session.store.get('Host', { name: hostName });
  if (host === undefined) {
    const why = hostName === undefined ? 'spec.hostName names no Host' : `its Host ${hostName} does not exist`;
    throw new CliError(EXIT.failed, `${word} is nowhere: ${why}`);
  }
  const [shell, remote] = [session.shellFor(host), host.spec.ssh !== undefined];
  // What follows has little patience: the way there is made first.
  if (remote) await shell.run(':', [], { timeoutMs: LOGIN_MS, signal: AbortSignal.timeout(LOGIN_MS) });
  return { vm, folder: effectiveSpec(vm, host).folder, shell, remote };
}

/** A socket that nobody answers at: why, in words of the VM. */
export function notReachable(word: string, vm: VirtualMachine, what: string): CliError {
  const phase = vm.status?.phase ?? 'Pending';
  const why = vm.status?.pid === undefined ? `it is not running (${phase})` : `its last seen state is ${phase}`;
  return new CliError(EXIT.failed, `${word} has no ${what} now: ${why}`);
}
