/** QEMU and what it needs: programs, firmware, KVM, bridges. Pure. */
import { effectiveSpec } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import type { Architecture, VirtualMachine } from '../api/virtual-machine.ts';
import type { HostFacts } from '../reconcile/observed.ts';
import { type Check, ok, problem, warning } from './check.ts';
import type { MachineFacts } from './machine.ts';

const OLDEST_MAJOR = 6;
const SETUID = 0o4000;

type Tool = Architecture | 'qemu-img' | 'uefi-x86_64' | 'uefi-arm64';

/** By package manager; docs/operations/hosts.md has the same table. */
const PACKAGES: Readonly<Record<string, Readonly<Record<Tool, string>>>> = {
  'apt-get install': names('qemu-system-x86', 'qemu-system-arm', 'qemu-utils', 'ovmf', 'qemu-efi-aarch64'),
  'dnf install': names('qemu-system-x86', 'qemu-system-aarch64', 'qemu-img', 'edk2-ovmf', 'edk2-aarch64'),
  'pacman -S': names('qemu-system-x86', 'qemu-system-aarch64', 'qemu-img', 'edk2-ovmf', 'edk2-aarch64'),
  'zypper install': names('qemu-x86', 'qemu-arm', 'qemu-img', 'qemu-ovmf-x86_64', 'qemu-uefi-aarch64'),
};

function names(x86: string, arm64: string, img: string, ovmf: string, aavmf: string): Record<Tool, string> {
  return { x86_64: x86, arm64, 'qemu-img': img, 'uefi-x86_64': ovmf, 'uefi-arm64': aavmf };
}

function installs(tool: Tool, { packageManager, uid }: MachineFacts): string {
  const sudo = uid === 0 ? '' : 'sudo ';
  const known = Object.entries(PACKAGES).find(([words]) => words.split(' ')[0] === packageManager);
  return known === undefined ? `install ${tool} with your package manager` : `${sudo}${known[0]} ${known[1][tool]}`;
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

/** Only where bridges are used. */
function bridgeChecks({ machine, host, vms }: QemuSubject): Check[] {
  const wanted = bridgesOf(host, vms);
  if (wanted.length === 0) return [];
  const helper = machine.bridgeHelper;
  if (helper === undefined)
    return [problem('bridge-helper', 'qemu-bridge-helper is not installed', installs('x86_64', machine))];
  const allowed = helper.uid === 0 && (helper.mode & SETUID) !== 0;
  const helperCheck =
    allowed || machine.uid === 0
      ? ok('bridge-helper', `${helper.path} may join guests to bridges`)
      : problem(
          'bridge-helper',
          `${helper.path} is not setuid root: an ordinary user's guests cannot be joined to a bridge`,
          `sudo chown root '${helper.path}' && sudo chmod u+s '${helper.path}'`,
        );
  return [helperCheck, ...wanted.map((name) => bridgeCheck(name, machine))];
}

function bridgeCheck(name: string, { bridges, bridgeRules }: MachineFacts): Check {
  const id = 'bridge';
  if (!bridges.includes(name))
    return problem(id, `there is no bridge ${name}`, `sudo ip link add name ${name} type bridge`);
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
