/** Objects through the command line: what is printed, what is refused, what is kept. No machine is started. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, isAbsolute } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { CliRig, MAIN } from './support/cli-rig.ts';

const VM = 'virtualmachine.qemu-operator.dev';
/** Only the store is of interest here. */
const LATER = '--wait=false';

const cleanups: (() => Promise<void>)[] = [];
let shared: CliRig;

beforeAll(async () => {
  shared = new CliRig((work) => cleanups.push(work));
  await shared.ok(['apply', LATER, '-f', shared.manifest('web-1', {}, { labels: { app: 'web' } })]);
  await shared.ok(['apply', LATER, '-f', shared.manifest('db-1', {}, { labels: { app: 'db' } })]);
  await shared.ok(['apply', LATER, '-n', 'prod', '-f', shared.manifest('api-1')]);
});

afterAll(async () => {
  for (const work of cleanups.toReversed()) await work();
});

const ownRig = () => new CliRig(onTestFinished);

test('get prints a table of the namespace, by label, over all namespaces, and says what it does not find', async () => {
  const { stdout, stderr } = await shared.ok(['get', 'qvm']);
  expect(stdout.split('\n').map((line) => line.split(/ {3,}/)[0])).toEqual(['NAME', 'db-1', 'web-1', '']);
  expect(stderr).toMatch(/^Warning: no controller runs on this store/);
  expect((await shared.ok(['get', 'virtualmachines', '-l', 'app=web', '-o', 'name'])).stdout).toBe(`${VM}/web-1\n`);
  const all = await shared.ok(['get', 'qvm', '-A', '--no-headers']);
  expect(all.stdout).toMatch(/^default +db-1 .*\ndefault +web-1 .*\nprod +api-1 .*\n$/);
  expect(await shared.run(['get', 'qvm', '-n', 'empty'])).toEqual({
    code: 0,
    stdout: '',
    stderr: 'No resources found in empty namespace.\n',
  });
  const missing = await shared.run(['get', 'qvm', 'web-2']);
  expect(missing.code).toBe(3);
  expect(missing.stderr).toBe(
    'Error from server (NotFound): virtualmachines.qemu-operator.dev "web-2" not found; did you mean web-1?\n',
  );
  expect(await shared.run(['get', 'qvm', 'api-1'])).toMatchObject({
    code: 3,
    stderr: /there is one in namespace prod/,
  });
});

test('get prints whole objects that apply takes again', async () => {
  const { stdout } = await shared.ok(['get', 'qvm/web-1', '-o', 'yaml']);
  const object = parse(stdout);
  expect(Object.keys(object).slice(0, 4)).toEqual(['apiVersion', 'kind', 'metadata', 'spec']);
  expect(object.metadata).toMatchObject({ name: 'web-1', namespace: 'default', labels: { app: 'web' } });
  const again = await shared.ok(['apply', LATER, '-f', '-'], { input: stdout });
  // Defaults that are written out are declared from then on.
  expect(again.stdout).toBe(`${VM}/web-1 configured\n`);
  const json = JSON.parse((await shared.ok(['get', 'qvm', '-o', 'json'])).stdout);
  expect(json).toMatchObject({ kind: 'List', apiVersion: 'v1' });
  expect(json.items.map((item: { metadata: { name: string } }) => item.metadata.name)).toEqual(['db-1', 'web-1']);
  const list = await shared.ok(['apply', LATER, '-f', '-'], { input: JSON.stringify(json) });
  expect(list.stdout).toBe(`${VM}/db-1 configured\n${VM}/web-1 unchanged\n`);
  const after = JSON.parse((await shared.ok(['get', 'qvm', '-o', 'json'])).stdout);
  expect(after.items.map(({ spec }: { spec: unknown }) => spec)).toEqual(
    json.items.map(({ spec }: { spec: unknown }) => spec),
  );
});

test('get shows hosts, monitors and several types at once', async () => {
  expect((await shared.ok(['get', 'qhost', '-o', 'name'])).stdout).toBe('host.qemu-operator.dev/localhost\n');
  expect((await shared.ok(['get', 'hosts', '-o', 'wide'])).stdout).toContain(shared.vmDir);
  expect((await shared.ok(['get', 'qmon'])).stderr).toContain('No resources found in default namespace.');
  const both = await shared.ok(['get', 'qvm,qhost', '--no-headers']);
  expect(both.stdout).toMatch(/^virtualmachine\S+\/db-1 [\s\S]*\n\nhost\.qemu-operator\.dev\/localhost /);
});

