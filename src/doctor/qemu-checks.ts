/** QEMU and what its machines need: programs, firmware, KVM, what fetches images, bridges. Pure. */
import { effectiveSpec } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import type { Architecture, VirtualMachine } from '../api/virtual-machine.ts';
import type { HostFacts } from '../reconcile/observed.ts';
import { type Check, ok, problem, warning } from './check.ts';
import type { MachineFacts } from './machine.ts';

const OLDEST_MAJOR = 6;
const SETUID = 0o4000;

type Tool = Architecture | 'qemu-img' | 'uefi-x86_64' | 'uefi-arm64' | 'curl' | 'ip';

const DEBIAN = names('qemu-system-x86 qemu-system-arm qemu-utils ovmf qemu-efi-aarch64 iproute2');
/** By package manager; docs/operations/hosts.md has the same table. */
const PACKAGES: Readonly<Record<string, Readonly<Record<Tool, string>>>> = {
  'apt-get install': DEBIAN,
  'dnf install': names('qemu-system-x86 qemu-system-aarch64 qemu-img edk2-ovmf edk2-aarch64 iproute'),
  'pacman -S': names('qemu-system-x86 qemu-system-aarch64 qemu-img edk2-ovmf edk2-aarch64 iproute2'),
  'zypper install': names('qemu-x86 qemu-arm qemu-img qemu-ovmf-x86_64 qemu-uefi-aarch64 iproute2'),
};

function names(words: string): Record<Tool, string> {
  const [x86 = '', arm64 = '', img = '', ovmf = '', aavmf = '', ip = ''] = words.split(' ');
  return { x86_64: x86, arm64, 'qemu-img': img, 'uefi-x86_64': ovmf, 'uefi-arm64': aavmf, curl: 'curl', ip };
}

function installs(tool: Tool, { packageManager, uid }: MachineFacts): string {
  const sudo = uid === 0 ? '' : 'sudo ';
  const known = Object.entries(PACKAGES).find(([words]) => words.split(' ')[0] === packageManager);
  return known === undefined
    ? `with your package manager, install what Debian calls ${DEBIAN[tool]}`
    : `${sudo}${known[0]} ${known[1][tool]}`;
}

const COMMANDS: Readonly<Record<Architecture, string>> = { x86_64: 'qemu-system-x86_64', arm64: 'qemu-system-aarch64' };

export interface QemuSubject {
  readonly machine: MachineFacts;
  readonly facts: HostFacts;
  /** Of this machine. */
  readonly host: Host | undefined;
  readonly vms: readonly VirtualMachine[];
}

export function qemuChecks(subject: QemuSubject): Check[] {
  const { machine, facts } = subject;
  const architectures = Object.keys(COMMANDS) as Architecture[];
  const img = facts.qemuImg
    ? ok('qemu-img', 'qemu-img is there')
    : problem('qemu-img', 'qemu-img: command not found; disks cannot be made', installs('qemu-img', machine));
  return [
    ...architectures.map((architecture) => qemuCheck(subject, architecture)),
    img,
    ...architectures.flatMap((architecture) => firmwareCheck(subject, architecture)),
    kvmCheck(subject),
    fetchCheck(subject),
    ...bridgeChecks(subject),
  ];
}

function qemuCheck({ machine, facts, vms }: QemuSubject, architecture: Architecture): Check {
  const id = `qemu-${architecture}`;
  const qemu = facts.qemu[architecture];
  const mend = installs(architecture, machine);
  if (qemu !== undefined) {
    return Number.parseInt(qemu.version, 10) < OLDEST_MAJOR
      ? problem(id, `${qemu.command} is version ${qemu.version}; ${OLDEST_MAJOR}.0 or later is needed`, mend)
      : ok(id, `${qemu.command} ${qemu.version}`);
  }
  const missing = `${COMMANDS[architecture]}: command not found`;
  if (vms.some(({ spec }) => spec.architecture === architecture) || Object.keys(facts.qemu).length === 0)
    return problem(id, missing, mend);
  return { ...ok(id, `${missing}; no machine needs it`), mend };
}

function firmwareCheck({ machine, facts, host, vms }: QemuSubject, architecture: Architecture): Check[] {
  const qemu = facts.qemu[architecture];
  if (qemu === undefined) return [];
  const id = `uefi-${architecture}` as const;
  if (qemu.uefi !== undefined) return [ok(id, `UEFI firmware ${qemu.uefi.code}`)];
  const needs = (vm: VirtualMachine) =>
    host !== undefined && vm.spec.architecture === architecture && effectiveSpec(vm, host).launch.firmware === 'UEFI';
  const missing = `no UEFI firmware for ${architecture} guests`;
  const mend = installs(id, machine);
  return [vms.some(needs) ? problem(id, missing, mend) : { ...ok(id, `${missing}; no machine needs it`), mend }];
}

function kvmCheck({ machine, facts, vms }: QemuSubject): Check {
  const { works, reason } = facts.kvm;
  if (works) return ok('kvm', reason);
  const needed = vms.some(({ spec }) => spec.accelerator === 'KVM');
  const message = `KVM does not work: ${reason.split(': usermod')[0]}; guests are emulated, many times slower`;
  return (needed ? problem : warning)('kvm', message, kvmMend(reason, machine));
}

function kvmMend(reason: string, { user }: MachineFacts): string {
  if (reason.includes('may not open')) return `sudo usermod -aG kvm ${user}, then log in again`;
  if (reason.includes('no /dev/kvm'))
    return 'sudo modprobe kvm_intel || sudo modprobe kvm_amd; where that fails, allow virtualization (VT-x, AMD-V) in the firmware, or nested virtualization in the hypervisor of this machine';
  if (reason.includes('not installed')) return "install the QEMU of this machine's own architecture";
  return 'look at the kernel log: dmesg | grep -i kvm';
}

