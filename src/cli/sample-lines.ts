/** The figures of one sample as lines for people. Pure. */
import { humanBytes } from '../api/quantity.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';

/** What cannot be known is left out. */
export function sampleLines({ cpu, memory, disks = [], networks = [] }: Sample): string[] {
  return [
    line('cpu', [
      percent(cpu?.percent),
      cpu?.usageMilliCores === undefined ? undefined : `${cpu.usageMilliCores} thousandths of a host CPU`,
    ]),
    line('memory', [
      worded(memory?.residentBytes, 'in use on the host'),
      worded(memory?.allocatedBytes, 'allocated'),
      worded(memory?.guestUsedBytes, 'used by the guest'),
    ]),
    ...disks.map((disk) =>
      line(`disk ${disk.name}`, [
        worded(disk.readBytesPerSecond, 'read', '/s'),
        worded(disk.writeBytesPerSecond, 'written', '/s'),
        worded(disk.actualBytes, 'occupied'),
      ]),
    ),
    ...networks.map((net) =>
      line(`network ${net.name}`, [
        worded(net.receiveBytesPerSecond, 'received', '/s'),
        worded(net.transmitBytesPerSecond, 'sent', '/s'),
        packets(net.receivePacketsPerSecond, 'received'),
        packets(net.transmitPacketsPerSecond, 'sent'),
      ]),
    ),
  ].filter((text) => text !== undefined);
}

function line(name: string, parts: readonly (string | undefined)[]): string | undefined {
  const known = parts.filter((part) => part !== undefined);
  return known.length === 0 ? undefined : `${name}: ${known.join(', ')}`;
}

function percent(value: number | undefined): string | undefined {
  return value === undefined ? undefined : `${value}% of its vCPUs`;
}

function worded(bytes: number | undefined, word: string, per = ''): string | undefined {
  return bytes === undefined ? undefined : `${humanBytes(bytes)}${per} ${word}`;
}

function packets(count: number | undefined, word: string): string | undefined {
  return count === undefined ? undefined : `${count} packets/s ${word}`;
}
