/** Figures of running machines as rows, and what they come to on each host. A figure that is not known is `-`. Pure. */
import type { Host } from '../api/host.ts';
import { humanBytes, parseQuantity } from '../api/quantity.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import { ageOf } from './duration.ts';

export const SORT_KEYS = ['cpu', 'memory', 'disk', 'network', 'name'] as const;
export type SortKey = (typeof SORT_KEYS)[number];

export interface Figures {
  readonly vm: VirtualMachine;
  readonly sample: Sample | undefined;
}

const UNKNOWN = '-';

export function topHeader(withNamespace: boolean): string[] {
  const columns = ['NAME', 'CPU(cores)', 'CPU%', 'MEMORY(bytes)', 'DISK READ', 'DISK WRITE', 'NET RX', 'NET TX', 'AGE'];
  return withNamespace ? ['NAMESPACE', ...columns] : columns;
}

export function topRow({ vm, sample }: Figures, now: number, withNamespace: boolean): string[] {
  const { cpu, memory, disks } = sample ?? {};
  return [
    ...(withNamespace ? [vm.metadata.namespace] : []),
    vm.metadata.name,
    cores(cpu?.usageMilliCores),
    percent(cpu?.percent),
    bytes(memory?.residentBytes),
    rate(sum(disks?.map((disk) => disk.readBytesPerSecond))),
    rate(sum(disks?.map((disk) => disk.writeBytesPerSecond))),
    traffic(sample, 'receive'),
    traffic(sample, 'transmit'),
    sample === undefined ? UNKNOWN : ageOf(sample.at, Math.max(now, Date.parse(sample.at))),
  ];
}

/** The largest first, names in order; what is not known comes last. */
export function sorted(figures: readonly Figures[], key: SortKey): Figures[] {
  const name = ({ vm: { metadata } }: Figures) => `${metadata.namespace}/${metadata.name}`;
  const byName = (a: Figures, b: Figures) => (name(a) < name(b) ? -1 : 1);
  if (key === 'name') return figures.toSorted(byName);
  const weight = ({ sample }: Figures) => WEIGHTS[key](sample) ?? -1;
  return figures.toSorted((a, b) => weight(b) - weight(a) || byName(a, b));
}

const WEIGHTS: Readonly<Record<Exclude<SortKey, 'name'>, (sample: Sample | undefined) => number | undefined>> = {
  cpu: (sample) => sample?.cpu?.usageMilliCores,
  memory: (sample) => sample?.memory?.residentBytes,
  disk: (sample) => sum(sample?.disks?.flatMap((one) => [one.readBytesPerSecond, one.writeBytesPerSecond])),
  network: (sample) =>
    sum(sample?.networks?.flatMap((one) => [one.receiveBytesPerSecond, one.transmitBytesPerSecond])) ??
    // Packets say something, though less.
    sum(sample?.networks?.flatMap((one) => [one.receivePacketsPerSecond, one.transmitPacketsPerSecond])),
};

export const HOST_HEADER = ['HOST', 'MACHINES', 'CPU(cores)', 'CPU%', 'MEMORY(bytes)', 'MEMORY%'] as const;

/** What the machines shown come to; with one that is not known it is at least that. */
export function hostRows(hosts: readonly Host[], figures: readonly Figures[]): string[][] {
  return hosts.flatMap((host) => {
    const here = figures.filter(({ vm }) => vm.spec.hostName === host.metadata.name);
    if (here.length === 0) return [];
    const milli = here.map(({ sample }) => sample?.cpu?.usageMilliCores);
    const resident = here.map(({ sample }) => sample?.memory?.residentBytes);
    const { cpus, memory } = host.status?.info ?? {};
    const share = (part: number | undefined, whole: number | undefined) =>
      part === undefined || whole === undefined || whole === 0 ? undefined : Math.round((part / whole) * 100);
    const total = memory === undefined ? undefined : parseQuantity(memory);
    const words = (values: readonly (number | undefined)[], text: string) =>
      text !== UNKNOWN && values.includes(undefined) ? `>=${text}` : text;
    return [
      [
        host.metadata.name,
        String(here.length),
        words(milli, cores(sum(milli))),
        words(milli, percent(share(sum(milli), cpus === undefined ? undefined : cpus * 1000))),
        words(resident, bytes(sum(resident))),
        words(resident, percent(share(sum(resident), total))),
      ],
    ];
  });
}

/** Of those that are known; undefined where none is. */
function sum(values: readonly (number | undefined)[] | undefined): number | undefined {
  const known = (values ?? []).filter((value) => value !== undefined);
  return known.length === 0 ? undefined : known.reduce((total, value) => total + value, 0);
}

/** Bytes where somebody counts them, else packets. */
function traffic(sample: Sample | undefined, way: 'receive' | 'transmit'): string {
  const counted = sum(sample?.networks?.map((one) => one[`${way}BytesPerSecond`]));
  if (counted !== undefined) return rate(counted);
  const packets = sum(sample?.networks?.map((one) => one[`${way}PacketsPerSecond`]));
  return packets === undefined ? UNKNOWN : `${packets}pkt/s`;
}

function cores(milli: number | undefined): string {
  return milli === undefined ? UNKNOWN : `${milli}m`;
}

function percent(value: number | undefined): string {
  return value === undefined ? UNKNOWN : `${value}%`;
}

function bytes(value: number | undefined): string {
  return value === undefined ? UNKNOWN : humanBytes(value);
}

function rate(value: number | undefined): string {
  return value === undefined ? UNKNOWN : `${humanBytes(value)}/s`;
}