test('get -w prints what is there, then each change', async () => {
  const rig = ownRig();
  const file = rig.manifest('web-1');
  await rig.ok(['apply', LATER, '-f', file]);
  const watch = rig.start(['get', 'qvm', '-w', '-o', 'name']);
  await watch.says(/web-1\n/);
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-2')]);
  await watch.says(/web-2\n/);
  await rig.ok(['patch', 'qvm', 'web-1', LATER, '-p', 'spec: {vcpus: 3}']);
  await watch.says(/web-1\n[\s\S]*web-2\n[\s\S]*web-1\n/);
  const { code, stdout } = await watch.stop('SIGINT');
  expect(code).toBe(130);
  expect(stdout).toBe(`${VM}/web-1\n${VM}/web-2\n${VM}/web-1\n`);
});

test('apply takes files, folders, stdin and several documents; one bad document and nothing is written', async () => {
  const rig = ownRig();
  const document = (name: string, more = '') =>
    `apiVersion: qemu-operator.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: ${name}}\nspec: {architecture: x86_64${more}}\n`;
  mkdirSync(rig.path('folder', 'deep'), { recursive: true });
  writeFileSync(rig.path('folder', 'a.yaml'), `${document('a')}---\n${document('b')}`);
  writeFileSync(rig.path('folder', 'notes.txt'), 'no manifest');
  writeFileSync(rig.path('folder', 'deep', 'c.yml'), document('c'));
  expect((await rig.ok(['apply', LATER, '-f', rig.path('folder')])).stdout).toBe(`${VM}/a created\n${VM}/b created\n`);
  const deep = await rig.ok(['apply', LATER, '-R', '-f', rig.path('folder')]);
  expect(deep.stdout).toBe(`${VM}/a unchanged\n${VM}/b unchanged\n${VM}/c created\n`);
  const changed = await rig.ok(['apply', LATER, '-f', '-'], { input: document('a', ', vcpus: 4') });
  expect(changed.stdout).toBe(`${VM}/a configured\n`);

  const bad = await rig.run(['apply', LATER, '-f', '-'], {
    input: `${document('d')}---\n${document('e', ', vcpu: 4')}`,
  });
  expect(bad).toMatchObject({ code: 1, stdout: '' });
  expect(bad.stderr).toMatch(/^error: stdin: VirtualMachine "e" is invalid: spec.vcpu: .*did you mean vcpus/);
  expect((await rig.run(['get', 'qvm', 'd'])).code).toBe(3);

  const three = [document('a').replace('x86_64', 'arm64'), document('d'), document('e', ', vcpu: 4'), 'kind: Pod\n'];
  const several = await rig.run(['apply', LATER, '-f', '-'], { input: three.join('---\n') });
  expect(several).toMatchObject({ code: 1, stdout: '' });
  expect(several.stderr.match(/^error: /gm)).toHaveLength(3);
  for (const word of [/"e" is invalid: spec\.vcpu/, /Pod/, /architecture.*immutable/])
    expect(several.stderr).toMatch(word);
  expect((await rig.run(['get', 'qvm', 'd'])).code).toBe(3);

  const refused = await rig.run(['apply', LATER, '-f', '-'], { input: document('a').replace('x86_64', 'arm64') });
  expect(refused).toMatchObject({ code: 1, stderr: /architecture.*immutable/ });
  const dry = await rig.ok(['apply', '--dry-run', '-f', '-'], { input: document('f') });
  expect(dry.stdout).toBe(`${VM}/f created (dry run)\n`);
  expect((await rig.run(['get', 'qvm', 'f'])).code).toBe(3);
  expect(await rig.run(['apply', '-f', rig.path('nowhere.yaml')])).toMatchObject({ code: 1, stderr: /does not exist/ });
  expect((await rig.run(['apply'])).code).toBe(2);
  expect(
    (await rig.run(['apply', LATER, '-n', 'x', '-f', '-'], { input: document('g').replace('g}', 'g, namespace: y}') }))
      .stderr,
  ).toMatch(/does not match the namespace "x"/);
});