/** Images by URL are fetched by the host's own curl, or else wget. */
function fetchCheck({ machine, vms }: QemuSubject): Check {
  const id = 'fetch';
  const { tools } = machine;
  if (tools.includes('curl')) return ok(id, 'curl is there: images can be fetched by URL');
  const mend = installs('curl', machine);
  if (tools.includes('wget'))
    return {
      ...ok(id, 'wget is there: images can be fetched by URL, with a checksum; those without one need curl'),
      mend,
    };
  const missing = 'curl, wget: command not found';
  const needed = vms.some(({ spec }) => (spec.disks ?? []).some(({ image }) => image?.url !== undefined));
  return needed
    ? problem(id, `${missing}; images cannot be fetched by URL`, mend)
    : { ...ok(id, `${missing}; no machine has an image by URL`), mend };
}

/** Only where bridges are used. */
function bridgeChecks({ machine, host, vms }: QemuSubject): Check[] {
  const wanted = bridgesOf(host, vms);
  if (wanted.length === 0) return [];
  const bySudo = host?.spec.sudo === true;
  return [
    ipCheck(machine),
    tunCheck(machine),
    ...joinCheck(machine, bySudo),
    ...wanted.map((name) => bridgeCheck(name, machine, bySudo)),
  ];
}

/** What gives an ordinary user's guests their interfaces: sudo where the Host says so, else QEMU's helper. */
function joinCheck(machine: MachineFacts, bySudo: boolean): Check[] {
  if (machine.uid === 0) return [];
  return [bySudo ? sudoCheck(machine) : helperCheck(machine)];
}

function sudoCheck({ sudo, user }: MachineFacts): Check {
  const id = 'sudo';
  if (sudo) return ok(id, `sudo makes interfaces for ${user} without a password`);
  const rule = `${user} ALL=(root) NOPASSWD: /usr/sbin/ip tuntap *, /usr/sbin/ip link *`;
  return problem(
    id,
    `sudo makes no interfaces for ${user} without a password, as spec.sudo of the Host wants it`,
    `echo '${rule}' | sudo tee -a /etc/sudoers.d/qemu-operator`,
  );
}

/** Root's guests, and those of sudo, are joined by it; another ordinary user's are joined without, and it tells their IPv6 addresses. */
function ipCheck(machine: MachineFacts): Check {
  const id = 'ip';
  if (machine.tools.includes('ip')) return ok(id, 'the command ip is there');
  const mend = installs('ip', machine);
  return machine.uid === 0
    ? problem(id, "ip: command not found; root's guests cannot be joined to a bridge", mend)
    : warning(id, 'ip: command not found; IPv6 addresses of guests on bridges are known from their agent alone', mend);
}

function tunCheck({ tun, user }: MachineFacts): Check {
  const id = 'tun';
  if (tun === 'open') return ok(id, `/dev/net/tun can be opened by ${user}`);
  return tun === 'absent'
    ? problem(id, 'there is no /dev/net/tun: no guest can be joined to a bridge', 'sudo modprobe tun')
    : problem(
        id,
        `/dev/net/tun may not be opened by ${user}, which QEMU and its helper do as that user`,
        'sudo chmod a+rw /dev/net/tun',
      );
}

/** Of no use to root, whose QEMU makes the interface itself. */
function helperCheck(machine: MachineFacts): Check {
  const id = 'bridge-helper';
  const helper = machine.bridgeHelper;
  if (helper === undefined) return problem(id, 'qemu-bridge-helper is not installed', installs('x86_64', machine));
  return helper.uid === 0 && (helper.mode & SETUID) !== 0
    ? ok(id, `${helper.path} may join guests to bridges`)
    : problem(
        id,
        `${helper.path} is not setuid root: an ordinary user's guests cannot be joined to a bridge`,
        `sudo chown root '${helper.path}' && sudo chmod u+s '${helper.path}'`,
      );
}

function bridgeCheck(name: string, { bridges, bridgeRules, uid }: MachineFacts, bySudo: boolean): Check {
  const id = 'bridge';
  if (!bridges.includes(name))
    return problem(id, `there is no bridge ${name}`, `${uid === 0 ? '' : 'sudo '}ip link add name ${name} type bridge`);
  if (uid === 0 || bySudo) return ok(id, `bridge ${name} is there`);
  if (bridgeRules === undefined)
    return warning(id, `bridge ${name}: whether /etc/qemu/bridge.conf allows it cannot be read`, 'look at it as root');
  const words = bridgeRules.map((line) => line.trim().split(/\s+/));
  if (words.some(([word]) => word === 'include'))
    return ok(id, `bridge ${name} is there; other files say who may use it`);
  const says = (word: string) => words.some(([verb, of]) => verb === word && (of === name || of === 'all'));
  return says('allow') && !says('deny')
    ? ok(id, `bridge ${name} is there and allowed`)
    : problem(
        id,
        `bridge ${name} is not allowed in /etc/qemu/bridge.conf`,
        `sudo mkdir -p /etc/qemu && echo 'allow ${name}' | sudo tee -a /etc/qemu/bridge.conf`,
      );
}

/** What the Host allows by name, and what its machines use. */
function bridgesOf(host: Host | undefined, vms: readonly VirtualMachine[]): string[] {
  const { allowedBridges = [] } = (host?.spec ?? {}) as { readonly allowedBridges?: readonly string[] };
  const used = vms.flatMap(({ spec }) => (spec.networks ?? []).map(({ bridge }) => bridge?.name));
  return [...new Set([...allowedBridges, ...used])].filter((name) => name !== undefined && name !== '*') as string[];
}
