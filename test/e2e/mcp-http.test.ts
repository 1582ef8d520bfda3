/** The MCP tools over HTTP on one box: the official SDK's client and curl at the door of a real `run`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openFileStore } from '../../src/store/file-store.ts';
import { writeTinyDisk } from '../guests/tiny.ts';
import { isAlive, openMcp, pidOf } from './mcp-client.ts';
import { CliRig, type Running } from './support/cli-rig.ts';
import { logOf } from './support/doors.ts';
import { bearer, curl, INITIALIZE, mcpAddress, message, openHttpMcp } from './support/mcp-http.ts';
import { boundBy } from './support/sockets.ts';
import { until } from './support/wait.ts';

const ends: (() => unknown)[] = [];
const rig = new CliRig((end) => ends.push(end));
let running: Running;
let address: string;

const tokenFile = (role: string) => join(rig.store, '.state', 'mcp', `${role}.token`);
const tokenOf = (role: string) => readFileSync(tokenFile(role), 'utf8').trim();

async function serve(words: readonly string[] = []): Promise<Running> {
  const started = rig.start(['run', '--log-format', 'json', '--mcp-bind-address', '127.0.0.1:0', ...words]);
  ends.push(() => started.stop('SIGKILL'));
  await started.says(/controller started/);
  return started;
}

beforeAll(async () => {
  running = await serve();
  address = await mcpAddress(running);
});

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

async function client(role = 'edit') {
  const opened = await openHttpMcp(address, tokenOf(role));
  onTestFinished(() => opened.client.close());
  return opened;
}

/** A VM that runs. */
async function guest(name: string): Promise<void> {
  const { call } = await client();
  const path = rig.path('images', `${name}.raw`);
  await writeTinyDisk(path);
  const made = { name, action: 'create', arch: 'x86_64', memory: '32M', disk: `path=${path}` };
  expect(await call('manage_vm', made)).toMatchObject({ success: true });
  expect(await call('manage_vm', { name, action: 'start' })).toMatchObject({ success: true });
}

async function monitors(): Promise<number> {
  const store = await openFileStore({ dir: rig.store });
  try {
    return (await store.list('VirtualMachineMonitor')).items.length;
  } finally {
    await store.close();
  }
}

const noMonitors = () => until('no monitor is left', monitors, (count) => count === 0, 5_000);

const calls = () => logOf(running).filter(({ msg }) => msg === 'MCP call');

/** A session as curl has it. */
async function session(role = 'edit'): Promise<string[]> {
  const { status, headers } = await curl(address, message(INITIALIZE, bearer(tokenOf(role))));
  expect(status).toBe(200);
  return [...bearer(tokenOf(role)), '-H', `Mcp-Session-Id: ${headers['mcp-session-id']}`];
}

const LIST = { id: 2, method: 'tools/list' };

