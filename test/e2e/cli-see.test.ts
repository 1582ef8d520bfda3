/** describe and events on real machines; /proc, the files and a real shell say what is so. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { CliRig } from './support/cli-rig.ts';
import { argvOf, kill, qemusBelow } from './support/process.ts';
import { until } from './support/wait.ts';

const rigOf = () => new CliRig(onTestFinished);

/** The lines below a heading of the sheet, without their indentation. */
function sectionOf(sheet: string, title: string): string[] {
  const lines = sheet.split('\n');
  const at = lines.indexOf(`${title}:`);
  const rest = at < 0 ? [] : lines.slice(at + 1);
  const end = rest.findIndex((line) => !line.startsWith('  '));
  return rest.slice(0, end < 0 ? rest.length : end).map((line) => line.slice(2));
}

test('describe shows the process as it really runs, and each file where it lies', async () => {
  const rig = rigOf();
  await rig.controller(onTestFinished);
  await rig.ok(['apply', '-f', rig.manifest('web-1', { graphics: { vnc: {} } }), '--wait']);
  const [pid = 0] = qemusBelow(rig.vmDir);
  const { stdout: sheet } = await rig.ok(['describe', 'qvm', 'web-1']);
  const shown = sectionOf(sheet, 'Command line of the process').join('\n');
  const read = execFileSync('bash', ['-c', `printf '%s\\0' ${shown}`], { encoding: 'utf8' })
    .split('\0')
    .slice(0, -1);
  expect(read).toEqual(argvOf(pid));
  const files = sectionOf(sheet, 'Files');
  for (const line of files) expect(existsSync(/: +(\/.*?)( \(.*\))?$/.exec(line)?.[1] ?? ''), line).toBe(true);
  for (const name of ['.qemu-operator.json', 'qemu.pid', 'qmp.sock', 'qmp-user.sock', 'console.sock', 'vnc.sock'])
    expect(files.join('\n')).toContain(`${rig.folder('web-1')}/${name}`);
  expect(sectionOf(sheet, 'Conditions').join('\n')).toMatch(/Ready +True +Running +\d+s/);
  expect(sheet).not.toContain('What to do');

  await rig.ok(['patch', 'qvm', 'web-1', '-p', 'spec: {vcpus: 2}', '--wait']);
  const pending = await rig.ok(['describe', 'qvm', 'web-1']);
  expect(sectionOf(pending.stdout, 'Changes that wait for a restart').join('\n')).toMatch(/spec.vcpus +1 +2/);

  await rig.ok(['stop', 'web-1', '--force']);
  const { stdout: off } = await rig.ok(['describe', 'qvm', 'web-1']);
  expect(sectionOf(off, 'Command line of the process')).toEqual([]);
  expect(off).not.toContain('qmp.sock');
});

test('describe of a machine that cannot start says why, what to do, and when it is tried again', async () => {
  const rig = rigOf();
  await rig.controller(onTestFinished);
  const cdroms = [{ name: 'install', path: rig.path('missing.iso') }];
  await rig.run(['apply', '-f', rig.manifest('web-1', { cdroms }), '--wait']);
  const { stdout } = await rig.ok(['describe', 'qvm', 'web-1']);
  expect(stdout).toMatch(/^What to do: +Put it there, or correct `cdroms\[\].path`\.$/m);

  await rig.ok(['apply', '-f', rig.manifest('web-2', { restartPolicy: 'Always' }), '--wait']);
  // The first restart is immediate, the second waits.
  for (const restarts of [0, 1]) {
    const vm = await until(
      `it runs after ${restarts} restarts`,
      async () => JSON.parse((await rig.ok(['get', 'qvm', 'web-2', '-o', 'json'])).stdout) as VirtualMachine,
      ({ status }) => status?.pid !== undefined && (status.restarts ?? 0) === restarts && status.phase === 'Running',
    );
    kill(vm.status?.pid ?? 0, 'SIGKILL');
  }
  const sheet = await until(
    'the back-off',
    async () => (await rig.ok(['describe', 'qvm', 'web-2'])).stdout,
    (text) => text.includes('CrashLoopBackOff'),
  );
  expect(sheet).toMatch(/^Next attempt: +20\S+Z \((in \d+ s|now due)\)$/m);
  expect(sheet).toMatch(/^Last exit: +Crashed, found /m);
  expect(sheet).toMatch(/^What to do: +Read `lastExit` and `logs`/m);
});

test('events: in order, with kubectl’s columns; a watch prints each new line once', async () => {
  const rig = rigOf();
  await rig.controller(onTestFinished);
  expect(await rig.ok(['events'])).toMatchObject({ stdout: '', stderr: 'No events found in default namespace.\n' });
  await rig.ok(['apply', '-f', rig.manifest('web-1'), '--wait']);
  const before = (await rig.ok(['events', 'web-1'])).stdout.trimEnd().split('\n');
  expect(before[0]).toMatch(/^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE$/);
  expect(before.at(-1)).toMatch(/^\d+s +Normal +Running +virtualmachine\/web-1 +the guest is running$/);
  expect((await rig.ok(['events', '-A'])).stdout).toMatch(/^NAMESPACE +LAST SEEN.*\ndefault +\d+s/);

  const watch = rig.start(['events', '-w']);
  await watch.says(/the guest is running/);
  await rig.ok(['stop', 'web-1', '--force']);
  await rig.run(['apply', '-f', rig.manifest('web-2', { cdroms: [{ name: 'cd', path: '/nowhere.iso' }] }), '--wait']);
  await watch.says(/Warning +ISONotFound +virtualmachine\/web-2/);
  const { code, stdout } = await watch.stop('SIGINT');
  expect(code).toBe(130);
  const told = stdout
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => line.replace(/^\S+ +/, ''));
  expect(new Set(told).size).toBe(told.length);
  expect(told.slice(0, before.length - 1)).toEqual(before.slice(1).map((line) => line.replace(/^\S+ +/, '')));
  expect(told.some((line) => /Stopped +virtualmachine\/web-1/.test(line))).toBe(true);
  expect(await rig.run(['events', 'web'])).toMatchObject({ code: 3 });
});
