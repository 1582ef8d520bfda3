/** Disks from images: which step comes next, and when it is tried again. */
import { describe, expect, test } from 'vitest';
import { findCondition } from '../../src/api/conditions.ts';
import { decide } from '../../src/reconcile/decide.ts';
import type { SeenJob } from '../../src/reconcile/job.ts';
import { statusOf } from '../../src/reconcile/status.ts';
import { file, type Given, GONE, NOON, noFile, ROOT, someRecord, subject } from '../fakes/subjects.ts';

const URL = 'https://images.example/debian.qcow2?token=1';
const BASE = '/data/base.qcow2';
const DATA = '/vms/web-1/data.qcow2';
const { disks } = someRecord();

const job = (fields: Partial<SeenJob> = {}): SeenJob => ({
  pid: 9,
  startTicks: 1,
  bootID: 'boot-1',
  disk: 'data',
  attempt: 0,
  phase: 'downloading',
  doneBytes: 50,
  totalBytes: 200,
  at: NOON - 1_000,
  running: true,
  ...fields,
});
const failed = (reason: NonNullable<SeenJob['reason']>, fields: Partial<SeenJob> = {}): SeenJob =>
  job({ phase: 'failed', running: false, reason, message: 'why "not"', ...fields });

interface Case {
  readonly image?: object;
  readonly disk?: object;
  readonly state?: 'creating' | 'created' | 'attached';
  readonly there?: boolean;
  readonly job?: SeenJob;
  readonly spec?: object;
  readonly base?: Parameters<typeof file>[0] | null;
  readonly metadata?: object;
}

/** A VM without a process whose second disk is made from an image. */
function given({ image = { url: URL }, disk, state, there, job: seen, spec, base, metadata }: Case): Given {
  const noted = state === undefined ? {} : { data: { path: DATA, format: 'qcow2' as const, state } };
  return {
    launch: null,
    process: GONE,
    spec: {
      disks: [
        { name: 'root', size: '1Gi' },
        { name: 'data', image, ...disk },
      ],
      ...spec,
    },
    record: { disks: { ...disks, ...noted } as never },
    files: {
      [ROOT]: file(),
      [DATA]: there === true ? file({ resolved: DATA }) : noFile(DATA),
      [BASE]: base === null ? noFile(BASE) : file({ resolved: BASE, ...base }),
    },
    ...(seen === undefined ? {} : { folder: { job: seen } }),
    ...(metadata === undefined ? {} : { metadata: metadata as Record<string, unknown> }),
  };
}

function outcome(about: Case): string {
  const decision = decide(subject(given(about)));
  if (decision.kind !== 'act') return `${decision.kind} ${decision.reason}`;
  const { action } = decision;
  return action.type === 'start-copy' ? `start-copy ${action.attempt}` : action.type;
}

const byPath = { image: { path: BASE } };
const OFF = { powerState: 'PoweredOff' };

describe('a disk with an image', () => {
  test.each<readonly [string, Case, string]>([
    ['begins by a job', {}, 'start-copy 0'],
    ['begins anew where the job died', { state: 'creating', job: job({ running: false }) }, 'start-copy 0'],
    ['waits for the download', { state: 'creating', job: job() }, 'wait ImageDownloading'],
    ['waits for another one', { state: 'creating', job: job({ phase: 'waiting' }) }, 'wait ImageDownloading'],
    ['waits for the checksum', { state: 'creating', job: job({ phase: 'verifying' }) }, 'wait ImageDownloading'],
    ['waits for the copy', { state: 'creating', job: job({ phase: 'copying' }) }, 'wait Provisioning'],
    [
      'verifies a local image without a download',
      { ...byPath, state: 'creating', job: job({ phase: 'verifying' }) },
      'wait Provisioning',
    ],
    ['takes what is done', { state: 'creating', job: job({ phase: 'done', running: false }) }, 'finish-copy'],
    [
      'has its file already',
      { state: 'creating', there: true, job: job({ phase: 'done', running: false }) },
      'create-disk',
    ],
    [
      'clears up afterwards',
      { state: 'created', there: true, job: job({ phase: 'done', running: false }) },
      'cancel-copy',
    ],
    ['is attached where a file was there', { there: true }, 'attach-disk'],
    ['is never made twice', { state: 'created' }, 'blocked StorageMissing'],
    ['ends the job of a disk that left the spec', { state: 'creating', job: job({ disk: 'other' }) }, 'cancel-copy'],
    ['is not fetched for a VM that is off', { spec: OFF }, 'settled Stopped'],
    ['is given up by a stop', { spec: OFF, state: 'creating', job: job() }, 'cancel-copy'],
    [
      'is complete, although the VM is off',
      { spec: OFF, state: 'creating', there: true, job: job({ phase: 'done', running: false }) },
      'create-disk',
    ],
    [
      'is given up by a deletion',
      { state: 'creating', job: job(), metadata: { deletionTimestamp: '2026-01-05T11:00:00Z' } },
      'cancel-copy',
    ],
  ])('%s', (_sentence, about, expected) => {
    expect(outcome(about)).toBe(expected);
  });
});

