/** Rows of `top`: what is not known is never a number, and never comes before what is. */
import { expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import type { Sample } from '../../src/api/virtual-machine-monitor.ts';
import { type Figures, hostRows, sorted, topHeader, topRow } from '../../src/cli/top-table.ts';
import { storedVm } from '../fakes/manifests.ts';

const AT = '2026-01-01T00:00:00Z';
const NOW = Date.parse(AT) + 3_000;

function figures(name: string, sample?: Partial<Sample>): Figures {
  const vm = storedVm({ hostName: 'h1' }, { name });
  return { vm, sample: sample === undefined ? undefined : { at: AT, intervalSeconds: 1, ...sample } };
}

const busy = figures('busy', {
  cpu: { usageMilliCores: 1500, percent: 75 },
  memory: { residentBytes: 1024 ** 3 },
  disks: [
    { name: 'a', readBytesPerSecond: 1024, writeBytesPerSecond: 0 },
    { name: 'b', readBytesPerSecond: 1024 },
  ],
  networks: [{ name: 'n', receiveBytesPerSecond: 10, transmitBytesPerSecond: 2048, receivePacketsPerSecond: 3 }],
});
const idle = figures('idle', {
  cpu: { usageMilliCores: 0, percent: 0 },
  memory: { residentBytes: 1024 ** 2 },
  networks: [{ name: 'n', receivePacketsPerSecond: 3, transmitPacketsPerSecond: 0 }],
});
const dark = figures('dark');

test('figures, in columns', () => {
  const cells = (one: Figures) =>
    Object.fromEntries(topRow(one, NOW, false).map((cell, i) => [topHeader(false)[i], cell]));
  expect(cells(busy)).toEqual({
    NAME: 'busy',
    'CPU(cores)': '1500m',
    'CPU%': '75%',
    'MEMORY(bytes)': '1Gi',
    'DISK READ': '2Ki/s',
    'DISK WRITE': '0B/s',
    'NET RX': '10B/s',
    'NET TX': '2Ki/s',
    AGE: '3s',
  });
  expect(cells(idle)).toMatchObject({ 'CPU(cores)': '0m', 'DISK READ': '-', 'NET RX': '3pkt/s', 'NET TX': '0pkt/s' });
  expect(topRow(dark, NOW, true)).toEqual(['default', 'dark', '-', '-', '-', '-', '-', '-', '-', '-']);
});

test('the largest first; a zero was measured, and comes before what is not known', () => {
  const names = (key: Parameters<typeof sorted>[1]) =>
    sorted([dark, idle, busy], key).map(({ vm }) => vm.metadata.name);
  expect(names('cpu')).toEqual(['busy', 'idle', 'dark']);
  expect(names('memory')).toEqual(['busy', 'idle', 'dark']);
  expect(names('disk')).toEqual(['busy', 'dark', 'idle']);
  expect(names('network')).toEqual(['busy', 'idle', 'dark']);
  expect(names('name')).toEqual(['busy', 'dark', 'idle']);
});

test('a host is what its machines come to; with one unknown, at least that', () => {
  const host = {
    metadata: { name: 'h1' },
    status: { info: { cpus: 4, memory: '8Gi' } },
  } as Host;
  expect(hostRows([host], [busy, idle])).toEqual([['h1', '2', '1500m', '38%', '1Gi', '13%']]);
  expect(hostRows([host], [busy, dark])).toEqual([['h1', '2', '>=1500m', '>=38%', '>=1Gi', '>=13%']]);
  expect(hostRows([host], [dark])).toEqual([['h1', '1', '-', '-', '-', '-']]);
  expect(hostRows([host], [])).toEqual([]);
});
