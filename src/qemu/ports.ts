/** Which ports of a host are taken, as the kernel shows them, and by whom where a VM wants one of them. */
import type { EffectiveSpec } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import { ANY_ADDRESS, type HostForward } from '../api/networks.ts';
import type { Shell } from '../host/shell.ts';
import type { SeenPort } from '../reconcile/observed.ts';

export interface ProbedPort extends SeenPort {
  /** Of the socket: its owner has a descriptor that leads there. */
  readonly inode: string;
}

/** `/proc/net/tcp 0100007F:0BB8 12345`: addresses are words in the byte order of the host, little-endian wherever QEMU runs here. */
export function portsOf(lines: readonly string[]): ProbedPort[] {
  return lines.flatMap((line) => {
    const match = /^\/proc\/net\/(tcp|udp)6? ([0-9A-F]+):([0-9A-F]{4}) (\d+)$/.exec(line);
    const hostAddress = addressOf(match?.[2] ?? '');
    if (match === null || hostAddress === undefined) return [];
    const [, protocol, , port = '', inode = ''] = match;
    return [{ protocol: protocol === 'tcp' ? 'TCP' : 'UDP', hostAddress, hostPort: Number.parseInt(port, 16), inode }];
  });
}

const ANY_IPV6 = '0'.repeat(32);
/** ::ffff:a.b.c.d, in words. */
const MAPPED = '0000000000000000FFFF0000';

/** Undefined for IPv6 addresses that take no port of an IPv4 one; all of IPv6 mostly is all of IPv4 too. */
function addressOf(hex: string): string | undefined {
  if (hex === ANY_IPV6) return ANY_ADDRESS;
  const word = hex.length === 8 ? hex : hex.startsWith(MAPPED) ? hex.slice(MAPPED.length) : '';
  return word === '' ? undefined : Buffer.from(word, 'hex').reverse().join('.');
}

const TIMEOUT_MS = 10_000;

/** $@: inodes of sockets. Prints link, pid and program of whom this user may look into. */
const SCRIPT = `
LC_ALL=C; export LC_ALL
for inode; do set -- "$@" -o -lname "socket:\\\\[$inode\\\\]"; shift; done
shift
find /proc/[0-9]*/fd -maxdepth 1 \\( "$@" \\) 2>/dev/null | while read -r link; do
  pid=\${link#/proc/}; pid=\${pid%%/*}
  echo "$(readlink "$link") $pid $(basename "$(readlink "/proc/$pid/exe")")"
done
return 0
`;

/** Names who has the ports that these VMs, which have no process, ask for; one more script, and only where one is taken. */
export async function withHolders(
  shell: Shell,
  ports: readonly ProbedPort[],
  vms: readonly EffectiveSpec[],
  signal: AbortSignal,
): Promise<readonly SeenPort[]> {
  const holders = new Map<string, string>();
  const asked = vms.flatMap(({ launch }) => launch.networks.flatMap(({ forwards = [] }) => forwards));
  const inodes = new Set(ports.filter((port) => asked.some((one) => wants(one, port))).map(({ inode }) => inode));
  if (inodes.size === 0) return ports;
  const { stdout } = await shell.run(SCRIPT, [...inodes], { timeoutMs: TIMEOUT_MS, signal });
  for (const line of stdout.toString('utf8').split('\n')) {
    const [, inode, pid, name] = /^socket:\[(\d+)\] (\d+) (.*)$/.exec(line) ?? [];
    if (inode !== undefined && !holders.has(inode)) holders.set(inode, `${oneLine(name ?? '', 32)} (pid ${pid})`);
  }
  return ports.map((port) => {
    const holder = holders.get(port.inode);
    return holder === undefined ? port : { ...port, holder };
  });
}

function wants({ protocol, hostPort }: HostForward, port: ProbedPort): boolean {
  return protocol === port.protocol && hostPort === port.hostPort;
}
