/**
 * Foretells what the loop makes of a change. It asks the functions by which the loop itself decides (effectiveSpec,
 * pendingChanges, restartCause, staysOff, growthOf), so that the two cannot differ; what the host holds it takes from
 * the last status. Pure, and never an input to a decision.
 */
import { HIDDEN, standInDigest } from '../api/cloud-init.ts';
import { findCondition, isTrue } from '../api/conditions.ts';
import { effectiveSpec, type PendingChange, pendingChanges } from '../api/effective-spec.ts';
import type { FieldIssue } from '../api/errors.ts';
import type { Caveat, Effect, Foreseen, ForeseenChange, ProcessFate, Why } from '../api/foreseen.ts';
import type { Host } from '../api/host.ts';
import type { AnyObject } from '../api/kinds.ts';
import type { Kind, ObjectRef } from '../api/meta.ts';
import { formatQuantity, parseQuantity } from '../api/quantity.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { isPaused } from './decide.ts';
import { isExitReason, staysOff } from './ends.ts';
import { type FieldChange, fieldChanges, shownValue } from './field-changes.ts';
import { restartCause, wantsOff } from './power.ts';
import { growthOf, resizeCommand } from './storage.ts';

/** A VirtualMachine before and after a write that the store would take. */
export interface VmChange {
  readonly old: VirtualMachine;
  readonly next: VirtualMachine;
  /** undefined where spec.hostName names none that exists. */
  readonly host: Host | undefined;
}

type Verdict = readonly [effect: Effect, why: Why, detail?: string];

export function planVm(change: VmChange): Foreseen {
  const { old, next } = change;
  const leaves = leavesOf(old, next);
  const needs = needsOf(change);
  const sizes = new Map(leaves.map((leaf) => [leaf.path, sizeVerdict(change, leaf)]));
  const stalls = [...sizes.values()].some((verdict) => verdict?.[0] === 'stalls');
  const process = fateOf(change, needs.waiting, stalls);
  const told = leaves.map((leaf) =>
    foreseen(leaf, sizes.get(leaf.path) ?? verdictOn(leaf, { change, needs, process })),
  );
  // What follows from a change elsewhere, as the display that a CD-ROM brings along.
  const derived = needs.asked
    .filter(({ path }) => !leaves.some((leaf) => covers(path, launchPath(leaf))))
    .map((one) => foreseen({ path: one.path, from: one.from, to: one.to }, processVerdict(one.path, needs, process)));
  const changes = [...told, ...derived];
  return {
    kind: 'VirtualMachine',
    ref: refOf(next),
    outcome: changes.length === 0 ? 'none' : 'change',
    changes,
    process,
    waiting: process === 'kept' ? needs.waiting.map(({ path }) => path) : [],
    caveats: caveatsOf(change),
  };
}

/** A new object, or a change of one that has no process. */
export function planObject(old: AnyObject | undefined, next: AnyObject, host?: Host): Foreseen {
  if (old?.kind === 'VirtualMachine' && next.kind === 'VirtualMachine') return planVm({ old, next, host });
  const leaves = leavesOf(old, next);
  const verdict: Verdict = old === undefined ? ['create', 'new-object'] : ['live', 'next-look'];
  const vm = next.kind === 'VirtualMachine' ? next : undefined;
  const starts = vm !== undefined && host !== undefined && !wantsOff(vm.spec) && !isHeld(vm, host);
  return {
    kind: next.kind,
    ref: refOf(next),
    outcome: old === undefined ? 'create' : leaves.length === 0 ? 'none' : 'change',
    changes: leaves.map((leaf) => foreseen(leaf, isMetadata(leaf) && old ? ['live', 'metadata'] : verdict)),
    ...(vm === undefined ? {} : { process: starts ? ('started' as const) : ('none' as const) }),
    waiting: [],
    caveats: vm === undefined ? [] : caveatsOf({ old: vm, next: vm, host }),
  };
}

/** A write that the store refuses: nothing of it happens. */
export function planRefusal(kind: Kind, ref: ObjectRef, issues: readonly FieldIssue[]): Foreseen {
  return {
    kind,
    ref,
    outcome: 'refused',
    changes: issues.map(({ field, value, message }) => ({
      path: field,
      to: value !== undefined && SECRET.test(field) ? HIDDEN : value,
      effect: 'refused',
      why: 'not-admitted',
      detail: message,
    })),
    waiting: [],
    caveats: [],
  };
}

