/**
 * The other side of the ratios: a libvirtd of our own as an ordinary user (its session mode), with every folder it
 * writes to below the bench's. It does less there than as root, no cgroups and no change of owners, so the
 * comparison favours libvirt.
 */
import { type ChildProcess, execFileSync, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandPath, install } from '../../src/setup/prerequisites.mjs';
import { writeSparseTiny } from '../e2e/support/images.ts';
import type { Sshd } from '../e2e/support/sshd.ts';
import { type Place, stopChild } from './place.ts';

const LIBVIRT = [
  { name: 'libvirtd', present: () => commandPath('libvirtd') !== undefined, package: 'libvirt-daemon' },
  {
    name: "libvirt's QEMU driver",
    present: () => commandPath('libvirtd') !== undefined,
    package: 'libvirt-daemon-driver-qemu',
  },
  { name: 'virsh', present: () => commandPath('virsh') !== undefined, package: 'libvirt-clients' },
];
const NOBODY = 65_534;

export class Libvirt {
  readonly #place: Place;
  readonly #folder: string;

  private constructor(place: Place) {
    this.#place = place;
    this.#folder = place.folder('lv');
  }

  /** Installs it where it is missing, and starts the daemon. */
  static async start(place: Place): Promise<Libvirt> {
    const complaint = install(LIBVIRT, (line: string) => console.log(`==> ${line}`));
    if (complaint !== undefined) throw new Error(complaint);
    const libvirt = new Libvirt(place);
    const daemon = libvirt.#startDaemon();
    place.onEnd(() => stopChild(daemon));
    for (let waitedMs = 0; !existsSync(join(libvirt.#folder, 'run', 'libvirt', 'libvirt-sock')); waitedMs += 50) {
      if (daemon.exitCode !== null || waitedMs > 30_000) throw new Error('libvirtd did not start');
      await sleep(50);
    }
    await libvirt.virsh(['version']);
    return libvirt;
  }

  #startDaemon(): ChildProcess {
    for (const name of ['.', 'home', 'config', 'cache', 'run', 'images']) {
      const path = this.#place.folder(join('lv', name));
      chmodSync(path, 0o700);
      this.#give(path);
    }
    const log = openSync(join(this.#place.root, 'libvirtd.log'), 'a');
    const program = commandPath('libvirtd') ?? 'libvirtd';
    return this.#place.spawn(program, [], { ...this.#as(), stdio: ['ignore', log, log] });
  }

  /** To the user that libvirt runs as. */
  #give(path: string): void {
    if (process.getuid?.() === 0) chownSync(path, NOBODY, NOBODY);
  }

  #as(): SpawnOptions {
    return { ...this.#anywhere(), ...(process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}) };
  }

  #anywhere(): SpawnOptions {
    const env = {
      PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
      LC_ALL: 'C',
      HOME: join(this.#folder, 'home'),
      XDG_CONFIG_HOME: join(this.#folder, 'config'),
      XDG_CACHE_HOME: join(this.#folder, 'cache'),
      XDG_DATA_HOME: join(this.#folder, 'home'),
      XDG_RUNTIME_DIR: join(this.#folder, 'run'),
      LIBVIRT_AUTOSTART: '0',
    };
    return { cwd: '/', env };
  }

  /** One command, as a person runs it. Resolves to what it printed. */
  virsh(args: readonly string[]): Promise<string> {
    return this.#run(['-q', '-c', 'qemu:///session', ...args], this.#as());
  }

  /** The same over SSH, with nothing of the caller's own known hosts and configuration. */
  over(sshd: Sshd, port: number, args: readonly string[]): Promise<string> {
    const options = ['StrictHostKeyChecking=no', `UserKnownHostsFile=${join(this.#place.root, 'known_hosts')}`];
    const words = ['ssh -F /dev/null', `-i ${sshd.identity}`, ...options.map((option) => `-o ${option}`)];
    const ssh = join(this.#place.root, 'ssh');
    writeFileSync(ssh, `#!/bin/sh\nexec ${words.join(' ')} -o LogLevel=ERROR "$@"\n`, { mode: 0o700 });
    const socket = join(this.#folder, 'run', 'libvirt', 'libvirt-sock');
    const uri = `qemu+ssh://${sshd.user}@127.0.0.1:${port}/session?proxy=netcat&command=${ssh}&socket=${socket}`;
    // As whoever may read the key.
    return this.#run(['-q', '-c', uri, ...args], this.#anywhere());
  }

  async #run(words: readonly string[], as: SpawnOptions): Promise<string> {
    const child = this.#place.spawn('virsh', words, { ...as, stdio: ['ignore', 'pipe', 'pipe'] });
    let [said, complained] = ['', ''];
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      complained += chunk.toString();
    });
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`virsh ${words.join(' ')}: ${complained}`);
    return said;
  }

  /** The same machine that the operator starts: vCPU, memory, disk, serial port, balloon, random numbers. */
  async define(name: string): Promise<void> {
    const disk = writeSparseTiny(join(this.#folder, 'images', `${name}.raw`));
    this.#give(disk);
    const file = join(this.#folder, 'images', `${name}.xml`);
    writeFileSync(
      file,
      `<domain type='qemu'><name>${name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices><controller type='usb' model='none'/><serial type='pty'/><memballoon model='virtio'/>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><panic model='isa'/>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${disk}'/><target dev='vda' bus='virtio'/>
</disk></devices></domain>`,
    );
    this.#give(file);
    await this.virsh(['define', file]);
  }

  version(): string {
    return libvirtVersion();
  }
}

export function libvirtVersion(): string {
  if (commandPath('virsh') === undefined) return 'not installed';
  return execFileSync('virsh', ['--version'], { encoding: 'utf8' }).trim();
}
