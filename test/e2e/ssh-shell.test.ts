/** Scripts and streams over a real sshd: whatever the login shell is, whatever the server allows. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { ScriptTimeoutError, type Shell } from '../../src/host/shell.ts';
import type { SshShell } from '../../src/host/ssh-shell.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { isAlive } from './support/process.ts';
import { openedShell, Sshd, type SshdOptions } from './support/sshd.ts';
import { until } from './support/wait.ts';

const person = ordinaryUser();
const isRoot = process.getuid?.() === 0;
const never = new AbortController().signal;
const options = { timeoutMs: 30_000, signal: never };

let folder = '';
beforeAll(() => {
  // Without a password sshd takes the account for a locked one.
  if (isRoot) execFileSync('usermod', ['--password', '*', person.name]);
  folder = mkdtempSync(join(tmpdir(), 'qo-ssh-'));
  execFileSync('chmod', ['755', folder]);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  person.remove();
});

/** sshd, and a shell through it as an ordinary user. */
async function connected(more: SshdOptions = {}): Promise<{ sshd: Sshd; shell: SshShell }> {
  const sshd = await Sshd.start(onTestFinished, { user: person.name, ...more });
  return { sshd, shell: opened(sshd) };
}

const opened = (sshd: Sshd) => openedShell(onTestFinished, sshd.route());

async function said(shell: Shell, script: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await shell.run(script, args, options);
  if (code !== 0) throw new Error(`${code}: ${stderr}`);
  return stdout.toString();
}

/** A UNIX socket that says a word and returns what it is told, ends what is ended, and counts who came. */
async function echoSocket(name: string): Promise<{ path: string; server: Server; sockets: Socket[] }> {
  const path = join(mkdtempSync(join(folder, 'echo-')), name);
  execFileSync('chmod', ['755', dirname(path)]);
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.write('hello ');
    socket.pipe(socket);
  }).listen(path);
  await once(server, 'listening');
  execFileSync('chmod', ['777', path]);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { path, server, sockets };
}

/** What comes back when this is sent and ended. */
async function echoed(stream: Duplex, words: string): Promise<string> {
  const all = text(stream);
  stream.end(words);
  return all;
}

test('a script with its arguments, output, errors and exit code arrives as on the local host', async () => {
  const { shell } = await connected();
  const args = ['', 'a b', "it's", '$HOME `id` \\', 'two\nlines', '-n', 'ü', String.fromCharCode(1, 7, 27, 127), '*'];
  const script = 'for one in "$@"; do printf "%s|" "$one"; done; echo oops >&2; pwd >&2; return 7';
  const { code, stdout, stderr } = await shell.run(script, args, options);
  expect([code, stdout.toString(), stderr.toString()]).toEqual([7, `${args.join('|')}|`, 'oops\n/\n']);
  expect((await shell.run('kill -TERM $$', [], options)).code).toBe(143);
  expect((await shell.run('kill -KILL $$', [], options)).code).toBe(137);
  await expect(shell.run('echo "$1"', ['a\0b'], options)).rejects.toThrow(RangeError);
  expect(await said(shell, 'echo "$LC_ALL"; command -v mkfs >/dev/null && echo found; cat')).toBe('C\nfound\n');
  expect((await said(shell, 'id -un')).trim()).toBe(person.name);
});

test('random bytes as arguments arrive unchanged', async () => {
  const { shell } = await connected();
  const letters = Array.from({ length: 255 }, (_, at) => String.fromCharCode(at + 1));
  const args = Array.from({ length: 100 }, (_, at) => letters.map((_, k) => letters[(k * (at + 3)) % 255]).join(''));
  const { stdout } = await shell.run('for one in "$@"; do printf "%s\\0" "$one"; done', args, options);
  expect(stdout.toString().split('\0').slice(0, -1)).toEqual(args);
});

test('30 MB come whole, and what prints more than it may is ended', async () => {
  const { shell } = await connected();
  const { stdout } = await shell.run(
    'head -c 30000000 /dev/zero | tr "\\0" x; head -c 3000000 /dev/zero >&2',
    [],
    options,
  );
  expect([stdout.length, stdout.every((byte) => byte === 0x78)]).toEqual([30_000_000, true]);
  const mark = join(folder, 'endless');
  writeFileSync(mark, '', { mode: 0o666 });
  execFileSync('chmod', ['666', mark]);
  const endless = shell.run('echo $$ >"$1"; cat /dev/zero', [mark], { ...options, maxOutputBytes: 1_000_000 });
  await expect(endless).rejects.toThrow('more than 1000000 bytes');
  expect(isAlive(Number(readFileSync(mark, 'utf8')))).toBe(false);
});

