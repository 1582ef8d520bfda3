/** Small manifests to start from. */

import { readSpec } from '../../src/api/admission.ts';
import { API_VERSION } from '../../src/api/meta.ts';
import type { VirtualMachine, VirtualMachineSpec } from '../../src/api/virtual-machine.ts';

type Fields = Readonly<Record<string, unknown>>;

/** A VirtualMachine document as a person writes it. */
export function vmDocument(spec: Fields = {}, metadata: Fields = {}): Record<string, unknown> {
  return {
    apiVersion: API_VERSION,
    kind: 'VirtualMachine',
    metadata: { name: 'web-1', namespace: 'default', ...metadata },
    spec: { architecture: 'x86_64', ...spec },
  };
}

export function hostDocument(spec: Fields = { local: {} }, metadata: Fields = {}): Record<string, unknown> {
  return { apiVersion: API_VERSION, kind: 'Host', metadata: { name: 'localhost', ...metadata }, spec };
}

export function monitorDocument(spec: Fields = {}): Record<string, unknown> {
  return {
    apiVersion: API_VERSION,
    kind: 'VirtualMachineMonitor',
    metadata: { name: 'watch-1', namespace: 'default' },
    spec: { virtualMachineName: 'web-1', until: '2026-01-31T15:04:05Z', ...spec },
  };
}

export const SOME_UID = '11111111-2222-4333-8444-555555555555';

/** A stored VirtualMachine, defaults filled. */
export function storedVm(spec: Fields = {}, metadata: Fields = {}): VirtualMachine {
  return {
    apiVersion: API_VERSION,
    kind: 'VirtualMachine',
    metadata: {
      name: 'web-1',
      namespace: 'default',
      uid: SOME_UID,
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
      ...metadata,
    },
    spec: readSpec('VirtualMachine', 'web-1', { architecture: 'x86_64', ...spec }) as VirtualMachineSpec,
  };
}
