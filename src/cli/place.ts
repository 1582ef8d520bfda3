/** A VM and its streams: console, screen, logs, ports. */
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { VmStreams } from '../streams/vm-streams.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { parseVmNames, requireObject } from './resources.ts';
import type { Session } from './session.ts';

const LOGIN_MS = 30_000;

export interface Place {
  readonly vm: VirtualMachine;
  readonly streams: VmStreams;
}

export async function placeOf(session: Session, word: string, namespace: string | undefined): Promise<Place> {
  const [target] = parseVmNames([word], namespace);
  if (target === undefined) throw new CliError(EXIT.usage, 'name a virtual machine');
  const vm = await requireObject(session.store, target);
  return { vm, streams: await session.streamsOf(vm, AbortSignal.timeout(LOGIN_MS)) };
}
