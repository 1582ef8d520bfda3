/**
 * push and pull: a Host and all its machines from one store to another, as they run. A vmDir has one owner, so a Host
 * goes as a whole. The objects are made there first, with the word that what lies on the host may be taken over; once
 * the records on the host name them, those here are released. Whatever cuts it off, a second time it goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { findCondition } from '../api/conditions.ts';
import { messageOf, NotFoundError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { AnyObject } from '../api/kinds.ts';
import { ANNOTATIONS, keyOf } from '../api/meta.ts';
import type { Shell } from '../host/shell.ts';
import { withOwnCredentials } from '../store/host-credentials.ts';
import { firstVersion } from '../store/watching.ts';
import { takeOver } from '../takeover/moved.ts';
import { type Context, print, tell, throwIfInterrupted } from './context.ts';
import { CliError, EXIT, Judge, usageError } from './exit-codes.ts';
import { whose } from './host-claim.ts';
import { whileDriven } from './loop.ts';
import {
  declareVm,
  type HostMove,
  makeHost,
  ownersOn,
  planHost,
  type Sides,
  shellTo,
  type VmMove,
} from './move-plan.ts';
import { nameOf, requireObject } from './resources.ts';
import { isFolder, type Session } from './session.ts';

export interface MoveOptions {
  readonly all?: boolean;
  readonly as?: string;
  readonly dryRun?: boolean;
  /** ms. */
  readonly timeout: number;
}

/** The Host that each start of a command makes anew in a folder. */
const LOCALHOST = 'localhost';
const LOOK_MS = 500;

export async function move(
  context: Context,
  sides: Sides,
  names: readonly string[],
  options: MoveOptions,
): Promise<void> {
  if ((names.length === 0) !== (options.all === true)) throw usageError('give either names of Hosts or --all');
  if (options.as !== undefined && names.length !== 1) throw usageError('--as is of one Host: name that one');
  const plans = await planAll(context, sides, names, options);
  if (options.dryRun === true) {
    for (const plan of plans) for (const words of wordsOf(plan)) print(context, `${words} would move (dry run)`);
    return;
  }
  for (const plan of plans) await declare(context, sides, plan);
  const deadline = performance.now() + options.timeout;
  await whileDriven(context, sides.to, 'the hosts are taken over', async () => {
    for (const plan of plans) await untilTaken(context, sides, plan, deadline);
  });
  for (const plan of plans) await release(context, sides, plan, options.timeout);
}

async function planAll(
  context: Context,
  sides: Sides,
  names: readonly string[],
  { all, as }: MoveOptions,
): Promise<HostMove[]> {
  const judge = new Judge();
  const hosts = all === true ? await allHosts(sides) : await namedHosts(context, sides, names, { as, judge });
  const plans: HostMove[] = [];
  for (const host of hosts) {
    const naming = { name: as ?? host.metadata.name, all: hosts.map(({ metadata }) => metadata.name) };
    const plan = await planHost(context, sides, host, { naming, judge });
    if (plan !== undefined) plans.push(plan);
  }
  judge.throwIfRefused();
  return plans;
}

/** All that have something to move: the Host of this machine is in every folder. */
async function allHosts({ from }: Sides): Promise<readonly Host[]> {
  const { items } = await from.store.list('Host');
  const vms = (await from.store.list('VirtualMachine')).items;
  const isUsed = ({ metadata }: Host) => vms.some(({ spec }) => spec.hostName === metadata.name);
  return items.filter((host) => !staysIn(from, host) || isUsed(host));
}

async function namedHosts(
  context: Context,
  { from, to }: Sides,
  names: readonly string[],
  { as, judge }: { readonly as: string | undefined; readonly judge: Judge },
): Promise<Host[]> {
  const hosts: Host[] = [];
  for (const name of new Set(names)) {
    const here = await from.store.get('Host', { name });
    const there = here === undefined ? await to.store.get('Host', { name: as ?? name }) : undefined;
    if (there !== undefined) tell(context, `host/${there.metadata.name} is there already`);
    const host = there ?? here ?? (await judge.judge(() => requireObject(from.store, { kind: 'Host', ref: { name } })));
    if (host !== undefined && host !== there) hosts.push(host);
  }
  return hosts;
}

function staysIn(session: Sides['from'], { metadata, spec }: Host): boolean {
  return isFolder(session) && metadata.name === LOCALHOST && spec.local !== undefined;
}

function wordsOf({ host, vms }: HostMove): string[] {
  return [...vms.map(({ vm }) => vm), host].map((one) => nameOf({ kind: one.kind, ref: one.metadata }));
}

