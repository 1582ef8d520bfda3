/**
 * The command line of a QEMU process that somebody else started, read for what a manifest can say. Pure; it never
 * throws, and it quotes nothing of what it does not understand: a command line may hold secrets.
 */
import { oneLine } from '../api/errors.ts';
import type { Architecture } from '../api/virtual-machine.ts';
import { drivesOf, type ForeignDrives, isBlockDevice, SNAPSHOT } from './argv-drives.ts';
import { type ForeignNetwork, isNic, networksOf } from './argv-networks.ts';
import { Remarks, remarkKeys } from './argv-remarks.ts';
import { KeyValues, type OptionWord, optionWords } from './option-words.ts';

export interface ForeignVm extends Omit<ForeignDrives, 'flash'> {
  /** Absent: it has none. */
  readonly name?: string;
  /** Absent: one that no VirtualMachine has; a refusal says so. */
  readonly architecture?: Architecture;
  readonly uuid?: string;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly firmware: 'BIOS' | 'UEFI';
  readonly accelerator: 'Auto' | 'KVM' | 'TCG';
  readonly networks: readonly ForeignNetwork[];
  readonly vnc: boolean;
  /** What is not carried over, or not as it was, by option names. */
  readonly warnings: readonly string[];
  /** Why no manifest can stand for it. */
  readonly refusals: readonly string[];
}

/** QEMU's own, where nothing is said. */
const MAX_NAME = 128;
const DEFAULT_MEMORY_MIB = 128;
const QEMU_MAC = '52:54:00:12:34:56';