describe('the tools', () => {
  test('are those over stdio, word for word', async () => {
    const place = { root: rig.root, store: rig.store, vmDir: rig.vmDir, clear: () => undefined };
    const stdio = await openMcp(place);
    const { tools } = await stdio.client.listTools();
    await stdio.close();
    expect(tools.map(({ name }) => name)).toEqual(['list_vms', 'manage_vm', 'monitor_vm_status']);
    expect((await (await client()).client.listTools()).tools).toEqual(tools);
  });

  test('the life of a VM, each step as the kernel has it, and told in the log', async () => {
    const { call } = await client();
    await guest('life');
    const pid = pidOf(rig.vmDir, 'life') ?? 0;
    expect(isAlive(pid)).toBe(true);
    const told: number[] = [];
    const sampled = await call(
      'monitor_vm_status',
      { name: 'life', interval: 1, count: 2 },
      { onprogress: ({ progress, total }) => told.push(progress, total ?? 0) },
    );
    expect(sampled).toMatchObject({ success: true, data: { completed: true } });
    expect(told).toEqual([1, 2, 2, 2]);
    expect(
      (await call('list_vms', { status: 'running' })).data.vms.map(({ name }: { name: string }) => name),
    ).toContain('life');
    expect(await call('manage_vm', { name: 'life', action: 'stop', force: true })).toMatchObject({ success: true });
    expect(isAlive(pid)).toBe(false);
    expect(await call('manage_vm', { name: 'life', action: 'delete' })).toMatchObject({ success: true });
    expect(existsSync(join(rig.vmDir, 'life'))).toBe(false);
    expect(await call('manage_vm', { name: 'life', action: 'start' })).toMatchObject({ isError: true });
    const actions = await until(
      'the log has them',
      () => calls().filter(({ name }) => name === 'life'),
      ({ length }) => length === 6,
      5_000,
    );
    expect(actions.map(({ user, tool, action, outcome }) => [user, tool, action ?? '', outcome].join(' '))).toEqual([
      'edit manage_vm create Success',
      'edit manage_vm start Success',
      'edit monitor_vm_status  Success',
      'edit manage_vm stop Success',
      'edit manage_vm delete Success',
      'edit manage_vm start NotFound',
    ]);
  });

  test('two clients do not hear of each other', async () => {
    await guest('shared');
    const [one, other] = [await client(), await client()];
    const heard: string[] = [];
    other.client.fallbackNotificationHandler = async ({ method }) => void heard.push(method);
    const told: number[] = [];
    const args = { name: 'shared', interval: 1, count: 2 };
    await Promise.all([
      one.call('monitor_vm_status', args, { onprogress: ({ progress }) => told.push(progress) }),
      other.call('list_vms', {}),
    ]);
    expect([told, heard]).toEqual([[1, 2], []]);
  });

  test('a path of a key is refused: it would be one of this machine', async () => {
    const { call } = await client();
    const answer = await call('list_vms', { host: '192.0.2.1', ssh_user: 'x', ssh_key: '/etc/shadow' });
    expect(answer).toMatchObject({ isError: true, data: { error: { code: 'InvalidArgument', field: 'ssh_key' } } });
  });
});

