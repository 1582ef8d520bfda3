/**
 * What a VM's networks need of its host. Bridges: whether it may be joined to them, and whether it is. Ports: whether those that were asked for are free, and which are chosen where none
 * was. A choice is kept in the record, so that the guest is found at the same port after a restart.
 */
import { createHash } from 'node:crypto';
import { forwardsOf, type LaunchSpec } from '../api/effective-spec.ts';
import { ANY_ADDRESS, forwardWords, type HostForward, hostEnd, tapName } from '../api/networks.ts';
import { act, blocked, type Decision, type SeenVm, type Subject } from './decision.ts';
import { type LaunchRecord, MAX_REFUSALS, type OwnershipRecord, samePort } from './record.ts';

/** Ports are chosen from here: above the well-known ones, below those that kernels give to outgoing connections. */
const FIRST_PORT = 20_000;
const PORTS = 10_000;
type Taken = Pick<HostForward, 'protocol' | 'hostAddress'> & { readonly hostPort: number };

function collides(a: Taken, b: Taken): boolean {
  const shared = a.hostAddress === b.hostAddress || a.hostAddress === ANY_ADDRESS || b.hostAddress === ANY_ADDRESS;
  return shared && a.hostPort === b.hostPort && a.protocol === b.protocol;
}

function isTaken<T extends HostForward>(forward: T): forward is T & Taken {
  return forward.hostPort !== undefined;
}

/** The forwards that the running process has. */
function ownForwards({ seen }: Subject, record: OwnershipRecord): readonly Taken[] {
  const launch: LaunchRecord | undefined = seen.folder?.process.kind === 'present' ? record.launch : undefined;
  return launch === undefined ? [] : forwardsOf(launch.spec).filter((one) => isTaken(one));
}

/** Who has it, in words; undefined where it is free. */
function holderOf(wanted: Taken, seen: SeenVm, own: readonly Taken[]): string | undefined {
  if (own.some((one) => one.hostAddress === wanted.hostAddress && collides(one, wanted))) return undefined;
  const claim = seen.portClaims.find((one) => collides(one, wanted));
  if (claim !== undefined) return `VM ${claim.owner}`;
  const port = seen.ports.find((one) => collides(one, wanted) && !own.some((mine) => collides(mine, one)));
  return port === undefined ? undefined : (port.holder ?? 'another program');
}

/** What about the VM's networks only a person or a new spec can mend; undefined where all is well. */
export function networkProblem(subject: Subject, record: OwnershipRecord): Decision | undefined {
  const forwards = forwardsOf(subject.wanted.launch);
  const asked = forwards.filter((forward) => isTaken(forward));
  for (const [index, forward] of asked.entries()) {
    const twin = asked.slice(0, index).find((earlier) => collides(earlier, forward));
    if (twin === undefined) continue;
    const where = `networks ${twin.network} and ${forward.network}`;
    return blocked('InvalidSpec', `${where}: ${hostEnd(twin)} and ${hostEnd(forward)} are the same port of the host`);
  }
  for (const { name, bridge } of subject.wanted.launch.networks) {
    const problem = bridge === undefined ? undefined : bridgeProblem(subject, name, bridge);
    if (problem !== undefined) return problem;
  }
  const own = ownForwards(subject, record);
  for (const forward of asked) {
    const holder = holderOf(forward, subject.seen, own);
    if (holder === undefined) continue;
    return blocked(
      'PortInUse',
      `network ${forward.network}: ${hostEnd(forward)} of the host is taken by ${holder}; it is forwarded once the port is free, or choose another hostPort`,
    );
  }
  return undefined;
}

function bridgeProblem({ host, seen }: Subject, network: string, bridge: string): Decision | undefined {
  const { allowedBridges: allowed = [] } = host.spec;
  if (!allowed.includes('*') && !allowed.includes(bridge)) {
    const list = allowed.length === 0 ? 'there are none' : allowed.join(', ');
    return blocked(
      'BridgeNotAllowed',
      `network ${network}: ${bridge} is none of the allowedBridges of Host ${host.metadata.name} (${list})`,
    );
  }
  if (!seen.bridges.has(bridge)) {
    const there = [...seen.bridges.keys()].slice(0, 10).join(', ');
    return blocked(
      'BridgeNotFound',
      `network ${network}: the host has no bridge ${bridge}${there === '' ? '' : `; there is ${there}`}. Make it: ip link add ${bridge} type bridge`,
    );
  }
  if (seen.facts.uid === 0 || host.spec.sudo === true || seen.facts.bridgeHelper !== undefined) return undefined;
  return blocked(
    'BridgeNotAllowed',
    `network ${network}: an ordinary user's QEMU joins a bridge by qemu-bridge-helper, which has no rights here: chmod u+s it as root, and write "allow ${bridge}" into /etc/qemu/bridge.conf; or set spec.sudo of Host ${host.metadata.name}`,
  );
}

