/** The arithmetic of samples: integers, nothing made up, and a reason for whatever is missing. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { LaunchSpec } from '../../src/api/effective-spec.ts';
import { strict } from '../../src/api/schema.ts';
import { sampleSchema } from '../../src/api/virtual-machine-monitor.ts';
import type { InterfaceReading } from '../../src/qemu/agents.ts';
import { byteFigures } from '../../src/qemu/sample-bytes.ts';
import { type Looks, sampleOf, type VmLook } from '../../src/qemu/sample-figures.ts';
import { parseHostLook } from '../../src/qemu/sample-host.ts';
import type { Answer, MonitorReading, PacketCounters } from '../../src/qemu/sample-monitor.ts';

const MIB = 1_048_576;
const AT_MS = Date.parse('2026-03-01T10:00:00.250Z');

const spec = {
  uuid: '6d3a1f0e-0000-4000-8000-000000000001',
  architecture: 'x86_64',
  vcpus: 2,
  memoryMiB: 512,
  firmware: 'BIOS',
  accelerator: 'TCG',
  disks: [{ name: 'root', path: '/d', format: 'raw' }],
  cdroms: [],
  networks: [{ name: 'net0', mac: '52:54:00:00:00:01' }],
  vnc: false,
} as unknown as LaunchSpec;

const answered = <T>(value: T): Answer<T> => ({ kind: 'answered', value });

function packets(atMs: number, received: number, transmitted: number, driverReady = true) {
  return new Map([['net0', answered<PacketCounters>({ atMs, received, transmitted, driverReady })]]);
}

function monitor(atMs: number, changes: Partial<MonitorReading> = {}): MonitorReading {
  return {
    atMs,
    vcpuThreads: answered(
      new Map([
        [0, 11],
        [1, 12],
      ]),
    ),
    disks: answered(
      new Map([['root', { readBytes: 0, writeBytes: 0, readOps: 0, writeOps: 0, readNanos: 0, writeNanos: 0 }]]),
    ),
    diskActualBytes: answered(new Map([['root', 8192]])),
    allocatedBytes: answered(512 * MIB),
    guestMemory: answered({ updatedAtSeconds: AT_MS / 1000, total: 500 * MIB, available: 400 * MIB }),
    packets: packets(atMs, 0, 0),
    ...changes,
  };
}

interface LookOptions {
  readonly uptimeMs?: number;
  readonly cpuTicks?: number;
  readonly threads?: readonly [number, number];
  readonly monitor?: MonitorReading | undefined;
}

function look({ uptimeMs = 10_000, cpuTicks = 0, threads = [0, 0], ...rest }: LookOptions = {}): VmLook {
  return {
    host: { atMs: AT_MS, uptimeMs, ticksPerSecond: 100, pageBytes: 4096 },
    process: {
      startTicks: 5,
      cpuTicks,
      residentPages: 1000,
      threads: new Map([
        [11, threads[0]],
        [12, threads[1]],
      ]),
      taps: new Map(),
    },
    monitor: 'monitor' in rest ? rest.monitor : monitor(uptimeMs),
  };
}

const reasons = (looks: Looks) =>
  Object.fromEntries((sampleOf(looks).unavailable ?? []).map(({ metric, reason }) => [metric, reason]));

describe('a first sample', () => {
  test('has what one look can tell, and no rates', () => {
    const sample = sampleOf({ spec, now: look() });
    expect(sample).toEqual({
      at: '2026-03-01T10:00:00.250Z',
      intervalSeconds: 0,
      memory: {
        allocatedBytes: 512 * MIB,
        residentBytes: 1000 * 4096,
        guestUsedBytes: 100 * MIB,
        guestAvailableBytes: 400 * MIB,
      },
      disks: [{ name: 'root', readBytes: 0, writeBytes: 0, actualBytes: 8192 }],
      networks: [{ name: 'net0' }],
      unavailable: [
        { metric: 'rates', reason: 'FirstSample' },
        { metric: 'networks[net0].bytes', reason: 'NoByteCounters' },
      ],
    });
  });
});

describe('bytes of the network, as the guest counts them', () => {
  const MAC = spec.networks[0]?.mac ?? '';
  const reading = (atMs: number, receiveBytes?: number, transmitBytes = 0): InterfaceReading => ({
    atMs,
    interfaces: [{ mac: MAC, ips: [], transmitBytes, ...(receiveBytes === undefined ? {} : { receiveBytes }) }],
  });
  const former = (interfaces?: VmLook['interfaces']) => ({ ...look(), interfaces });
  const rows: readonly (readonly [string, VmLook['interfaces'], VmLook | undefined, unknown, unknown])[] = [
    ['no agent', undefined, former(), {}, ['bytes', 'NoByteCounters']],
    ['an agent that is late', 'late', former(reading(1)), {}, ['bytes', 'GuestAgentSilent']],
    ['an agent that does not tell', reading(9_000), former(), {}, ['bytes', 'GuestDoesNotReport']],
    [
      'an agent that does not know the interface',
      { atMs: 9, interfaces: [] },
      former(),
      {},
      ['bytes', 'GuestDoesNotReport'],
    ],
    ['a first look', reading(9_000, 5, 7), undefined, { receiveBytes: 5, transmitBytes: 7 }, undefined],
    [
      'an agent that is new',
      reading(9_000, 5),
      former(),
      { receiveBytes: 5, transmitBytes: 0 },
      ['byteRates', 'FirstSample'],
    ],
    [
      'one that was late before',
      reading(9_000, 5),
      former('late'),
      { receiveBytes: 5, transmitBytes: 0 },
      ['byteRates', 'GuestAgentSilent'],
    ],
    ['looks too near', reading(9_000, 5), former(reading(8_801, 1)), { receiveBytes: 5, transmitBytes: 0 }, undefined],
    [
      'a guest that started again',
      reading(9_000, 5),
      former(reading(8_000, 6)),
      { receiveBytes: 5, transmitBytes: 0 },
      ['byteRates', 'CounterReset'],
    ],
    [
      'one whose sent bytes began anew',
      reading(9_000, 5),
      former(reading(8_000, 5, 1)),
      { receiveBytes: 5, transmitBytes: 0 },
      ['byteRates', 'CounterReset'],
    ],
    [
      'two looks',
      reading(9_000, 3_005, 100),
      former(reading(7_000, 5, 100)),
      { receiveBytes: 3_005, transmitBytes: 100, receiveBytesPerSecond: 1_500, transmitBytesPerSecond: 0 },
      undefined,
    ],
  ];
  test.each(rows)('%s', (_what, to, earlier, figures, lacks) => {
    const found = byteFigures(MAC.toUpperCase(), to, earlier);
    expect([found.figures, found.lacks && [found.lacks.figure, found.lacks.reason]]).toEqual([figures, lacks]);
  });

  test('are the host’s where it has an interface of the guest, whatever the agent says', () => {
    const counted = (bytes: number) =>
      new Map([['net0', { receivedBytes: bytes, sentBytes: 0, receivedPackets: 0, sentPackets: 0 }]]);
    const before = { ...former(reading(1, 1)), taps: counted(0) };
    const sample = sampleOf({
      spec,
      before,
      now: { ...look({ uptimeMs: 12_000 }), interfaces: reading(1, 5), taps: counted(500) },
    });
    expect(sample.networks).toEqual([
      {
        name: 'net0',
        receiveBytes: 0,
        transmitBytes: 500,
        receiveBytesPerSecond: 0,
        transmitBytesPerSecond: 250,
        receivePacketsPerSecond: 0,
        transmitPacketsPerSecond: 0,
      },
    ]);
    expect(sample.unavailable?.filter(({ metric }) => metric.startsWith('networks'))).toEqual([]);
  });

  test('stand in the sample', () => {
    const sample = sampleOf({
      spec,
      before: former('late'),
      now: { ...look({ uptimeMs: 12_000 }), interfaces: reading(1, 5) },
    });
    expect(sample.networks).toEqual([{ name: 'net0', receiveBytes: 5, transmitBytes: 0 }]);
    expect(reasons({ spec, before: former('late'), now: { ...look(), interfaces: reading(1, 5) } })).toMatchObject({
      'networks[net0].byteRates': 'GuestAgentSilent',
    });
  });
});

describe('rates between two looks', () => {
  const counters = { readBytes: 4096, writeBytes: 20_480, readOps: 1, writeOps: 5, readNanos: 3e6, writeNanos: 10e6 };
  const before = look();
  const now = look({
    uptimeMs: 12_000,
    cpuTicks: 250,
    threads: [200, 20],
    monitor: monitor(12_000, { disks: answered(new Map([['root', counters]])) }),
  });

  test('are per second of the elapsed time', () => {
    const sample = sampleOf({
      spec,
      before,
      now,
      packets: { from: packets(11_000, 10, 65_530), to: packets(12_000, 30, 4) },
    });
    expect(sample.intervalSeconds).toBe(2);
    expect(sample.cpu).toEqual({
      usageMilliCores: 1250,
      percent: 63,
      perVcpu: [
        { index: 0, percent: 100 },
        { index: 1, percent: 10 },
      ],
    });
    expect(sample.disks).toEqual([
      {
        name: 'root',
        readBytesPerSecond: 2048,
        writeBytesPerSecond: 10_240,
        readOpsPerSecond: 1,
        writeOpsPerSecond: 3,
        readLatencyMicros: 3000,
        writeLatencyMicros: 2000,
        readBytes: 4096,
        writeBytes: 20_480,
        actualBytes: 8192,
      },
    ]);
    // The counter of what was sent passed 65,535 between the two.
    expect(sample.networks).toEqual([{ name: 'net0', receivePacketsPerSecond: 20, transmitPacketsPerSecond: 10 }]);
  });

  test('a latency without operations is none, and says so', () => {
    const idle = look({ uptimeMs: 12_000 });
    const sample = sampleOf({ spec, before, now: idle });
    expect(sample.disks?.[0]).not.toHaveProperty('readLatencyMicros');
    expect(sample.disks?.[0]?.readOpsPerSecond).toBe(0);
    expect(reasons({ spec, before, now: idle })).toMatchObject({ 'disks[root].readLatencyMicros': 'NoOperations' });
  });

  test('a counter that went back gives no rate', () => {
    const back = { spec, before: now, now: look({ uptimeMs: 14_000 }) };
    expect(reasons(back)['disks[root].rates']).toBe('CounterReset');
    expect(sampleOf(back).disks?.[0]).toEqual({ name: 'root', readBytes: 0, writeBytes: 0, actualBytes: 8192 });
  });

  test('two looks too near give none', () => {
    expect(reasons({ spec, before, now: look({ uptimeMs: 10_100 }) })['rates']).toBe('IntervalTooShort');
  });

  test('vCPUs of one host thread are not told apart', () => {
    const shared = answered(
      new Map([
        [0, 11],
        [1, 11],
      ]),
    );
    const looks = { spec, before, now: look({ uptimeMs: 12_000, monitor: monitor(12_000, { vcpuThreads: shared }) }) };
    expect(sampleOf(looks).cpu).toEqual({ usageMilliCores: 0, percent: 0 });
    expect(reasons(looks)['cpu.perVcpu']).toBe('SharedThread');
  });
});

describe('packets', () => {
  const before = look();
  const now = look({ uptimeMs: 11_000 });
  const told = (from: Map<string, Answer<PacketCounters>>, to: Map<string, Answer<PacketCounters>>) =>
    reasons({ spec, before, now, packets: { from, to } })['networks[net0].packets'];

  test('are left out when the counter may have wrapped', () => {
    expect(told(packets(0, 0, 0), packets(5000, 10, 10))).toBe('CounterMayHaveWrapped');
    // A guest that started again begins at 0.
    expect(told(packets(0, 300, 200), packets(1000, 0, 0))).toBe('CounterMayHaveWrapped');
  });

  test('are left out without a driver in the guest, or when QEMU is older than 7.2', () => {
    expect(told(packets(0, 0, 0, false), packets(1000, 0, 0))).toBe('GuestDriverAbsent');
    const old = new Map([['net0', { kind: 'failed', reason: 'QEMUTooOld' } as const]]);
    expect(told(old, old)).toBe('QEMUTooOld');
  });
});

describe("the guest's memory", () => {
  const told = (changes: Partial<MonitorReading>) =>
    reasons({ spec, now: look({ monitor: monitor(0, changes) }) })['memory.guest'];

  test('is left out while the guest does not report, or has stopped to', () => {
    expect(told({ guestMemory: answered({ updatedAtSeconds: 0 }) })).toBe('GuestDoesNotReport');
    const old = { updatedAtSeconds: AT_MS / 1000 - 3600, total: MIB, available: MIB };
    expect(told({ guestMemory: answered(old) })).toBe('GuestDoesNotReport');
    expect(told({ guestMemory: { kind: 'failed', reason: 'NotAttached' } })).toBe('NotAttached');
  });
});

test('a silent monitor leaves what the kernel knows', () => {
  const now = look({ uptimeMs: 11_000, cpuTicks: 100, monitor: undefined });
  const looks = { spec, before: look(), now };
  expect(sampleOf(looks)).toMatchObject({
    cpu: { usageMilliCores: 1000, percent: 50 },
    memory: { allocatedBytes: 512 * MIB, residentBytes: 1000 * 4096 },
  });
  expect(reasons(looks)).toEqual({
    'cpu.perVcpu': 'MonitorUnresponsive',
    'memory.guest': 'MonitorUnresponsive',
    disks: 'MonitorUnresponsive',
    networks: 'MonitorUnresponsive',
  });
});

test('every sample fits the schema, however many devices there are and whatever they count', () => {
  const figure = fc.nat(2 ** 31);
  const counters = fc.record({
    readBytes: figure,
    writeBytes: figure,
    readOps: figure,
    writeOps: figure,
    readNanos: figure,
    writeNanos: figure,
  });
  const form = sampleSchema(strict);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(counters, counters), { minLength: 1, maxLength: 32 }),
      fc.nat(16),
      fc.nat(100_000),
      fc.nat(2 ** 31),
      (disks, networks, elapsedMs, cpuTicks) => {
        const many = {
          ...spec,
          disks: disks.map((_, index) => ({ name: `d${index}`, path: `/${index}`, format: 'raw' as const })),
          networks: Array.from({ length: networks }, (_, index) => ({ name: `n${index}`, mac: '' })),
        } as unknown as LaunchSpec;
        const at = (which: 0 | 1, uptimeMs: number) =>
          monitor(uptimeMs, { disks: answered(new Map(disks.map((pair, index) => [`d${index}`, pair[which]]))) });
        const sample = sampleOf({
          spec: many,
          before: look({ monitor: at(0, 10_000) }),
          now: look({ uptimeMs: 10_000 + elapsedMs, cpuTicks, monitor: at(1, 10_000 + elapsedMs) }),
          packets: { from: new Map(), to: new Map() },
        });
        form.parse(sample);
        expect(JSON.stringify(sample)).not.toMatch(/null|NaN/);
      },
    ),
  );
});

test('what /proc says is read whatever the process is called, and whatever a login shell printed before', () => {
  const stat = (id: number, name: string, state = 'S') =>
    `${id} (${name}) ${state} 1 1 1 0 -1 0 0 0 0 0 70 30 0 0 20 0 4 0 12345 1000000 250 ${'0 '.repeat(20)}`;
  const seen = parseHostLook(
    [
      'Welcome to this machine',
      '@clock 1772359200 250999999',
      '@uptime 1000.51 2000.00',
      '@units 100 4096',
      `7/stat:${stat(7, 'vm:a) R 1 (x')}`,
      `7/task/7/stat:${stat(7, 'vm:a) R 1 (x')}`,
      `7/task/8/stat:${stat(8, 'CPU 0/TCG')}`,
      `9/stat:${stat(9, 'qemu', 'Z')}`,
      '',
    ].join('\n'),
  );
  expect(seen).toMatchObject({ atMs: 1_772_359_200_250, uptimeMs: 1_000_510, ticksPerSecond: 100, pageBytes: 4096 });
  expect([...(seen?.processes.keys() ?? [])]).toEqual([7]);
  expect(seen?.processes.get(7)).toMatchObject({ startTicks: 12_345, cpuTicks: 100, residentPages: 250 });
  expect([...(seen?.processes.get(7)?.threads.keys() ?? [])]).toEqual([7, 8]);
});

test('a host whose date knows no nanoseconds is read to the second', () => {
  const seen = parseHostLook('@clock 1772359200 %N\n@uptime 5.00 1.00\n@units 100 0\n');
  expect(seen).toEqual({ atMs: 1_772_359_200_000, uptimeMs: 5000, ticksPerSecond: 100, processes: new Map() });
  expect(parseHostLook('sh: date: not found')).toBeUndefined();
});
