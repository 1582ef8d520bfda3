/** What the doctor says of a machine that was seen, as tables; what may leave it in a report. */
import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import type { HostSpec } from '../../src/api/host.ts';
import type { Check } from '../../src/doctor/check.ts';
import { type Examined, examine } from '../../src/doctor/checks.ts';
import { type MachineFacts, parseMachine } from '../../src/doctor/machine.ts';
import { Redactor } from '../../src/doctor/redact.ts';
import { parseServiceState } from '../../src/doctor/service.ts';
import { tarOf } from '../../src/doctor/tar.ts';
import { storedVm } from '../fakes/manifests.ts';
import { FACTS, GI } from '../fakes/simulated-world.ts';
import { someHost } from '../fakes/subjects.ts';

const FOLDER: MachineFacts['vmDir'] = {
  state: 'present',
  owner: 'alice',
  mode: 0o700,
  usable: true,
  fileSystem: 'ext2/ext3',
  freeBytes: 50 * GI,
  totalBytes: 100 * GI,
  freeInodes: 1e6,
  totalInodes: 2e6,
};
const MACHINE: MachineFacts = {
  user: 'alice',
  uid: 1000,
  packageManager: 'apt-get',
  tools: ['curl', 'ip'],
  openFiles: 524_288,
  vmDir: FOLDER,
  store: FOLDER,
  bridgeHelper: { path: '/usr/lib/qemu/qemu-bridge-helper', uid: 0, mode: 0o4755 },
  bridgeRules: ['allow br0'],
  sudo: false,
  tun: 'open',
  bridges: ['br0'],
  oomdUnits: [],
  groups: new Map(),
};
const ready = (status: 'True' | 'False', reason = 'Ready', message = '') => ({
  status: {
    conditions: [{ type: 'Ready', status, reason, message, lastTransitionTime: '2026-01-01T00:00:00Z' }],
  },
});
const HOST = { ...someHost(), ...ready('True') } as ReturnType<typeof someHost>;
const SERVICE = parseServiceState('scope=user\nsystemd=yes\nuser=alice\n');

type Given = Partial<Omit<Examined, 'machine'>> & { readonly machine?: Partial<MachineFacts> };

function checksOf({ machine, ...given }: Given = {}): Check[] {
  return examine({
    invokedAs: 'qemu-operator',
    nodeVersion: '24.21.0',
    machine: { ...MACHINE, ...machine },
    facts: { ...FACTS, kvm: { works: true, reason: 'KVM was seen to run code' } },
    service: SERVICE,
    holder: undefined,
    storeDir: '/store',
    vmDir: '/vms',
    store: { hosts: [HOST], vms: [], problems: [] },
    ...given,
  });
}
/** What is not well, without what is said of the service. */
const worst = (given: Given) =>
  checksOf(given)
    .filter(({ id, state }) => state !== 'ok' && !['service', 'loop'].includes(id))
    .map(({ id, state, message, mend }) => [id, state, `${message} -> ${mend ?? ''}`]);
const withVms = (...vms: object[]): Given => ({
  store: { hosts: [HOST], vms: vms.map((spec) => storedVm({ hostName: 'localhost', ...spec })), problems: [] },
});

