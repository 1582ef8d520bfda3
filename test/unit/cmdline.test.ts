/** Whole command lines, written out by hand: each word is a promise to monitors, samplers, guests or people. */
import { describe, expect, test } from 'vitest';
import type { LaunchSpec } from '../../src/api/effective-spec.ts';
import { type CommandLineInput, commandLine, vmFolderIn } from '../../src/qemu/cmdline.ts';

const UUID = '11111111-2222-4333-8444-555555555555';

const BARE: LaunchSpec = {
  uuid: UUID,
  architecture: 'x86_64',
  vcpus: 2,
  memoryMiB: 4096,
  firmware: 'BIOS',
  accelerator: 'Auto',
  disks: [],
  cdroms: [],
  networks: [],
  vnc: false,
};

const X86 = {
  command: '/usr/bin/qemu-system-x86_64',
  version: '10.0.2',
  uefi: { code: '/fw/CODE,1.fd', variables: '/fw/VARS.fd', format: 'raw' },
};
const ARM = {
  command: '/usr/bin/qemu-system-aarch64',
  version: '10.0.2',
  uefi: { code: '/fw/AAVMF.fd', variables: '/fw/AAVMF_VARS.fd', format: 'qcow2' },
};

function argv(spec: Partial<LaunchSpec> = {}, more: Partial<CommandLineInput> = {}): string[] {
  const input = { vmName: 'web', folder: '/vms/web', accelerator: 'KVM', qemu: X86, ...more } as const;
  const words = commandLine({ ...input, spec: { ...BARE, ...spec } });
  // Every word is an option or follows one.
  expect(words.filter((word, index) => index > 0 && ![word[0], words[index - 1]?.[0]].includes('-'))).toEqual([]);
  return words;
}

/** The values of an option, in order. */
function values(words: readonly string[], option: string): string[] {
  return words.filter((_, index) => words[index - 1] === option);
}

/** Block nodes and devices that are given as JSON. */
function json(words: readonly string[], option: string): unknown[] {
  return values(words, option)
    .filter((value) => value.startsWith('{'))
    .map((value) => JSON.parse(value) as unknown);
}

