/**
 * What one look at a host found. Built by a driver from the host itself: nothing in here is remembered by the
 * controller, so a restarted one sees the same. Three-valued throughout: present, absent, cannot see.
 */
import type { ExitReason } from '../api/conditions.ts';
import type { Architecture, DiskFormat } from '../api/virtual-machine.ts';
import type { SeenJob } from './job.ts';
import type { MarkerState, RecordState, StopMarker } from './record.ts';

export type Look =
  | { readonly kind: 'seen'; readonly host: SeenHost }
  | {
      readonly kind: 'cannot-see';
      readonly reason: Blindness;
      readonly message: string;
      /** Of credentials: nothing was sent, so whether the host answers is not known. */
      readonly unasked?: true;
    };

/** Why a host cannot be looked at; the last three are of Hosts behind SSH, where sshd answers or was not asked. */
export type Blindness =
  | 'HostUnreachable'
  | 'HostNotReady'
  | 'CredentialsInvalid'
  | 'HostKeyChanged'
  | 'JumpHostInvalid'
  | 'LocalNotAllowed';

/** Whom the connection to a host behind SSH speaks to. */
export interface SeenConnection {
  /** Type and fingerprint. */
  readonly hostKey: string;
  readonly user: string;
}

export interface SeenHost {
  /** The host's own clock, ms since the epoch: the only clock that decisions use. */
  readonly at: number;
  readonly bootID: string;
  readonly machineID: string;
  readonly roundTripMs: number;
  /** By the path that was asked for. */
  readonly vmDirs: ReadonlyMap<string, SeenVmDir>;
  /** All VM folders of these vmDirs, by path. */
  readonly folders: ReadonlyMap<string, SeenFolder>;
  /** VM folders of other Hosts that are this machine, by path. */
  readonly foreignFolders: ReadonlyMap<string, SeenFolder>;
  /** The files that were asked for, by path. */
  readonly files: ReadonlyMap<string, SeenFile>;
  /** Ports that somebody listens on; empty where none of the VMs that matter now forwards any. */
  readonly ports: readonly SeenPort[];
  /** By name; empty where none of the VMs that matter now wants any. */
  readonly bridges: ReadonlyMap<string, SeenBridge>;
  /** QEMU processes that belong to none of these folders. */
  readonly strangers: readonly SeenStranger[];
  readonly facts: HostFacts;
  /** Absent: this machine. */
  readonly connection?: SeenConnection | undefined;
}

export interface SeenVmDir {
  readonly path: string;
  readonly state: 'present' | 'absent' | 'not-writable';
  readonly marker: MarkerState;
  readonly freeBytes?: number;
  readonly totalBytes?: number;
}

export interface SeenFolder {
  readonly path: string;
  readonly vmDir: string;
  readonly name: string;
  readonly record: RecordState;
  readonly stop?: StopMarker | undefined;
  /** Names in the folder, ours and others'. */
  readonly entries: readonly string[];
  readonly process: SeenProcess;
  readonly job?: SeenJob | undefined;
  /** The end of QEMU's log, bounded. */
  readonly logTail: string;
}

export type SeenProcess =
  /** pidfileLeft: QEMU removes it when it ends in order; a crash or a reboot leaves it. */
  | { readonly kind: 'absent'; readonly pidfileLeft: boolean }
  | {
      readonly kind: 'present';
      readonly pid: number;
      readonly startTicks: number;
      /** ms since the epoch. */
      readonly startedAt: number;
      readonly guest: GuestStatus;
      /** Capacity in bytes of each disk as the running QEMU sees it, by disk name; absent where not asked or unknown. */
      readonly diskBytes?: ReadonlyMap<string, number>;
      /** The versioned machine type, as pc-q35-7.2: what a later QEMU must offer to run the same machine. */
      readonly machine?: string;
      /** Absent where it cannot be told, or is not known yet. */
      readonly agent?: SeenAgent;
      /** By the name of the network, the addresses that the guest has there; one without is left out. */
      readonly addresses?: ReadonlyMap<string, readonly string[]>;
    };

/** The guest's agent, as its own word and the port to it tell. */
export type SeenAgent =
  /** The guest has not opened the port. */
  | { readonly kind: 'closed' }
  /** The port is open, and what is behind it does not answer as an agent. */
  | { readonly kind: 'mute'; readonly reason: 'GuestAgentSilent' | 'GuestAgentInvalid' }
  | {
      readonly kind: 'connected';
      readonly os?: string;
      readonly kernel?: string;
      readonly hostname?: string;
      /** How far the guest's clock is ahead of the host's, ms. */
      readonly clockOffsetMs?: number;
    };

/** QEMU's RunState, reduced to what a decision needs. `silent`: the monitor does not answer. */
export type GuestStatus =
  | 'running'
  | 'paused'
  | 'io-error'
  | 'guest-panicked'
  | 'internal-error'
  | 'shutdown'
  | 'starting'
  | 'silent'
  | 'not-asked';

export type SeenFile =
  | {
      readonly kind: 'absent';
      readonly parent: 'present' | 'absent';
      readonly resolved: string;
      /** It is a symbolic link that leads to no file. */
      readonly link?: boolean;
      /** Of an ISO image: the names of those in its folder. */
      readonly beside?: readonly string[];
    }
  | {
      readonly kind: 'present';
      /** With symbolic links resolved. */
      readonly resolved: string;
      readonly type: 'file' | 'block-device' | 'other';
      readonly readable: boolean;
      /** From the header: raw is whatever is no qcow2; undefined where the header cannot be read. */
      readonly format?: DiskFormat;
      /** Capacity the guest sees. */
      readonly virtualBytes?: number;
      /** What the file occupies. */
      readonly actualBytes: number;
      /** Free space of its file system. */
      readonly freeBytes?: number;
      /** A qcow2 that refers to another file: by path, resolved against its folder. */
      readonly refersTo?: string;
      /** Architectures whose boot files an ISO image carries; empty where none is known. */
      readonly bootArchitectures?: readonly Architecture[];
    };

/** A port of the host that is taken. */
export interface SeenPort {
  readonly protocol: 'TCP' | 'UDP';
  /** 0.0.0.0: all of the host's addresses. */
  readonly hostAddress: string;
  readonly hostPort: number;
  /** The program that has it, where a VM wants it and this user may know. */
  readonly holder?: string;
}

export interface SeenBridge {
  readonly mtu: number;
  /** Interfaces that are joined to it. */
  readonly ports: ReadonlySet<string>;
}

export interface SeenStranger {
  readonly name: string;
  readonly architecture: string;
  readonly pid: number;
}

/** What a host can do. Cached by the driver until the binaries change. */
export interface HostFacts {
  readonly os: string;
  readonly kernel: string;
  readonly architecture: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly uid: number;
  readonly qemu: Readonly<Partial<Record<Architecture, QemuFacts>>>;
  readonly qemuImg: boolean;
  /** The program that joins an ordinary user's guests to a bridge, where it has the rights to. */
  readonly bridgeHelper?: string;
  readonly kvm: { readonly works: boolean; readonly reason: string };
}

export interface QemuFacts {
  readonly command: string;
  readonly version: string;
  /** Most vCPUs of the machine that guests get. */
  readonly maxVcpus?: number | undefined;
  /** UEFI firmware for the architecture, where the host has one. */
  readonly uefi?: { readonly code: string; readonly variables: string; readonly format: string } | undefined;
}

/** What is known of the end of a process beyond the host's files: heard over its monitor by this controller. */
export type HeardEnd = Extract<ExitReason, 'StoppedExternally' | 'GuestPoweredOff'>;
