/**
 * The QEMU command line of a VM: pure, from the launch spec alone. What could hold a comma travels as JSON.
 * Names are a contract with monitors and samplers: block node `disk-<name>`, device `dev-disk-<name>`,
 * `cdrom-<name>`, `net-<name>`, `nic-<name>`, `balloon0`, `seed`, chardev `qga0`.
 */
import { FOLDER_FILES, type LaunchNetwork, type LaunchSpec } from '../api/effective-spec.ts';
import { type HostForward, tapName } from '../api/networks.ts';
import type { QemuFacts } from '../reconcile/observed.ts';
import { TRAITS } from './architectures.ts';

export interface CommandLineInput {
  readonly vmName: string;
  readonly folder: string;
  readonly spec: LaunchSpec;
  readonly accelerator: 'KVM' | 'TCG';
  readonly qemu: QemuFacts;
  /** What joins guests to bridges; absent for root, whose QEMU makes the interface itself. */
  readonly bridgeHelper?: string | undefined;
}

/** argv, its first word the command. */
export function commandLine(input: CommandLineInput): string[] {
  const { spec, folder, vmName, accelerator, qemu } = input;
  const traits = TRAITS[spec.architecture];
  return [
    qemu.command,
    ...['-name', `guest=${doubled(vmName)},debug-threads=on`],
    ...['-uuid', spec.uuid],
    '-nodefaults',
    '-no-user-config',
    ...['-display', 'none'],
    ...machine(input),
    ...['-cpu', traits.cpu[accelerator]],
    ...['-m', `${spec.memoryMiB}M`],
    ...['-smp', `cpus=${spec.vcpus}`],
    ...['-pidfile', `${folder}/${FOLDER_FILES.pidfile}`],
    ...['-D', `${folder}/${FOLDER_FILES.log}`],
    '-daemonize',
    ...['-msg', 'timestamp=on'],
    ...sandbox(input),
    // A panicked guest stays to be seen by the next look, whoever was listening.
    ...['-action', 'panic=pause'],
    ...monitors(folder),
    ...console(folder),
    ...disks(spec),
    ...cdroms(spec),
    ...networks(input),
    ...['-device', 'virtio-balloon-pci,id=balloon0'],
    ...['-object', 'rng-random,id=rng0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=rng0'],
    ...panicDevice(spec),
    ...graphics(spec, folder),
    ...agent(folder),
    ...seed(spec, folder),
  ];
}

/** The folder that a QEMU of ours runs from, whoever's it is; undefined for a process that was started otherwise. */
export function vmFolderIn(argv: readonly string[]): string | undefined {
  const folder = argv[argv.indexOf('-pidfile') + 1]?.slice(0, -FOLDER_FILES.pidfile.length - 1);
  return folder !== undefined && monitors(folder).every((word) => argv.includes(word)) ? folder : undefined;
}

/** QEMU's key=value lists take a comma as two. */
function doubled(value: string): string {
  return value.replaceAll(',', ',,');
}

function machine({ spec, folder, accelerator, qemu }: CommandLineInput): string[] {
  const { machine: type } = TRAITS[spec.architecture];
  const options = [type, `accel=${accelerator.toLowerCase()}`];
  if (spec.architecture === 'arm64') options.push(accelerator === 'KVM' ? 'gic-version=max' : 'gic-version=3');
  if (spec.firmware === 'BIOS' || qemu.uefi === undefined) return ['-machine', options.join(',')];
  const code = { driver: 'file', filename: qemu.uefi.code, 'node-name': 'firmware-file', 'read-only': true };
  const variables = {
    driver: 'file',
    filename: `${folder}/${FOLDER_FILES.firmwareVariables}`,
    'node-name': 'efivars-file',
  };
  return [
    ...blockdev({ driver: qemu.uefi.format, 'node-name': 'firmware', 'read-only': true, file: code }),
    ...blockdev({ driver: qemu.uefi.format, 'node-name': 'efivars', file: variables }),
    ...['-machine', [...options, 'pflash0=firmware', 'pflash1=efivars'].join(',')],
  ];
}

function blockdev(node: object): string[] {
  return ['-blockdev', JSON.stringify(node)];
}

function device(properties: object): string[] {
  return ['-device', JSON.stringify(properties)];
}

function socketChardev(id: string, path: string, more = ''): string[] {
  return ['-chardev', `socket,id=${id},path=${doubled(path)},server=on,wait=off${more}`];
}

/** Under a sandbox no program gains rights, whatever its mode says: the helper could not do its work. */
function sandbox({ spec, bridgeHelper }: CommandLineInput): string[] {
  const helped = bridgeHelper !== undefined && spec.networks.some(({ bridge }) => bridge !== undefined);
  return helped ? [] : ['-sandbox', 'on,obsolete=deny,elevateprivileges=allow,spawn=allow,resourcecontrol=deny'];
}

/** One monitor for the controller, one for people: each serves a single client. */
function monitors(folder: string): string[] {
  return [
    ...socketChardev('qmp0', `${folder}/${FOLDER_FILES.monitor}`),
    ...['-mon', 'chardev=qmp0,mode=control'],
    ...socketChardev('qmp1', `${folder}/${FOLDER_FILES.userMonitor}`),
    ...['-mon', 'chardev=qmp1,mode=control'],
  ];
}

function console(folder: string): string[] {
  const log = `,logfile=${doubled(`${folder}/${FOLDER_FILES.consoleLog}`)},logappend=on`;
  return [...socketChardev('con0', `${folder}/${FOLDER_FILES.console}`, log), '-serial', 'chardev:con0'];
}

