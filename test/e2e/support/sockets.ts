/** Ports as the kernel has them: what a process listens on, and what is free. */
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:net';

/** proc(5): TCP_LISTEN, and what an unconnected socket of UDP shows. */
const OPEN = { tcp: '0A', udp: '07' } as const;

/** Addresses on which a process takes what comes, as `127.0.0.1:80`: the inodes of its sockets are among its descriptors. */
export function boundBy(pid: number, protocol: keyof typeof OPEN): string[] {
  const lines = readFileSync(`/proc/${pid}/net/${protocol}`, 'utf8').split('\n').slice(1);
  const mine = socketsOf(pid);
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === OPEN[protocol] && mine.has(fields[9] ?? ''))
    .map((fields) => addressIn(fields[1] ?? ''));
}

/** Ports of TCP that a process listens on. */
export function listening(pid: number): number[] {
  return boundBy(pid, 'tcp')
    .map((address) => Number(address.split(':')[1]))
    .sort();
}

/** The kernel writes an address as a number of the machine's own byte order. */
function addressIn(hex: string): string {
  const [address = '', port = ''] = hex.split(':');
  return `${[...Buffer.from(address, 'hex')].reverse().join('.')}:${Number.parseInt(port, 16)}`;
}

function socketsOf(pid: number): Set<string> {
  const inodes = readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`));
  return new Set(inodes.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

export async function listen(port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return { server, port: typeof address === 'object' && address !== null ? address.port : 0 };
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const { server, port } = await listen();
  server.close();
  await once(server, 'close');
  return port;
}
