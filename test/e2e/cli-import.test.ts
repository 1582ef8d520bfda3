/** import: a QEMU that somebody started by hand becomes a VM at its next start, on the same disks. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { findCondition } from '../../src/api/conditions.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { byHand } from './support/by-hand.ts';
import { CliRig } from './support/cli-rig.ts';
import { imageInfo, writeSparseTiny } from './support/images.ts';
import { qmp } from './support/oracle.ts';
import { argvOf, isAlive, qemusBelow, startTicksOf } from './support/process.ts';
import { until } from './support/wait.ts';

const UUID = '6d3a1f0e-0000-4000-8000-00000000abcd';
const MAC = '52:54:00:0b:0c:0d';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

async function vmOf(rig: CliRig, name: string): Promise<VirtualMachine> {
  return JSON.parse((await rig.ok(['get', 'qvm', name, '-o', 'json'])).stdout) as VirtualMachine;
}

const readyOf = (vm: VirtualMachine) => findCondition(vm.status?.conditions, 'Ready');

/** Two disks, one named from its folder, and a CD-ROM. */
function media(rig: CliRig) {
  mkdirSync(rig.path('hand'));
  const root = writeSparseTiny(rig.path('hand', 'root.img'));
  const data = rig.path('hand', 'data,1.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', data, '4M']);
  const iso = rig.path('hand', 'tools.iso');
  writeFileSync(iso, Buffer.alloc(64 * 2048));
  const words = [
    ...['-drive', `file=${data.replaceAll(',', ',,')},if=none,id=d1`, '-device', 'virtio-blk-pci,drive=d1,bootindex=2'],
    ...['-drive', 'file=hand/root.img,format=raw,if=none,id=d0', '-device', 'virtio-blk-pci,drive=d0,bootindex=1'],
    ...['-cdrom', iso],
  ];
  return { root, data, iso, words };
}