function disks({ disks: list }: LaunchSpec): string[] {
  return list.flatMap(({ name, path, format }, index) => [
    ...blockdev({
      driver: format,
      'node-name': `disk-${name}`,
      discard: 'unmap',
      file: { driver: 'file', filename: path, 'node-name': `file-${name}`, discard: 'unmap' },
    }),
    ...device({
      driver: 'virtio-blk-pci',
      drive: `disk-${name}`,
      id: `dev-disk-${name}`,
      bootindex: index,
      // A full file system pauses the guest until there is space; any other error is the guest's to know.
      werror: 'enospc',
      rerror: 'report',
    }),
  ]);
}

function cdroms({ cdroms: list, disks: { length: before }, architecture }: LaunchSpec): string[] {
  if (list.length === 0) return [];
  // arm64's virt machine has no IDE; SCSI works on both, IDE boots where SeaBIOS has no SCSI driver.
  const scsi = architecture === 'arm64' ? device({ driver: 'virtio-scsi-pci', id: 'scsi0' }) : [];
  return [
    ...scsi,
    ...list.flatMap(({ name, path }, index) => [
      ...blockdev({
        driver: 'raw',
        'node-name': `cdrom-${name}`,
        'read-only': true,
        file: { driver: 'file', filename: path, 'node-name': `file-cdrom-${name}`, 'read-only': true },
      }),
      ...device({
        driver: architecture === 'arm64' ? 'scsi-cd' : 'ide-cd',
        bus: architecture === 'arm64' ? 'scsi0.0' : `ide.${index}`,
        drive: `cdrom-${name}`,
        id: `dev-cdrom-${name}`,
        bootindex: before + index,
      }),
    ]),
  ];
}

function networks(input: CommandLineInput): string[] {
  return input.spec.networks.flatMap((network) => [
    ...['-netdev', JSON.stringify({ ...backend(network, input), id: `net-${network.name}` })],
    ...device({
      driver: 'virtio-net-pci',
      netdev: `net-${network.name}`,
      id: `nic-${network.name}`,
      mac: network.mac,
    }),
  ]);
}

/** An interface that QEMU makes, itself or by the helper, is gone with its process, however that ends. */
function backend({ name, bridge, forwards = [] }: LaunchNetwork, { folder, bridgeHelper }: CommandLineInput): object {
  if (bridge === undefined) return { type: 'user', ...hostForwards(forwards) };
  if (bridgeHelper !== undefined) return { type: 'bridge', br: bridge, helper: bridgeHelper };
  return { type: 'tap', ifname: tapName(folder, name), script: 'no', downscript: 'no' };
}

/** A list of strings, as -netdev wants it in JSON. Source: QEMU's qapi/net.json, NetdevUserOptions. */
function hostForwards(forwards: readonly HostForward[]): { readonly hostfwd?: readonly { readonly str: string }[] } {
  return forwards.length === 0 ? {} : { hostfwd: forwards.map((forward) => ({ str: forwardRule(forward) })) };
}

/** In QEMU's words, as -netdev and hostfwd_add have them. */
export function forwardRule(forward: HostForward): string {
  return `${forwardPlace(forward)}-:${forward.guestPort}`;
}

/** The host's end of it, which is what hostfwd_remove wants. */
export function forwardPlace({ protocol, hostAddress, hostPort }: HostForward): string {
  return `${protocol.toLowerCase()}:${hostAddress}:${hostPort ?? 0}`;
}

/** Lets the guest's kernel say that it panicked. */
function panicDevice({ architecture }: LaunchSpec): string[] {
  return architecture === 'x86_64' ? ['-device', 'pvpanic'] : ['-device', 'pvpanic-pci'];
}

/** The port that a guest agent opens. Behind all others, so that no guest's device moves to another slot for it. */
function agent(folder: string): string[] {
  return [
    ...socketChardev('qga0', `${folder}/${FOLDER_FILES.agent}`),
    ...['-device', 'virtio-serial-pci,id=serial0'],
    ...['-device', 'virtserialport,bus=serial0.0,chardev=qga0,id=agent0,name=org.qemu.guest_agent.0'],
  ];
}

function graphics({ vnc, architecture }: LaunchSpec, folder: string): string[] {
  if (!vnc) return [];
  const display = architecture === 'x86_64' ? ['-device', 'VGA'] : ['-device', 'virtio-gpu-pci'];
  return [
    ...display,
    ...['-device', 'qemu-xhci,id=usb0', '-device', 'usb-tablet,bus=usb0.0', '-device', 'usb-kbd,bus=usb0.0'],
    ...['-vnc', `unix:${doubled(`${folder}/${FOLDER_FILES.vnc}`)},password=on`],
  ];
}

/** Last, so that no other device moves to another slot, and a network interface to another name, where a seed comes or goes. */
function seed({ cloudInit }: LaunchSpec, folder: string): string[] {
  if (cloudInit === undefined) return [];
  const file = {
    driver: 'file',
    filename: `${folder}/${FOLDER_FILES.seed}`,
    'node-name': 'file-seed',
    'read-only': true,
  };
  return [
    ...blockdev({ driver: 'raw', 'node-name': 'seed', 'read-only': true, file }),
    ...device({ driver: 'virtio-blk-pci', drive: 'seed', id: 'dev-seed' }),
  ];
}
