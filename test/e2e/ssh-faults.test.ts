/** What a network, a server and a host can do to a connection: nothing is taken for an answer that is none. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2, { type Connection, type ServerChannel } from 'ssh2';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { HostUnreachableError } from '../../src/host/shell.ts';
import type { SshConnection, SshRoute } from '../../src/host/ssh-route.ts';
import { SshShell } from '../../src/host/ssh-shell.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { isAlive, kill } from './support/process.ts';
import { freePort } from './support/sockets.ts';
import { makeKey, openedShell, Sshd, type SshdOptions } from './support/sshd.ts';
import { until } from './support/wait.ts';

const person = ordinaryUser();
const isRoot = process.getuid?.() === 0;
const never = new AbortController().signal;
const options = { timeoutMs: 60_000, signal: never };
/** The cause of Unknown has to be there by then; and what a loaded machine may add. */
const NOTICED_MS = 15_000;

let folder = '';
beforeAll(() => {
  if (isRoot) execFileSync('usermod', ['--password', '*', person.name]);
  folder = mkdtempSync(join(tmpdir(), 'qo-ssh-'));
  chmodSync(folder, 0o755);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  person.remove();
});

const start = (more: SshdOptions = {}) => Sshd.start(onTestFinished, { user: person.name, ...more });

const opened = (route: SshRoute) => openedShell(onTestFinished, route);

const marked = () => join(folder, 'mark');

/** An empty file into which a script may write. */
function mark(): string {
  writeFileSync(marked(), '');
  chmodSync(marked(), 0o666);
  return marked();
}

/** What became of a promise that should fail, and when. */
async function failure(promise: Promise<unknown>): Promise<{ error: Error; ms: number }> {
  const since = performance.now();
  try {
    await promise;
  } catch (error) {
    return { error: error as Error, ms: performance.now() - since };
  }
  throw new Error('it did not fail');
}

test('sshd killed in the middle of a script: the outcome is unknown, streams end with an error, and all is made again', async () => {
  const sshd = await start();
  const shell = opened(sshd.route());
  const states: SshConnection[] = [];
  const watching = shell.connection$.subscribe((state) => states.push(state));
  onTestFinished(() => watching.unsubscribe());
  await shell.run('true', [], options);
  const stream = await shell.dialTcp({ host: '127.0.0.1', port: sshd.port }, options);
  const lost = once(stream, 'error').then(
    () => undefined,
    (error: unknown) => error,
  );
  const running = failure(shell.run('echo runs >"$1"; sleep 5; echo done', [mark()], options));
  await until(
    'it runs',
    () => read(marked()),
    (said) => said === 'runs\n',
  );
  await sshd.stop();
  const { error } = await running;
  expect(error).toBeInstanceOf(HostUnreachableError);
  expect(error.message).toMatch(/^rack cannot be reached: .*in the middle of a script: what it did is unknown$/);
  await lost;
  expect(stream.destroyed).toBe(true);
  const { error: refused, ms } = await failure(shell.run('true', [], options));
  expect(refused.message).toMatch(/tried again in \d s$/);
  expect(ms).toBeLessThan(2_000);
  await sshd.run();
  await until(
    'it is made again',
    () =>
      shell.run('echo back', [], options).then(
        ({ stdout }) => stdout.toString(),
        () => '',
      ),
    (said) => said === 'back\n',
  );
  expect(states.map(({ kind }) => kind).slice(0, 3)).toEqual(['unopened', 'connected', 'lost']);
  expect(states.at(-1)).toEqual({ kind: 'connected', hostKey: sshd.hostKey() });
});

