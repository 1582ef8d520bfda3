/** Ports of the host: which are free, which are chosen, and what is said of those that are taken. */
import { describe, expect, test } from 'vitest';
import type { LaunchSpec } from '../../src/api/effective-spec.ts';
import { type HostForward, tapName } from '../../src/api/networks.ts';
import { decide } from '../../src/reconcile/decide.ts';
import type { SeenVm, Subject } from '../../src/reconcile/decision.ts';
import { networkProblem, withPorts } from '../../src/reconcile/network.ts';
import type { SeenPort } from '../../src/reconcile/observed.ts';
import { type OwnershipRecord, withRefusals } from '../../src/reconcile/record.ts';
import { FACTS } from '../fakes/simulated-world.ts';
import { type Given, GONE, someHost, someRecord, subject } from '../fakes/subjects.ts';

type Fields = Readonly<Record<string, unknown>>;

const listens = (hostPort: number, fields: Partial<SeenPort> = {}): SeenPort => ({
  protocol: 'TCP',
  hostAddress: '127.0.0.1',
  hostPort,
  ...fields,
});

/** A VM without a process that wants these forwards. */
function wanting(hostForwards: readonly Fields[], seen: Given['seen'] = {}, more: Given = {}): Subject {
  const networks = [{ name: 'net0', user: { hostForwards } }];
  return subject({ spec: { networks }, seen, launch: null, process: GONE, ...more });
}

function chosen(asked: Subject, record: OwnershipRecord = someRecord()): (number | undefined)[] {
  return withPorts(asked, record).networks.flatMap(({ forwards = [] }) => forwards.map(({ hostPort }) => hostPort));
}

function problem(asked: Subject, record: OwnershipRecord = someRecord()): string | undefined {
  const found = networkProblem(asked, record);
  return found?.kind === 'blocked' ? `${found.reason}: ${found.message}` : undefined;
}

describe('a port that is chosen', () => {
  const [first = 0] = chosen(wanting([{ guestPort: 22 }]));

  test('is the same for the same question, and below those of outgoing connections', () => {
    expect(chosen(wanting([{ guestPort: 22 }]))).toEqual([first]);
    expect(first).toBeGreaterThanOrEqual(20_000);
    expect(first).toBeLessThan(30_000);
  });

  test('is another one for another VM or another port of the guest', () => {
    const other = wanting([{ guestPort: 22 }], {}, { metadata: { uid: '99999999-2222-4333-8444-555555555555' } });
    expect(new Set([first, ...chosen(other), ...chosen(wanting([{ guestPort: 80 }]))]).size).toBe(3);
  });

  test.each<[string, Given['seen']]>([
    ['a program listens on it', { ports: [listens(first)] }],
    ['a program listens on all addresses', { ports: [listens(first, { hostAddress: '0.0.0.0' })] }],
    ["it is another VM's", { portClaims: [{ ...listens(first), owner: 'default/db' }] }],
  ])('is the next one where %s', (_what, seen) => {
    expect(chosen(wanting([{ guestPort: 22 }], seen))).toEqual([first + 1]);
  });

  test.each<[string, SeenPort]>([
    ['the other protocol', listens(first, { protocol: 'UDP' })],
    ['another address', listens(first, { hostAddress: '10.0.0.1' })],
  ])('is not disturbed by %s', (_what, port) => {
    expect(chosen(wanting([{ guestPort: 22 }], { ports: [port] }))).toEqual([first]);
  });

  test('is none that another forward of the VM has', () => {
    expect(chosen(wanting([{ guestPort: 22 }, { hostPort: first, guestPort: 80 }]))).toEqual([first + 1, first]);
  });

  test('is that of the start before, while it is free', () => {
    const kept = {
      network: 'net0',
      protocol: 'TCP',
      hostAddress: '127.0.0.1',
      hostPort: 29_999,
      guestPort: 22,
    } as const;
    const record = someRecord({ ports: [kept] });
    expect(chosen(wanting([{ guestPort: 22 }]), record)).toEqual([29_999]);
    expect(chosen(wanting([{ guestPort: 22 }], { ports: [listens(29_999)] }), record)).toEqual([20_000]);
    expect(chosen(wanting([{ guestPort: 80 }]), record)).not.toEqual([29_999]);
  });

  test('is another one where QEMU could not have it, a few times; then it is waited for', () => {
    let record = someRecord();
    const seen: (number | undefined)[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const tried: LaunchSpec = withPorts(wanting([{ guestPort: 22 }]), record);
      const [hostPort] = chosen(wanting([{ guestPort: 22 }]), record);
      seen.push(hostPort);
      const said = `Could not set up host forwarding rule 'tcp:127.0.0.1:${hostPort}-:22'`;
      record = withRefusals(record, tried, said) ?? record;
    }
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 5, 5].map((step) => first + step));
  });
});

describe('a port that was asked for', () => {
  const forward = { hostPort: 8080, guestPort: 80 };

  test('is no problem while it is free', () => {
    expect(problem(wanting([forward]))).toBeUndefined();
  });

  test('is PortInUse while somebody has it, who is named where it can be seen', () => {
    expect(problem(wanting([forward], { ports: [listens(8080, { holder: 'nginx (pid 12)' })] }))).toBe(
      'PortInUse: network net0: 127.0.0.1:8080/TCP of the host is taken by nginx (pid 12); it is forwarded once the port is free, or choose another hostPort',
    );
    expect(problem(wanting([forward], { ports: [listens(8080)] }))).toMatch(/is taken by another program;/);
    const portClaims = [{ ...listens(8080), owner: 'default/db' }];
    expect(problem(wanting([forward], { portClaims, ports: [listens(8080)] }))).toMatch(/is taken by VM default\/db;/);
  });

  test('that two networks want is InvalidSpec', () => {
    const networks = [
      { name: 'a', user: { hostForwards: [forward] } },
      { name: 'b', user: { hostForwards: [{ ...forward, hostAddress: '0.0.0.0' }] } },
    ];
    expect(problem(wanting([], {}, { spec: { networks } }))).toBe(
      'InvalidSpec: networks a and b: 127.0.0.1:8080/TCP and 0.0.0.0:8080/TCP are the same port of the host',
    );
  });
});

