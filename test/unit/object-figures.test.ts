import { expect, test } from 'vitest';
import type { Host, HostStatus } from '../../src/api/host.ts';
import type { VirtualMachine, VirtualMachineStatus } from '../../src/api/virtual-machine.ts';
import { objectFigures } from '../../src/serve/object-figures.ts';
import { Exposition } from '../e2e/support/exposition.ts';
import { storedVm } from '../fakes/manifests.ts';
import { someHost } from '../fakes/subjects.ts';

const AT = '2026-01-05T12:00:00Z';
const WEB = { namespace: 'default', name: 'web-1' };

const condition = (type: string, status: 'True' | 'False' | 'Unknown') => ({
  type,
  status,
  reason: 'Running',
  message: '',
  lastTransitionTime: AT,
});

const vm = (status?: Partial<VirtualMachineStatus>, spec = {}, metadata = {}): VirtualMachine => ({
  ...storedVm(spec, metadata),
  ...(status && { status: status as VirtualMachineStatus }),
});

async function figures(vms: readonly VirtualMachine[], hosts: readonly Host[] = []): Promise<Exposition> {
  const lists: Readonly<Record<string, readonly object[]>> = { VirtualMachine: vms, Host: hosts };
  const list = async (kind: string) => ({ items: lists[kind] ?? [], resourceVersion: '1' });
  let text = '';
  for await (const part of objectFigures({ list } as unknown as Parameters<typeof objectFigures>[0])) text += part;
  return new Exposition(text);
}

test('a running VM with a sample: every figure in its base unit', async () => {
  const seen = await figures([
    vm(
      {
        phase: 'Running',
        conditions: [condition('Ready', 'True'), condition('Running', 'True'), condition('RestartRequired', 'True')],
        accelerator: 'TCG',
        qemuVersion: '7.2.22',
        startedAt: AT,
        vcpus: 2,
        memory: '2Gi',
        restarts: 3,
        metrics: {
          at: AT,
          intervalSeconds: 60,
          cpu: { usageMilliCores: 1500, percent: 75 },
          memory: { allocatedBytes: 2 ** 31, residentBytes: 12_345, guestUsedBytes: 99 },
          disks: [
            {
              name: 'root',
              readBytes: 4096,
              writeBytes: 8192,
              readOpsPerSecond: 3,
              readLatencyMicros: 2500,
              actualBytes: 7,
            },
          ],
          networks: [{ name: 'net0', receiveBytes: 5, transmitBytes: 6, receivePacketsPerSecond: 7 }],
        },
      },
      { hostName: 'rack1', architecture: 'x86_64' },
    ),
  ]);
  const value = (name: string, labels = {}) => seen.value(`qemu_operator_vm_${name}`, { ...WEB, ...labels });
  expect(value('info', { host: 'rack1', architecture: 'x86_64', accelerator: 'TCG', qemu_version: '7.2.22' })).toBe(1);
  expect(value('phase', { phase: 'Running' })).toBe(1);
  expect(['ready', 'running', 'stalled', 'restart_required'].map((name) => value(name))).toEqual([1, 1, 0, 1]);
  expect(value('restarts_total')).toBe(3);
  expect(value('start_time_seconds')).toBe(Date.parse(AT) / 1000);
  expect([value('vcpus'), value('memory_bytes')]).toEqual([2, 2 ** 31]);
  expect(value('sample_time_seconds')).toBe(Date.parse(AT) / 1000);
  expect([value('cpu_usage_cores'), value('cpu_usage_ratio')]).toEqual([1.5, 0.75]);
  expect([value('memory_resident_bytes'), value('memory_guest_used_bytes')]).toEqual([12_345, 99]);
  const disk = (name: string) => value(`disk_${name}`, { disk: 'root' });
  expect(
    ['read_bytes_total', 'written_bytes_total', 'reads_per_second', 'read_latency_seconds', 'actual_bytes'].map(disk),
  ).toEqual([4096, 8192, 3, 0.0025, 7]);
  const network = (name: string) => value(`network_${name}`, { network: 'net0' });
  expect(['receive_bytes_total', 'transmit_bytes_total', 'receive_packets_per_second'].map(network)).toEqual([5, 6, 7]);
  expect(seen.typeOf('qemu_operator_vm_disk_read_bytes_total')).toBe('COUNTER');
});