test('a server that is away is asked rarely, by one attempt at a time, however many ask', async () => {
  const port = await freePort();
  let attempts = 0;
  const jump = {
    dialTcp: () => {
      attempts += 1;
      return Promise.reject(new Error('nobody there'));
    },
  };
  const sshd = await start();
  const shell = opened(sshd.route({ port, jump }));
  const until8s = performance.now() + 8_000;
  while (performance.now() < until8s) {
    await Promise.all(Array.from({ length: 50 }, () => failure(shell.run('true', [], options))));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(attempts).toBeGreaterThan(1);
  expect(attempts).toBeLessThan(9);
});

test('a frozen connection is noticed, and the script on it fails', async () => {
  const sshd = await start();
  const shell = opened(sshd.route());
  await shell.run('true', [], options);
  const running = failure(shell.run('echo runs >"$1"; sleep 40', [mark()], options));
  await until(
    'it runs',
    () => read(marked()),
    (said) => said === 'runs\n',
  );
  const since = performance.now();
  for (const pid of sshd.connections()) kill(pid, 'SIGSTOP');
  const { error } = await running;
  expect(error).toBeInstanceOf(HostUnreachableError);
  expect(error.message).toContain('nothing was heard for');
  expect(performance.now() - since).toBeLessThan(NOTICED_MS);
});

test('output that crawls is no silence', async () => {
  const sshd = await start();
  const shell = opened(sshd.route());
  const { stdout } = await shell.run('for i in 1 2 3 4 5 6 7; do echo $i; sleep 2; done', [], options);
  expect(stdout.toString()).toBe('1\n2\n3\n4\n5\n6\n7\n');
});

test('40 shells at once on a server that drops most of them all come through', async () => {
  const sshd = await start({ config: ['MaxStartups 3:50:10'] });
  const shells = Array.from({ length: 40 }, () => opened(sshd.route()));
  const all = shells.map((shell, at) =>
    until(
      `shell ${at}`,
      () =>
        shell.run('echo in', [], options).then(
          ({ stdout }) => stdout.toString(),
          (error: Error) => error.message,
        ),
      (said) => said === 'in\n',
      90_000,
    ),
  );
  await Promise.all(all);
  expect(sshd.log().match(/Accepted publickey/g)).toHaveLength(40);
});

test('no secret is in a command line or environment of this machine while scripts run', async () => {
  const sshd = await start();
  makeKey(join(folder, 'id'), 'ed25519', 'a-passphrase-to-find');
  writeFileSync(join(sshd.folder, 'authorized_keys'), readFileSync(join(folder, 'id.pub')));
  const privateKey = readFileSync(join(folder, 'id'));
  const identities = [{ privateKey, passphrase: 'a-passphrase-to-find', from: 'Secret rack' }];
  const shell = opened(
    sshd.route({ credentials: { identities, password: 'a-password-to-find', from: 'Secret rack' } }),
  );
  const secrets = [
    'a-passphrase-to-find',
    'a-password-to-find',
    privateKey.toString().split('\n')[2] ?? '',
    'an-argument-to-find',
  ];
  let samples = 0;
  const running = shell.run('sleep 2', ['an-argument-to-find'], options).then(() => true);
  for (let isDone = false; !isDone; samples += 1) {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const text = [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`].map(read).join('\0');
      for (const secret of secrets) expect(text).not.toContain(secret);
    }
    isDone = await Promise.race([running, new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 50))]);
  }
  expect(samples).toBeGreaterThan(5);
});

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** ssh2's own server, for what sshd never does. */
async function serve(onExec: (channel: ServerChannel, connection: Connection) => void): Promise<SshRoute> {
  const name = join(mkdtempSync(join(folder, 'server-')), 'key');
  makeKey(name, 'ed25519');
  const connections: Connection[] = [];
  const server = new ssh2.Server({ hostKeys: [readFileSync(name)] }, (connection) => {
    connections.push(connection);
    connection.on('error', () => undefined);
    connection.on('authentication', (context) => context.accept());
    connection.on('session', (accept) => accept().on('exec', (take) => onExec(take(), connection)));
  });
  server.listen(0, '127.0.0.1');
  await new Promise<void>((resolve) => server.once('listening', () => resolve()));
  onTestFinished(() => {
    for (const connection of connections) connection.end();
    server.close();
  });
  return {
    name: 'odd',
    address: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    user: 'ops',
    credentials: async () => ({ password: 'x', from: 'the test' }),
    hostKeys: { pinned: [readFileSync(`${name}.pub`, 'utf8')], policy: 'Strict', accept: async () => undefined },
  };
}

/** As our sh does, so that the script is sent. */
function ready(channel: ServerChannel): void {
  channel.write('\nqo-ready 1\n');
  channel.stderr.write('\nqo-ready 1\n');
}

test('a server that takes the connection and then says nothing is given up', async () => {
  const server = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const route = await serve(() => undefined);
  const shell = opened({ ...route, port: (server.address() as AddressInfo).port });
  const { error, ms } = await failure(shell.run('true', [], options));
  expect(error).toBeInstanceOf(HostUnreachableError);
  expect(ms).toBeLessThan(25_000);
});

test('a session that is taken and then silent ends at the deadline', async () => {
  const shell = opened(await serve(() => undefined));
  const { error } = await failure(shell.run('true', [], { timeoutMs: 1_000, signal: never }));
  expect(error.name).toBe('ScriptTimeoutError');
});

test('an end without an exit code is no success', async () => {
  const shell = opened(
    await serve((channel) => {
      ready(channel);
      channel.once('data', () => channel.end('all is well\n'));
    }),
  );
  const { error } = await failure(shell.run('true', [], options));
  expect(error).toBeInstanceOf(HostUnreachableError);
  expect(error.message).toMatch(/what it did is unknown/);
});

test('a reset in the middle of output is no success', async () => {
  const shell = opened(
    await serve((channel, connection) => {
      ready(channel);
      channel.once('data', () => {
        channel.write('half of it', () => {
          (connection as unknown as { _sock: { resetAndDestroy(): void } })._sock.resetAndDestroy();
        });
      });
    }),
  );
  const { error } = await failure(shell.run('true', [], options));
  expect(error).toBeInstanceOf(HostUnreachableError);
});

test('a shell that is closed lets go of its connection and of who waits for it', async () => {
  const sshd = await start();
  const shell = new SshShell(sshd.route());
  await shell.run('true', [], options);
  const [pid = 0] = sshd.connections();
  const running = failure(shell.run('sleep 20', [], options));
  await shell.close();
  expect((await running).error).toBeInstanceOf(HostUnreachableError);
  await until(
    'sshd has let it go',
    () => isAlive(pid),
    (alive) => !alive,
  );
  expect((await failure(shell.run('true', [], options))).error.message).toContain('closed');
});
