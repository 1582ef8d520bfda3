/** The doctor on this machine, and the report it writes: nothing is changed, and no secret leaves. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Check } from '../../src/doctor/check.ts';
import { CliRig } from './support/cli-rig.ts';
import { qemusBelow } from './support/process.ts';
import { pathWithout } from './support/stand-ins.ts';

const SECRET = 'Pl4ntedS3cret';

async function checks(rig: CliRig, env: Readonly<Record<string, string>> = {}) {
  const ended = await rig.run(['doctor', '-o', 'json'], { env });
  const found = (JSON.parse(ended.stdout) as { checks: Check[] }).checks;
  const stateOf = (id: string) => found.filter((check) => check.id === id).map(({ state }) => state);
  return { ...ended, found, stateOf };
}

test('on a machine without a store the doctor looks, makes none, and finds what is missing', async () => {
  const rig = new CliRig(onTestFinished);
  const fine = await checks(rig);
  expect([fine.code, fine.stateOf('qemu-x86_64'), fine.stateOf('store')]).toEqual([0, ['ok'], ['warning']]);
  expect([existsSync(rig.store), existsSync(rig.vmDir)]).toEqual([false, false]);

  const PATH = pathWithout(rig.path('bin'), /^qemu-(system|img)/);
  const missing = await rig.run(['doctor'], { env: { PATH } });
  expect(missing.code).toBe(1);
  expect(missing.stdout).toMatch(/problem +qemu-img .*command not found/);
  expect(missing.stdout).toMatch(/-> (sudo )?apt-get install qemu-utils/);
});

test('it names the loop, stalled machines and broken manifests, and changes nothing', async () => {
  const rig = new CliRig(onTestFinished);
  const running = await rig.controller(onTestFinished);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  await rig.run([
    'apply',
    '--wait',
    '-f',
    rig.manifest('web-2', { cdroms: [{ name: 'iso', path: '/not/there.iso' }] }),
  ]);
  writeFileSync(join(rig.store, 'broken.yaml'), 'kind: [');
  const pids = qemusBelow(rig.vmDir);
  const files = () => readdirSync(rig.vmDir, { recursive: true }).map(String).sort();
  const before = files();
  const found = await checks(rig);
  expect([found.code, found.stateOf('manifests'), found.stateOf('machines')]).toEqual([1, ['problem'], ['problem']]);
  expect(found.found.find(({ id }) => id === 'machines')?.message).toContain('default/web-2: ISONotFound');
  const loop = found.found.find(({ id }) => id === 'loop');
  expect(loop).toMatchObject({ state: 'ok', message: expect.stringContaining(`pid ${running.child.pid} since 20`) });
  expect([files(), qemusBelow(rig.vmDir)]).toEqual([before, pids]);
});

test('the report holds what a bug report needs, for its owner alone, and no secret that was planted', async () => {
  const rig = new CliRig(onTestFinished);
  await rig.ok(['secret', 'set', 'db', 'password'], { input: SECRET });
  const cloudInit = { userData: `#cloud-config\n# ${SECRET}\n`, sshAuthorizedKeys: [`ssh-ed25519 AAAA${SECRET} me`] };
  const annotations = { 'example.com/note': SECRET };
  await rig.ok(['apply', '-f', rig.manifest('web-1', { cloudInit }, { annotations })]);
  await rig.ok(['annotate', 'qvm', 'web-1', 'example.com/other=10.99.98.97']);
  appendFileSync(
    join(rig.folder('web-1'), 'qemu.log'),
    `password=${SECRET}\nfetch https://me:${SECRET}@10.99.98.97/a?sig=${SECRET}\nAuthorization: Bearer ${SECRET}\n`,
  );
  writeFileSync(join(rig.folder('web-1'), 'console.log'), `login: ${SECRET}\n`);
  const file = rig.path('report.tar.gz');
  const made = await rig.ok(['doctor', '--bundle', file], { env: { DB_PASSWORD: SECRET } });
  expect(made.stdout).toContain(`report written to ${file}`);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const names = execFileSync('tar', ['tzf', file], { encoding: 'utf8' }).trim().split('\n');
  expect(names.map((name) => name.slice('qemu-operator-report/'.length))).toEqual(
    expect.arrayContaining([
      'README.txt',
      'versions.json',
      'doctor.json',
      'objects/0001-VirtualMachine.json',
      'machines/0001/qemu-operator.json',
      'machines/0001/qemu.log',
      'journal.txt',
    ]),
  );
  const all = execFileSync('tar', ['xzOf', file], { encoding: 'utf8' });
  expect(all).not.toContain(SECRET);
  expect(all).not.toContain('10.99.98.97');
  expect(all).toMatch(/fetch https:\/\/<left out>@<ipv4-1>\/a\?<left out>/);
  expect(all).toContain('"recordVersion": 1');
  expect(all).not.toContain('-blockdev');

  const again = await rig.run(['doctor', '--bundle', file]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('choose a new file')]);
  expect((await rig.run(['doctor', '--bundle', rig.path('report.zip')])).code).toBe(2);
});
