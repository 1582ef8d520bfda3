/**
 * The job of a VM: a process on the host, detached from any controller, that makes one disk from its image. It tells how
 * far it is in a file of the VM's folder; what it made becomes a disk by an effect, never by the job itself.
 */
import { z } from 'zod';

/** Why a job failed, as a condition's reason. */
export const JOB_FAILURES = [
  'ImageNotFound',
  'ImageChecksumMismatch',
  'ImageDownloadFailed',
  'ImageUnusable',
  'InsufficientStorage',
] as const;
export type JobFailure = (typeof JOB_FAILURES)[number];

const jobSchema = z.object({
  pid: z.number(),
  /** Start of the process in clock ticks since boot: with pid and boot id its identity. */
  startTicks: z.number(),
  bootID: z.string(),
  /** The disk that it makes. */
  disk: z.string(),
  /** How often this was tried before. */
  attempt: z.number(),
  /** The VM's restartedAt when it began: a new one is a person's word to try again at once. */
  nonce: z.string().optional(),
  phase: z.enum(['waiting', 'downloading', 'verifying', 'copying', 'done', 'failed']),
  doneBytes: z.number(),
  /** 0 where it is not known. */
  totalBytes: z.number(),
  /** Host clock, ms, when this was written. */
  at: z.number(),
  reason: z.enum(JOB_FAILURES).optional(),
  message: z.string().optional(),
});

export type JobReport = z.infer<typeof jobSchema>;

/** `running`: the process that wrote the report still is there. An unreadable report is no job: it is made anew. */
export type SeenJob = JobReport & { readonly running: boolean };

export function parseJobReport(text: string): JobReport | undefined {
  try {
    return jobSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
