/** Disks that are made from an image: a detached job fetches and converts it, an effect makes its result the disk. */
import type { Reason } from '../api/conditions.ts';
import type { EffectiveDisk, EffectiveImage } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import { formatQuantity, humanBytes } from '../api/quantity.ts';
import type { Decision, Subject } from './decision.ts';
import { act, blocked, clockTime, wait } from './decision.ts';
import type { JobReport, SeenJob } from './job.ts';
import { pathProblem } from './paths.ts';
import type { OwnershipRecord } from './record.ts';

/** The job's report is read again this soon. */
const LOOK_MS = 1_500;
const FIRST_RETRY_MS = 10_000;
const MAX_RETRY_MS = 600_000;
/** What the next attempt hardly changes: a person has to mend it, and is not kept waiting for long when it is mended. */
const LASTING: ReadonlySet<JobReport['reason']> = new Set([
  'ImageNotFound',
  'ImageChecksumMismatch',
  'ImageUnusable',
] as const);

/** Whether the disk still has to be made from its image. */
export function awaitsImage({ seen }: Subject, record: OwnershipRecord, disk: EffectiveDisk): boolean {
  const state = record.disks[disk.name]?.state;
  return (
    disk.image !== undefined &&
    (state === undefined || state === 'creating') &&
    seen.files.get(disk.path)?.kind !== 'present'
  );
}

/** A job that serves nothing any more: its disk left the spec or is there, or the VM is to be off or gone. */
export function decideUselessJob(subject: Subject, record: OwnershipRecord, isOn: boolean): Decision | undefined {
  const job = subject.seen.folder?.job;
  if (job === undefined) return undefined;
  const disk = subject.wanted.disks.find(({ name }) => name === job.disk);
  if (disk !== undefined && isOn && awaitsImage(subject, record, disk)) return undefined;
  // Its file has its name already and only the record does not say so yet: that comes first.
  const named = disk !== undefined && subject.seen.files.get(disk.path)?.kind === 'present';
  if (named && record.disks[job.disk]?.state === 'creating' && !job.running) return undefined;
  return act({ type: 'cancel-copy', job }, 'Provisioning', `disk ${job.disk}: ending the copy of its image`);
}

/** What about the image itself only a person can mend. */
export function imageProblem(subject: Subject, disk: EffectiveDisk, image: EffectiveImage): Decision | undefined {
  if (image.path === undefined) return undefined;
  const what = `disk ${disk.name}: image`;
  const problem = pathProblem(subject, image.path, what);
  if (problem !== undefined) return problem;
  const file = subject.seen.files.get(image.path);
  if (file === undefined || file.kind === 'absent')
    return blocked('ImageNotFound', `${what} ${image.path} does not exist on the host`);
  if (file.type === 'other')
    return blocked('ImageUnusable', `${what} ${image.path} is neither a regular file nor a block device`);
  if (!file.readable)
    return blocked('ImageNotFound', `${what} ${image.path} cannot be read by the user that runs QEMU`);
  if (file.refersTo !== undefined)
    return blocked(
      'ImageUnusable',
      `${what} ${image.path} needs another file, ${oneLine(file.refersTo, 200)}: flatten it with qemu-img convert`,
    );
  if (disk.sizeBytes !== undefined && file.virtualBytes !== undefined && file.virtualBytes > disk.sizeBytes)
    return blocked(
      'DiskCannotShrink',
      `disk ${disk.name}: the image has ${formatQuantity(file.virtualBytes)}; set size: ${formatQuantity(file.virtualBytes)} or more`,
    );
  return undefined;
}

/** The next step towards a disk that {@link awaitsImage}. */
export function decideCopy(subject: Subject, disk: EffectiveDisk, image: EffectiveImage): Decision {
  const job = subject.seen.folder?.job;
  if (job === undefined || job.disk !== disk.name) return begin(subject, disk, image, 0);
  if (job.running) {
    const fetching = image.url !== undefined && job.phase !== 'copying';
    const message = `disk ${disk.name}: ${PHASE_WORDS[job.phase]} ${shown(image)}`;
    return wait(LOOK_MS, fetching ? 'ImageDownloading' : 'Provisioning', message, { progress: progressOf(job) });
  }
  if (job.phase === 'done')
    return act(
      { type: 'finish-copy', disk },
      'Provisioning',
      `disk ${disk.name}: the copy of ${shown(image)} is complete`,
    );
  if (job.phase === 'failed') return decideFailed(subject, disk, image, job);
  // The host was restarted, or somebody ended it.
  return begin(subject, disk, image, job.attempt);
}

function begin({ vm, seen }: Subject, disk: EffectiveDisk, image: EffectiveImage, attempt: number): Decision {
  return act(
    { type: 'start-copy', disk, image, bootID: seen.bootID, attempt, nonce: vm.spec.restartedAt },
    image.url === undefined ? 'Provisioning' : 'ImageDownloading',
    `disk ${disk.name}: ${image.url === undefined ? 'copying' : 'fetching'} ${shown(image)}`,
  );
}

function decideFailed(subject: Subject, disk: EffectiveDisk, image: EffectiveImage, job: SeenJob): Decision {
  const { vm, seen } = subject;
  const reason: Reason = job.reason ?? 'ImageDownloadFailed';
  const lasting = LASTING.has(job.reason);
  const delay = lasting ? MAX_RETRY_MS : Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * (job.attempt + 1) ** 2);
  const due = job.at + delay;
  // A clock that was set back says nothing of the time that passed.
  if (seen.at >= due || seen.at < job.at || job.nonce !== vm.spec.restartedAt)
    return begin(subject, disk, image, job.attempt + 1);
  const message = `disk ${disk.name}: ${shown(image)}: ${oneLine(job.message ?? 'the copy failed', 400)}`;
  const next = `${message}; tried again at ${clockTime(due)}, or at once by start`;
  return lasting ? blocked(reason, next, { retryAt: due }) : wait(due - seen.at, reason, next, { retryAt: due });
}

const PHASE_WORDS: Readonly<Record<JobReport['phase'], string>> = {
  waiting: 'waiting for the download of',
  downloading: 'downloading',
  verifying: 'verifying the checksum of',
  copying: 'writing the disk from',
  done: 'completing the copy of',
  failed: 'ending the copy of',
};

function progressOf({ doneBytes, totalBytes }: JobReport): string {
  const done = humanBytes(doneBytes);
  if (totalBytes <= 0) return done;
  return `${done} of ${humanBytes(totalBytes)}, ${Math.min(100, Math.floor((doneBytes / totalBytes) * 100))} %`;
}

/** Without the query, which may hold a token. */
function shown({ url, path }: EffectiveImage): string {
  return oneLine(path ?? (url ?? '').replace(/\?.*$/, '?…'), 200);
}