describe('checks', () => {
  test('a machine on which all is well', () => {
    expect(worst({})).toEqual([]);
    expect(checksOf().map(({ id }) => id)).toEqual(
      expect.arrayContaining(['node', 'qemu-x86_64', 'qemu-img', 'kvm', 'vm-dir', 'space', 'store', 'manifests']),
    );
  });

  const folder = (fields: Partial<MachineFacts['vmDir']>) => ({ machine: { vmDir: { ...FOLDER, ...fields } } });
  const without = (architecture: 'x86_64' | 'arm64') => ({
    facts: { ...FACTS, kvm: { works: true, reason: '' }, qemu: { ...FACTS.qemu, [architecture]: undefined } },
  });
  const kvm = (reason: string): Given => ({ facts: { ...FACTS, kvm: { works: false, reason } } });
  const BY_URL = withVms({ disks: [{ name: 'root', image: { url: 'https://images.example/a.qcow2' } }] });
  const bridged = (machine: Partial<MachineFacts>, spec: Partial<HostSpec> = {}): Given => ({
    machine,
    store: { hosts: [{ ...HOST, spec: { ...HOST.spec, allowedBridges: ['br0'], ...spec } }], vms: [], problems: [] },
  });
  const rows: readonly (readonly [string, Given, readonly [string, Check['state'], RegExp][]])[] = [
    [
      'no QEMU at all',
      { facts: { ...FACTS, kvm: { works: true, reason: '' }, qemu: {} } },
      [
        ['qemu-x86_64', 'problem', /sudo apt-get install qemu-system-x86$/],
        ['qemu-arm64', 'problem', /sudo apt-get install qemu-system-arm$/],
      ],
    ],
    ['an architecture that nobody needs', without('arm64'), []],
    [
      'an architecture that a machine needs',
      { ...without('arm64'), ...withVms({ architecture: 'arm64' }) },
      [['qemu-arm64', 'problem', /command not found/]],
    ],
    [
      'no firmware for a machine that needs it',
      withVms({ firmware: { type: 'UEFI' } }),
      [['uefi-x86_64', 'problem', /apt-get install ovmf/]],
    ],
    [
      'KVM that may not be opened',
      kvm('alice may not open /dev/kvm: usermod -aG kvm alice'),
      [['kvm', 'warning', /many times slower -> sudo usermod -aG kvm alice, then/]],
    ],
    [
      'no KVM, and a machine that wants it',
      { ...kvm('there is no /dev/kvm'), ...withVms({ accelerator: 'KVM' }) },
      [['kvm', 'problem', /modprobe/]],
    ],
    [
      'a vmDir of somebody else',
      folder({ usable: false, owner: 'root', mode: 0o755 }),
      [['vm-dir', 'problem', /owner root, mode 755.*sudo chown alice '\/vms'/]],
    ],
    ['a vmDir for everybody', folder({ mode: 0o777 }), [['vm-dir', 'warning', /chmod o-w/]]],
    ['a vmDir that is none', folder({ state: 'other' }), [['vm-dir', 'problem', /no folder/]]],
    ['no vmDir yet', folder({ state: 'absent' }), [['vm-dir', 'warning', /is made for the first machine/]]],
    ['little room', folder({ freeBytes: GI }), [['space', 'warning', /1\.0 GiB free of 100\.0 GiB/]]],
    ['no room', folder({ freeBytes: 1 }), [['space', 'problem', /paused/]]],
    ['no inodes', folder({ freeInodes: 0 }), [['inodes', 'problem', /0 of 2000000/]]],
    ['a file system that counts none', folder({ freeInodes: 0, totalInodes: 0 }), []],
    ['a network', folder({ fileSystem: 'nfs' }), [['file-system', 'warning', /on a network \(nfs\)/]]],
    ['no hard links', folder({ fileSystem: 'msdos' }), [['file-system', 'warning', /hard links/]]],
    ['memory', folder({ fileSystem: 'tmpfs' }), [['file-system', 'warning', /gone with the next boot/]]],
    ['a long vmDir', { vmDir: `/${'v'.repeat(79)}` }, [['socket-paths', 'warning', /at most 12 bytes/]]],
    ['too long a vmDir', { vmDir: `/${'v'.repeat(100)}` }, [['socket-paths', 'problem', /no valid path/]]],
    [
      'a store that others may read',
      { machine: { store: { ...FOLDER, mode: 0o755 } } },
      [['store', 'warning', /chmod 700 '\/store'/]],
    ],
    [
      'a store that cannot be opened',
      { store: { failure: 'the store is damaged' } },
      [['store', 'problem', /damaged/]],
    ],
    [
      'no store',
      { store: undefined, machine: { store: { ...FOLDER, state: 'absent' } } },
      [['store', 'warning', /yet/]],
    ],
    [
      'a manifest that does not count',
      { store: { hosts: [HOST], vms: [], problems: ['a.yaml: no\nkind'] } },
      [['manifests', 'problem', /a\.yaml: no kind/]],
    ],
    [
      'a Host that is not ready',
      {
        store: {
          hosts: [{ ...HOST, ...ready('False', 'VMDirMissing', 'gone') } as typeof HOST],
          vms: [],
          problems: [],
        },
      },
      [['hosts', 'problem', /VMDirMissing: gone -> qemu-operator describe qhost localhost/]],
    ],
    ['few files', { machine: { openFiles: 1024 } }, [['open-files', 'warning', /LimitNOFILE/]]],
    ['systemd-oomd', { machine: { oomdUnits: ['user.slice'] } }, [['oomd', 'warning', /user\.slice/]]],
    ['nothing that fetches images, and no machine that needs it', { machine: { tools: [] } }, []],
    ['wget in place of curl', { ...BY_URL, machine: { tools: ['wget'] } }, []],
    [
      'nothing that fetches the image of a machine',
      { ...BY_URL, machine: { tools: [] } },
      [['fetch', 'problem', /curl, wget: command not found.* -> sudo apt-get install curl$/]],
    ],
    ['a bridge that is fine', bridged({}), []],
    [
      'a helper without its right',
      bridged({ bridgeHelper: { path: '/h', uid: 0, mode: 0o755 } }),
      [['bridge-helper', 'problem', /sudo chmod u\+s '\/h'/]],
    ],
    ['root needs no right and no helper', bridged({ uid: 0, bridgeHelper: undefined, bridgeRules: [] }), []],
    [
      "root's guests are joined by ip",
      bridged({ uid: 0, tools: ['curl'] }),
      [['ip', 'problem', /-> apt-get install iproute2$/]],
    ],
    [
      'without ip some addresses stay unknown',
      bridged({ tools: ['curl'] }),
      [['ip', 'warning', /-> sudo apt-get install iproute2$/]],
    ],
    [
      'a tun device for root alone',
      bridged({ tun: 'closed' }),
      [['tun', 'problem', /by alice.* -> sudo chmod a\+rw \/dev\/net\/tun$/]],
    ],
    ['no tun device', bridged({ tun: 'absent' }), [['tun', 'problem', /modprobe tun/]]],
    ['no helper', bridged({ bridgeHelper: undefined }), [['bridge-helper', 'problem', /not installed/]]],
    ['no such bridge', bridged({ bridges: [] }), [['bridge', 'problem', /ip link add name br0/]]],
    ['a bridge that is not allowed', bridged({ bridgeRules: ['allow br1'] }), [['bridge', 'problem', /allow br0/]]],
    [
      'a bridge that is denied',
      bridged({ bridgeRules: ['allow all', 'deny br0'] }),
      [['bridge', 'problem', /allow br0/]],
    ],
    [
      'sudo that makes no interfaces',
      bridged({ bridgeHelper: undefined, bridgeRules: [] }, { sudo: true }),
      [['sudo', 'problem', /echo 'alice ALL=\(root\) NOPASSWD: .*ip tuntap \*/]],
    ],
    ['sudo that does', bridged({ sudo: true, bridgeHelper: undefined, bridgeRules: [] }, { sudo: true }), []],
    ['rules that cannot be read', bridged({ bridgeRules: undefined }), [['bridge', 'warning', /cannot be read/]]],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(worst(given)).toEqual(expected.map(([id, state, words]) => [id, state, expect.stringMatching(words)]));
  });

  test('a machine that is stalled is told with its reason, one that a login would end too', () => {
    const stalled = {
      ...ready('False').status.conditions[0],
      type: 'Stalled',
      status: 'True',
      reason: 'ISONotFound',
      message: 'x',
    };
    const web = { ...storedVm({ hostName: 'localhost' }), status: { conditions: [stalled], pid: 7 } };
    const given = {
      store: { hosts: [HOST], vms: [web as unknown as ReturnType<typeof storedVm>], problems: [] },
      machine: { groups: new Map([[7, '/user.slice/user-1000.slice/session-3.scope']]) },
    };
    expect(worst(given)).toEqual([
      ['machines', 'problem', expect.stringMatching(/ISONotFound: x -> qemu-operator describe qvm web-1 -n default/)],
      ['logins', 'warning', expect.stringMatching(/restart web-1/)],
    ]);
    const served = new Map([[7, '/user.slice/user@1000.service/app.slice/qemu-operator.service']]);
    expect(worst({ ...given, machine: { groups: served } }).map(([id]) => id)).toEqual(['machines']);
  });

  test('a look that was cut short is none', () => {
    expect(() => parseMachine('@n user\nalice\n1000\n', 'n')).toThrow(/ended early/);
  });
});

describe('what leaves the machine', () => {
  const kept = (value: unknown) => JSON.stringify(new Redactor('/home/alice').value(value));

  test.each([
    { spec: { cloudInit: { userData: 'S3CRET' } } },
    { spec: { networks: [{ password: 'S3CRET' }] } },
    { metadata: { annotations: { 'kubectl.kubernetes.io/last-applied-configuration': 'S3CRET' } } },
    { message: 'fetching https://bob:S3CRET@images.example/a.qcow2 failed' },
    { message: 'fetching https://images.example/a.qcow2?X-Amz-Signature=S3CRET failed' },
    { message: 'fetching https://bob:S3CRET@images.example/a.qcow2?sig=S3CRET failed' },
    { message: 'fetching https://bob:S3/CR@S3CRET@images.example/a failed' },
    { message: 'header Authorization: Bearer S3CRETS3CRET' },
    { message: "it said password = 'S3CRET'" },
    { message: 'db_password: S3CRET' },
    { message: '{"token":"S3CRET"}' },
    { message: '-----BEGIN OPENSSH PRIVATE KEY-----\nS3CRET\n-----END OPENSSH PRIVATE KEY-----' },
    { message: '-----BEGIN PRIVATE KEY-----\nS3CRET cut off' },
    { message: `ssh-ed25519 AAAA${'S3CRET'.repeat(8)} me@home` },
    { sshAuthorizedKeys: ['S3CRET'] },
    { path: '/home/alice/S'.replace('/S', '') && 'x', apiKey: 'S3CRET' },
  ])('no secret: %j', (value) => {
    expect(kept(value)).not.toMatch(/S3CRET/);
  });

  test('addresses and ids become stand-ins, the same all over; what is the same everywhere stays', () => {
    const redactor = new Redactor(undefined);
    expect(redactor.text('192.168.7.9 and 10.1.2.3, again 192.168.7.9, not 127.0.0.1, 10.0.2.15 or 7.2.22')).toBe(
      '<ipv4-1> and <ipv4-2>, again <ipv4-1>, not 127.0.0.1, 10.0.2.15 or 7.2.22',
    );
    expect(
      redactor.value({ a: 'fe80::5054:ff:fe12:3456', b: '52:54:00:12:34:56', at: '2026-01-05T12:00:00Z' }),
    ).toEqual({
      a: '<ipv6-1>',
      b: '52:54:00:12:34:56',
      at: '2026-01-05T12:00:00Z',
    });
    expect(redactor.text(`${'ab'.repeat(16)}:/vms`)).toBe('<id-1>:/vms');
  });

  test('names of ours, paths and the home folder as ~', () => {
    expect(kept({ metadata: { annotations: { 'qemu-operator.dev/adopt': 'u-1' } }, path: '/home/alice/vms/a' })).toBe(
      '{"metadata":{"annotations":{"qemu-operator.dev/adopt":"u-1"}},"path":"~/vms/a"}',
    );
  });
});

test('the archive is one that tar reads', () => {
  const files = [
    { name: 'top/empty.txt', text: '' },
    { name: 'top/a/block.txt', text: 'x'.repeat(512) },
    { name: 'top/a/虚.txt'.replace('虚', 'b'), text: '虚拟机\n' },
  ];
  const archive = tarOf(files, 1_767_225_600);
  const listed = execFileSync('tar', ['tvf', '-'], {
    input: archive,
    encoding: 'utf8',
    env: { TZ: 'UTC', PATH: process.env['PATH'] },
  });
  expect(
    listed
      .trim()
      .split('\n')
      .map((line) => line.replace(/ +/g, ' ')),
  ).toEqual([
    '-rw------- 0/0 0 2026-01-01 00:00 top/empty.txt',
    '-rw------- 0/0 512 2026-01-01 00:00 top/a/block.txt',
    '-rw------- 0/0 10 2026-01-01 00:00 top/a/b.txt',
  ]);
  expect(execFileSync('tar', ['xOf', '-', 'top/a/b.txt'], { input: archive, encoding: 'utf8' })).toBe('虚拟机\n');
  expect(() => tarOf([{ name: 'x'.repeat(100), text: '' }], 0)).toThrow(/too long/);
});
