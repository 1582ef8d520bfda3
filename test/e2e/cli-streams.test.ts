/** console, vnc and logs as people use them: a terminal, a viewer, a pipe. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CliRig, MAIN, Running } from './support/cli-rig.ts';
import { until } from './support/wait.ts';

const ESCAPE = '\u001d';
const cleanups: (() => Promise<void>)[] = [];
let rig: CliRig;

beforeAll(async () => {
  rig = new CliRig((work) => cleanups.push(work));
  await rig.ok(['apply', '-f', rig.manifest('web-1', { graphics: { vnc: {} } })]);
});

afterAll(async () => {
  for (const work of cleanups.toReversed()) await work();
});

/** A command on a pseudo-terminal of its own; what is written to its stdin is typed. */
function onTerminal(command: string): Running {
  const words = ['--quiet', '--flush', '--return', '--command', command, '/dev/null'];
  const child = spawn('script', words, { cwd: rig.root, env: { ...rig.env, SHELL: '/bin/sh' }, stdio: 'pipe' });
  return new Running(child, undefined);
}

const console_ = `'${process.execPath}' '${MAIN}' console web-1`;

test('console on a terminal: raw while attached, as it was afterwards; a second client is told who holds it', async () => {
  const terminal = onTerminal(`${console_}; echo "code $?"; stty -a`);
  await terminal.says(/Connected to the console of web-1\. The escape key is \^\]\./);
  const second = await rig.run(['console', 'web-1'], { input: '' });
  expect(second.code).toBe(4);
  expect(second.stderr).toMatch(/^error: the console is held by \S+ on \S+ \(pid \d+\) since \d{4}-/);
  terminal.child.stdin?.write(ESCAPE);
  const { stdout } = await terminal.ended;
  expect(stdout).toMatch(/Disconnected from web-1\./);
  expect(stdout).toMatch(/code 0/);
  expect(stdout).toMatch(/[^-]icanon/);
  expect(stdout).toMatch(/[^-]echo /);
});

test('console ends with its machine, and says that a machine is not running', async () => {
  const terminal = onTerminal(`${console_}; echo "code $?"`);
  await terminal.says(/Connected/);
  await rig.ok(['restart', 'web-1']);
  expect((await terminal.ended).stdout).toMatch(/The console of web-1 has ended\.\s+code 0/);
  await rig.ok(['stop', 'web-1']);
  expect(await rig.run(['console', 'web-1'])).toMatchObject({ code: 1, stderr: /it is not running \(Stopped\)/ });
  await rig.ok(['start', 'web-1']);
  expect((await rig.run(['console', 'web-1', '--escape', '^^^'])).code).toBe(2);
  expect((await rig.run(['console', 'nobody'])).code).toBe(3);
});

test('vnc serves one viewer on the loopback, and ends with it', async () => {
  const screen = rig.start(['vnc', 'web-1']);
  await screen.says(/Password: \S{8}\n/);
  const port = Number(/Address: +127\.0\.0\.1:(\d+)/.exec(screen.stdout)?.[1]);
  const viewer = connect(port, '127.0.0.1');
  const [greeting] = await once(viewer, 'data');
  expect(String(greeting)).toMatch(/^RFB 003\.008\n/);
  const late = connect(port, '127.0.0.1');
  await expect(once(late, 'connect')).rejects.toThrow();
  viewer.destroy();
  expect(await screen.ended).toMatchObject({ code: 0, stderr: /The viewer has left\./ });

  const second = rig.start(['vnc', 'web-1']);
  await second.says(/Password/);
  expect((await second.stop('SIGINT')).code).toBe(130);
});

test('logs prints history and QEMU’s log, or the console, and follows it', async () => {
  const { stdout } = await rig.ok(['logs', 'web-1']);
  expect(stdout).toMatch(/^==> history <==\n(?:\d{4}-\S+Z {2}\w+ {2}.*\n)+\n==> qemu\.log <==\n/);
  expect(stdout).toMatch(/Running {2}the guest is running\n\n==>/);
  await until(
    'the guest is up',
    async () => (await rig.ok(['logs', 'web-1', '--console'])).stdout,
    (text) => /TINY-UP/.test(text),
  );
  const following = rig.start(['logs', 'web-1', '--console', '-f', '--tail', '0']);
  await rig.ok(['restart', 'web-1']);
  await following.says(/TINY-UP/);
  expect((await following.stop('SIGTERM')).code).toBe(143);
  expect((await rig.run(['logs', 'nobody'])).code).toBe(3);
});
