/** Command lines of others: what is understood, and that nothing else is ever quoted. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { LaunchSpec } from '../../src/api/effective-spec.ts';
import type { HostForward } from '../../src/api/networks.ts';
import { type ForeignVm, readArgv } from '../../src/qemu/argv.ts';
import { commandLine } from '../../src/qemu/cmdline.ts';

const read = (line: string) => readArgv(['/usr/bin/qemu-system-x86_64', ...line.split(' ').filter(Boolean)]);
const user = (...forwards: HostForward[]) => ({ forwards });

describe('what is understood', () => {
  const cases: readonly [what: string, line: string, expected: Partial<ForeignVm>][] = [
    [
      'name, uuid, size',
      '-name guest=db,debug-threads=on -uuid 6D3A1F0E-0000-4000-8000-000000000001 -m 2G -smp 4',
      {
        name: 'db',
        uuid: '6d3a1f0e-0000-4000-8000-000000000001',
        memoryMiB: 2048,
        vcpus: 4,
      },
    ],
    ['a name alone; a comma in it', '-name db,,1', { name: 'db,1' }],
    ['memory in MiB, with fractions, none', '-m 512', { memoryMiB: 512 }],
    ['memory with a fraction', '-m size=1.5G,slots=2,maxmem=4G', { memoryMiB: 1536 }],
    ['memory where nothing is said', '', { memoryMiB: 128, vcpus: 1 }],
    ['vcpus by topology', '-smp sockets=2,cores=3,threads=2', { vcpus: 12 }],
    ['accelerators', '-enable-kvm', { accelerator: 'KVM' }],
    ['accelerators that fall back', '-machine q35,accel=kvm:tcg', { accelerator: 'Auto' }],
    ['-accel', '--accel tcg,thread=multi', { accelerator: 'TCG' }],
    [
      'old drives',
      '-hda a.qcow2 -hdb /b.img -cdrom /c.iso d.img',
      {
        disks: [{ path: 'a.qcow2' }, { path: '/b.img' }, { path: 'd.img' }],
        cdroms: [{ path: '/c.iso' }],
      },
    ],
    [
      '-drive',
      '-drive file=/a,,b.img,format=raw,if=virtio -drive media=cdrom,file=/c.iso',
      {
        disks: [{ path: '/a,b.img', format: 'raw' }],
        cdroms: [{ path: '/c.iso' }],
      },
    ],
    [
      'a drive and its device, by boot order',
      '-drive if=none,id=a,file=/a,format=raw -drive if=none,id=b,file=/b,format=qcow2 -device virtio-blk-pci,drive=a,bootindex=2 -device scsi-hd,drive=b,bootindex=1',
      {
        disks: [
          { path: '/b', format: 'qcow2' },
          { path: '/a', format: 'raw' },
        ],
      },
    ],
    [
      'drives without an order, as SeaBIOS boots them',
      '-drive file=/c,format=raw,if=virtio -drive if=none,id=b,file=/b,format=raw -device virtio-blk-pci,drive=b -hda /a',
      { disks: [{ path: '/a' }, { path: '/b', format: 'raw' }, { path: '/c', format: 'raw' }] },
    ],
    [
      'block nodes as key=value',
      '-blockdev driver=file,filename=/a,node-name=f -blockdev driver=qcow2,file=f,node-name=q -device virtio-blk,drive=q',
      {
        disks: [{ path: '/a', format: 'qcow2' }],
      },
    ],
    [
      'block nodes as JSON',
      '-blockdev {"driver":"qcow2","node-name":"q","file":{"driver":"file","filename":"/a"}} -device {"driver":"virtio-blk-pci","drive":"q"}',
      {
        disks: [{ path: '/a', format: 'qcow2' }],
      },
    ],
    [
      'a CD-ROM by its device',
      '-drive if=none,id=c,file=/c.iso -device ide-cd,drive=c',
      { disks: [], cdroms: [{ path: '/c.iso' }] },
    ],
    [
      'user networking with forwards',
      '-nic user,model=virtio,mac=52:54:00:AA:bb:01,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::53-:53',
      {
        networks: [
          {
            mac: '52:54:00:aa:bb:01',
            ...user(
              { protocol: 'TCP', hostAddress: '127.0.0.1', hostPort: 2222, guestPort: 22 },
              { protocol: 'UDP', hostAddress: '0.0.0.0', hostPort: 53, guestPort: 53 },
            ),
          },
        ],
      },
    ],
    [
      'a netdev and its card',
      '-netdev bridge,id=n,br=lan0 -device virtio-net-pci,netdev=n,mac=52:54:00:00:00:09',
      {
        networks: [{ mac: '52:54:00:00:00:09', bridge: 'lan0', forwards: [] }],
      },
    ],
    [
      'addresses that QEMU gives by itself',
      '-nic user,model=virtio -nic user,mac=52:54:00:12:34:57,model=virtio -nic user,model=virtio',
      {
        networks: [
          { mac: '52:54:00:12:34:56', ...user() },
          { mac: '52:54:00:12:34:57', ...user() },
          { mac: '52:54:00:12:34:58', ...user() },
        ],
      },
    ],
    [
      'a hub',
      '-net nic,model=virtio,macaddr=52:54:00:00:00:01 -net user,hostfwd=tcp::8080-10.0.2.15:80',
      {
        networks: [
          {
            mac: '52:54:00:00:00:01',
            ...user({ protocol: 'TCP', hostAddress: '0.0.0.0', hostPort: 8080, guestPort: 80 }),
          },
        ],
      },
    ],
    ['no network', '-nic none', { networks: [] }],
    ['what QEMU adds by itself', '', { networks: [{ mac: '52:54:00:12:34:56', ...user() }], vnc: true }],
    ['nothing by itself', '-nodefaults', { networks: [], vnc: false }],
    ['displays', '-nographic', { vnc: false }],
    ['VNC', '-nodefaults -vnc 127.0.0.1:1,password=on', { vnc: true }],
    ['firmware', '-bios /usr/share/OVMF/OVMF_CODE.fd', { firmware: 'UEFI' }],
    ['firmware in flash', '-drive if=pflash,format=raw,file=/x,readonly=on', { firmware: 'UEFI', disks: [] }],
  ];
  test.each(cases)('%s', (_what, line, expected) => {
    expect(read(line)).toMatchObject(expected);
    expect(read(line).refusals).toEqual([]);
  });

  test('architectures by the program', () => {
    const of = (program: string) => readArgv([program]).architecture;
    expect(['qemu-kvm', '/opt/bin/qemu-system-aarch64', 'qemu-system-riscv64', ''].map(of)).toEqual([
      'x86_64',
      'arm64',
      undefined,
      undefined,
    ]);
  });
});

test.each([
  ['a disk on the network', '-drive file=nbd:secret.example:10809,format=raw'],
  ['a disk of ceph', '-drive file=rbd:pool/secret:key=secret,format=raw'],
  ['a drive without a file', '-drive driver=nbd,host=secret,if=virtio'],
  ['a drive of another driver', '-drive file.driver=ssh,file.host=secret,format=raw'],
  ['a disk that is named nowhere', '-device virtio-blk,drive=secret'],
  ['a disk of a URL', '-hda https://me:secret@example.org/a.img'],
  ['a JSON name', '-hda json:{"driver":"secret"}'],
  ['another format', '-drive file=/secret,format=vmdk'],
  ['a driver that is no file', '-blockdev driver=nbd,host=secret,node-name=n -device virtio-blk,drive=n'],
  [
    'an encrypted disk',
    '-blockdev driver=luks,key-secret=secret,node-name=n,file.driver=file,file.filename=/x -device virtio-blk,drive=n',
  ],
])('%s is refused, and its words are not repeated', (_what, line) => {
  const { refusals } = read(line);
  expect(refusals).toHaveLength(1);
  expect(refusals.join()).not.toContain('secret');
});

test('what is left out is named by its option, never by its value', () => {
  const line =
    '-object secret,id=s0,data=hunter2 -fw_cfg name=opt/hunter2,string=hunter2 -readconfig hunter2.cfg -append hunter2 ' +
    '-kernel hunter2 -cpu hunter2 -smbios type=1,serial=hunter2 -device hunter2 -vnc :1,password-secret=hunter2 ' +
    '-spice password=hunter2 -machine hunter2 -netdev hunter2,id=n -chardev socket,id=c,path=hunter2 --hunter2 x ' +
    '-nic user,hostfwd=hunter2 -drive file=/a,format=raw,serial=hunter2 -m 1G,hunter2=hunter2';
  const { warnings } = read(line);
  expect(warnings.filter((one) => one.includes('hunter2'))).toEqual([]);
  for (const option of [
    '-fw_cfg',
    '-readconfig',
    '-append',
    '-kernel',
    '-cpu',
    '-smbios',
    '-device',
    '-spice',
    '-machine',
    '-netdev',
    '-object',
    '-drive serial',
  ])
    expect(warnings.join('\n'), option).toContain(option);
});

const label = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/);
const path = fc.stringMatching(/^(\/[a-zA-Z0-9,=. _-]{1,12}){1,3}$/);
const mac = fc.stringMatching(/^52:54:00(:[0-9a-f]{2}){3}$/);
const forward = fc.record({
  protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
  hostAddress: fc.ipV4(),
  hostPort: fc.integer({ min: 1, max: 65_535 }),
  guestPort: fc.integer({ min: 1, max: 65_535 }),
});
const named = <T>(fields: fc.Arbitrary<T>, maxLength: number) =>
  fc.array(fields, { maxLength }).map((list) => list.map((one, index) => ({ ...one, name: `n${index}` })));

const spec: fc.Arbitrary<LaunchSpec> = fc
  .record({
    uuid: fc.uuid(),
    architecture: fc.constantFrom('x86_64' as const, 'arm64' as const),
    vcpus: fc.integer({ min: 1, max: 1024 }),
    memoryMiB: fc.integer({ min: 1, max: 2 ** 26 }),
    firmware: fc.constantFrom('BIOS' as const, 'UEFI' as const),
    disks: named(fc.record({ path, format: fc.constantFrom('qcow2' as const, 'raw' as const) }), 4),
    cdroms: named(fc.record({ path }), 3),
    networks: named(
      fc.record({ mac, bridge: fc.option(label, { nil: undefined }), forwards: fc.array(forward, { maxLength: 3 }) }),
      3,
    ),
    vnc: fc.boolean(),
  })
  .map((one) => ({
    ...one,
    accelerator: 'Auto' as const,
    firmware: one.architecture === 'arm64' ? 'UEFI' : one.firmware,
    networks: one.networks.map(({ bridge, forwards, ...network }) =>
      bridge === undefined ? { ...network, forwards } : { ...network, bridge, forwards: [] },
    ),
  }));

test('what this program builds reads back as the same machine', () => {
  fc.assert(
    fc.property(
      spec,
      fc.constantFrom('KVM' as const, 'TCG' as const),
      fc.stringMatching(/^[\w.,=-]{1,20}$/),
      (launch, accelerator, vmName) => {
        const uefi = { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/v', format: 'raw' };
        const command = launch.architecture === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
        const qemu = { command, version: '7.2', uefi };
        const argv = commandLine({
          vmName,
          folder: '/vms/a',
          spec: launch,
          accelerator,
          qemu,
          bridgeHelper: '/helper',
        });
        const nameless = <T extends { name: string }>(list: readonly T[]) => list.map(({ name: _name, ...one }) => one);
        expect(readArgv(argv)).toEqual({
          name: vmName,
          uuid: launch.uuid,
          architecture: launch.architecture,
          vcpus: launch.vcpus,
          memoryMiB: launch.memoryMiB,
          firmware: launch.firmware,
          accelerator,
          disks: nameless(launch.disks),
          cdroms: nameless(launch.cdroms),
          networks: nameless(launch.networks),
          vnc: launch.vnc,
          warnings: [],
          refusals: [],
        });
      },
    ),
  );
});

test('no command line makes it throw, and none makes it quote a value', () => {
  const option = fc.constantFrom(
    ...'-name -m -smp -machine -M -accel -cpu -drive -hda -cdrom -blockdev -device -nic -net -netdev -uuid -bios -pflash'.split(
      ' ',
    ),
    ...'-vnc -display -readconfig -object -boot -rtc -smbios --frob - -- -enable-kvm -nodefaults'.split(' '),
  );
  const key = fc.constantFrom(
    'file',
    'format',
    'id',
    'drive',
    'netdev',
    'br',
    'hostfwd',
    'mac',
    'size',
    'cpus',
    'if',
    'driver',
    'node-name',
    'bootindex',
  );
  const pairs = fc
    .array(fc.tuple(key, fc.oneof(fc.string(), fc.constantFrom('none', 'a', 'user', 'bridge', 'qcow2', 'file', '{"'))))
    .map((list) => list.map(([one, value]) => `${one}=${value}`).join(','));
  const word = fc.oneof(option, pairs, fc.string(), fc.json(), fc.string({ unit: 'binary' }));
  fc.assert(
    fc.property(fc.array(word), fc.constantFrom('qemu-system-x86_64', '', 'qemu-kvm'), (words, program) => {
      const marked = words.map((one) => (one.startsWith('-') ? one : one.replaceAll(/[A-Z]{3}/g, 'ZQZ')));
      const vm = readArgv([program, ...marked]);
      expect([vm.vcpus > 0, vm.memoryMiB > 0]).toEqual([true, true]);
      expect([...vm.warnings, ...vm.refusals].join()).not.toContain('ZQZ');
    }),
    { numRuns: 500 },
  );
});
