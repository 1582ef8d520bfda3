/** What status says of the network interfaces of a running process. Pure. */
import type { LaunchNetwork } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import { forwardWords, type HostForward } from '../api/networks.ts';
import type { VirtualMachineStatus } from '../api/virtual-machine.ts';

/** @param addresses by the name of the network, those that are known */
export function interfacesOf(
  networks: readonly LaunchNetwork[] | undefined,
  addresses: ReadonlyMap<string, readonly string[]>,
): Pick<Partial<VirtualMachineStatus>, 'interfaces' | 'ports'> {
  if (networks === undefined) return {};
  const all = networks.flatMap(({ forwards = [] }) => forwards);
  return {
    interfaces: networks.map(({ name, mac, bridge, forwards = [] }) => ({
      name,
      mac,
      ...(addresses.has(name) ? { ips: [...(addresses.get(name) ?? [])] } : {}),
      ...(bridge === undefined ? {} : { bridge }),
      ...(forwards.length === 0 ? {} : { forwards: forwards.flatMap(forwardOf) }),
    })),
    ...(all.length === 0 ? {} : { ports: oneLine(all.map(forwardWords).join(','), 256) }),
  };
}

function forwardOf({ protocol, hostAddress, hostPort, guestPort }: HostForward) {
  return hostPort === undefined ? [] : [{ protocol, hostAddress, hostPort, guestPort }];
}