describe('who comes in', () => {
  test('tokens are files of their owner alone, and stay over a restart; the loopback alone listens', async () => {
    expect(['edit', 'view'].map((role) => statSync(tokenFile(role)).mode & 0o777)).toEqual([0o600, 0o600]);
    expect(statSync(join(rig.store, '.state', 'mcp')).mode & 0o777).toBe(0o700);
    expect(logOf(running).map(({ path }) => path)).toEqual(
      expect.arrayContaining([tokenFile('edit'), tokenFile('view')]),
    );
    expect(tokenOf('edit')).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(tokenOf('edit')).not.toBe(tokenOf('view'));
    const before = tokenOf('edit');
    const second = rig.start(['run', '--log-format', 'json', '--mcp-bind-address', ':0']);
    onTestFinished(async () => void (await second.stop()));
    const other = await mcpAddress(second);
    expect(other).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(boundBy(second.child.pid ?? 0, 'tcp')).toEqual([other]);
    expect(tokenOf('edit')).toBe(before);
    // It stands by, and its clients edit the same objects.
    const { call, client: opened } = await openHttpMcp(other, before);
    expect(await call('list_vms', {})).toMatchObject({ success: true });
    await opened.close();
  });

  const challenge = 'Bearer realm="qemu-operator"';
  test.each([
    ['no token', () => [], challenge],
    ['a wrong one', () => bearer('x'.repeat(43)), `${challenge}, error="invalid_token"`],
    ['a part of one', () => bearer(tokenOf('edit').slice(0, -1)), `${challenge}, error="invalid_token"`],
    ['an empty one', () => ['-H', 'Authorization: Bearer '], challenge],
    ['another scheme', () => ['-u', `edit:${tokenOf('edit')}`], challenge],
    ['one in the address', () => ['-G', '-d', `access_token=${tokenOf('edit')}`], challenge],
  ])('%s: 401, and what is asked for', async (_what, words, header) => {
    for (const method of ['POST', 'GET', 'DELETE']) {
      const answer = await curl(address, ['-X', method, ...words()]);
      expect([answer.status, answer.headers['www-authenticate']]).toEqual([401, header]);
    }
  });

  test('view.token lists and samples, and changes nothing', async () => {
    const { client: opened, call } = await client('view');
    expect((await opened.listTools()).tools.map(({ name }) => name)).toEqual(['list_vms', 'monitor_vm_status']);
    expect(await call('list_vms', {})).toMatchObject({ success: true });
    const refused = await call('manage_vm', { name: 'no', action: 'create', arch: 'x86_64' });
    expect(refused).toMatchObject({ isError: true, data: { error: { code: 'ReadOnly' } } });
    expect(existsSync(join(rig.vmDir, 'no'))).toBe(false);
  });

  test("a token that is replaced, or that others can read, ends at once, and its client's stream with it", async () => {
    const before = tokenOf('view');
    const { streamEnded } = await client('view');
    chmodSync(tokenFile('view'), 0o644);
    expect((await curl(address, message(INITIALIZE, bearer(before)))).status).toBe(401);
    await streamEnded;
    chmodSync(tokenFile('view'), 0o600);
    expect((await curl(address, message(INITIALIZE, bearer(before)))).status).toBe(200);
    writeFileSync(tokenFile('view'), 'a-token-of-ones-own-that-nobody-can-guess\n');
    expect((await curl(address, message(INITIALIZE, bearer(before)))).status).toBe(401);
    expect((await curl(address, message(INITIALIZE, bearer(tokenOf('view'))))).status).toBe(200);
    rmSync(tokenFile('view'));
    expect((await curl(address, message(INITIALIZE, bearer('')))).status).toBe(401);
    writeFileSync(tokenFile('view'), before, { mode: 0o600 });
  });

  test('a token that others can read, or that could be guessed, keeps the door shut', async () => {
    const other = new CliRig((end) => ends.push(end));
    const words = ['run', '--log-format', 'json', '--mcp-bind-address', '127.0.0.1:0'];
    const first = other.start(words);
    await mcpAddress(first);
    await first.stop();
    const file = join(other.store, '.state', 'mcp', 'edit.token');
    chmodSync(file, 0o640);
    expect(await other.run(words)).toMatchObject({ code: 1, stderr: expect.stringContaining(`chmod 600 ${file}`) });
    writeFileSync(file, 'secret\n');
    chmodSync(file, 0o600);
    expect(await other.run(words)).toMatchObject({ code: 1, stderr: expect.stringContaining('32 characters') });
  });

  test('no token is in the log, in a command line, in an environment or in an object', async () => {
    const { call } = await client();
    await call('manage_vm', {
      name: 'none',
      action: 'start',
      host: '192.0.2.1',
      ssh_user: 'x',
      ssh_pwd: 'hunter2hunter2',
    });
    const pid = running.child.pid ?? 0;
    const seen = ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8'));
    const objects = (await rig.ok(['get', 'qvm,qhost', '--all-namespaces', '-o', 'json'])).stdout;
    const files = readdirSync(rig.store, { recursive: true, withFileTypes: true })
      .filter((one) => one.isFile() && !one.name.endsWith('.token'))
      .map((one) => readFileSync(join(one.parentPath, one.name), 'latin1'));
    const all = [...seen, objects, ...files, running.stderr, running.stdout].join('\n');
    expect(all).toContain('MCP call');
    for (const secret of [tokenOf('edit'), tokenOf('view'), 'hunter2hunter2']) expect(all).not.toContain(secret);
  }, 60_000);
});