export function readArgv(argv: readonly string[]): ForeignVm {
  const remarks = new Remarks();
  const options = optionWords(argv.slice(1));
  const architecture = architectureOf(argv[0] ?? '', remarks);
  const machine = machineOf(options, architecture, remarks);
  const { flash, ...drives } = drivesOf(options, architecture === 'arm64', remarks);
  const bare = options.some(({ name }) => name === '-nodefaults');
  const networks =
    networksOf(options, remarks) ?? (bare ? [] : [{ mac: QEMU_MAC, forwards: [] } satisfies ForeignNetwork]);
  for (const option of options) remarkOption(option, remarks);
  const uuid = last(options, '-uuid')?.toLowerCase();
  return {
    ...nameOf(options),
    ...(architecture === undefined ? {} : { architecture }),
    ...(uuid !== undefined && UUID.test(uuid) ? { uuid } : {}),
    vcpus: vcpusOf(options, remarks),
    memoryMiB: memoryOf(options, remarks),
    firmware: architecture === 'arm64' || flash || machine.flash || isUefi(options, remarks) ? 'UEFI' : 'BIOS',
    accelerator: machine.accelerator,
    ...drives,
    networks,
    vnc: hasDisplay(options, bare),
    warnings: remarks.warnings,
    refusals: remarks.refusals,
  };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function last(options: readonly OptionWord[], ...names: readonly string[]): string | undefined {
  return options.findLast(({ name }) => names.includes(name))?.value;
}

/** As its program is called. */
export function architectureOf(program: string, remarks: Remarks): Architecture | undefined {
  const word = /(?:^|\/)qemu-(?:system-)?([a-z0-9_]+)$/.exec(program)?.[1];
  if (word === 'x86_64' || word === 'kvm') return 'x86_64';
  if (word === 'aarch64') return 'arm64';
  remarks.refuse('its guest is neither x86_64 nor arm64');
  return undefined;
}

function nameOf(options: readonly OptionWord[]): { name?: string } {
  const value = last(options, '-name');
  const name = value === undefined ? undefined : new KeyValues(value, 'guest').get('guest');
  return name === undefined || name === '' ? {} : { name: oneLine(name, MAX_NAME) };
}

const FACTORS: Readonly<Record<string, number>> = { b: 2 ** -20, k: 2 ** -10, m: 1, g: 2 ** 10, t: 2 ** 20 };

function memoryOf(options: readonly OptionWord[], remarks: Remarks): number {
  const words = new KeyValues(last(options, '-m') ?? '', 'size');
  remarkKeys(remarks, '-m', words, ['size']);
  const [, figure, unit = 'm'] = /^(\d+(?:\.\d+)?)([bkmgt])?b?$/i.exec(words.get('size') ?? '') ?? [];
  if (figure === undefined) return DEFAULT_MEMORY_MIB;
  return Math.max(1, Math.ceil(Number(figure) * (FACTORS[unit.toLowerCase()] ?? 1)));
}

const LEVELS = ['sockets', 'dies', 'clusters', 'cores', 'threads'];

function vcpusOf(options: readonly OptionWord[], remarks: Remarks): number {
  const words = new KeyValues(last(options, '-smp') ?? '', 'cpus');
  remarkKeys(remarks, '-smp', words, ['cpus']);
  const count = (key: string) => Math.max(1, Number.parseInt(words.get(key) ?? '', 10) || 1);
  if (words.get('cpus') !== undefined) return count('cpus');
  if (words.get('maxcpus') !== undefined && !LEVELS.some((level) => words.get(level) !== undefined))
    return count('maxcpus');
  return Math.min(
    LEVELS.reduce((product, level) => product * count(level), 1),
    Number.MAX_SAFE_INTEGER,
  );
}

interface Machine {
  readonly accelerator: ForeignVm['accelerator'];
  readonly flash: boolean;
}

const OUR_MACHINE: Readonly<Record<Architecture, RegExp>> = {
  x86_64: /^(pc-)?q35(-\d+\.\d+)?$/,
  arm64: /^virt(-\d+\.\d+)?$/,
};

function machineOf(options: readonly OptionWord[], architecture: Architecture | undefined, remarks: Remarks): Machine {
  const machines = options
    .filter(({ name }) => name === '-machine' || name === '-M')
    .map(({ value }) => new KeyValues(value, 'type'));
  const type = machines.findLast((one) => one.get('type') !== undefined)?.get('type');
  if (architecture !== undefined && !OUR_MACHINE[architecture].test(type ?? ''))
    remarks.warn(
      `-machine: it becomes ${architecture === 'arm64' ? 'virt' : 'q35'}: the guest sees other hardware around its disks and cards`,
    );
  const known = ['type', 'accel', 'pflash0', 'pflash1', 'gic-version', 'usb', 'vmport', 'dump-guest-core', 'hpet'];
  for (const one of machines) remarkKeys(remarks, '-machine', one, known);
  const accelerators = [
    ...options.filter(({ name }) => name === '-accel').map(({ value }) => new KeyValues(value, 'accel').get('accel')),
    ...machines.flatMap((one) => one.get('accel')?.split(':') ?? []),
    ...(options.some(({ name }) => name === '-enable-kvm') ? ['kvm'] : []),
  ];
  const [kvm, tcg] = [accelerators.includes('kvm'), accelerators.includes('tcg')];
  return {
    accelerator: kvm === tcg ? 'Auto' : kvm ? 'KVM' : 'TCG',
    flash: machines.some((one) => one.get('pflash0') !== undefined),
  };
}

/** Flash and -bios: what the firmware kept there is not carried over. */
function isUefi(options: readonly OptionWord[], remarks: Remarks): boolean {
  const bios = last(options, '-bios');
  if (bios === undefined) return false;
  const uefi = /(ovmf|edk2|aavmf|qemu_efi|uefi)[^/]*$/i.test(bios);
  if (!uefi && !/(^|\/)bios[^/]*\.bin$/.test(bios)) remarks.warn('-bios: a firmware of its own is not carried over');
  return uefi;
}

const DISPLAY_DEVICE = /^(VGA|virtio-vga|virtio-gpu|qxl|cirrus-vga|bochs-display|ramfb|ati-vga)/;

function hasDisplay(options: readonly OptionWord[], bare: boolean): boolean {
  const vnc = last(options, '-vnc');
  if (vnc !== undefined) return vnc !== 'none';
  const display = last(options, '-display');
  if (display !== undefined) return !/^(none|curses)(,|$)/.test(display);
  if (options.some(({ name }) => name === '-nographic') || last(options, '-vga') === 'none') return false;
  const devices = options.filter(({ name }) => name === '-device').map(({ value }) => new KeyValues(value, 'driver'));
  return (
    !bare || last(options, '-vga') !== undefined || devices.some((one) => DISPLAY_DEVICE.test(one.get('driver') ?? ''))
  );
}

/** Read above, or without a meaning for what the machine is. */
const SILENT = new Set(
  (
    'name uuid m smp machine M accel enable-kvm drive hda hdb hdc hdd cdrom blockdev nic net netdev pflash bios vnc ' +
    'display nographic vga nodefaults no-user-config daemonize pidfile D d msg mon monitor qmp qmp-pretty chardev serial ' +
    'sandbox action S s gdb k usb no-shutdown trace fda fdb sd mtdblock runas chroot run-with overcommit ' +
    'compat sdl curses full-screen name balloon object parallel no-quit'
  ).split(' '),
);

/** Devices that every VM here has, and controllers that its own need. */
const OWN_DEVICE =
  /^(virtio-(balloon|rng|serial|scsi|keyboard|mouse|tablet)|pvpanic|virtserialport|virtconsole|isa-serial|pcie-root-port|pcie-pci-bridge|pci-bridge|ioh3420|ich9-(ahci|usb)|ahci|qemu-xhci|nec-usb-xhci|usb-(ehci|tablet|kbd|mouse|hub)|piix3-usb|i8042)/;

const SENTENCES: Readonly<Record<string, string>> = {
  '-readconfig': '-readconfig: what that file says is not read, disks among it',
  '-snapshot': `-snapshot: ${SNAPSHOT}`,
  '-kernel': '-kernel: the machine boots from its disks, by their own boot loader',
  '-pflash': '-pflash: what the firmware keeps, such as boot entries, begins anew',
  '-incoming': '-incoming: it came from another machine, or still does',
};

function remarkOption({ name, value }: OptionWord, remarks: Remarks): void {
  const sentence = SENTENCES[name];
  if (sentence !== undefined) remarks.warn(sentence);
  if (name === '-boot' || name === '-rtc') {
    if (!USUAL[name].test(value)) remarks.warn(`${name} is not carried over`);
  } else if (name === '-cpu') {
    if (!/^(host|max|cortex-a57)$/.test(value)) remarks.warn('-cpu is not carried over: the guest sees another CPU');
  } else if (name === '-drive' && new KeyValues(value, 'file').get('if') === 'pflash') {
    remarks.warn('-drive if=pflash: what the firmware keeps, such as boot entries, begins anew');
  } else if (name === '-object') remarkObject(value, remarks);
  else if (name === '-device') remarkDevice(new KeyValues(value, 'driver'), remarks);
  else if (sentence === undefined && name.startsWith('-') && !SILENT.has(name.slice(1)))
    remarks.warn(OPTION.test(name) ? `${name} is not carried over` : 'an option is not understood');
}

/** Of -boot the disks come first, of -rtc the clock is in UTC. */
const USUAL = { '-boot': /^(order=)?c?(,?(menu|strict)=\w+)*$/, '-rtc': /^base=utc(,|$)/ } as const;

const OPTION = /^-[a-z][a-z_-]{0,30}$/;

function remarkObject(value: string, remarks: Remarks): void {
  const type = new KeyValues(value, 'qom-type').get('qom-type') ?? '';
  if (!/^(rng-|iothread$)/.test(type)) remarks.warn('-object: one is not carried over');
}

function remarkDevice(device: KeyValues, remarks: Remarks): void {
  const driver = device.get('driver') ?? '';
  const known = isBlockDevice(device) || isNic(device) || OWN_DEVICE.test(driver) || DISPLAY_DEVICE.test(driver);
  if (known) return;
  const named =
    /^(vfio-pci|usb-host|virtio-9p-pci|vhost-user-fs-pci|tpm-tis|tpm-crb|intel-hda|ich9-intel-hda|AC97)$/.test(driver);
  remarks.warn(named ? `-device ${driver} is not carried over` : '-device: one is not carried over');
}
