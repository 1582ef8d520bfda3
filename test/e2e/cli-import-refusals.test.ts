/** import takes nothing that is somebody's already, on whichever Host of the machine, and finds files by what QEMU has open. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { byHand } from './support/by-hand.ts';
import { CliRig } from './support/cli-rig.ts';
import { writeSparseTiny } from './support/images.ts';
import { isAlive, kill } from './support/process.ts';
import { until } from './support/wait.ts';

/** A further Host of the same machine. */
async function addSecond(rig: CliRig): Promise<void> {
  const { spec: first } = JSON.parse((await rig.ok(['get', 'qhost', 'localhost', '-o', 'json'])).stdout) as Host;
  const spec = { ...first, vmDir: rig.path('vms2') };
  const document = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'Host', metadata: { name: 'second' }, spec };
  writeFileSync(rig.path('second.yaml'), JSON.stringify(document));
  await rig.ok(['apply', '-f', rig.path('second.yaml')]);
}

async function pidOf(rig: CliRig, name: string): Promise<number> {
  const vm = JSON.parse((await rig.ok(['get', 'qvm', name, '-o', 'json'])).stdout) as VirtualMachine;
  return Number(vm.status?.pid);
}

async function refused(rig: CliRig, words: readonly string[], code: number, message: RegExp): Promise<void> {
  const ended = await rig.run(['import', ...words]);
  expect([words, ended.code, ended.stderr]).toEqual([words, code, expect.stringMatching(message)]);
}

const drive = (path: string) => ['-drive', `file=${path},format=raw,if=virtio`];

describe.concurrent('import refuses', () => {
  test('a VM of another Host of the machine, and of another store', async ({ onTestFinished }) => {
    const [rig, stranger] = [new CliRig(onTestFinished), new CliRig(onTestFinished)];
    await rig.controller(onTestFinished);
    await addSecond(rig);
    await rig.ok(['apply', '-f', rig.manifest('vq'), '--wait', '--timeout=120s']);
    const pid = await pidOf(rig, 'vq');
    const second = await until(
      'the other Host is seen',
      async () => JSON.parse((await rig.ok(['get', 'qhost', 'second', '-o', 'json'])).stdout) as Host,
      ({ status }) => status?.info?.machineID !== undefined,
    );
    expect(second.status?.strangers?.map((one) => one.pid) ?? []).not.toContain(pid);
    for (const word of ['vq', String(pid)])
      await refused(
        rig,
        [word, '--host', 'second', '--as', 'vq-2'],
        4,
        /it is VM default\/vq on Host localhost already/,
      );
    await refused(stranger, [String(pid), '--as', 'mine'], 4, /it is VM default\/vq in .*, of another store/);
    expect([isAlive(pid), await pidOf(rig, 'vq')]).toEqual([true, pid]);
    expect((await rig.ok(['get', 'qvm'])).stdout).not.toContain('vq-2');
  });

  test('a process whose disk a VM of the machine has, or wants', async ({ onTestFinished }) => {
    const rig = new CliRig(onTestFinished);
    const disk = writeSparseTiny(rig.path('hand.img'));
    const { pid } = await byHand(onTestFinished, rig, ['-name', 'hand', ...drive(disk)]);
    await addSecond(rig);
    await rig.ok(['import', 'hand', '--as', 'one', '--no-wait']);
    for (const host of ['second', 'localhost'])
      await refused(
        rig,
        ['hand', '--host', host, '--as', 'two'],
        1,
        /hand\.img is a disk of VM default\/one on Host localhost/,
      );
    await rig.controller(onTestFinished);
    await until(
      'its disk is noted',
      () => rig.ok(['get', 'qvm', 'one', '-o', 'json']),
      ({ stdout }) => (JSON.parse(stdout) as VirtualMachine).status?.disks?.[0]?.state === 'Attached',
    );
    await refused(rig, [String(pid), '--host', 'second', '--as', 'two'], 1, /is a disk of VM default\/one/);
    expect((await rig.ok(['get', 'qvm'])).stdout).not.toContain('two');
    expect(isAlive(pid)).toBe(true);
  });
});

test('a QEMU in the background is taken with the files that it has open, where their names tell which', async ({
  onTestFinished,
}) => {
  const rig = new CliRig(onTestFinished);
  for (const name of ['a', 'b']) mkdirSync(rig.path(name));
  const [one] = ['a/one.img', 'a/twin.img', 'b/twin.img'].map((path) => writeSparseTiny(rig.path(path)));
  const background = (name: string, ...paths: string[]) => {
    const pidfile = rig.path(`${name}.pid`);
    const plain = ['-accel', 'tcg', '-m', '64', '-display', 'none', '-nic', 'none', '-daemonize', '-pidfile', pidfile];
    execFileSync('qemu-system-x86_64', [...plain, '-name', name, ...paths.flatMap(drive)], { cwd: rig.root });
    const pid = Number(readFileSync(pidfile, 'utf8'));
    onTestFinished(() => kill(pid, 'SIGKILL'));
  };
  background('known', 'a/one.img');
  const { stdout, stderr } = await rig.ok(['import', 'known', '--dry-run']);
  expect((parse(stdout) as { spec: VirtualMachine['spec'] }).spec.disks).toEqual([
    { name: 'disk0', path: one, format: 'raw', reclaimPolicy: 'Retain' },
  ]);
  expect(stderr).not.toContain('not the file that the process has open');
  background('unknown', 'a/twin.img', 'b/twin.img');
  await refused(
    rig,
    ['unknown', '--dry-run'],
    1,
    /twin\.img is not there: it was named from a folder that QEMU has left/,
  );
});
