import { describe, expect, test } from 'vitest';
import { acceleratorOf, qemuProblem, toolProblem } from '../../src/reconcile/readiness.ts';
import { FACTS, GI } from '../fakes/simulated-world.ts';
import { subject } from '../fakes/subjects.ts';

const WORKS = { works: true, reason: 'KVM ran code' };
const BROKEN = { works: false, reason: 'no /dev/kvm' };
const UEFI = { code: '/fw/c', variables: '/fw/v', format: 'raw' };
const QEMU = { command: 'q', version: '10.0.2', uefi: UEFI };
const BOTH = { x86_64: QEMU, arm64: QEMU };

describe('the accelerator', () => {
  test.each([
    ['Auto', 'x86_64', 'x86_64', WORKS, 'KVM', 'KVM ran code'],
    ['Auto', 'x86_64', 'x86_64', BROKEN, 'TCG', 'no /dev/kvm'],
    ['Auto', 'arm64', 'aarch64', WORKS, 'KVM', 'KVM ran code'],
    ['Auto', 'arm64', 'x86_64', WORKS, 'TCG', 'arm64 guests cannot use KVM on a x86_64 host'],
    ['Auto', 'x86_64', 'aarch64', WORKS, 'TCG', 'x86_64 guests cannot use KVM on a aarch64 host'],
    ['TCG', 'x86_64', 'x86_64', WORKS, 'TCG', 'the spec wants TCG'],
    ['KVM', 'x86_64', 'x86_64', WORKS, 'KVM', 'KVM ran code'],
    ['KVM', 'x86_64', 'x86_64', BROKEN, 'KVM', 'the spec wants KVM'],
  ] as const)('%s for %s on %s, %j: %s', (accelerator, architecture, machine, kvm, expected, reason) => {
    const given = subject({
      spec: { accelerator, architecture },
      seen: { facts: { ...FACTS, architecture: machine, kvm } },
    });
    expect(acceleratorOf(given)).toEqual({ accelerator: expected, reason });
  });
});

describe('what is missing', () => {
  const reason = (spec: object, facts: object) =>
    qemuProblem(subject({ spec: { ...spec }, seen: { facts: { ...FACTS, qemu: BOTH, kvm: WORKS, ...facts } } }))
      ?.reason;

  test('nothing', () => {
    expect(reason({}, {})).toBeUndefined();
    expect(reason({ accelerator: 'KVM' }, {})).toBeUndefined();
    expect(reason({ firmware: { type: 'UEFI' } }, {})).toBeUndefined();
    expect(
      reason({ firmware: { type: 'BIOS' } }, { qemu: { x86_64: { command: 'q', version: '6.0.0' } } }),
    ).toBeUndefined();
    expect(reason({ accelerator: 'KVM', architecture: 'arm64' }, { architecture: 'aarch64' })).toBeUndefined();
  });

  test('QEMU of the architecture, in a version that will do', () => {
    expect(reason({}, { qemu: { arm64: QEMU } })).toBe('QEMUNotInstalled');
    expect(reason({}, { qemu: { x86_64: { ...QEMU, version: '5.2.0' } } })).toBe('QEMUTooOld');
  });

  test('KVM, where the spec insists on it', () => {
    expect(reason({ accelerator: 'KVM' }, { kvm: BROKEN })).toBe('KVMUnavailable');
    expect(reason({ accelerator: 'KVM', architecture: 'arm64' }, {})).toBe('KVMUnavailable');
    expect(reason({ accelerator: 'Auto' }, { kvm: BROKEN })).toBeUndefined();
  });

  test('CPUs that QEMU has', () => {
    const some = { qemu: { x86_64: { ...QEMU, maxVcpus: 8 } } };
    expect([7, 8, 9].map((vcpus) => reason({ vcpus }, some))).toEqual([undefined, undefined, 'InvalidSpec']);
    expect(reason({ vcpus: 9 }, {})).toBeUndefined();
  });

  test('memory that the host has', () => {
    const some = { memoryBytes: 4 * GI };
    expect(['3Gi', '4Gi', '4097Mi'].map((memory) => reason({ memory }, some))).toEqual([
      undefined,
      undefined,
      'InsufficientMemory',
    ]);
  });

  test('qemu-img', () => {
    expect(toolProblem(subject())).toBeUndefined();
    expect(toolProblem(subject({ seen: { facts: { ...FACTS, qemuImg: false } } }))?.reason).toBe('QEMUNotInstalled');
  });
});
