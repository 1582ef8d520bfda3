/** What of a guest's inside a look can tell: its agent, and the addresses of its interfaces by the best evidence. */
import { performance } from 'node:perf_hooks';
import type { SeenAgent, SeenFolder } from '../reconcile/observed.ts';
import { type Addresses, flowSources } from './addresses.ts';
import type { AgentState, Agents, GuestFacts } from './agents.ts';
import type { GuestAnswers } from './guest-monitor.ts';
import type { Probe } from './probe.ts';

export interface Inside {
  readonly agent?: SeenAgent;
  readonly addresses?: ReadonlyMap<string, readonly string[]>;
}

export interface Asked {
  readonly answers: GuestAnswers;
  readonly pid: number;
  readonly probe: Pick<Probe, 'at' | 'neighbours'>;
}

/** Waits for no guest: what its agent said is taken as it was last heard. @throws what the monitor throws */
export async function seenInside(
  folder: Pick<SeenFolder, 'path' | 'record'>,
  asked: Asked,
  around: { readonly agents: Agents; readonly addresses: Addresses },
): Promise<Inside> {
  const { path } = folder;
  const open = asked.answers.agentOpen;
  if (!open) around.agents.forget(path);
  const state: AgentState | undefined = open ? around.agents.of(path, asked.pid) : undefined;
  const agent = state === undefined ? ({ kind: 'closed' } as const) : seenAgent(state, asked.probe.at);
  const facts = state?.kind === 'connected' ? state.facts : undefined;
  const addresses = await addressesOf(folder, { ...asked, facts }, around.addresses);
  return { ...(agent === undefined ? {} : { agent }), addresses };
}

function seenAgent(state: AgentState, hostMs: number): SeenAgent | undefined {
  if (state.kind === 'unknown') return undefined;
  if (state.kind === 'mute') return state;
  const { os, kernel, hostname, clock } = state.facts;
  return {
    kind: 'connected',
    ...(os === undefined ? {} : { os }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(clock === undefined
      ? {}
      : { clockOffsetMs: Math.round(clock.guestMs + (performance.now() - clock.atMs) - hostMs) }),
  };
}

/** By network: the agent's word, else the flows of user networking, else the host's neighbours; and what these showed before. */
async function addressesOf(
  { path, record }: Pick<SeenFolder, 'path' | 'record'>,
  { answers, pid, probe, facts }: Asked & { readonly facts: GuestFacts | undefined },
  known: Addresses,
): Promise<Map<string, readonly string[]>> {
  const networks = record.kind === 'readable' ? (record.record.launch?.spec.networks ?? []) : [];
  const told = (mac: string) => facts?.interfaces.find((one) => one.mac === mac.toLowerCase())?.ips ?? [];
  const untold = networks.filter(({ mac }) => told(mac).length === 0);
  for (const { mac } of untold) known.note(path, pid, mac, probe.neighbours.get(mac.toLowerCase()) ?? []);
  if (untold.some(({ mac }) => known.of(path, pid, mac) === undefined)) {
    const flows = flowSources(await answers.flows());
    for (const { name, mac } of untold) known.note(path, pid, mac, flows.get(`net-${name}`) ?? []);
  }
  const entries = networks.map(({ name, mac }) => {
    const ips = told(mac);
    return [name, ips.length > 0 ? ips : (known.of(path, pid, mac) ?? [])] as const;
  });
  return new Map(entries.filter(([, ips]) => ips.length > 0));
}
