/** How a TCP port of a guest is reached from its host: by a forward that is there, by its address, or by one made now. */
import { ANY_ADDRESS } from '../api/networks.ts';
import type { TcpAddress } from '../host/shell.ts';
import { LOOPBACK } from '../streams/port-forward.ts';
import { temporaryForward } from '../streams/temporary-forward.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { notReachable, type Place } from './place.ts';

export interface Reach extends TcpAddress {
  /** Takes away what was made for it. */
  close(): Promise<void>;
}

const NOTHING = async () => undefined;

/**
 * @param name as the person calls the VM
 * @throws CliError where the VM is not running or no network leads to it
 */
export async function reach(place: Place, name: string, guestPort: number, signal: AbortSignal): Promise<Reach> {
  const { vm, folder, shell } = place;
  const interfaces = vm.status?.interfaces ?? [];
  if (vm.status?.pid === undefined) throw notReachable(name, vm, 'network');
  const forward = interfaces
    .flatMap(({ forwards = [] }) => forwards)
    .find((one) => one.protocol === 'TCP' && one.guestPort === guestPort);
  if (forward !== undefined) {
    const host = forward.hostAddress === ANY_ADDRESS ? LOOPBACK : forward.hostAddress;
    return { host, port: forward.hostPort, close: NOTHING };
  }
  const user = interfaces.find(({ bridge }) => bridge === undefined);
  if (user !== undefined) {
    return temporaryForward(shell, folder, { network: user.name, guestPort, signal }).catch((error: unknown) => {
      throw error instanceof Error && error.name === 'DialError' ? notReachable(name, vm, 'network') : error;
    });
  }
  const address = interfaces.flatMap(({ ips = [] }) => ips)[0];
  if (address !== undefined) return { host: address, port: guestPort, close: NOTHING };
  const why = interfaces.length === 0 ? 'it has none' : 'its address is not known';
  throw new CliError(EXIT.failed, `no network leads to ${name}: ${why}`);
}
