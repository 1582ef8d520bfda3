/** The ends of sessions over HTTP, by a clock of the test's; everything else is a real server and real requests. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HttpSessions, type McpCaller } from '../../src/mcp/http-sessions.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';
import type { Store } from '../../src/store/store.ts';
import { makeBench } from './mcp-fakes.ts';

const MINUTE = 60_000;
const INITIALIZE = {
  ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'unit', version: '0' } },
};
const LIST = { jsonrpc: '2.0', id: 2, method: 'tools/list' };

let sessions: HttpSessions;
let server: Server;
let isStillIn: () => Promise<boolean>;
let store: Store;

function caller(name: string): McpCaller {
  const remotes = {
    secrets: new SecretFolder('/nowhere'),
    loginOf: async () => ({ port: 22, user: 'me' }),
    keyFiles: false,
  };
  const rights = { store, remotes, readOnly: false, noDelete: false };
  return { name, key: name, rights, isStillIn: () => isStillIn() };
}

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  isStillIn = async () => true;
  store = createMemoryStore();
  sessions = new HttpSessions({
    ...{ version: '0', language: 'en', log: () => undefined, told: () => undefined },
    loop: { running: false, start: () => 'elsewhere', standBy: async () => undefined, onEvent: () => undefined },
  });
  // Whoever asks says so.
  server = createServer((request, response) => {
    void sessions.serve(request, response, caller(String(request.headers['x-user'] ?? 'a')));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(async () => {
  await sessions.close();
  server.closeAllConnections();
  server.close();
  vi.useRealTimers();
});

interface Asking {
  readonly method?: string;
  readonly session?: string | undefined;
  readonly user?: string;
}

function ask(body: object | undefined, { method = 'POST', session, user = 'a' }: Asking = {}): Promise<Response> {
  const accept = method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream';
  const headers = { accept, 'content-type': 'application/json', 'x-user': user };
  return fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {
    method,
    headers: session === undefined ? headers : { ...headers, 'mcp-session-id': session },
    body: body === undefined ? null : JSON.stringify(body),
  });
}

async function open(user = 'a'): Promise<string> {
  const answer = await ask(INITIALIZE, { user });
  await answer.text();
  expect(answer.status).toBe(200);
  return answer.headers.get('mcp-session-id') ?? '';
}

async function statusOf(session: string, user = 'a'): Promise<number> {
  const answer = await ask(LIST, { session, user });
  await answer.text();
  return answer.status;
}

test('a session that nobody uses ends after ten minutes; each use begins them anew', async () => {
  const session = await open();
  for (let i = 0; i < 3; i += 1) {
    await vi.advanceTimersByTimeAsync(9 * MINUTE);
    expect(await statusOf(session)).toBe(200);
  }
  await vi.advanceTimersByTimeAsync(11 * MINUTE);
  expect(await statusOf(session)).toBe(404);
});

test('one with an open stream does not, as long as its user is still let in', async () => {
  const session = await open();
  const stream = await ask(undefined, { method: 'GET', session });
  await vi.advanceTimersByTimeAsync(30 * MINUTE);
  expect(await statusOf(session)).toBe(200);
  isStillIn = async () => false;
  await vi.advanceTimersByTimeAsync(10_000);
  await stream.text();
  expect(await statusOf(session)).toBe(404);
});

test('where nobody can say whether the user is, it goes on for a minute', async () => {
  const session = await open();
  const stream = await ask(undefined, { method: 'GET', session });
  isStillIn = () => Promise.reject(new Error('no answer'));
  await vi.advanceTimersByTimeAsync(50_000);
  expect(await statusOf(session)).toBe(200);
  // That request was checked: a minute from here.
  await vi.advanceTimersByTimeAsync(50_000);
  expect(await statusOf(session)).toBe(200);
  await vi.advanceTimersByTimeAsync(80_000);
  await stream.text();
  expect(await statusOf(session)).toBe(404);
});

test('of one user 16 may be in use; whoever opens more is refused until one ends, and others are not', async () => {
  const opened = await Promise.all(Array.from({ length: 16 }, () => open()));
  const streams = await Promise.all(opened.map((session) => ask(undefined, { method: 'GET', session })));
  expect((await ask(INITIALIZE)).status).toBe(429);
  expect(await statusOf(await open('b'), 'b')).toBe(200);
  expect(await Promise.all(opened.map((session) => statusOf(session)))).toEqual(opened.map(() => 200));
  expect((await ask(undefined, { method: 'DELETE', session: opened[3] })).status).toBe(200);
  await open();
  for (const { body } of streams) await body?.cancel();
});

test('many that open at once are not more', async () => {
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask(INITIALIZE)));
  const ids = answers.flatMap((answer) => answer.headers.get('mcp-session-id') ?? []);
  const alive = await Promise.all(ids.map((session) => statusOf(session)));
  expect(alive.filter((status) => status === 200).length).toBeLessThanOrEqual(16);
});

test('of all users 256 are kept', async () => {
  for (let i = 0; i < 16; i += 1) await Promise.all(Array.from({ length: 16 }, () => open(`user-${i}`)));
  expect((await ask(INITIALIZE, { user: 'late' })).status).toBe(429);
  await vi.advanceTimersByTimeAsync(11 * MINUTE);
  await open('late');
});

test('a call ends after an hour, and says so', async () => {
  const bench = await makeBench();
  await bench.addHost('localhost');
  await bench.addVm('web', { seen: 'running' });
  store = bench.store;
  const session = await open();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const params = { name: 'monitor_vm_status', arguments: { name: 'web', count: 0 }, _meta: { progressToken: 'p' } };
  const answer = await ask({ jsonrpc: '2.0', id: 3, method: 'tools/call', params }, { session });
  const monitors = async () => (await store.list('VirtualMachineMonitor')).items.length;
  while ((await monitors()) === 0) await new Promise((resolve) => setImmediate(resolve));
  await vi.advanceTimersByTimeAsync(59 * MINUTE);
  expect(await monitors()).toBe(1);
  await vi.advanceTimersByTimeAsync(2 * MINUTE);
  expect(await answer.text()).toContain('"message":"the call has lasted an hour: call again"');
  expect(await monitors()).toBe(0);
});

test('the end of the server ends all of them', async () => {
  const session = await open();
  const stream = await ask(undefined, { method: 'GET', session });
  await sessions.close();
  await stream.text();
  expect(await statusOf(session)).toBe(503);
});
