/** Disks as the tools show them. */
import { type EffectiveDisk, effectiveSpec } from '../../api/effective-spec.ts';
import { ConflictError, NotFoundError } from '../../api/errors.ts';
import type { Host } from '../../api/host.ts';
import { parseQuantity, qemuSize } from '../../api/quantity.ts';
import type { DiskSpec, VirtualMachine } from '../../api/virtual-machine.ts';
import type { Store } from '../../store/store.ts';

export interface ShownDisk {
  readonly path: string;
  readonly size?: string | undefined;
  readonly format?: string | undefined;
  readonly state?: string | undefined;
}

/** Disks of the spec with what was seen of them; sizes in QEMU's form. */
export function shownDisks(vm: VirtualMachine, host: Pick<Host, 'spec'>): ShownDisk[] {
  return effectiveSpec(vm, host).disks.map((disk) => {
    const seen = vm.status?.disks?.find(({ name }) => name === disk.name);
    const bytes = sizeOf(vm, disk);
    return {
      path: disk.path,
      format: disk.format,
      ...(bytes === undefined ? {} : { size: qemuSize(bytes) }),
      ...(seen === undefined ? {} : { state: seen.state }),
    };
  });
}

/** Capacity in bytes: as seen, else as wanted. */
export function sizeOf(vm: VirtualMachine, disk: EffectiveDisk): number | undefined {
  return seenSizeOf(vm, disk) ?? disk.sizeBytes;
}

/** Capacity in bytes as the last look saw it. */
export function seenSizeOf(vm: VirtualMachine, disk: EffectiveDisk): number | undefined {
  const seen = vm.status?.disks?.find(({ name }) => name === disk.name)?.virtualSize;
  return seen === undefined ? undefined : parseQuantity(seen);
}

const ATTEMPTS = 8;

/**
 * Writes the disks along with other fields of the spec. Lists are replaced whole, so the newest list is changed and
 * another's new disk is not lost.
 * @throws ConflictError, NotFoundError
 */
export async function patchDisks(
  store: Store,
  { metadata }: VirtualMachine,
  change: (disk: DiskSpec) => DiskSpec,
  spec: Readonly<Record<string, unknown>>,
): Promise<VirtualMachine> {
  for (let attempt = 1; ; attempt += 1) {
    const newest = await store.get('VirtualMachine', metadata);
    if (newest === undefined) throw new NotFoundError(`VirtualMachine ${metadata.name} not found`);
    const disks = (newest.spec.disks ?? []).map(change);
    const { resourceVersion } = newest.metadata;
    try {
      return await store.patch(
        'VirtualMachine',
        metadata,
        { spec: { ...spec, disks } },
        { uid: metadata.uid, resourceVersion },
      );
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt >= ATTEMPTS) throw error;
    }
  }
}
