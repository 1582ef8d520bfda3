/** Guests on bridges, as the host counts: whose interface is whose, the guest's point of view, and what is left out. */
import { describe, expect, test } from 'vitest';
import { tapName } from '../../src/api/networks.ts';
import { parseHostLook } from '../../src/qemu/sample-host.ts';
import { type Tap, tapFigures, tapsOf } from '../../src/qemu/sample-taps.ts';

const tap = (receivedBytes: number, sentBytes: number, bridge?: string): Tap => ({
  ...(bridge === undefined ? {} : { bridge }),
  receivedBytes,
  sentBytes,
  receivedPackets: receivedBytes / 100,
  sentPackets: sentBytes / 100,
});

describe('which interface is a network’s', () => {
  const LAN = { name: 'lan', bridge: 'br0' };
  const USER = { name: 'net0' };
  const own = tapName('/vms/web-1', 'lan');
  const found = (networks: readonly { name: string; bridge?: string }[], taps: Readonly<Record<string, Tap>>) =>
    [...tapsOf(networks, '/vms/web-1', new Map(Object.entries(taps)))].map(([name, { sentBytes }]) => [
      name,
      sentBytes,
    ]);
  const rows: readonly (readonly [string, Parameters<typeof found>[0], Parameters<typeof found>[1], unknown])[] = [
    ['by the name that QEMU was told, on no bridge as well', [USER, LAN], { [own]: tap(0, 1) }, [['lan', 1]]],
    [
      'the only one of the helper on that bridge',
      [LAN],
      { tap0: tap(0, 2, 'br0'), tap1: tap(0, 3, 'br1') },
      [['lan', 2]],
    ],
    ['two of the helper on one bridge', [LAN], { tap0: tap(0, 2, 'br0'), tap1: tap(0, 3, 'br0') }, []],
    ['two networks on one bridge', [LAN, { name: 'dmz', bridge: 'br0' }], { tap0: tap(0, 2, 'br0') }, []],
    [
      'two networks on two bridges',
      [LAN, { name: 'dmz', bridge: 'br1' }],
      { tap0: tap(0, 2, 'br1'), tap1: tap(0, 3, 'br0') },
      [
        ['lan', 3],
        ['dmz', 2],
      ],
    ],
    ['one of another network of ours', [LAN], { [tapName('/vms/web-1', 'dmz')]: tap(0, 2, 'br0') }, []],
    ['user networking', [USER], { tap0: tap(0, 2, 'br0') }, []],
  ];
  test.each(rows)('%s', (_what, networks, taps, expected) => {
    expect(found(networks, taps)).toEqual(expected);
  });
});

describe('figures', () => {
  const totals = { receiveBytes: 9_000, transmitBytes: 5_000 };
  const rows: readonly (readonly [string, Parameters<typeof tapFigures>[1], object])[] = [
    ['a first look', undefined, { figures: totals }],
    ['an interface that is new', { from: undefined, elapsedMs: 1_000 }, { figures: totals, lacks: 'FirstSample' }],
    ['one made anew', { from: tap(5_100, 0), elapsedMs: 1_000 }, { figures: totals, lacks: 'CounterReset' }],
    [
      'what the host sent is what the guest received',
      { from: tap(4_000, 1_000), elapsedMs: 2_000 },
      {
        figures: {
          receiveBytesPerSecond: 4_000,
          transmitBytesPerSecond: 500,
          receivePacketsPerSecond: 40,
          transmitPacketsPerSecond: 5,
          ...totals,
        },
      },
    ],
  ];
  test.each(rows)('%s', (_what, span, expected) => {
    expect(tapFigures(tap(5_000, 9_000), span)).toEqual(expected);
  });
});

test('the host’s answer names interfaces by process; one that went meanwhile is left out', () => {
  const stat = `7 (q) S 1 1 1 0 -1 0 0 0 0 0 70 30 0 0 20 0 4 0 12345 1000000 250 ${'0 '.repeat(20)}`;
  const counters = (name: string) =>
    ['rx_bytes:10', 'tx_bytes:20', 'rx_packets:1', 'tx_packets:2'].map(
      (line) => `/sys/class/net/${name}/statistics/${line}`,
    );
  const seen = parseHostLook(
    [
      '@clock 1772359200 250999999',
      '@uptime 1000.51 2000.00',
      `7/stat:${stat}`,
      '7/fdinfo/12:iff:\ttap0',
      '7/fdinfo/13:iff:\tgone',
      '8/fdinfo/3:iff:\ttap1',
      ...counters('tap0'),
      '/sys/class/net/tap0/master/uevent:DEVTYPE=bridge',
      '/sys/class/net/tap0/master/uevent:INTERFACE=br0',
      '/sys/class/net/gone/statistics/rx_bytes:1',
      ...counters('tap1'),
    ].join('\n'),
  );
  expect([...(seen?.processes.get(7)?.taps ?? [])]).toEqual([
    ['tap0', { bridge: 'br0', receivedBytes: 10, sentBytes: 20, receivedPackets: 1, sentPackets: 2 }],
  ]);
});
