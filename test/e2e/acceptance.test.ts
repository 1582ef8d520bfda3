/**
 * The whole product as a person gets it: the packed tarball, installed in an empty folder by an ordinary user, with
 * nothing in the environment but HOME and a PATH. After each step QEMU, qemu-img and /proc are asked, never us.
 */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { NODE, ROOT } from '../stages.mjs';
import { packTarball } from '../tarball.mjs';
import { imageInfo } from './support/images.ts';
import { qmp, runState } from './support/oracle.ts';
import { until } from './support/wait.ts';

const run = promisify(execFile);
const GIB = 1024 ** 3;
const SYSTEM_PATH = '/usr/local/bin:/usr/bin:/bin';
const INSTALL_MS = 180_000;
const LIFE_MS = 300_000;

let user: ReturnType<typeof ordinaryUser>;
let bin: string;
let path: string;
let vmDir: string;

/** Program and arguments that run `args` as the user with only HOME and PATH, in `cwd`. */
function bare(cwd: string, args: readonly string[], search = path): [string, string[]] {
  return user.command([
    'env',
    '--ignore-environment',
    `--chdir=${cwd}`,
    `HOME=${user.home}`,
    `PATH=${search}`,
    ...args,
  ]);
}

beforeAll(async () => {
  user = ordinaryUser();
  const nodeFolder = join(user.home, 'node');
  const install = join(user.home, 'install');
  for (const folder of [nodeFolder, install]) execFileSync(...user.command(['mkdir', folder]));
  copyFileSync(realpathSync(NODE), join(nodeFolder, 'node'));
  chmodSync(join(nodeFolder, 'node'), 0o755);
  path = `${nodeFolder}:${SYSTEM_PATH}`;
  vmDir = join(user.home, '.local/share/qemu-operator');
  bin = join(install, 'node_modules/.bin/qemu-operator');
  const tarball = packTarball(user.home);
  chmodSync(tarball, 0o644);
  const registry = execFileSync('npm', ['config', 'get', 'registry'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();
  const options = ['--no-audit', '--no-fund', '--no-update-notifier', `--registry=${registry}`];
  // The system's own npm and Node install it, whatever they are.
  await run(...bare(install, ['npm', 'install', ...options, tarball], SYSTEM_PATH));
}, INSTALL_MS);

afterAll(() => user?.remove());

/** The VM's process as /proc knows it; undefined where there is none. */
function processOf(folder: string): { pid: number; argv: string[] } | undefined {
  const pidfile = join(folder, 'qemu.pid');
  const pid = existsSync(pidfile) ? Number(readFileSync(pidfile, 'utf8')) : 0;
  const cmdline = `/proc/${pid}/cmdline`;
  return pid > 0 && existsSync(cmdline) ? { pid, argv: readFileSync(cmdline, 'utf8').split('\0') } : undefined;
}

test('quickstart gives a running Linux whose console answers, and takes it away', { timeout: LIFE_MS }, async () => {
  const folder = join(vmDir, 'quickstart');
  const { stdout, stderr } = await run(...bare(user.home, [bin, 'quickstart']));
  const said = `${stdout}${stderr}`;
  expect(said).toMatch(/Running/);
  expect(said).toMatch(/linux:~#/);
  expect(said).toMatch(/qemu-operator console quickstart/);
  const process = processOf(folder);
  expect(process?.argv[0]).toMatch(/qemu-system-x86_64$/);
  expect(await runState(folder)).toBe('running');
  const console = await TestConsole.to(join(folder, 'console.sock'));
  console.say('echo $((6*7))');
  await console.hears(/\b42\b/);
  console.close();

  await run(...bare(user.home, [bin, 'quickstart']));
  expect(processOf(folder)?.pid).toBe(process?.pid);

  await run(...bare(user.home, [bin, 'quickstart', '--remove']));
  expect(processOf(folder)).toBeUndefined();
  expect(existsSync(folder)).toBe(false);
});

interface Answer {
  readonly success: boolean;
  readonly message: string;
  readonly data: Record<string, unknown>;
}

async function call(client: Client, name: string, args: Record<string, unknown>): Promise<Answer> {
  const result = await client.callTool({ name, arguments: args });
  const answer = result.structuredContent as unknown as Answer;
  expect(JSON.parse((result.content as { text: string }[])[0]?.text ?? '')).toEqual(answer);
  expect(answer, JSON.stringify(answer)).toMatchObject({ success: true });
  return answer;
}

/** A client that got its server from the install alone. */
async function connected(): Promise<Client> {
  const [command, args] = bare('/', [bin, 'mcp']);
  const client = new Client({ name: 'acceptance', version: '1' });
  await client.connect(new StdioClientTransport({ command, args, cwd: '/', stderr: 'inherit' }));
  return client;
}

test('a model drives a Linux through its whole life', { timeout: LIFE_MS }, async () => {
  const disk = join(user.home, 'disks', 'linux.qcow2');
  const folder = join(vmDir, 'model-vm');
  const image = await linuxGuest();
  execFileSync(...user.command(['mkdir', join(user.home, 'disks')]));
  copyFileSync(image, disk);
  execFileSync('chown', [`--reference=${user.home}`, disk]);
  const before = imageInfo(disk)['virtual-size'];
  const client = await connected();
  const manage = (args: Record<string, unknown>) => call(client, 'manage_vm', { name: 'model-vm', ...args });
  try {
    await manage({ action: 'create', arch: 'x86_64', memory: '256M', vcpus: 1, disk: `path=${disk}` });
    expect(imageInfo(disk)['virtual-size']).toBe(before);
    expect(processOf(folder)).toBeUndefined();

    await manage({ action: 'start' });
    expect(await runState(folder)).toBe('running');
    const started = processOf(folder);
    expect(started?.argv).toContain('256M');

    const listed = await call(client, 'list_vms', { status: 'running' });
    expect(listed.data).toMatchObject({
      vm_count: 1,
      vms: [{ name: 'model-vm', arch: 'x86_64', vcpus: 1, status: 'running' }],
    });

    await until(
      'the guest reaches its shell',
      () => readFileSync(join(folder, 'console.log'), 'utf8'),
      (text) => text.includes('linux:~#'),
      60_000,
    );
    const monitored = await call(client, 'monitor_vm_status', { name: 'model-vm', interval: 1, count: 2 });
    const figures = monitored.data['metrics_data'] as { memory: { residentBytes: number }[]; cpu: object[] };
    expect(monitored.data['timestamp']).toHaveLength(2);
    expect(figures.cpu).toHaveLength(2);
    const resident = Number(readFileSync(`/proc/${started?.pid}/statm`, 'utf8').split(' ')[1]) * 4096;
    expect(Math.abs((figures.memory[1]?.residentBytes ?? 0) - resident)).toBeLessThan(resident / 4);

    await manage({ action: 'modify', disk: `path=${disk},size=1G` });
    expect(imageInfo(disk)['virtual-size']).toBe(GIB);
    expect(processOf(folder)?.pid).toBe(started?.pid);
    const blocks = await qmp<{ inserted?: { image: { 'virtual-size': number } } }[]>(folder, 'query-block');
    expect(blocks.map(({ inserted }) => inserted?.image['virtual-size'])).toContain(GIB);

    const modified = await manage({ action: 'modify', memory: '384M' });
    expect(JSON.stringify(modified)).toMatch(/restart/i);
    expect(processOf(folder)?.argv).toContain('384M');
    expect(processOf(folder)?.pid).not.toBe(started?.pid);
    expect(await runState(folder)).toBe('running');

    await manage({ action: 'stop' });
    expect(processOf(folder)).toBeUndefined();

    const deleted = await manage({ action: 'delete' });
    expect(JSON.stringify(deleted.data)).toContain('kept_disks');
    expect(existsSync(folder)).toBe(false);
    expect(imageInfo(disk)['virtual-size']).toBe(GIB);
  } finally {
    await client.close();
  }
});

test('a disk that was made for a VM is made at its size and goes with it', { timeout: LIFE_MS }, async () => {
  const folder = join(vmDir, 'made');
  const client = await connected();
  const manage = (args: Record<string, unknown>) => call(client, 'manage_vm', { name: 'made', ...args });
  try {
    await manage({ action: 'create', arch: 'x86_64', memory: '128M' });
    const disk = readdirSync(folder).find((name) => name.endsWith('.qcow2')) ?? '';
    expect(imageInfo(join(folder, disk))).toMatchObject({ format: 'qcow2', 'virtual-size': 20 * GIB });
    await manage({ action: 'start' });
    expect(await runState(folder)).toBe('running');
    await manage({ action: 'stop', force: true });
    expect(processOf(folder)).toBeUndefined();
    await manage({ action: 'delete' });
    expect(existsSync(folder)).toBe(false);
  } finally {
    await client.close();
  }
});

test('VMs outlive the server that a model client spawned', { timeout: LIFE_MS }, async () => {
  mkdirSync(vmDir, { recursive: true });
  const folder = join(vmDir, 'outlives');
  const first = await connected();
  await call(first, 'manage_vm', { name: 'outlives', action: 'create', arch: 'x86_64', memory: '64M' });
  await call(first, 'manage_vm', { name: 'outlives', action: 'start' });
  const before = processOf(folder)?.pid;
  await first.close();
  expect(processOf(folder)?.pid).toBe(before);

  const second = await connected();
  try {
    const listed = await call(second, 'list_vms', {});
    expect(listed.data).toMatchObject({ vms: [{ name: 'outlives', status: 'running' }] });
    expect(processOf(folder)?.pid).toBe(before);
    await call(second, 'manage_vm', { name: 'outlives', action: 'delete', force: true });
    expect(existsSync(folder)).toBe(false);
  } finally {
    await second.close();
  }
});

interface Snippet {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** What a README tells people to put into their client. */
function snippetOf(readme: string): Snippet {
  const json = /```json\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, readme), 'utf8'))?.[1] ?? '';
  return (JSON.parse(json) as { mcpServers: Record<string, Snippet> }).mcpServers['qemu-operator'] as Snippet;
}

test.each([
  ['README.md', /^Found|listed|VMs?\b/],
  ['README.zh-CN.md', /成功获取/],
])('the client snippet of %s starts the server', { timeout: LIFE_MS }, async (readme, message) => {
  const { command, args, env = {} } = snippetOf(readme);
  const settings = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const [program, words] = bare('/', [...settings, command, ...args], `${dirname(bin)}:${path}`);
  const client = new Client({ name: 'acceptance', version: '1' });
  await client.connect(new StdioClientTransport({ command: program, args: words, cwd: '/', stderr: 'inherit' }));
  try {
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name).sort()).toEqual(['list_vms', 'manage_vm', 'monitor_vm_status']);
    expect((await call(client, 'list_vms', {})).message).toMatch(message);
  } finally {
    await client.close();
  }
});
