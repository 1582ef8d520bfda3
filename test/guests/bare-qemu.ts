/** A QEMU process started by a test itself, with the ids and sockets that the product gives its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FOLDER_FILES, type LaunchSpec } from '../../src/api/effective-spec.ts';

export interface BareQemu {
  readonly folder: string;
  readonly pid: number;
  readonly spec: LaunchSpec;
  /** The file of a second monitor, for the test alone. */
  readonly oracle: string;
  readonly child: ChildProcess;
  /** Ends it and waits for its end. */
  kill(): Promise<void>;
}

export interface BareOptions {
  readonly folder: string;
  readonly disks?: readonly { readonly name: string; readonly path: string; readonly format: 'raw' | 'qcow2' }[];
  readonly networks?: readonly string[];
  readonly vcpus?: number;
  readonly memoryMiB?: number;
  readonly more?: readonly string[];
}

const DEADLINE_MS = 20_000;

function devices({ disks = [], networks = [] }: BareOptions): string[] {
  const blocks = disks.flatMap(({ name, path, format }) => [
    '-blockdev',
    `driver=${format},node-name=disk-${name},file.driver=file,file.filename=${path}`,
    '-device',
    `virtio-blk-pci,drive=disk-${name},id=dev-disk-${name}`,
  ]);
  const nics = networks.flatMap((name) => [
    '-netdev',
    `user,id=net-${name}`,
    '-device',
    `virtio-net-pci,netdev=net-${name},id=nic-${name}`,
  ]);
  return [...blocks, ...nics, '-device', 'virtio-balloon-pci,id=balloon0'];
}

function specOf({ disks = [], networks = [], vcpus = 1, memoryMiB = 128 }: BareOptions): LaunchSpec {
  return {
    uuid: '6d3a1f0e-0000-4000-8000-000000000001',
    architecture: 'x86_64',
    vcpus,
    memoryMiB,
    firmware: 'BIOS',
    accelerator: 'TCG',
    disks,
    cdroms: [],
    networks: networks.map((name) => ({ name, mac: '52:54:00:12:34:56' })),
    vnc: false,
  } as LaunchSpec;
}

/** Starts it and waits until it serves all its sockets. */
export async function startBareQemu(options: BareOptions): Promise<BareQemu> {
  const { folder, vcpus = 1, memoryMiB = 128, more = [] } = options;
  const path = (name: string) => join(folder, name);
  const machine = ['-machine', 'q35,accel=tcg', '-smp', String(vcpus), '-m', String(memoryMiB)];
  const plain = ['-nodefaults', '-no-user-config', '-display', 'none', '-name', 'guest=bare,debug-threads=on'];
  const sockets = [
    ...['-qmp', `unix:${path(FOLDER_FILES.monitor)},server=on,wait=off`],
    ...['-qmp', `unix:${path(FOLDER_FILES.userMonitor)},server=on,wait=off`],
    ...['-qmp', `unix:${path('oracle.sock')},server=on,wait=off`],
    ...[
      '-chardev',
      `socket,id=con0,path=${path(FOLDER_FILES.console)},server=on,wait=off,logfile=${path('console.log')}`,
    ],
    ...['-serial', 'chardev:con0'],
  ];
  const child = spawn('qemu-system-x86_64', [...plain, ...machine, ...devices(options), ...sockets, ...more], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(child, 'exit');
  for (let waitedMs = 0; !(await answers(path('oracle.sock'))); waitedMs += 20) {
    if (child.exitCode !== null || waitedMs > DEADLINE_MS) throw new Error('QEMU did not start');
    await sleep(20);
  }
  return {
    folder,
    pid: child.pid ?? 0,
    spec: specOf(options),
    oracle: path('oracle.sock'),
    child,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** QEMU executes a command only once all its sockets listen, also those after this monitor's. */
async function answers(monitor: string): Promise<boolean> {
  if (!existsSync(monitor)) return false;
  const socket = connect(monitor);
  try {
    await once(socket, 'connect');
    socket.write('{"execute":"qmp_capabilities"}');
    let said = '';
    for await (const bytes of socket) {
      said += String(bytes);
      if (said.includes('"return"')) return true;
    }
    return false;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