test('at its deadline, and when the caller stops, a script ends on the host with all that it started', async () => {
  const { shell } = await connected();
  const pids = (name: string) => readFileSync(join(folder, name), 'utf8').trim().split('\n').map(Number);
  const script = 'trap "" TERM HUP INT; echo $$ >"$1"; sleep 3600 & echo $! >>"$1"; sleep 3600 | cat';
  for (const name of ['late', 'stopped']) {
    writeFileSync(join(folder, name), '');
    execFileSync('chmod', ['666', join(folder, name)]);
  }
  // The way there is part of the time, and takes long on a busy machine.
  await said(shell, 'true');
  const late = shell.run(script, [join(folder, 'late')], { timeoutMs: 4_000, signal: never });
  await expect(late).rejects.toThrow(ScriptTimeoutError);
  expect(pids('late').map(isAlive)).toEqual([false, false]);
  const stop = new AbortController();
  const stopped = shell.run(script, [join(folder, 'stopped')], { timeoutMs: 30_000, signal: stop.signal });
  void until(
    'it runs',
    () => pids('stopped').length,
    (count) => count === 2,
  ).then(() => stop.abort(new Error('enough')));
  await expect(stopped).rejects.toThrow('enough');
  expect(pids('stopped').map(isAlive)).toEqual([false, false]);
  expect(await said(shell, 'echo still here')).toBe('still here\n');
});

test('30 scripts at once on a server that has 10 sessions, or 3, all run, on one connection', async () => {
  for (const config of [[], ['MaxSessions 3']]) {
    const { sshd, shell } = await connected({ config });
    const all = Array.from({ length: 30 }, (_, at) => said(shell, 'sleep 0.1; echo "$1"', String(at)));
    expect(await Promise.all(all)).toEqual(all.map((_, at) => `${at}\n`));
    expect(sshd.log().match(/Accepted publickey/g)).toHaveLength(1);
  }
});

/** What people have in such files: words, output without an end, a trace. */
const NOISE = 'echo "Welcome, qo-ready 1"; printf "no end of line"; echo warning >&2';
const SHELLS: readonly (readonly [shell: string, files: Readonly<Record<string, string>>])[] = [
  ['/bin/bash', { '.bashrc': `${NOISE}; set -x`, '.bash_profile': NOISE }],
  ['/bin/dash', {}],
  ['/usr/bin/zsh', { '.zshenv': `${NOISE}; setopt xtrace` }],
  [
    '/usr/bin/fish',
    { '.config/fish/config.fish': 'echo Welcome; printf "no end of line"; echo warning >&2; set fish_trace 1' },
  ],
];

test('bash, dash, zsh and fish serve as login shells, with files that print and trace', async () => {
  // Whoever is not root has the login shell that they have.
  for (const [program, files] of isRoot ? SHELLS : []) {
    execFileSync('usermod', ['--shell', program, person.name]);
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(person.home, name)), { recursive: true });
      writeFileSync(join(person.home, name), `${content}\n`);
    }
    execFileSync('chown', ['-R', person.name, person.home]);
    const { shell } = await connected();
    const args = ["it's", '\\', '!', '$x', '\n'];
    const { code, stdout, stderr } = await shell.run('printf "%s|" "$@"; echo problem >&2; return 3', args, options);
    expect([program, code, stdout.toString(), stderr.toString()]).toEqual([
      program,
      3,
      `${args.join('|')}|`,
      'problem\n',
    ]);
  }
});

test('a login shell that ends by itself is told with its words', async () => {
  if (!isRoot) return;
  onTestFinished(() => void execFileSync('usermod', ['--shell', '/bin/sh', person.name]));
  execFileSync('usermod', ['--shell', '/usr/sbin/nologin', person.name]);
  const { shell } = await connected();
  await expect(said(shell, 'true')).rejects.toThrow(/started no sh; it said: This account is currently not available/);
});