/** Machines first: whoever takes the host over finds them. */
async function declare(context: Context, sides: Sides, plan: HostMove): Promise<void> {
  for (const one of plan.vms.filter(({ isTaken }) => !isTaken)) await declareOne(context, sides, one);
  const { there, name, host, credentials } = plan;
  if (there !== undefined) {
    const annotations = takeOver(host, sides.from.store.uid);
    await sides.to.store.patch('Host', there.metadata, { metadata: { annotations } }, { uid: there.metadata.uid });
    return;
  }
  const make = () => makeHost(sides, plan, false);
  await (credentials === undefined ? make() : withOwnCredentials(sides.to, { host: name, credentials }, make));
  tell(context, `host.qemu-operator.dev/${name} created in the other store`);
}

async function declareOne(context: Context, { to }: Sides, one: VmMove): Promise<void> {
  if (one.secret !== undefined) await to.secrets.set(one.secret.ref, one.secret.value);
  const { object, outcome } = await declareVm(to, one, false);
  tell(context, `${nameOf({ kind: object.kind, ref: object.metadata })} ${outcome} in the other store`);
}

/** Until the marker is the other store's and no record names a machine of this one. */
async function untilTaken(context: Context, sides: Sides, plan: HostMove, deadline: number): Promise<void> {
  const { host, name, vms } = plan;
  const there = await requireObject(sides.to.store, { kind: 'Host', ref: { name } });
  const shell = shellTo(sides, { host, there });
  for (;;) {
    throwIfInterrupted(context);
    const left = await leftBehind(context, sides, plan, { there, shell }).catch((error: unknown) => messageOf(error));
    if (left === undefined) break;
    if (performance.now() > deadline)
      throw new CliError(EXIT.timedOut, `host/${name}: ${left}. Nothing is released here: repeat the command`);
    await sleep(LOOK_MS, undefined, { signal: context.signal }).catch(() => undefined);
  }
  tell(context, `host/${name} is taken over with ${vms.length} machine${vms.length === 1 ? '' : 's'}`);
}

/** In words; undefined: nothing is. */
async function leftBehind(
  context: Context,
  { to }: Sides,
  { host, vms }: HostMove,
  { there, shell }: { readonly there: Host; readonly shell: Shell },
): Promise<string | undefined> {
  const { storeUID } = await whose(context, { shellFor: () => shell }, there);
  if (storeUID !== to.store.uid) {
    const { status } = await requireObject(to.store, { kind: 'Host', ref: there.metadata });
    const ready = findCondition(status?.conditions, 'Ready');
    return `${there.spec.vmDir} is not claimed by it yet${ready === undefined ? '' : ` (${ready.reason}: ${ready.message})`}`;
  }
  const machines = vms.map(({ vm }) => vm);
  const owners = await ownersOn(shell, host, machines, context.signal);
  for (const { metadata } of machines) {
    const now = await to.store.get('VirtualMachine', metadata);
    // Noted on the host first, then in the object.
    const isNoted = now !== undefined && owners.has(now.metadata.uid);
    const isLeft = owners.has(metadata.uid) || (isNoted && now.metadata.annotations?.[ANNOTATIONS.adopt] !== undefined);
    if (isLeft)
      return `${keyOf(metadata)} is not adopted yet${now?.status === undefined ? '' : ` (${now.status.message})`}`;
  }
  return undefined;
}

/** What lies on the host is left alone, and so is what protected the object: it protects the other one. */
const RELEASED = { [ANNOTATIONS.orphan]: 'true', [ANNOTATIONS.protected]: null };

async function release(context: Context, sides: Sides, { host, vms }: HostMove, timeoutMs: number): Promise<void> {
  const { from } = sides;
  const stays = staysIn(from, host);
  for (const { vm } of vms) await letGo(from, vm);
  if (!stays) await letGo(from, host);
  const left: AnyObject[] = [...vms.map(({ vm }) => vm), ...(stays ? [] : [host])];
  await whileDriven(context, from, `host/${host.metadata.name} is released`, async () => {
    const deadline = performance.now() + timeoutMs;
    for (const object of left) await untilGone(context, from, object, deadline);
  });
  if (stays) tell(context, `host/${host.metadata.name} stays, as every folder has it; its machines are moved`);
}

async function letGo({ store }: Session, { kind, metadata }: AnyObject): Promise<void> {
  const { uid } = metadata;
  try {
    await store.patch(kind, metadata, { metadata: { annotations: RELEASED } }, { uid });
    await store.delete(kind, metadata, { uid });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}

async function untilGone(context: Context, { store }: Session, object: AnyObject, deadline: number): Promise<void> {
  const { kind, metadata } = object;
  const name = nameOf({ kind, ref: metadata });
  const isGone = await firstVersion(store, kind, {
    ref: metadata,
    forMs: Math.max(0, deadline - performance.now()),
    signal: context.signal,
    accept: (seen) => (seen === undefined ? true : undefined),
  });
  if (isGone !== true)
    throw new CliError(EXIT.timedOut, `${name} is taken over there and not released here yet: repeat the command`);
  print(context, `${name} moved`);
}
