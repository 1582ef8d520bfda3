/** The ports of the host that lead to a guest: changed while it runs, and what is noted where QEMU could not have one. */
import type { LaunchSpec } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import { type HostForward, hostEnd } from '../api/networks.ts';
import type { VmAction } from '../reconcile/action.ts';
import { EffectError } from '../reconcile/driver.ts';
import { allocatedPorts, type OwnershipRecord, withRefusals } from '../reconcile/record.ts';
import { forwardPlace, forwardRule } from './cmdline.ts';
import { type Hands, monitorOf, recordOf, writeRecord } from './hands.ts';

type Forward = Extract<VmAction, { type: 'forward' }>;

/** Somebody was faster, or has the port in a way that no look shows. */
export async function noteRefusal(hands: Hands, tried: LaunchSpec, error: unknown): Promise<void> {
  if (!(error instanceof EffectError) || error.reason !== 'PortInUse') return;
  const record = withRefusals(recordOf(hands), tried, error.message);
  if (record !== undefined) await writeRecord(hands, () => record);
}

/**
 * What is under way is noted first, so that a port which this was cut off at is known as the VM's own. A rule that
 * is there already is set anew: what is connected through it lives on. The monitor answers in words, and says
 * nothing where it succeeds.
 */
export async function forward({ network, remove, add, forwards }: Forward, hands: Hands): Promise<void> {
  const monitor = await monitorOf(hands);
  const tell = async (words: string) =>
    String(await monitor.execute('human-monitor-command', { 'command-line': words })).trim();
  const takeAway = async (rules: readonly HostForward[]) => {
    for (const rule of rules) await tell(`hostfwd_remove net-${network} ${forwardPlace(rule)}`);
  };
  const write = (change: (record: OwnershipRecord) => OwnershipRecord) => writeRecord(hands, change);
  const kept = forwards.filter((one) => !add.includes(one));
  const changing = [...remove, ...add].map((one) => ({ ...one, changing: true as const }));
  await write((record) => withForwards(record, network, [...kept, ...changing]));
  await takeAway([...remove, ...add]);
  for (const rule of add) {
    const said = await tell(`hostfwd_add net-${network} ${forwardRule(rule)}`);
    if (said === '') continue;
    await takeAway(add);
    await write((record) => {
      const without = withForwards(record, network, kept);
      return withRefusals(without, specOf(withForwards(record, network, forwards)), said) ?? without;
    });
    throw new EffectError('PortInUse', `${hostEnd(rule)}: ${oneLine(said, 300)}`);
  }
  await write((record) => withAllocations(withForwards(record, network, forwards)));
}

function specOf({ launch: launched }: OwnershipRecord): LaunchSpec {
  if (launched === undefined) throw new EffectError('InternalError', 'the VM has no process');
  return launched.spec;
}

function withAllocations({ ports: _before, ...record }: OwnershipRecord): OwnershipRecord {
  const ports = allocatedPorts(specOf(record));
  return ports.length === 0 ? record : { ...record, ports };
}

/** What the process was started with, and these forwards. */
function withForwards(record: OwnershipRecord, network: string, forwards: readonly HostForward[]): OwnershipRecord {
  const spec = specOf(record);
  const networks = spec.networks.map(({ forwards: before, ...one }) => {
    const list = one.name === network ? forwards : (before ?? []);
    return list.length === 0 ? one : { ...one, forwards: list };
  });
  return { ...record, launch: { ...record.launch, spec: { ...spec, networks } } as OwnershipRecord['launch'] };
}
