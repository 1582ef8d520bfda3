/** Console, screen and logs of real guests: typed at, looked at, held, killed. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FOLDER_FILES } from '../../src/api/effective-spec.ts';
import { DialError, type Shell } from '../../src/host/shell.ts';
import { ConsoleHeldError, openConsole } from '../../src/streams/console.ts';
import { followLog, LogAbsentError, MAX_LOG_BYTES, readLog } from '../../src/streams/logs.ts';
import { attachTerminal } from '../../src/streams/terminal.ts';
import { UserMonitorError } from '../../src/streams/user-monitor.ts';
import { openScreen, vncProxy } from '../../src/streams/vnc.ts';
import { type BareOptions, type BareQemu, startBareQemu } from '../guests/bare-qemu.ts';
import { linuxGuest } from '../guests/linux.ts';
import { writeTinyDisk } from '../guests/tiny.ts';
import { testHost } from './support/stand-ins.ts';

const signal = new AbortController().signal;

let shell: Shell;
let root: string;
let folder: string;
let cleanup: (() => Promise<void>)[];

beforeEach(async () => {
  shell = testHost();
  cleanup = [() => shell.close()];
  root = await mkdtemp(join(tmpdir(), 'streams-'));
  folder = await mkdtemp(join(root, 'a vm '));
});

afterEach(async () => {
  for (const step of cleanup.reverse()) await step();
  await rm(root, { recursive: true, force: true });
});

async function start(options: Omit<BareOptions, 'folder'> = {}): Promise<BareQemu> {
  const disk = join(root, 'tiny.raw');
  await writeTinyDisk(disk);
  const disks = [{ name: 'root', path: disk, format: 'raw' as const }];
  const guest = await startBareQemu({ disks, ...options, folder });
  cleanup.push(() => guest.kill());
  return guest;
}

async function until(what: () => boolean | Promise<boolean>, deadlineMs = 60_000): Promise<void> {
  for (let waitedMs = 0; !(await what()); waitedMs += 20) {
    if (waitedMs > deadlineMs) throw new Error('it did not come about');
    await sleep(20);
  }
}

describe('the console', () => {
  /** Another process that attaches and stays. */
  async function holdElsewhere(): Promise<ChildProcess> {
    const script = `
      import { openConsole } from ${JSON.stringify(join(import.meta.dirname, '../../src/streams/console.ts'))};
      import { testHost } from ${JSON.stringify(join(import.meta.dirname, 'support/stand-ins.ts'))};
      const who = { user: 'ann', pid: process.pid, from: 'desk' };
      const { stream } = await openConsole(testHost(), process.env.FOLDER, { signal: new AbortController().signal, who });
      stream.resume();
      console.log('attached');
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, FOLDER: folder },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    cleanup.push(async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    });
    await once(child.stdout, 'data');
    return child;
  }

  test('types at a guest through a terminal, which ends with the guest', async () => {
    const image = join(root, 'root.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', await linuxGuest(), image]);
    await start({ disks: [{ name: 'root', path: image, format: 'qcow2' }] });
    const { stream } = await openConsole(shell, folder, { signal });
    const [stdin, stdout] = [new PassThrough(), new PassThrough()];
    let shown = '';
    stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    const attached = attachTerminal(stream, { stdin, stdout });
    await until(() => /linux:~# /.test(shown));
    stdin.write('echo $((6*7))\n');
    await until(() => /\n42\r?\n/.test(shown));
    stdin.write('poweroff\n');
    expect(await attached).toBe('ended');
    await until(() => !existsSync(join(folder, FOLDER_FILES.consoleHolder)));
  });

  test('tells a second client who holds it, and is free as soon as that one is killed', async () => {
    await start();
    const child = await holdElsewhere();
    const refused = await openConsole(shell, folder, { signal }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ConsoleHeldError);
    expect((refused as ConsoleHeldError).holder).toMatchObject({ user: 'ann', pid: child.pid, from: 'desk' });
    expect((refused as Error).message).toMatch(/held by ann on desk \(pid \d+\) since 20\d\d-/);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const mine = await openConsole(shell, folder, { signal });
    const note = readFileSync(join(folder, FOLDER_FILES.consoleHolder), 'utf8').split('\n');
    expect(note.slice(3, 5)).toEqual([expect.any(String), String(process.pid)]);
    await mine.close();
    expect(existsSync(join(folder, FOLDER_FILES.consoleHolder))).toBe(false);
    await (await openConsole(shell, folder, { signal })).close();
  });

  test('is told as held by another program when a stranger is connected', async () => {
    await start();
    const stranger = connect(join(folder, FOLDER_FILES.console));
    await once(stranger, 'connect');
    await expect(openConsole(shell, folder, { signal })).rejects.toThrow(/held by another program/);
    stranger.destroy();
    await until(async () => {
      const opened = await openConsole(shell, folder, { signal }).catch(() => undefined);
      await opened?.close();
      return opened !== undefined;
    });
  });

  test('goes to one of several that come in the same moment', async () => {
    await start();
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => openConsole(shell, folder, { signal })));
    const opened = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
    expect(opened).toHaveLength(1);
    for (const error of refused) expect(error).toBeInstanceOf(ConsoleHeldError);
    await opened[0]?.close();
    await (await openConsole(shell, folder, { signal })).close();
  });

  test('of a VM that is not running is none', async () => {
    await expect(openConsole(shell, folder, { signal })).rejects.toThrow(DialError);
    await expect(openConsole(shell, join(folder, 'nowhere'), { signal })).rejects.toThrow(DialError);
    const guest = await start();
    await guest.kill();
    // A crash leaves the socket's file, which nobody serves.
    await expect(openConsole(shell, folder, { signal })).rejects.toThrow(DialError);
    expect(existsSync(join(folder, FOLDER_FILES.consoleHolder))).toBe(false);
  });
});

describe('the screen', () => {
  async function startWithScreen(): Promise<BareQemu> {
    const socket = join(folder, FOLDER_FILES.vnc);
    return await start({ more: ['-device', 'VGA', '-vnc', `unix:${socket},password=on`] });
  }

  /** Reads exactly so many bytes. */
  function take(socket: Socket, bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const attempt = () => {
        const chunk: Buffer | null = socket.read(bytes);
        if (chunk === null || chunk.length < bytes) return;
        socket.off('readable', attempt).off('close', onClose);
        resolve(chunk);
      };
      const onClose = () => reject(new Error('closed'));
      socket.on('readable', attempt).once('close', onClose);
      attempt();
    });
  }

  /** VNC's DES takes the bits of each key byte in reverse; three equal keys make triple DES a single one. */
  function respond(challenge: Buffer, password: string): Buffer {
    const key = Buffer.alloc(8);
    for (const [index, byte] of Buffer.from(password, 'latin1').subarray(0, 8).entries())
      key[index] = Number.parseInt(byte.toString(2).padStart(8, '0').split('').reverse().join(''), 2);
    const cipher = createCipheriv('des-ede3-ecb', Buffer.concat([key, key, key]), null).setAutoPadding(false);
    return Buffer.concat([cipher.update(challenge), cipher.final()]);
  }

  /** RFC 6143, 7.1: the answer to the authentication, 0 for accepted; and the screen's size. */
  async function authenticate(socket: Socket, password: string): Promise<{ result: number; width?: number }> {
    expect((await take(socket, 12)).toString()).toBe('RFB 003.008\n');
    socket.write('RFB 003.008\n');
    const count = (await take(socket, 1)).readUInt8();
    expect([...(await take(socket, count))]).toEqual([2]);
    socket.write(Buffer.from([2]));
    socket.write(respond(await take(socket, 16), password));
    const result = (await take(socket, 4)).readUInt32BE();
    if (result !== 0) return { result };
    socket.write(Buffer.from([1]));
    return { result, width: (await take(socket, 4)).readUInt16BE() };
  }

  async function view(port: number, host = '127.0.0.1'): Promise<Socket> {
    const socket = connect(port, host);
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  }

  test('is seen with the password, by one viewer, on the loopback alone', async () => {
    await startWithScreen();
    const proxy = await vncProxy((until) => openScreen(shell, folder, until), { signal });
    expect(proxy.password).toMatch(/^[A-Za-z2-9]{8}$/);
    const outside = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal);
    for (const { address } of outside) await expect(view(proxy.port, address)).rejects.toThrow();
    const viewer = await view(proxy.port);
    const { result, width } = await authenticate(viewer, proxy.password);
    expect(result).toBe(0);
    expect(width).toBeGreaterThan(100);
    await expect(view(proxy.port)).rejects.toThrow();
    viewer.destroy();
    expect(await proxy.ended).toBe('ended');
    // The password is of no use afterwards, not even to the next proxy's viewer.
    const next = await vncProxy((until) => openScreen(shell, folder, until), { signal });
    const late = await view(next.port);
    expect((await authenticate(late, proxy.password)).result).not.toBe(0);
    await next.close();
    expect(await next.ended).toMatch(/ended|closed/);
  });

  test('is not seen with another password, nor with none set', async () => {
    await startWithScreen();
    const direct = connect(join(folder, FOLDER_FILES.vnc));
    expect((await authenticate(direct, '')).result).not.toBe(0);
    direct.destroy();
    const proxy = await vncProxy((until) => openScreen(shell, folder, until), { signal });
    expect((await authenticate(await view(proxy.port), 'wrongone')).result).not.toBe(0);
    expect(await proxy.ended).toBe('ended');
  });

  test('takes the port that is asked for, and ends with its caller and with QEMU', async () => {
    const guest = await startWithScreen();
    const caller = new AbortController();
    const first = await vncProxy((until) => openScreen(shell, folder, until), { signal: caller.signal });
    await expect(vncProxy((until) => openScreen(shell, folder, until), { signal, port: first.port })).rejects.toThrow(
      /EADDRINUSE/,
    );
    caller.abort();
    expect(await first.ended).toBe('closed');
    await expect(view(first.port)).rejects.toThrow();
    const second = await vncProxy((until) => openScreen(shell, folder, until), { signal, port: first.port });
    expect(second.port).toBe(first.port);
    const viewer = await view(second.port);
    await take(viewer, 12);
    await guest.kill();
    expect(await second.ended).toBe('ended');
  });

  test('of a VM without one, or that is not running, is an error', async () => {
    await expect(vncProxy((until) => openScreen(shell, folder, until), { signal })).rejects.toThrow(DialError);
    await start();
    await expect(vncProxy((until) => openScreen(shell, folder, until), { signal })).rejects.toThrow(UserMonitorError);
  });
});

describe('the logs', () => {
  const write = (name: string, content: string | Buffer) => writeFileSync(join(folder, name), content);

  test("tell the guest's console without its escape sequences, unless asked for them", async () => {
    await start();
    await until(() => readFileSync(join(folder, FOLDER_FILES.consoleLog), 'utf8').includes('TINY-IO'));
    appendFileSync(join(folder, FOLDER_FILES.consoleLog), '\u001b]0;title\u0007\u001b[31mred\u001b[0m\r\n');
    expect(await readLog(shell, folder, { source: 'console', signal, lines: 2 })).toBe('TINY-IO\nred\n');
    const raw = await readLog(shell, folder, { source: 'console', signal, lines: 1, raw: true });
    expect(raw).toBe('\u001b]0;title\u0007\u001b[31mred\u001b[0m\r\n');
  });

  test("tell QEMU's complaints, of the process before too", async () => {
    write(FOLDER_FILES.log, 'b1\nb2\n');
    write(`${FOLDER_FILES.log}.1`, 'a1\n');
    expect(await readLog(shell, folder, { source: 'qemu', signal })).toBe('b1\nb2\n');
    expect(await readLog(shell, folder, { source: 'qemu', signal, previous: true })).toBe('a1\n');
    await expect(readLog(shell, folder, { source: 'console', signal })).rejects.toThrow(LogAbsentError);
  });

  test('are cut at lines, whatever is asked for', async () => {
    const ask = async (content: string, lines: number) => {
      write(FOLDER_FILES.log, content);
      return readLog(shell, folder, { source: 'qemu', signal, lines });
    };
    expect(await ask('a\nb\nc\n', 2)).toBe('b\nc\n');
    expect(await ask('a\nb\nc', 1)).toBe('c');
    expect(await ask('\nabc', 1)).toBe('abc');
    expect(await ask('\nabc', 2)).toBe('\nabc');
    expect(await ask('a\n', 9)).toBe('a\n');
    expect(await ask('a\n', 0)).toBe('');
    expect(await ask('', 5)).toBe('');
    const large = await ask('0123456789abcde\n'.repeat(200_000), 1_000_000);
    expect(large.length).toBeLessThanOrEqual(MAX_LOG_BYTES);
    expect(large.startsWith('0123456789abcde\n')).toBe(true);
  });

  test('are followed from before there is a file, through torn characters, truncation and a new process', async () => {
    const stop = new AbortController();
    let told = '';
    const following = (async () => {
      const options = { source: 'qemu' as const, signal: stop.signal, intervalMs: 20, lines: 1 };
      for await (const text of followLog(shell, folder, options)) told += text;
    })();
    await sleep(100);
    write(FOLDER_FILES.log, 'one\ntwo\n');
    await until(() => told === 'two\n', 5000);
    const [head, tail] = [Buffer.from('drei €').subarray(0, 6), Buffer.from('drei €').subarray(6)];
    appendFileSync(join(folder, FOLDER_FILES.log), head);
    await sleep(100);
    appendFileSync(join(folder, FOLDER_FILES.log), Buffer.concat([tail, Buffer.from('\n')]));
    await until(() => told === 'two\ndrei €\n', 5000);
    renameSync(join(folder, FOLDER_FILES.log), join(folder, `${FOLDER_FILES.log}.1`));
    write(FOLDER_FILES.log, 'anew\n');
    await until(() => told.endsWith('€\nanew\n'), 5000);
    write(FOLDER_FILES.log, 'cut\n');
    await until(() => told.endsWith('anew\ncut\n'), 5000);
    stop.abort();
    await following;
  });
});