/** Whether the interfaces of guests on bridges are made and joined by sudo; root needs none. */
export function joinsBySudo({ host, seen }: Pick<Subject, 'host' | 'seen'>): boolean {
  return host.spec.sudo === true && seen.facts.uid !== 0;
}

/** The next guest of root, or of sudo, that is to be joined to its bridge: after its launch, and where the bridge was made anew. */
export function decideBridges(subject: Subject, record: OwnershipRecord): Decision | undefined {
  const { seen, wanted } = subject;
  if (seen.facts.uid !== 0 && !joinsBySudo(subject)) return undefined;
  for (const { name, bridge = '' } of record.launch?.spec.networks ?? []) {
    const found = seen.bridges.get(bridge);
    const tap = tapName(wanted.folder, name);
    if (found === undefined || found.ports.has(tap)) continue;
    const { mtu } = found;
    return act({ type: 'join-bridge', bridge, tap, mtu }, 'Starting', `joining network ${name} to bridge ${bridge}`);
  }
  return undefined;
}

/** The wanted launch with a port of the host for each forward. */
export function withPorts(subject: Subject, record: OwnershipRecord): LaunchSpec {
  const { wanted, seen } = subject;
  const own = ownForwards(subject, record);
  const mine: Taken[] = forwardsOf(wanted.launch).filter((one) => isTaken(one));
  const isFree = (port: Taken) => !mine.some((one) => collides(one, port)) && holderOf(port, seen, own) === undefined;
  const choose = (network: string, forward: HostForward): HostForward => {
    if (isTaken(forward)) return forward;
    const hostPort = chosenPort(subject, record, { ...forward, network }, isFree);
    const chosen = { ...forward, hostPort, allocated: true as const };
    mine.push(chosen);
    return chosen;
  };
  const networks = wanted.launch.networks.map(({ forwards, ...network }) => ({
    ...network,
    ...(forwards === undefined ? {} : { forwards: forwards.map((forward) => choose(network.name, forward)) }),
  }));
  return { ...wanted.launch, networks };
}

/** The port of the former start while it is free; else the next one that is, beginning where no other VM is likely to. */
function chosenPort(
  { vm }: Subject,
  record: OwnershipRecord,
  forward: HostForward & { readonly network: string },
  isFree: (port: Taken) => boolean,
): number {
  const { network, protocol, hostAddress, guestPort } = forward;
  const kept = record.ports?.find((one) => samePort(one, forward));
  const refusals = kept?.refusals ?? 0;
  const moves = refusals > 0 && refusals <= MAX_REFUSALS;
  const seed = createHash('sha256').update(`${vm.metadata.uid}/${network}/${protocol}/${guestPort}`).digest();
  const first = (kept?.hostPort ?? FIRST_PORT + (seed.readUInt32BE() % PORTS)) + (moves ? 1 : 0);
  for (let step = 0; step < PORTS; step += 1) {
    const hostPort = FIRST_PORT + ((first - FIRST_PORT + step) % PORTS);
    if (isFree({ protocol, hostAddress, hostPort })) return hostPort;
  }
  // QEMU will say that it is taken.
  return first;
}

function sameForward(a: HostForward, b: HostForward): boolean {
  return forwardWords(a) === forwardWords(b) && a.allocated === b.allocated;
}

/** The next change of a running VM's forwards; a network that it was not started with waits for the restart. */
export function decideForwards(subject: Subject, record: OwnershipRecord): Decision | undefined {
  const launched = record.launch?.spec.networks ?? [];
  for (const { name, bridge, forwards = [] } of withPorts(subject, record).networks) {
    const running = launched.find((network) => network.name === name);
    if (running === undefined || running.bridge !== undefined || bridge !== undefined) continue;
    const before = running.forwards ?? [];
    const has = (list: readonly HostForward[], one: HostForward) =>
      one.changing !== true && list.some((other) => other.changing !== true && sameForward(other, one));
    const remove = before.filter((one) => !has(forwards, one));
    const add = forwards.filter((one) => !has(before, one));
    if (remove.length === 0 && add.length === 0) continue;
    return act(
      { type: 'forward', network: name, remove, add, forwards },
      'Running',
      `forwarding ports of network ${name}: ${[...add.map((one) => `+${forwardWords(one)}`), ...remove.map((one) => `-${forwardWords(one)}`)].join(', ')}`,
    );
  }
  return undefined;
}