test('a resourceVersion that is no longer so is a conflict', async () => {
  const rig = ownRig();
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')]);
  const { stdout } = await rig.ok(['get', 'qvm', 'web-1', '-o', 'yaml']);
  await rig.ok(['patch', 'qvm', 'web-1', LATER, '-p', 'spec: {vcpus: 3}']);
  expect((await rig.run(['apply', LATER, '-f', '-'], { input: stdout })).code).toBe(4);
});

test('patch and annotate change what they name and nothing else', async () => {
  const rig = ownRig();
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')]);
  expect((await rig.ok(['patch', 'qvm', 'web-1', LATER, '-p', '{"spec":{"vcpus":3}}'])).stdout).toBe(
    `${VM}/web-1 patched\n`,
  );
  expect((await rig.ok(['patch', 'qvm/web-1', LATER, '-p', 'spec: {vcpus: 3}'])).stdout).toBe(
    `${VM}/web-1 patched (no change)\n`,
  );
  expect(await rig.run(['patch', 'qvm', 'web-1', LATER, '-p', 'spec: {vcpus: zero}'])).toMatchObject({
    code: 1,
    stderr: /spec\.vcpus/,
  });
  expect((await rig.run(['patch', 'qvm', 'web-1', '-p', 'status: {}'])).code).toBe(2);
  expect((await rig.ok(['annotate', 'qvm', 'web-1', 'note=one'])).stdout).toBe(`${VM}/web-1 annotated\n`);
  expect(await rig.run(['annotate', 'qvm', 'web-1', 'note=two'])).toMatchObject({
    code: 1,
    stderr: /--overwrite is false/,
  });
  await rig.ok(['annotate', 'qvm', 'web-1', 'note=two', '--overwrite']);
  const { spec, metadata } = parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'yaml'])).stdout);
  expect(spec).toMatchObject({ vcpus: 3, memory: '32Mi' });
  expect(metadata.annotations).toEqual({ note: 'two' });
  await rig.ok(['annotate', 'qvm', 'web-1', 'note-', LATER]);
  expect(parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'yaml'])).stdout).metadata.annotations).toBeUndefined();
});

/** An editor that runs these sed expressions, one per call. */
function editor(rig: CliRig, ...expressions: string[]): string {
  const path = rig.path('editor.sh');
  const count = `n=$(cat "$0.n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$0.n"; cp "$1" "$0.seen.$n"`;
  const cases = expressions.map((expression, i) => `${i + 1}) sed -i '${expression}' "$1" ;;`);
  writeFileSync(path, `#!/bin/sh\n${count}\ncase $n in\n${cases.join('\n')}\nesac\n`);
  chmodSync(path, 0o755);
  return path;
}

test('edit applies what was changed, comes back with a refusal, and leaves what was not changed alone', async () => {
  const rig = ownRig();
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')]);
  const EDITOR = editor(rig, 's/vcpus: 1/vcpus: none/', 's/vcpus: none/vcpus: 4/');
  const edited = await rig.ok(['edit', 'qvm', 'web-1', LATER], { env: { EDITOR } });
  expect(edited.stdout).toBe(`${VM}/web-1 edited\n`);
  expect(parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'yaml'])).stdout).spec.vcpus).toBe(4);
  expect(readFileSync(`${EDITOR}.seen.2`, 'utf8')).toMatch(/^# .*spec\.vcpus.*must be/m);

  const untouched = await rig.ok(['edit', 'qvm', 'web-1', LATER], { env: { EDITOR: 'true' } });
  expect(untouched).toMatchObject({ stdout: '', stderr: 'Edit cancelled, no changes made.\n' });
  const hopeless = await rig.run(['edit', 'qvm', 'web-1', LATER], {
    env: { EDITOR: `sed -i 's/vcpus: 4/vcpus: x/'`, TMPDIR: rig.root },
  });
  expect(hopeless).toMatchObject({ code: 1, stderr: /^error: .*spec\.vcpus.*\n.*no valid changes were saved/ });
  const [, kept = ''] = /A copy of your changes is in (\S+)/.exec(hopeless.stderr) ?? [];
  expect(readFileSync(kept, 'utf8')).toMatch(/vcpus: x$/m);
  expect((await rig.run(['edit', 'qvm', 'web-1'], { env: { EDITOR: 'false' } })).code).toBe(1);
});