test('a VM with nothing but itself', () => {
  expect(argv()).toEqual([
    '/usr/bin/qemu-system-x86_64',
    ...['-name', 'guest=web,debug-threads=on'],
    ...['-uuid', UUID],
    '-nodefaults',
    '-no-user-config',
    ...['-display', 'none'],
    ...['-machine', 'q35,accel=kvm'],
    ...['-cpu', 'host'],
    ...['-m', '4096M'],
    ...['-smp', 'cpus=2'],
    ...['-pidfile', '/vms/web/qemu.pid'],
    ...['-D', '/vms/web/qemu.log'],
    '-daemonize',
    ...['-msg', 'timestamp=on'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=allow,spawn=allow,resourcecontrol=deny'],
    ...['-action', 'panic=pause'],
    ...['-chardev', 'socket,id=qmp0,path=/vms/web/qmp.sock,server=on,wait=off'],
    ...['-mon', 'chardev=qmp0,mode=control'],
    ...['-chardev', 'socket,id=qmp1,path=/vms/web/qmp-user.sock,server=on,wait=off'],
    ...['-mon', 'chardev=qmp1,mode=control'],
    '-chardev',
    'socket,id=con0,path=/vms/web/console.sock,server=on,wait=off,logfile=/vms/web/console.log,logappend=on',
    ...['-serial', 'chardev:con0'],
    ...['-device', 'virtio-balloon-pci,id=balloon0'],
    ...['-object', 'rng-random,id=rng0,filename=/dev/urandom'],
    ...['-device', 'virtio-rng-pci,rng=rng0'],
    ...['-device', 'pvpanic'],
    ...['-chardev', 'socket,id=qga0,path=/vms/web/agent.sock,server=on,wait=off'],
    ...['-device', 'virtio-serial-pci,id=serial0'],
    ...['-device', 'virtserialport,bus=serial0.0,chardev=qga0,id=agent0,name=org.qemu.guest_agent.0'],
  ]);
});

describe('machine and CPU', () => {
  test.each([
    ['x86_64', 'KVM', 'q35,accel=kvm', 'host'],
    ['x86_64', 'TCG', 'q35,accel=tcg', 'max'],
    ['arm64', 'KVM', 'virt,accel=kvm,gic-version=max', 'host'],
    ['arm64', 'TCG', 'virt,accel=tcg,gic-version=3', 'cortex-a57'],
  ] as const)('%s with %s', (architecture, accelerator, machine, cpu) => {
    const words = argv({ architecture }, { accelerator, qemu: architecture === 'arm64' ? ARM : X86 });
    expect(values(words, '-machine')).toEqual([machine]);
    expect(values(words, '-cpu')).toEqual([cpu]);
    expect(words).not.toContain('-blockdev');
  });

  test('UEFI has its code read-only and its variables in the folder', () => {
    const words = argv({ firmware: 'UEFI' });
    expect(json(words, '-blockdev')).toEqual([
      {
        driver: 'raw',
        'node-name': 'firmware',
        'read-only': true,
        file: { driver: 'file', filename: '/fw/CODE,1.fd', 'node-name': 'firmware-file', 'read-only': true },
      },
      {
        driver: 'raw',
        'node-name': 'efivars',
        file: { driver: 'file', filename: '/vms/web/efivars.fd', 'node-name': 'efivars-file' },
      },
    ]);
    expect(values(words, '-machine')).toEqual(['q35,accel=kvm,pflash0=firmware,pflash1=efivars']);
  });

  test("UEFI in the format of the host's firmware, after the machine's own options", () => {
    const words = argv({ firmware: 'UEFI', architecture: 'arm64' }, { accelerator: 'TCG', qemu: ARM });
    expect(json(words, '-blockdev')).toMatchObject([{ driver: 'qcow2' }, { driver: 'qcow2' }]);
    expect(values(words, '-machine')).toEqual(['virt,accel=tcg,gic-version=3,pflash0=firmware,pflash1=efivars']);
  });

  test('without firmware on the host nothing points at it', () => {
    const words = argv({ firmware: 'UEFI' }, { qemu: { ...X86, uefi: undefined } });
    expect(values(words, '-machine')).toEqual(['q35,accel=kvm']);
    expect(words).not.toContain('-blockdev');
  });
});

test('disks boot in their order, and a full file system pauses the guest', () => {
  const words = argv({
    disks: [
      { name: 'root', path: '/vms/web/root.qcow2', format: 'qcow2' },
      { name: 'data', path: '/data/a,b.img', format: 'raw' },
    ],
  });
  expect(json(words, '-blockdev')).toEqual([
    {
      driver: 'qcow2',
      'node-name': 'disk-root',
      discard: 'unmap',
      file: { driver: 'file', filename: '/vms/web/root.qcow2', 'node-name': 'file-root', discard: 'unmap' },
    },
    {
      driver: 'raw',
      'node-name': 'disk-data',
      discard: 'unmap',
      file: { driver: 'file', filename: '/data/a,b.img', 'node-name': 'file-data', discard: 'unmap' },
    },
  ]);
  const common = { driver: 'virtio-blk-pci', werror: 'enospc', rerror: 'report' };
  expect(json(words, '-device')).toEqual([
    { ...common, drive: 'disk-root', id: 'dev-disk-root', bootindex: 0 },
    { ...common, drive: 'disk-data', id: 'dev-disk-data', bootindex: 1 },
  ]);
});

describe('CD-ROMs boot after the disks and are read-only', () => {
  const spec = {
    disks: [{ name: 'root', path: '/vms/web/root.qcow2', format: 'qcow2' as const }],
    cdroms: [
      { name: 'install', path: '/iso/install.iso' },
      { name: 'seed', path: '/iso/seed.iso' },
    ],
  };
  const node = (name: string) => ({
    driver: 'raw',
    'node-name': `cdrom-${name}`,
    'read-only': true,
    file: { driver: 'file', filename: `/iso/${name}.iso`, 'node-name': `file-cdrom-${name}`, 'read-only': true },
  });

  test('over IDE on x86_64', () => {
    const words = argv(spec);
    expect(json(words, '-blockdev').slice(1)).toEqual([node('install'), node('seed')]);
    expect(json(words, '-device').slice(1)).toEqual([
      { driver: 'ide-cd', bus: 'ide.0', drive: 'cdrom-install', id: 'dev-cdrom-install', bootindex: 1 },
      { driver: 'ide-cd', bus: 'ide.1', drive: 'cdrom-seed', id: 'dev-cdrom-seed', bootindex: 2 },
    ]);
  });

  test('over SCSI on arm64', () => {
    const words = argv({ ...spec, architecture: 'arm64' }, { qemu: ARM });
    expect(json(words, '-blockdev').slice(1)).toEqual([node('install'), node('seed')]);
    expect(json(words, '-device').slice(1)).toEqual([
      { driver: 'virtio-scsi-pci', id: 'scsi0' },
      { driver: 'scsi-cd', bus: 'scsi0.0', drive: 'cdrom-install', id: 'dev-cdrom-install', bootindex: 1 },
      { driver: 'scsi-cd', bus: 'scsi0.0', drive: 'cdrom-seed', id: 'dev-cdrom-seed', bootindex: 2 },
    ]);
  });

  test('without one there is no bus for it', () => {
    expect(json(argv({ architecture: 'arm64' }, { qemu: ARM }), '-device')).toEqual([]);
  });
});

test('each network has its own address', () => {
  const words = argv({
    networks: [
      { name: 'net0', mac: '52:54:00:00:00:01' },
      { name: 'net1', mac: '52:54:00:00:00:02' },
    ],
  });
  expect(json(words, '-netdev')).toEqual([
    { type: 'user', id: 'net-net0' },
    { type: 'user', id: 'net-net1' },
  ]);
  expect(json(words, '-device')).toEqual([
    { driver: 'virtio-net-pci', netdev: 'net-net0', id: 'nic-net0', mac: '52:54:00:00:00:01' },
    { driver: 'virtio-net-pci', netdev: 'net-net1', id: 'nic-net1', mac: '52:54:00:00:00:02' },
  ]);
});

test('ports of the host that lead to the guest', () => {
  const forward = { protocol: 'TCP', hostAddress: '127.0.0.1', hostPort: 2222, guestPort: 22 } as const;
  const forwards = [forward, { ...forward, protocol: 'UDP', hostAddress: '0.0.0.0', allocated: true } as const];
  const words = argv({ networks: [{ name: 'net0', mac: '52:54:00:00:00:01', forwards }] });
  expect(json(words, '-netdev')).toEqual([
    { type: 'user', id: 'net-net0', hostfwd: [{ str: 'tcp:127.0.0.1:2222-:22' }, { str: 'udp:0.0.0.0:2222-:22' }] },
  ]);
});

describe('a bridge', () => {
  const networks = [{ name: 'net0', mac: '52:54:00:00:00:01', bridge: 'br0' }];

  test("root's QEMU makes the interface itself, by a name that no other VM or network has", () => {
    expect(json(argv({ networks }), '-netdev')).toEqual([
      { type: 'tap', ifname: 'qo2e146142d6d', script: 'no', downscript: 'no', id: 'net-net0' },
    ]);
    expect(argv({ networks })).toContain('-sandbox');
  });

  test("an ordinary user's is joined by the helper, which gains no rights under a sandbox", () => {
    const words = argv({ networks }, { bridgeHelper: '/helper' });
    expect(json(words, '-netdev')).toEqual([{ type: 'bridge', br: 'br0', helper: '/helper', id: 'net-net0' }]);
    expect(words).not.toContain('-sandbox');
    expect(argv({}, { bridgeHelper: '/helper' })).toContain('-sandbox');
    const user = [{ name: 'net0', mac: '52:54:00:00:00:01' }];
    expect(argv({ networks: user }, { bridgeHelper: '/helper' })).toContain('-sandbox');
  });
});

describe('graphics', () => {
  const INPUT = ['qemu-xhci,id=usb0', 'usb-tablet,bus=usb0.0', 'usb-kbd,bus=usb0.0'];

  test.each([
    ['x86_64', X86, ['pvpanic', 'VGA']],
    ['arm64', ARM, ['pvpanic-pci', 'virtio-gpu-pci']],
  ] as const)('on %s', (architecture, qemu, devices) => {
    const words = argv({ architecture, vnc: true }, { qemu });
    expect(values(words, '-device').slice(2, -2)).toEqual([...devices, ...INPUT]);
    expect(values(words, '-vnc')).toEqual(['unix:/vms/web/vnc.sock,password=on']);
  });

  test('none unless asked for', () => {
    expect(values(argv(), '-device').slice(2, -2)).toEqual(['pvpanic']);
    expect(argv()).not.toContain('-vnc');
  });
});

test('the port of the agent stands behind every other device: it moves none to another slot', () => {
  const spec = { vnc: true, networks: [{ name: 'net0', mac: '52:54:00:00:00:01' }] };
  expect(argv(spec).slice(-4)).toEqual([
    ...['-device', 'virtio-serial-pci,id=serial0'],
    ...['-device', 'virtserialport,bus=serial0.0,chardev=qga0,id=agent0,name=org.qemu.guest_agent.0'],
  ]);
});

test('the seed is the last device, so that none moves where it comes or goes; no part of its content is in the words', () => {
  const spec = {
    cloudInit: { hostname: 'web', userData: 'sha256:1', sshAuthorizedKeys: 'sha256:2' },
    networks: [{ name: 'net0', mac: '52:54:00:00:00:01' }],
    vnc: true,
  };
  const words = argv(spec);
  const without = argv({ ...spec, cloudInit: undefined });
  expect(words.slice(0, without.length)).toEqual(without);
  expect(words.slice(without.length)).toEqual([
    '-blockdev',
    JSON.stringify({
      driver: 'raw',
      'node-name': 'seed',
      'read-only': true,
      file: {
        driver: 'file',
        filename: '/vms/web/.qemu-operator.seed.iso',
        'node-name': 'file-seed',
        'read-only': true,
      },
    }),
    '-device',
    JSON.stringify({ driver: 'virtio-blk-pci', drive: 'seed', id: 'dev-seed' }),
  ]);
});

test('a comma in a name or a path stays one value', () => {
  const words = argv({ vnc: true }, { vmName: 'a,b,c', folder: '/vms/a,b,c' });
  expect(values(words, '-name')).toEqual(['guest=a,,b,,c,debug-threads=on']);
  expect(values(words, '-chardev')).toEqual([
    'socket,id=qmp0,path=/vms/a,,b,,c/qmp.sock,server=on,wait=off',
    'socket,id=qmp1,path=/vms/a,,b,,c/qmp-user.sock,server=on,wait=off',
    'socket,id=con0,path=/vms/a,,b,,c/console.sock,server=on,wait=off,logfile=/vms/a,,b,,c/console.log,logappend=on',
    'socket,id=qga0,path=/vms/a,,b,,c/agent.sock,server=on,wait=off',
  ]);
  expect(values(words, '-vnc')).toEqual(['unix:/vms/a,,b,,c/vnc.sock,password=on']);
  expect(values(words, '-pidfile')).toEqual(['/vms/a,b,c/qemu.pid']);
  expect(values(words, '-D')).toEqual(['/vms/a,b,c/qemu.log']);
});

test('its folder is told by the words that lead there, and by no other process', () => {
  expect(vmFolderIn(argv({}, { folder: '/vms/a,b' }))).toBe('/vms/a,b');
  const byHand = ['qemu-system-x86_64', '-pidfile', '/run/db/qemu.pid', '-qmp', 'unix:/run/db/qmp.sock,server=on'];
  const alike = [
    'qemu-system-x86_64',
    '-pidfile',
    '/run/db/qemu.pid',
    '-chardev',
    'null,id=qmp0',
    '-mon',
    'chardev=qmp0',
  ];
  for (const words of [byHand, alike, ['qemu-system-x86_64'], ['qemu-system-x86_64', '-pidfile'], []])
    expect(vmFolderIn(words)).toBeUndefined();
});