describe.concurrent('import', () => {
  test('a QEMU that was started by hand goes on untouched, and its next start is ours: same uuid, mac, disks', async ({
    onTestFinished,
  }) => {
    const rig = new CliRig(onTestFinished);
    const { root, data, iso, words } = media(rig);
    const port = await freePort();
    const stranger = await byHand(onTestFinished, rig, [
      ...['-name', 'guest=By Hand,debug-threads=on', '-uuid', UUID, '-smp', '2'],
      ...words,
      ...['-nic', `user,model=virtio-net-pci,mac=${MAC},hostfwd=tcp:127.0.0.1:${port}-:22`],
      ...['-object', 'secret,id=s0,data=hunter2', '-fw_cfg', 'name=opt/a,string=hunter2'],
    ]);
    const ticks = startTicksOf(stranger.pid);
    const files = () => [sha256(root), sha256(data), sha256(iso)];
    const before = files();
    await rig.controller(onTestFinished);
    await until(
      'it is listed',
      () => rig.run(['describe', 'qhost', 'localhost']),
      ({ stdout }) => stdout.includes(`import ${stranger.pid}`),
    );

    const dry = await rig.ok(['import', 'By Hand', '--dry-run']);
    expect(dry.stderr).toContain('-object: one is not carried over');
    expect(dry.stderr).toContain('-fw_cfg is not carried over');
    expect(dry.stderr + dry.stdout).not.toContain('hunter2');
    const spec = {
      hostName: 'localhost',
      uuid: UUID,
      architecture: 'x86_64',
      powerState: 'PoweredOff',
      vcpus: 2,
      memory: '64Mi',
      accelerator: 'TCG',
      disks: [
        { name: 'disk0', path: root, format: 'raw', reclaimPolicy: 'Retain' },
        { name: 'disk1', path: data, format: 'qcow2', reclaimPolicy: 'Retain' },
      ],
      cdroms: [{ name: 'cdrom0', path: iso }],
      networks: [
        {
          name: 'net0',
          mac: MAC,
          user: { hostForwards: [{ protocol: 'TCP', hostAddress: '127.0.0.1', hostPort: port, guestPort: 22 }] },
        },
      ],
      graphics: {},
    };
    expect((parse(dry.stdout) as { spec: unknown }).spec).toEqual(spec);
    expect((await rig.ok(['get', 'qvm'])).stdout).not.toContain('by-hand');

    const { stdout, stderr } = await rig.ok(['import', String(stranger.pid), '--wait']);
    expect(stdout).toBe('virtualmachine.qemu-operator.dev/by-hand created\n');
    expect(stderr).toMatch(/shut its guest down, then .*start by-hand/);
    expect((await vmOf(rig, 'by-hand')).status?.phase).toBe('Stopped');
    expect([isAlive(stranger.pid), startTicksOf(stranger.pid), qemusBelow(rig.vmDir), files()]).toEqual([
      true,
      ticks,
      [],
      before,
    ]);
    expect(readFileSync(join(rig.store, 'default', 'by-hand.yaml'), 'utf8')).not.toContain('powerState');

    const early = await rig.run(['start', 'by-hand', '--timeout=30s']);
    expect([early.code, early.stderr]).toEqual([1, expect.stringMatching(/PortInUse: .*qemu-system-x86/)]);
    expect([isAlive(stranger.pid), qemusBelow(rig.vmDir), files()]).toEqual([true, [], before]);

    await stranger.end();
    await rig.ok(['start', 'by-hand', '--timeout=120s']);
    const vm = await vmOf(rig, 'by-hand');
    const argv = argvOf(Number(vm.status?.pid)).join(' ');
    for (const word of [UUID, MAC, root, data, iso, `127.0.0.1:${port}-:22`]) expect(argv).toContain(word);
    expect(await qmp(rig.folder('by-hand'), 'query-uuid')).toEqual({ UUID });
    const blocks = await qmp<{ inserted?: { image: { filename: string } } }[]>(rig.folder('by-hand'), 'query-block');
    expect(blocks.flatMap(({ inserted }) => inserted?.image.filename ?? []).sort()).toEqual([data, iso, root].sort());
    await until(
      'its guest boots from the same disk',
      () => readFileSync(join(rig.folder('by-hand'), 'console.log'), 'utf8'),
      (text) => text.includes('TINY-IO'),
    );
    await rig.ok(['delete', 'qvm', 'by-hand']);
    expect([root, data, iso].every((path) => existsSync(path))).toBe(true);
    expect(imageInfo(data)).toMatchObject({ format: 'qcow2' });
  });

  test('while the stranger runs its disks are its own: DiskInUse, and it starts by itself when they are free', async ({
    onTestFinished,
  }) => {
    const rig = new CliRig(onTestFinished);
    const { words } = media(rig);
    const stranger = await byHand(onTestFinished, rig, [...words, '-nic', 'none']);
    const nameless = await rig.run(['import', String(stranger.pid)]);
    expect([nameless.code, nameless.stderr]).toEqual([2, expect.stringContaining('give one with --as')]);
    await rig.controller(onTestFinished);
    await rig.ok(['import', String(stranger.pid), '--as', 'db-1', '--wait']);
    await rig.ok(['start', 'db-1', '--no-wait']);
    await until(
      'DiskInUse',
      () => vmOf(rig, 'db-1'),
      (vm) => readyOf(vm)?.reason === 'DiskInUse',
    );
    expect([isAlive(stranger.pid), qemusBelow(rig.vmDir)]).toEqual([true, []]);
    await stranger.end();
    const running = await until(
      'it starts by itself',
      () => vmOf(rig, 'db-1'),
      ({ status }) => status?.phase === 'Running',
    );
    expect(running.spec.networks).toEqual([]);
  });

  test('what cannot be taken over is refused with its reason, and nothing is written', async ({ onTestFinished }) => {
    const rig = new CliRig(onTestFinished);
    await rig.ok(['apply', '-f', rig.manifest('ours')]);
    const pid = (await vmOf(rig, 'ours')).status?.pid;
    const boot = (name: string) => writeSparseTiny(rig.path(`${name}.img`));
    const tiny = (name: string) => ['-name', name, '-drive', `file=${boot(name)},format=raw,if=virtio`];
    const nothing = [
      '-blockdev',
      'driver=null-co,node-name=n',
      '-device',
      'usb-ehci',
      '-device',
      'usb-storage,drive=n',
    ];
    const null_ = await byHand(onTestFinished, rig, [...tiny('null'), ...nothing]);
    await byHand(onTestFinished, rig, tiny('twin'));
    await byHand(onTestFinished, rig, ['-name', 'twin', '-drive', `file=${boot('other')},format=raw,if=virtio`]);
    const refusals: [string[], number, RegExp][] = [
      [['import', 'null'], 1, /cannot be taken over: -blockdev: a disk that is no qcow2 or raw file/],
      [['import', 'twin'], 4, /several processes are called twin/],
      [['import', 'twim'], 3, /did you mean twin/],
      [['import', 'ours'], 4, /a VM folder of qemu-operator/],
      [['import', String(pid)], 4, /a VM folder of qemu-operator/],
      [['import', '1'], 3, /no QEMU process "1"/],
      [['import', 'null', '--host', 'nowhere'], 3, /"nowhere" not found/],
    ];
    for (const [words, code, message] of refusals) {
      const ended = await rig.run(words);
      expect([words, ended.code, ended.stderr]).toEqual([words, code, expect.stringMatching(message)]);
    }
    expect(isAlive(null_.pid)).toBe(true);
    expect((await rig.ok(['get', 'qvm'])).stdout.match(/null|twin/)).toBeNull();
  });
});
