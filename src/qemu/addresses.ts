/**
 * Addresses of guests as the host has evidence of them, for guests that do not tell: the flows of user networking
 * and the host's neighbour table. QEMU says nothing of the lease that its DHCP server gave; the source of a flow is an
 * address that the guest was seen to use. What was seen once holds for the life of the process.
 */
import { usefulAddresses } from './agent-answers.ts';

interface Known {
  readonly pid: number;
  /** By MAC address, lower case. */
  readonly ips: Map<string, readonly string[]>;
}

/** What is remembered of the guests of a host, by VM folder. */
export class Addresses {
  readonly #known = new Map<string, Known>();

  /** Evidence of now; it takes the place of what was known of the same MAC address. */
  note(folder: string, pid: number, mac: string, ips: readonly string[]): void {
    if (ips.length === 0) return;
    const known = this.#known.get(folder);
    const entry = known?.pid === pid ? known : { pid, ips: new Map<string, readonly string[]>() };
    this.#known.set(folder, entry);
    entry.ips.set(mac.toLowerCase(), ips);
  }

  of(folder: string, pid: number, mac: string): readonly string[] | undefined {
    const known = this.#known.get(folder);
    return known?.pid === pid ? known.ips.get(mac.toLowerCase()) : undefined;
  }

  forget(folder: string): void {
    this.#known.delete(folder);
  }
}

const MAX_FLOW_LINES = 500;
/** `  TCP[ESTABLISHED]   26   10.0.2.15 41234   192.0.2.4    80   0   0` */
const FLOW = /^\s+\w+\[([^\]]*)\]\s+-?\d+\s+(\S+)\s+\d+\s/;
/** The addresses of these are the host's, or ones that nobody has answered from yet. */
const NO_EVIDENCE = /HOST_FORWARD|SYN_SENT/;

/** Of QEMU's `info usernet`: by the name of the network device, the addresses that its guest uses. */
export function flowSources(text: string): Map<string, string[]> {
  const sources = new Map<string, string[]>();
  let device: string | undefined;
  for (const line of text.split(/\r?\n/, MAX_FLOW_LINES)) {
    device = /^\S.*\(([^)]*)\):$/.exec(line)?.[1] ?? device;
    const flow = FLOW.exec(line);
    if (device === undefined || flow === null || NO_EVIDENCE.test(flow[1] ?? '')) continue;
    sources.set(device, usefulAddresses([...(sources.get(device) ?? []), flow[2] ?? '']));
  }
  return sources;
}

/**
 * Of /proc/net/arp and `ip -6 neigh`: by MAC address in lower case, the addresses that the host has for it.
 * Sources: proc(5), ip-neighbour(8).
 */
export function neighboursIn(lines: readonly string[]): Map<string, string[]> {
  const neighbours = new Map<string, string[]>();
  const add = (mac: string | undefined, ip: string | undefined) => {
    if (mac === undefined || ip === undefined) return;
    const key = mac.toLowerCase();
    neighbours.set(key, [...(neighbours.get(key) ?? []), ip]);
  };
  for (const line of lines) {
    const arp = /^(\d+\.\d+\.\d+\.\d+)\s+0x\S+\s+0x(\S+)\s+([0-9a-fA-F:]{17})\s/.exec(line);
    // Flag 2: the entry is complete.
    if (arp !== null && (Number.parseInt(arp[2] ?? '0', 16) & 2) !== 0) add(arp[3], arp[1]);
    const six = /^([0-9a-fA-F:]+) dev \S+ lladdr ([0-9a-fA-F:]{17})\b(?!.*\b(?:FAILED|INCOMPLETE)\b)/.exec(line);
    if (six !== null) add(six[2], six[1]);
  }
  return new Map([...neighbours].map(([mac, ips]) => [mac, usefulAddresses(ips)]));
}