describe('Host and Origin', () => {
  test.each([
    ['Host: evil.example', 403],
    ['Host: localhost.evil.example', 403],
    ['Host: 127.0.0.1.evil.example:80', 403],
    ['Host: localhost@evil.example', 403],
    ['Host: vms.example.org', 403],
    ['Host:', 400],
    ['Origin: http://evil.example', 403],
    ['Origin: http://localhost.evil.example', 403],
    ['Origin: http://192.0.2.1', 403],
    ['Origin: null', 403],
    ['Origin: file://', 403],
    ['Host: localhost:8082', 200],
    ['Host: [::1]:8082', 200],
    ['Origin: http://localhost:6274', 200],
    ['Origin: http://127.0.0.1:6274', 200],
  ])('%s: %i, with a token that counts', async (header, status) => {
    const answer = await curl(address, message(INITIALIZE, [...bearer(tokenOf('edit')), '-H', header]));
    expect(answer.status).toBe(status);
    // No page of another site may read it.
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
  });

  test('names that were said are those of the door, and of pages', async () => {
    const named = rig.start([
      ...['run', '--log-format', 'json', '--mcp-bind-address', '127.0.0.1:0'],
      ...['--mcp-allowed-host', 'vms.example.org', '--mcp-allowed-host', 'vms'],
    ]);
    onTestFinished(async () => void (await named.stop()));
    const other = await mcpAddress(named);
    const asked = async (header: string) =>
      (await curl(other, message(INITIALIZE, [...bearer(tokenOf('edit')), '-H', header]))).status;
    expect(await asked('Host: vms.example.org')).toBe(200);
    expect(await asked('Host: VMS:443')).toBe(200);
    expect(await asked('Origin: https://vms.example.org')).toBe(200);
    expect(await asked('Host: x.vms.example.org')).toBe(403);
    expect(await asked('Origin: https://x.vms.example.org')).toBe(403);
  });
});

describe('answers of the protocol', () => {
  const token = () => bearer(tokenOf('edit'));

  test.each<[string, () => Promise<string[]> | string[], number, RegExp]>([
    ['another path', () => [...token(), '--path-as-is'], 404, /page not found/],
    ['PUT', () => ['-X', 'PUT', ...token()], 405, /not allowed/],
    ['OPTIONS, as a page would ask', () => ['-X', 'OPTIONS', ...token()], 405, /not allowed/],
    ['a body that is no JSON', () => message('{', token()), 400, /-32700/],
    ['a body that is no message', () => message({ nonsense: 1 }, token()), 400, /-32700/],
    [
      'a body of another type',
      () => [...token(), '-H', 'Accept: application/json, text/event-stream', '-d', '{}'],
      415,
      /./,
    ],
    [
      'a client that takes no stream',
      () => [...token(), ...JSON_TYPE, '-H', 'Accept: application/json', '-d', '{}'],
      406,
      /./,
    ],
    ['a body that is too large', () => message(`@${large()}`, token()), 413, /must not exceed/],
    ['one that does not say so before', () => message(`@${large()}`, [...token(), ...CHUNKED]), 413, /must not exceed/],
    ['a call without a session', () => message(LIST, token()), 400, /not initialized/],
    ['a session that is not there', () => message(LIST, [...token(), '-H', 'Mcp-Session-Id: 0']), 404, /-32001/],
    [
      'a session of another',
      async () => message(LIST, [...bearer(tokenOf('view')), ...(await session()).slice(2)]),
      404,
      /-32001/,
    ],
    ['a stream without a session', () => [...token(), '-H', 'Accept: text/event-stream'], 400, /./],
    [
      'an unknown version',
      async () => message(LIST, [...(await session()), '-H', 'MCP-Protocol-Version: 1999-01-01']),
      400,
      /version/,
    ],
    ['a second initialize', async () => message(INITIALIZE, await session()), 400, /already initialized/],
  ])('%s: answered as the specification has it', async (what, words, status, text) => {
    const answer = await curl(address, await words(), what === 'another path' ? '/' : '/mcp');
    expect(answer).toMatchObject({ status, text: expect.stringMatching(text) });
    expect(answer.text).not.toMatch(/node_modules|\.ts:|\.js:/);
    if (status === 405) expect(answer.headers['allow']).toBe('GET, POST, DELETE');
  });
  const JSON_TYPE = ['-H', 'Content-Type: application/json'];
  const CHUNKED = ['-H', 'Transfer-Encoding: chunked'];
  const large = () => {
    writeFileSync(rig.path('large'), 'x'.repeat(300_000));
    return rig.path('large');
  };

  test('a body that does not come: its connection is ended', async () => {
    const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const head = ['POST /mcp HTTP/1.1', 'Host: localhost', 'Content-Type: application/json', 'Content-Length: 99'];
    const accept = 'Accept: application/json, text/event-stream';
    socket.write([...head, accept, `Authorization: Bearer ${tokenOf('edit')}`, '', '{'].join('\r\n'));
    await once(socket, 'close', { signal: AbortSignal.timeout(20_000) });
    expect(text).toContain('408 Request Timeout');
  });

  test('a session ends with DELETE, once', async () => {
    const words = await session();
    expect((await curl(address, message(LIST, words))).text).toContain('monitor_vm_status');
    expect((await curl(address, ['-X', 'DELETE', ...words])).status).toBe(200);
    expect((await curl(address, message(LIST, words))).status).toBe(404);
    expect((await curl(address, ['-X', 'DELETE', ...words])).status).toBe(404);
  });

  test('of one user at most 16 sessions are kept: the one not used for longest makes room', async () => {
    const opened: string[][] = [];
    for (let i = 0; i < 17; i += 1) opened.push(await session());
    const status = async (words: readonly string[] = []) => (await curl(address, message(LIST, words))).status;
    expect([await status(opened[0]), await status(opened[1]), await status(opened[16])]).toEqual([404, 200, 200]);
    // Another user's are not counted.
    await session('view');
    for (const words of opened) await curl(address, ['-X', 'DELETE', ...words]);
  });
});

