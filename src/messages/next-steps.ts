/**
 * What a person does about a reason, as docs/reference/reasons.md says it (a test compares them). A reason without an
 * entry is in order, or mends itself.
 */
import type { Reason } from '../api/conditions.ts';

const steps: Readonly<Partial<Record<Reason, string>>> = {
  PendingChanges: '`restart` when it suits, or set `updateStrategy.type: Restart`. `status.pendingChanges` lists them.',
  CrashLoopBackOff: 'Read `lastExit` and `logs`. `restart`, or a change of what it is started from, starts it at once.',
  HostNotAssigned: 'Set it; it may be set once.',
  HostInUse:
    'Delete the VMs that it names; with the annotation `qemu-operator.dev/orphan` a VM is given up and its files stay.',
  HostNotFound: 'Create the Host. `hostName` cannot be changed.',
  HostUnreachable: 'Mend the connection. To delete without the host, set the annotation `orphan`.',
  HostNotReady: "Read the Host's conditions.",
  VMDirMissing:
    'Mount it or mend its owner. If it is empty on purpose, remove the annotation that the message names; if only the marker was lost: `host claim NAME --take-over`.',
  ClaimedByAnother: 'Choose another vmDir, or end the other controller and then: `host claim NAME --take-over`.',
  DifferentMachine: 'Correct the address. If the machine is meant: `host claim NAME --accept-machine`.',
  CredentialsInvalid: 'Replace them: `host credentials NAME`. They are tried again then, and every ten minutes.',
  HostKeyChanged: 'Find out why. If the new key is right: `host trust NAME`.',
  JumpHostInvalid: 'Correct `jumpHostName` of the Host that the message names.',
  LocalNotAllowed: 'Name a remote host, or allow local ones when starting the operator.',
  StorageMissing:
    'Mount or restore them. Only if the data is gone for good: remove the annotation `provisioned`. See disks.',
  DiskMissing: 'Restore the file, mend its mode, make the folder, or take the disk out of the spec.',
  DiskInUse: 'Give each VM its own file.',
  DiskFormatMismatch: 'Set the format that the message names, under another disk name.',
  DiskCannotShrink: 'Write the size that the message names.',
  RawDiskNotGrown: 'Run the `qemu-img resize` command of the message; the next look sees it.',
  ImageDownloadFailed: 'It is tried again at the time that the message names; `start` tries at once.',
  ImageNotFound:
    "Correct the server or the file; a disk's image is immutable, so a wrong URL needs a disk of another name.",
  ImageChecksumMismatch:
    "Compare both sums with the publisher's; correct the server, or use a disk of another name with the right sum.",
  ImageUnusable: 'Unpack or flatten it as the message says.',
  ISONotFound: 'Put it there, or correct `cdroms[].path`.',
  ISOWrongArchitecture: 'Use the other image.',
  NamespaceNotAllowed: 'Choose another Host, or have whoever owns it widen its `allowedNamespaces`.',
  PathNotAllowed: 'Move the file, or widen `allowedPaths`.',
  PathTooLong: 'Use a shorter vmDir or vmName.',
  InsufficientStorage: 'Make room.',
  IOError: "Make room; if there is room, look at the disk's health.",
  QEMUNotInstalled: 'Install the package that the message names.',
  QEMUTooOld: 'Upgrade it.',
  FirmwareNotFound: 'Install the package that the message names.',
  KVMUnavailable: 'Mend KVM as the message says, or use `Auto`.',
  PortInUse: 'End its owner, and it clears by itself; or choose another `hostPort`, or none: then a free one is found.',
  BridgeNotAllowed: 'Add it to `allowedBridges`, or do what the message says: see networks.',
  BridgeNotFound: 'Make the bridge; the message has the command.',
  InsufficientMemory: 'Lower `memory`, or stop others.',
  SecretNotFound: 'Set it with the command that the message names. It is noticed by itself, within ten seconds.',
  LaunchFailed:
    'Correct what it names; it is tried again with growing pauses, at the time that the message names; `start` tries at once.',
  MonitorUnresponsive: "Look at the host's load; `stop --force` ends it.",
  GuestPanicked: 'Look at `console` and `logs`; `restart`.',
  GuestIgnoresPowerdown: 'Power it off inside, or set `powerState: ForcedOff`.',
  GuestAgentClosed: 'If it lasts, start the agent in the guest.',
  GuestAgentSilent: 'Restart the agent in the guest.',
  GuestAgentInvalid: 'Find out what has opened the port in the guest.',
  NameConflict: 'Use another `vmName` or disk name, or take the folder over with the annotation `adopt`.',
  RecordTooNew: 'Upgrade the operator.',
  RecordInvalid: 'Restore `.qemu-operator.json` in its folder; to delete the object alone, annotate `orphan`.',
  InvalidSpec: 'Correct the field that the message names.',
  PausedByOperator: 'Remove it to go on.',
  Protected: 'Remove it first.',
  ManifestInvalid: 'Correct the file.',
  ManifestMissing: 'Bring the file back, or `delete` the object.',
  InternalError: 'Report it with the message and the log.',
  HostRebooted: "Check the guest's file systems.",
  Crashed: "Read the message and the host's kernel log.",
  Signaled: "Find out who; the message has the sender's pid.",
  StoppedExternally: 'Find out who.',
};

/** undefined: nothing is to be done. */
export function nextStepFor(reason: string): string | undefined {
  return (steps as Readonly<Record<string, string | undefined>>)[reason];
}