test('what is not known has no series: no zero that nobody measured', async () => {
  const seen = await figures([vm({ phase: 'Stopped', conditions: [condition('Ready', 'True')], metrics: undefined })]);
  expect(seen.names.toSorted()).toEqual(
    ['info', 'phase', 'ready', 'restart_required', 'restarts_total', 'running', 'stalled'].map(
      (name) => `qemu_operator_vm_${name}`,
    ),
  );
  const unseen = await figures([vm()]);
  expect(unseen.names).toEqual(['qemu_operator_vm_info']);
});

test('a VM that cannot be seen is neither ready nor running', async () => {
  const seen = await figures([
    vm({ phase: 'Unknown', conditions: [condition('Ready', 'Unknown'), condition('Running', 'Unknown')] }),
  ]);
  expect(seen.value('qemu_operator_vm_ready', WEB)).toBe(0);
  expect(seen.value('qemu_operator_vm_running', WEB)).toBe(0);
  expect(seen.all('qemu_operator_vm_phase')).toEqual([{ labels: { ...WEB, phase: 'Unknown' }, value: 1 }]);
});

test('names that a sample has twice, and specs that cannot be read, do not spoil the scrape', async () => {
  const disks = [
    { name: 'a', readBytes: 1 },
    { name: 'a', readBytes: 2 },
  ];
  const unreadable = { ...vm(undefined, {}, { name: 'odd' }), spec: { hostName: 7 } } as unknown as VirtualMachine;
  const seen = await figures([vm({ metrics: { at: AT, intervalSeconds: 1, disks } }), unreadable]);
  expect(seen.all('qemu_operator_vm_disk_read_bytes_total')).toEqual([{ labels: { ...WEB, disk: 'a' }, value: 1 }]);
  expect(seen.value('qemu_operator_vm_info', { name: 'odd', host: '7' })).toBe(1);
});

test('a Host, and VMs by state that add up', async () => {
  const status: HostStatus = {
    conditions: [condition('Ready', 'False'), condition('Reachable', 'True')],
    info: {
      architecture: 'x86_64',
      os: 'Debian 12',
      kernel: '6.1',
      cpus: 8,
      memory: '16Gi',
      vmDir: { freeBytes: 10, totalBytes: 20 },
    },
    allocated: { vcpus: 4, memory: '1536Mi' },
    vms: { managed: 5, running: 2, strangers: 1 },
    roundTripMs: 40,
  };
  const seen = await figures([], [{ ...someHost(), status }]);
  const { name } = someHost().metadata;
  const value = (metric: string, labels = {}) => seen.value(`qemu_operator_host_${metric}`, { host: name, ...labels });
  expect([value('ready'), value('reachable'), value('round_trip_seconds')]).toEqual([0, 1, 0.04]);
  expect(['running', 'stopped', 'stranger'].map((state) => value('vms', { state }))).toEqual([2, 3, 1]);
  expect(
    ['cpus', 'memory_bytes', 'allocated_vcpus', 'allocated_memory_bytes', 'free_bytes', 'size_bytes'].map((one) =>
      value(one),
    ),
  ).toEqual([8, 2 ** 34, 4, 1536 * 2 ** 20, 10, 20]);
});

test('thousands of VMs: the text is written in moments, and others have their turn in between', async () => {
  const base = vm({ phase: 'Running', conditions: [condition('Ready', 'True')], restarts: 0, vcpus: 1, memory: '1Gi' });
  const vms = Array.from({ length: 5_000 }, (_, i) => ({ ...base, metadata: { ...base.metadata, name: `vm-${i}` } }));
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  }, 1);
  const list = async (kind: string) => ({ items: kind === 'Host' ? [] : vms, resourceVersion: '1' });
  let lines = 0;
  for await (const part of objectFigures({ list } as unknown as Parameters<typeof objectFigures>[0]))
    lines += part.split('\n').length;
  clearInterval(timer);
  expect(lines).toBeGreaterThan(5_000 * 8);
  expect(turns).toBeGreaterThan(3);
});