describe('who leaves', () => {
  const ENDLESS = { name: 'watched', interval: 1, count: 0 };

  /** A call without end, as a program of its own. */
  async function endless(words: readonly string[]) {
    const params = { name: 'monitor_vm_status', arguments: ENDLESS, _meta: { progressToken: 'p' } };
    const call = message({ id: 3, method: 'tools/call', params }, words);
    const child = spawn('curl', ['-sN', `http://${address}/mcp`, ...call]);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const samples = () => text.split('notifications/progress').length - 1;
    await until('it samples', samples, (count) => count >= 2);
    expect(await monitors()).toBe(1);
    return { child, ended: once(child, 'exit'), text: () => text };
  }

  test('a call that is cancelled ends what it waited for, and its stream, without an answer', async () => {
    await guest('watched');
    const words = await session();
    const { ended, text } = await endless(words);
    const params = { requestId: 3 };
    const cancelled = await curl(address, message({ method: 'notifications/cancelled', params }, words));
    expect(cancelled.status).toBe(202);
    expect((await ended)[0]).toBe(0);
    expect(text()).not.toMatch(/"(result|error)"/);
    await noMonitors();
    const cancels = () => calls().filter(({ outcome }) => outcome === 'Cancelled');
    await until('the log has it', cancels, ([last]) => last?.['name'] === 'watched', 5_000);
  });

  test('a client that is killed ends its call, too; its session goes on, and the VM', async () => {
    const words = await session();
    const { child, ended } = await endless(words);
    child.kill('SIGKILL');
    await ended;
    await noMonitors();
    expect(pidOf(rig.vmDir, 'watched')).toBeDefined();
    expect((await curl(address, message(LIST, words))).status).toBe(200);
  });

  test('a session that is ended ends its calls', async () => {
    const words = await session();
    const { ended } = await endless(words);
    expect((await curl(address, ['-X', 'DELETE', ...words])).status).toBe(200);
    await ended;
    await noMonitors();
  });

  test('the operator that is stopped: sessions and monitors end within a moment, VMs live on', async () => {
    const { call, streamEnded } = await client();
    const told: number[] = [];
    const ended = call('monitor_vm_status', ENDLESS, { onprogress: ({ progress }) => void told.push(progress) });
    ended.catch(() => undefined);
    await until(
      'it samples',
      () => told.length,
      (count) => count >= 1,
    );
    const before = performance.now();
    const { code } = await running.stop();
    expect([code, performance.now() - before < 3_000]).toEqual([0, true]);
    await streamEnded;
    await noMonitors();
    expect(pidOf(rig.vmDir, 'watched')).toBeDefined();
    // Of all that clients did here nothing is a failure of the server.
    expect(logOf(running).filter(({ msg }) => msg === 'MCP')).toEqual([]);
  });
});
