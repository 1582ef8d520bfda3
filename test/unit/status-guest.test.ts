/** What status says of a guest's inside: only what is known, calmly, and nothing of a process that is gone. */
import { describe, expect, test } from 'vitest';
import type { VirtualMachineStatus } from '../../src/api/virtual-machine.ts';
import { virtualMachineStatus } from '../../src/api/virtual-machine-status.ts';
import { decide } from '../../src/reconcile/decide.ts';
import type { SeenAgent, SeenProcess } from '../../src/reconcile/observed.ts';
import { statusOf } from '../../src/reconcile/status.ts';
import { GONE, NOON, present, subject } from '../fakes/subjects.ts';

type Present = Extract<SeenProcess, { kind: 'present' }>;
const CONNECTED: SeenAgent = { kind: 'connected', os: 'Debian GNU/Linux 12', kernel: '6.1.0', hostname: 'web' };
const SILENT: SeenAgent = { kind: 'mute', reason: 'GuestAgentSilent' };
const ADDRESSES = new Map([['net0', ['10.0.2.15']]]);

const running = (fields: Partial<Present>): SeenProcess => ({ ...(present('running') as Present), ...fields });

function status(process: SeenProcess, previous?: VirtualMachineStatus): VirtualMachineStatus {
  const given = subject({ process, ...(process.kind === 'absent' ? { launch: null } : {}) });
  const found = statusOf({ ...given.vm, status: previous }, { kind: 'seen', subject: given, decision: decide(given) });
  expect(virtualMachineStatus.safeParse(JSON.parse(JSON.stringify(found))).error).toBeUndefined();
  return found;
}

const agentOf = ({ conditions }: VirtualMachineStatus) => {
  const found = conditions?.find(({ type }) => type === 'GuestAgentConnected');
  return found && `${found.status}/${found.reason}: ${found.message}`;
};
const ipsOf = ({ interfaces }: VirtualMachineStatus) => interfaces?.map(({ ips }) => ips);
const shown = (found: VirtualMachineStatus) => [agentOf(found), found.guest, ipsOf(found)];

const known = status(running({ agent: CONNECTED, addresses: ADDRESSES }));
const GUEST = { os: 'Debian GNU/Linux 12', kernel: '6.1.0', hostname: 'web' };
const TRUE = 'True/GuestAgentAnswers: the guest agent answers';

describe('the agent', () => {
  test('that answers', () => {
    expect(shown(known)).toEqual([TRUE, GUEST, [['10.0.2.15']]]);
    expect(known.conditions?.map(({ type }) => type).slice(0, 5)).toEqual([
      'Ready',
      'Running',
      'HostReachable',
      'DisksReady',
      'GuestAgentConnected',
    ]);
  });

  test('of which nothing was ever seen has no condition', () => {
    expect(shown(status(running({ agent: { kind: 'closed' } })))).toEqual([undefined, undefined, [undefined]]);
    expect(shown(status(running({})))).toEqual([undefined, undefined, [undefined]]);
    expect(shown(status(GONE))).toEqual([undefined, undefined, undefined]);
  });

  test('that is gone, mute, or stopped with its VM', () => {
    const rows: readonly (readonly [SeenProcess, string])[] = [
      [running({ agent: { kind: 'closed' } }), 'False/GuestAgentClosed: no agent runs in the guest'],
      [
        running({ agent: SILENT }),
        'False/GuestAgentSilent: the guest has opened its agent port, and nothing answers there in time',
      ],
      [
        running({ agent: { kind: 'mute', reason: 'GuestAgentInvalid' } }),
        'False/GuestAgentInvalid: what answers on the agent port of the guest is no guest agent',
      ],
    ];
    for (const [process, said] of rows) expect(shown(status(process, known))).toEqual([said, undefined, [undefined]]);
    expect(shown(status(GONE, known))).toEqual(['False/Stopped: no QEMU process', undefined, undefined]);
  });

  test('that has never answered, but whose port is open, has a condition', () => {
    expect(agentOf(status(running({ agent: SILENT })))).toMatch(/^False\/GuestAgentSilent/);
  });

  test('that is not asked yet is what it was, for the same process alone', () => {
    expect(shown(status(running({}), known))).toEqual([TRUE, GUEST, [['10.0.2.15']]]);
    expect(shown(status(running({ pid: 99 }), known)).slice(1)).toEqual([undefined, [undefined]]);
    expect(ipsOf(status(running({ addresses: new Map([['net0', ['10.0.0.9']]]) }), known))).toEqual([['10.0.0.9']]);
  });

  test('of a host that cannot be seen is Unknown, and what it said stays', () => {
    const { vm } = subject();
    const pass = { kind: 'unseen', at: NOON, reason: 'HostUnreachable', message: 'away', hostKnown: true } as const;
    expect(shown(statusOf({ ...vm, status: known }, pass))).toEqual([
      'Unknown/HostUnreachable: the host cannot be seen',
      GUEST,
      [['10.0.2.15']],
    ]);
    expect(agentOf(statusOf(vm, pass))).toBeUndefined();
  });
});

test('without an agent the addresses are what the host knows', () => {
  expect(ipsOf(status(running({ agent: { kind: 'closed' }, addresses: ADDRESSES })))).toEqual([['10.0.2.15']]);
});

describe('the clock', () => {
  const offset = (seconds: number, former?: number) => {
    const previous = former === undefined ? undefined : { ...known, guest: { clockOffsetSeconds: former } };
    return status(running({ agent: { kind: 'connected', clockOffsetMs: seconds * 1000 } }), previous).guest;
  };
  test('is told in steps, and only where it is wrong', () => {
    expect([0, 9.9, -9.9].map((seconds) => offset(seconds))).toEqual([undefined, undefined, undefined]);
    expect([10, 19, -10, -86_405].map((seconds) => offset(seconds)?.clockOffsetSeconds)).toEqual([
      10, 10, -10, -86_400,
    ]);
  });
  test('does not tremble', () => {
    expect([11, 29.9, 30, 0.5].map((seconds) => offset(seconds, 20)?.clockOffsetSeconds)).toEqual([
      20,
      20,
      30,
      undefined,
    ]);
  });
});
