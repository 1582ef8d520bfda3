/** Manifests for processes that have no test runner around them. */
import { type Manifest, parseManifest } from '../../src/api/admission.ts';

export function manifestOf(
  name: string,
  spec: object = {},
  note?: string,
  namespace = 'default',
): Manifest<'VirtualMachine'> {
  return parseManifest({
    apiVersion: 'qemu-operator.dev/v1alpha1',
    kind: 'VirtualMachine',
    metadata: { name, namespace, ...(note === undefined ? {} : { annotations: { note } }) },
    spec: { architecture: 'x86_64', ...spec },
  }) as Manifest<'VirtualMachine'>;
}
