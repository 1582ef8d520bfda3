/** Whether a host has what a VM needs: what is missing is named with the command that installs it. */
import { humanBytes } from '../api/quantity.ts';
import type { Architecture } from '../api/virtual-machine.ts';
import { blocked, type Decision, type Subject } from './decision.ts';
import type { HostFacts, QemuFacts } from './observed.ts';

const MIB = 1_048_576;

/** KVM runs guests of the host's own architecture only. */
export function acceleratorOf({ wanted, seen }: Subject): {
  readonly accelerator: 'KVM' | 'TCG';
  readonly reason: string;
} {
  const { accelerator, architecture } = wanted.launch;
  if (accelerator === 'TCG') return { accelerator: 'TCG', reason: 'the spec wants TCG' };
  const native = isNative(seen.facts, architecture);
  if (native && seen.facts.kvm.works) return { accelerator: 'KVM', reason: seen.facts.kvm.reason };
  if (accelerator === 'KVM') return { accelerator: 'KVM', reason: 'the spec wants KVM' };
  return {
    accelerator: 'TCG',
    reason: native
      ? seen.facts.kvm.reason
      : `${architecture} guests cannot use KVM on a ${seen.facts.architecture} host`,
  };
}

function isNative(facts: HostFacts, architecture: Architecture): boolean {
  return facts.architecture === (architecture === 'arm64' ? 'aarch64' : 'x86_64');
}

/** Whether the host can make and grow disks. */
export function toolProblem({ seen }: Subject): Decision | undefined {
  return seen.facts.qemuImg
    ? undefined
    : blocked('QEMUNotInstalled', 'qemu-img: command not found; install it: apt-get install qemu-utils');
}

/** Debian's names; docs/operations/hosts.md has those of other systems. */
const PACKAGES: Readonly<Record<Architecture, string>> = { x86_64: 'qemu-system-x86', arm64: 'qemu-system-arm' };
const COMMANDS: Readonly<Record<Architecture, string>> = { x86_64: 'qemu-system-x86_64', arm64: 'qemu-system-aarch64' };

/** Whether the host can run this VM: QEMU, firmware, KVM. */
export function qemuProblem(subject: Subject): Decision | undefined {
  const { architecture, firmware, accelerator } = subject.wanted.launch;
  const { facts } = subject.seen;
  const qemu = facts.qemu[architecture];
  if (qemu === undefined) {
    return blocked(
      'QEMUNotInstalled',
      `${COMMANDS[architecture]}: command not found; install it: apt-get install ${PACKAGES[architecture]}`,
    );
  }
  if (Number.parseInt(qemu.version, 10) < 6)
    return blocked('QEMUTooOld', `${qemu.command} is version ${qemu.version}; 6.0 or later is needed`);
  if (firmware === 'UEFI' && qemu.uefi === undefined) {
    return blocked(
      'FirmwareNotFound',
      `no UEFI firmware for ${architecture}; install it: apt-get install ${architecture === 'arm64' ? 'qemu-efi-aarch64' : 'ovmf'}`,
    );
  }
  if (accelerator === 'KVM' && !(isNative(facts, architecture) && facts.kvm.works)) {
    const why = isNative(facts, architecture) ? facts.kvm.reason : `the host is ${facts.architecture}`;
    return blocked('KVMUnavailable', `accelerator is KVM, which does not work here: ${why}; use Auto or TCG`);
  }
  return sizeProblem(subject, qemu);
}

/** More than the machine or the host has: a launch would fail, so a running VM is not stopped for it. */
function sizeProblem({ wanted, seen }: Subject, { version, maxVcpus }: QemuFacts): Decision | undefined {
  const { vcpus, memoryMiB } = wanted.launch;
  if (maxVcpus !== undefined && vcpus > maxVcpus)
    return blocked('InvalidSpec', `vcpus: ${vcpus} are more than QEMU ${version} gives a machine, at most ${maxVcpus}`);
  const { memoryBytes } = seen.facts;
  return memoryMiB * MIB > memoryBytes
    ? blocked('InsufficientMemory', `memory: ${memoryMiB}Mi are more than the host has, ${humanBytes(memoryBytes)}`)
    : undefined;
}
