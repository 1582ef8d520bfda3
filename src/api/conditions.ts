/** Conditions (metav1.Condition) and the reasons they carry. Every reason is explained in docs/reference/reasons.md. */

export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number | undefined;
}

/** Why a VM is as it is. PascalCase, stable: tools and alerts match on them. */
export const REASONS = [
  'Running',
  'Stopped',
  'GuestPoweredOff',
  'Provisioning',
  'Starting',
  'Stopping',
  'Restarting',
  'Terminating',
  'HostNotFound',
  'HostNotAssigned',
  'HostInUse',
  'HostUnreachable',
  'HostNotReady',
  'PathNotAllowed',
  'NamespaceNotAllowed',
  'PathTooLong',
  'NameConflict',
  'StorageMissing',
  'DiskMissing',
  'DiskInUse',
  'DiskCannotShrink',
  'DiskFormatMismatch',
  'RawDiskNotGrown',
  'ImageNotFound',
  'ImageChecksumMismatch',
  'ImageDownloading',
  'ImageDownloadFailed',
  'ImageUnusable',
  'ISONotFound',
  'ISOWrongArchitecture',
  'QEMUNotInstalled',
  'QEMUTooOld',
  'FirmwareNotFound',
  'KVMUnavailable',
  'PortInUse',
  'BridgeNotAllowed',
  'BridgeNotFound',
  'InsufficientMemory',
  'InsufficientStorage',
  'SecretNotFound',
  'LaunchFailed',
  'CrashLoopBackOff',
  'IOError',
  'GuestPanicked',
  'GuestPaused',
  'GuestIgnoresPowerdown',
  'MonitorUnresponsive',
  'GuestAgentAnswers',
  'GuestAgentClosed',
  'GuestAgentSilent',
  'GuestAgentInvalid',
  'PendingChanges',
  'PausedByOperator',
  'Protected',
  'InvalidSpec',
  'RecordTooNew',
  'RecordInvalid',
  'ManifestInvalid',
  'ManifestMissing',
  'InternalError',
  // Ends of a process, as lastExit.reason; those that no policy answers are Ready's reason too.
  'StoppedByRequest',
  'HostShutdown',
  'HostRebooted',
  'Crashed',
  'Signaled',
  'StoppedExternally',
  // Of Hosts.
  'LocalNotAllowed',
  'ClaimedByAnother',
  'DifferentMachine',
  'CredentialsInvalid',
  'HostKeyChanged',
  'JumpHostInvalid',
  'VMDirMissing',
  'Ready',
] as const;
export type Reason = (typeof REASONS)[number];

/** What ended a QEMU process, from the host's evidence alone. */
export type ExitReason =
  | 'StoppedByRequest'
  | 'HostShutdown'
  | 'HostRebooted'
  | 'Crashed'
  | 'Signaled'
  | 'GuestPanicked'
  | 'InternalError'
  | 'StoppedExternally'
  | 'GuestPoweredOff';

/** A condition without its times: what a pass found. */
export interface Finding {
  readonly type: string;
  readonly status: Condition['status'];
  readonly reason: string;
  readonly message: string;
}

/**
 * Conditions from what a pass found: lastTransitionTime moves only with status, and a type that is not found any
 * more is dropped.
 * @param at RFC 3339, the host's clock where it is known
 */
export function conditionsFrom(
  findings: readonly Finding[],
  previous: readonly Condition[] | undefined,
  at: string,
  observedGeneration: number,
): Condition[] {
  return findings.map((finding) => {
    const before = previous?.find(({ type }) => type === finding.type);
    const lastTransitionTime = before?.status === finding.status ? before.lastTransitionTime : at;
    return { ...finding, message: finding.message.slice(0, 1024), lastTransitionTime, observedGeneration };
  });
}

export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** Whether a condition is True. */
export function isTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** Whether a VM has a process, or may have one: what cannot be seen is not taken for absent. */
export function mayHaveProcess(
  status: { readonly pid?: number | undefined; readonly conditions?: readonly Condition[] | undefined } | undefined,
): boolean {
  if (status?.pid !== undefined) return true;
  const running = findCondition(status?.conditions, 'Running')?.status;
  return running === 'True' || running === 'Unknown';
}
