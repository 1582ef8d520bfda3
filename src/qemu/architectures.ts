/** What differs between guest architectures: commands, machines, CPUs, firmware. Source: qemu-system(1), measured on 7.2 and 10.0. */
import type { Architecture } from '../api/virtual-machine.ts';

export interface ArchitectureTraits {
  readonly command: string;
  /** QEMU's own name, as in firmware descriptors. */
  readonly qemuName: string;
  readonly machine: string;
  readonly cpu: { readonly KVM: string; readonly TCG: string };
  readonly serialName: string;
  /** Without a descriptor in share/qemu/firmware: code and template of variables. */
  readonly knownFirmware: readonly { readonly code: string; readonly variables: string }[];
}

export const TRAITS: Readonly<Record<Architecture, ArchitectureTraits>> = {
  x86_64: {
    command: 'qemu-system-x86_64',
    qemuName: 'x86_64',
    machine: 'q35',
    cpu: { KVM: 'host', TCG: 'max' },
    serialName: 'ttyS0',
    knownFirmware: [
      { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.fd' },
      { code: '/usr/share/OVMF/OVMF_CODE.fd', variables: '/usr/share/OVMF/OVMF_VARS.fd' },
      { code: '/usr/share/edk2/x64/OVMF_CODE.4m.fd', variables: '/usr/share/edk2/x64/OVMF_VARS.4m.fd' },
      { code: '/usr/share/edk2/ovmf/OVMF_CODE.fd', variables: '/usr/share/edk2/ovmf/OVMF_VARS.fd' },
    ],
  },
  arm64: {
    command: 'qemu-system-aarch64',
    qemuName: 'aarch64',
    machine: 'virt',
    // cortex-a57 boots a guest four times faster under TCG than max, whose pointer authentication is emulated.
    cpu: { KVM: 'host', TCG: 'cortex-a57' },
    serialName: 'ttyAMA0',
    knownFirmware: [
      { code: '/usr/share/AAVMF/AAVMF_CODE.fd', variables: '/usr/share/AAVMF/AAVMF_VARS.fd' },
      {
        code: '/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw',
        variables: '/usr/share/edk2/aarch64/vars-template-pflash.raw',
      },
    ],
  },
};
