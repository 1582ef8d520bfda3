/** What can be wrong with a host as a whole: its file systems, whose it is, which machine it is, its tools, its clock. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import type { RunResult, Shell } from '../../src/host/shell.ts';
import { writeDeafDisk } from './support/images.ts';
import { isAlive, kill, qemusBelow } from './support/process.ts';
import { makeApart, shareStore, startController } from './support/real-controller.ts';
import { conditionOf, Rig, readyOf, testFolder } from './support/rig.ts';
import { pathWithout, standIn, TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

/** Its looks find no process, as often as is asked: of what they say, all between the locks and the folders is lost. */
class BlindShell extends TestShell {
  blindLooks = 0;

  override async run(...[script, args, options]: Parameters<Shell['run']>): Promise<RunResult> {
    const result = await super.run(script, args, options);
    const said = result.stdout.toString('latin1');
    const from = said.search(/^@[0-9a-f]+ locks$/m);
    if (this.blindLooks === 0 || from < 0) return result;
    this.blindLooks -= 1;
    const to = said.search(/^@[0-9a-f]+ vmdir /m);
    return { ...result, stdout: Buffer.from(said.slice(0, from) + said.slice(to), 'latin1') };
  }
}

describe.concurrent('host', () => {
  test("vmDir's file system unmounted while the controller was down: nothing is made anew", async ({
    onTestFinished,
  }) => {
    const apart = await makeApart(onTestFinished);
    const root = testFolder(onTestFinished);
    const where = { storeDir: join(root, 'store'), vmDir: join(root, 'vms'), apart };
    mkdirSync(where.vmDir);
    apart.run('mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', where.vmDir);
    const controller = await startController(onTestFinished, where);
    const store = await shareStore(onTestFinished, where.storeDir);
    const rig = await Rig.start(onTestFinished, { root, store, vmDir: where.vmDir, controller: 'none' });
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await controller.kill('SIGKILL');
    apart.run('mount', '--move', where.vmDir, '/mnt');
    const second = await startController(onTestFinished, where);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    const vm = await rig.untilReason('web-1', 'VMDirMissing');
    expect([readyOf(vm)?.status, vm.status?.phase]).toEqual(['Unknown', 'Unknown']);
    const host = await until(
      'VMDirReady',
      () => rig.host(),
      (one) => conditionOf(one, 'VMDirReady')?.status === 'False',
    );
    expect(conditionOf(host, 'VMDirReady')?.message).toMatch(/not mounted/);
    expect([qemusBelow(root), second.said().includes('action')]).toEqual([[], false]);
    apart.run('sh', '-c', `[ -z "$(ls -A ${where.vmDir})" ]`);
    apart.run('mount', '--move', '/mnt', where.vmDir);
    await rig.untilRunning('web-1');
    expect(second.said()).not.toContain('create-disk');
  });

  test('another machine-id: nothing is done until a person accepts it', async ({ onTestFinished }) => {
    const machineIdFile = join(testFolder(onTestFinished), 'machine-id');
    writeFileSync(machineIdFile, 'aaaa\n');
    const rig = await Rig.start(onTestFinished, { driver: { machineIdFile } });
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.stopController();
    writeFileSync(machineIdFile, 'bbbb\n');
    rig.startController();
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    expect(readyOf(await rig.untilReason('web-1', 'DifferentMachine'))?.message).toContain(
      'machine aaaa and is bbbb now',
    );
    expect([isAlive(pid), conditionOf(await rig.host(), 'Claimed')?.reason]).toEqual([true, 'DifferentMachine']);
    await rig.store.patch(
      'Host',
      { name: 'localhost' },
      { metadata: { annotations: { [ANNOTATIONS.claimed]: null } } },
    );
    await rig.untilSettled('web-1', 'Stopped');
    expect((await rig.host()).metadata.annotations?.[ANNOTATIONS.claimed]).toBe('bbbb');
  });

  test('a vmDir that turns read-only: the VM runs on and nothing is guessed', async ({ onTestFinished }) => {
    const apart = await makeApart(onTestFinished);
    const root = testFolder(onTestFinished);
    const where = { storeDir: join(root, 'store'), vmDir: join(root, 'vms'), apart };
    mkdirSync(where.vmDir);
    await startController(onTestFinished, where);
    const store = await shareStore(onTestFinished, where.storeDir);
    const rig = await Rig.start(onTestFinished, { root, store, vmDir: where.vmDir, controller: 'none' });
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    // A second view of it on top: the first is held by QEMU, which writes.
    apart.run('mount', '--bind', where.vmDir, where.vmDir);
    apart.run('mount', '-o', 'remount,bind,ro', where.vmDir);
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    expect(readyOf(await rig.untilReason('web-1', 'VMDirMissing'))?.message).toContain('not writable');
    expect(isAlive(pid)).toBe(true);
    // Lazily: a look may be in there.
    apart.run('umount', '-l', where.vmDir);
    await rig.untilSettled('web-1', 'Stopped');
    expect(isAlive(pid)).toBe(false);
  });

  test("another store's marker: ClaimedByAnother, and nothing is touched", async ({ onTestFinished }) => {
    const first = await Rig.start(onTestFinished);
    await first.create('web-1');
    const pid = await first.untilRunning('web-1');
    await first.stopController();
    const marker = readFileSync(join(first.vmDir, '.qemu-operator.json'), 'utf8');
    const second = await Rig.start(onTestFinished, { vmDir: first.vmDir });
    await second.create('web-1', { powerState: 'ForcedOff' });
    await second.create('web-2');
    for (const name of ['web-1', 'web-2']) {
      const vm = await second.untilReason(name, 'ClaimedByAnother');
      expect(readyOf(vm)?.message).toContain(first.store.uid);
    }
    expect(conditionOf(await second.host(), 'Claimed')).toMatchObject({ status: 'False', reason: 'ClaimedByAnother' });
    await second.anotherLook();
    expect([qemusBelow(first.root), second.actions('web-1')]).toEqual([[pid], []]);
    expect(readFileSync(join(first.vmDir, '.qemu-operator.json'), 'utf8')).toBe(marker);
  });

  test('two stores on one host, each with its vmDir: neighbours are strangers', async ({ onTestFinished }) => {
    const [first, second] = [await Rig.start(onTestFinished), await Rig.start(onTestFinished)];
    await first.create('web-1');
    await second.create('web-1');
    const [mine, theirs] = [await first.untilRunning('web-1'), await second.untilRunning('web-1')];
    const sees = (rig: Rig, pid: number) =>
      until(
        'a stranger',
        () => rig.host(),
        ({ status }) => status?.strangers?.some((one) => one.pid === pid) === true,
      );
    await Promise.all([sees(first, theirs), sees(second, mine)]);
    await first.edit('web-1', { powerState: 'ForcedOff' });
    await first.untilSettled('web-1', 'Stopped');
    expect([isAlive(mine), isAlive(theirs), await second.untilRunning('web-1')]).toEqual([false, true, theirs]);
  });

  test('a vmDir whose marker is gone is not claimed a second time', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    const marker = join(rig.vmDir, '.qemu-operator.json');
    const text = readFileSync(marker, 'utf8');
    writeFileSync(marker, '{"storeUID"');
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilReason('web-1', 'VMDirMissing');
    expect(isAlive(pid)).toBe(true);
    writeFileSync(marker, text);
    await rig.untilSettled('web-1', 'Stopped');
  });

  test('without QEMU: the command is named with the package that has it, and a stop still works', async ({
    onTestFinished,
  }) => {
    const shell = new TestShell();
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('runs');
    const pid = await rig.untilRunning('runs');
    const says = (name: string, text: string) => rig.until(name, text, (one) => readyOf(one)?.message === text);
    shell.path = pathWithout(rig.path('bin'), /^qemu-img/);
    await rig.create('x86', { disks: [{ name: 'data', size: '1Mi' }] });
    await says('x86', 'qemu-img: command not found; install it: apt-get install qemu-utils');
    shell.path = pathWithout(rig.path('bin2'), /^(qemu-system|kvm)/);
    await rig.create('arm', { architecture: 'arm64', disks: [] });
    await says('x86', 'qemu-system-x86_64: command not found; install it: apt-get install qemu-system-x86');
    await says('arm', 'qemu-system-aarch64: command not found; install it: apt-get install qemu-system-arm');
    const host = await until(
      'QEMUAvailable',
      () => rig.host(),
      (one) => conditionOf(one, 'QEMUAvailable')?.status === 'False',
    );
    expect(conditionOf(host, 'Ready')?.reason).toBe('QEMUNotInstalled');
    await rig.edit('runs', { powerState: 'PoweredOff' });
    await rig.untilSettled('runs', 'Stopped');
    expect(isAlive(pid)).toBe(false);
    shell.path = undefined;
    await rig.untilRunning('x86');
  });

  test('QEMU 5 is QEMUTooOld and not started', async ({ onTestFinished }) => {
    const root = testFolder(onTestFinished);
    const started = join(root, 'started');
    const text = `#!/bin/sh\ncase $* in *-version*) echo 'QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)';; *-daemonize*) touch ${started};; esac\n`;
    const shell = new TestShell({ path: standIn(join(root, 'bin'), 'qemu-system-x86_64', text) });
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('web-1');
    expect(readyOf(await rig.untilReason('web-1', 'QEMUTooOld'))?.message).toMatch(/version 5\.2\.0; 6\.0 or later/);
    expect(() => readFileSync(started)).toThrow(/ENOENT/);
    shell.path = undefined;
    await rig.untilRunning('web-1');
  });

  test('QEMU that fails to start says why, in its own words, and is tried again', async ({ onTestFinished }) => {
    const root = testFolder(onTestFinished);
    const text =
      '#!/bin/sh\ncase $* in *-version*) echo QEMU emulator version 7.2.0;; *) echo "cannot set up guest memory" >&2; exit 1;; esac\n';
    const shell = new TestShell({ path: standIn(join(root, 'bin'), 'qemu-system-x86_64', text) });
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('web-1');
    const vm = await rig.untilReason('web-1', 'InsufficientMemory');
    expect([readyOf(vm)?.message, vm.status?.nextAttemptAt]).toEqual([
      expect.stringMatching(/^launch failed: cannot set up guest memory; tried again at 20/),
      expect.any(String),
    ]);
    shell.path = undefined;
    await rig.untilRunning('web-1');
    expect((await rig.vm('web-1')).status?.restarts).toBe(0);
  });
});

