/** The guests themselves, under plain QEMU: what the other suites build upon. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { linuxGuest } from '../guests/linux.ts';
import { writeTinyArm64Firmware, writeTinyDisk } from '../guests/tiny.ts';

const DEADLINE_MS = 60_000;

let folder: string;
let running: ChildProcess | undefined;
let complaints = '';

beforeEach(async () => {
  complaints = '';
  folder = await mkdtemp(join(tmpdir(), 'guest-'));
});

afterEach(async () => {
  if (running !== undefined && running.exitCode === null) {
    running.kill('SIGKILL');
    await once(running, 'exit');
  }
  running = undefined;
  await rm(folder, { recursive: true, force: true });
});

/** A socket of QEMU's with all that came out of it. */
class Wire {
  readonly #socket: Socket;
  heard = '';

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.heard += text;
    });
    socket.on('error', () => undefined);
  }

  static async to(path: string): Promise<Wire> {
    for (let waitedMs = 0; !existsSync(path) && waitedMs < DEADLINE_MS; waitedMs += 20) await sleep(20);
    const socket = connect(path);
    await once(socket, 'connect');
    return new Wire(socket);
  }

  say(text: string): void {
    this.#socket.write(text);
  }

  /** Waits until the pattern is heard in what comes after `from`. */
  async hears(pattern: RegExp, deadlineMs = DEADLINE_MS): Promise<void> {
    for (let waitedMs = 0; waitedMs < deadlineMs; waitedMs += 20) {
      if (pattern.test(this.heard)) return;
      await sleep(20);
    }
    throw new Error(
      `${pattern} not heard within ${deadlineMs} ms in:\n${this.heard.slice(-2000)}\nQEMU said:\n${complaints}`,
    );
  }
}

async function start(binary: string, args: string[]): Promise<{ serial: Wire; qmp: Wire; ended: Promise<unknown> }> {
  const path = (name: string) => join(folder, name);
  const sockets = [
    '-serial',
    `unix:${path('serial')},server=on,wait=on`,
    '-qmp',
    `unix:${path('qmp')},server=on,wait=off`,
  ];
  const common = ['-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg', '-m', '256'];
  running = spawn(binary, [...common, ...args, ...sockets], { stdio: ['ignore', 'ignore', 'pipe'] });
  running.stderr?.on('data', (text: Buffer) => {
    complaints += text;
  });
  const ended = once(running, 'exit');
  // QEMU waits for the serial console's reader, then opens the monitor: nothing of the output is missed.
  const serial = await Wire.to(path('serial'));
  const qmp = await Wire.to(path('qmp'));
  qmp.say('{"execute":"qmp_capabilities"}\n');
  await qmp.hears(/"return"/);
  return { serial, qmp, ended };
}

async function startLinux(earlier?: string) {
  const disk = earlier ?? join(folder, 'root.qcow2');
  if (earlier === undefined)
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', await linuxGuest(), disk]);
  const devices = [
    '-device',
    'virtio-blk-pci,drive=root',
    '-netdev',
    'user,id=net0',
    '-device',
    'virtio-net-pci,netdev=net0',
  ];
  const panic = ['-device', 'pvpanic', '-action', 'panic=pause'];
  const blockdev = `driver=qcow2,node-name=root,file.driver=file,file.filename=${disk}`;
  return {
    ...(await start('qemu-system-x86_64', ['-machine', 'q35', '-blockdev', blockdev, ...devices, ...panic])),
    disk,
  };
}

test('the Linux guest answers what is typed, has a network, and switches off at the power button', async () => {
  const { serial, qmp, ended } = await startLinux();
  await serial.hears(/Welcome[\s\S]*linux:~# /);
  serial.say('echo $((6*7))\n');
  await serial.hears(/\n42\r?\n/);
  serial.say('until ifconfig eth0 | grep -q inet; do sleep 0.2; done; ifconfig eth0 | grep inet; mount | grep /disk\n');
  await serial.hears(/inet addr:10\.0\.2\.15/);
  await serial.hears(/\/dev\/vda on \/disk type vfat/);
  qmp.say('{"execute":"system_powerdown"}\n');
  await ended;
  expect(running?.exitCode).toBe(0);
  expect(serial.heard).toContain('Power button pressed');
  expect(qmp.heard).toContain('guest-shutdown');
});

test('poweroff ends the Linux guest, and what it wrote below /disk stays', async () => {
  const first = await startLinux();
  await first.serial.hears(/linux:~# /);
  first.serial.say('echo kept > /disk/note && poweroff\n');
  await first.ended;
  expect(running?.exitCode).toBe(0);
  const second = await startLinux(first.disk);
  await second.serial.hears(/linux:~# /);
  second.serial.say('cat /disk/note; poweroff -f\n');
  await second.ended;
  expect(second.serial.heard).toMatch(/\nkept\r?\n/);
  expect(running?.exitCode).toBe(0);
});

test('the Linux guest can panic, and QEMU hears of it', async () => {
  const { serial, qmp } = await startLinux();
  await serial.hears(/linux:~# /);
  serial.say('echo c > /proc/sysrq-trigger\n');
  await qmp.hears(/"GUEST_PANICKED"/);
});

test('the tiny disk starts, uses its disk, and switches off at the power button', async () => {
  const disk = join(folder, 'tiny.raw');
  await writeTinyDisk(disk);
  const drive = ['-drive', `file=${disk},format=raw,if=none,id=d`, '-device', 'virtio-blk-pci,drive=d'];
  const { serial, qmp, ended } = await start('qemu-system-x86_64', ['-machine', 'q35', ...drive]);
  await serial.hears(/TINY-UP\r\nTINY-IO/);
  qmp.say('{"execute":"system_powerdown"}\n');
  // What it said last may be read after it has ended.
  await serial.hears(/TINY-POWERDOWN/);
  await ended;
});

test('the tiny arm64 firmware starts and switches off at the power button', async () => {
  const bios = join(folder, 'tiny-arm64.bin');
  await writeTinyArm64Firmware(bios);
  const { serial, qmp, ended } = await start('qemu-system-aarch64', [
    '-machine',
    'virt',
    '-cpu',
    'cortex-a57',
    '-bios',
    bios,
  ]);
  await serial.hears(/TINY-UP/);
  qmp.say('{"execute":"system_powerdown"}\n');
  // What it said last may be read after it has ended.
  await serial.hears(/TINY-POWERDOWN/);
  await ended;
});