describe('a bridge', () => {
  const networks = [{ name: 'net0', bridge: { name: 'br0' } }];
  const bridges = (...ports: string[]) => new Map([['br0', { mtu: 1400, ports: new Set(ports) }]]);
  const idle = (seen: Given['seen'], allowedBridges: readonly string[] = ['*']) =>
    wanting([], seen, { spec: { networks }, host: someHost({ allowedBridges }) });

  test('is no problem where the host has it and allows it', () => {
    expect(problem(idle({ bridges: bridges() }))).toBeUndefined();
    expect(problem(idle({ bridges: bridges() }, ['br1', 'br0']))).toBeUndefined();
    const bySudo = someHost({ allowedBridges: ['br0'], sudo: true });
    const seen = { bridges: bridges(), facts: { ...FACTS, uid: 1000 } };
    expect(problem(wanting([], seen, { spec: { networks }, host: bySudo }))).toBeUndefined();
  });

  test.each<[string, Subject, string]>([
    [
      'that the host does not allow',
      idle({ bridges: bridges() }, ['br1']),
      'BridgeNotAllowed: network net0: br0 is none of the allowedBridges of Host localhost (br1)',
    ],
    [
      'that the host does not have',
      idle({ bridges: new Map([['br7', { mtu: 1500, ports: new Set<string>() }]]) }),
      'BridgeNotFound: network net0: the host has no bridge br0; there is br7. Make it: ip link add br0 type bridge',
    ],
    [
      'that an ordinary user has no rights to',
      idle({ bridges: bridges(), facts: { ...FACTS, uid: 1000 } }),
      `BridgeNotAllowed: network net0: an ordinary user's QEMU joins a bridge by qemu-bridge-helper, which has no rights here: chmod u+s it as root, and write "allow br0" into /etc/qemu/bridge.conf; or set spec.sudo of Host localhost`,
    ],
  ])('%s', (_what, asked, said) => {
    expect(problem(asked)).toBe(said);
  });

  test('an ordinary user may join by the helper', () => {
    expect(problem(idle({ bridges: bridges(), facts: { ...FACTS, uid: 1000, bridgeHelper: '/h' } }))).toBeUndefined();
  });

  test("root's running guest is joined where it is not", () => {
    const tap = tapName('/vms/web-1', 'net0');
    const host = someHost({ allowedBridges: ['*'] });
    const running = (seen: Partial<SeenVm>) => decide(subject({ spec: { networks }, host, seen }));
    expect(running({ bridges: bridges(tap) })).toMatchObject({ kind: 'settled' });
    expect(running({ bridges: bridges() })).toMatchObject({
      action: { type: 'join-bridge', bridge: 'br0', tap, mtu: 1400 },
    });
    const facts = { ...FACTS, uid: 1000, bridgeHelper: '/h' };
    expect(running({ bridges: bridges(), facts })).toMatchObject({ kind: 'settled' });
  });
});

describe('a running VM', () => {
  /** Runs with `has`, wants `wants`. */
  function running(has: readonly HostForward[], wants: readonly Fields[], seen: Given['seen'] = {}): Subject {
    const networks = [{ name: 'net0', user: { hostForwards: wants } }];
    const { launch } = subject({ spec: { networks } }).wanted;
    const launched = { ...launch, networks: launch.networks.map((one) => ({ ...one, forwards: [...has] })) };
    return subject({ spec: { networks }, seen, launch: { spec: launched as never } });
  }
  const has: HostForward = { protocol: 'TCP', hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 };
  const step = (asked: Subject) => {
    const decision = decide(asked);
    return decision.kind === 'act' ? decision.action : decision.reason;
  };

  test('is not disturbed by its own port', () => {
    expect(step(running([has], [{ hostPort: 8080, guestPort: 80 }], { ports: [listens(8080)] }))).toBe('Running');
  });

  test('keeps a port that was chosen', () => {
    const mine: HostForward = { ...has, hostPort: 20_123, guestPort: 22, allocated: true };
    const kept = { network: 'net0', ...mine, hostPort: 20_123 };
    const asked = running([mine], [{ guestPort: 22 }], { ports: [listens(20_123)] });
    const record = { ...someRecord(), ports: [kept] };
    const state = asked.seen.folder?.record;
    const launch = state?.kind === 'readable' ? state.record.launch : undefined;
    expect(chosen(asked, { ...record, launch })).toEqual([20_123]);
  });

  test('follows its spec without a restart', () => {
    const wants = { ...has, hostPort: 8081 };
    expect(step(running([has], [{ hostPort: 8081, guestPort: 80 }], { ports: [listens(8080)] }))).toEqual({
      type: 'forward',
      network: 'net0',
      remove: [has],
      add: [wants],
      forwards: [wants],
    });
  });

  test('finishes a change that was cut off', () => {
    const asked = running([{ ...has, changing: true }], [{ hostPort: 8080, guestPort: 80 }], {
      ports: [listens(8080)],
    });
    expect(step(asked)).toMatchObject({ type: 'forward', remove: [{ ...has, changing: true }], add: [has] });
  });

  test('runs on where the port that it should forward is taken', () => {
    expect(step(running([], [{ hostPort: 8081, guestPort: 80 }], { ports: [listens(8081)] }))).toBe('PortInUse');
  });
});