test('edit ends where only the comment with the refusal changes', async () => {
  const rig = ownRig();
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')]);
  const EDITOR = editor(rig, ...Array.from({ length: 4 }, () => 's/x86_64/arm64/'));
  const refused = await rig.run(['edit', 'qvm', 'web-1', LATER], { env: { EDITOR, TMPDIR: rig.root } });
  expect(refused).toMatchObject({ code: 1, stderr: /^error: .*spec\.architecture.*\n.*no valid changes were saved/ });
  expect(readFileSync(`${EDITOR}.seen.2`, 'utf8')).toMatch(/^# .*x86_64/m);
  expect(existsSync(`${EDITOR}.seen.3`)).toBe(false);
});

test.each(['/', dirname(MAIN)])('advice that is given in %s works elsewhere too', async (cwd) => {
  const rig = ownRig();
  const { stderr } = await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')], { cwd });
  const [, program = '', entry = ''] = /\(see: (\S+) (\S+) run\)/.exec(stderr) ?? [];
  expect([isAbsolute(program), entry]).toEqual([true, MAIN]);
});

test('a protected object is not deleted, and one that no host has seen goes at once', async () => {
  const rig = ownRig();
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')]);
  await rig.ok(['annotate', 'qvm', 'web-1', 'qemu-operator.dev/protected=true', LATER]);
  const refused = await rig.run(['delete', 'qvm', 'web-1']);
  expect(refused).toMatchObject({ code: 1, stderr: /is protected by its annotation/ });
  await rig.ok(['annotate', 'qvm', 'web-1', 'qemu-operator.dev/protected-', LATER]);
  const deleted = await rig.ok(['delete', '-f', rig.path('web-1.yaml')]);
  expect(deleted).toEqual({ code: 0, stdout: `${VM} "web-1" deleted\n`, stderr: '' });
  expect((await rig.run(['delete', 'qvm', 'web-1'])).code).toBe(3);
  expect((await rig.run(['delete', 'qvm', 'web-1', '--ignore-not-found'])).code).toBe(0);
  expect((await rig.run(['delete', 'qvm'])).code).toBe(2);
});

test('manifests that do not count are told beside the answer', async () => {
  const rig = ownRig();
  await rig.ok(['apply', LATER, '-f', rig.manifest('web-1')]);
  writeFileSync(`${rig.store}/broken.yaml`, 'kind: [');
  writeFileSync(
    `${rig.store}/default/web-1.yaml`,
    'apiVersion: qemu-operator.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: web-1}\nspec: {architecture: sparc}\n',
  );
  for (const words of [
    ['get', 'qvm', 'web-1'],
    ['describe', 'qvm', 'web-1'],
  ]) {
    const { stderr } = await rig.ok(words);
    expect(stderr).toMatch(/^Warning: broken\.yaml: /m);
    expect(stderr).toMatch(/^Warning: ManifestInvalid: the manifest default\/web-1\.yaml does not count/m);
  }
});

test('usage errors, unknown commands and help', async () => {
  const rig = ownRig();
  for (const words of [
    ['frobnicate'],
    ['get'],
    ['get', 'pods'],
    ['start'],
    ['get', 'qvm', '-o', 'xml'],
    ['get', 'qvm', '--store', ''],
    ['--vm-dir=', 'get', 'qvm'],
    ['stop', 'a', '--timeout', 'soon'],
  ]) {
    const { code, stdout, stderr } = await rig.run(words);
    expect({ words, code, stdout }).toEqual({ words, code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: /);
  }
  const help = await rig.ok(['--help']);
  expect(help.stderr).toBe('');
  const commands = [...help.stdout.matchAll(/^ {2}([a-z]+) {2,}/gm)].map(([, name]) => name ?? '');
  expect(commands).toContain('quickstart');
  const helps = commands.filter((one) => one !== 'help').map((name) => rig.ok([name, '--help']));
  for (const { stdout } of await Promise.all(helps)) {
    expect(stdout).toMatch(/Examples:\n {2}# /);
    expect(stdout).toContain('--store <dir>');
  }
  expect((await rig.ok(['help', 'get'])).stdout).toContain('Usage: qemu-operator get');
  expect((await rig.ok(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+/);
});