/** @param keepDisks every disk stays, whatever its policy says */
export function planDeletion(vm: VirtualMachine, host: Host | undefined, keepDisks = false): Foreseen {
  const disks = (vm.status?.disks ?? []).filter(({ state }) => state !== 'Pending' && state !== 'Missing');
  return {
    kind: 'VirtualMachine',
    ref: refOf(vm),
    outcome: 'delete',
    changes: [
      { path: 'metadata', from: vm.metadata.name, effect: 'delete', why: 'object-goes' },
      ...disks.map(({ name, path, reclaim }): ForeseenChange => {
        const goes = reclaim === 'Delete' && !keepDisks;
        const why = goes ? 'disk-goes' : 'disk-stays';
        return { path: `spec.disks[${name}]`, from: path, effect: goes ? 'delete' : 'live', why };
      }),
    ],
    process: isRunning(vm) ? (isHeld(vm, host) ? 'kept' : 'stopped') : 'none',
    waiting: [],
    caveats: caveatsOf({ old: vm, next: vm, host }),
  };
}

function refOf({ metadata: { namespace, name } }: AnyObject): ObjectRef {
  return namespace === undefined ? { name } : { namespace, name };
}

function foreseen({ path, from, to }: FieldChange, [effect, why, detail]: Verdict): ForeseenChange {
  const shown = (value: unknown) => (value !== undefined && SECRET.test(path) ? HIDDEN : shownValue(value));
  return { path, from: shown(from), to: shown(to), effect, why, ...(detail === undefined ? {} : { detail }) };
}

/** Passwords and keys may stand there. */
const SECRET = /^spec\.cloudInit\.(userData|networkData)$/;

/** The fields that a person may write; what the controller keeps in metadata is no change of theirs. */
function leavesOf(old: AnyObject | undefined, next: AnyObject): FieldChange[] {
  return [
    ...fieldChanges('metadata.labels', old?.metadata.labels, next.metadata.labels),
    ...fieldChanges('metadata.annotations', old?.metadata.annotations, next.metadata.annotations),
    ...fieldChanges('spec', old?.spec, next.spec),
  ];
}

interface Needs {
  /** What this change asks of a QEMU process. */
  readonly asked: readonly PendingChange[];
  /** What the running process lacks once this is done, earlier changes among them. */
  readonly waiting: readonly PendingChange[];
}

/** The bound of status.pendingChanges. */
const MAX_SHOWN = 256;

function needsOf({ old, next, host }: VmChange): Needs {
  const around = host ?? { spec: { local: {}, vmDir: '/', metricsIntervalSeconds: 0 } };
  const uuid = old.status?.uuid;
  const launch = (vm: VirtualMachine) => effectiveSpec(vm, around, uuid, standInDigest(vm.spec.cloudInit)).launch;
  const asked = pendingChanges(launch(old), launch(next));
  const waiting = new Map<string, PendingChange>(
    (old.status?.pendingChanges ?? []).map((pending) => [pending.path, pending]),
  );
  for (const one of asked) {
    const known = waiting.get(one.path);
    const running = known === undefined ? one.from : known.from;
    // What is shown as a secret is the same before and after: whether it is taken back cannot be seen.
    const back =
      known !== undefined && one.from !== one.to && running?.slice(0, MAX_SHOWN) === one.to?.slice(0, MAX_SHOWN);
    if (back) waiting.delete(one.path);
    else waiting.set(one.path, { ...one, from: running });
  }
  return { asked, waiting: [...waiting.values()] };
}

function fateOf({ old, next, host }: VmChange, waiting: readonly PendingChange[], stalls: boolean): ProcessFate {
  const running = isRunning(old);
  const unchanged = running ? 'kept' : 'none';
  if (isHeld(next, host)) return unchanged;
  if (wantsOff(next.spec)) return running ? 'stopped' : 'none';
  if (stalls) return unchanged;
  if (running) return restartCause(next.spec, old.spec.restartedAt, waiting) === undefined ? 'kept' : 'restarted';
  const asked = wantsOff(old.spec) || old.spec.restartedAt !== next.spec.restartedAt;
  const end = old.status?.lastExit?.reason;
  return asked || !isExitReason(end) || !staysOff(next.spec.restartPolicy, end) ? 'started' : 'none';
}

function isRunning({ status }: VirtualMachine): boolean {
  return status?.pid !== undefined;
}

/** Nobody acts on the VM. */
function isHeld(vm: VirtualMachine, host: Host | undefined): boolean {
  return host === undefined || isPaused(vm.metadata) || isPaused(host.metadata);
}

