/** How a TCP port of a guest is reached from its host: by a forward that is there, by its address, or by one made now. */
import { ANY_ADDRESS } from '../api/networks.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Shell, TcpAddress } from '../host/shell.ts';
import { LOOPBACK } from './port-forward.ts';
import { temporaryForward } from './temporary-forward.ts';
import { NotReachableError } from './vm-streams.ts';

export interface Reach extends TcpAddress {
  /** Takes away what was made for it. */
  close(): Promise<void>;
}

export interface ReachOptions {
  readonly guestPort: number;
  readonly signal: AbortSignal;
  /**
   * For people who are not the host's own: an address is believed only where the host finds it behind the guest's bridge.
   * A guest tells its addresses itself, and could name one that it cannot reach and the host can.
   */
  readonly onlyBehindBridge: boolean;
}

const TIMEOUT_MS = 5_000;
const NOTHING = async () => undefined;

/** Directly, by this interface; a `local` route has no such line, one through a router has `via`. Source: ip-route(8). */
const BEHIND = `
route=$(ip -o route get "$1" 2>/dev/null) || { echo @no; return 0; }
case " $route " in
  *" via "*|*" local "*) echo @no ;;
  *" dev $2 "*) echo @yes ;;
  *) echo @no ;;
esac
`;

/** @throws NotReachableError where no network leads to it; DialError, UserMonitorError */
export async function reach(shell: Shell, folder: string, vm: VirtualMachine, options: ReachOptions): Promise<Reach> {
  const { guestPort, signal, onlyBehindBridge } = options;
  const interfaces = vm.status?.interfaces ?? [];
  const forward = interfaces
    .flatMap(({ forwards = [] }) => forwards)
    .find((one) => one.protocol === 'TCP' && one.guestPort === guestPort);
  if (forward !== undefined) {
    const host = forward.hostAddress === ANY_ADDRESS ? LOOPBACK : forward.hostAddress;
    return { host, port: forward.hostPort, close: NOTHING };
  }
  const user = interfaces.find(({ bridge }) => bridge === undefined);
  if (user !== undefined) return temporaryForward(shell, folder, { network: user.name, guestPort, signal });
  const bridged = interfaces.find(({ ips = [] }) => ips.length > 0);
  const address = bridged?.ips?.[0];
  const { name } = vm.metadata;
  if (address === undefined) {
    const why = interfaces.length === 0 ? 'it has none' : 'its address is not known';
    throw new NotReachableError(`no network leads to ${name}: ${why}`);
  }
  if (onlyBehindBridge) {
    const words = [address, bridged?.bridge ?? ''];
    const { stdout } = await shell.run(BEHIND, words, { timeoutMs: TIMEOUT_MS, signal });
    if (!/^@yes$/m.test(stdout.toString('utf8')))
      throw new NotReachableError(
        `no network leads to ${name}: its host finds ${address} elsewhere than behind ${words[1]}`,
      );
  }
  return { host: address, port: guestPort, close: NOTHING };
}