test('a socket is reached directly, both ways, and half of it may end first', async () => {
  const { shell } = await connected();
  const { path } = await echoSocket('q.sock');
  expect(await echoed(await shell.dial(path, options), 'there')).toBe('hello there');
  const big = 'x'.repeat(5_000_000);
  expect((await echoed(await shell.dial(path, options), big)).length).toBe(big.length + 6);
  const many = await Promise.all(Array.from({ length: 40 }, () => shell.dial(path, options)));
  expect(await Promise.all(many.map((stream, at) => echoed(stream, `${at}`)))).toEqual(
    many.map((_, at) => `hello ${at}`),
  );
  await expect(shell.dial(join(folder, 'nobody'), options)).rejects.toMatchObject({ name: 'DialError' });
});

test('a stream that is destroyed is gone on the other side, and one whose other side is gone ends', async () => {
  const { shell } = await connected();
  const { path, sockets } = await echoSocket('q.sock');
  const [mine, theirs] = [await shell.dial(path, options), await shell.dial(path, options)];
  await until(
    'both came',
    () => sockets.length,
    (count) => count === 2,
  );
  const gone = once(sockets[0] as Socket, 'end');
  mine.destroy();
  await Promise.all([gone, once(mine, 'close')]);
  const ended = text(theirs);
  sockets[1]?.end('bye');
  expect(await ended).toBe('hello bye');
  await until('it is closed', () => theirs.destroyed, Boolean);
});

test('a port of the host is reached as the host sees it', async () => {
  const { shell } = await connected();
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  expect(await echoed(await shell.dialTcp({ host: '127.0.0.1', port }, options), 'round')).toBe('round');
  const refused = shell.dialTcp({ host: '127.0.0.1', port: 1 }, options);
  await expect(refused).rejects.toMatchObject({ name: 'DialError', message: expect.stringContaining('127.0.0.1:1') });
});

const NO_FORWARDING = 'AllowStreamLocalForwarding no';

/** A folder with the commands of the host's PATH that a relay may use, and sh. */
function pathWith(...commands: string[]): string {
  const bin = mkdtempSync(join(folder, 'bin-'));
  execFileSync('chmod', ['755', bin]);
  for (const command of ['sh', 'cat', 'ls', ...commands]) symlinkSync(`/usr/bin/${command}`, join(bin, command));
  return `SetEnv PATH=${bin}`;
}

test.each(['socat', 'nc'])('where sshd forbids forwarding to sockets, %s leads there', async (relay) => {
  const { sshd, shell } = await connected({ config: [NO_FORWARDING, pathWith(relay)] });
  const { path } = await echoSocket("an odd,name: it's [one].sock");
  expect(await echoed(await shell.dial(path, options), 'there')).toBe('hello there');
  const big = 'x'.repeat(1_000_000);
  expect((await echoed(await shell.dial(path, options), big)).length).toBe(big.length + 6);
  const refused = sshd.log().match(/refused streamlocal/g)?.length;
  expect(await echoed(await shell.dial(path, options), 'again')).toBe('hello again');
  // What works is remembered: nothing more was asked of the server that it refuses.
  expect([refused, sshd.log().match(/refused streamlocal/g)?.length]).toEqual([2, 2]);
  await expect(shell.dial(join(folder, 'nobody'), options)).rejects.toMatchObject({ name: 'DialError' });
});

test('relays leave room for scripts, and a further one waits for its turn', async () => {
  const { shell } = await connected({ config: [NO_FORWARDING] });
  const { path } = await echoSocket('q.sock');
  const first = await shell.dial(path, options);
  const streams = [first, ...(await Promise.all(Array.from({ length: 5 }, () => shell.dial(path, options))))];
  expect(await said(shell, 'echo room')).toBe('room\n');
  await expect(shell.dial(path, { timeoutMs: 1_000, signal: never })).rejects.toMatchObject({ name: 'DialError' });
  const next = shell.dial(path, options);
  streams[0]?.destroy();
  expect(await echoed(await next, 'turn')).toBe('hello turn');
  for (const stream of streams) stream.destroy();
});

test('without forwarding, socat and nc it is said what is missing', async () => {
  const { shell } = await connected({ config: [NO_FORWARDING, pathWith()] });
  const { path } = await echoSocket('q.sock');
  await expect(shell.dial(path, options)).rejects.toThrow('neither socat nor an nc that has -U is there');
});

test('a socket that comes up a moment later is no sign of forbidden forwarding', async () => {
  const { shell } = await connected();
  const { path, server } = await echoSocket('q.sock');
  server.close();
  await expect(shell.dial(path, options)).rejects.toMatchObject({ name: 'DialError' });
  const again = await echoSocket('q.sock');
  expect(await echoed(await shell.dial(again.path, options), 'there')).toBe('hello there');
});
