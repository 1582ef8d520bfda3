/** What guests say of themselves, and what hosts know of them: read as it is meant, and bounded whatever it is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Addresses, flowSources, neighboursIn } from '../../src/qemu/addresses.ts';
import { guestTimeIn, interfacesIn, systemIn, usefulAddresses } from '../../src/qemu/agent-answers.ts';

const MAC = '52:54:00:00:00:01';
const ip = (address: string) => ({ 'ip-address-type': 'ipv4', 'ip-address': address, prefix: 24 });

describe('interfaces', () => {
  /** As qemu-ga 7.2 answers. */
  const LO = {
    name: 'lo',
    'ip-addresses': [ip('127.0.0.1'), ip('::1')],
    statistics: { 'rx-bytes': 5, 'tx-bytes': 5 },
    'hardware-address': '00:00:00:00:00:00',
  };
  const ETH = {
    name: 'eth0',
    'ip-addresses': [ip('10.0.2.15'), ip('FEC0::5054:ff:fe00:1'), ip('fe80::5054:ff:fe00:1')],
    statistics: { 'tx-packets': 9, 'rx-bytes': 1290, 'tx-bytes': 1286 },
    'hardware-address': MAC.toUpperCase(),
  };

  test('as a Linux agent tells them', () => {
    expect(interfacesIn([LO, ETH])).toEqual([
      { mac: '00:00:00:00:00:00', ips: [], receiveBytes: 5, transmitBytes: 5 },
      { mac: MAC, ips: ['10.0.2.15', 'fec0::5054:ff:fe00:1'], receiveBytes: 1290, transmitBytes: 1286 },
    ]);
  });

  test('a bridge in the guest has its port’s address: its addresses count, its bytes do not twice', () => {
    const port = { ...ETH, 'ip-addresses': undefined };
    const bridge = {
      ...ETH,
      name: 'br0',
      'ip-addresses': [ip('192.0.2.7')],
      statistics: { 'rx-bytes': 1, 'tx-bytes': 1 },
    };
    expect(interfacesIn([port, bridge])).toEqual([
      { mac: MAC, ips: ['192.0.2.7'], receiveBytes: 1290, transmitBytes: 1286 },
    ]);
  });

  test('what has another form is left out, and the rest is kept', () => {
    const odd = {
      'hardware-address': MAC,
      'ip-addresses': [ip('10.0.0.1'), 7, ip('$(id)')],
      statistics: { 'rx-bytes': -1 },
    };
    expect(interfacesIn([null, 'x', { name: 'tun0' }, { 'hardware-address': 'aa' }, odd])).toEqual([
      { mac: MAC, ips: ['10.0.0.1'] },
    ]);
    expect(interfacesIn({ 0: ETH })).toEqual([]);
    expect(interfacesIn(undefined)).toEqual([]);
  });

  test('whatever a guest answers, the result has its bounds', () => {
    const entry = fc.record(
      {
        'hardware-address': fc.oneof(fc.constant(MAC), fc.string()),
        'ip-addresses': fc.oneof(fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()).map(ip)), fc.anything()),
        statistics: fc.oneof(fc.record({ 'rx-bytes': fc.double(), 'tx-bytes': fc.nat() }), fc.anything()),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(fc.array(entry), fc.anything()), (answer) => {
        for (const { mac, ips, receiveBytes = 0 } of interfacesIn(answer)) {
          expect(mac).toMatch(/^[0-9a-f:]{17}$/);
          expect(ips.length).toBeLessThanOrEqual(16);
          for (const one of ips) expect(one).toMatch(/^[0-9a-f.:]{2,45}$/);
          expect(Number.isSafeInteger(receiveBytes) && receiveBytes >= 0).toBe(true);
        }
      }),
    );
  });
});

test.each([
  [['127.0.0.1', '::1', '10.0.0.5'], ['10.0.0.5']],
  [['fe80::1', '169.254.7.7', '2001:DB8::1'], ['2001:db8::1']],
  [
    ['169.254.7.7', 'fe80::1'],
    ['169.254.7.7', 'fe80::1'],
  ],
  [['10.0.0.5', '10.0.0.5'], ['10.0.0.5']],
  [['fe80::1%eth0', '0.0.0.0', '::', '10.0.0.5/24', ' 10.0.0.5', ''], []],
  [['127.1.2.3', '::ffff:127.0.0.1'], []],
])('of %j useful are %j', (given, expected) => {
  expect(usefulAddresses(given)).toEqual(expected);
});

