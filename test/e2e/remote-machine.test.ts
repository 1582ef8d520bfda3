/** A machine behind SSH that fills up, one that is another machine one day, and one that carries few streams. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive, qemusBelow } from './support/process.ts';
import { type Apart, makeApart } from './support/real-controller.ts';
import { RemotePlace } from './support/remote-place.ts';
import type { OnFinished } from './support/rig.ts';

const HEALED_MS = 60_000;
const PATIENCE_MS = 300_000;

async function placeApart(onFinished: OnFinished): Promise<{ apart: Apart; place: RemotePlace }> {
  const apart = await makeApart(onFinished);
  return { apart, place: await RemotePlace.start(onFinished, { within: apart.command([]) }) };
}

test('another machine behind the same address: nothing is done until a person accepts it', {
  timeout: PATIENCE_MS,
}, async ({ onTestFinished }) => {
  const { apart, place } = await placeApart(onTestFinished);
  const id = place.rig.path('machine-id');
  writeFileSync(id, `${'a'.repeat(32)}\n`);
  apart.run('mount', '--bind', id, '/etc/machine-id');
  await place.added('rack1');
  expect((await place.get('qhost/rack1')).status.info.machineID).toBe('a'.repeat(32));
  await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
  const { pid } = (await place.get('qvm/web-1')).status;
  await place.cut();
  writeFileSync(id, `${'b'.repeat(32)}\n`);
  await place.sshd.run();
  await place.rig.controller(onTestFinished);
  await place.untilCondition('qvm/web-1', 'Ready', 'Unknown DifferentMachine', HEALED_MS);
  await place.untilCondition('qhost/rack1', 'Claimed', 'False DifferentMachine', HEALED_MS);
  await place.rig.ok(['stop', 'web-1', '--force', '--wait=false']);
  await new Promise((resolve) => setTimeout(resolve, 7_000));
  expect([isAlive(pid), await place.condition('qvm/web-1', 'Ready')]).toEqual([true, 'Unknown DifferentMachine']);
  await place.rig.ok(['host', 'claim', 'rack1', '--accept-machine']);
  await place.untilCondition('qvm/web-1', 'Ready', 'True Stopped', HEALED_MS);
  expect(isAlive(pid)).toBe(false);
  const { annotations } = (await place.get('qhost/rack1')).metadata;
  expect(annotations?.['qemu-operator.dev/claimed']).toBe('b'.repeat(32));
});

test('a full disk there: nothing half made is left, it is told, and goes on when there is room', {
  timeout: PATIENCE_MS,
}, async ({ onTestFinished }) => {
  const { apart, place } = await placeApart(onTestFinished);
  mkdirSync(place.vmDir);
  apart.run('mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', place.vmDir);
  await place.added('rack1');
  await place.rig.controller(onTestFinished);
  const filler = `${place.vmDir}/filler`;
  apart.run(
    'sh',
    '-c',
    `dd if=/dev/zero of=${filler} bs=4k 2>/dev/null; dd if=/dev/zero of=${filler} bs=1k count=0 seek=1960 2>/dev/null; true`,
  );
  const data = { name: 'data', size: '4Mi' };
  await place.rig.ok([
    'apply',
    '--wait=false',
    '-f',
    place.rig.manifest('web-1', { hostName: 'rack1', disks: [data] }),
  ]);
  await place.untilCondition('qvm/web-1', 'Ready', 'False InsufficientStorage', HEALED_MS);
  apart.run('sh', '-c', `! ls ${place.vmDir}/web-1/*.qcow2* 2>/dev/null`);
  expect(qemusBelow(place.vmDir)).toEqual([]);
  apart.run('rm', filler);
  await place.untilCondition('qvm/web-1', 'Ready', 'True Running', HEALED_MS);
  await place.rig.ok(['delete', 'qvm', 'web-1']);
});

test.each([
  [10, 9],
  [1, 3],
])(
  'one that forbids forwarding and has %i sessions runs %i machines, and each is known',
  {
    timeout: PATIENCE_MS,
  },
  async (sessions, machines) => {
    const config = ['AllowStreamLocalForwarding no', `MaxSessions ${sessions}`];
    const place = await RemotePlace.start(onTestFinished, { config });
    const { rig } = place;
    await place.added('rack1');
    await rig.controller(onTestFinished);
    const names = Array.from({ length: machines }, (_, i) => `web-${i}`);
    for (const name of names)
      await rig.ok([
        'apply',
        '--wait=false',
        '-f',
        rig.manifest(name, { hostName: 'rack1', powerOff: { mode: 'Hard' } }),
      ]);
    for (const name of names) await place.untilCondition(`qvm/${name}`, 'Ready', 'True Running', 90_000);
    const pids = await Promise.all(names.map(async (name) => (await place.get(`qvm/${name}`)).status.pid));
    for (let look = 0; look < 5; look += 1) {
      await rig.ok([
        'annotate',
        '--overwrite',
        'qhost',
        'rack1',
        `qemu-operator.dev/look-requested-at=${new Date().toISOString()}`,
      ]);
      await sleep(1_000);
      const reasons = await Promise.all(names.map((name) => place.condition(`qvm/${name}`, 'Ready')));
      expect(new Set(reasons)).toEqual(new Set(['True Running']));
    }
    // By QMP, through a relay that another machine yields.
    for (const name of names) {
      await rig.ok(['stop', name]);
      expect((await place.get(`qvm/${name}`)).status.lastExit.reason).toBe('StoppedByRequest');
    }
    expect(pids.filter((pid) => isAlive(pid))).toEqual([]);
  },
);
