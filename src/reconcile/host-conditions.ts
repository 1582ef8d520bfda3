/** The conditions of a Host, from what a look found. Pure. */
import type { Finding } from '../api/conditions.ts';
import { someOf } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { isPaused } from './decide.ts';
import type { VmDirDecision } from './decide-host.ts';
import type { Blindness, Look, SeenConnection, SeenHost } from './observed.ts';

export interface HostFinding {
  readonly look: Look;
  /** The verdict on the Host's own vmDir; undefined where the host was not seen. */
  readonly vmDir: VmDirDecision | undefined;
  /** Those that name it. */
  readonly vms: readonly VirtualMachine[];
}

export function findingsOf(host: Host, { look, vmDir, vms }: HostFinding): Finding[] {
  const findings = look.kind === 'seen' ? seenFindings(look.host, vmDir) : unseenFindings(host, look);
  if (host.metadata.deletionTimestamp === undefined || vms.length === 0) return findings;
  return [...findings, { type: 'DeletionBlocked', status: 'True', reason: 'HostInUse', message: waitsFor(vms) }];
}

const MAX_NAMED = 5;

function waitsFor(vms: readonly VirtualMachine[]): string {
  const names = vms.map(({ metadata }) => keyOf(metadata)).sort();
  return `being deleted: it takes no new VMs, and waits until these are gone: ${someOf(names, MAX_NAMED)}`;
}

function seenFindings({ facts, connection }: SeenHost, vmDir: VmDirDecision | undefined): Finding[] {
  const reachable: Finding = { type: 'Reachable', status: 'True', reason: 'Ready', message: 'the host was looked at' };
  const blocked = vmDir?.kind === 'blocked' ? vmDir : undefined;
  const versions = Object.entries(facts.qemu).map(([architecture, { version }]) => `${architecture} ${version}`);
  const qemu: Finding =
    versions.length > 0
      ? { type: 'QEMUAvailable', status: 'True', reason: 'Ready', message: versions.join(', ') }
      : {
          type: 'QEMUAvailable',
          status: 'False',
          reason: 'QEMUNotInstalled',
          message:
            'no qemu-system-x86_64 and no qemu-system-aarch64; install them: apt-get install qemu-system-x86 qemu-system-arm qemu-utils',
        };
  const say = (type: 'VMDirReady' | 'Claimed'): Finding =>
    blocked?.condition === type
      ? { type, status: 'False', reason: blocked.reason, message: blocked.message }
      : {
          type,
          status: vmDir?.kind === 'ready' ? 'True' : 'Unknown',
          reason: vmDir?.kind === 'ready' ? 'Ready' : 'HostNotReady',
          message: vmDir?.kind === 'ready' ? 'as the marker says' : 'not yet claimed',
        };
  const problem = blocked ?? (qemu.status === 'False' ? qemu : undefined);
  const ready: Finding =
    problem === undefined && vmDir?.kind === 'ready'
      ? { type: 'Ready', status: 'True', reason: 'Ready', message: 'the host can run VMs' }
      : {
          type: 'Ready',
          status: 'False',
          reason: problem?.reason ?? 'HostNotReady',
          message: problem?.message ?? 'the vmDir is being claimed',
        };
  return [ready, reachable, ...connectionFindings(connection), say('Claimed'), say('VMDirReady'), qemu];
}

function connectionFindings(connection: SeenConnection | undefined): Finding[] {
  if (connection === undefined) return [];
  const { hostKey, user } = connection;
  return [
    { type: 'HostKeyVerified', status: 'True', reason: 'Ready', message: hostKey },
    { type: 'CredentialsValid', status: 'True', reason: 'Ready', message: `logged in as ${user}` },
  ];
}

/** What is known of the way to a host, by why it cannot be seen: whether sshd answers, is the right one, lets us in. */
const WAY: Readonly<Record<Blindness, Way>> = {
  HostUnreachable: ['False', 'Unknown', 'Unknown'],
  HostNotReady: ['Unknown', 'Unknown', 'Unknown'],
  JumpHostInvalid: ['Unknown', 'Unknown', 'Unknown'],
  HostKeyChanged: ['True', 'False', 'Unknown'],
  CredentialsInvalid: ['True', 'True', 'False'],
  LocalNotAllowed: ['Unknown', 'Unknown', 'Unknown'],
};
type Way = readonly [reachable: Status, verified: Status, valid: Status];
type Status = Finding['status'];
/** There are no credentials that could be tried. */
const UNASKED: Way = ['Unknown', 'Unknown', 'False'];

/** Only a person mends these. A host that is away may come back by itself. */
const LASTING: ReadonlySet<Blindness> = new Set([
  'HostKeyChanged',
  'CredentialsInvalid',
  'JumpHostInvalid',
  'LocalNotAllowed',
]);

function unseenFindings(host: Host, { reason, message, unasked }: Extract<Look, { kind: 'cannot-see' }>): Finding[] {
  const [reachable, verified, valid] = unasked === true ? UNASKED : WAY[reason];
  const way: readonly (readonly [string, Status])[] =
    host.spec.ssh === undefined
      ? [['Reachable', reachable]]
      : [
          ['Reachable', reachable],
          ['HostKeyVerified', verified],
          ['CredentialsValid', valid],
        ];
  const answered = 'sshd answers';
  const findings: Finding[] = [
    { type: 'Ready', status: 'False', reason, message },
    ...way.map(([type, status]) =>
      status === 'True' ? { type, status, reason: 'Ready', message: answered } : { type, status, reason, message },
    ),
  ];
  if (LASTING.has(reason)) findings.push({ type: 'Stalled', status: 'True', reason, message });
  const waits = isHeld(host) && !isPaused(host.metadata);
  if (waits) {
    const hint = `${message}; annotation ${ANNOTATIONS.orphan} releases the Host without it`;
    findings.push({ type: 'DeletionBlocked', status: 'True', reason, message: hint });
  }
  return findings;
}

/** A deleted Host whose vmDir still carries our marker. */
export function isHeld({ metadata }: Host): boolean {
  return metadata.deletionTimestamp !== undefined && metadata.annotations?.[ANNOTATIONS.claimed] !== undefined;
}