describe('system', () => {
  test('as it names itself', () => {
    const osinfo = {
      name: 'Debian',
      'pretty-name': 'Debian GNU/Linux 12',
      'kernel-release': '6.1.0',
      machine: 'x86_64',
    };
    expect(systemIn(osinfo, { 'host-name': 'web' })).toEqual({
      os: 'Debian GNU/Linux 12',
      kernel: '6.1.0',
      hostname: 'web',
    });
    expect(systemIn({ name: 'Windows' }, undefined)).toEqual({ os: 'Windows' });
    expect(systemIn(undefined, { 'host-name': 7 })).toEqual({});
  });

  test('one line, printable, no longer than its bound', () => {
    const trick = { 'pretty-name': `\u001b]0;x\u0007a\nb\u202ec${'d'.repeat(9_999)}` };
    expect(systemIn(trick, {}).os).toMatch(/^\]0;x a bcd{1,120}…$/);
    expect(systemIn({ 'pretty-name': ' \u200b\n' }, {})).toEqual({});
  });

  test('time', () => {
    expect(guestTimeIn(1795374905928224000)).toBe(1795374905928);
    expect([-1, 'now', 2 ** 64, undefined].map(guestTimeIn)).toEqual([undefined, undefined, undefined, undefined]);
  });
});

describe('evidence of the host', () => {
  /** As QEMU 7.2 prints it. */
  const FLOWS = [
    'Hub -1 (net-net0):',
    '  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ',
    '  TCP[HOST_FORWARD]  12       127.0.0.1  2222       10.0.2.15    22     0     0',
    '  TCP[ESTABLISHED]   26       10.0.2.15 41234      192.0.2.44    80     0     0',
    '  TCP[SYN_SENT]      27       10.0.2.99 41235      192.0.2.44    80     0     0',
    '  UDP[236 sec]       28       10.0.2.15 35121      192.0.2.53    53     0     0',
    'Hub -1 (net-net1):',
    '  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ',
    '',
  ].join('\r\n');

  test('the sources of flows, not the addresses of forwards', () => {
    expect(flowSources(FLOWS)).toEqual(new Map([['net-net0', ['10.0.2.15']]]));
    expect(flowSources('')).toEqual(new Map());
  });

  test('neighbours that have answered', () => {
    const lines = [
      'IP address       HW type     Flags       HW address            Mask     Device',
      '192.0.2.77       0x1         0x6         52:54:00:AA:BB:CC     *        br0',
      '192.0.2.78       0x1         0x0         52:54:00:aa:bb:cd     *        br0',
      '2001:db8::77 dev br0 lladdr 52:54:00:aa:bb:cc PERMANENT ',
      'fe80::77 dev br0 lladdr 52:54:00:aa:bb:cc STALE ',
      'fd00::1 dev eth0 FAILED ',
      '2001:db8::9 dev br0 lladdr 52:54:00:aa:bb:cd FAILED ',
    ];
    expect(neighboursIn(lines)).toEqual(new Map([['52:54:00:aa:bb:cc', ['192.0.2.77', '2001:db8::77']]]));
  });

  test('holds for the life of the process', () => {
    const addresses = new Addresses();
    addresses.note('/vms/a', 7, MAC.toUpperCase(), ['10.0.0.1']);
    addresses.note('/vms/a', 7, MAC, []);
    expect(addresses.of('/vms/a', 7, MAC)).toEqual(['10.0.0.1']);
    addresses.note('/vms/a', 7, MAC, ['10.0.0.2']);
    expect([addresses.of('/vms/a', 7, MAC), addresses.of('/vms/a', 8, MAC)]).toEqual([['10.0.0.2'], undefined]);
    addresses.note('/vms/a', 8, '52:54:00:00:00:02', ['10.0.0.3']);
    expect(addresses.of('/vms/a', 7, MAC)).toBeUndefined();
    addresses.forget('/vms/a');
    expect(addresses.of('/vms/a', 8, '52:54:00:00:00:02')).toBeUndefined();
  });
});
