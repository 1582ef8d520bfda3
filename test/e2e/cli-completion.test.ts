/** Completion in real shells: what the Tab key would offer, and that asking makes nothing. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig, MAIN } from './support/cli-rig.ts';

/** The command on PATH, as an installation has it. */
function installed(): { rig: CliRig; env: Record<string, string> } {
  const rig = new CliRig(onTestFinished);
  mkdirSync(rig.path('bin'));
  writeFileSync(rig.path('bin', 'qemu-operator'), `#!/bin/sh\nexec "${process.execPath}" "${MAIN}" "$@"\n`);
  chmodSync(rig.path('bin', 'qemu-operator'), 0o755);
  return { rig, env: { ...rig.env, PATH: `${rig.path('bin')}:${rig.env['PATH']}`, TERM: 'dumb' } };
}

/** What bash would put in place of the word at the end of the line. */
function byBash(env: Record<string, string>, cwd: string, line: string): string[] {
  const script = `
    . <(qemu-operator completion bash)
    compopt() { echo "compopt $*"; }
    COMP_LINE=$1 COMP_POINT=\${#1}
    $(complete -p qemu-operator | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = execFileSync('bash', ['--norc', '-c', script, 'bash', line], { env, cwd, encoding: 'utf8' });
  return out.split('\n').filter((word) => word !== '');
}

test('commands, options, choices, files, types and live names, in bash', async () => {
  const { rig, env } = installed();
  const bash = (line: string) => byBash(env, rig.root, `qemu-operator ${line}`);
  expect(bash('st')).toEqual(['start', 'stop']);
  expect(bash('get qvm --all')).toEqual(['--all-namespaces']);
  expect(bash('--st')).toEqual(['--store']);
  expect(bash('get qvm -o ')).toEqual(['wide', 'yaml', 'json', 'name']);
  // Bash breaks words at =, and replaces what follows.
  expect(bash('get qvm --output=w')).toEqual(['wide']);
  expect(bash('apply -f ')).toEqual(['compopt -o default']);
  expect(bash('--store ')).toEqual(['compopt -o dirnames']);
  expect(bash('completion z')).toEqual(['zsh']);
  expect(bash('get virt')).toEqual(['virtualmachines', 'virtualmachinemonitors']);
  expect(bash('help sta')).toEqual(['start']);
  // Nobody has used a store yet, and completing makes none.
  expect(bash('start ')).toEqual([]);
  expect(existsSync(rig.store)).toBe(false);

  for (const [name, namespace] of [
    ['web-1', 'default'],
    ['web-2', 'default'],
    ['db-1', 'prod'],
  ])
    await rig.ok([
      'apply',
      '-f',
      rig.manifest(name ?? '', { powerState: 'PoweredOff' }, { namespace }),
      '--wait=false',
    ]);
  expect(bash('start ')).toEqual(['web-1', 'web-2']);
  expect(bash('start web-1 ')).toEqual(['web-2']);
  expect(bash('-n prod start ')).toEqual(['db-1']);
  expect(bash('start --namespace=prod d')).toEqual(['db-1']);
  expect(bash('-n ')).toEqual(['default', 'prod']);
  expect(bash('describe qvm ')).toEqual(['web-1', 'web-2']);
  expect(bash('get qvm/')).toEqual(['qvm/web-1', 'qvm/web-2']);
  expect(bash('get qhost ')).toEqual(['localhost']);
  expect(bash('screenshot web-1 -o ')).toEqual(['compopt -o default']);
  expect(bash(`--store ${rig.path('elsewhere')} start `)).toEqual([]);
  expect(existsSync(rig.path('elsewhere'))).toBe(false);
  expect(bash('nonsense ')).toEqual([]);
  expect(bash('get nonsense ')).toEqual([]);
}, 240_000);

test('the Tab key of an interactive bash', async () => {
  const { rig, env } = installed();
  await rig.ok(['apply', '-f', rig.manifest('web-1', { powerState: 'PoweredOff' }), '--wait=false']);
  const child = spawn('script', ['-qec', 'bash --norc -i', '/dev/null'], { env, cwd: rig.root });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stdin.write('. <(qemu-operator completion bash)\nqemu-operator annot\tqv\twe\ta=b\nexit\n');
  await new Promise((resolve) => child.on('close', resolve));
  expect(text).toContain('virtualmachine.qemu-operator.dev/web-1 annotated');
});

test('in zsh', async () => {
  const { rig, env } = installed();
  await rig.ok(['apply', '-f', rig.manifest('web-1', { powerState: 'PoweredOff' }), '--wait=false']);
  const script = `
    compdef() { :; }; _files() { print files "$@"; }; _describe() { print -l -- "\${(@P)2}"; }
    eval "$(qemu-operator completion zsh)"
    words=("\${(@)@}"); CURRENT=\${#words}; _qemu_operator`;
  const zsh = (...words: string[]) =>
    execFileSync('zsh', ['-fc', script, 'zsh', 'qemu-operator', ...words], { env, encoding: 'utf8' })
      .trim()
      .split('\n');
  expect(zsh('sta')).toEqual(['start:Start virtual machines']);
  expect(zsh('start', '')).toEqual([expect.stringMatching(/^web-1:/)]);
  expect(zsh('apply', '-f', '')).toEqual(['files']);
});

test('in fish', async () => {
  const { rig, env } = installed();
  await rig.ok(['apply', '-f', rig.manifest('web-1', { powerState: 'PoweredOff' }), '--wait=false']);
  const fish = (line: string) =>
    execFileSync('fish', ['-c', `qemu-operator completion fish | source; complete -C '${line}'`], {
      env,
      encoding: 'utf8',
    })
      .trim()
      .split('\n');
  expect(fish('qemu-operator sta')).toEqual(['start\tStart virtual machines']);
  expect(fish('qemu-operator start ')).toEqual([expect.stringMatching(/^web-1\b/)]);
});
