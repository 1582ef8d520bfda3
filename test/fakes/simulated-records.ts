/** Actions that only write the ownership record. */
import type { VmAction } from '../../src/reconcile/action.ts';
import type { VmContext } from '../../src/reconcile/driver.ts';
import type { OwnershipRecord } from '../../src/reconcile/record.ts';

type Of<T extends VmAction['type']> = Extract<VmAction, { type: T }>;
type Note = 'adopt' | 'attach-disk' | 'note-disk' | 'forget-disk' | 'note-launch' | 'note-off';
type Noting = {
  readonly [T in Note]: (action: Of<T>, record: OwnershipRecord, context: VmContext) => OwnershipRecord;
};

const NOTES: Noting = {
  adopt: ({ nonce }, { nonce: _before, ...record }, { uid, namespace, name, storeUID }) => ({
    ...record,
    uid,
    namespace,
    name,
    storeUID,
    ...(nonce === undefined ? {} : { nonce }),
  }),
  'attach-disk': ({ disk, virtualBytes }, record) =>
    withDisk(record, disk.name, {
      path: disk.path,
      format: disk.format,
      state: 'attached',
      sizeBytes: virtualBytes,
      ...(disk.reclaimPolicy === undefined ? {} : { reclaimPolicy: disk.reclaimPolicy }),
    }),
  'note-disk': ({ disk, sizeBytes }, record) => {
    const before = record.disks[disk.name];
    if (before === undefined) return record;
    const { reclaimPolicy: _was, ...rest } = before;
    return withDisk(record, disk.name, {
      ...rest,
      ...(sizeBytes > 0 ? { sizeBytes } : {}),
      ...(disk.reclaimPolicy === undefined ? {} : { reclaimPolicy: disk.reclaimPolicy }),
    });
  },
  'forget-disk': ({ disk }, record) => ({
    ...record,
    disks: Object.fromEntries(Object.entries(record.disks).filter(([name]) => name !== disk)),
  }),
  'note-launch': (_action, record, { process }) =>
    record.launch === undefined || process.kind === 'absent'
      ? record
      : {
          ...record,
          launch: { ...record.launch, state: 'running', pid: process.pid, startTicks: process.startTicks },
        },
  'note-off': (_action, { nonce: _answered, ...record }) => ({ ...record, off: true }),
};

export function noted(action: Of<Note>, record: OwnershipRecord, context: VmContext): OwnershipRecord {
  const note = NOTES[action.type] as (action: Of<Note>, record: OwnershipRecord, context: VmContext) => OwnershipRecord;
  return note(action, record, context);
}

export function withDisk(
  record: OwnershipRecord,
  name: string,
  disk: OwnershipRecord['disks'][string],
): OwnershipRecord {
  return { ...record, disks: { ...record.disks, [name]: disk } };
}
