/** The systemd units as text, what systemd says of them, and what is made of it. */
import { describe, expect, test } from 'vitest';
import { nodeCheck } from '../../src/doctor/node-version.ts';
import { parseServiceState } from '../../src/doctor/service.ts';
import { type Holder, serviceChecks } from '../../src/doctor/service-checks.ts';
import { type UnitPlan, unitFiles } from '../../src/doctor/unit-files.ts';

const PLAN: UnitPlan = {
  scope: 'system',
  command: ['/usr/bin/node', '/usr/lib/qemu-operator/dist/bin.js'],
  store: '/etc/qemu-operator',
  folders: [],
};
const textOf = (plan: Partial<UnitPlan> = {}) =>
  unitFiles({ ...PLAN, ...plan })
    .map(({ text }) => text)
    .join('');
const line = (text: string, key: string) => text.split('\n').find((one) => one.startsWith(`${key}=`));

describe('units', () => {
  test('the controller runs on the chosen store, and its end leaves QEMU alone', () => {
    const [controller] = unitFiles(PLAN);
    expect(line(controller?.text ?? '', 'ExecStart')).toBe(
      'ExecStart=/usr/bin/node --max-semi-space-size=1 --optimize-for-size --v8-pool-size=1 /usr/lib/qemu-operator/dist/bin.js ' +
        '--store /etc/qemu-operator run --log-format json',
    );
    expect(controller?.text).toContain('\nKillMode=process\n');
    expect(controller?.text).not.toMatch(/MemoryDenyWriteExecute|PrivateDevices|ProtectClock|DeviceAllow|NoNewPriv/);
  });

  test('guests have less time than their unit', () => {
    for (const [scope, given, most] of [
      ['system', 280, 300],
      ['user', 80, 100],
    ] as const) {
      const [, guests] = unitFiles({ ...PLAN, scope });
      expect(line(guests?.text ?? '', 'ExecStop')).toMatch(new RegExp(`--if-shutting-down --timeout ${given}s$`));
      expect(line(guests?.text ?? '', 'TimeoutStopSec')).toBe(`TimeoutStopSec=${most}`);
    }
  });

  test("a user's unit has nothing that would take setuid away", () => {
    expect(textOf({ scope: 'user' })).not.toMatch(/SystemCall|Restrict|Lock|Capability|After=local-fs/);
  });

  test.each([
    ['/a b', '--store "/a b" run'],
    ['/100%', '--store "/100%%" run'],
    ['/$HOME', '--store "/$$HOME" run'],
    ['/say "hi"\\', '--store "/say \\"hi\\"\\\\" run'],
    ['/虚拟机', '--store "/虚拟机" run'],
  ])('the path %s is one word and nothing else', (store, words) => {
    expect(line(textOf({ store }), 'ExecStart')).toContain(words);
  });

  test('a path that would end the line is refused', () => {
    expect(() => unitFiles({ ...PLAN, store: '/a\nExecStartPre=/bin/evil' })).toThrow(/control characters/);
  });

  test("QEMU beyond systemd's own folders is found", () => {
    expect(textOf()).not.toContain('Environment');
    expect(textOf({ folders: ['/opt/qemu 10/bin'] })).toContain('\nEnvironment="PATH=/usr/local/sbin:');
  });
});

const shown = (unit: string, fields: Readonly<Record<string, string>>) =>
  `unit=${unit}\nStore=/etc/qemu-operator\nInstalled=yes\n${Object.entries({
    ActiveState: 'active',
    SubState: 'running',
    UnitFileState: 'enabled',
    ActiveEnterTimestamp: 'Sun 2026-11-22 19:12:31 UTC',
    MainPID: '41',
    NeedDaemonReload: 'no',
    ...fields,
  })
    .map((entry) => entry.join('='))
    .join('\n')}\n`;

interface Given {
  readonly head?: string;
  readonly controller?: Readonly<Record<string, string>>;
  readonly guests?: Readonly<Record<string, string>>;
  readonly holder?: Holder | null;
  readonly store?: string;
}

const HOLDER: Holder = { pid: 41, kind: 'run', since: '2026-11-22T19:12:32Z' };

function checks({ head = 'scope=system\nsystemd=yes\n', controller = {}, guests = {}, holder, store }: Given) {
  const text = `${head}${shown('qemu-operator.service', controller)}${shown('qemu-operator-guests.service', guests)}`;
  return serviceChecks(parseServiceState(text), holder === null ? undefined : (holder ?? HOLDER), {
    store: store ?? '/etc/qemu-operator',
    invokedAs: 'qemu-operator',
  });
}

describe('what is said of the service', () => {
  const worst = (given: Given) => checks(given).filter(({ state }) => state !== 'ok');

  test('all is well', () => {
    expect(checks({}).map(({ id, state, message }) => [id, state, message])).toEqual([
      [
        'service',
        'ok',
        'qemu-operator.service (system unit) is active since Sun 2026-11-22 19:12:31 UTC, started at boot, store /etc/qemu-operator',
      ],
      ['service-guests', 'ok', 'guests are stopped in order when the machine shuts down'],
      ['loop', 'ok', 'run by the service (pid 41 since 2026-11-22T19:12:32Z)'],
    ]);
  });

  const rows: readonly (readonly [string, Given, readonly [string, string, RegExp][]])[] = [
    ['no systemd', { head: 'scope=system\n' }, [['service', 'warning', /service stop-guests/]]],
    ['not active', { controller: { ActiveState: 'failed' } }, [['service', 'problem', /systemctl start.*journalctl/]]],
    ['not enabled', { controller: { UnitFileState: 'disabled' } }, [['service', 'problem', /systemctl enable/]]],
    ['edited', { guests: { NeedDaemonReload: 'yes' } }, [['service-guests', 'warning', /daemon-reload/]]],
    ['another store', { store: '/other' }, [['service', 'warning', /--store \/etc\/qemu-operator/]]],
    ['guests not started', { guests: { ActiveState: 'inactive' } }, [['service-guests', 'problem', /start/]]],
    ['nobody has the loop', { holder: null }, [['loop', 'problem', /service status/]]],
    [
      'a user without lingering',
      { head: 'scope=user\nsystemd=yes\nuser=alice\n' },
      [['lingering', 'problem', /loginctl enable-linger alice/]],
    ],
    ['a command has the loop', { holder: { ...HOLDER, pid: 1, kind: 'command' } }, [['loop', 'warning', /^$/]]],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(worst(given).map(({ id, state, mend = '' }) => [id, state, mend])).toEqual(
      expected.map(([id, state, mend]) => [id, state, expect.stringMatching(mend)]),
    );
  });

  test('another process that has the loop is no trouble, and named', () => {
    const [, , loop] = checks({ holder: { ...HOLDER, pid: 7, kind: 'mcp' } });
    expect(loop).toMatchObject({ state: 'ok', message: expect.stringContaining('`qemu-operator mcp` (pid 7') });
  });
});

test.each([
  ['24.21.0', 'ok'],
  ['22.19.0', 'ok'],
  ['22.18.0', 'problem'],
  ['20.19.5', 'problem'],
])('Node %s is %s', (version, state) => {
  expect(nodeCheck(version).state).toBe(state);
});