describe.concurrent('boot and clock of a host', () => {
  test('a look that misses a process that lives: its end is not noted, and no second one is started', async ({
    onTestFinished,
  }) => {
    const shell = new BlindShell();
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('web-1', { restartPolicy: 'Always' });
    const pid = await rig.untilRunning('web-1');
    shell.blindLooks = 1;
    const refused = await until(
      'the end is refused',
      () => rig.events.find((event) => event.type === 'failed'),
      (event) => event !== undefined,
    );
    expect(refused).toMatchObject({ message: expect.stringContaining(`process ${pid} lives`) });
    await rig.anotherLook();
    const vm = await rig.vm('web-1');
    expect([await rig.untilRunning('web-1'), vm.status?.restarts, vm.status?.lastExit]).toEqual([pid, 0, undefined]);
    expect(qemusBelow(rig.root)).toEqual([pid]);
  });

  test('after a host reboot what ran starts again, what was off stays off', async ({ onTestFinished }) => {
    const bootIdFile = join(testFolder(onTestFinished), 'boot-id');
    writeFileSync(bootIdFile, 'first\n');
    const rig = await Rig.start(onTestFinished, { driver: { bootIdFile } });
    const policies = { always: 'Always', failure: 'OnFailure', never: 'Never', off: 'Always' };
    for (const [name, restartPolicy] of Object.entries(policies)) await rig.create(name, { restartPolicy });
    const pids = await Promise.all(Object.keys(policies).map((name) => rig.untilRunning(name)));
    await rig.stopController();
    for (const pid of pids) kill(pid, 'SIGKILL');
    await until(
      'all are gone',
      () => pids.some(isAlive),
      (some) => !some,
    );
    writeFileSync(bootIdFile, 'second\n');
    await rig.edit('off', { powerState: 'PoweredOff' });
    rig.startController();
    await rig.untilRestarted('always', pids[0] ?? 0);
    await rig.untilRestarted('failure', pids[1] ?? 0);
    const never = await rig.untilReason('never', 'HostRebooted');
    expect(conditionOf(never, 'Stalled')?.status).toBe('True');
    await rig.untilSettled('off', 'Stopped');
    const reasons = await Promise.all(
      Object.keys(policies).map(async (name) => (await rig.vm(name)).status?.lastExit?.reason),
    );
    expect([reasons, qemusBelow(rig.root).length]).toEqual([Array(4).fill('HostRebooted'), 2]);
  });

  test('a clock that jumps back does not stretch a back-off or a grace period, one that jumps forth kills nothing', async ({
    onTestFinished,
  }) => {
    const root = testFolder(onTestFinished);
    const offset = join(root, 'offset');
    writeFileSync(offset, '0');
    const text = `#!/bin/sh\ncase $1 in +%s%3N) echo $(($(/bin/date +%s%3N) + $(cat ${offset})));; *) exec /bin/date "$@";; esac\n`;
    const rig = await Rig.start(onTestFinished, {
      shell: new TestShell({ path: standIn(join(root, 'bin'), 'date', text) }),
    });
    await rig.create('web-1');
    const first = await rig.untilRunning('web-1');
    kill(first, 'SIGKILL');
    const second = await rig.untilRestarted('web-1', first);
    kill(second, 'SIGKILL');
    await rig.untilReason('web-1', 'CrashLoopBackOff');
    writeFileSync(offset, '-86400000');
    const third = await rig.untilRestarted('web-1', second, 8_000);
    writeFileSync(offset, '86400000');
    await rig.anotherLook();
    expect([await rig.untilRunning('web-1'), isAlive(third)]).toEqual([third, true]);
    const deaf = { name: 'root', path: writeDeafDisk(rig.path('images', 'deaf.raw')), format: 'raw' };
    await rig.create('deaf', { disks: [deaf], powerOff: { gracePeriodSeconds: 4 } });
    await rig.untilRunning('deaf');
    await rig.edit('deaf', { powerState: 'PoweredOff' });
    await rig.until('deaf', 'the button was pressed', ({ status }) => /powering down/.test(status?.message ?? ''));
    writeFileSync(offset, '0');
    await rig.untilSettled('deaf', 'Stopped', 20_000);
    expect(await rig.untilRunning('web-1')).toBe(third);
  });
});
