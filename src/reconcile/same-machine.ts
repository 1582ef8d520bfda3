/** Hosts of one store that are one machine: reached by several ways or users, each with its vmDir. Pure. */
import type { Host } from '../api/host.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';

/** The machine that a Host's VMs lie on; undefined for one that was never seen. */
export function machineIDOf({ metadata, status }: Host): string | undefined {
  return metadata.annotations?.[ANNOTATIONS.claimed] ?? status?.info?.machineID;
}

/** Where VM folders may lie: the Host's vmDir, those of its VMs, and where a look found folders before. */
export function vmDirsOf({ metadata, spec, status }: Host, vms: readonly VirtualMachine[]): string[] {
  const here = vms.filter((vm) => vm.spec.hostName === metadata.name);
  const known = [...here.map((vm) => vm.spec.vmDir), ...(status?.unclaimed ?? []).map(({ vmDir }) => vmDir)];
  return [...new Set([spec.vmDir, ...known.filter((path) => path !== undefined)])];
}

/** What tells machines apart before they were seen: whoever logs in, one address is one machine. */
function wayTo({ spec: { ssh } }: Host): string {
  return ssh === undefined ? '' : JSON.stringify([ssh.jumpHostName, ssh.address, ssh.port]);
}

/**
 * Two that keep one vmDir are two machines, whatever their ids say: on one machine it would be claimed by either.
 * @param machineID of `host`, which is left out; undefined: it was never seen
 */
export function otherHostsOf(host: Host, machineID: string | undefined, hosts: readonly Host[]): Host[] {
  const isSame = (one: Host) => {
    if (one.spec.vmDir === host.spec.vmDir) return false;
    const id = machineIDOf(one);
    return id === undefined || machineID === undefined ? wayTo(one) === wayTo(host) : id === machineID;
  };
  return hosts.filter((one) => one.metadata.uid !== host.metadata.uid && isSame(one));
}
