/** The actions on disks: made, copied from images, attached, grown, noted, removed. */
import type { EffectiveDisk } from '../api/effective-spec.ts';
import { type DiskRecord, type OwnershipRecord, reclaimOf, recordText } from '../reconcile/record.ts';
import { CANCEL_COPY, copyScript, FINISH_COPY, partialFile, START_COPY } from './copy-job.ts';
import { type ActionOf, type Executors, type Hands, monitorOf, recordOf, run, tapWords, writeRecord } from './hands.ts';
import * as scripts from './scripts.ts';

type DiskAction =
  | 'create-disk'
  | 'start-copy'
  | 'finish-copy'
  | 'cancel-copy'
  | 'attach-disk'
  | 'grow-disk'
  | 'grow-disk-live'
  | 'note-disk'
  | 'forget-disk'
  | 'remove-files';

export const DISK_EXECUTORS: Pick<Executors, DiskAction> = {
  'create-disk': createDisk,
  'start-copy': startCopy,
  'finish-copy': finishCopy,
  'cancel-copy': cancelCopy,
  'attach-disk': ({ disk, virtualBytes }, hands) =>
    writeRecord(hands, (record) =>
      withDisk(record, disk.name, {
        path: disk.path,
        format: disk.format,
        state: 'attached',
        sizeBytes: virtualBytes,
        ...policy(disk.reclaimPolicy),
      }),
    ),
  'grow-disk': ({ disk, toBytes }, hands) =>
    run(hands, scripts.GROW_DISK, [disk.path, String(toBytes), recordText(sized(recordOf(hands), disk.name, toBytes))]),
  'grow-disk-live': growLive,
  'note-disk': ({ disk, sizeBytes }, hands) =>
    writeRecord(hands, (record) => {
      const { reclaimPolicy: _before, ...noted } = record.disks[disk.name] ?? {
        path: disk.path,
        format: disk.format,
        state: 'attached' as const,
      };
      return withDisk(record, disk.name, {
        ...noted,
        ...(sizeBytes > 0 ? { sizeBytes } : {}),
        ...policy(disk.reclaimPolicy),
      });
    }),
  'forget-disk': ({ disk }, hands) => writeRecord(hands, (record) => withoutDisk(record, disk)),
  'remove-files': removeFiles,
};

function policy(reclaimPolicy: 'Delete' | 'Retain' | undefined): { reclaimPolicy?: 'Delete' | 'Retain' } {
  return reclaimPolicy === undefined ? {} : { reclaimPolicy };
}

function withDisk(record: OwnershipRecord, name: string, disk: OwnershipRecord['disks'][string]): OwnershipRecord {
  return { ...record, disks: { ...record.disks, [name]: disk } };
}

function withoutDisk(record: OwnershipRecord, disk: string): OwnershipRecord {
  return { ...record, disks: Object.fromEntries(Object.entries(record.disks).filter(([name]) => name !== disk)) };
}

function sized(record: OwnershipRecord, name: string, sizeBytes: number): OwnershipRecord {
  const disk = record.disks[name];
  return disk === undefined ? record : withDisk(record, name, { ...disk, sizeBytes });
}

/** Of a file in the making, beside the disk's own path. Nobody else's file has it by chance. */
function suffixOf({ context }: Hands): string {
  return `.creating-${context.uid.slice(0, 8)}`;
}

function diskEntry(disk: EffectiveDisk): Omit<DiskRecord, 'state'> {
  return {
    path: disk.path,
    format: disk.format,
    ...(disk.sizeBytes === undefined ? {} : { sizeBytes: disk.sizeBytes }),
    ...policy(disk.reclaimPolicy),
  };
}

function createDisk({ disk }: ActionOf<'create-disk'>, hands: Hands): Promise<unknown> {
  const record = recordOf(hands);
  const entry = diskEntry(disk);
  const started = record.disks[disk.name]?.state === 'creating';
  return run(hands, scripts.CREATE_DISK, [
    disk.path,
    disk.path + suffixOf(hands),
    disk.format,
    String(disk.sizeBytes ?? 0),
    started ? 'resumed' : 'new',
    recordText(withDisk(record, disk.name, { ...entry, state: 'creating' })),
    recordText(withDisk(record, disk.name, { ...entry, state: 'created' })),
    recordText(withoutDisk(record, disk.name)),
  ]);
}

function startCopy({ disk, image, bootID, attempt, nonce }: ActionOf<'start-copy'>, hands: Hands): Promise<unknown> {
  const { folder, vmDir } = hands.context.wanted;
  return run(
    hands,
    START_COPY,
    [
      copyScript({ folder, vmDir, disk, partial: disk.path + suffixOf(hands), image, bootID, attempt, nonce }),
      recordText(withDisk(recordOf(hands), disk.name, { ...diskEntry(disk), state: 'creating' })),
    ],
    { refusal: 'ImageDownloadFailed' },
  );
}

function finishCopy({ disk }: ActionOf<'finish-copy'>, hands: Hands): Promise<unknown> {
  const record = recordOf(hands);
  return run(hands, FINISH_COPY, [
    disk.path,
    disk.path + suffixOf(hands),
    recordText(withDisk(record, disk.name, { ...diskEntry(disk), state: 'created' })),
    recordText(withoutDisk(record, disk.name)),
  ]);
}

function cancelCopy({ job }: ActionOf<'cancel-copy'>, hands: Hands): Promise<unknown> {
  const record = recordOf(hands);
  const { disks, vmDir } = hands.context.wanted;
  const noted = record.disks[job.disk];
  const unfinished = noted?.state === 'creating';
  const image = disks.find(({ name }) => name === job.disk)?.image;
  return run(hands, CANCEL_COPY, [
    job.running ? String(job.pid) : '',
    String(job.startTicks),
    unfinished ? noted.path + suffixOf(hands) : '',
    unfinished && image !== undefined ? (partialFile(vmDir, image) ?? '') : '',
    recordText(unfinished ? withoutDisk(record, job.disk) : record),
  ]);
}

/** QEMU shrinks a live disk without a word: the size it has now was seen to be smaller. */
async function growLive({ disk, toBytes }: ActionOf<'grow-disk-live'>, hands: Hands): Promise<void> {
  const { process } = hands.context;
  const now = process.kind === 'present' ? process.diskBytes?.get(disk.name) : undefined;
  if (now === undefined || now >= toBytes) return;
  const monitor = await monitorOf(hands);
  await monitor.execute('block_resize', { 'node-name': `disk-${disk.name}`, size: toBytes });
  await writeRecord(hands, (record) => sized(record, disk.name, toBytes));
}

/** What the spec says of a disk counts, also where no pass has noted it yet: a deletion may follow a change at once. */
function removeFiles({ keep }: ActionOf<'remove-files'>, hands: Hands): Promise<unknown> {
  const wanted = hands.context.wanted.disks;
  const doomed = Object.entries(recordOf(hands).disks)
    .filter(([name, { path, state, reclaimPolicy }]) => {
      const disk = wanted.find((one) => one.name === name && one.path === path);
      if (keep.includes(path)) return false;
      return reclaimOf(state, disk === undefined ? reclaimPolicy : disk.reclaimPolicy) === 'Delete';
    })
    .map(([, disk]) => disk);
  const taps = tapWords(hands, hands.context.wanted.launch.networks);
  return run(hands, scripts.REMOVE_FILES, [
    suffixOf(hands),
    taps,
    ...doomed.flatMap(({ state, path }) => [state, path]),
  ]);
}