function caveatsOf({ old, next, host }: VmChange): Caveat[] {
  const { status, metadata } = old;
  const found: readonly (readonly [Caveat, boolean])[] = [
    ['host-unknown', host === undefined],
    ['paused', host !== undefined && isHeld(next, host)],
    ['stalled', isTrue(status?.conditions, 'Stalled')],
    ['host-unreachable', findCondition(status?.conditions, 'HostReachable')?.status === 'False'],
    [
      'not-seen-since-last-change',
      status !== undefined && (status.observedGeneration ?? 0) < metadata.generation && old !== next,
    ],
  ];
  return found.filter(([, holds]) => holds).map(([caveat]) => caveat);
}

interface Around {
  readonly change: VmChange;
  readonly needs: Needs;
  readonly process: ProcessFate;
}

/** User data is one thing of a process, wherever it stands in the spec. */
function launchPath({ path }: FieldChange): string {
  return path.replace(/^(spec\.cloudInit\.userData)SecretRef.*/, '$1');
}

function verdictOn(leaf: FieldChange, { change, needs, process }: Around): Verdict {
  if (isMetadata(leaf)) return ['live', 'metadata'];
  const [, field = ''] = /^spec\.(\w+)/.exec(leaf.path) ?? [];
  switch (field) {
    case 'hostName':
      return ['create', 'host-assigned', shownValue(leaf.to) ?? ''];
    case 'powerState':
      return powerVerdict(change, process);
    case 'restartedAt':
      if (process === 'restarted') return ['restart', 'restart-asked'];
      return process === 'started' ? ['start', 'starts'] : ['live', 'no-process'];
    case 'restartPolicy':
      return process === 'started' ? ['start', 'starts'] : ['live', 'next-end'];
    case 'powerOff':
      return ['live', 'next-stop'];
    case 'updateStrategy':
      return process === 'restarted' && needs.asked.length === 0
        ? ['restart', 'restarts-now']
        : ['live', 'next-change'];
  }
  if (/^spec\.disks\[[^\]]+\]\.reclaimPolicy$/.test(leaf.path)) return ['live', 'at-deletion'];
  const path = launchPath(leaf);
  const asked = needs.asked.find((one) => covers(one.path, path));
  // Its value is the host's and the loop's to know.
  if (process === 'kept' && path !== leaf.path) return ['restart', 'secrets-compared'];
  return asked === undefined ? ['live', 'no-other-process'] : processVerdict(asked.path, needs, process);
}

function powerVerdict({ old, next }: VmChange, process: ProcessFate): Verdict {
  if (wantsOff(next.spec)) return process === 'stopped' ? ['stop', 'stops'] : ['live', 'off-already'];
  return process === 'started' ? ['start', 'starts'] : ['live', isRunning(old) ? 'on-already' : 'no-process'];
}

/** Of a field that a process is started from. */
function processVerdict(path: string, { waiting }: Needs, process: ProcessFate): Verdict {
  if (process === 'restarted') return ['restart', 'restarts-now'];
  if (process !== 'kept') return ['live', 'no-process'];
  return waiting.some((one) => one.path === path) ? ['restart', 'waits-for-restart'] : ['live', 'process-has-it'];
}

/** The size of a disk; undefined for other fields. */
function sizeVerdict({ old, next, host }: VmChange, { path }: FieldChange): Verdict | undefined {
  const [, name] = /^spec\.disks\[([^\]]+)\]\.size$/.exec(path) ?? [];
  const disk =
    name === undefined || host === undefined
      ? undefined
      : effectiveSpec(next, host).disks.find((one) => one.name === name);
  if (disk === undefined) return undefined;
  const seen = old.status?.disks?.find((one) => one.name === name);
  const bytes = seen?.virtualSize === undefined ? undefined : parseQuantity(seen.virtualSize);
  if (bytes === undefined) return ['live', 'disk-not-made-yet'];
  if (seen?.state === 'Created' && disk.sizeBytes !== undefined && disk.sizeBytes < bytes)
    return ['stalls', 'cannot-shrink', formatQuantity(bytes)];
  switch (growthOf(disk, bytes)) {
    case 'none':
      return ['live', 'disk-is-large-enough'];
    case 'by-hand':
      return ['stalls', 'raw-by-hand', resizeCommand(disk)];
    case 'by-us':
      return ['live', isRunning(old) && !wantsOff(next.spec) ? 'disk-grows-live' : 'disk-grows'];
  }
}

function isMetadata({ path }: FieldChange): boolean {
  return path.startsWith('metadata.');
}

/** Whether one path names the other, or a part of it. */
function covers(a: string, b: string): boolean {
  const [short, long] = a.length <= b.length ? [a, b] : [b, a];
  return long.startsWith(short) && ['', '.', '['].includes(long.charAt(short.length));
}