describe('a failed copy', () => {
  test.each<readonly [string, Case, string]>([
    ['waits its time', { job: failed('ImageDownloadFailed', { at: NOON - 9_000 }) }, 'wait ImageDownloadFailed'],
    ['is tried again then', { job: failed('ImageDownloadFailed', { at: NOON - 10_000 }) }, 'start-copy 1'],
    [
      'waits longer each time',
      { job: failed('ImageDownloadFailed', { at: NOON - 89_000, attempt: 2 }) },
      'wait ImageDownloadFailed',
    ],
    ['and is tried again', { job: failed('ImageDownloadFailed', { at: NOON - 90_000, attempt: 2 }) }, 'start-copy 3'],
    [
      'at most ten minutes',
      { job: failed('ImageDownloadFailed', { at: NOON - 600_000, attempt: 99 }) },
      'start-copy 100',
    ],
    ['waits for room', { job: failed('InsufficientStorage') }, 'wait InsufficientStorage'],
    ['of a bad checksum is a person’s', { job: failed('ImageChecksumMismatch') }, 'blocked ImageChecksumMismatch'],
    ['of no image is a person’s', { job: failed('ImageNotFound', { at: NOON - 599_000 }) }, 'blocked ImageNotFound'],
    ['is looked at again all the same', { job: failed('ImageNotFound', { at: NOON - 600_000 }) }, 'start-copy 1'],
    ['of another start is tried at once', { job: failed('ImageNotFound', { nonce: 'former' }) }, 'start-copy 1'],
    [
      'is tried at once where the clock was set back',
      { job: failed('ImageNotFound', { at: NOON + 1 }) },
      'start-copy 1',
    ],
  ])('%s', (_sentence, about, expected) => {
    expect(outcome({ ...about, state: 'creating' })).toBe(expected);
  });

  test('says when, and what the host said, quoted and bounded', () => {
    const about = subject(
      given({ state: 'creating', job: failed('ImageNotFound', { message: `no\n${'x'.repeat(9_999)}` }) }),
    );
    const status = statusOf(about.vm, { kind: 'seen', subject: about, decision: decide(about) });
    const ready = findCondition(status.conditions, 'Ready');
    expect(status.nextAttemptAt).toBe('2026-01-05T12:09:59Z');
    expect(ready?.message).toMatch(
      /^disk data: https:\/\/images\.example\/debian\.qcow2\?…: no x+…?; tried again at 2026-01-05T12:09:59Z, or at once by start$/,
    );
    expect(findCondition(status.conditions, 'Stalled')?.status).toBe('True');
  });
});

describe('an image on the host', () => {
  test.each<readonly [string, Case, string]>([
    ['is copied', {}, 'start-copy 0'],
    ['must exist', { base: null }, 'blocked ImageNotFound'],
    ['must be a file', { base: { type: 'other' } }, 'blocked ImageUnusable'],
    ['must be readable', { base: { readable: false } }, 'blocked ImageNotFound'],
    ['must stand alone', { base: { refersTo: '/data/x' } }, 'blocked ImageUnusable'],
    ['must fit', { disk: { size: '512Mi' } }, 'blocked DiskCannotShrink'],
    ['fits exactly', { disk: { size: '1Gi' } }, 'start-copy 0'],
    ['lies in allowedPaths', { image: { path: '/etc/base.qcow2' } }, 'blocked PathNotAllowed'],
    ['is none of ours', { image: { path: '/vms/.qemu-operator.images/sha256-1' } }, 'blocked PathNotAllowed'],
  ])('%s', (_sentence, about, expected) => {
    expect(outcome({ ...byPath, ...about })).toBe(expected);
  });
});

test('progress is shown and makes no history', () => {
  const about = subject(given({ state: 'creating', job: job() }));
  const status = statusOf(about.vm, { kind: 'seen', subject: about, decision: decide(about) });
  expect(status.message).toBe('disk data: downloading https://images.example/debian.qcow2?… (50B of 200B, 25 %)');
  expect(status.phase).toBe('Provisioning');
  expect(status.history?.at(-1)?.message).toBe('disk data: downloading https://images.example/debian.qcow2?…');
});
